"""Peak memory of the worker over large uploads, each stage in a process of its own.

    PYTHONPATH=src:tests python -P bench/worker_memory.py

A fake Segmind, a server, a worker and a poller on one data folder: uploads go through presigned PUT, submit,
poll, result. The figures are MiB of resident memory (VmHWM, the most there ever was) after each step.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx

from fakes.segmind import KEY as PROVIDER_KEY
from support import media
from support.process import clean_environment, server

MB = 1_000_000
STEPS = ((1, 1), (60, 1), (100, 1), (60, 4))
"""MB of each upload, and how many at once."""


def peak(process: subprocess.Popen[str]) -> int:
    status = Path(f"/proc/{process.pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) // 1024


@contextmanager
def running(*arguments: str, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """A Python program of ours; ready when it has written a line."""
    process = subprocess.Popen(
        [sys.executable, *arguments],
        env=clean_environment() | environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    process.first_line = process.stdout.readline()  # type: ignore[attr-defined]
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def one(url: str, key: str, data: bytes) -> None:
    headers = {"x-api-key": key}
    asked = {"size": len(data), "sha256": hashlib.sha256(data).hexdigest(), "content_type": "audio/wav"}
    with httpx.Client(timeout=120, trust_env=False) as client:
        leave = client.post(f"{url}/v2/uploads", json=asked, headers=headers).json()
        client.put(leave["upload_url"], content=data, headers=leave["headers"]).raise_for_status()
        body = {"audio": leave["handle"]}
        job = client.post(f"{url}/v2/gemini-embedding-2", json=body, headers=headers).json()
        while (told := client.get(job["status_url"], headers=headers).json())["status"] != "COMPLETED":
            if told["status"] == "FAILED":
                raise SystemExit(f"failed: {told['error']}")
            time.sleep(0.1)


def sound(megabytes: int, tone: int) -> bytes:
    return media.wav(150, rate=megabytes * MB // 150, tone=tone)


def main() -> None:
    cli = ("-c", "from embedonce.cli import main; main()")
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        fake = stack.enter_context(running("-m", "fakes.segmind"))
        origin = f"http://127.0.0.1:{int(fake.first_line)}"  # type: ignore[attr-defined]
        httpx.post(f"{origin}/_jobs", content=b"polls:0,0", trust_env=False)
        data = Path(folder) / "data"
        settings = {
            "SEGMIND_API_KEY": PROVIDER_KEY,
            "SEGMIND_BASE_URL": origin,
            "EMBEDONCE_LOOPS": "none",
            "EMBEDONCE_DATA_DIR": str(data),
        }
        served = stack.enter_context(server(data, **settings))
        worker = stack.enter_context(running(*cli, "worker", **settings))
        poller = stack.enter_context(running(*cli, "poller", **settings))
        print(f"{os.cpu_count()} cores. Peak resident memory, MiB:\n")
        print(f"{'after':<24}{'server':>8}{'worker':>8}{'poller':>8}{'seconds':>9}")
        for number, (megabytes, at_once) in enumerate(STEPS):
            sounds = [sound(megabytes, tone=10 * number + n) for n in range(at_once)]
            began = time.monotonic()
            with ThreadPoolExecutor(at_once) as pool:
                list(pool.map(lambda data: one(served.url, served.key, data), sounds))
            figures = "".join(f"{peak(p):>8}" for p in (served.process, worker, poller))
            step = f"{at_once} x {megabytes} MB"
            print(f"{step:<24}{figures}{time.monotonic() - began:>9.1f}", flush=True)


if __name__ == "__main__":
    main()
