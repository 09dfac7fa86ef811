"""Requests per second and latency of the local server on hits, beside a bare uvicorn app.

    python bench/server.py [SECONDS]

Both answer the same number of bytes (one 3072-dimensional vector in base64) to the same load generator, in
turn, three times; each ratio is of neighbours in time, because machines drift.
"""

from __future__ import annotations

import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

HERE = Path(__file__).parent
KEY = "bench-key"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(port: int) -> None:
    for _ in range(200):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise SystemExit("a server did not start")


def load(port: int, concurrency: int, seconds: float, body: Path) -> dict[str, float]:
    command = [sys.executable, str(HERE / "load.py"), str(port), str(concurrency), str(seconds)]
    done = subprocess.run(
        [*command, "/v1/embeddings", KEY, str(body)], check=True, capture_output=True, text=True
    )
    return dict(json.loads(done.stdout))


def first_answer(port: int, body: bytes) -> bytes:
    asked = urllib.request.Request(
        f"http://127.0.0.1:{port}/v1/embeddings", data=body, headers={"Authorization": f"Bearer {KEY}"}
    )
    with urllib.request.urlopen(asked) as answer:
        return bytes(answer.read())


def memory_mb(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS"))


def main() -> None:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 4.0
    with tempfile.TemporaryDirectory() as folder:
        body = Path(folder, "body.json")
        body.write_text(
            json.dumps({"model": "google/gemini-embedding-2", "input": "a text", "encoding_format": "base64"})
        )
        ours, bare = free_port(), free_port()
        env = os.environ | {
            "PORT": str(ours),
            "EMBEDONCE_DATA_DIR": folder,
            "EMBEDONCE_DEV_KEY": KEY,
        }
        serve = [sys.executable, "-c", "from embedonce.cli import main; main()", "serve"]
        server = subprocess.Popen(serve, env=env, stdout=subprocess.DEVNULL)
        yardstick = None
        try:
            wait_for(ours)
            print(f"memory of the server before its first request: {memory_mb(server.pid):.0f} MB")
            answer = Path(folder, "answer.json")
            answer.write_bytes(first_answer(ours, body.read_bytes()))
            yardstick = subprocess.Popen([sys.executable, str(HERE / "bare.py"), str(bare), str(answer)])
            wait_for(bare)
            print(f"{'concurrency':<12}{'ours req/s':>11}{'p50 ms':>8}{'p99 ms':>8}", end="")
            print(f"{'bare req/s':>12}{'p50 ms':>8}{'p99 ms':>8}{'ratio':>8}")
            for concurrency in (1, 8, 32):
                pairs = [
                    (load(ours, concurrency, seconds, body), load(bare, concurrency, seconds, body))
                    for _ in range(3)
                ]
                pairs.sort(key=lambda pair: pair[0]["rate"] / pair[1]["rate"])
                mine, theirs = pairs[1]
                ratio = statistics.median(m["rate"] / t["rate"] for m, t in pairs)
                print(f"{concurrency:<12}{mine['rate']:>11.0f}{mine['p50']:>8.2f}{mine['p99']:>8.2f}", end="")
                print(f"{theirs['rate']:>12.0f}{theirs['p50']:>8.2f}{theirs['p99']:>8.2f}{ratio:>8.2f}")
            print(f"memory of the server afterwards (with the offline model): {memory_mb(server.pid):.0f} MB")
        finally:
            for process in (server, yardstick):
                if process is not None:
                    process.terminate()
                    process.wait()


if __name__ == "__main__":
    main()
