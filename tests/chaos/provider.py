"""The fake Segmind with a seeded fate for every input, and seeded trouble on every answer.

    python -m chaos.provider SEED        prints its port; GET /_calls counts

What becomes of a job is a function of the seed and the input; what becomes of an answer is one of the seed
and of how many there were before. A submission that is counted was accepted, whether or not anybody heard.
"""

from __future__ import annotations

import random
import sys
import threading
from collections.abc import Mapping, Sequence
from typing import Any

from fakes.answers import Planned, Sent
from fakes.behaviour import Behaviour
from fakes.segmind import SUBMIT, FakeSegmind
from fakes.segmind_jobs import Job, Jobs, JobScript
from fakes.segmind_polling import REQUESTS

JOB_FATES = {
    "ok": 58,
    "done": 4,
    "flip": 3,
    "odd_state:DREAMING": 2,
    "fail:blocked": 5,
    "fail_200": 2,
    "fail_late": 3,
    "lost": 9,
    "lost_result": 4,
    "garbage": 3,
    "stuck": 4,
    "no_id": 3,
}
ANSWERS_TO_SUBMIT = {
    "ok": 74,
    "429": 16,
    "disconnect": 5,  # accepted, and nobody hears of it
    "late": 2,  # accepted, and heard too late
    "html": 1,  # accepted as well, with a page of a proxy for an answer
    "500": 2,
    "400": 4,
    "401": 2,
}
ANSWERS_TO_POLL = {"ok": 84, "429": 6, "500": 4, "disconnect": 3, "html": 2, "late": 1}
LATE_SECONDS = 4.0


class SeededJobs(Jobs):
    def __init__(self, seed: str) -> None:
        super().__init__()
        self._seed = seed

    def accept(self, label: str, parts: Sequence[Sent], body: Mapping[str, Any]) -> Job:
        luck = random.Random(f"{self._seed}:{label}")
        self.scripts.append(JobScript.parse(_one_of(JOB_FATES, luck)))
        self.polls = luck.choice([(0, 0), (0, 1), (1, 1), (1, 3)])
        self.seconds = luck.choice([0.0, 0.0, 0.1, 0.6])
        return super().accept(label, parts, body)


class ChaoticSegmind(FakeSegmind):
    def __init__(self, seed: str) -> None:
        self._luck = random.Random(seed)
        super().__init__()
        self.jobs = SeededJobs(seed)

    def plan(self, path: str, headers: Mapping[str, str], raw: bytes) -> tuple[Planned, threading.Event]:
        with self._lock:
            if path == SUBMIT:
                self._script.append(self._behaviour(ANSWERS_TO_SUBMIT))
            elif path.startswith(REQUESTS):
                self._poll_script.append(self._behaviour(ANSWERS_TO_POLL))
        return super().plan(path, headers, raw)

    def _behaviour(self, kinds: Mapping[str, int]) -> Behaviour:
        kind = _one_of(kinds, self._luck)
        if kind.isdigit():
            wait = str(self._luck.randint(1, 8)) if self._luck.random() < 0.3 else None
            slow = self._luck.random() * 0.3
            return Behaviour("status", code=int(kind), retry_after=wait, delay=slow)
        if kind in ("ok", "late"):
            return Behaviour(delay=LATE_SECONDS if kind == "late" else self._luck.random() * 0.04)
        return Behaviour(kind)


def _one_of(kinds: Mapping[str, int], luck: random.Random) -> str:
    return luck.choices(list(kinds), list(kinds.values()))[0]


if __name__ == "__main__":
    with ChaoticSegmind(sys.argv[1]) as fake:
        print(fake.port, flush=True)
        threading.Event().wait()
