"""The adapter for OpenAI-compatible servers: what differs from OpenRouter's."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from embedonce.core.catalog import GEMINI_EMBEDDING_2, Dimensions, Model
from embedonce.core.content import Modality
from embedonce.core.options import EmbedOptions
from embedonce.upstreams.failure import Kind
from embedonce.upstreams.openai_compatible import OpenAICompatible
from embedonce.upstreams.transport import Transport
from fakes.answers import vector_for
from fakes.openrouter import KEY, FakeOpenRouter
from support.upstream import RealClock, bought, call_of, failure_of

BGE = replace(GEMINI_EMBEDDING_2, id="bge-m3", aliases=(), dimensions=Dimensions(1024, 1, 1024))
UNKNOWN_SIZE = replace(BGE, id="other", dimensions=Dimensions(None))
SERVED = {"bge-m3": "BAAI/bge-m3", "other": "org/other"}


@pytest.fixture(scope="module")
def server() -> Iterator[FakeOpenRouter]:
    with FakeOpenRouter(key=None) as fake:
        yield fake


@pytest.fixture
def fake(server: FakeOpenRouter) -> FakeOpenRouter:
    server.reset()
    return server


@pytest.fixture(scope="module")
def transport() -> Iterator[Transport]:
    transport = Transport(RealClock())
    yield transport
    transport.close()


@pytest.fixture
def upstream(transport: Transport, fake: FakeOpenRouter) -> OpenAICompatible:
    return OpenAICompatible(transport, f"{fake.origin}/v1/", SERVED, catalog=[BGE, GEMINI_EMBEDDING_2])


def expected(text: str, dimensions: int | None, model: Model = BGE) -> bytes:
    return vector_for(text, dimensions, model=SERVED[model.id])


def test_offer(upstream: OpenAICompatible, fake: FakeOpenRouter, transport: Transport) -> None:
    offer = upstream.offer(BGE)
    assert offer is not None
    assert offer.lineage == f"openai_compatible:{fake.origin}/v1:BAAI/bge-m3:prefix-1"
    assert offer.model == "BAAI/bge-m3"
    assert offer.modalities == {Modality.TEXT}
    asked = EmbedOptions(BGE, None, parameters={"input_type": "query", "provider": {}})
    assert offer.sends(asked) == {"input_type": "query"}
    assert offer.prices == {Modality.TEXT: BGE.price(Modality.TEXT)}
    assert offer.distinct
    assert upstream.offer(GEMINI_EMBEDDING_2) is None
    paid = OpenAICompatible(
        transport, "http://b/v1", SERVED, catalog=[BGE], distinct=False, max_inputs=3
    ).offer(BGE)
    assert paid is not None
    assert (paid.distinct, paid.max_inputs) == (False, 3)
    assert paid.lineage != offer.lineage


def test_dimensions_are_sent_only_where_they_differ_from_the_models_own(
    upstream: OpenAICompatible, fake: FakeOpenRouter
) -> None:
    fake.next("ok", "wrong_dims")
    assert bought(upstream, call_of("a", "b", dimensions=512, model=BGE)).vectors == (
        expected("a", 512),
        expected("b", 512),
    )
    assert fake.last.path == "/v1/embeddings"
    assert fake.last.body == {
        "model": "BAAI/bge-m3",
        "input": ["a", "b"],
        "dimensions": 512,
        "encoding_format": "float",
    }
    failure_of(lambda: bought(upstream, call_of("a", dimensions=1024, model=BGE)))
    assert "dimensions" not in fake.last.body


def test_a_model_whose_size_is_not_known(upstream: OpenAICompatible, fake: FakeOpenRouter) -> None:
    call = call_of("a", dimensions=None, model=UNKNOWN_SIZE)
    assert bought(upstream, call).vectors == (expected("a", None, UNKNOWN_SIZE),)
    assert "dimensions" not in fake.last.body
    bought(upstream, call_of("a", dimensions=8, model=UNKNOWN_SIZE))
    assert fake.last.body["dimensions"] == 8


def test_no_key_no_authorization_and_no_attribution(upstream: OpenAICompatible, fake: FakeOpenRouter) -> None:
    call = call_of(
        "a",
        dimensions=8,
        model=BGE,
        parameters={"input_type": "query", "provider": {"only": ["x"]}},
        passthrough={"user": "u", "trace": {"id": 1}},
        headers={"x-title": "app", "authorization": "Bearer theirs"},
    )
    bought(upstream, call)
    assert not {"authorization", "x-title"} & set(fake.last.headers)
    assert {"input_type": "query", "user": "u"}.items() <= fake.last.body.items()
    assert not {"provider", "trace"} & set(fake.last.body)


def test_with_a_key(transport: Transport) -> None:
    with FakeOpenRouter() as fake:
        keys = iter([KEY, "sk-wrong"])
        upstream = OpenAICompatible(
            transport, fake.base_url, SERVED, catalog=[BGE], key=lambda: next(keys), name="tei"
        )
        call = call_of("a", dimensions=8, model=BGE)
        assert bought(upstream, call).vectors == (expected("a", 8),)
        failure = failure_of(lambda: upstream.embed(call, timeout=5))
        assert failure.kind is Kind.MISCONFIGURED
        assert failure.message.startswith("tei ")


def test_several_parts_cannot_be_said(upstream: OpenAICompatible, fake: FakeOpenRouter) -> None:
    failure = failure_of(lambda: upstream.embed(call_of(("a", "b"), model=BGE), timeout=5))
    assert failure.kind is Kind.REJECTED
    assert fake.calls == 0


def test_equal_vectors_are_a_matter_of_configuration(transport: Transport, fake: FakeOpenRouter) -> None:
    call = call_of("one", "two", dimensions=8, model=BGE)
    for distinct in (True, False):
        upstream = OpenAICompatible(transport, fake.base_url, SERVED, catalog=[BGE], distinct=distinct)
        fake.next("repeat")
        if distinct:
            assert failure_of(lambda u=upstream: bought(u, call)).kind is Kind.INVALID  # type: ignore[misc]
        else:
            assert len(set(bought(upstream, call).vectors)) == 1


@pytest.mark.parametrize("url", ["tei:8080", "https://user:secret@tei/v1", "https://tei/v1?key=secret"])
def test_base_urls_that_are_refused(transport: Transport, url: str) -> None:
    with pytest.raises(ValueError, match="base URL") as raised:
        OpenAICompatible(transport, url, SERVED, catalog=[BGE])
    assert "secret" not in str(raised.value)
