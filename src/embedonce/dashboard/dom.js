/** Elements. Strings become text nodes, never markup; no style attribute is ever written. */

const SVG = "http://www.w3.org/2000/svg";

function filled(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : String(value));
  }
  append(node, children);
  return node;
}

function append(node, children) {
  for (const child of children.flat(Infinity)) {
    if (child === null || child === undefined || child === false) continue;
    node.append(child instanceof Node ? child : String(child));
  }
}

/** An HTML element; `onclick` and the like are listeners, null and false are left out. */
export const el = (name, attributes = {}, ...children) =>
  filled(document.createElement(name), attributes, children);

/** The same of SVG. */
export const svg = (name, attributes = {}, ...children) =>
  filled(document.createElementNS(SVG, name), attributes, children);

export function refill(node, ...children) {
  node.replaceChildren();
  append(node, children);
}

export const byId = (id) => document.getElementById(id);

/** Shows `text` in an element that is hidden while it has none. */
export function say(node, text) {
  node.textContent = text || "";
  node.hidden = !text;
}

/** Calls `draw(width)` now and whenever the element's width changes (CSS pixels). */
export function onWidth(node, draw) {
  let last = -1;
  new ResizeObserver(() => {
    const width = Math.floor(node.clientWidth);
    if (width > 0 && width !== last) {
      last = width;
      draw(width);
    }
  }).observe(node);
}

/** `columns`: {label, value(row) → text or node, number?, head?, wide?}. On a narrow page each row of a table
 * that `stacks` becomes a block whose cells carry their column's label. */
export function table(caption, columns, rows, { stacks = true } = {}) {
  const kind = (column) => [column.number && "number", column.wide && "wide-cell"].filter(Boolean).join(" ") || null;
  return el(
    "table",
    { class: stacks ? "rows stacks" : "rows" },
    el("caption", { class: "unseen" }, caption),
    el("thead", {}, el("tr", {}, columns.map((c) => el("th", { scope: "col", class: kind(c) }, c.label)))),
    el(
      "tbody",
      {},
      rows.map((row) =>
        el(
          "tr",
          {},
          columns.map((c) =>
            el(
              c.head ? "th" : "td",
              { class: kind(c), scope: c.head ? "row" : null, "data-label": c.label },
              el("span", { class: "cell" }, c.value(row)),
            ),
          ),
        ),
      ),
    ),
  );
}

export const pill = (kind, text) => el("span", { class: `pill ${kind}` }, text);
