"""Manifests and heads in DynamoDB: rows of the jobs table (`embedonce.stores.aws.duerows`), written as
`embedonce.core.manifestrow` does.

    manifest/<id>     shards `m0` to `m7` by the id
    head/<place>      without `e`, `ds` and `dt`: it never expires and is never due

Actions: GetItem, PutItem; Query on the index.
"""

from __future__ import annotations

from embedonce.core import manifestrow
from embedonce.core.manifest import Head, Manifest
from embedonce.stores.aws import duerows
from embedonce.stores.aws.clients import AwsClients
from embedonce.stores.aws.duerows import DueRows, Row
from embedonce.stores.manifestrows import head_of, manifest_of
from embedonce.stores.rows import in_the_way

MANIFESTS = "manifest/"
HEADS = "head/"
SHARDS = tuple(f"m{n}" for n in range(8))


class DynamoManifests:
    def __init__(self, clients: AwsClients, table: str) -> None:
        self._manifests = DueRows(clients, table, MANIFESTS)
        self._heads = DueRows(clients, table, HEADS)

    def get(self, manifest_id: str) -> Manifest | None:
        row = self._manifests.get(manifest_id)
        return manifest_of(manifest_id, row.version, row.text)

    def swap(self, manifest: Manifest, over: int) -> Manifest | None:
        standing = self._manifests.swap(
            manifest.id,
            Row(manifest.version, manifestrow.encode(manifest)),
            over,
            expires=manifest.expires,
            due=None if manifest.due is None else (shard_of(manifest.id), manifest.due),
        )
        if standing is None:
            return None
        return in_the_way(manifest_of(manifest.id, standing.version, standing.text), manifest)

    def head(self, place: str) -> Head | None:
        row = self._heads.get(place)
        return head_of(place, row.version, row.text)

    def swap_head(self, head: Head, over: int) -> Head | None:
        row = Row(head.version, manifestrow.encode_head(head))
        standing = self._heads.swap(head.place, row, over)
        if standing is None:
            return None
        return in_the_way(head_of(head.place, standing.version, standing.text), head)

    def due(self, before: float, limit: int) -> list[str]:
        """A shard that cannot be read is left out.

        :raises StoreUnavailable: none can be read
        """
        return self._manifests.due(SHARDS, before, limit)


def shard_of(manifest_id: str) -> str:
    return duerows.shard_of(manifest_id, SHARDS)
