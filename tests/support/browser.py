"""A real headless Chromium, and pages of it that notice what must not happen."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from playwright.sync_api import Browser, Page, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
CHROMIUM = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
"""The environment variable of that name may point to another."""

ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--no-proxy-server",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

WATCH = """
window.__violations = [];
document.addEventListener("securitypolicyviolation", (event) => {
  window.__violations.push(`${event.violatedDirective}: ${event.blockedURI} ${event.sample}`);
});
"""

LAYOUT = """() => {
  const problems = [];
  const name = (node) => {
    const kind = node.getAttribute("class") || node.id || "";
    return `${node.tagName.toLowerCase()}.${kind} "${node.textContent.trim().slice(0, 40)}"`;
  };
  const unseen = (node) => {
    if (!node.checkVisibility({ opacityProperty: true, visibilityProperty: true })) return true;
    for (let at = node; at; at = at.parentElement) if (getComputedStyle(at).clipPath !== "none") return true;
    return false;
  };
  const page = document.documentElement;
  const [needs, has] = [page.scrollWidth, page.clientWidth];
  if (needs > has) problems.push(`the page: ${needs} > ${has}`);
  const all = [...document.body.querySelectorAll("*")].filter((node) => !unseen(node));
  const html = all.filter((node) => node instanceof HTMLElement);
  for (const node of html) {
    const scrolls = /auto|scroll/.test(getComputedStyle(node).overflowX);
    if (node.clientWidth && !scrolls && node.scrollWidth > node.clientWidth + 1)
      problems.push(`cut: ${name(node)} ${node.scrollWidth} > ${node.clientWidth}`);
    const boxes = [...node.children]
      .filter((child) => child instanceof HTMLElement && !unseen(child))
      .filter((child) => !/absolute|fixed/.test(getComputedStyle(child).position))
      .map((child) => [child, child.getBoundingClientRect()])
      .filter(([, box]) => box.width > 0 && box.height > 0);
    boxes.forEach(([one, a], i) => {
      for (const [other, b] of boxes.slice(i + 1)) {
        if (overlap(a, b, 1.5)) problems.push(`overlap: ${name(one)} and ${name(other)}`);
      }
    });
  }
  function overlap(a, b, slack) {
    const wide = Math.min(a.right, b.right) - Math.max(a.left, b.left);
    const high = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
    return wide > slack && high > slack;
  }
  const scrolledAway = (node, box) => {
    for (let at = node.parentElement; at && at !== document.body; at = at.parentElement) {
      if (!/auto|scroll/.test(getComputedStyle(at).overflowY)) continue;
      const shown = at.getBoundingClientRect();
      if (box.bottom > shown.bottom || box.top < shown.top || box.right > shown.right) return true;
    }
    return false;
  };
  const texts = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    const parent = node.parentElement;
    if (!node.data.trim() || unseen(parent) || parent.closest("select, textarea, script")) continue;
    const range = document.createRange();
    range.selectNodeContents(node);
    const frame = parent.closest("svg, .surface, header, main");
    if (!frame) continue;
    const bounds = frame.getBoundingClientRect();
    for (const box of range.getClientRects()) {
      if (box.width < 1 || scrolledAway(parent, box)) continue;
      texts.push([parent, box]);
      if (box.left < bounds.left - 1 || box.right > bounds.right + 1)
        problems.push(`outside its frame: ${name(parent)}`);
      if (frame.matches("svg") && (box.top < bounds.top - 1 || box.bottom > bounds.bottom + 1))
        problems.push(`outside its chart: ${name(parent)}`);
    }
  }
  const header = document.querySelector("header");
  texts.forEach(([one, a], i) => {
    for (const [other, b] of texts.slice(i + 1)) {
      if (header.contains(one) !== header.contains(other)) continue;
      if (overlap(a, b, 1)) problems.push(`texts overlap: ${name(one)} and ${name(other)}`);
    }
  });
  return { problems, texts: texts.length };
}"""


@dataclass
class Watched:
    """A page with the complaints of its console. `expected`: beginnings of those that the test provokes."""

    page: Page
    complaints: list[str] = field(default_factory=list)
    expected: tuple[str, ...] = ()

    def check(self) -> None:
        violations = self.page.evaluate("window.__violations ?? []")
        assert violations == []
        assert [c for c in self.complaints if not c.startswith(self.expected)] == []

    def layout(self) -> list[str]:
        """What overlaps, is cut or makes the page wider than the screen."""
        found: dict[str, Any] = self.page.evaluate(LAYOUT)
        assert found["texts"] > 10
        problems: list[str] = found["problems"]
        return problems


@contextmanager
def chromium() -> Iterator[Browser]:
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def watched(
    browser: Browser, *, width: int = 1280, height: int = 800, dark: bool = False
) -> Iterator[Watched]:
    """A page of a profile of its own. At the end no policy was violated and nothing complained of."""
    context = browser.new_context(
        viewport={"width": width, "height": height}, color_scheme="dark" if dark else "light"
    )
    context.set_default_timeout(10_000)
    try:
        page = context.new_page()
        found = Watched(page)
        page.add_init_script(WATCH)
        page.on(
            "console",
            lambda message: (
                found.complaints.append(message.text) if message.type in ("error", "warning") else None
            ),
        )
        page.on("pageerror", lambda error: found.complaints.append(f"uncaught: {error}"))
        yield found
        found.check()
    finally:
        context.close()
