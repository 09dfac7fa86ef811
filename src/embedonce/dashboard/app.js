/** Ties the page together: the key, the tabs, the theme. Nothing is written to the browser's storage. */

import { setKey, wellFormed } from "./api.js";
import { byId, say } from "./dom.js";
import { playground } from "./playground.js";
import { usageTab } from "./usage.js";

const THEMES = ["auto", "light", "dark"];
const TABS = ["usage", "playground"];
const tablist = document.querySelector("[role=tablist]");

function refused(message) {
  forget();
  say(byId("key-error"), message);
}

const usage = usageTab({ onRefused: refused, onPlayground: () => open("playground", "panel") });
const play = playground({ onRefused: refused });

/** `focus`: what of it is focused then, its `tab`, its `panel` or neither. */
function open(name, focus = null) {
  for (const other of TABS) {
    const tab = byId(`tab-${other}`);
    const chosen = other === name;
    tab.setAttribute("aria-selected", String(chosen));
    tab.tabIndex = chosen ? 0 : -1;
    byId(`panel-${other}`).hidden = !chosen;
    if (chosen && focus) byId(`${focus}-${other}`).focus();
  }
  if (name === "usage") usage.load();
  else play.load();
}

function forget() {
  setKey(null);
  byId("key").value = "";
  usage.clear();
  play.clear();
  byId("model").replaceChildren();
  for (const name of TABS) byId(`panel-${name}`).hidden = true;
  tablist.hidden = true;
  byId("forget").hidden = true;
  byId("sign-in").hidden = false;
  say(byId("key-error"), "");
  byId("key").focus();
}

byId("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const key = byId("key").value.trim();
  byId("key").value = "";
  if (!wellFormed(key)) {
    say(byId("key-error"), "That is no key: it has characters that no key has.");
    return;
  }
  setKey(key);
  say(byId("key-error"), "");
  byId("sign-in").hidden = true;
  tablist.hidden = false;
  byId("forget").hidden = false;
  open(location.hash === "#playground" ? "playground" : "usage", "panel");
});

byId("forget").addEventListener("click", forget);

for (const name of TABS) byId(`tab-${name}`).addEventListener("click", () => open(name));
tablist.addEventListener("keydown", (event) => {
  if (event.key !== "ArrowLeft" && event.key !== "ArrowRight") return;
  event.preventDefault();
  open(TABS.find((name) => byId(`tab-${name}`).getAttribute("aria-selected") !== "true"), "tab");
});

byId("theme").addEventListener("click", () => {
  const { dataset } = document.documentElement;
  const next = THEMES[(THEMES.indexOf(dataset.theme ?? "auto") + 1) % THEMES.length];
  dataset.theme = next;
  byId("theme-name").textContent = next;
});

byId("key").focus();
