"""The dashboard and its playground in a real browser, against the local server."""

from __future__ import annotations

import base64
import http.client
import http.server
import json
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlparse

import pytest

pytest.importorskip("playwright", reason="the browser's driver is of the development environment")

from playwright.sync_api import Browser, Page, Request, Route, expect

from support.browser import CHROMIUM, chromium, watched
from support.media import pdf, png
from support.process import ServerProcess, provider, server
from support.usageanswer import empty_answer, own_answer, usage_answer

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium; name one in the variable CHROMIUM")

PHONE, DESKTOP = (390, 844), (1440, 900)
HOSTILE = (
    "<img src=x onerror=\"window.owned='name'\">",
    "</td></table><script>window.owned='script'</script>",
    "a-key-with-a-very-long-name-" + "that-goes-on-and-on-" * 6,
    "<svg/onload=window.owned=1> & «émbed» \u202e",
)
MODEL = "google/gemini-embedding-2"
TEXTS = ["The cat sleeps on the sofa", "A kitten naps on the couch", "Interest rates rose again"]


@pytest.fixture(scope="module")
def offline(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """Without any provider's key: the offline model answers."""
    with server(tmp_path_factory.mktemp("dashboard") / "data") as running:
        yield running


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as running:
        yield running


DRAWN = """width => innerWidth === width && [...document.querySelectorAll(".plot")].every(
  (plot) => Number(plot.querySelector("svg")?.getAttribute("width")) === plot.clientWidth)"""

Make = Callable[[str, str], dict[str, Any]]


def answered_by(page: Page, make: Make) -> list[dict[str, str]]:
    """Lets `make(from, to)` answer /v1/usage; the queries that were asked, as they come."""
    asked: list[dict[str, str]] = []

    def answer(route: Route) -> None:
        query = {name: values[0] for name, values in parse_qs(urlparse(route.request.url).query).items()}
        asked.append(query)
        route.fulfill(json=make(query["from"], query["to"]))

    page.route("**/v1/usage?*", answer)
    return asked


def hostile(first: str, last: str) -> dict[str, Any]:
    found = usage_answer(first, last, names=HOSTILE)
    found["upstreams"][0]["name"] = HOSTILE[0]
    found["queues"][0]["name"] = HOSTILE[1]
    return found


def sign_in(page: Page, running: ServerProcess, *, tab: str = "usage", key: str | None = None) -> None:
    page.goto(f"{running.url}/dashboard#{tab}")
    page.get_by_label("API key").fill(key or running.key)
    page.get_by_role("button", name="Open").click()


def embed(page: Page, texts: list[str]) -> None:
    page.get_by_label("Texts, one a line").fill("\n".join(texts))
    page.get_by_role("button", name="Embed", exact=True).click()
    expect(page.locator("#results")).to_have_attribute("aria-busy", "false")


def outcomes(page: Page) -> list[str]:
    return page.locator(".outcome").all_inner_texts()


@pytest.mark.parametrize("size", [PHONE, DESKTOP], ids=["phone", "desktop"])
def test_nothing_overlaps_and_no_text_is_cut(
    browser: Browser, offline: ServerProcess, size: tuple[int, int]
) -> None:
    with watched(browser, width=size[0], height=size[1], dark=True) as seen:
        page = seen.page
        answered_by(page, hostile)
        sign_in(page, offline)
        page.wait_for_selector(".cards")
        assert max(background(page)) < 60
        assert seen.layout() == []
        page.emulate_media(color_scheme="light")
        assert min(background(page)) > 200
        page.get_by_role("button", name="90 days").click()
        expect(page.locator(".when").first).to_have_text("90 days")
        page.locator(".chart summary").first.click()
        assert seen.layout() == []
        page.get_by_role("tab", name="Playground").click()
        page.set_input_files("#files", [file("a" * 90 + ".png", png(60, 40))])
        embed(page, [*TEXTS, HOSTILE[0], "unbroken" * 40])
        page.wait_for_selector(".heat-cell")
        assert seen.layout() == []


def background(page: Page) -> list[int]:
    found: list[int] = page.evaluate(
        "getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)"
    )
    return found


def file(name: str, content: bytes, mime: str = "image/png") -> Any:
    return {"name": name, "mimeType": mime, "buffer": content}


@pytest.mark.parametrize("make", [usage_answer, own_answer, empty_answer])
def test_so_it_is_at_every_width(browser: Browser, offline: ServerProcess, make: Make) -> None:
    """The charts are drawn anew when the window changes."""
    with watched(browser) as seen:
        page = seen.page
        answered_by(page, make)
        sign_in(page, offline)
        page.wait_for_selector(".cards")
        for width in (360, 600, 720, 920, 1080, 1600):
            page.set_viewport_size({"width": width, "height": 900})
            page.wait_for_function(DRAWN, arg=width)
            assert (width, seen.layout()) == (width, [])


def test_the_check_of_the_layout_finds_what_is_wrong(browser: Browser, offline: ServerProcess) -> None:
    with watched(browser) as seen:
        answered_by(seen.page, usage_answer)
        sign_in(seen.page, offline)
        seen.page.wait_for_selector(".cards")
        seen.page.evaluate("document.querySelector('.card').style.width = '2000px'")
        assert any("overlap" in problem for problem in seen.layout())
        seen.page.evaluate("document.querySelector('.card').style.width = '60px'")
        assert any("cut" in problem for problem in seen.layout())


def test_markup_stays_text(browser: Browser, offline: ServerProcess) -> None:
    with watched(browser) as seen:
        seen.expected = ("Failed to load resource",)
        page = seen.page
        answered_by(page, hostile)
        sign_in(page, offline)
        page.wait_for_selector(".cards")
        for name in HOSTILE:
            assert page.get_by_text(name, exact=False).count() > 0
        page.route("**/v2/requests/*/status", lambda route: route.fulfill(status=422, json=failed_job()))
        page.get_by_label("Look up a job of this key").fill("0" * 32)
        page.get_by_role("button", name="Look up").click()
        expect(page.locator(".job-answer")).to_have_text(f"FAILED{HOSTILE[1]}")
        page.unroute_all()
        page.route(
            "**/v1/usage?*", lambda route: route.fulfill(status=500, json={"error": {"message": HOSTILE[0]}})
        )
        page.get_by_role("button", name="Reload").click()
        expect(page.locator("#usage-body [role=alert]")).to_contain_text(HOSTILE[0])
        page.get_by_role("tab", name="Playground").click()
        page.route("**/v1/embeddings", lambda route: route.fulfill(status=400, json={"error": HOSTILE[1]}))
        embed(page, [HOSTILE[0], HOSTILE[3]])
        assert outcomes(page) == [f"Failed\n{HOSTILE[1]}"] * 2
        assert page.locator(".input-text").all_text_contents() == [HOSTILE[0], HOSTILE[3]]
        assert page.evaluate("window.owned") is None
        assert page.locator("img[src=x], script:not([src])").count() == 0


def failed_job() -> dict[str, Any]:
    return {"request_id": "0" * 32, "status": "FAILED", "metrics": {}, "error": HOSTILE[1]}


def test_the_playground_shows_misses_then_hits_and_compares(browser: Browser, offline: ServerProcess) -> None:
    with watched(browser) as seen:
        page = seen.page
        sign_in(page, offline, tab="playground")
        page.wait_for_selector("#model option", state="attached")
        page.get_by_label("Dimensions").select_option("768")
        texts = [f"{text}, here" for text in TEXTS]
        embed(page, texts)
        assert outcomes(page) == ["Miss"] * 3
        expect(page.locator(".summary")).to_contain_text("3 of 3 embedded · 0 hits · 3 misses")
        embed(page, texts)
        assert outcomes(page) == ["Hit"] * 3
        expect(page.locator(".summary")).to_contain_text("768 dimensions · by embedded")
        cells = page.locator(".heat-cell")
        values = {
            (int(a), int(b)): float(value)
            for a, b, value in cells.evaluate_all(
                "all => all.map(c => [c.dataset.row, c.dataset.column, c.dataset.value])"
            )
        }
        assert [values[i, i] for i in range(3)] == [1, 1, 1]
        assert values[0, 1] == values[1, 0] > values[0, 2] + 0.2
        page.locator(".grid").focus()
        page.keyboard.press("ArrowDown")
        page.keyboard.press("ArrowRight")
        expect(page.locator(".readout")).to_contain_text(f"between 1 “{texts[0]}” and 2 “{texts[1]}”")


def test_files_and_work_that_takes_longer_than_an_answer(browser: Browser, offline: ServerProcess) -> None:
    """The offline model makes up the vector of an image, which is said; a 504 that names a job is asked again
    after the seconds it says."""
    late: list[Request] = []

    def slow(route: Route) -> None:
        if "input_file" in (route.request.post_data or "") and not late:
            late.append(route.request)
            headers = {"Retry-After": "600", "X-Embedonce-Request": "0" * 32}
            route.fulfill(status=504, headers=headers, json={"error": {"message": "it is being worked on"}})
        else:
            route.fallback()

    with watched(browser) as seen:
        seen.expected = ("Failed to load resource",)
        page = seen.page
        page.clock.install()
        page.route("**/v1/embeddings", slow)
        sign_in(page, offline, tab="playground")
        page.wait_for_selector("#model option", state="attached")
        page.set_input_files(
            "#files", [file("cat.png", png(9, 7)), file("paper.pdf", pdf(2), "application/pdf")]
        )
        page.get_by_role("button", name="Embed", exact=True).click()
        expect(page.locator(".outcome").nth(1)).to_contain_text("In progress")
        assert page.locator(".heat-cell").count() == 0
        page.clock.fast_forward("10:01")
        expect(page.locator("#results")).to_have_attribute("aria-busy", "false")
        assert outcomes(page) == ["Miss\nmade up", "Miss"]
        expect(page.get_by_text("Some vectors are made up")).to_be_visible()
        assert page.locator(".input-name img").evaluate("image => image.naturalWidth") == 9
        assert page.locator(".heat-cell").count() == 4


def test_numbers_are_those_of_the_answer(browser: Browser, offline: ServerProcess) -> None:
    with watched(browser) as seen:
        page = seen.page
        asked = answered_by(page, usage_answer)
        sign_in(page, offline)
        page.wait_for_selector(".cards")
        first, last = asked[0]["from"], asked[0]["to"]
        assert date.fromisoformat(last) - date.fromisoformat(first) == timedelta(29)
        given = usage_answer(first, last)
        total, money = given["total"], given["total"]["usd"]
        spent = money["settled"] + money["reserved"] + money["unknown"]
        shown = page.locator(".card .figure").all_inner_texts()
        assert shown[0] == f"${money['saved']:.2f}"
        assert shown[1] == f"${spent:.2f}"
        assert shown[3] == f"{total['hit_ratio'] * 100:.0f}%"
        assert shown[4] == f"{total['requests']:,}"
        page.get_by_role("slider", name="Saved and spent: day").focus()
        page.keyboard.press("End")
        today = given["days"][-1]["usd"]
        expect(page.locator(".legend .value").first).to_have_text(dollars(today["settled"]))
        expect(page.locator(".legend .value").nth(2)).to_have_text(dollars(today["saved"]))
        page.locator(".chart summary").first.click()
        cells = page.locator(".chart table").first.locator("tbody tr").first.locator("td").all_inner_texts()
        assert (cells[0], cells[2]) == (dollars(today["settled"]), dollars(today["saved"]))
        assert page.locator(".chart table").first.locator("tbody tr").count() == len(given["days"])
        expect(page.locator(".alarm")).to_have_text(
            "The budget of nightly ingest is at 86%: $21.44 of $25.00."
        )
        budget = page.locator(".budget").filter(has_text="replays")
        expect(budget).to_contain_text("hits only")
        expect(budget.get_by_role("meter")).to_have_attribute("aria-valuenow", "0")
        expect(page.get_by_text("1 key without a budget: $7.50 this month.")).to_be_visible()
        page.locator("#scope").select_option("nightly ingest")
        page.get_by_role("button", name="7 days").click()
        expect(page.locator(".when").first).to_have_text("7 days")
        assert [query.get("key") for query in asked] == [None, "k001", "k001"]
        assert asked[-1]["from"] == (date.fromisoformat(last) - timedelta(6)).isoformat()


def dollars(value: float) -> str:
    return f"${value:.2f}" if value >= 1 else f"${value:.3f}"


def test_what_is_shown_before_after_and_instead(browser: Browser, offline: ServerProcess) -> None:
    with watched(browser) as seen:
        seen.expected = ("Failed to load resource",)
        page = seen.page
        held: list[Route] = []
        page.route("**/v1/usage?*", lambda route: held.append(route))  # noqa: PLW0108 a list's method takes no marks
        sign_in(page, offline)
        expect(page.locator("#usage-state")).to_have_text("Loading…")
        expect(page.locator("#usage-body")).to_have_attribute("aria-busy", "true")
        held.pop().fulfill(status=503, json={"error": {"message": "the usage cannot be read just now"}})
        expect(page.get_by_role("alert")).to_contain_text("the usage cannot be read just now")
        page.get_by_role("button", name="Try again").click()
        expect(page.locator("#usage-body")).to_have_attribute("aria-busy", "true")
        held.pop().fulfill(json=empty_answer("2026-11-01", "2026-11-20"))
        expect(page.get_by_text("Nothing was counted in this period.")).to_be_visible()
        page.get_by_role("button", name="Embed something").click()
        expect(page.get_by_label("Texts, one a line")).to_be_visible()
        letter = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
        page.set_input_files("#files", [file("nothing.png", b""), file("letter.docx", b"PK", letter)])
        chosen = page.locator("#chosen li")
        expect(chosen.first).to_contain_text("nothing.pngis empty")
        expect(chosen.last).to_contain_text("letter.docxis of a kind that cannot be embedded here")
        assert seen.layout() == []
        page.get_by_role("button", name="Embed", exact=True).click()
        expect(page.get_by_text("Write a text or choose a file first.")).to_be_visible()


def test_the_key_stays_in_memory(browser: Browser, offline: ServerProcess) -> None:
    with watched(browser) as seen:
        seen.expected = ("Failed to load resource",)
        page = seen.page
        answered_by(page, own_answer)
        sign_in(page, offline, tab="playground", key="wrong")
        expect(page.get_by_role("alert")).to_have_text("the API key is not valid")
        page.get_by_label("API key").fill(offline.key)
        page.keyboard.press("Enter")
        page.get_by_role("tab", name="Usage").click()
        page.wait_for_selector(".cards")
        kept = page.evaluate(
            "async () => [localStorage.length, sessionStorage.length, document.cookie,"
            " (await indexedDB.databases()).length]"
        )
        assert kept == [0, 0, "", 0]
        assert page.context.cookies() == []
        assert offline.key not in page.content() + page.url
        assert page.locator("#key").input_value() == ""
        page.get_by_role("button", name="Theme").click()
        assert page.evaluate("getComputedStyle(document.documentElement).colorScheme") == "light"
        page.get_by_role("button", name="Theme").click()
        assert page.evaluate("getComputedStyle(document.documentElement).colorScheme") == "dark"
        page.reload()
        expect(page.get_by_label("API key")).to_be_focused()
        assert page.locator("html").get_attribute("data-theme") is None


def test_it_can_be_used_with_the_keyboard_alone(browser: Browser, offline: ServerProcess) -> None:
    with watched(browser) as seen:
        page = seen.page
        answered_by(page, usage_answer)
        page.goto(f"{offline.url}/dashboard")
        page.keyboard.type(offline.key)
        page.keyboard.press("Enter")
        page.wait_for_selector(".cards")
        panel = page.get_by_role("tabpanel", name="Usage")
        expect(panel).to_be_focused()
        assert panel.evaluate("panel => getComputedStyle(panel).outlineStyle") == "none"
        for _ in range(3):
            page.keyboard.press("Shift+Tab")
        expect(page.get_by_role("tab", name="Usage")).to_be_focused()
        page.keyboard.press("ArrowRight")
        expect(page.get_by_role("tab", name="Playground")).to_be_focused()
        expect(page.get_by_role("tabpanel", name="Playground")).to_be_visible()
        page.wait_for_selector("#model option", state="attached")
        for _ in range(8):
            page.keyboard.press("Tab")
            if page.evaluate("document.activeElement.id") == "texts":
                break
        page.keyboard.type("typed without a mouse")
        page.keyboard.press("Control+Enter")
        expect(page.locator(".outcome")).to_have_text("Miss")


@contextmanager
def page_elsewhere() -> Iterator[str]:
    """An empty page at another port of this machine; answers its URL."""

    class Empty(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Empty) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{running.server_address[1]}/"
        finally:
            running.shutdown()
            thread.join()


def test_a_page_elsewhere_cannot_use_the_api(
    browser: Browser, offline: ServerProcess, tmp_path: Path
) -> None:
    """Not even with the key, from another port of the same machine; nor show the dashboard in a frame."""
    body = json.dumps({"model": MODEL, "input": "bought by a stranger"})
    tried = """async ([base, key, body]) => {
      const plain = { method: "POST", body, headers: { "Content-Type": "text/plain" } };
      const tries = [
        ["/health", {}],
        ["/v1/models", { headers: { Authorization: `Bearer ${key}` } }],
        ["/v1/embeddings", { method: "POST", body, headers: { Authorization: `Bearer ${key}` } }],
        ["/v1/embeddings", plain],
        ["/v1/embeddings", { ...plain, mode: "no-cors" }],
        ["/dashboard", { mode: "no-cors" }],
      ];
      const found = [];
      for (const [path, options] of tries) {
        try { found.push((await fetch(base + path, options)).type); } catch { found.push("refused"); }
      }
      return found;
    }"""
    with page_elsewhere() as elsewhere, watched(browser) as seen:
        seen.expected = ("Access to fetch", "Failed to load resource", "Refused to", "Framing")
        page = seen.page
        page.goto(elsewhere)
        statuses: list[int] = []
        page.on("response", lambda answer: statuses.append(answer.status))
        found = page.evaluate(tried, [offline.url, offline.key, body])
        assert found[:4] == ["refused"] * 4
        assert set(found[4:]) <= {"opaque", "refused"}  # opaque: it cannot be read
        assert statuses
        assert set(statuses) <= {403, 404, 405}
        page.evaluate(
            """base => new Promise(done => {
              const frame = document.createElement("iframe");
              frame.onload = done;
              frame.src = base + "/dashboard";
              document.body.append(frame);
            })""",
            offline.url,
        )
        framed = page.frames[-1]
        assert framed.locator("#key").count() == 0


def mixed_requests(running: ServerProcess, count: int) -> None:
    """Over few distinct inputs: misses, hits, cut sizes, repeats within a request, and what is refused."""
    connection = http.client.HTTPConnection("127.0.0.1", running.port, timeout=20)
    draw = random.Random(6)
    picture = {"content": [{"type": "image_url", "image_url": {"url": data_url(png(5, 5))}}]}
    for i in range(count):
        inputs: list[Any] = [f"mixed text {draw.randrange(60)}" for _ in range(draw.randrange(1, 4))]
        body: dict[str, Any] = {"model": MODEL, "input": [*inputs, picture] if i % 50 == 0 else inputs}
        body |= {"encoding_format": "base64", "dimensions": draw.choice([256, 768, 768])}
        if i % 40 == 7:
            body["dimensions"] = 1
        connection.request(
            "POST", "/v1/embeddings", json.dumps(body), {"Authorization": f"Bearer {running.key}"}
        )
        answer = connection.getresponse()
        answer.read()
        assert answer.status == (400 if i % 40 == 7 else 200)
    connection.close()


def data_url(picture: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(picture).decode()}"


def test_after_mixed_requests_it_shows_what_the_api_says(browser: Browser, tmp_path: Path) -> None:
    with provider() as fake, server(tmp_path / "data", **fake.settings) as running, watched(browser) as seen:
        mixed_requests(running, 1000)
        page = seen.page
        with page.expect_response("**/v1/usage?*") as answer:
            sign_in(page, running)
        usage = answer.value.json()
        page.wait_for_selector(".cards")
        total, money = usage["total"], usage["total"]["usd"]
        assert total["inputs"] > 1500
        assert total["misses"] >= 61
        assert min(total["hits"], total["derived"], money["settled"], money["saved"]) > 0
        spent = money["settled"] + money["reserved"] + money["unknown"]
        form = "async ([name, value]) => (await import('/dashboard/format.js'))[name](value)"

        def shown(name: str, value: Any) -> str:
            text: str = page.evaluate(form, [name, value])
            return text

        figures = page.locator(".card .figure").all_inner_texts()
        assert figures == [
            shown("usd", money["saved"]),
            shown("usd", spent),
            shown("usd", money["net_saved"]),
            shown("percent", total["hit_ratio"]),
            shown("count", total["requests"]),
            shown("count", sum(total["tokens"].values())),
        ]
        kinds = ("hits", "derived", "collapsed", "misses")
        assert page.locator(".pairs dd").all_inner_texts() == [shown("count", total[kind]) for kind in kinds]
        upstream = usage["upstreams"][0]
        row = page.get_by_role("row").filter(has_text=upstream["name"])
        assert row.locator("td").first.inner_text() == shown("count", upstream["calls"])
        assert upstream["calls"] == fake.counted()["calls"]
        key = page.get_by_role("row").filter(has_text=usage["keys"][0]["name"])
        assert shown("usd", spent) in key.inner_text().split()
