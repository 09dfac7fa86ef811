"""The program that reads a PDF in a process of its own (see `child`): PDF on stdin, JSON on stdout.

    python -I -S -B pdfparser.py FOLDER_OF_PYPDF MEMORY_BYTES CPU_SECONDS (pages | text)

It imports nothing of embedonce and limits itself before it reads or imports anything else.
"""

# ruff: noqa: T201

from __future__ import annotations

import json
import os
import resource
import sys
from typing import Any

TEXT_PAGES = 64
TEXT_CHARACTERS = 262_144


def limit(memory: int, cpu_seconds: int) -> None:
    for what, most in (
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_CPU, cpu_seconds),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, 16),
    ):
        _, hard = resource.getrlimit(what)
        both = most if hard == resource.RLIM_INFINITY else min(most, hard)
        try:
            resource.setrlimit(what, (both, both))
        except (OSError, ValueError):
            if what == resource.RLIMIT_AS and sys.platform != "linux":
                continue  # macOS knows the limit and refuses to set it
            raise


def answer(data: bytes, what: str) -> dict[str, Any]:
    import logging
    import warnings
    from io import BytesIO

    import pypdf

    said: list[str] = []

    class Said(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if len(said) < 100:
                said.append(str(record.msg))

    logger = logging.getLogger("pypdf")
    logger.addHandler(Said())
    logger.propagate = False
    warnings.simplefilter("ignore")
    reader = pypdf.PdfReader(BytesIO(data), strict=False)
    if any(text.startswith("Circular xref chain") for text in said):
        return {"error": "damaged"}  # pypdf makes the best of it; other readers may find other pages
    if reader.is_encrypted:
        return {"error": "encrypted"}
    pages = len(reader.pages)
    if pages == 0:
        return {"error": "damaged"}
    if what == "pages":
        return {"pages": pages}
    texts: list[str] = []
    left = TEXT_CHARACTERS
    for page in reader.pages[:TEXT_PAGES]:
        text = page.extract_text()[:left]
        texts.append(text)
        left -= len(text)
        if left <= 0:
            break
    joined = "\n".join(texts)
    # A broken character map can yield lone surrogates, which no text here may hold.
    return {"pages": pages, "text": joined.encode("utf-8", "replace").decode()}


def main(folder: str, memory: str, cpu_seconds: str, what: str) -> None:
    limit(int(memory), int(cpu_seconds))
    try:
        data = sys.stdin.buffer.read()
        sys.path.append(folder)
        found = answer(data, what)
    except (MemoryError, RecursionError):
        found = {"error": "complex"}
    except Exception as error:  # noqa: BLE001  # a parser of hostile bytes may raise anything
        complex_ = type(error).__name__ == "LimitReachedError"
        found = {"error": "complex" if complex_ else "damaged"}
    print(json.dumps(found), flush=True)
    os._exit(0)  # tearing down what a hostile file built up may take longer than reading it


if __name__ == "__main__":
    main(*sys.argv[1:])
