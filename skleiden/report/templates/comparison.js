// The page of two partitions, a and b: the left and the right side of what is drawn.

const BAR = 10; // pixels of the width of a community's bar
const GAP = 3; // pixels between bars, at most
const LINE = 13; // pixels from one label to the next, at least
const LETTER = 6.6; // pixels of a letter
const THIN = 0.1; // pixels below which a flow is not drawn
const PARTS = 20; // lines of a table, at most
const SNIPPET = 300; // characters of a name where one line is shown

const data = JSON.parse(byId("data").textContent);
const view = { pattern: null }; // what is searched for
const rowsOf = (n) => counted(n, ...data.row);

// --- Communities and their matches ---------------------------------------------------

const sides = data.sides.map((side) => new Map(side.map((one) => [one.label, one])));

sides.forEach((side) => {
  for (const one of side.values()) {
    one.none = one.label < 0;
    one.told = one.none ? "none" : String(one.label);
    one.parts = []; // communities of the other side, and the rows they share
  }
});

for (const [a, b, n] of data.pairs) {
  const [one, other] = [sides[0].get(a), sides[1].get(b)];
  one.parts.push({ to: other, n });
  other.parts.push({ to: one, n });
}

/** A match, or a community without one: its partner is null then. */
function makeMatch(a, b) {
  const match = { a, b, moved: [], either: a ?? b };
  const none = match.either.none;
  match.n_common = a?.parts.find(({ to }) => to === b)?.n ?? 0;
  match.size = Math.max(a?.size ?? 0, b?.size ?? 0);
  match.overlap =
    a && b && !none ? match.n_common / (a.size + b.size - match.n_common) : null;
  match.n_moved = (a?.size ?? 0) + (b?.size ?? 0) - 2 * match.n_common;
  match.order = a ? a.label : sides[0].size + b.label;
  match.anchor = none ? "none" : a ? `a${a.label}` : `b${b.label}`;
  match.names = [...new Set([a?.name, b?.name].filter(Boolean))];
  for (const one of [a, b]) {
    if (one) {
      one.match = match;
    }
  }
  return match;
}

const partnerOf = new Map(data.matched);
const matches_ = [...sides[0].values()]
  .filter((one) => !one.none)
  .map((one) => makeMatch(one, sides[1].get(partnerOf.get(one.label)) ?? null));
matches_.push(
  ...[...sides[1].values()]
    .filter((one) => !one.none && !one.match)
    .map((one) => makeMatch(null, one)),
);
if (sides.some((side) => side.has(-1))) {
  matches_.push(makeMatch(sides[0].get(-1) ?? null, sides[1].get(-1) ?? null));
}

data.moved.a.forEach((a, row) => {
  const [from, to] = [sides[0].get(a), sides[1].get(data.moved.b[row])];
  const moved = { from, to, told: toldOf(row), found: false };
  from.match.moved.push(moved);
  to.match.moved.push(moved);
});

/** What is shown of a row, and what else tells it. */
function toldOf(row) {
  const { ids, texts } = data.moved;
  return texts ? [texts[row], ids[row]] : [ids[row]];
}

function paint(element, one) {
  const [light, dark] = one.colors;
  element.style.setProperty("--light", light);
  element.style.setProperty("--dark", dark);
  element.classList.add("painted");
  return element;
}

const swatchOf = (one) => paint(make("span", { class: "swatch" }), one);

// --- The list ------------------------------------------------------------------------

function makeItem(match) {
  const { a, b, either } = match;
  match.panel = make("div", {
    class: "panel",
    id: `${match.anchor}-panel`,
    role: "region",
    "aria-label": spoken(match),
  });
  match.panel.hidden = true;
  match.line = make("span", { class: "line" });
  match.lead = make("bdi", { class: "lead" });
  const bar = make("span", { class: "bar", "aria-hidden": true });
  bar.style.setProperty("--share", match.size / largest);
  match.button = make(
    "button",
    { type: "button", "aria-expanded": false, "aria-controls": match.panel.id },
    swatchOf(either),
    make(
      "span",
      { class: "number" },
      make("span", { class: "hidden" }, spoken(match)),
      make("span", { "aria-hidden": true }, `${a?.told ?? "–"} → ${b?.told ?? "–"}`),
    ),
    match.lead,
    match.line,
    make(
      "span",
      { class: "size" },
      whole(match.size),
      make("span", { class: "hidden" }, ` ${nameFor(match.size, ...data.row)}`),
    ),
    bar,
  );
  match.item = paint(
    make("li", { id: match.anchor }, make("h3", {}, match.button), match.panel),
    either,
  );
  match.button.addEventListener("click", () => setOpen(match, match.panel.hidden));
}

function spoken({ a, b, either }) {
  const [first, second] = data.titles;
  if (either.none) {
    return "In no community";
  }
  if (!a) {
    return `Community ${b.told} of ${second}, without a match`;
  }
  const partner = b ? `matched with ${b.told} of ${second}` : "without a match";
  return `Community ${a.told} of ${first}, ${partner}`;
}

/** What is known of a match in one line; what matches, while there is a search. */
function describe({ a, b, either, overlap, moved, n_common, n_found }) {
  if (view.pattern) {
    return `found in ${rowsOf(n_found)} that moved`;
  }
  const left = moved.filter(({ from }) => from === a).length;
  const came = moved.filter(({ to }) => to === b).length;
  const known = [
    ...(isNumber(overlap) ? [`overlap ${percent(overlap)}`] : []),
    ...(either.none && n_common ? [`${rowsOf(n_common)} in both`] : []),
    ...(left ? [`${whole(left)} went elsewhere`] : []),
    ...(came ? [`${whole(came)} came from elsewhere`] : []),
  ];
  return known.join(" · ");
}

function leadOf(match) {
  const { a, b, either, names } = match;
  if (either.none) {
    return ["In no community"];
  }
  const missing = data.titles[a ? 1 : 0];
  const told = names.length ? names : a && b ? [] : [`no match in ${missing}`];
  return told.length
    ? marked(view, told.join(" → ").slice(0, SNIPPET))
    : [`${rowsOf(match.n_common)} in both`];
}

function setOpen(match, open) {
  match.button.setAttribute("aria-expanded", open);
  match.panel.hidden = !open;
  match.panel.replaceChildren(...(open ? contents(match) : []));
  // The address leads back here. Another anchor than this one's stays.
  if (open || location.hash === `#${match.anchor}`) {
    const page = location.href.split("#")[0];
    history.replaceState(null, "", open ? `${page}#${match.anchor}` : page);
  }
}

/** Open a match and go there. */
function visit(match) {
  if (match.item.hidden) {
    byId("query").value = "";
    refresh();
  }
  setOpen(match, true);
  match.item.scrollIntoView({ block: "start" });
  match.button.focus({ preventScroll: true });
}

function visitAddress() {
  const match = matches_.find(({ anchor }) => location.hash === `#${anchor}`);
  if (match) {
    visit(match);
  }
}

// --- Search and order ----------------------------------------------------------------

function refresh() {
  view.pattern = patternOf(byId("query").value.trim());
  const found = (told) => told.some((text) => matches(view, text));
  for (const match of matches_) {
    for (const one of match.moved) {
      one.found = found(one.told);
    }
    match.n_found = match.moved.filter((one) => one.found).length;
    match.item.hidden =
      view.pattern !== null && match.n_found === 0 && !found(match.names);
    match.lead.replaceChildren(...leadOf(match));
    match.line.textContent = describe(match);
    if (!match.panel.hidden) {
      match.panel.replaceChildren(...contents(match));
    }
  }
  const shown = matches_.filter(({ item }) => !item.hidden).length;
  const n = matches_.filter(({ overlap }) => isNumber(overlap)).length;
  const alone = matches_.filter(({ either }) => !either.none).length - n;
  byId("status").textContent = view.pattern
    ? `Found in ${whole(shown)} of ${whole(matches_.length)}`
    : `${counted(n, "match", "matches")}, ` +
      `${counted(alone, "community", "communities")} without one`;
}

function sort() {
  const key = byId("sort").value;
  const isReversed = byId("reverse").getAttribute("aria-pressed") === "true";
  const direction = isReversed ? -1 : 1;
  const upwards = key === "order" ? direction : -direction;
  matches_.sort(
    (one, other) =>
      one.either.none - other.either.none ||
      isNumber(other[key]) - isNumber(one[key]) || // unknown ones last, either way
      upwards * (one[key] - other[key]) ||
      one.order - other.order,
  );
  byId("list").append(...matches_.map(({ item }) => item));
}

// --- An opened match -----------------------------------------------------------------

function contents(match) {
  const { a, b } = match;
  const [first, second] = data.titles;
  const tables = [
    ...(a ? [partTable(a, `${rowsOf(a.size)} of ${first}, and where they went`)] : []),
    ...(b ? [partTable(b, `${rowsOf(b.size)} of ${second}, and where they were`)] : []),
  ];
  const known = [make("div", { class: "pair" }, ...tables)];
  const moved = movedList(match);
  // What was searched for comes first.
  return view.pattern && match.n_found ? [...moved, ...known] : [...known, ...moved];
}

function partTable(one, caption) {
  const parts = [...one.parts].sort((p, q) => q.n - p.n || p.to.label - q.to.label);
  const rows = parts.slice(0, PARTS).map(({ to, n }) =>
    make(
      "tr",
      {},
      make("th", { scope: "row" }, swatchOf(to), make("bdi", {}, namedOf(to))),
      make("td", {}, whole(n)),
      cell(n / one.size, percent(n / one.size)),
    ),
  );
  const left = parts.length - rows.length;
  if (left > 0) {
    rows.push(make("tr", {}, make("th", {}, `and ${whole(left)} more`)));
  }
  return paint(
    make(
      "table",
      { class: "figures of-parts" },
      make("caption", {}, caption),
      make("tbody", {}, ...rows),
    ),
    one,
  );
}

const namedOf = ({ none, told, name }) =>
  none ? "in none" : name ? `${told} ${name}` : told;

/** The rows that moved, those that match a search first, so many at a time. */
function movedList({ a, moved }) {
  if (!moved.length) {
    return [];
  }
  const rows = view.pattern
    ? [...moved].sort((one, other) => other.found - one.found)
    : moved;
  const list = make("ol", { class: "rows members" });
  const button = fillBySteps(list, rows, ({ from, to, told, found }) => {
    const other = from === a ? ["went to ", to] : ["came from ", from];
    const way = [other[0], swatchOf(other[1]), " ", make("bdi", {}, namedOf(other[1]))];
    return entry(view, told, [way], found);
  });
  const n = moved.length;
  const heading = n === 1 ? `The ${data.row[0]} that moved` : `${rowsOf(n)} that moved`;
  return [make("h4", {}, heading), list, button];
}

// --- Flow ----------------------------------------------------------------------------

/** Both sides in the order of the drawing: the left by size, the right beside it. */
function orders() {
  const last = ({ none }) => none;
  const left = [...sides[0].values()].sort(
    (p, q) => last(p) - last(q) || q.size - p.size || p.label - q.label,
  );
  left.forEach((one, at) => (one.at = at));
  const beside = ({ match, parts, size }) =>
    match.a?.at ?? parts.reduce((sum, { to, n }) => sum + to.at * n, 0) / size;
  const right = [...sides[1].values()].sort(
    (p, q) => last(p) - last(q) || beside(p) - beside(q) || q.size - p.size,
  );
  right.forEach((one, at) => (one.at = at));
  return [left, right];
}

function drawFlow(width) {
  const most = Math.max(...ordered.map((side) => side.length));
  const height = Math.min(Math.max(18 * most, 240), 0.8 * Math.max(innerHeight, 500));
  const gap = Math.min(GAP, (0.3 * height) / most);
  const scale = (height - gap * (most - 1)) / data.n;
  const room = Math.min(Math.max(width * 0.24, 36), 180);
  const edges = [room, width - room - BAR]; // of the bars, their left
  const chart = draw("svg", {
    role: "img",
    viewBox: `0 0 ${width} ${height}`,
    height,
    "aria-label":
      `Flow of ${rowsOf(data.n)} from ${data.titles[0]} to ${data.titles[1]}. ` +
      "The list of communities has all that is shown here.",
  });
  ordered.forEach((side) => {
    let y = 0;
    for (const one of side) {
      [one.y, one.height] = [y, one.size * scale];
      y += one.height + gap;
      let within = one.y;
      for (const part of [...one.parts].sort((p, q) => p.to.at - q.to.at)) {
        part.y = within;
        within += part.n * scale;
      }
    }
  });
  const hidden = drawRibbons(chart, edges, scale);
  ordered.forEach((side, i) => drawBars(chart, side, edges[i], room, i === 0));
  const drawing = byId("flow").querySelector(".drawing");
  drawing.replaceChildren(chart);
  byId("flow").querySelector("figcaption").textContent =
    "Each bar is a community; its height shows its size. Strong bands are " +
    `${data.row[1]} that stay in matched communities; pale bands are those that move.` +
    (hidden ? ` Bands that are too thin to draw hold ${rowsOf(hidden)}.` : "");
}

function drawRibbons(chart, [left, right], scale) {
  const [x, u, middle] = [left + BAR, right, (left + BAR + right) / 2];
  let hidden = 0;
  for (const one of ordered[0]) {
    for (const part of one.parts) {
      const thick = part.n * scale;
      if (thick < THIN) {
        hidden += part.n;
        continue;
      }
      const [y, v] = [part.y, part.to.parts.find(({ to }) => to === one).y];
      const d =
        `M${x} ${y}C${middle} ${y} ${middle} ${v} ${u} ${v}v${thick}` +
        `C${middle} ${v + thick} ${middle} ${y + thick} ${x} ${y + thick}z`;
      const stays = one.match === part.to.match;
      const band = draw(
        "path",
        { d, class: stays ? "stays" : "" },
        draw("title", {}, `${one.told} → ${part.to.told}: ${rowsOf(part.n)}`),
      );
      chart.append(paint(band, one));
      band.addEventListener("click", () => visit(one.match));
    }
  }
  return hidden;
}

function drawBars(chart, side, edge, room, isLeft) {
  let last = -LINE;
  for (const one of side) {
    const bar = draw(
      "rect",
      { x: edge, y: one.y, width: BAR, height: Math.max(one.height, 0.5) },
      draw("title", {}, `${namedOf(one)}: ${rowsOf(one.size)}`),
    );
    bar.addEventListener("click", () => visit(one.match));
    chart.append(paint(bar, one));
    const middle = one.y + one.height / 2;
    if (middle - last < LINE) {
      continue;
    }
    last = middle;
    const letters = Math.floor((room - 6) / LETTER);
    const told = namedOf(one);
    const label = draw(
      "text",
      {
        x: isLeft ? edge - 5 : edge + BAR + 5,
        y: middle + 4,
        "text-anchor": isLeft ? "end" : "start",
      },
      told.length > letters ? `${told.slice(0, letters - 1).trimEnd()}…` : told,
    );
    chart.append(label);
  }
}

// --- Start ---------------------------------------------------------------------------

const largest = Math.max(...matches_.map(({ size }) => size));
const ordered = orders();
matches_.forEach(makeItem);
byId("query").addEventListener("input", refresh);
byId("sort").addEventListener("change", sort);
byId("reverse").addEventListener("click", ({ currentTarget: button }) => {
  button.setAttribute("aria-pressed", button.getAttribute("aria-pressed") !== "true");
  sort();
});
byId("flow")
  .querySelectorAll(".ends bdi")
  .forEach((element, i) => (element.textContent = data.titles[i]));
let drawn = 0;
new ResizeObserver(([{ contentRect }]) => {
  if (contentRect.width !== drawn) {
    drawn = contentRect.width;
    drawFlow(drawn);
  }
}).observe(byId("flow"));
sort();
refresh();
// Not before "load": the browser takes the focus away when it looks for the anchor.
addEventListener("load", visitAddress);
addEventListener("hashchange", visitAddress);
