/** The usage tab: what is asked for, when, and what is shown while it is not there. */

import { get } from "./api.js";
import { byId, el, refill } from "./dom.js";
import { longDay, period } from "./format.js";
import { isEmpty, usagePanels } from "./panels.js";

const state = { days: 30, key: null, turn: 0 };

/** `onRefused()`: the key is not valid; `onPlayground()`: the visitor wants to go there. */
export function usageTab({ onRefused, onPlayground }) {
  const body = byId("usage-body");
  const status = byId("usage-state");
  const scope = byId("scope");
  const periods = [...document.querySelectorAll("[data-days]")];

  async function load() {
    const turn = (state.turn += 1);
    const { from, to } = period(state.days);
    const query = new URLSearchParams({ from, to });
    if (state.key) query.set("key", state.key);
    status.textContent = "Loading…";
    body.setAttribute("aria-busy", "true");
    if (!body.firstChild) refill(body, skeleton());
    try {
      const { body: usage } = await get(`v1/usage?${query}`);
      if (turn !== state.turn) return;
      show(usage);
    } catch (failure) {
      if (turn !== state.turn) return;
      status.textContent = "";
      if (failure.status === 401) onRefused(failure.message);
      else refill(body, problem(failure.message));
    } finally {
      if (turn === state.turn) body.removeAttribute("aria-busy");
    }
  }

  function show(usage) {
    const time = new Date().toISOString().slice(11, 16);
    status.textContent = `${longDay(usage.from)} to ${longDay(usage.to)}, read at ${time} UTC`;
    if (usage.scope === "all") offer(usage.keys ?? []);
    refill(body, usagePanels(usage));
    if (isEmpty(usage)) body.prepend(nothing());
  }

  /** The keys to choose from, as the last answer about all of them had them. */
  function offer(keys) {
    refill(
      scope,
      el("option", { value: "" }, "All keys"),
      keys.map((key) => el("option", { value: key.id }, key.revoked ? `${key.name} (revoked)` : key.name)),
    );
    scope.value = state.key ?? "";
    byId("scope-field").hidden = false;
  }

  const problem = (text) =>
    el(
      "div",
      { class: "notice problem-notice", role: "alert" },
      el("p", {}, el("strong", {}, "Usage could not be read. "), text),
      el("button", { type: "button", onclick: load }, "Try again"),
    );

  const nothing = () =>
    el(
      "div",
      { class: "notice" },
      el("p", {}, el("strong", {}, "Nothing was counted in this period. "), "Requests show up here within a minute."),
      el("button", { type: "button", class: "primary", onclick: onPlayground }, "Embed something"),
    );

  for (const button of periods) {
    button.addEventListener("click", () => {
      state.days = Number(button.dataset.days);
      for (const other of periods) other.setAttribute("aria-pressed", String(other === button));
      load();
    });
  }
  scope.addEventListener("change", () => {
    state.key = scope.value || null;
    load();
  });
  byId("reload").addEventListener("click", load);

  return {
    load,
    clear() {
      state.turn += 1;
      state.key = null;
      body.replaceChildren();
      status.textContent = "";
      scope.replaceChildren();
      byId("scope-field").hidden = true;
    },
  };
}

function skeleton() {
  const blocks = ["wide low", "two-thirds", "third", "half", "half"];
  return el("div", { class: "panels", "aria-hidden": "true" }, blocks.map((b) => el("div", { class: `surface skeleton ${b}` })));
}
