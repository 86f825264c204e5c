"use strict";
// Every text gets into the page as a text node, never as HTML.

const data = JSON.parse(document.getElementById("data").textContent);
const PAGE = 100; // members shown at a time
const SNIPPET = 300; // characters of a prompt where one line is shown
const NEAR = 14; // pixels around a point in which it is hit
const MARGIN = 16; // pixels around the map
const SOME = 50; // points by which the middle of a community is told
const FEW = 8; // points that a number upon them would hide

// --- Small helpers -------------------------------------------------------------------

const byId = (id) => document.getElementById(id);

function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  setAll(element, attributes);
  element.append(...children);
  return element;
}

function draw(tag, attributes = {}, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  setAll(element, attributes);
  element.append(...children);
  return element;
}

function setAll(element, attributes) {
  for (const [name, value] of Object.entries(attributes)) {
    element.setAttribute(name, value);
  }
}

const grouped = new Intl.NumberFormat("en");
const whole = (n) => grouped.format(n);
const counted = (n, one, many = one + "s") => `${whole(n)} ${n === 1 ? one : many}`;
const isNumber = (value) => typeof value === "number";
const fixed = (value, digits = 2) =>
  isNumber(value) ? value.toFixed(digits).replace(/^-(?=[0.]+$)/, "") : (value ?? "–");
const percent = (value) => (isNumber(value) ? `${Math.round(100 * value)}%` : "–");

function mean(values) {
  const known = values.filter(isNumber);
  return known.length ? known.reduce((a, b) => a + b) / known.length : null;
}

function median(values) {
  return Float64Array.from(values).sort()[values.length >> 1];
}

// --- Communities ---------------------------------------------------------------------

// The data are what skleiden.io.save_communities saves, with ids as text, and colours.
const { ids, labels, confidence, attached } = data.rows;
const texts = data.noise_texts ? new Array(labels.length) : null;

const noun = texts ? "prompt" : "row";
const textOf = (row) => (texts ?? ids)[row];

const communities = new Map(data.communities.map((one) => [one.label, one]));
if (data.noise.length) {
  communities.set(-1, { label: -1, size: data.noise.length, texts: data.noise_texts });
}
for (const one of communities.values()) {
  one.rows = [];
}
labels.forEach((label, row) => communities.get(label).rows.push(row));
for (const one of communities.values()) {
  one.noise = one.label < 0;
  one.name = one.noise ? "In no community" : `Community ${one.label}`;
  one.anchor = one.noise ? "noise" : `c${one.label}`;
  one.features = one.top_features ?? [];
  one.neurons = one.features.map((feature) => `${feature.layer}:${feature.neuron}`);
  one.confidence =
    one.noise || !confidence ? null : mean(one.rows.map((row) => confidence[row]));
  one.layers = Object.entries(one.layer_agreement ?? {});
  if (texts) {
    one.rows.forEach((row, i) => (texts[row] = one.texts[i]));
  }
}

const listed = [...communities.values()];
const proper = listed.filter((one) => !one.noise);
const largest = Math.max(...listed.map((one) => one.size));

/** Give an element the colours of a community, or of the noise. */
function paint(element, one) {
  const [light, dark] = data.colors[one.label];
  element.style.setProperty("--light", light);
  element.style.setProperty("--dark", dark);
  element.classList.add("painted");
  return element;
}

// --- Search --------------------------------------------------------------------------

const search = { pattern: null, rows: null };

function find(query) {
  search.pattern = query
    ? new RegExp(query.replace(/[\\^$.*+?()[\]{}|/]/g, "\\$&"), "giu")
    : null;
  search.rows = new Uint8Array(labels.length);
  for (const one of listed) {
    one.found = 0;
    one.neuronsFound = one.neurons.filter(matches).length;
    for (const row of one.rows) {
      if (matches(ids[row]) || (texts && matches(texts[row]))) {
        search.rows[row] = 1;
        one.found += 1;
      }
    }
  }
}

// `search` of a string starts at its beginning, whatever the pattern's last match.
const matches = (text) => search.pattern !== null && text.search(search.pattern) >= 0;

/** The text, with what is searched for marked. */
function marked(text) {
  if (!matches(text)) {
    return [text];
  }
  const parts = [];
  let end = 0;
  for (const match of text.matchAll(search.pattern)) {
    parts.push(text.slice(end, match.index), make("mark", {}, match[0]));
    end = match.index + match[0].length;
  }
  return [...parts, text.slice(end)];
}

// --- The list ------------------------------------------------------------------------

for (const one of listed) {
  one.panel = make("div", {
    class: "panel",
    id: `${one.anchor}-panel`,
    role: "region",
    "aria-label": one.name,
  });
  one.panel.hidden = true;
  one.line = make("span", { class: "line" });
  one.swatch = paint(make("span", { class: "swatch" }), one);
  one.button = make(
    "button",
    { type: "button", "aria-expanded": false, "aria-controls": one.panel.id },
    one.swatch,
    make(
      "span",
      { class: "number" },
      one.noise ? "–" : make("span", { class: "hidden" }, "Community "),
      one.noise ? "" : String(one.label),
    ),
    make("bdi", { class: "lead" }, one.noise ? one.name : leadOf(one)),
    one.line,
    make(
      "span",
      { class: "size" },
      whole(one.size),
      make("span", { class: "hidden" }, ` ${one.size === 1 ? noun : noun + "s"}`),
    ),
    sizeBar(one),
  );
  one.item = paint(
    make("li", { id: one.anchor }, make("h3", {}, one.button), one.panel),
    one,
  );
  one.button.addEventListener("click", () => setOpen(one, one.panel.hidden));
}

function leadOf(one) {
  const row = one.representatives?.central[0]?.row ?? one.rows[0];
  return textOf(row).slice(0, SNIPPET);
}

function sizeBar(one) {
  const bar = make("span", { class: "bar", "aria-hidden": true });
  bar.style.setProperty("--share", one.size / largest);
  return bar;
}

/** What is known of a community in one line; what matches, while there is a search. */
function describe(one) {
  if (search.pattern) {
    const counts = [counted(one.found, noun)];
    if (one.neuronsFound) {
      counts.push(counted(one.neuronsFound, "neuron"));
    }
    return `${counts.join(" and ")} found`;
  }
  const known = [];
  if (isNumber(one.stability)) {
    known.push(`stability ${fixed(one.stability)}`);
  }
  if (isNumber(one.confidence)) {
    known.push(`confidence ${percent(one.confidence)}`);
  }
  return [...known, ...one.neurons.slice(0, 3)].join(" · ");
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
  redraw();
}

/** Open a community and go there. */
function visit(one) {
  if (one.item.hidden) {
    byId("query").value = "";
    refresh();
  }
  setOpen(one, true);
  one.item.scrollIntoView({ block: "start" });
  one.button.focus({ preventScroll: true });
}

function visitAddress() {
  const one = listed.find(({ anchor }) => location.hash === `#${anchor}`);
  if (one) {
    visit(one);
  }
}

function refresh() {
  find(byId("query").value.trim());
  for (const one of listed) {
    one.item.hidden = search.pattern !== null && one.found + one.neuronsFound === 0;
    one.line.textContent = describe(one);
    if (!one.panel.hidden) {
      one.panel.replaceChildren(...contents(one));
    }
  }
  byId("status").textContent = statusOf(listed.filter((one) => !one.item.hidden));
  redraw();
}

function statusOf(shown) {
  const all = counted(proper.length, "community", "communities");
  if (!search.pattern) {
    return all;
  }
  const total = (name) => shown.reduce((sum, one) => sum + one[name], 0);
  const found = [counted(total("found"), noun)];
  if (total("neuronsFound")) {
    found.push(counted(total("neuronsFound"), "neuron"));
  }
  const places = [`${whole(shown.filter((one) => !one.noise).length)} of ${all}`];
  if (shown.some((one) => one.noise)) {
    places.push("in none");
  }
  return `${found.join(" and ")} found in ${places.join(" and ")}`;
}

function sort() {
  const key = byId("sort").value;
  const direction = byId("reverse").getAttribute("aria-pressed") === "true" ? -1 : 1;
  const upwards = key === "label" ? direction : -direction;
  listed.sort(
    (a, b) =>
      a.noise - b.noise ||
      isNumber(b[key]) - isNumber(a[key]) || // unknown ones last, either way
      upwards * (a[key] - b[key]) ||
      a.label - b.label,
  );
  byId("list").append(...listed.map((one) => one.item));
}

// --- An opened community -------------------------------------------------------------

function contents(one) {
  const pair = [];
  if (one.representatives) {
    const { central, borderline } = one.representatives;
    pair.push(...excerpts("Most central", central));
    pair.push(...excerpts("Most borderline", borderline));
  }
  if (one.features.length) {
    pair.push(neuronTable(one));
  }
  if (one.layers.length) {
    pair.push(agreementTable("Agreement of layers", one.layers));
  }
  const known = pair.length ? [make("div", { class: "pair" }, ...pair)] : [];
  const members = memberList(one);
  // What was searched for comes first.
  return search.pattern && one.found ? [...members, ...known] : [...known, ...members];
}

function entry(row, ...notes) {
  const item = make(
    "li",
    { tabindex: -1 },
    make("bdi", { class: "text" }, ...marked(textOf(row))),
  );
  if (texts) {
    notes.unshift(make("bdi", { class: "id" }, ...marked(ids[row])));
  }
  if (notes.length) {
    item.append(make("span", { class: "notes" }, ...notes));
  }
  item.classList.toggle("found", search.rows[row] === 1);
  return item;
}

function excerpts(heading, rows) {
  const items = rows.map(({ row, share }) =>
    entry(row, make("span", {}, `${percent(share)} of links inside`)),
  );
  const list = make("ul", { class: "rows" }, ...items);
  return items.length ? [make("div", {}, make("h4", {}, heading), list)] : [];
}

function cell(value, shown, tag = "td") {
  const element = make(tag, { class: "share" }, shown);
  const share = isNumber(value) ? Math.min(Math.max(value, 0), 1) : 0;
  element.style.setProperty("--share", share.toFixed(4));
  return element;
}

function neuronTable(one) {
  const headings = ["Neuron", "Effect", "Fires inside", "Fires outside", "Mean in / out"];
  const layers = new Map(); // in the order of their strongest neuron
  one.features.forEach((feature, i) => {
    const row = make(
      "tr",
      {},
      make(
        "th",
        { scope: "row" },
        make("bdi", {}, ...marked(one.neurons[i])),
        // Files of older versions do not tell.
        feature.fires === false ? " (less inhibited)" : "",
      ),
      make("td", {}, fixed(feature.effect_size, 1)),
      cell(feature.share, percent(feature.share)),
      cell(feature.baseline_share, percent(feature.baseline_share)),
      make("td", {}, `${fixed(feature.mean, 2)} / ${fixed(feature.baseline_mean, 2)}`),
    );
    row.classList.toggle("found", matches(one.neurons[i]));
    layers.set(feature.layer, [...(layers.get(feature.layer) ?? []), row]);
  });
  return make(
    "table",
    { class: "figures neurons" },
    make("caption", {}, "Top neurons"),
    make(
      "thead",
      {},
      make("tr", {}, ...headings.map((name) => make("th", { scope: "col" }, name))),
    ),
    ...[...layers.values()].map((rows) => make("tbody", {}, ...rows)),
  );
}

function agreementTable(caption, values) {
  const rows = values.map(([name, value]) =>
    make(
      "tr",
      {},
      make("th", { scope: "row" }, make("bdi", {}, name)),
      cell(value, fixed(value)),
    ),
  );
  return make(
    "table",
    { class: "figures agreement" },
    make("caption", {}, caption),
    make("tbody", {}, ...rows),
  );
}

/** All members, those that match a search first, so many at a time. */
function memberList(one) {
  const rows = search.pattern
    ? [...one.rows].sort((a, b) => search.rows[b] - search.rows[a] || a - b)
    : one.rows;
  const list = make("ol", { class: "rows members" });
  const button = make("button", { type: "button", class: "more" });
  const show = () => {
    const start = list.childElementCount;
    const next = rows.slice(start, start + PAGE);
    list.append(...next.map((row) => entry(row, ...notesOf(row))));
    const left = rows.length - list.childElementCount;
    button.textContent = `Show ${whole(Math.min(PAGE, left))} more of ${whole(left)}`;
    button.hidden = left === 0;
    return list.children[start];
  };
  button.addEventListener("click", () => {
    const first = show();
    if (button.hidden) {
      first.focus({ preventScroll: true }); // else the focus would be lost
    }
  });
  show();
  const heading = one.size === 1 ? `The ${noun}` : `All ${whole(one.size)} ${noun}s`;
  return [make("h4", {}, heading), list, button];
}

function notesOf(row) {
  const notes = [];
  if (confidence && labels[row] >= 0) {
    notes.push(make("span", {}, `confidence ${percent(confidence[row])}`));
  }
  if (attached?.[row]) {
    notes.push(make("span", {}, "from a small community"));
  }
  return notes;
}

// --- Overview ------------------------------------------------------------------------

/** Bars in per cent of the drawing, which may then have any width. */
function barChart(figure, title, range, bars, spoken = range) {
  const chart = draw("svg", { role: "img", "aria-label": `${title}: ${spoken}` });
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
  const caption = [title, range].map((text) => make("span", {}, text));
  figure.append(make("figcaption", {}, ...caption), chart);
  return [...chart.children];
}

function showSizes() {
  const ordered = [...proper].sort((a, b) => b.size - a.size || a.label - b.label);
  const rects = barChart(
    byId("sizes"),
    `Sizes of ${counted(ordered.length, "community", "communities")}`,
    `largest ${counted(ordered[0].size, noun)}, smallest ${whole(ordered.at(-1).size)}`,
    ordered.map((one) => ({
      share: one.size / ordered[0].size,
      told: `${one.name}: ${counted(one.size, noun)}`,
    })),
  );
  ordered.forEach((one, i) => {
    paint(rects[i], one).addEventListener("click", () => visit(one));
  });
}

function showLayers() {
  const layers = proper[0].layers.map(([name], i) => {
    const value = mean(proper.map((one) => one.layers[i][1]));
    return { name, share: value, told: `${name}: ${fixed(value)}` };
  });
  const known = layers.filter(({ share }) => isNumber(share));
  known.sort((a, b) => b.share - a.share);
  const rects = barChart(
    byId("layers"),
    "Mean agreement of layers, from 0 to 1",
    known.length ? `best ${known[0].told}` : "unknown",
    layers,
    layers.map(({ told }) => told).join(", "),
  );
  rects.forEach((rect) => rect.classList.add("grey"));
  const ends = layers.length > 1 ? [layers[0], layers.at(-1)] : layers;
  byId("layers").append(
    make("div", { class: "ends" }, ...ends.map(({ name }) => make("bdi", {}, name))),
  );
}

// --- Map -----------------------------------------------------------------------------

let redraw = () => {};

function showMap() {
  const { rows, positions } = data.map;
  const plane = document.querySelector(".plane");
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

  const points = counted(rows.length, noun);
  canvas.setAttribute(
    "aria-label",
    `Map of ${points} in ${counted(proper.length, "community", "communities")}. ` +
      "The list of communities has all that is shown here.",
  );
  document.querySelector("#map figcaption").textContent =
    (rows.length < labels.length
      ? `${points} of ${whole(labels.length)}, drawn at random.`
      : `Each point is a ${noun}.`) +
    " What is close is linked; distances between groups mean little.";

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
      const one = communities.get(labels[row]);
      return search.pattern
        ? search.rows[row] === 1 || one.neuronsFound > 0
        : allClosed || !one.panel.hidden;
    });
  }

  redraw = () => {
    const usual = place();
    const stands = outstanding();
    for (const strong of [false, true]) {
      pen.globalAlpha = strong ? 1 : 0.15;
      const radius = strong && search.pattern ? 1.5 * usual : usual;
      for (const [label, its] of ordered) {
        pen.fillStyle = getComputedStyle(communities.get(label).swatch).backgroundColor;
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

  /** Numbers at communities, the largest first, where there is room. */
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
    for (const { label } of bySize) {
      const its = (shown.get(label) ?? []).filter((point) => stands[point]);
      if (!its.length) {
        continue;
      }
      let [x, y] = middle(its.map((point) => pixels[point]));
      y -= its.length < FEW ? 12 : 0;
      if (taken.every(([u, v]) => Math.abs(u - x) > 20 || Math.abs(v - y) > 13)) {
        taken.push([x, y]);
        pen.strokeText(label, x, y);
        pen.fillText(label, x, y);
      }
    }
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
    const one = communities.get(labels[row]);
    const [x, y] = pixels[nearest];
    ring.style.translate = `${x}px ${y}px`;
    tip.replaceChildren(
      make("p", { class: "of" }, one.swatch.cloneNode(), one.name),
      make("p", {}, make("bdi", {}, textOf(row).slice(0, SNIPPET))),
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
      visit(communities.get(labels[rows[nearest]]));
    }
  });
  new ResizeObserver(() => redraw()).observe(canvas);
  for (const query of ["(prefers-color-scheme: dark)", "print"]) {
    matchMedia(query).addEventListener("change", () => redraw());
  }
}

// --- Start ---------------------------------------------------------------------------

byId("query").addEventListener("input", refresh);
byId("sort").addEventListener("change", sort);
byId("reverse").addEventListener("click", ({ currentTarget: button }) => {
  button.setAttribute("aria-pressed", button.getAttribute("aria-pressed") !== "true");
  sort();
});
// Not before "load": the browser takes the focus away when it looks for the anchor.
addEventListener("load", visitAddress);
addEventListener("hashchange", visitAddress);

if (proper.length) {
  showSizes();
}
if (byId("layers")) {
  showLayers();
}
if (byId("map")) {
  showMap();
}
sort();
refresh();
