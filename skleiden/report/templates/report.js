// Every text gets into the page as a text node, never as HTML.

const SNIPPET = 300; // characters of a prompt where one line is shown
const NEAR = 14; // pixels around a point in which it is hit
const MARGIN = 16; // pixels around the map
const SOME = 50; // points by which the middle of a community is told
const FEW = 8; // points that a number upon them would hide
const SHOWN = 5; // links in a row of a list
const LARGEST = 3; // layers that are named where others are
const BORDER = 2 / 3; // share of links inside below which a row is at a border
const LOOSE = 0.5; // share of links inside below which a community is a loose one
const LONG = 25; // letters without a place to break a line
const SHORT = 18; // letters of a name on the map
const NO_WORDS = "no words in common";

// --- Sides ---------------------------------------------------------------------------

// A side of the page shows prompts in communities, or neurons in groups: here, rows in
// clusters, which features set apart. Its data are what skleiden.io.save_communities
// saves, with ids as text, colours, and the words that are shown.
const KINDS = {
  prompts: {
    told: ({ layer, neuron }) => [`${layer}:${neuron}`], // of a feature
    lead: (one) => leadRow(one),
    inLine: 3, // features
    features: neuronTable,
    rowsFirst: true, // in details: prompts speak for themselves
    linksInList: false,
  },
  neurons: {
    told: ({ neuron, text, name }) => {
      const known = [text, name].filter((value) => typeof value === "string");
      return known.length ? known : [`prompt ${neuron}`];
    },
    lead: (one) => one.features[0]?.told[0] ?? leadRow(one),
    inLine: 0,
    features: promptList,
    rowsFirst: false,
    linksInList: true,
  },
};

function makeSide(data, prefix) {
  const side = {
    ...data.rows, // ids, labels, confidence, attached
    words: data.words,
    kind: KINDS[data.words.kind],
    colors: data.colors,
    map: data.map,
    texts: data.noise_texts ? new Array(data.rows.labels.length) : null,
    part: (name) => byId(prefix + name),
    pattern: null, // what is searched for
    found: new Uint8Array(data.rows.labels.length), // rows that match it
    activity: new Map( // of neurons that are listed
      (data.neurons ?? []).map((one) => [`${one.layer}:${one.neuron}`, one]),
    ),
    other: null, // words of the side that is linked with this one
    redraw: () => {},
  };
  const { words, labels, texts, confidence, strength } = side;
  side.clusters = new Map(data.communities.map((one) => [one.label, one]));
  if (data.noise.length) {
    const noise = { label: -1, size: data.noise.length, texts: data.noise_texts };
    side.clusters.set(-1, noise);
  }
  side.listed = [...side.clusters.values()];
  for (const one of side.listed) {
    one.rows = [];
  }
  labels.forEach((label, row) => side.clusters.get(label).rows.push(row));
  for (const one of side.listed) {
    one.side = side;
    one.noise = one.label < 0;
    one.called = one.name ?? null;
    one.title = capital(words.cluster[0]);
    one.name = one.noise ? `In no ${words.cluster[0]}` : `${one.title} ${one.label}`;
    one.anchor = one.noise ? words.noise : words.letter + one.label;
    one.features = (one.top_features ?? []).map((feature) => ({
      ...feature,
      told: side.kind.told(feature),
    }));
    one.keywords ??= [];
    // Else it says no more than they do.
    one.hasOwnName = one.called !== null && !one.keywords.join(", ").startsWith(one.called);
    one.effect = one.features.reduce(largest, null);
    one.strength = one.noise || !strength ? null : mean(one.rows.map((row) => strength[row]));
    one.isLoose = isNumber(one.cohesion) && one.cohesion < LOOSE;
    one.links = []; // to clusters of the other side
    one.confidence =
      one.noise || !confidence ? null : mean(one.rows.map((row) => confidence[row]));
    one.agreement = Object.entries(one.layer_agreement ?? {});
    one.shares = Object.entries(one.layer_share ?? {});
    if (texts) {
      one.rows.forEach((row, i) => (texts[row] = one.texts[i]));
    }
  }
  side.proper = side.listed.filter((one) => !one.noise);
  side.largest = Math.max(...side.listed.map((one) => one.size));
  return side;
}

const largest = (most, { effect_size: effect }) =>
  isNumber(effect) && !(most >= effect && most !== null) ? effect : most;

/** What is shown of a row, and what else tells it. */
const toldOf = ({ texts, ids }, row) => (texts ? [texts[row], ids[row]] : [ids[row]]);

const leadRow = (one) =>
  toldOf(one.side, one.representatives?.central[0]?.row ?? one.rows[0])[0];

/** Let clusters of both sides know which drives which, strongest effects first. */
function linkSides(communities, groups, pairs) {
  [communities.other, groups.other] = [groups.words, communities.words];
  for (const { group, community, effect } of pairs) {
    const driving = groups.clusters.get(group);
    const driven = communities.clusters.get(community);
    if (driving && driven) {
      driving.links.push({ to: driven, effect });
      driven.links.push({ to: driving, effect });
    }
  }
}

/** Give an element the colours of a cluster, or of the noise. */
function paint(element, one) {
  const [light, dark] = one.side.colors[one.label];
  element.style.setProperty("--light", light);
  element.style.setProperty("--dark", dark);
  element.classList.add("painted");
  return element;
}

const swatchOf = (one) => paint(make("span", { class: "swatch" }), one);

// --- Search --------------------------------------------------------------------------

function find(side, query) {
  side.pattern = patternOf(query);
  const found = (told) => told.some((text) => matches(side, text));
  for (const one of side.listed) {
    one.featuresFound = one.features.filter(({ told }) => found(told));
    one.keywordsFound = one.keywords.filter((word) => found([word]));
    one.namesFound = one.hasOwnName && found([one.called]) ? [one.called] : [];
    for (const row of one.rows) {
      side.found[row] = found(toldOf(side, row));
    }
    one.found = one.rows.filter((row) => side.found[row]).length;
    const told = [one.featuresFound, one.keywordsFound, one.namesFound];
    one.isTold = told.some(({ length }) => length);
  }
}

/** How much is found in some clusters, what several have counted once. */
function foundIn({ words }, some) {
  const features = some.flatMap((one) => one.featuresFound);
  const keywords = some.flatMap((one) => one.keywordsFound);
  const counts = [
    [new Set(features.map(({ layer, neuron }) => `${layer}:${neuron}`)), words.feature],
    [new Set(keywords), ["keyword", "keywords"]],
    [new Set(some.flatMap((one) => one.namesFound)), ["name", "names"]],
  ].filter(([{ size }]) => size);
  const rows = some.reduce((sum, one) => sum + one.found, 0);
  return inWords([
    counted(rows, ...words.row),
    ...counts.map(([{ size }, names]) => counted(size, ...names)),
  ]);
}

// --- The list ------------------------------------------------------------------------

function makeItem(one) {
  const { side } = one;
  one.panel = make("div", {
    class: "panel",
    id: `${one.anchor}-panel`,
    role: "region",
    "aria-label": fullName(one),
  });
  one.panel.hidden = true;
  one.line = make("span", { class: "line" });
  one.swatch = swatchOf(one);
  one.button = make(
    "button",
    { type: "button", "aria-expanded": false, "aria-controls": one.panel.id },
    one.swatch,
    make("span", { class: "number" }, ...(one.noise ? ["–"] : numberOf(one))),
    make("bdi", { class: "lead" }, one.noise ? one.name : leadOf(one)),
    one.line,
    make(
      "span",
      { class: "size" },
      whole(one.size),
      make("span", { class: "hidden" }, ` ${nameFor(one.size, ...side.words.row)}`),
    ),
    sizeBar(one),
  );
  one.item = paint(
    make("li", { id: one.anchor }, make("h3", {}, one.button), one.panel),
    one,
  );
  if (side.kind.linksInList) {
    one.panel.before(...linksOf(one, SHOWN));
  }
  one.button.addEventListener("click", () => setOpen(one, one.panel.hidden));
}

/** The number of a cluster, with its name for those who do not see where it stands. */
const numberOf = (one) => [
  make("span", { class: "hidden" }, `${one.title} `),
  String(one.label),
];

const leadOf = (one) => (one.called ?? one.side.kind.lead(one)).slice(0, SNIPPET);

/** The number of a cluster, with what it is called. */
const fullName = (one) => [one.name, one.called].filter((told) => told !== null).join(" · ");

function sizeBar(one) {
  const bar = make("span", { class: "bar", "aria-hidden": true });
  bar.style.setProperty("--share", one.size / one.side.largest);
  return bar;
}

/** What is known of a cluster in one line; what matches, while there is a search. */
function describe(one) {
  if (one.side.pattern) {
    return [`${foundIn(one.side, [one])} found`];
  }
  const known = [];
  if (one.keywords.length && (one.called === null || one.hasOwnName)) {
    known.push(make("bdi", {}, one.keywords.join(", ")));
  }
  if (one.isLoose) {
    known.push("loosely connected");
  }
  if (isNumber(one.strength)) {
    known.push(`strength ${fixed(one.strength)}`);
  }
  if (isNumber(one.stability)) {
    known.push(`stability ${fixed(one.stability)}`);
  }
  if (isNumber(one.confidence)) {
    known.push(`confidence ${percent(one.confidence)}`);
  }
  if (one.called !== null && !one.noise) {
    known.push(make("bdi", {}, one.side.kind.lead(one).slice(0, SNIPPET)));
  }
  const some = one.features.slice(0, one.side.kind.inLine);
  return [
    ...smallBars(one.shares),
    ...known.flatMap((told, i) => (i ? [" · ", told] : [told])),
    ...some.flatMap(({ told }, i) => {
      const before = known.length || i ? "· " : ""; // goes where the line is cut off
      return [" ", make("span", { class: "piece" }, before, breakable(told[0]))];
    }),
  ];
}

function setOpen(one, open) {
  one.button.setAttribute("aria-expanded", open);
  one.panel.hidden = !open;
  one.panel.replaceChildren(...(open ? contents(one) : []));
  // The address leads back here. Another anchor than this one's stays.
  if (open || location.hash === `#${one.anchor}`) {
    const page = location.href.split("#")[0];
    history.replaceState(null, "", open ? `${page}#${one.anchor}` : page);
  }
  one.side.redraw();
}

/** Open a cluster and go there. */
function visit(one) {
  if (one.item.hidden) {
    one.side.part("query").value = "";
    refresh(one.side);
  }
  setOpen(one, true);
  one.item.scrollIntoView({ block: "start" });
  one.button.focus({ preventScroll: true });
}

function visitAddress() {
  const every = sides.flatMap(({ listed }) => listed);
  const one = every.find(({ anchor }) => location.hash === `#${anchor}`);
  if (one) {
    visit(one);
  }
}

function refresh(side) {
  find(side, side.part("query").value.trim());
  for (const one of side.listed) {
    one.item.hidden = side.pattern !== null && one.found === 0 && !one.isTold;
    one.line.replaceChildren(...describe(one));
    if (!one.panel.hidden) {
      one.panel.replaceChildren(...contents(one));
    }
  }
  side.part("status").textContent = statusOf(side);
  side.redraw();
}

function statusOf(side) {
  const shown = side.listed.filter((one) => !one.item.hidden);
  const all = counted(side.proper.length, ...side.words.cluster);
  if (!side.pattern) {
    return all;
  }
  const places = [`${whole(shown.filter((one) => !one.noise).length)} of ${all}`];
  if (shown.some((one) => one.noise)) {
    places.push("in none");
  }
  return `${foundIn(side, shown)} found in ${inWords(places)}`;
}

function sort(side) {
  const key = side.part("sort").value;
  const isReversed = side.part("reverse").getAttribute("aria-pressed") === "true";
  const direction = isReversed ? -1 : 1;
  const upwards = key === "label" ? direction : -direction;
  side.listed.sort(
    (a, b) =>
      a.noise - b.noise ||
      isNumber(b[key]) - isNumber(a[key]) || // unknown ones last, either way
      upwards * (a[key] - b[key]) ||
      a.label - b.label,
  );
  side.part("list").append(...side.listed.map((one) => one.item));
}

// --- An opened cluster ---------------------------------------------------------------

function contents(one) {
  const { side } = one;
  const { central = [], borderline = [] } = one.representatives ?? {};
  const atBorder = borderline.filter(({ share }) => share < BORDER);
  const rows = [
    ...excerpts(side, "Most central", central),
    ...excerpts(
      side,
      "Borderline",
      atBorder,
      `At least a third of the weight of their links leads outside.`,
    ),
  ];
  const others = [];
  if (one.features.length) {
    others.push(side.kind.features(one));
  }
  if (one.agreement.length) {
    const hint =
      `How many of a ${side.words.row[0]}’s nearest neighbours, by one layer alone, are in ` +
      `the ${side.words.cluster[0]} too: 1 if all are, 0 if no more than by chance.`;
    others.push(layerTable("Agreement of layers", one.agreement, fixed, hint));
  }
  if (one.shares.length) {
    const hint = `How its ${side.words.row[1]} are spread over the layers.`;
    others.push(layerTable("Shares of layers", one.shares, percent, hint));
  }
  const pair = side.kind.rowsFirst ? [...rows, ...others] : [...others, ...rows];
  const known = [...keywordsOf(one), ...figuresOf(one), ...linksOf(one)];
  if (pair.length) {
    known.push(make("div", { class: "pair" }, ...pair));
  }
  const members = memberList(one);
  // What was searched for comes first.
  return side.pattern && one.found ? [...members, ...known] : [...known, ...members];
}

function keywordsOf(one) {
  const words = one.keywords.flatMap((word, i) => [
    i ? ", " : "",
    make("bdi", {}, ...marked(one.side, word)),
  ]);
  return words.length ? [make("p", {}, term("Keywords"), ...words)] : [];
}

/** The numbers of a cluster, with what they mean. */
function figuresOf(one) {
  const { row, cluster } = one.side.words;
  const known = [
    [
      "Strength",
      fixed(one.strength),
      isNumber(one.strength),
      `how strongly its ${row[1]} are tied to it, on average, from 0 to 1`,
    ],
    [
      "Links inside",
      percent(one.cohesion),
      isNumber(one.cohesion),
      one.isLoose
        ? "loosely connected: most of the weight of its links leads outside"
        : `share of the weight of its links that stays in the ${cluster[0]}`,
    ],
    [
      "Stability",
      fixed(one.stability),
      isNumber(one.stability),
      "how well other runs find it again, from 0 to 1",
    ],
    [
      "Confidence",
      percent(one.confidence),
      isNumber(one.confidence),
      `how often runs with other seeds group its ${row[1]} in the same way`,
    ],
  ].filter(([, , isKnown]) => isKnown);
  const lines = known.map(([name, shown, , meaning]) =>
    make("p", {}, term(name), shown, " ", hintOf(meaning, "span")),
  );
  return lines.length ? [make("div", { class: "told" }, ...lines)] : [];
}

const hintOf = (text, tag = "p") => make(tag, { class: "hint" }, text);

const term = (...told) => make("span", { class: "term" }, ...told, " ");

/** A word that those who hear the page hear with each of the links after it. */
const unspoken = (word) => make("span", { "aria-hidden": true }, word);

/** Links to the clusters of the other side that drive this one, or that it drives. */
function linksOf(one, most = Infinity) {
  const { words, other } = one.side;
  if (one.noise || !other) {
    return [];
  }
  const line = (...told) => [make("p", { class: "links" }, ...told)];
  if (!one.links.length) {
    return line(term(`${words.relates} no ${other.cluster[0]}`));
  }
  const links = one.links.slice(0, most).flatMap(({ to, effect }, i) => [
    i ? ", " : "",
    linkTo(to),
    i ? ` (${fixed(effect, 1)})` : ` (effect ${fixed(effect, 1)})`,
  ]);
  const left = one.links.length - most;
  return line(
    term(`${words.relates} `, unspoken(nameFor(one.links.length, ...other.cluster))),
    ...links,
    left > 0 ? ` and ${whole(left)} more` : "",
  );
}

function linkTo(one) {
  const link = make("a", { href: `#${one.anchor}` }, swatchOf(one), ...numberOf(one));
  link.addEventListener("click", () => {
    // Else the address changes, which opens it, and the way back is kept.
    if (location.hash === `#${one.anchor}`) {
      visit(one);
    }
  });
  return link;
}

const rowEntry = (side, row, notes) =>
  entry(side, toldOf(side, row), notes, side.found[row] === 1);

function entryList(heading, items, hint) {
  const list = make("ul", { class: "rows" }, ...items);
  return make("div", {}, make("h4", {}, heading), ...(hint ? [hintOf(hint)] : []), list);
}

function excerpts(side, heading, rows, hint) {
  const items = rows.map(({ row, share }) =>
    rowEntry(side, row, [`${percent(share)} of links inside`, ...secondOf(side, row)]),
  );
  return items.length ? [entryList(heading, items, hint)] : [];
}

/** The other cluster of a row that lies between two. */
function secondOf({ second, clusters }, row) {
  const other = clusters.get(second?.[row] ?? -1);
  return !other || other.noise ? [] : [["also near ", linkTo(other)]];
}

function promptList(one) {
  const { side } = one;
  const items = one.features.map((feature) => {
    const notes = [
      `effect ${fixed(feature.effect_size, 1)}`,
      `${percent(feature.share)} of its neurons fire, ` +
        `${percent(feature.baseline_share)} of others`,
    ];
    if (feature.fires === false) {
      notes.push("less inhibited");
    }
    return entry(side, feature.told, notes, one.featuresFound.includes(feature));
  });
  const hint =
    `Effect: how far the mean of its ${side.words.row[1]} lies above that of others, in ` +
    `standard deviations.`;
  return entryList(side.words.features, items, hint);
}

/** A name that breaks where its parts end; parts that are too long, anywhere. */
function breakable(name, parts = [name]) {
  const broken = parts.flatMap((part) =>
    typeof part === "string"
      ? part.split(/(?<=[._/\\-])/).flatMap((piece, i) => (i ? [make("wbr"), piece] : [piece]))
      : [part],
  );
  const isLong = name.split(/[._/\\\s-]/).some(({ length }) => length > LONG);
  return make("bdi", isLong ? {} : { class: "name" }, ...broken);
}

function neuronTable(one) {
  const { side } = one;
  const headings = ["Neuron", "Effect", "Fires inside", "Fires outside", "Mean in / out"];
  const rows = one.features.flatMap((feature) => neuronRows(one, feature));
  const table = make(
    "table",
    { class: "figures neurons" },
    make("caption", {}, side.words.features),
    make(
      "thead",
      {},
      make("tr", {}, ...headings.map((name) => make("th", { scope: "col" }, name))),
    ),
    make("tbody", {}, ...rows),
  );
  const hint =
    `Effect: how far the mean inside lies above the mean outside, in standard ` +
    `deviations. A neuron fires where its activation is above zero; in layers with ` +
    `both signs, where it is more than one standard deviation above the neuron’s mean.`;
  return make("div", { class: "of-neurons" }, table, hintOf(hint));
}

/** The row of a neuron and, if more is known of it, one below to open. */
function neuronRows(one, feature) {
  const { side } = one;
  const name = breakable(feature.told[0], marked(side, feature.told[0]));
  const heading = make("th", { scope: "row" }, name);
  const row = make(
    "tr",
    {},
    heading,
    make("td", {}, fixed(feature.effect_size, 1)),
    cell(feature.share, percent(feature.share)),
    cell(feature.baseline_share, percent(feature.baseline_share)),
    make("td", {}, `${fixed(feature.mean, 2)} / ${fixed(feature.baseline_mean, 2)}`),
  );
  row.classList.toggle("found", one.featuresFound.includes(feature));
  // Files of older versions do not tell.
  heading.append(feature.fires === false ? " (less inhibited)" : "");
  const activity = side.activity.get(feature.told[0]);
  if (!activity) {
    return [row];
  }
  const below = make("tr", { class: "below" });
  below.hidden = true;
  const button = make("button", { type: "button", "aria-expanded": false }, name);
  heading.prepend(button);
  button.addEventListener("click", () => {
    below.hidden = !below.hidden;
    button.setAttribute("aria-expanded", !below.hidden);
    const shown = below.hidden ? [] : [make("td", { colspan: 5 }, activityOf(side, activity))];
    below.replaceChildren(...shown);
  });
  return [row, below];
}

/** What a neuron fires on: its strongest rows, and communities. */
function activityOf(side, { mean, share, strongest, communities }) {
  const { clusters, labels, words } = side;
  const items = strongest.map(([row, activation]) => {
    const one = clusters.get(labels[row]);
    const place = one.noise ? one.name : ["in ", linkTo(one)];
    return rowEntry(side, row, [`activation ${fixed(activation)}`, place]);
  });
  const listed = communities.map(([label, ...figures]) => {
    const one = clusters.get(label);
    return activityRow([linkTo(one), " ", make("bdi", {}, one.called ?? "")], figures);
  });
  const all = activityRow([`all ${words.row[1]}`], [mean, share]);
  const headings = [capital(words.cluster[0]), "Mean", "Fires in"];
  const table = make(
    "table",
    { class: "figures" },
    make("caption", {}, `Most active ${words.cluster[1]}`),
    make(
      "thead",
      {},
      make("tr", {}, ...headings.map((name) => make("th", { scope: "col" }, name))),
    ),
    make("tbody", {}, ...listed, all),
  );
  const rows = items.length
    ? [entryList(`Strongest ${words.row[1]}`, items)]
    : [make("p", {}, `It fires in no ${words.row[0]}.`)];
  return make("div", { class: "pair" }, ...rows, table);
}

const activityRow = (name, [mean, share]) =>
  make(
    "tr",
    {},
    make("th", { scope: "row" }, ...name),
    make("td", {}, fixed(mean)),
    cell(share, percent(share)),
  );

function layerTable(caption, values, shown, hint) {
  const rows = values.map(([name, value]) =>
    make(
      "tr",
      {},
      make("th", { scope: "row" }, breakable(name)),
      cell(value, shown(value)),
    ),
  );
  const table = make(
    "table",
    { class: "figures of-layers" },
    make("caption", {}, caption),
    make("tbody", {}, ...rows),
  );
  return make("div", {}, table, hintOf(hint));
}

/** All members, those that match a search first, so many at a time. */
function memberList(one) {
  const { side } = one;
  const rows = side.pattern
    ? [...one.rows].sort((a, b) => side.found[b] - side.found[a] || a - b)
    : one.rows;
  const list = make("ol", { class: `rows members${side.texts ? "" : " short"}` });
  const button = fillBySteps(list, rows, (row) =>
    rowEntry(side, row, notesOf(side, row)),
  );
  const all = one.size === 1 ? "The" : `All ${whole(one.size)}`;
  const heading = `${all} ${nameFor(one.size, ...side.words.row)}`;
  return [make("h4", {}, heading), list, button];
}

function notesOf(side, row) {
  const { confidence, strength, labels, attached, words } = side;
  const notes = [];
  if (strength && labels[row] >= 0) {
    notes.push(`strength ${fixed(strength[row])}`);
  }
  if (confidence && labels[row] >= 0) {
    notes.push(`confidence ${percent(confidence[row])}`);
  }
  if (attached?.[row]) {
    notes.push(`from a small ${words.cluster[0]}`);
  }
  notes.push(...secondOf(side, row));
  return notes;
}

// --- Overview ------------------------------------------------------------------------

/** Bars in per cent of the drawing, which may then have any width. */
function drawBars(bars, attributes) {
  const chart = draw("svg", { role: "img", ...attributes });
  const step = 100 / bars.length;
  const filled = bars.length > 80 ? 1 : 0.8; // no gaps between bars of a few pixels
  bars.forEach(({ share, told }, i) => {
    const height = 100 * Math.min(Math.max(share, 0), 1);
    const place = { x: `${i * step}%`, width: `${filled * step}%` };
    chart.append(
      draw(
        "rect",
        { ...place, y: `${100 - height}%`, height: `${height}%` },
        draw("title", {}, told),
      ),
    );
  });
  return chart;
}

function barChart(figure, title, range, bars, spoken = range) {
  const chart = drawBars(bars, { "aria-label": `${title}: ${spoken}` });
  const caption = [title, range].map((text) => make("span", {}, breakable(text)));
  figure.append(make("figcaption", {}, ...caption), chart);
  return [...chart.children];
}

/** Shares of layers as bars that fit into a line, the largest at full height. */
function smallBars(shares) {
  const known = shares.filter(([, share]) => isNumber(share));
  if (!known.length) {
    return [];
  }
  const largest = [...known].sort(([, a], [, b]) => b - a);
  const tell = ([name, share]) => `${name} ${percent(share)}`;
  const bars = known.map((one) => ({ share: one[1] / largest[0][1], told: tell(one) }));
  const spoken = `layers: ${largest.slice(0, LARGEST).map(tell).join(", ")}`;
  return [drawBars(bars, { class: "layers", "aria-label": spoken })];
}

function showSizes(side) {
  const { words } = side;
  const ordered = [...side.proper].sort((a, b) => b.size - a.size || a.label - b.label);
  const largest = counted(ordered[0].size, ...words.row);
  const rects = barChart(
    side.part("sizes"),
    `Sizes of ${counted(ordered.length, ...words.cluster)}`,
    `largest ${largest}, smallest ${whole(ordered.at(-1).size)}`,
    ordered.map((one) => ({
      share: one.size / ordered[0].size,
      told: `${fullName(one)}: ${counted(one.size, ...words.row)}`,
    })),
  );
  ordered.forEach((one, i) => {
    paint(rects[i], one).addEventListener("click", () => visit(one));
  });
}

function showLayers(side) {
  const { proper } = side;
  const layers = proper[0].agreement.map(([name], i) => {
    const value = mean(proper.map((one) => one.agreement[i][1]));
    return { name, share: value, told: `${name}: ${fixed(value)}` };
  });
  const known = layers.filter(({ share }) => isNumber(share));
  known.sort((a, b) => b.share - a.share);
  const figure = side.part("layers");
  const rects = barChart(
    figure,
    "Mean agreement of layers, from 0 to 1",
    known.length ? `best ${known[0].told}` : "unknown",
    layers,
    layers.map(({ told }) => told).join(", "),
  );
  rects.forEach((rect) => rect.classList.add("grey"));
  const ends = layers.length > 1 ? [layers[0], layers.at(-1)] : layers;
  figure.append(
    make("div", { class: "ends" }, ...ends.map(({ name }) => breakable(name))),
  );
}

// --- Tree ----------------------------------------------------------------------------

/** Communities within communities, as a list whose items open. */
function showTree(side, { nodes, node_of_row: nodeOfRow }) {
  const rowsOf = nodes.map(() => []);
  nodeOfRow.forEach((node, row) => {
    for (let at = node; at >= 0; at = nodes[at].parent ?? -1) {
      rowsOf[at].push(row);
    }
  });
  const { cluster, row } = side.words;
  const hint =
    nodes.length > 1
      ? `All ${row[1]} are divided anew by their links, independently of the ` +
        `${cluster[1]} above, and each part is divided again as long as random halves of ` +
        `its links find the same parts. Replicability is 1 if both halves find the same ` +
        `parts, 0 if they agree only by chance.`
      : `These ${row[1]} are not divided: random halves of their links do not find the ` +
        `same parts.`;
  const root = treeNode(side, nodes, rowsOf, 0);
  root.querySelector("details").open = true;
  byId("tree").append(hintOf(hint), make("ul", { class: "tree" }, root));
}

function treeNode(side, nodes, rowsOf, number) {
  const { keywords, children, replicability } = nodes[number];
  const rows = rowsOf[number];
  const known = [counted(rows.length, ...side.words.row)];
  if (children.length) {
    known.push(`${whole(children.length)} parts`);
  }
  if (isNumber(replicability)) {
    known.push(`replicability ${fixed(replicability)}`);
  }
  const isWordless = !nodes.some((node) => node.keywords.length); // no texts
  const words = keywords.join(", ") || (isWordless ? `Part ${number}` : NO_WORDS);
  const title = make("bdi", { class: "lead" }, number ? words : "All");
  const summary = make(
    "summary",
    {},
    title,
    " ",
    make("span", { class: "line" }, known.join(" · ")),
  );
  const details = make("details", {}, summary);
  details.addEventListener("toggle", () => {
    const shown = children.length
      ? make("ul", {}, ...children.map((child) => treeNode(side, nodes, rowsOf, child)))
      : make("div", { class: "leaf" }, ...memberList({ side, rows, size: rows.length }));
    const inside = number ? [placesOf(side, rows), shown] : [shown];
    details.replaceChildren(summary, ...(details.open ? inside : []));
  });
  return make("li", {}, details);
}

/** The clusters of the list in which rows are, the largest shares first. */
function placesOf({ clusters, labels, words }, rows) {
  const counts = new Map();
  for (const row of rows) {
    counts.set(labels[row], (counts.get(labels[row]) ?? 0) + 1);
  }
  const places = [...counts].sort(([a, n], [b, m]) => m - n || a - b);
  const links = places.slice(0, SHOWN).flatMap(([label, count], i) => {
    const one = clusters.get(label);
    return [i ? ", " : "", one.noise ? "none" : linkTo(one), ` (${whole(count)})`];
  });
  const more = places.length - SHOWN;
  const left = more > 0 ? [` and ${whole(more)} more`] : [];
  const names = nameFor(places.length, ...words.cluster);
  return make("p", { class: "links hint" }, "In ", unspoken(names), " ", ...links, ...left);
}

// --- Map -----------------------------------------------------------------------------

function showMap(side) {
  const { rows, positions } = side.map;
  const { labels, clusters, proper, listed, words } = side;
  const figure = side.part("map");
  const plane = figure.querySelector(".plane");
  const canvas = plane.querySelector("canvas");
  const ring = plane.querySelector(".ring");
  const tip = plane.querySelector(".tip");
  const pen = canvas.getContext("2d");

  const columns = [0, 1].map((axis) => positions.map((position) => position[axis]));
  const low = columns.map((values) => values.reduce((a, b) => Math.min(a, b)));
  const high = columns.map((values) => values.reduce((a, b) => Math.max(a, b)));
  const extent = low.map((value, axis) => high[axis] - value || 1);
  canvas.style.aspectRatio = Math.min(Math.max(extent[0] / extent[1], 1.15), 1.6);

  const shown = new Map(); // the shown points of each community
  rows.forEach((row, point) => {
    const label = labels[row];
    if (!shown.has(label)) {
      shown.set(label, []);
    }
    shown.get(label).push(point);
  });
  const ordered = [...shown].sort(([a], [b]) => a - b); // the noise below the rest

  const points = counted(rows.length, ...words.row);
  canvas.setAttribute(
    "aria-label",
    `Map of ${points} in ${counted(proper.length, ...words.cluster)}. ` +
      `The list of ${words.cluster[1]} has all that is shown here.`,
  );
  figure.querySelector("figcaption").textContent =
    (rows.length < labels.length
      ? `${points} of ${whole(labels.length)}, drawn at random.`
      : `Each point is a ${words.row[0]}.`) +
    ` Near neighbours are linked, and linked points lie close together; distances ` +
    `between ${words.cluster[1]} mean little.`;

  let pixels = []; // where points are on the canvas

  function place() {
    const width = canvas.clientWidth;
    const height = canvas.clientHeight;
    const scale = Math.min(
      (width - 2 * MARGIN) / extent[0],
      (height - 2 * MARGIN) / extent[1],
    );
    pixels = positions.map(([x, y]) => [
      width / 2 + (x - (low[0] + high[0]) / 2) * scale,
      height / 2 - (y - (low[1] + high[1]) / 2) * scale,
    ]);
    canvas.width = width * devicePixelRatio;
    canvas.height = height * devicePixelRatio;
    pen.scale(devicePixelRatio, devicePixelRatio);
    return Math.min(Math.max(Math.sqrt((width * height) / rows.length) / 7, 1.2), 4);
  }

  /** Whether a point stands out: what is searched for, else what is open, else all. */
  function outstanding() {
    const allClosed = listed.every(({ panel }) => panel.hidden);
    return rows.map((row) => {
      const one = clusters.get(labels[row]);
      return side.pattern
        ? side.found[row] === 1 || one.isTold
        : allClosed || !one.panel.hidden;
    });
  }

  side.redraw = () => {
    const usual = place();
    const stands = outstanding();
    for (const strong of [false, true]) {
      pen.globalAlpha = strong ? 1 : 0.15;
      const radius = strong && side.pattern ? 1.5 * usual : usual;
      for (const [label, its] of ordered) {
        pen.fillStyle = getComputedStyle(clusters.get(label).swatch).backgroundColor;
        pen.beginPath();
        for (const point of its.filter((point) => stands[point] === strong)) {
          const [x, y] = pixels[point];
          pen.moveTo(x + radius, y);
          pen.arc(x, y, radius, 0, 2 * Math.PI);
        }
        pen.fill();
      }
    }
    pen.globalAlpha = 1;
    drawNumbers(stands);
  };

  /** Names and numbers at communities, the largest first, where there is room. */
  function drawNumbers(stands) {
    const style = getComputedStyle(canvas);
    pen.font = `600 12px ${style.fontFamily}`;
    pen.textAlign = "center";
    pen.textBaseline = "middle";
    pen.lineJoin = "round";
    pen.lineWidth = 4;
    pen.strokeStyle = style.backgroundColor;
    pen.fillStyle = style.color;
    const taken = [];
    const bySize = [...proper].sort((a, b) => b.size - a.size);
    for (const one of bySize) {
      const { label } = one;
      const its = (shown.get(label) ?? []).filter((point) => stands[point]);
      if (!its.length) {
        continue;
      }
      let [x, y] = middle(its.map((point) => pixels[point]));
      y -= its.length < FEW ? 12 : 0;
      // With its name, where there is room.
      for (const text of textsOnMap(one)) {
        const half = pen.measureText(text).width / 2 + 3;
        const isFree = taken.every(
          ([u, v, other]) => Math.abs(u - x) > half + other || Math.abs(v - y) > 13,
        );
        if (isFree) {
          taken.push([x, y, half]);
          pen.strokeText(text, x, y);
          pen.fillText(text, x, y);
          break;
        }
      }
    }
  }

  /** What may be written at a cluster: number and a short name, else the number. */
  function textsOnMap({ label, called }) {
    const short = called?.split(",")[0] ?? "";
    const fits = short && short.length <= SHORT && called !== NO_WORDS;
    return fits ? [`${label} ${short}`, String(label)] : [String(label)];
  }

  /** Of points, in one place or several, one amid the most of them. */
  function middle(points) {
    const step = Math.ceil(points.length / SOME);
    const some = points.filter((_, i) => i % step === 0);
    const distances = some.map(([x, y]) =>
      median(some.map(([u, v]) => Math.hypot(u - x, v - y))),
    );
    return some[distances.indexOf(Math.min(...distances))];
  }

  /** The point under the pointer, or null. */
  function hit(event) {
    const box = canvas.getBoundingClientRect();
    const [u, v] = [event.clientX - box.left, event.clientY - box.top];
    let nearest = null;
    let least = NEAR;
    pixels.forEach(([x, y], point) => {
      const distance = Math.hypot(x - u, y - v);
      if (distance < least) {
        [nearest, least] = [point, distance];
      }
    });
    return nearest;
  }

  function hover(event) {
    const nearest = hit(event);
    ring.hidden = tip.hidden = nearest === null;
    canvas.classList.toggle("hit", nearest !== null);
    if (nearest === null) {
      return;
    }
    const row = rows[nearest];
    const one = clusters.get(labels[row]);
    const [x, y] = pixels[nearest];
    ring.style.translate = `${x}px ${y}px`;
    tip.replaceChildren(
      make("p", { class: "of" }, one.swatch.cloneNode(), make("bdi", {}, fullName(one))),
      make("p", {}, make("bdi", {}, toldOf(side, row)[0].slice(0, SNIPPET))),
    );
    const rightmost = canvas.clientWidth - tip.offsetWidth;
    const left = Math.min(Math.max(x - tip.offsetWidth / 2, 0), rightmost);
    const above = y - tip.offsetHeight - 12;
    tip.style.translate = `${left}px ${above > 0 ? above : y + 12}px`;
  }

  function leave() {
    ring.hidden = tip.hidden = true;
  }

  canvas.addEventListener("pointermove", hover);
  canvas.addEventListener("pointerleave", leave);
  canvas.addEventListener("click", (event) => {
    const nearest = hit(event);
    leave();
    if (nearest !== null) {
      visit(clusters.get(labels[rows[nearest]]));
    }
  });
  new ResizeObserver(() => side.redraw()).observe(canvas);
  for (const query of ["(prefers-color-scheme: dark)", "print"]) {
    matchMedia(query).addEventListener("change", () => side.redraw());
  }
}

// --- Start ---------------------------------------------------------------------------

function start(side) {
  side.listed.forEach(makeItem);
  side.part("query").addEventListener("input", () => refresh(side));
  side.part("sort").addEventListener("change", () => sort(side));
  side.part("reverse").addEventListener("click", ({ currentTarget: button }) => {
    button.setAttribute("aria-pressed", button.getAttribute("aria-pressed") !== "true");
    sort(side);
  });
  const parts = { sizes: showSizes, layers: showLayers, map: showMap };
  for (const [name, show] of Object.entries(parts)) {
    if (side.part(name)) {
      show(side);
    }
  }
  sort(side);
  refresh(side);
}

const data = JSON.parse(byId("data").textContent);
const sides = [makeSide(data, "")];
if (data.neuron_groups) {
  sides.push(makeSide(data.neuron_groups, "groups-"));
}
if (data.drives) {
  linkSides(...sides, data.drives);
}
sides.forEach(start);
if (data.tree) {
  showTree(sides[0], data.tree);
}
// Not before "load": the browser takes the focus away when it looks for the anchor.
addEventListener("load", visitAddress);
addEventListener("hashchange", visitAddress);
