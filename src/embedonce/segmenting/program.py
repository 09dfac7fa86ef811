"""The program that cuts a source in a process of its own (see `run`): source on stdin, frames on stdout.

    python -I -S -B program.py '{"folders": […], "memory": …, "cpu": …, "format": …, "options": {…}}'

It limits itself before it reads anything or imports what is not Python's own. Of the source it says nothing
but segments; what a library prints goes nowhere.
"""

from __future__ import annotations

import json
import os
import resource
import sys
from typing import Any

FILES = 32


def limit(memory: int, cpu_seconds: int) -> None:
    for what, most in (
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_CPU, cpu_seconds),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, FILES),
    ):
        _, hard = resource.getrlimit(what)
        both = most if hard == resource.RLIM_INFINITY else min(most, hard)
        try:
            resource.setrlimit(what, (both, both))
        except (OSError, ValueError):
            if what == resource.RLIMIT_AS and sys.platform != "linux":
                continue  # macOS knows the limit and refuses to set it
            raise


def say(task: dict[str, Any], output: int) -> None:
    from embedonce.core.segment import CutOptions, Format, Uncuttable
    from embedonce.segmenting.cutter import cut, lineage
    from embedonce.segmenting.wire import COMPLEX, DAMAGED, End, frame

    with os.fdopen(output, "wb", buffering=1 << 16) as pipe:
        which = ""
        try:
            format_ = Format(task["format"])
            which = lineage(format_)
            for segment in cut(sys.stdin.buffer, format_, CutOptions(**task["options"])):
                pipe.write(frame(segment))
            end = End(which)
        except Uncuttable as error:
            end = End(which, str(error))
        except (MemoryError, RecursionError):
            end = End(which, COMPLEX)
        except ImportError:
            end = End(unavailable=True)
        except Exception:  # noqa: BLE001  # a parser of hostile bytes may raise anything
            end = End(which, DAMAGED)
        pipe.write(frame(end))
        pipe.flush()
        os._exit(0)  # tearing down what a hostile file built up may take longer than reading it


def main(argument: str) -> None:
    task = json.loads(argument)
    output = os.dup(1)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    limit(task["memory"], task["cpu"])
    sys.path.extend(task["folders"])
    say(task, output)


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    finally:
        os._exit(1)
