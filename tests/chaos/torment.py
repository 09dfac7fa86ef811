"""Lives and deaths of the four processes: each is started, told where to die, and started again."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from chaos.points import FREQUENT, ROLES
from support.process import clean_environment

LIFE_SECONDS = (0.5, 7.0)
"""A life that reached none of its points by some time between these is ended where it happens to be."""
DEAD_SECONDS = 0.4
"""A process stays away so long at most; the longer, the more the others find left lying."""
FEW = 8
ANYWHERE = "(anywhere)"


@dataclass
class Role:
    name: str
    left: Counter[str]
    kills: Counter[str] = field(default_factory=Counter)
    seen: set[str] = field(default_factory=set)
    life: int = 0
    until: float = 0.0
    how: str | None = None
    starts: int = 0
    faults: list[str] = field(default_factory=list)


class Torment:
    """`command`: what all lives have in common. A life ends at the `latest`-th occurrence of a frequent point
    at the latest. `step` is to be called again and again."""

    def __init__(
        self,
        points: Mapping[str, list[str]],
        times: int,
        seed: str,
        command: dict[str, Any],
        log: Path,
        latest: int,
    ) -> None:
        self._latest = latest
        self._command = command
        self._seed = seed
        self._log = log
        self._roles = {name: Role(name, Counter(dict.fromkeys(points[name], times))) for name in ROLES}
        self._by_life: dict[int, Role] = {}
        self._lives = 0
        self._tormenting = True
        self._stopped = False
        self._pending = b""
        self._zygote = subprocess.Popen(
            [sys.executable, "-m", "chaos.launch", "zygote"],
            env=clean_environment() | {"OPENBLAS_NUM_THREADS": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self._zygote.stdout is not None
        os.set_blocking(self._zygote.stdout.fileno(), False)

    @property
    def roles(self) -> list[Role]:
        return list(self._roles.values())

    @property
    def done(self) -> bool:
        return not any(role.left for role in self.roles)

    def start(self) -> None:
        for role in self.roles:
            self._start(role)

    def step(self) -> None:
        """Start what died, end what lives too long for nothing."""
        self._hear()
        for role in self.roles if not self._stopped else ():
            if role.life == 0:
                if time.monotonic() > role.until or not self._tormenting:
                    self._start(role)
            elif self._tormenting and time.monotonic() > role.until and role.how is None:
                role.how = ANYWHERE
                self._tell({"end": role.life, "signal": int(signal.SIGKILL)})

    def relent(self) -> None:
        """From now on all live, and no message is disturbed: those that were told where to die are ended
        here, so that they begin anew."""
        self._tormenting = False
        self._command["disturbed"] = 0.0
        for role in self.roles:
            role.how = role.how or ANYWHERE
            self._tell({"end": role.life, "signal": int(signal.SIGKILL)})

    def stop(self, **command: Any) -> bool:
        """End all of them as an operator does; whether they ended well. `command`: for those to come."""
        self._command |= command
        self._stopped = True
        for role in self.roles:
            role.how = "stop"
            self._tell({"end": role.life, "signal": int(signal.SIGTERM)})
        until = time.monotonic() + 40
        while any(role.life for role in self.roles) and time.monotonic() < until:
            self._hear()
            time.sleep(0.02)
        return not any(role.life for role in self.roles)

    def once(self, name: str) -> None:
        """Start one of them alone, after `stop`; it is not started again."""
        self._start(self._roles[name])

    def close(self) -> None:
        assert self._zygote.stdin is not None
        self._zygote.stdin.close()
        try:
            self._zygote.wait(10)
        except subprocess.TimeoutExpired:
            self._zygote.kill()
            self._zygote.wait()

    def _start(self, role: Role) -> None:
        self._lives += 1
        role.life, role.how = self._lives, None
        role.starts += 1
        self._by_life[role.life] = role
        luck = random.Random(f"{self._seed}:{role.name}:{role.starts}")
        role.until = time.monotonic() + luck.uniform(*LIFE_SECONDS)
        chosen = {
            "life": role.life,
            "role": role.name,
            "seed": f"{self._seed}:{role.name}:{role.starts}:within",
            "plan": _plan(role, luck, self._latest) if self._tormenting else {},
            "log": str(self._log / f"{role.name}.log"),
        }
        self._tell(self._command | chosen)

    def _tell(self, what: Mapping[str, Any]) -> None:
        assert self._zygote.stdin is not None
        self._zygote.stdin.write(json.dumps(what).encode() + b"\n")
        self._zygote.stdin.flush()

    def _hear(self) -> None:
        assert self._zygote.stdout is not None
        if self._zygote.poll() is not None:
            raise SystemExit("the zygote ended")
        while data := self._zygote.stdout.read(1 << 16):
            *lines, self._pending = (self._pending + data).split(b"\n")
            for said in deque(map(json.loads, lines)):
                self._take(said)

    def _take(self, said: Mapping[str, Any]) -> None:
        role = self._by_life[said["life"]]
        if "seen" in said:
            role.seen.add(said["seen"])
        elif "killed" in said:
            role.how = said["killed"]
        elif role.life == said["life"]:
            self._bury(role, said["ended"])

    def _bury(self, role: Role, status: int) -> None:
        how, role.life = role.how, 0
        luck = random.Random(f"{self._seed}:{role.name}:{role.starts}:dead")
        role.until = time.monotonic() + luck.random() * DEAD_SECONDS
        if how is None or (how != "stop" and status != -signal.SIGKILL):
            role.faults.append(f"{role.name} ended by itself with {status}")
        elif how != "stop":
            role.kills[how] += 1
            role.left -= Counter({how: 1})


def _plan(role: Role, luck: random.Random, latest: int) -> dict[str, int]:
    """Half of the rare points that are still to be reached (all, when there are few), and two others."""
    left = sorted(role.left)
    often = FREQUENT[role.name]
    rare = [point for point in left if point not in often]
    if len(rare) > FEW:
        plan = {point: luck.choice([1, 1, 2, 3]) for point in rare if luck.random() < 0.5}
    else:
        # One moment of each: what comes before would always be first.
        one = {point.rpartition(":")[0]: point for point in luck.sample(rare, len(rare))}
        plan = dict.fromkeys(one.values(), 1)
    frequent = [point for point in left if point in often]
    for point in luck.sample(frequent, min(len(frequent), 2)):
        plan[point] = luck.randint(1, latest)
    return plan
