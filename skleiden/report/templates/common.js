"use strict";
// Every text gets into a page as a text node, never as HTML.

// What the scripts of the pages share: it comes before theirs.

const PAGE = 100; // entries of a list shown at a time

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
const nameFor = (n, one, many) => (n === 1 ? one : many);
const counted = (n, ...names) => `${whole(n)} ${nameFor(n, ...names)}`;
const capital = (text) => text[0].toUpperCase() + text.slice(1);
const isNumber = (value) => typeof value === "number";
const fixed = (value, digits = 2) =>
  isNumber(value) ? value.toFixed(digits).replace(/^-(?=[0.]+$)/, "") : (value ?? "–");
const percent = (value) => (isNumber(value) ? `${Math.round(100 * value)}%` : "–");

/** Items in a row, with "and" before the last. */
const inWords = (items) => {
  const last = items.at(-1);
  return items.length > 1 ? `${items.slice(0, -1).join(", ")} and ${last}` : last;
};

function mean(values) {
  const known = values.filter(isNumber);
  return known.length ? known.reduce((a, b) => a + b) / known.length : null;
}

function median(values) {
  return Float64Array.from(values).sort()[values.length >> 1];
}

// --- Search --------------------------------------------------------------------------

/** What finds a text wherever it stands, in letters of any case; null for no text. */
const patternOf = (query) =>
  query ? new RegExp(query.replace(/[\\^$.*+?()[\]{}|/]/g, "\\$&"), "giu") : null;

// `search` of a string starts at its beginning, whatever the pattern's last match.
const matches = ({ pattern }, text) => pattern !== null && text.search(pattern) >= 0;

/** The text, with what is searched for marked. */
function marked(side, text) {
  if (!matches(side, text)) {
    return [text];
  }
  const parts = [];
  let end = 0;
  for (const match of text.matchAll(side.pattern)) {
    parts.push(text.slice(end, match.index), make("mark", {}, match[0]));
    end = match.index + match[0].length;
  }
  return [...parts, text.slice(end)];
}

// --- Lists and tables ----------------------------------------------------------------

/** What is told of a row or a feature, by its text first if it has one. */
function entry(side, [shown, ...names], notes, isFound) {
  const item = make(
    "li",
    { tabindex: -1 },
    make("bdi", { class: "text" }, ...marked(side, shown)),
  );
  const all = [
    ...names.map((name) => make("bdi", { class: "id" }, ...marked(side, name))),
    ...notes.map((note) => make("span", {}, ...[note].flat())),
  ];
  if (all.length) {
    item.append(make("span", { class: "notes" }, ...all));
  }
  item.classList.toggle("found", isFound);
  return item;
}

/** Fill a list, so many entries at a time; gives the button that shows more. */
function fillBySteps(list, items, entryOf) {
  const button = make("button", { type: "button", class: "more" });
  const show = () => {
    const start = list.childElementCount;
    list.append(...items.slice(start, start + PAGE).map(entryOf));
    const left = items.length - list.childElementCount;
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
  return button;
}

function cell(value, shown, tag = "td") {
  const element = make(tag, { class: "share" }, shown);
  const share = isNumber(value) ? Math.min(Math.max(value, 0), 1) : 0;
  element.style.setProperty("--share", share.toFixed(4));
  return element;
}
