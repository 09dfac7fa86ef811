/** The cosine similarity of every pair, as a grid of SVG cells. */

import { el, onWidth, svg, table } from "./dom.js";
import { cosineText } from "./format.js";
import { similarities } from "./vectors.js";

const STEPS = 8;
const LARGEST = 64;
const SMALLEST = 12;
const VALUE_FROM = 34;
const ROOMY = 46;
const HEAD = 22;
const PICTURE = 24;
const GAP = 16;

/** `items`: {label, vector, picture: blob URL or null, number}. */
export function heatmap(items) {
  const values = similarities(items.map((item) => item.vector));
  const apart = values.flatMap((row, i) => row.filter((_, j) => j !== i));
  const low = Math.min(1, ...apart);
  const readout = el("p", { class: "readout", role: "status" }, "Point at a cell, or use the arrow keys, to read a pair.");
  const grid = el("div", { class: "grid", tabindex: "0", role: "group", "aria-label": "Similarity of each pair; arrow keys move" });
  const state = { at: null, place: () => {} };

  function pick(row, column) {
    state.at = [row, column];
    const [one, other] = [items[row], items[column]];
    readout.textContent = `${cosineText(values[row][column], 3)} between ${one.number} “${brief(one.label)}” and ${other.number} “${brief(other.label)}”`;
    state.place(row, column);
  }

  grid.addEventListener("keydown", (event) => {
    const moves = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
    const move = moves[event.key];
    if (!move) return;
    event.preventDefault();
    const last = items.length - 1;
    const [row, column] = state.at ?? [-move[0], -move[1]];
    const clamp = (n) => Math.min(last, Math.max(0, n));
    pick(clamp(row + move[0]), clamp(column + move[1]));
  });

  onWidth(grid, (width) => {
    draw(grid, items, values, low, width, pick, state);
    if (state.at) state.place(...state.at);
  });

  const columns = [
    { label: "Input", head: true, value: (i) => `${items[i].number} ${brief(items[i].label)}` },
    ...items.map((item, j) => ({ label: String(item.number), number: true, value: (i) => cosineText(values[i][j], 3) })),
  ];
  return el(
    "section",
    { class: "surface panel heat", "aria-label": "Similarity" },
    el(
      "div",
      { class: "heat-head" },
      el("h3", {}, "Cosine similarity"),
      el("div", { class: "scale" }, el("span", {}, cosineText(low)), ramp(), el("span", {}, "1.00")),
    ),
    readout,
    grid,
    items.length <= 12 ? el("details", {}, el("summary", {}, "As a table"), el("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": "Similarity table" }, table("Cosine similarity of each pair", columns, items.map((_, i) => i), { stacks: false }))) : null,
  );
}

const brief = (text) => (text.length > 36 ? `${text.slice(0, 35)}…` : text);

function ramp() {
  const steps = Array.from({ length: STEPS }, (_, i) => svg("rect", { class: `h${i}`, x: i * 12, width: 12, height: 10 }));
  return svg("svg", { class: "ramp", width: STEPS * 12, height: 10, "aria-hidden": "true" }, steps);
}

function stepOf(value, low) {
  if (value >= 1 || low >= 1) return STEPS - 1;
  return Math.min(STEPS - 1, Math.max(0, Math.floor(((value - low) / (1 - low)) * STEPS)));
}

function draw(host, items, values, low, width, pick, state) {
  const n = items.length;
  const labels = Math.min(240, Math.max(80, Math.floor(width * (width < 480 || n > 12 ? 0.28 : 0.34))));
  const cell = Math.max(SMALLEST, Math.min(LARGEST, Math.floor((width - labels - 2) / n)));
  const height = HEAD + cell * n + 2;
  const drawing = svg("svg", {
    width: labels + cell * n + 2,
    height,
    role: "img",
    "aria-label": `Similarity of ${n} inputs, from ${cosineText(low)} to 1`,
  });
  host.replaceChildren(drawing);
  const inset = cell >= 22 ? 1 : 0.5;
  const [everyRow, everyColumn] = [Math.ceil(14 / cell), Math.ceil(20 / cell)];
  items.forEach((item, i) => {
    const middle = HEAD + cell * (i + 0.5) + 4;
    if (i % everyColumn === 0) {
      drawing.append(svg("text", { class: "tick", x: labels + cell * (i + 0.5), y: 15, "text-anchor": "middle" }, item.number));
    }
    if (i % everyRow === 0) {
      const pictured = item.picture && cell > PICTURE && labels > 5 * PICTURE;
      const from = pictured ? 2 * GAP + PICTURE : 0;
      const name = svg("text", { class: "row-label", x: from, y: middle });
      drawing.append(name);
      if (pictured) {
        drawing.append(
          svg("text", { class: "row-label", x: 0, y: middle }, item.number),
          svg("image", { href: item.picture, x: GAP, y: middle - 16, width: PICTURE, height: PICTURE, preserveAspectRatio: "xMidYMid slice" }),
        );
        fit(name, item.label, labels - from - 10);
      } else fit(name, `${item.number}  ${item.label}`, labels - 10);
    }
    values[i].forEach((value, j) => {
      const x = labels + cell * j;
      const y = HEAD + cell * i;
      const step = stepOf(value, low);
      const mark = svg("rect", {
        class: `heat-cell h${step}`,
        x: x + inset,
        y: y + inset,
        width: cell - 2 * inset,
        height: cell - 2 * inset,
        rx: cell >= 22 ? 3 : 0,
        "data-row": i,
        "data-column": j,
        "data-value": value.toFixed(6),
      });
      mark.addEventListener("pointerenter", () => pick(i, j));
      drawing.append(mark);
      if (cell >= VALUE_FROM) {
        drawing.append(svg("text", { class: `heat-value t${step}${cell < ROOMY ? " tight" : ""}`, x: x + cell / 2, y: y + cell / 2 + 4, "text-anchor": "middle" }, cosineText(value)));
      }
    });
  });
  const ring = svg("rect", { class: "ring", width: cell - 1, height: cell - 1, rx: 3, visibility: "hidden" });
  drawing.append(ring);
  state.place = (row, column) => {
    ring.setAttribute("x", labels + cell * column + 0.5);
    ring.setAttribute("y", HEAD + cell * row + 0.5);
    ring.setAttribute("visibility", "visible");
  };
}

/** As much of the text as fits, with an ellipsis where some is left out. */
function fit(node, text, space) {
  node.textContent = text;
  if (node.getComputedTextLength() <= space) return;
  let [good, bad] = [0, text.length];
  while (bad - good > 1) {
    const middle = (good + bad) >> 1;
    node.textContent = `${text.slice(0, middle).trimEnd()}…`;
    if (node.getComputedTextLength() <= space) good = middle;
    else bad = middle;
  }
  node.textContent = `${text.slice(0, good).trimEnd()}…`;
}
