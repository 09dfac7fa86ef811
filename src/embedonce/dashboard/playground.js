/** The playground: every input is one request, so that each answer says of one input whether it was a hit. */

import { ApiError, get } from "./api.js";
import { byId, el, pill, refill, say, table } from "./dom.js";
import { NONE, duration, exact, size, usd } from "./format.js";
import { heatmap } from "./heatmap.js";
import { fromBase64 } from "./vectors.js";

const AT_ONCE = 4;
const MOST = 100;
const MOST_TRIES = 4;
const TYPES = /^(image\/(png|jpeg)|application\/pdf|audio\/(mpeg|mp3|(x-|vnd\.)?wave?)|video\/(mp4|quicktime))$/;
const NAMES = /\.(png|jpe?g|pdf|mp3|wav|mp4|mov)$/i;
const JOB_PATIENCE_MS = 15 * 60_000;

const state = { files: [], run: null };

/** Waits, unless the run is stopped. */
const pause = (ms, signal) =>
  new Promise((resolve, reject) => {
    const stopped = () => {
      clearTimeout(timer);
      reject(signal.reason);
    };
    const timer = setTimeout(() => {
      signal.removeEventListener("abort", stopped);
      resolve();
    }, ms);
    signal.addEventListener("abort", stopped, { once: true });
  });

const dataUrl = (file) =>
  new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.onerror = () => reject(new ApiError(`${file.name} cannot be read.`, 0));
    reader.readAsDataURL(file);
  });

/** Why a file cannot be an input; null: it may be one. */
function problemOf(file) {
  if (!file.size) return "is empty";
  return TYPES.test(file.type) || NAMES.test(file.name) ? null : "is of a kind that cannot be embedded here";
}

/** What goes into `input` for it. */
async function content(input) {
  if (input.file === null) return input.label;
  const data = await dataUrl(input.file);
  const part = input.file.type.startsWith("image/")
    ? { type: "image_url", image_url: { url: data } }
    : { type: "input_file", input_file: { data } };
  return { content: [part] };
}

/** What the headers say of one input. */
function provenance(headers) {
  const status = headers.get("Cache-Status") ?? "";
  const hit = headers.get("X-Cache") === "HIT";
  const kind = !hit ? "Miss" : /derived=[1-9]/.test(status) ? "Hit, cut to size" : /collapsed/.test(status) ? "Hit, shared" : "Hit";
  return {
    hit,
    kind,
    stored: hit || !status.includes("stored=?0"),
    cost: Number(headers.get("X-Cost-USD") ?? NaN),
    saved: Number(headers.get("X-Cost-Saved-USD") ?? NaN),
    upstream: headers.get("X-Embedonce-Upstream") ?? "",
    madeUp: headers.get("X-Embedonce-Made-Up") ?? "",
  };
}

/** Asks until there is an answer: a 504 that names a job means that the work goes on. */
async function embedOne(input, options, signal, changed) {
  const began = performance.now();
  const body = { model: options.model, input: [await content(input)], encoding_format: "base64" };
  if (options.dimensions) body.dimensions = options.dimensions;
  for (let tries = 1; ; tries += 1) {
    try {
      const answer = await get("v1/embeddings", { method: "POST", body, signal });
      const elapsed = performance.now() - began;
      const { data, usage } = answer.body;
      return { ...provenance(answer.headers), elapsed, tokens: usage.total_tokens, vector: fromBase64(data[0].embedding) };
    } catch (failure) {
      if (signal.aborted || !(failure instanceof ApiError) || failure.retryAfter === null) throw failure;
      const working = failure.status === 504 && failure.jobs.length > 0;
      if (working ? performance.now() - began > JOB_PATIENCE_MS : tries >= MOST_TRIES) throw failure;
      changed({ state: "waiting", text: working ? `Being worked on, ${duration(performance.now() - began)} so far` : `Trying again: ${failure.message}` });
      await pause(failure.retryAfter * 1000, signal);
      changed({ state: "asked" });
    }
  }
}

export function playground({ onRefused }) {
  const form = byId("playground");
  const texts = byId("texts");
  const chooser = byId("files");
  const drop = byId("drop");
  const error = byId("playground-error");
  const results = byId("results");

  function add(files) {
    for (const file of files) {
      const problem = problemOf(file);
      const shown = !problem && /^image\/(png|jpeg)$/.test(file.type);
      state.files.push({ file, problem, picture: shown ? URL.createObjectURL(file) : null });
    }
    showFiles();
  }

  function remove(chosen) {
    state.files = state.files.filter((other) => other !== chosen);
    showFiles();
    (byId("chosen").querySelector("button") ?? chooser).focus();
  }

  function showFiles() {
    refill(
      byId("chosen"),
      state.files.map((chosen) =>
        el(
          "li",
          {},
          thumbnail(chosen),
          el("span", { class: "file-name" }, chosen.file.name),
          chosen.problem
            ? el("span", { class: "bad small", role: "alert" }, chosen.problem)
            : el("span", { class: "muted small" }, size(chosen.file.size)),
          el("button", { type: "button", class: "quiet", "aria-label": `Remove ${chosen.file.name}`, onclick: () => remove(chosen) }, "Remove"),
        ),
      ),
    );
  }

  /** @throws {Error} naming what is wrong */
  function inputs() {
    const lines = texts.value.split(/\r?\n/).map((line) => line.trim()).filter(Boolean);
    const all = [
      ...lines.map((label) => ({ label, file: null, picture: null })),
      ...state.files.filter(({ problem }) => !problem).map(({ file, picture }) => ({ label: file.name, file, picture })),
    ];
    if (!all.length) throw new Error("Write a text or choose a file first.");
    if (all.length > MOST) throw new Error(`At most ${MOST} inputs at once; there are ${all.length}.`);
    return all.map((input, i) => ({ ...input, number: i + 1, state: "queued", text: "", done: null }));
  }

  async function run() {
    say(error, "");
    let rows;
    try {
      rows = inputs();
      if (!byId("model").value) throw new Error("There is no model to choose.");
    } catch (problem) {
      say(error, problem.message);
      return;
    }
    state.run?.abort();
    const control = new AbortController();
    state.run = control;
    const options = { model: byId("model").value, dimensions: Number(byId("dimensions").value) || null };
    busy(true);
    const show = (over = false) => state.run === control && render(results, rows, over, control.signal.aborted);
    show();
    const queue = [...rows];
    async function work() {
      for (let row = queue.shift(); row && !control.signal.aborted; row = queue.shift()) {
        const changed = (change) => {
          Object.assign(row, change);
          show();
        };
        changed({ state: "asked" });
        try {
          changed({ state: "done", done: await embedOne(row, options, control.signal, changed) });
        } catch (failure) {
          if (control.signal.aborted) changed({ state: "stopped", text: "" });
          else changed({ state: "failed", text: failure.message });
          if (failure.status === 401) onRefused(failure.message);
        }
      }
    }
    await Promise.all(Array.from({ length: AT_ONCE }, work));
    for (const row of rows) if (row.state === "queued") row.state = "stopped";
    show(true);
    if (state.run === control) busy(false);
  }

  function busy(now) {
    results.setAttribute("aria-busy", String(now));
    byId("stop").hidden = !now;
    byId("embed").disabled = now;
  }

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    run();
  });
  texts.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
  });
  byId("stop").addEventListener("click", () => state.run?.abort());
  byId("clear").addEventListener("click", () => {
    clear();
    texts.focus();
  });
  chooser.addEventListener("change", () => {
    add(chooser.files);
    chooser.value = "";
  });
  for (const kind of ["dragenter", "dragover"]) {
    form.addEventListener(kind, (event) => {
      if (![...event.dataTransfer.types].includes("Files")) return;
      event.preventDefault();
      drop.classList.add("over");
    });
  }
  form.addEventListener("dragleave", (event) => {
    if (!form.contains(event.relatedTarget)) drop.classList.remove("over");
  });
  form.addEventListener("drop", (event) => {
    drop.classList.remove("over");
    if (!event.dataTransfer.files.length) return;
    event.preventDefault();
    add(event.dataTransfer.files);
  });

  function clear() {
    state.run?.abort();
    state.run = null;
    busy(false);
    for (const { picture } of state.files) if (picture) URL.revokeObjectURL(picture);
    state.files = [];
    texts.value = "";
    say(error, "");
    showFiles();
    results.replaceChildren();
  }

  return {
    clear,
    async load() {
      const model = byId("model");
      if (model.options.length) return;
      try {
        const { body } = await get("v1/models");
        refill(model, body.data.map(({ id }) => el("option", { value: id }, id)));
      } catch (failure) {
        if (failure.status === 401) onRefused(failure.message);
        else say(error, `The models could not be read: ${failure.message}`);
      }
    },
  };
}

const thumbnail = ({ picture, file }) =>
  picture
    ? el("img", { class: "thumbnail", src: picture, alt: "", width: 28, height: 28 })
    : file
      ? el("span", { class: "thumbnail kind", "aria-hidden": "true" }, (file.name.split(".").pop() || "file").slice(0, 4).toUpperCase())
      : null;

const STATES = {
  queued: () => pill("wait", "Waiting"),
  asked: () => pill("wait busy", "Embedding…"),
  waiting: (row) => [pill("wait busy", "In progress"), el("span", { class: "muted small" }, row.text)],
  stopped: () => pill("wait", "Stopped"),
  failed: (row) => [pill("over", "Failed"), el("span", { class: "small" }, row.text)],
  done: ({ done }) => [
    pill(done.hit ? "fine" : "miss", done.kind),
    done.madeUp ? pill("near", "made up") : null,
    done.stored ? null : pill("wait", "not stored"),
  ],
};

/** `over`: no answer is still to come, so that the pairs can be compared. */
function render(host, rows, over, stopped) {
  const done = rows.filter((row) => row.done);
  const told = (value, form) => (row) => (row.done ? form(value(row.done)) : NONE);
  const list = table(
    "Answer for each input",
    [
      { label: "Input", head: true, value: (row) => el("span", { class: "input-name" }, el("span", { class: "ordinal" }, row.number), thumbnail(row), el("span", { class: "input-text" }, row.label)) },
      { label: "Cache", wide: true, value: (row) => el("span", { class: "outcome" }, STATES[row.state](row)) },
      { label: "Cost", number: true, value: told((d) => d.cost, usd) },
      { label: "Saved", number: true, value: told((d) => d.saved, usd) },
      { label: "Tokens", number: true, value: told((d) => d.tokens, exact) },
      { label: "Time", number: true, value: told((d) => d.elapsed, duration) },
    ],
    rows,
  );
  const madeUp = done.some((row) => row.done.madeUp);
  refill(
    host,
    el(
      "section",
      { class: "surface panel answers", "aria-label": "Answers" },
      el("h3", {}, "Answers"),
      el("p", { class: "summary", role: "status" }, summary(rows, done, stopped)),
      madeUp ? el("p", { class: "alarm near" }, "Some vectors are made up: no model here can embed that kind of input, so their similarities mean nothing.") : null,
      list,
    ),
    over && done.length > 1 ? heatmap(done.map((row) => ({ ...row, vector: row.done.vector }))) : waiting(over),
  );
}

const waiting = (over) =>
  el(
    "section",
    { class: "surface panel heat", "aria-label": "Similarity" },
    el("h3", {}, "Cosine similarity"),
    el("p", { class: "muted" }, over ? "With two embedded inputs or more, every pair is compared here." : "Every pair is compared here when all inputs are embedded."),
  );

function summary(rows, done, stopped) {
  const sum = (value) => done.reduce((total, row) => total + (Number.isFinite(value(row.done)) ? value(row.done) : 0), 0);
  const hits = done.filter((row) => row.done.hit).length;
  const failed = rows.filter((row) => row.state === "failed").length;
  const facts = [
    `${done.length} of ${rows.length} embedded`,
    `${hits} ${hits === 1 ? "hit" : "hits"}`,
    `${done.length - hits} ${done.length - hits === 1 ? "miss" : "misses"}`,
    `paid ${usd(sum((d) => d.cost))}`,
    `saved ${usd(sum((d) => d.saved))}`,
  ];
  if (done.length) facts.push(`${exact(done[0].done.vector.length)} dimensions`);
  if (done.length) facts.push(`by ${[...new Set(done.map((row) => row.done.upstream))].filter(Boolean).join(", ") || "an unnamed upstream"}`);
  if (failed) facts.push(`${failed} failed`);
  if (stopped) facts.push("stopped");
  return facts.join(" · ");
}
