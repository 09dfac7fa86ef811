"""`make chaos`: kill -9 of server, worker, poller and janitor at every transition of the pipeline.

    python -m chaos.run [--seeds 20] [--seed NAME] [--quick] [--only REGEX] [--factor 20] [--minutes 24]

All four are tormented at the same time over one data folder, while callers ask and look, and a fake provider
answers badly. Ends with status 1 where a rule was broken, or a point was not reached often enough.
"""

from __future__ import annotations

import argparse
import json
import re
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

from chaos.client import KEY, Callers
from chaos.hooks import Hooks
from chaos.patches import Time, cursed
from chaos.points import POINTS, SMOKE
from chaos.report import Findings, printed
from chaos.stores import announced, complaints, remains
from chaos.torment import FEW, Torment
from embedonce.core.ticket import STALL_SECONDS, Ticket
from fakes.segmind import KEY as PROVIDER_KEY
from support.process import clean_environment

TWO_DAYS = 2 * 86_400.0


def main(arguments: list[str] | None = None) -> int:
    given = _parsed(arguments)
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
        findings = run(given, Path(folder))
    print(printed(findings), flush=True)
    return 1 if findings.broken else 0


def run(given: argparse.Namespace, folder: Path) -> Findings:
    fast = Time(time.time(), given.factor)
    began = time.monotonic()
    hooks = Hooks(given.seed)
    provider, origin = _provider(given.seed)
    port = _free_port()
    env = _settings(given, folder / "data", origin, hooks.origin, port)
    command = {"env": env, "epoch": fast.epoch, "factor": fast.factor, "disturbed": 0.06}
    torment = Torment(given.points, given.seeds, given.seed, command, folder, given.latest)
    callers = Callers(port, hooks.origin + "/hook", given.seed, fast, given.rate, given.patience)
    rows = Rows(folder / "data", fast.factor)
    told = 0
    try:
        torment.start()
        while not torment.done and time.monotonic() - began < given.minutes * 60:
            torment.step()
            rows.look()
            time.sleep(0.01)
            told = _told(torment, callers, time.monotonic() - began, told)
        callers.stop_asking()
        torment.relent()
        _settle(torment, callers, rows, fast, given.patience)
        _announce(torment, hooks, rows, fast)
        callers.close()
        callers.look_again()
        stopped = torment.stop(offset=TWO_DAYS)
        left = remains(folder / "data")
        blobs = _blobs_after_two_days(torment, folder / "data")
        counted = json.load(urllib.request.urlopen(f"{origin}/_calls"))
    finally:
        callers.close()
        torment.close()
        hooks.close()
        provider.kill()
        provider.wait()
    said = complaints(folder)
    seconds = time.monotonic() - began
    return Findings(
        given, torment, callers, hooks, rows.tickets, counted, left, stopped, blobs, said, seconds
    )


class Rows:
    """`tickets`: those with a webhook, as their rows last said, also what is dropped since and of what no
    caller heard. An attempt is in the row before it is made, and the next one comes a while later, so few are
    missed; those count as not made."""

    def __init__(self, data: Path, factor: float) -> None:
        self.tickets: dict[str, Ticket] = {}
        self._data = data
        self._pause = STALL_SECONDS / factor
        self._next = 0.0

    def look(self, *, at_once: bool = False) -> None:
        """If it is time."""
        if at_once or time.monotonic() >= self._next:
            self.tickets |= announced(self._data)
            self._next = time.monotonic() + self._pause


def _settle(torment: Torment, callers: Callers, rows: Rows, fast: Time, patience: float) -> None:
    """Until all have ended; a while longer than any may take."""
    until = time.monotonic() + (patience + 600) / fast.factor
    while callers.open and time.monotonic() < until:
        torment.step()
        rows.look()
        time.sleep(0.05)


def _announce(torment: Torment, hooks: Hooks, rows: Rows, fast: Time) -> None:
    """Until all webhooks are delivered or given up; none is tried any more when its ticket's hour is over."""
    rows.look(at_once=True)
    left = list(rows.tickets.values())
    while left:
        torment.step()
        rows.look()
        time.sleep(0.05)
        heard, now = {request for request, _ in list(hooks.delivered)}, fast.now()
        left = [t for i, t in rows.tickets.items() if t.announces and t.live(now) and i not in heard]
        left = [ticket for ticket in left if not cursed(ticket.ref.id)]


def _blobs_after_two_days(torment: Torment, data: Path) -> int:
    """How many payloads are left when a janitor has come by, long after."""
    torment.once("janitor")
    until = time.monotonic() + 10
    while (count := remains(data).blobs) and time.monotonic() < until:
        torment.step()
        time.sleep(0.05)
    torment.stop()
    return count


def _told(torment: Torment, callers: Callers, seconds: float, told: int) -> int:
    """Says every half minute how far it has come; how many of them were told."""
    halves = int(seconds) // 30
    if halves > told:
        left = {role.name: sum(role.left.values()) for role in torment.roles}
        kills = sum(role.kills.total() for role in torment.roles)
        accepted = len(callers.held)
        print(f"{halves / 2:5.1f} min: {kills} kills, {accepted} accepted, to go: {left}", flush=True)
        few = [f"{role.name} {point} {n}" for role in torment.roles for point, n in role.left.items()]
        if 0 < len(few) <= FEW:
            print("      " + ", ".join(few), flush=True)
    return halves


def _settings(given: argparse.Namespace, data: Path, provider: str, hooks: str, port: int) -> dict[str, str]:
    return {
        "EMBEDONCE_DATA_DIR": str(data),
        "EMBEDONCE_DEV_KEY": KEY,
        "EMBEDONCE_UPSTREAMS": "segmind",
        "EMBEDONCE_LOOPS": "none",
        "EMBEDONCE_ON_UNKNOWN": "fail",
        "EMBEDONCE_JOB_TIMEOUT": str(given.patience),
        "EMBEDONCE_JOB_UPSTREAM_TIMEOUT": str(given.timeout),
        "EMBEDONCE_UPSTREAM_TIMEOUT": str(given.timeout),
        "EMBEDONCE_WEBHOOK_ORIGINS": hooks,
        "EMBEDONCE_LOG_LEVEL": "WARNING",
        "SEGMIND_API_KEY": PROVIDER_KEY,
        "SEGMIND_BASE_URL": provider,
        "PORT": str(port),
    }


def _provider(seed: str) -> tuple[subprocess.Popen[str], str]:
    process = subprocess.Popen(
        [sys.executable, "-m", "chaos.provider", seed],
        env=clean_environment() | {"OPENBLAS_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    return process, f"http://127.0.0.1:{int(process.stdout.readline())}"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _parsed(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m chaos.run")
    parser.add_argument("--seeds", type=int, default=20, help="kills at each point")
    parser.add_argument("--seed", default="1", help="what all luck is drawn from")
    parser.add_argument("--quick", action="store_true", help="a handful of points, for seconds")
    parser.add_argument("--factor", type=float, help="how much faster the clock runs (20; quick: 60)")
    parser.add_argument("--minutes", type=float, help="after which no more is killed (24; quick: 3)")
    parser.add_argument("--rate", type=float, default=5.0, help="requests a second")
    parser.add_argument("--only", default="", help="points that this finds (`poller work-queue.send`)")
    given = parser.parse_args(arguments)
    defaults = {"factor": 20.0, "minutes": 24.0}
    if given.quick:
        defaults = {"factor": 60.0, "minutes": 3.0}
    for name, value in defaults.items():
        setattr(given, name, getattr(given, name) or value)
    # On the fast clock: a ticket's whole life, and one call to the provider (then its row is in doubt).
    given.patience, given.timeout = (120.0, 60.0) if given.quick else (900.0, 30.0)
    chosen = SMOKE if given.quick else POINTS
    given.points = {
        role: [point for point in points if re.search(given.only, f"{role} {point}")]
        for role, points in chosen.items()
    }
    given.latest = 2 if given.quick else 8
    return given


if __name__ == "__main__":
    sys.exit(main())
