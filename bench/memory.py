"""Memory of the local server's parts: empty, with its vector memory full, after a flood of distinct hits.

    python bench/memory.py

Runs in this process, without the offline model; MiB of resident memory.
"""

from __future__ import annotations

from pathlib import Path

from support import gateway, request

TEXTS = 20_000


def resident() -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS"))


def main() -> None:
    import uvicorn  # what the server itself has loaded

    print(f"{'with ' + uvicorn.__name__ + ' loaded, no gateway':<48}{resident():>8.1f}")
    with gateway(memory_mb=32) as app:
        print(f"{'gateway made':<48}{resident():>8.1f}")
        app.gateway.handle(request("first", "base64"))
        print(f"{'after the first miss (numpy loaded)':<48}{resident():>8.1f}")
        for start in range(0, TEXTS, 100):
            batch = [f"text number {i}" for i in range(start, start + 100)]
            assert app.gateway.handle(request(batch, "base64")).status == 200
        print(f"{f'after {TEXTS:,} distinct vectors of 3072':<48}{resident():>8.1f}  (memory holds 32 MiB)")


if __name__ == "__main__":
    main()
