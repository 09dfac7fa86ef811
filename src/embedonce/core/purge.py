"""Leaving vectors behind: a purge of a namespace or a model bumps a number in every fingerprint. Pure.

Numbers only grow, so a fingerprint that was left behind never comes back.
"""

from __future__ import annotations

from collections.abc import Mapping

from embedonce.core.fingerprint import Namespace


def namespace_name(owner: str, inner: str | None = None) -> str:
    """Under which `Deployment.generations` counts: of a key's namespace with all that requests ask for inside
    it, or of one of these."""
    return f"namespace/{owner}" if inner is None else f"namespace/{owner}//{inner}"


def model_name(model_id: str) -> str:
    return f"model/{model_id}"


def namespace_generation(generations: Mapping[str, int], namespace: Namespace) -> int:
    """How often it was purged, by itself or with all of its owner's."""
    whole = generations.get(namespace_name(namespace.owner), 0)
    return whole + generations.get(namespace_name(namespace.owner, namespace.inner), 0)


def model_generations(generations: Mapping[str, int]) -> dict[str, int]:
    """By the ids of the models that were purged."""
    begins = model_name("")
    return {name.removeprefix(begins): n for name, n in generations.items() if name.startswith(begins)}


def model_generation(generations: Mapping[str, int], model_id: str) -> int:
    return generations.get(model_name(model_id), 0)
