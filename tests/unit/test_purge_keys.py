"""The keys of a content, as far as they can be computed."""

from __future__ import annotations

import hashlib

import pytest

from embedonce.core.catalog import GEMINI_EMBEDDING_2, GEMINI_EMBEDDING_2_PREVIEW, Dimensions, Model
from embedonce.core.content import Content, MediaPart, Modality
from embedonce.core.fingerprint import Namespace
from embedonce.core.options import EmbedOptions
from embedonce.core.patience import Patience
from embedonce.core.purge import model_name, namespace_name
from embedonce.core.tasks import TaskType
from embedonce.ports import Deployment
from embedonce.telemetry import LogTelemetry
from embedonce.upstreams.router import Router
from embedonce.usecases.contentkeys import Reach, keys_of
from embedonce.usecases.planning import Planner
from support.anymodal import AnyModal
from support.clock import FakeClock

TEXT = Content.of_text("secret")
IMAGE = Content((MediaPart.of(Modality.IMAGE, "image/png", b"picture"),))
GENERATIONS = {
    model_name(GEMINI_EMBEDDING_2.id): 3,
    namespace_name("team"): 2,
    namespace_name("team", "x"): 5,
}


@pytest.mark.parametrize("content", [TEXT, IMAGE], ids=["text", "image"])
@pytest.mark.parametrize("task", [None, *TaskType])
@pytest.mark.parametrize("dimensions", [128, 777, 3072])
def test_what_a_request_looks_for_is_among_them(
    content: Content, task: TaskType | None, dimensions: int
) -> None:
    """Also after purges of its namespace and its model."""
    upstream = AnyModal(["flavour"])
    router = Router([upstream], FakeClock(), LogTelemetry(), attempt_timeout=10)
    planner = Planner(router, lambda _: Deployment(generations=GENERATIONS))
    options = EmbedOptions(
        GEMINI_EMBEDDING_2, dimensions, task_type=task, title="T", parameters={"flavour": "sweet"}
    )
    namespace = Namespace("team", "x")
    [item] = planner([content], ["input"], options, namespace, Patience.PROVIDERS).items
    reach = Reach(
        [GEMINI_EMBEDDING_2],
        [namespace],
        sizes=[dimensions],
        tasks=[task],
        titles=["T"],
        parameters=[{"flavour": "sweet"}],
    )
    keys = list(keys_of(content, reach, [upstream], GENERATIONS))
    assert item.fetch in keys
    assert len(set(keys)) == len(keys)
    assert item.fetch not in list(keys_of(content, reach, [upstream], {}))


def test_every_size_and_task_once() -> None:
    reach = Reach([GEMINI_EMBEDDING_2, GEMINI_EMBEDDING_2_PREVIEW], [Namespace("a"), Namespace("b")])
    keys = list(keys_of(TEXT, reach, [AnyModal(), AnyModal()], {}))
    prefixes = 9  # no task, and eight
    assert len(keys) == len(set(keys)) == 2 * 2 * prefixes * (3072 - 128 + 1)
    media = list(keys_of(IMAGE, reach, [AnyModal()], {}))
    assert [key.dimensions for key in media] == [3072] * 4  # smaller sizes are never stored


def test_media_by_their_hash_alone() -> None:
    reach = Reach([GEMINI_EMBEDDING_2], [Namespace("a")])
    hashed = Content((MediaPart(Modality.IMAGE, "", hashlib.sha256(b"picture").digest(), 0),))
    [by_hash], [by_bytes] = (list(keys_of(each, reach, [AnyModal()], {})) for each in (hashed, IMAGE))
    assert by_hash == by_bytes


def test_a_model_whose_own_size_is_not_known() -> None:
    plain = Model("m", "m", 0, Dimensions(None, 1, 8), frozenset({Modality.TEXT}), derivable=False)
    reach = Reach([plain], [Namespace("a")], tasks=[None])
    sizes = [key.dimensions for key in keys_of(TEXT, reach, [AnyModal()], {})]
    assert sizes == [None, *range(1, 9)]
