"""Answer one event with a handler of a package folder, and import the other functions' handlers, from nothing
but that folder. What cuts files cuts one for each library that it has.

    python -I -S lambda_probe.py FOLDER EVENT.json ENTRYPOINT [ENTRYPOINT …]

Started by build_lambda.py. Fails if a module comes from elsewhere, if the network is touched, if the answer
is not a good one, if an entrypoint has no handler, or if a file is not cut.
"""

# ruff: noqa: T201

from __future__ import annotations

import importlib
import io
import json
import socket
import sys
import sysconfig
import tempfile
import time
import wave
from pathlib import Path
from typing import Any, NoReturn


class Context:
    """What Lambda hands to a handler beside the event."""

    function_name = "probe"
    function_version = "$LATEST"
    invoked_function_arn = "arn:aws:lambda:us-east-1:123456789012:function:probe"
    memory_limit_in_mb = "1024"
    aws_request_id = "00000000-0000-0000-0000-000000000000"
    log_group_name = "probe"
    log_stream_name = "probe"

    def get_remaining_time_in_millis(self) -> int:
        return 29_000


def no_network(*_: Any, **__: Any) -> NoReturn:
    # Not an OSError: that would be taken for an outage and worked around.
    raise SystemExit("the network was used to start a function or to answer a health check")


def foreign_modules(package: Path) -> list[str]:
    """Loaded modules that are neither in the package nor in the standard library."""
    standard = [Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "platstdlib")]
    found = []
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if not file or file == __file__:  # multiprocessing lists this program under a second name
            continue
        path = Path(file).resolve()
        in_standard = (
            any(path.is_relative_to(place) for place in standard) and "site-packages" not in path.parts
        )
        if not path.is_relative_to(package) and not in_standard:
            found.append(f"{name} ({file})")
    return found


def samples() -> dict[str, bytes]:
    """A file for each library, by format."""
    with io.BytesIO() as sound:
        with wave.open(sound, "wb") as out:
            out.setnchannels(1)
            out.setsampwidth(2)
            out.setframerate(8000)
            out.writeframes(bytes(160_000))  # ten seconds
        audio = sound.getvalue()
    from pypdf import PdfWriter

    with io.BytesIO() as pages:
        writer = PdfWriter()
        writer.add_blank_page(72, 72)
        writer.add_blank_page(72, 72)
        writer.write(pages)
        return {
            "markdown": b"# A\n\nB\n",
            "jsonl": b'{"text": "A"}\n',
            "pdf": pages.getvalue(),
            "audio": audio,
        }


def cut(package: Path) -> list[str]:
    """The formats, each cut in a process of its own, as the function does it."""
    if not (package / "embedonce" / "segmenting").is_dir():
        return []
    from embedonce.core.segment import CutOptions, Format
    from embedonce.segmenting.run import segments

    done = []
    for name, data in samples().items():
        with tempfile.TemporaryFile() as file:
            file.write(data)
            file.flush()
            with segments(file, Format(name), CutOptions()) as cuts:
                count = len(list(cuts))
        if not count:
            raise SystemExit(f"{name} was not cut")
        done.append(f"{name} in {count}")
    return done


def answered(answer: dict[str, Any]) -> str:
    match answer:
        case {"statusCode": 200}:
            return "answered 200"
        case {"batchItemFailures": []}:
            return "handled a message"
    raise SystemExit(f"the event was answered with {answer}")


def main(folder: str, event: str, first: str, *others: str) -> None:
    package = Path(folder).resolve()
    sys.path.insert(0, str(package))
    socket.socket.connect = no_network  # type: ignore[method-assign]
    socket.getaddrinfo = no_network
    started = time.perf_counter()
    handler = importlib.import_module(f"embedonce.entrypoints.{first}").handler
    imported = time.perf_counter() - started
    context: Any = Context()
    said = answered(handler(json.loads(Path(event).read_text()), context))
    for name in others:
        if not callable(getattr(importlib.import_module(f"embedonce.entrypoints.{name}"), "handler", None)):
            raise SystemExit(f"the entrypoint {name} has no handler")
    cuts = cut(package)
    if foreign := foreign_modules(package):
        raise SystemExit(f"loaded from outside the package: {', '.join(foreign)}")
    version = ".".join(map(str, sys.version_info[:3]))
    # The time is that of compiling too, where the package holds no bytecode.
    with_it = f", {', '.join(others)} start" if others else ""
    with_it += f", cut: {', '.join(cuts)}" if cuts else ""
    print(f"package on Python {version}: {first} {said}, imports took {imported:.2f} s{with_it}")


if __name__ == "__main__":
    main(*sys.argv[1:])
