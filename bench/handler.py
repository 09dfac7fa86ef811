"""Our own time for warm hits: the whole gateway from a parsed HTTP request to the answer's bytes.

    python bench/handler.py

Beside each figure the bare cost of writing the same vectors (base64, or orjson of float32), which no
implementation can go below: the ratio holds on any machine.
"""

from __future__ import annotations

from embedonce.core import vector
from support import HEADER, gateway, request, row, timed


def main() -> None:
    texts = [f"the {i}th sentence of a corpus that is asked for again and again" for i in range(100)]
    print(HEADER)
    with gateway() as app:
        for encoding in ("base64", "float"):
            for count, runs in ((1, 3000), (100, 200)):
                asked = request(texts[:count] if count > 1 else texts[0], encoding)
                first = app.gateway.handle(asked)
                assert first.status == 200, first.body
                hit = app.gateway.handle(asked)
                assert hit.headers["X-Cache"] == "HIT"
                taken = timed(lambda asked=asked: app.gateway.handle(asked), runs)
                written = _floor(count, encoding)
                note = f"{len(hit.body):,} bytes; writing the vectors alone: {written:.3f}"
                print(row(f"warm hit, {count} x 3072, {encoding}", taken, note))


def _floor(count: int, encoding: str) -> float:

    data = vector.pack([0.018 * ((i * 7919) % 101 - 50) / 50 for i in range(3072)])
    write = vector.to_base64 if encoding == "base64" else vector.to_json
    return timed(lambda: [write(data) for _ in range(count)], 200)[100]


if __name__ == "__main__":
    main()
