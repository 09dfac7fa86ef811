"""One process of the pipeline under faults, or a zygote that forks them.

    PYTHONPATH=src:tests python -m chaos.launch zygote
        reads a JSON command a line, `{"life": 1, "role": "worker", "env": {…}, "plan": {…}, …}`, and writes
        a JSON report a line: what the children say, and `{"life": 1, "ended": status}`
    PYTHONPATH=src:tests python -m chaos.launch worker
        runs one here, with CHAOS_KILL="flights.submitted:before=2" for a plan

The zygote has imported everything, so that a life begins within a moment. It has one thread only, and ends
its children when its input ends.
"""

from __future__ import annotations

import ctypes
import json
import os
import random
import selectors
import signal
import sys
import time
from contextlib import suppress
from typing import Any

import httpx  # noqa: F401  # at the first call otherwise

import embedonce.local.alone
import embedonce.local.server
import embedonce.net.bounded  # noqa: F401
from chaos.faults import Faults
from chaos.patches import Time, patch_clock, patch_outside, patch_queues
from embedonce.cli import main

ROLES = {"server": "serve", "worker": "worker", "poller": "poller", "janitor": "janitor"}
_PR_SET_PDEATHSIG = 1


def live(command: dict[str, Any], report: int) -> None:
    """Does not return before the role ends."""
    rng = random.Random(command["seed"])
    patch_clock(Time(command["epoch"], command["factor"], command.get("offset", 0.0)))
    patch_queues(rng, command["disturbed"])
    patch_outside(Faults(command["life"], command["plan"], report, rng))
    sys.argv = ["embedonce", ROLES[command["role"]]]
    main()


def fork(command: dict[str, Any], report: int) -> int:
    pid = os.fork()
    if pid:
        return pid
    status = 70
    try:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        log = os.open(command["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.environ.update(command["env"])
        live(command, report)
        status = 0
    except SystemExit as leaving:
        status = leaving.code if isinstance(leaving.code, int) else 1
    except BaseException:  # noqa: BLE001  # a fork must not return
        sys.excepthook(*sys.exc_info())
    finally:
        with suppress(Exception):
            sys.stdout.flush()
        os._exit(status)


def zygote() -> None:
    report = os.dup(1)
    wake, woken = os.pipe()
    os.set_blocking(woken, False)
    signal.set_wakeup_fd(woken)
    signal.signal(signal.SIGCHLD, lambda number, frame: None)
    lives: dict[int, int] = {}
    selector = selectors.DefaultSelector()
    selector.register(0, selectors.EVENT_READ)
    selector.register(wake, selectors.EVENT_READ)
    pending = b""
    while True:
        ready = {key.fd for key, _ in selector.select()}
        if wake in ready:
            os.read(wake, 4096)
            _reap(lives, report)
        if 0 in ready:
            data = os.read(0, 1 << 16)
            if not data:
                break
            *lines, pending = (pending + data).split(b"\n")
            for line in lines:
                command = json.loads(line)
                if "end" in command:
                    _end(lives, command["end"], command["signal"])
                else:
                    lives[fork(command, report)] = command["life"]
    for pid in lives:
        os.kill(pid, signal.SIGKILL)


def _end(lives: dict[int, int], life: int, number: int) -> None:
    """Only a child that was not reaped yet: its pid is nobody else's."""
    for pid, of in lives.items():
        if of == life:
            os.kill(pid, number)


def _reap(lives: dict[int, int], report: int) -> None:
    while lives:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        said = {"life": lives.pop(pid), "ended": os.waitstatus_to_exitcode(status)}
        os.write(report, json.dumps(said).encode() + b"\n")


def alone(role: str) -> None:
    given = os.environ.get
    plan = {point: int(at) for point, _, at in (p.partition("=") for p in given("CHAOS_KILL", "").split())}
    command = {
        "life": 0,
        "role": role,
        "plan": plan,
        "seed": given("CHAOS_SEED", "0"),
        "epoch": float(given("CHAOS_EPOCH", "") or time.time()),
        "factor": float(given("CHAOS_FACTOR", "20")),
        "disturbed": float(given("CHAOS_DISTURBED", "0")),
    }
    live(command, 2)


if __name__ == "__main__":
    if sys.argv[1] == "zygote":
        zygote()
    else:
        alone(sys.argv[1])
