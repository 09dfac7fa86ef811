/** Charts over days, as SVG drawn to the pixels there are: the text keeps its size on every screen. */

import { el, onWidth, svg, table } from "./dom.js";
import { longDay, shortDay } from "./format.js";

const TOP = 10;
const BOTTOM = 26;
const CHARACTER = 6.6;
const LABEL_SPACE = 64;

/** Round steps that reach `max` in three to five ticks. */
export function ticks(max) {
  if (!(max > 0)) return [0, 1];
  const rough = max / 4;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((m) => m * power).find((s) => s >= rough * 0.999);
  const found = [];
  for (let i = 0; i * step < max + step * 0.999; i += 1) found.push(Number((i * step).toPrecision(12)));
  return found;
}

/**
 * spec: {title, note, days: [iso], kind: "bars" | "line", max, format(number), axis(number),
 *   series: [{name, label, values: [number | null], total, quiet}]}
 * `name` is a CSS class; `total` is what the legend shows while no day is picked; a `quiet` series is only in
 * the legend and the table.
 */
export function dayChart(spec) {
  const { days, series, format } = spec;
  const drawn = series.filter((s) => !s.quiet);
  const state = { picked: null, place: null };
  const when = el("span", { class: "when" });
  const values = series.map(() => el("span", { class: "value" }));
  const legend = el(
    "ul",
    { class: "legend" },
    series.map((s, i) =>
      el("li", {}, el("span", { class: `swatch ${s.name}`, "aria-hidden": "true" }), el("span", {}, s.label), values[i]),
    ),
  );
  const plot = el("div", {
    class: "plot",
    tabindex: "0",
    role: "slider",
    "aria-label": `${spec.title}: day`,
    "aria-valuemin": "1",
    "aria-valuemax": days.length,
    "aria-valuenow": days.length,
  });

  const said = (day) =>
    `${longDay(days[day])}: ${series.map((s) => `${s.label} ${format(s.values[day])}`).join(", ")}`;

  function pick(day) {
    state.picked = day;
    when.textContent = day === null ? spec.note : longDay(days[day]);
    series.forEach((s, i) => {
      values[i].textContent = day === null ? s.total : format(s.values[day]);
    });
    plot.setAttribute("aria-valuenow", (day ?? days.length - 1) + 1);
    plot.setAttribute("aria-valuetext", day === null ? spec.note : said(day));
    state.place?.(day);
  }

  plot.addEventListener("pointermove", (event) => {
    const box = plot.getBoundingClientRect();
    const day = Math.floor((event.clientX - box.left - state.left) / state.band);
    pick(Math.min(days.length - 1, Math.max(0, day)));
  });
  plot.addEventListener("pointerleave", () => pick(null));
  plot.addEventListener("blur", () => pick(null));
  plot.addEventListener("keydown", (event) => {
    const last = days.length - 1;
    const now = state.picked;
    const to = {
      ArrowLeft: now === null ? last : Math.max(0, now - 1),
      ArrowRight: now === null ? last : Math.min(last, now + 1),
      Home: 0,
      End: last,
      Escape: null,
    };
    if (!(event.key in to)) return;
    event.preventDefault();
    pick(to[event.key]);
  });

  onWidth(plot, (width) => {
    const drawing = draw(spec, drawn, { width, height: plot.clientHeight }, state);
    plot.replaceChildren(drawing);
    pick(state.picked);
  });
  pick(null);

  const listed = days.map((_, i) => days.length - 1 - i).filter((d) => series.some((s) => s.values[d]));
  const columns = [
    { label: "Day", head: true, value: (d) => shortDay(days[d]) },
    ...series.map((s) => ({ label: s.label, number: true, value: (d) => format(s.values[d]) })),
  ];
  return el(
    "figure",
    { class: "chart" },
    el("figcaption", {}, el("h3", {}, spec.title), when),
    legend,
    plot,
    el("details", {}, el("summary", {}, "As a table"), table(spec.title, columns, listed, { stacks: false })),
  );
}

function draw(spec, drawn, { width, height }, state) {
  const { days } = spec;
  const sums = days.map((_, d) => drawn.reduce((sum, s) => sum + Math.max(0, s.values[d] ?? 0), 0));
  const steps = spec.max ? ticks(spec.max).filter((t) => t <= spec.max) : ticks(Math.max(...sums));
  const top = spec.max ?? steps.at(-1);
  const names = steps.map((t) => spec.axis(t));
  const left = Math.ceil(Math.max(...names.map((n) => n.length)) * CHARACTER) + 12;
  const inner = { width: width - left - 4, height: height - TOP - BOTTOM };
  const band = inner.width / days.length;
  const y = (value) => TOP + inner.height * (1 - value / top);
  const middle = (day) => left + band * (day + 0.5);
  Object.assign(state, { left, band });

  const picked = svg("rect", { class: "picked", x: 0, y: TOP, width: Math.max(2, band), height: inner.height });
  picked.setAttribute("visibility", "hidden");
  state.place = (day) => {
    picked.setAttribute("visibility", day === null ? "hidden" : "visible");
    if (day !== null) picked.setAttribute("x", left + band * day);
  };
  const node = svg(
    "svg",
    { viewBox: `0 0 ${width} ${height}`, width, height, role: "img", "aria-label": `${spec.title}, ${spec.note}` },
    steps.map((t, i) => [
      svg("line", { class: t === 0 ? "base" : "rule", x1: left, x2: width - 4, y1: y(t), y2: y(t) }),
      svg("text", { class: "tick", x: left - 8, y: y(t) + 4, "text-anchor": "end" }, names[i]),
    ]),
    picked,
    spec.kind === "line" ? line(drawn[0], middle, y, band) : bars(drawn, days, middle, y, band),
    dayLabels(days, middle, width, inner.width, height - 6),
  );
  return node;
}

function bars(drawn, days, middle, y, band) {
  const wide = Math.max(1, Math.min(28, band * 0.72));
  return days.map((_, day) => {
    let below = 0;
    return drawn.map((s) => {
      const value = Math.max(0, s.values[day] ?? 0);
      if (!value) return null;
      const bar = svg("rect", {
        class: `bar ${s.name}`,
        x: middle(day) - wide / 2,
        y: y(below + value),
        width: wide,
        height: Math.max(0.75, y(below) - y(below + value)),
      });
      below += value;
      return bar;
    });
  });
}

/** With gaps where a day has no value, and a dot where one stands alone. */
function line(series, middle, y, band) {
  const runs = [];
  series.values.forEach((value, day) => {
    if (value === null) return;
    if (day > 0 && series.values[day - 1] !== null && runs.length) runs.at(-1).push(day);
    else runs.push([day]);
  });
  const at = (day) => `${middle(day).toFixed(1)} ${y(series.values[day]).toFixed(1)}`;
  const drawn = runs.map((run) => {
    if (run.length === 1) return svg("circle", { class: `dot ${series.name}`, cx: middle(run[0]), cy: y(series.values[run[0]]), r: 3 });
    const path = `M${run.map(at).join("L")}`;
    const ends = [middle(run[0]).toFixed(1), middle(run.at(-1)).toFixed(1)];
    return [
      svg("path", { class: `area ${series.name}`, d: `${path}L${ends[1]} ${y(0)}L${ends[0]} ${y(0)}Z` }),
      svg("path", { class: `line ${series.name}`, d: path }),
      band > 16 ? run.map((day) => svg("circle", { class: `dot ${series.name}`, cx: middle(day), cy: y(series.values[day]), r: 2.5 })) : null,
    ];
  });
  return drawn;
}

function dayLabels(days, middle, width, space, y) {
  const step = Math.max(1, Math.ceil((days.length * LABEL_SPACE) / space));
  const labels = [];
  for (let day = days.length - 1; day >= 0; day -= step) {
    const x = Math.min(middle(day), width - 22);
    if (x > 22) labels.push(svg("text", { class: "tick", x, y, "text-anchor": "middle" }, shortDay(days[day])));
  }
  return labels;
}

/** A bar that is `ratio` full, with a mark at the alarm's 80 %. */
export function meter(label, ratio, text) {
  const full = Math.min(1, Math.max(0, ratio));
  const kind = ratio >= 1 ? "over" : ratio >= 0.8 ? "near" : "fine";
  return svg(
    "svg",
    {
      class: `meter ${kind}`,
      height: 10,
      role: "meter",
      "aria-label": label,
      "aria-valuemin": 0,
      "aria-valuemax": 100,
      "aria-valuenow": Math.round(full * 100),
      "aria-valuetext": text,
    },
    svg("rect", { class: "track", width: "100%", height: 10, rx: 3 }),
    svg("rect", { class: "fill", width: `${(full * 100).toFixed(2)}%`, height: 10, rx: 3 }),
    svg("rect", { class: "mark", x: "80%", width: 1.5, height: 10 }),
  );
}

/** From p50 to p95 on a scale that ends at `max`, with a dot at the mean. */
export function spread({ p50, p95, mean, max, label }) {
  const x = (ms) => `${((Math.min(ms, max) / max) * 96 + 2).toFixed(2)}%`;
  const wide = `${(((Math.min(p95, max) - Math.min(p50, max)) / max) * 96).toFixed(2)}%`;
  return svg(
    "svg",
    { class: "spread", height: 14, role: "img", "aria-label": label },
    svg("rect", { class: "track", x: 0, y: 6, width: "100%", height: 2, rx: 1 }),
    svg("rect", { class: "range", x: x(p50), y: 4, width: wide, height: 6, rx: 3 }),
    svg("circle", { class: "mean", cx: x(mean), cy: 7, r: 4 }),
  );
}
