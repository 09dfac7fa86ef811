"""What is asked for: distinct inputs, each several times within a few minutes, so that flights are shared."""

from __future__ import annotations

import base64
import random
from collections import deque
from dataclasses import dataclass

from fakes.answers import Sent, label
from support import media

WINDOW_SECONDS = 400.0
"""An input is asked for no longer than this after the first time, on the fast clock: when the last ticket has
ended, the hour in which an unknown outcome is remembered must not be over (it may be bought again then)."""
REPEATED = 0.6
LONG_TEXT = 5000
"""Bytes: a job of that size does not fit its ticket's row."""


@dataclass(frozen=True)
class Input:
    content: Sent
    body: dict[str, str]
    since: float

    @property
    def label(self) -> str:
        return label([self.content])


class Inputs:
    """Not thread-safe. A function of the seed and of how often it was asked; `now` is the fast clock's."""

    def __init__(self, seed: str) -> None:
        self._luck = random.Random(f"{seed}:inputs")
        self._seed = seed
        self._count = 0
        self._recent: deque[Input] = deque()

    @property
    def count(self) -> int:
        return self._count

    def next(self, now: float) -> tuple[Input, bool]:
        """An input, and whether it is the first time."""
        while self._recent and now - self._recent[0].since > WINDOW_SECONDS:
            self._recent.popleft()
        if self._recent and self._luck.random() < REPEATED:
            return self._recent[
                min(int(self._luck.expovariate(1 / 6)), len(self._recent) - 1) * -1 - 1
            ], False
        made = self._new(now)
        self._recent.append(made)
        return made, True

    def _new(self, now: float) -> Input:
        self._count += 1
        n, luck = self._count, self._luck.random()
        if luck < 0.25:
            picture = media.png(width=4 + n // 256, shade=n)
            return Input(picture, {"image": base64.b64encode(picture).decode()}, now)
        if luck < 0.4:
            sound = media.wav(0.1 + n / 1000, tone=n)
            return Input(sound, {"audio": base64.b64encode(sound).decode()}, now)
        text = f"chaos {self._seed}, input {n}"
        if luck < 0.5:
            text = (text + ". ").ljust(LONG_TEXT, "x")
        return Input(text, {"input": text}, now)
