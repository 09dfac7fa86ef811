"""The dashboard's files: what is served, under which policy, and what must not be in them."""

from __future__ import annotations

import re
from importlib import resources
from typing import Any

import pytest

from embedonce.core.deadline import Deadline
from embedonce.core.errors import EmbedonceError
from embedonce.http import pages
from embedonce.http.message import Request, Response
from embedonce.http.routes import Gateway
from embedonce.telemetry import LogTelemetry
from support.clock import FakeClock

FOLDER = resources.files("embedonce") / "dashboard"
NOTHING: Any = None


class Plain:
    name = "plain"

    def presented_key(self, request: Request) -> str | None:
        return None

    def render_error(self, error: EmbedonceError) -> Response:
        return Response(error.http_status, b"{}")


def ask(path: str) -> Response:
    gateway = Gateway(
        pages.routes(Plain()),
        NOTHING,
        LogTelemetry(),
        FakeClock(),
        default_dialect=Plain(),
        max_body_bytes=100,
    )
    return gateway.handle(Request("GET", path, {}, {}, b"", "id", Deadline.after(1, 0)))


def source(name: str) -> str:
    return (FOLDER / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("path", ["/dashboard", *(f"/dashboard/{name}" for name in pages.FILES)])
def test_every_file_is_served_under_the_policy(path: str) -> None:
    answer = ask(path)
    assert answer.status == 200
    assert answer.body == (FOLDER / (path.removeprefix("/dashboard").strip("/") or "index.html")).read_bytes()
    policy = dict(part.split(" ", 1) for part in answer.headers["Content-Security-Policy"].split("; "))
    assert policy["default-src"] == policy["frame-ancestors"] == policy["base-uri"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert policy["img-src"] == "'self' blob:"
    assert "unsafe" not in answer.headers["Content-Security-Policy"]
    assert answer.headers["X-Frame-Options"] == "DENY"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Referrer-Policy"] == "no-referrer"
    assert not [
        name for name in answer.headers if name.lower() in ("set-cookie", "access-control-allow-origin")
    ]


@pytest.mark.parametrize(
    "name",
    ["", "index.html", "nope.js", "..", "../openapi.json", "%2e%2e/openapi.json", "app.js/", "app.js\0"],
)
def test_nothing_else_is(name: str) -> None:
    assert ask(f"/dashboard/{name}").status == 404


def test_the_folder_holds_what_is_served_and_the_files_load_nothing_else() -> None:
    present = {file.name for file in FOLDER.iterdir()}
    assert present == {"index.html", *pages.FILES}
    loaded = set(re.findall(r'(?:href|src)="([^"#][^"]*)"', source("index.html")))
    assert loaded == {f"dashboard/{name}" for name in pages.FILES}
    for name in pages.FILES:
        for module in re.findall(r'from "([^"]+)"', source(name)):
            assert module.removeprefix("./") in pages.FILES
            assert module.startswith("./")


@pytest.mark.parametrize("name", ["index.html", *pages.FILES])
def test_no_markup_is_made_of_text_and_nothing_is_kept_in_the_browser(name: str) -> None:
    text = source(name)
    assert not re.search(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function", text
    )
    assert not re.search(r"localStorage|sessionStorage|indexedDB|document\.cookie", text)
    assert not re.search(r"""https?://(?!www\.w3\.org/2000/svg)""", text)
    if name.endswith((".html", ".svg")):
        assert not re.search(r"<style|\sstyle=|\son[a-z]+=|<script(?![^>]*\ssrc=)", text)
