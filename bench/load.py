"""A lean HTTP/1.1 load generator over raw sockets: one connection per thread of asking, prepared bytes.

python bench/load.py PORT CONCURRENCY SECONDS PATH KEY BODY-FILE   → one JSON line
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path


async def ask(port: int, payload: bytes, until: float, taken: list[float]) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    while time.perf_counter() < until:
        start = time.perf_counter()
        writer.write(payload)
        head = await reader.readuntil(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200"):
            raise SystemExit(head.decode())
        lower = head.lower()
        at = lower.index(b"content-length:") + 15
        await reader.readexactly(int(lower[at : lower.index(b"\r", at)]))
        taken.append(time.perf_counter() - start)
    writer.close()


async def main() -> None:
    port, concurrency, seconds = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
    body = Path(sys.argv[6]).read_bytes()
    head = (
        f"POST {sys.argv[4]} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAuthorization: Bearer {sys.argv[5]}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    taken: list[float] = []
    until = time.perf_counter() + seconds
    await asyncio.gather(*(ask(port, head.encode() + body, until, taken) for _ in range(concurrency)))
    taken.sort()
    print(
        json.dumps(
            {
                "rate": len(taken) / seconds,
                "p50": taken[len(taken) // 2] * 1000,
                "p99": taken[int(len(taken) * 0.99)] * 1000,
            }
        )
    )


if __name__ == "__main__":
    asyncio.run(main())
