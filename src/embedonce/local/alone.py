"""`embedonce worker`, `poller` and `janitor`: one of the loops as a process of its own, beside a server."""

from __future__ import annotations

import signal
import sys
from types import FrameType

from embedonce.bootstrap.parts import parts_of
from embedonce.config import ConfigError, Settings
from embedonce.local.logs import log_to_stderr
from embedonce.local.loops import Loops
from embedonce.local.server import local_key
from embedonce.telemetry import LogTelemetry


def run_alone(settings: Settings, name: str) -> None:
    """Blocks until stopped by a signal.

    :raises ConfigError: a setting that cannot work
    """
    log_to_stderr(settings)
    if settings.mode != "local":
        raise ConfigError(f"EMBEDONCE_MODE: `{name}` runs in local mode only; on AWS it is a function")
    parts = parts_of(settings, LogTelemetry(), development_key=local_key(settings))
    loops = Loops(parts, [name])

    def stop(_number: int, _frame: FrameType | None) -> None:
        loops.ask_to_stop()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    loops.start()
    sys.stdout.write(f"embedonce {name} is at work on {settings.data_dir.resolve()}\n")
    sys.stdout.flush()
    loops.wait()
    loops.stop()
    parts.close()
