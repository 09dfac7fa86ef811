/** What one answer of /v1/usage looks like. All text is put in as text. */

import { ask, errorText } from "./api.js";
import { dayChart, meter, spread } from "./charts.js";
import { el, pill, refill, table } from "./dom.js";
import { NONE, count, daysBetween, duration, exact, month, percent, usd } from "./format.js";

const ALARM = 0.8;
const SHOWN = 6;
const KINDS = ["text", "image", "audio", "video", "pdf"];

const sumOf = (tokens) => KINDS.reduce((sum, kind) => sum + (tokens?.[kind] ?? 0), 0);

/** Everything that was paid or may still have to be. */
const spent = (row) => row.usd.settled + row.usd.reserved + row.usd.unknown;

export function usagePanels(usage) {
  const panels = [alarms(usage), cards(usage.total), savings(usage), hitRatio(usage), budgets(usage), tokens(usage.total)];
  if (usage.scope === "all") panels.push(upstreams(usage.upstreams ?? []));
  panels.push(jobs(usage));
  if (usage.scope === "all") panels.push(keys(usage.keys ?? []));
  return el("div", { class: "panels" }, panels);
}

export const isEmpty = (usage) => !usage.total.requests && !usage.total.jobs.submitted && !spent(usage.total);

/** Budgets at 80 % or more (one of nothing is meant to be so), and a deployment that is paused or at its cap. */
function alarms(usage) {
  const found = [];
  const { deployment, budget } = usage;
  if (deployment?.paused) found.push(["over", "Paused: nothing is bought until an operator resumes. Hits are still answered."]);
  if (deployment?.daily_limit_usd) {
    const ratio = share(deployment.today_committed_usd, deployment.daily_limit_usd);
    if (ratio >= ALARM) found.push(told("Today's cap of the deployment", ratio, deployment.today_committed_usd, deployment.daily_limit_usd));
  }
  if (usage.scope === "all") {
    for (const key of usage.keys ?? []) {
      if (!hasBudget(key) || key.revoked) continue;
      if (used(key) >= ALARM) found.push(told(`The budget of ${key.name}`, used(key), key.month_committed_usd, key.budget_usd_per_month));
    }
  } else if (budget && (budget.alarm || share(budget.committed_usd, budget.limit_usd) >= ALARM)) {
    found.push(told("This month's budget", share(budget.committed_usd, budget.limit_usd), budget.committed_usd, budget.limit_usd));
  }
  if (!found.length) return null;
  return el("ul", { class: "alarms wide", "aria-label": "Alarms" }, found.map(([kind, text]) => el("li", { class: `alarm ${kind}` }, text)));
}

const told = (what, ratio, committed, limit) => [
  ratio >= 1 ? "over" : "near",
  `${what} is at ${percent(ratio)}: ${usd(committed)} of ${usd(limit)}.`,
];

function cards(total) {
  const { usd: money } = total;
  const without = spent(total) + money.saved;
  const open = money.reserved + money.unknown;
  const found = total.hits + total.derived + total.collapsed;
  const all = sumOf(total.tokens);
  return el(
    "dl",
    { class: "cards wide" },
    card("Saved", usd(money.saved), without ? `${percent(money.saved / without)} of ${usd(without)}` : "nothing yet", "saved"),
    card("Spent", usd(spent(total)), open ? `${usd(open)} of it not settled` : "all settled", "spent"),
    card("Saved after AWS", usd(money.net_saved), `the cache itself cost ${usd(money.aws)}`),
    card("Hit ratio", percent(total.hit_ratio), `${count(found)} of ${count(total.inputs)} inputs`),
    card("Requests", count(total.requests), `${count(total.inputs)} inputs`),
    card("Tokens", count(all), all ? `${percent(total.cached_tokens / all)} not bought again` : "none"),
  );
}

const card = (label, value, note, kind = "") =>
  el(
    "div",
    { class: `card surface ${kind}` },
    el("dt", {}, label),
    el("dd", {}, el("span", { class: "figure" }, value), el("span", { class: "muted small" }, note)),
  );

const panel = (title, size, ...children) =>
  el("section", { class: `surface panel ${size}`, "aria-label": title }, title ? el("h3", {}, title) : null, children);

/** The values of every day of the period, in its order; what a day without traffic has is `absent`. */
function perDay(usage, value, absent) {
  const rows = new Map(usage.days.map((row) => [row.date, row]));
  return daysBetween(usage.from, usage.to).map((date) => (rows.has(date) ? value(rows.get(date)) : absent));
}

const note = (usage) => `${daysBetween(usage.from, usage.to).length} days`;

function savings(usage) {
  const money = usage.total.usd;
  const series = [
    { name: "settled", label: "Settled", values: perDay(usage, (r) => r.usd.settled, 0), total: usd(money.settled) },
    { name: "open", label: "Not settled", values: perDay(usage, (r) => r.usd.reserved + r.usd.unknown, 0), total: usd(money.reserved + money.unknown) },
    { name: "saved", label: "Saved", values: perDay(usage, (r) => r.usd.saved, 0), total: usd(money.saved) },
  ];
  const chart = dayChart({
    title: "Saved and spent",
    note: note(usage),
    days: daysBetween(usage.from, usage.to),
    kind: "bars",
    format: usd,
    axis: usd,
    series,
  });
  return el("div", { class: "surface panel two-thirds" }, chart, el("p", { class: "muted small" }, "A bar is the bill without the cache; the green part was not paid."));
}

function hitRatio(usage) {
  const { total } = usage;
  const chart = dayChart({
    title: "Hit ratio",
    note: note(usage),
    days: daysBetween(usage.from, usage.to),
    kind: "line",
    max: 1,
    format: (value) => percent(value ?? NaN),
    axis: percent,
    series: [{ name: "ratio", label: "Hits of inputs", values: perDay(usage, (r) => r.hit_ratio, null), total: percent(total.hit_ratio) }],
  });
  const kinds = [
    ["Hits", total.hits],
    ["Cut from more dimensions", total.derived],
    ["Shared with a purchase under way", total.collapsed],
    ["Misses", total.misses],
  ];
  return el(
    "div",
    { class: "surface panel third" },
    chart,
    el("dl", { class: "pairs" }, kinds.map(([name, n]) => el("div", {}, el("dt", {}, name), el("dd", {}, count(n))))),
  );
}

function budgetRow(name, committed, limit, under, extra = null) {
  const ratio = share(committed, limit);
  const text = `${usd(committed)} of ${usd(limit)}`;
  const badge = !limit ? pill("wait", "hits only") : ratio >= 1 ? pill("over", "used up") : ratio >= ALARM ? pill("near", "80% alarm") : null;
  return el(
    "li",
    { class: "budget" },
    el("div", { class: "budget-line" }, el("span", { class: "name" }, name), badge, extra, el("span", { class: "number" }, text)),
    meter(name, ratio, `${percent(ratio)}, ${text}`),
    el("span", { class: "muted small" }, `${percent(ratio)} · ${under}`),
  );
}

function budgets(usage) {
  const rows = [];
  if (usage.deployment) {
    const { today_committed_usd: today, daily_limit_usd: limit, paused } = usage.deployment;
    rows.push(budgetRow("Deployment, today", today, limit, "daily cap", paused ? pill("over", "paused") : null));
  }
  if (usage.scope === "all") {
    const live = (usage.keys ?? []).filter((key) => !key.revoked);
    const limited = live.filter(hasBudget).sort((a, b) => used(b) - used(a));
    rows.push(...limited.slice(0, SHOWN).map((key) => budgetRow(key.name, key.month_committed_usd, key.budget_usd_per_month, "this month")));
    const rest = [];
    if (limited.length > SHOWN) rest.push(`${limited.length - SHOWN} more in the list of keys`);
    const free = live.filter((key) => !hasBudget(key));
    const all = free.reduce((sum, key) => sum + key.month_committed_usd, 0);
    if (free.length) rest.push(`${free.length} ${free.length === 1 ? "key" : "keys"} without a budget: ${usd(all)} this month`);
    if (rest.length) rows.push(el("li", { class: "muted small" }, `${rest.join(", ")}.`));
  } else if (usage.budget) {
    rows.push(budgetRow("This key", usage.budget.committed_usd, usage.budget.limit_usd, month(usage.budget.month)));
  } else {
    rows.push(el("li", { class: "muted" }, "This key has no monthly budget."));
  }
  const limits = [];
  if (usage.scope !== "all") {
    const { requests_per_minute: requests, tokens_per_minute: tokensAMinute } = usage.key;
    if (requests) limits.push(`${exact(requests)} requests a minute`);
    if (tokensAMinute) limits.push(`${exact(tokensAMinute)} tokens a minute`);
  }
  return panel("Spend against budget", "half", el("ul", { class: "budgets" }, rows), limits.length ? el("p", { class: "muted small" }, `Limits: ${limits.join(", ")}.`) : null);
}

const share = (committed, limit) => (limit > 0 ? committed / limit : 0);

const hasBudget = (key) => key.budget_usd_per_month !== null && key.budget_usd_per_month !== undefined;

const used = (key) => share(key.month_committed_usd, key.budget_usd_per_month);

function tokens(total) {
  const all = sumOf(total.tokens);
  const shown = KINDS.filter((kind) => total.tokens?.[kind]).sort((a, b) => total.tokens[b] - total.tokens[a]);
  const rows = shown.map((kind) => {
    const part = total.tokens[kind] / all;
    const name = kind === "pdf" ? "PDF" : kind[0].toUpperCase() + kind.slice(1);
    return el(
      "li",
      { class: "budget" },
      el("div", { class: "budget-line" }, el("span", { class: "name" }, name), el("span", { class: "number" }, `${count(total.tokens[kind])} · ${percent(part)}`)),
      shareBar(name, part),
    );
  });
  return panel("Tokens by modality", "half", rows.length ? el("ul", { class: "budgets" }, rows) : el("p", { class: "muted" }, "None yet."));
}

function shareBar(name, part) {
  const bar = meter(name, part, percent(part));
  bar.classList.replace("near", "fine");
  bar.classList.replace("over", "fine");
  bar.classList.add("plain");
  return bar;
}

/** Percentiles come as the bound of the counter that they lie under. */
const bound = (ms) => (Number.isFinite(ms) ? `≤ ${duration(ms)}` : NONE);

function upstreams(rows) {
  if (!rows.length) return panel("Upstreams", "wide", el("p", { class: "muted" }, "No upstream was called in this period."));
  const max = Math.max(1, ...rows.map((row) => row.p95_ms ?? 0));
  const latency = (row) =>
    row.p95_ms === null || row.p50_ms === null
      ? NONE
      : spread({ p50: row.p50_ms, p95: row.p95_ms, mean: row.mean_ms, max, label: `${row.name}: half under ${duration(row.p50_ms)}, 95% under ${duration(row.p95_ms)}` });
  const bad = (n, calls) => (n ? `${count(n)} (${percent(n / Math.max(1, calls))})` : "0");
  return panel(
    "Upstreams",
    "wide",
    table(
      "Calls, errors and latency of each upstream",
      [
        { label: "Upstream", head: true, value: (r) => r.name },
        { label: "Calls", number: true, value: (r) => count(r.calls) },
        { label: "Errors", number: true, value: (r) => (r.errors ? el("span", { class: "bad" }, bad(r.errors, r.calls)) : "0") },
        { label: "Rate limited", number: true, value: (r) => bad(r.rate_limited, r.calls) },
        { label: "Mean", number: true, value: (r) => duration(r.mean_ms ?? NaN) },
        { label: "p50", number: true, value: (r) => bound(r.p50_ms) },
        { label: "p95", number: true, value: (r) => bound(r.p95_ms) },
        { label: `p50 to p95, of ${duration(max)}`, value: latency, wide: true },
      ],
      rows,
    ),
  );
}

function jobs(usage) {
  const total = usage.total.jobs;
  const facts = [
    ["Submitted", total.submitted, ""],
    ["Completed", total.completed, ""],
    ["Failed", total.failed, total.failed ? "bad" : ""],
  ];
  const queues = usage.scope === "all" ? (usage.queues ?? []) : [];
  return panel(
    "Jobs",
    "wide",
    el(
      "div",
      { class: "jobs" },
      el("dl", { class: "facts" }, facts.map(([name, n, kind]) => el("div", {}, el("dt", {}, name), el("dd", { class: kind }, count(n))))),
      queues.length
        ? table(
            "Messages in each queue",
            [
              { label: "Queue", head: true, value: (q) => q.name },
              { label: "Ready", number: true, value: (q) => count(q.ready) },
              { label: "Delayed", number: true, value: (q) => count(q.delayed) },
              { label: "In flight", number: true, value: (q) => count(q.in_flight) },
              { label: "Dead", number: true, value: (q) => (q.dead ? el("span", { class: "bad" }, count(q.dead)) : count(q.dead)) },
            ],
            queues,
          )
        : null,
      jobLookup(),
    ),
  );
}

/** Where a job of this key stands, and why it failed. */
function jobLookup() {
  const field = el("input", { type: "text", id: "job-id", spellcheck: "false", autocomplete: "off", placeholder: "request id" });
  const answer = el("p", { class: "job-answer", role: "status" });
  async function look(event) {
    event.preventDefault();
    const id = field.value.trim();
    if (!id) return;
    refill(answer, el("span", { class: "muted" }, "Looking…"));
    try {
      const { status, body } = await ask(`v2/requests/${encodeURIComponent(id)}/status`);
      const error = errorText(body);
      const state = typeof body?.status === "string" ? body.status : `HTTP ${status}`;
      const taken = body?.metrics?.total_time;
      refill(
        answer,
        pill(state === "COMPLETED" ? "fine" : error ? "over" : "wait", state),
        error ? el("span", {}, error) : null,
        Number.isFinite(taken) ? el("span", { class: "muted" }, `after ${duration(taken * 1000)}`) : null,
      );
    } catch (failure) {
      refill(answer, el("span", { class: "bad" }, failure.message));
    }
  }
  return el(
    "form",
    { class: "job-lookup", onsubmit: look },
    el("label", { for: "job-id" }, "Look up a job of this key"),
    el("div", { class: "field-row" }, field, el("button", { type: "submit" }, "Look up")),
    answer,
  );
}

function keys(rows) {
  return panel(
    "Keys",
    "wide",
    rows.length
      ? table(
          "Usage of each key in this period",
          [
            { label: "Key", head: true, value: (k) => [k.name, k.revoked ? pill("wait", "revoked") : null] },
            { label: "Requests", number: true, value: (k) => count(k.total.requests) },
            { label: "Inputs", number: true, value: (k) => count(k.total.inputs) },
            { label: "Hit ratio", number: true, value: (k) => percent(k.total.hit_ratio) },
            { label: "Tokens", number: true, value: (k) => count(sumOf(k.total.tokens)) },
            { label: "Spent", number: true, value: (k) => usd(spent(k.total)) },
            { label: "Saved", number: true, value: (k) => usd(k.total.usd.saved) },
            { label: "This month", number: true, value: (k) => usd(k.month_committed_usd) },
            { label: "Budget", number: true, value: (k) => (hasBudget(k) ? usd(k.budget_usd_per_month) : "none") },
          ],
          rows,
        )
      : el("p", { class: "muted" }, "There are no keys."),
  );
}
