"""What results are called: stored names, which may not change by accident."""

from __future__ import annotations

import pytest

from embedonce.core.resultname import ERROR, MANY, MAX_NAME, MAX_PART, ONE, SUFFIXES, fitted, result_name

LONG = "ä" * 200


def parts(name: str) -> list[int]:
    return [len(part.encode()) for part in name.split("/")]


def test_a_key_and_a_suffix() -> None:
    assert result_name("in/a b.pdf", ONE) == "in/a b.pdf.embedding.json"
    assert result_name("in/a b.pdf", MANY) == "in/a b.pdf.embedding.jsonl"
    assert result_name("x//", ERROR) == "x//.error.json"


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_what_just_fits_stays(suffix: str) -> None:
    key = "d/" * 200 + "x" * (MAX_PART - len(suffix))
    assert result_name(key, suffix) == key + suffix
    assert parts(result_name(key + "x", suffix))[-1] == MAX_PART
    key = "e/" * ((MAX_NAME - len(suffix)) // 2) + "x" * (len(suffix) % 2)
    assert result_name(key, suffix) == key + suffix
    assert len(result_name(key + "x", suffix)) <= MAX_NAME


def test_names_that_were_cut() -> None:
    assert result_name(LONG, ONE) == "ä" * 111 + "~2e9f2db459a49bf4.embedding.json"
    assert result_name(f"{LONG}/x", ONE) == "ä" * 119 + "~2e9f2db459a49bf4/x.embedding.json"
    assert result_name("d/" * 512, ERROR) == "d/" * 498 + "~d49d1346e347c862.error.json"


@pytest.mark.parametrize(
    "key", [LONG, "/".join([LONG] * 20), "🎉" * 1000, "a/" * 3000, "/" * 2000, "\udcff" * 900]
)
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_nothing_is_too_long_and_nothing_meets(key: str, suffix: str) -> None:
    names = {result_name(key + more, suffix) for more in ("", "1", "2", "/", "/1")}
    assert len(names) == 5
    for name in names:
        assert max(parts(name)) <= MAX_PART
        assert len(name.encode()) <= MAX_NAME
        assert name.endswith(suffix)
        assert result_name(key, suffix) == fitted(result_name(key, suffix))
        assert len(fitted(name, 255).encode()) <= 255
        assert fitted(name, 255).endswith(suffix)
