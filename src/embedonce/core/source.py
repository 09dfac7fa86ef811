"""Sources: objects of a bucket (or files of an inbox) that are to be embedded, one version each."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Source:
    """One version of one object. `bucket` is a name of ours for folders on one machine.

    `version`: the object version, empty where the bucket keeps none; then `etag` is what it is read by.
    `sequencer`: which of two versions of a key is newer, as S3 tells it (hexadecimal).
    """

    bucket: str
    key: str
    version: str
    etag: str
    size: int
    sequencer: str

    @property
    def place(self) -> str:
        """32 hexadecimal digits: bucket and key, whatever the version."""
        return _name("place", self.bucket, self.key)

    def manifest_id(self, rule: str) -> str:
        """32 hexadecimal digits: this version under the rule of that hash. Where no versions are kept, what
        was put at that time."""
        version = self.version or f"{self.etag}/{self.sequencer}"
        return _name("manifest", self.bucket, self.key, version, rule)


def newer(sequencer: str, than: str) -> bool:
    """S3's sequencers are hexadecimal numbers of different lengths: the shorter one is filled up with zeros
    on the right before they are compared."""
    width = max(len(sequencer), len(than))
    return sequencer.upper().ljust(width, "0") > than.upper().ljust(width, "0")


def _name(*fields: str) -> str:
    encoded = (field.encode("utf-8", "surrogatepass") for field in ("embedonce/ingest/1", *fields))
    return hashlib.sha256(b"".join(len(each).to_bytes(8, "big") + each for each in encoded)).hexdigest()[:32]
