"""Peak memory of the local server over hostile media: bombs for parsers, endless and inflating origins.

    PYTHONPATH=src:tests python -P bench/media_memory.py

Starts the server (offline upstream) and sends each case a few times at once; the figures are MiB of the
server's resident memory (VmHWM, the most there ever was) and of the largest child.
"""

from __future__ import annotations

import base64
import gzip
import json
import resource
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import quote, unquote

from support import media
from support.bombs import BOMBS, content_bomb, nested_flate, page_tree_loop, wide_tree, xref_loop
from support.origin import Asked, Origin, head, ok
from support.process import server

KEY = "bench-key"
AT_ONCE = 4
MOST_INLINE = 4_000_000
"""Larger ones are fetched from the origin."""


def respond(asked: Asked) -> Iterable[bytes]:
    match asked.path:
        case "/gzip":
            yield ok(gzip.compress(bytes(50_000_000)), content_encoding="gzip")
        case "/endless":
            yield head(200)
            while True:
                yield bytes(1 << 20)
        case "/headers":
            yield b"HTTP/1.1 200 OK\r\n"
            while True:
                yield b"x: " + b"a" * 65_536 + b"\r\n"
        case path if path.startswith("/bomb?"):
            yield ok(BOMBS[unquote(path.removeprefix("/bomb?"))])
        case _:
            yield head(200, content_length=10_000_000)
            for _ in range(1000):
                time.sleep(0.01)
                yield b"a"


def cases(origin: Origin) -> Iterator[tuple[str, str]]:
    for name, data in BOMBS.items():
        inline = len(data) <= MOST_INLINE
        yield name, base64.b64encode(data).decode() if inline else f"{origin.url}/bomb?{quote(name)}"
    yield "png 50,000 x 50,000", base64.b64encode(media.png_claiming(50_000, 50_000)).decode()
    pdfs = {"nested flate": nested_flate(), "content": content_bomb(), "xref loop": xref_loop()}
    pdfs |= {"tree loop": page_tree_loop(), "wide tree": wide_tree()}
    for name, data in pdfs.items():
        yield f"pdf {name}", base64.b64encode(data).decode()
    for path in ("/gzip", "/endless", "/headers", "/trickle"):
        yield f"url {path}", origin.url + path


def ask(port: int, source: str) -> int:
    part = {"type": "input_file", "input_file": {"data": source}}
    body = {"model": "google/gemini-embedding-2", "input": [{"content": [part]}], "dimensions": 256}
    request = urllib.request.Request(f"http://127.0.0.1:{port}/v1/embeddings", json.dumps(body).encode())
    request.add_header("content-type", "application/json")
    request.add_header("authorization", f"Bearer {KEY}")
    try:
        with urllib.request.urlopen(request, timeout=40) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        error.close()
        return error.code


def peak(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, Origin(respond) as origin:
        settings = {"EMBEDONCE_UPSTREAMS": "embedded", "EMBEDONCE_DEV_KEY": KEY}
        settings |= {"EMBEDONCE_MEDIA_ORIGINS": origin.url, "EMBEDONCE_MEDIA_TIMEOUT": "2"}
        with server(Path(folder) / "data", **settings) as running:
            pid = running.process.pid
            print(f"{'':<28}{'answers':<12}{'peak':>8}{'seconds':>10}")
            print(f"{'started':<40}{peak(pid):>8.1f}")
            ask(running.port, base64.b64encode(media.pdf()).decode())
            print(f"{'one sound PDF':<40}{peak(pid):>8.1f}")
            for name, source in cases(origin):
                began = time.monotonic()
                with ThreadPoolExecutor(AT_ONCE) as pool:
                    answers = set(pool.map(lambda each: ask(running.port, each), [source] * AT_ONCE))
                shown = ",".join(map(str, sorted(answers)))
                print(f"{name:<28}{shown:<12}{peak(pid):>8.1f}{time.monotonic() - began:>10.2f}")
            running.stop()
    # Of all that were waited for: the server, or one of the children that it waited for.
    print(
        f"{'largest process of all':<40}{resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024:>8.1f}"
    )


if __name__ == "__main__":
    main()
