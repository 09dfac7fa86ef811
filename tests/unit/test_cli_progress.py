"""The line that says how far something is."""

from __future__ import annotations

import io

import pytest

from embedonce.cli import progress
from embedonce.cli.progress import Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("stream", "quiet", "said"),
    [
        (Terminal(), False, "\r100 found\r9 found  \r       \r"),
        (io.StringIO(), False, "100 found\n9 found\n"),
        (io.StringIO(), True, ""),
    ],
)
def test_one_line_on_a_terminal_and_some_elsewhere(
    monkeypatch: pytest.MonkeyPatch, stream: io.StringIO, quiet: bool, said: str
) -> None:
    now = [0.0]
    monkeypatch.setattr("sys.stderr", stream)
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    with Progress(quiet=quiet) as shown:
        shown.show("too soon")
        now[0] = 10
        shown.show("100 found")
        shown.show("too soon again")
        now[0] = 20
        shown.show("9 found")
    assert stream.getvalue() == said
