"""What is kept of a paid vector, and its documented form outside Python (docs/storage-format.md)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from embedonce.core import vector
from embedonce.core.content import Modality

FORMAT = 1


@dataclass(frozen=True, slots=True)
class StoredVector:
    """`data` is little-endian float32; times are whole seconds since 1970 (UTC).

    `cost` is what this vector cost, in pico-dollars; `estimated` says that the provider reported no token
    count and `tokens` was computed from the size.
    """

    data: bytes
    model: str
    lineage: str
    upstream: str
    modality: Modality
    tokens: int
    cost: int
    created: int
    expires: int
    estimated: bool = False
    format: int = FORMAT

    @property
    def dimensions(self) -> int:
        return vector.dimensions_of(self.data)

    def live(self, now: float) -> bool:
        return now < self.expires

    def cut_to(self, dimensions: int) -> StoredVector:
        return replace(self, data=vector.cut(self.data, dimensions))

    def metadata(self) -> dict[str, str]:
        """All but the vector, as short names and text: the same in every store."""
        return {
            "f": str(self.format),
            "m": self.model,
            "l": self.lineage,
            "u": self.upstream,
            "k": self.modality.value,
            "d": str(self.dimensions),
            "t": str(self.tokens),
            "n": "1" if self.estimated else "0",
            "p": str(self.cost),
            "c": str(self.created),
            "e": str(self.expires),
        }

    @classmethod
    def from_metadata(cls, metadata: dict[str, Any], data: bytes | None) -> StoredVector:
        """:param data: None: it was not read; `data` is empty then
        :raises ValueError: an unknown format, a missing field, or a vector of another size than it says
        """
        try:
            if int(metadata["f"]) != FORMAT:
                raise ValueError(f"unknown vector format {metadata['f']}")
            record = cls(
                data=b"" if data is None else bytes(data),
                model=metadata["m"],
                lineage=metadata["l"],
                upstream=metadata["u"],
                modality=Modality(metadata["k"]),
                tokens=int(metadata["t"]),
                cost=int(metadata["p"]),
                created=int(metadata["c"]),
                expires=int(metadata["e"]),
                estimated=metadata["n"] == "1",
            )
        except KeyError as missing:
            raise ValueError(f"stored vector lacks {missing}") from None
        if data is not None and (len(data) != size_of(metadata) or not data):
            raise ValueError("stored vector has another size than it says")
        return record


def size_of(metadata: dict[str, Any]) -> int:
    """Bytes of the vector, as its metadata say."""
    return int(metadata["d"]) * vector.BYTES_PER_DIMENSION
