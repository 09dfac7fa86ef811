"""The offline model: wordllama's vectors, expanded by a fixed map that keeps similarities and can be cut."""

from __future__ import annotations

import hashlib
import importlib.util
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embedonce.core import vector
from embedonce.core.catalog import GEMINI_EMBEDDING_2, Dimensions, estimated_tokens
from embedonce.core.content import Content, MediaPart, Modality
from embedonce.core.options import EmbedOptions
from embedonce.core.pricing import Price
from embedonce.upstreams import embedded as module
from embedonce.upstreams.embedded import BLOCKS, FULL, NATIVE, TOKENIZER, WEIGHTS, Embedded
from embedonce.upstreams.failure import Kind
from support import media
from support.upstream import AUDIO, IMAGE, OTHER_IMAGE, PDF, VIDEO, bought, call_of, failure_of

TEXTS = [
    "The cat sat on the mat.",
    "A kitten was sitting on a rug.",
    "Quarterly revenue grew by eight percent.",
    "Ein kurzer Satz auf Deutsch über Käse.",
    "日本語のテキスト 🍣",
    "x",
    " ",
]


@pytest.fixture(scope="module")
def embedded() -> Embedded:
    return Embedded()


def vectors_of(embedded: Embedded, *texts: str, dimensions: int | None = FULL) -> np.ndarray:
    answer = bought(embedded, call_of(*texts, dimensions=dimensions))
    return np.stack([vector.unpack(data).astype(np.float64) for data in answer.vectors])


def test_offer(embedded: Embedded) -> None:
    offer = embedded.offer(GEMINI_EMBEDDING_2)
    assert offer is not None
    assert offer.lineage == "embedded:wordllama-0.4.0.post1-l2_supercat_256:prefix-1"
    assert offer.model == GEMINI_EMBEDDING_2.id
    assert offer.modalities == set(Modality)
    assert offer.made_up == {Modality.IMAGE, Modality.AUDIO, Modality.VIDEO}
    assert offer.prices == dict.fromkeys(Modality, Price.FREE)
    asked = EmbedOptions(GEMINI_EMBEDDING_2, None, parameters={"input_type": "query"})
    assert (offer.max_inputs, offer.distinct, offer.sends(asked)) == (512, False, {})


def test_golden(embedded: Embedded) -> None:
    """These are stored under a key that does not change: neither may they."""
    full = embedded.embed(call_of(TEXTS[0], dimensions=None), timeout=1).vectors[0]
    assert (
        hashlib.sha256(full).hexdigest() == "7019f22ea30331cc0e6573ba9a8040794e62872ffdf95e72bf9462d672f988b4"
    )
    nothing = embedded.embed(call_of("", dimensions=FULL), timeout=1).vectors[0]
    assert (
        hashlib.sha256(nothing).hexdigest()
        == "1dffb2200e909fc24a9f6c227f1d079330e407e08b046a3c9d088341f8eea967"
    )


def test_it_is_wordllama(embedded: Embedded) -> None:
    wordllama = pytest.importorskip("wordllama")
    folder = Path(wordllama.__file__).parent
    model = wordllama.WordLlama.load(cache_dir=folder, disable_download=True)
    theirs = model.embed(TEXTS, norm=True).astype(np.float64)
    np.testing.assert_allclose(vectors_of(embedded, *TEXTS, dimensions=256), theirs, atol=2e-6)
    for dimensions in (256, 512, 1024, 1536, 2048, FULL):
        ours = vectors_of(embedded, *TEXTS, dimensions=dimensions)
        np.testing.assert_allclose(ours @ ours.T, theirs @ theirs.T, atol=5e-6)
    answer = embedded.embed(call_of(*TEXTS), timeout=1)
    assert answer.tokens == sum(len(one.ids) for one in (model.tokenize(text)[0] for text in TEXTS))
    assert answer.cost == 0


def test_similar_texts_are_similar_at_every_size(embedded: Embedded) -> None:
    for dimensions in (128, 200, 768, 1000, 3072):
        cat, kitten, revenue = vectors_of(embedded, *TEXTS[:3], dimensions=dimensions)
        assert cat @ kitten > cat @ revenue + 0.1


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from([1e-4, 1.0, 1e6]), st.floats(-1, 1))
def test_the_map_keeps_similarity_at_multiples_of_256(seed: int, scale: float, mixed: float) -> None:
    numbers = np.random.default_rng(seed)
    x = scale * numbers.normal(size=NATIVE)
    y = mixed * x + (1 - abs(mixed)) * numbers.normal(size=NATIVE)
    signs = module.sign_blocks()
    u, v = module.expand(x, signs), module.expand(y, signs)
    cosine = x @ y / np.sqrt((x @ x) * (y @ y))
    for size in range(NATIVE, FULL + 1, NATIVE):
        a, b = u[:size], v[:size]
        assert a @ b / np.sqrt((a @ a) * (b @ b)) == pytest.approx(cosine, abs=1e-12)
    assert u @ u == pytest.approx(1.0, abs=1e-14)


def test_the_map_is_orthonormal() -> None:
    """Its matrix, column by column: every block is 256 orthonormal columns, over the root of 12."""
    signs = module.sign_blocks()
    assert set(np.unique(signs)) == {-1.0, 1.0}
    matrix = np.stack([module.expand(unit, signs) for unit in np.eye(NATIVE)], axis=1)
    for block in matrix.reshape(BLOCKS, NATIVE, NATIVE) * np.sqrt(BLOCKS):
        np.testing.assert_allclose(block.T @ block, np.eye(NATIVE), atol=1e-12)
    np.testing.assert_allclose(matrix[:NATIVE] * np.sqrt(BLOCKS), np.eye(NATIVE), atol=1e-15)
    np.testing.assert_allclose(np.abs(matrix[NATIVE:]) * np.sqrt(BLOCKS), 1 / 16, atol=1e-15)


def test_the_matrix_is_sylvesters(embedded: Embedded) -> None:
    hadamard = np.ones((1, 1))
    while len(hadamard) < NATIVE:
        hadamard = np.block([[hadamard, hadamard], [hadamard, -hadamard]])
    signs = module.sign_blocks()
    x = np.arange(NATIVE) - 100.0
    expected = np.concatenate([16 * x, *(hadamard @ (d * x) for d in signs)])
    np.testing.assert_array_equal(module.expand(x, signs), expected / (16 * np.sqrt(x @ x) * np.sqrt(BLOCKS)))


@settings(max_examples=25, deadline=None)
@given(st.text(min_size=1, max_size=80).filter(lambda t: t.isprintable()), st.integers(128, FULL))
def test_smaller_sizes_are_cuts_of_the_full_one(text: str, dimensions: int) -> None:
    full = SHARED.embed(call_of(text, dimensions=FULL), timeout=1).vectors[0]
    smaller = SHARED.embed(call_of(text, dimensions=dimensions), timeout=1).vectors[0]
    assert smaller == (full if dimensions == FULL else vector.cut(full, dimensions))


SHARED = Embedded()


@settings(max_examples=25, deadline=None)
@given(st.lists(st.text(st.characters(codec="utf-8"), min_size=1, max_size=40), min_size=2, max_size=6))
def test_company_and_word_order_do_not_matter(texts: list[str]) -> None:
    together = SHARED.embed(call_of(*texts), timeout=1).vectors
    alone = tuple(SHARED.embed(call_of(text), timeout=1).vectors[0] for text in texts)
    assert together == alone


def test_a_bag_of_words_gives_equal_vectors_to_permutations(embedded: Embedded) -> None:
    one, other = bought(embedded, call_of("dog bites man man", "man bites man dog")).vectors
    assert one == other


def test_several_parts_are_one_vector_and_counted(embedded: Embedded) -> None:
    answer = bought(embedded, call_of(("red", "green"), "red green"))
    assert len(answer.vectors) == 2
    assert answer.tokens == 4


def test_a_text_without_tokens_gets_a_vector_of_its_own(embedded: Embedded) -> None:
    nothing, twice, thrice = (
        vectors_of(embedded, "", dimensions=FULL),
        *(
            vector.unpack(embedded.embed(call_of(parts, dimensions=FULL), timeout=1).vectors[0])
            for parts in (("", ""), ("", "", ""))
        ),
    )
    assert nothing[0] @ nothing[0] == pytest.approx(1.0, abs=1e-6)
    assert abs(float(nothing[0] @ twice)) < 0.5
    assert abs(float(twice @ thrice)) < 0.5


def test_long_texts(embedded: Embedded) -> None:
    text = "a long text about cats and dogs. " * 2000
    answer = bought(embedded, call_of(text, "short"))
    assert answer.tokens is not None
    assert answer.tokens > 15_000


def test_from_many_threads(embedded: Embedded) -> None:
    fresh = Embedded()
    call = call_of(*TEXTS)
    expected = embedded.embed(call, timeout=1)
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda _: fresh.embed(call, timeout=1), range(24))) == [expected] * 24


def test_the_default_size_is_the_models(embedded: Embedded) -> None:
    model = replace(GEMINI_EMBEDDING_2, dimensions=Dimensions(None))
    assert len(embedded.embed(call_of("a", dimensions=None, model=model), timeout=1).vectors[0]) == FULL * 4
    failure = failure_of(lambda: embedded.embed(call_of("a", dimensions=FULL + 1, model=model), timeout=1))
    assert failure.kind is Kind.REJECTED


def full_of(embedded: Embedded, *parts: str | MediaPart) -> np.ndarray:
    data = embedded.embed(call_of(parts, dimensions=FULL), timeout=20).vectors[0]
    return vector.unpack(data).astype(np.float64)


def test_made_up_vectors_are_golden(embedded: Embedded) -> None:
    """They are stored as well."""
    pixel = MediaPart.of(Modality.IMAGE, "image/png", b"golden")
    made = [pixel, replace(pixel, modality=Modality.AUDIO), replace(pixel, modality=Modality.VIDEO)]
    vectors = bought(embedded, call_of(*made, dimensions=FULL)).vectors
    found = [hashlib.sha256(data).hexdigest()[:16] for data in vectors]
    assert found == ["6efee1d8acca2f22", "7fce9b26a0e57ec2", "1ec17857a7971adf"]


def test_made_up_vectors_depend_on_the_bytes_and_nothing_else(embedded: Embedded) -> None:
    one, again, other = (full_of(embedded, medium) for medium in (IMAGE, IMAGE.without_data(), OTHER_IMAGE))
    assert (one == again).all()
    assert one @ one == pytest.approx(1.0, abs=1e-6)
    assert abs(one @ other) < 0.3
    answer = bought(embedded, call_of(IMAGE, AUDIO, VIDEO))
    assert len(set(answer.vectors)) == 3
    assert answer.tokens == sum(estimated_tokens(Content((part,))) for part in (IMAGE, AUDIO, VIDEO))


def test_a_pdf_is_its_text(embedded: Embedded) -> None:
    answer = bought(embedded, call_of(PDF, "The cat sat on the mat."), timeout=20)
    assert answer.vectors[0] == answer.vectors[1]
    _, kitten, revenue = vectors_of(embedded, *TEXTS[:3])
    pdf = full_of(embedded, PDF)
    assert pdf @ kitten > pdf @ revenue + 0.1


def test_a_pdf_without_text_gets_a_vector_of_its_own(embedded: Embedded) -> None:
    blank = [MediaPart.of(Modality.PDF, "application/pdf", media.pdf([" "] * n), pages=n) for n in (1, 2)]
    answer = bought(embedded, call_of(*blank, dimensions=FULL), timeout=20)
    assert answer.vectors[0] != answer.vectors[1]
    assert answer.tokens == sum(estimated_tokens(Content((part,))) for part in blank)


def test_a_pdf_that_cannot_be_read_is_refused(embedded: Embedded) -> None:
    broken = MediaPart.of(Modality.PDF, "application/pdf", b"%PDF-1.4 and no more")
    failure = failure_of(lambda: embedded.embed(call_of(broken), timeout=20))
    assert failure.kind is Kind.REJECTED
    assert "PDF" in failure.message


def test_a_mixture_is_the_sum_of_its_parts(embedded: Embedded) -> None:
    text, image, audio = (full_of(embedded, part) for part in ("a cat", IMAGE, AUDIO))
    mixed = full_of(embedded, "a cat", IMAGE, AUDIO)
    expected = text + image + audio
    np.testing.assert_allclose(mixed, expected / np.sqrt(expected @ expected), atol=1e-6)
    texts = full_of(embedded, "a cat", PDF)
    assert np.allclose(texts, full_of(embedded, "a cat", "The cat sat on the mat."), atol=1e-6)
    tokens = embedded.embed(call_of(("a cat", IMAGE)), timeout=5).tokens
    alone = embedded.embed(call_of("a cat"), timeout=5).tokens
    assert alone is not None
    assert tokens == alone + estimated_tokens(Content((IMAGE,)))


def test_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    failure = failure_of(lambda: Embedded().embed(call_of("a"), timeout=1))
    assert failure.kind is Kind.MISCONFIGURED
    assert "pip install 'embedonce[local]'" in failure.message


def test_half_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    assert failure_of(Embedded().load).kind is Kind.MISCONFIGURED


@pytest.mark.parametrize("damaged", [WEIGHTS[0], TOKENIZER[0]])
@pytest.mark.parametrize("missing", [True, False])
def test_other_files_are_refused(tmp_path: Path, damaged: str, missing: bool) -> None:
    spec = importlib.util.find_spec("wordllama")
    assert spec is not None
    assert spec.submodule_search_locations
    for name, _ in (WEIGHTS, TOKENIZER):
        data = bytearray((Path(spec.submodule_search_locations[0]) / name).read_bytes())
        if name == damaged:
            data[-1] ^= 1
        if name != damaged or not missing:
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_bytes(data)
    failure = failure_of(Embedded(tmp_path).load)
    assert failure.kind is Kind.MISCONFIGURED
    assert damaged in failure.message


def test_the_process_is_left_as_it_was() -> None:
    code = """
import logging, sys
from support.upstream import call_of
from embedonce.upstreams.embedded import Embedded
Embedded().embed(call_of("a"), timeout=1)
assert not logging.root.handlers and logging.root.level == logging.WARNING
assert not {"wordllama", "requests", "httpx"} & set(sys.modules)
"""
    subprocess.run(
        [sys.executable, "-W", "error", "-c", code], check=True, env={"PYTHONPATH": ":".join(sys.path)}
    )
