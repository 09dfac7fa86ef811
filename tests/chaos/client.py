"""The side of the callers: tickets asked for, looked at until they have ended, and looked at again after."""

from __future__ import annotations

import heapq
import http.client
import random
import threading
import time
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import orjson

from chaos.inputs import WINDOW_SECONDS, Input, Inputs
from chaos.patches import Time, cursed
from fakes.answers import vector_for
from fakes.segmind import MODEL

KEY = "chaos-development-key-0123456789"
MODEL_PATH = "/v2/gemini-embedding-2"
WAITING_PATH = "/v1/gemini-embedding-2"
AGAIN_SECONDS = (60.0, 600.0, 2400.0)
"""After the end of a ticket was seen it is looked at again, on the fast clock: it must not have changed."""
HOOKED = 0.25
BURSTS = (0, 0, 1, 2, 5)
"""So often a new input is asked for again at once."""


@dataclass
class Held:
    """A ticket that was accepted."""

    id: str
    asked: Input
    created: float
    hooked: bool
    state: str = "open"
    reason: str = ""
    ended: float = 0.0
    looks: int = 0
    again: int = 0


@dataclass
class Tally:
    answers: Counter[str] = field(default_factory=Counter)
    waited: Counter[str] = field(default_factory=Counter)
    wrong_vectors: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)


class Callers:
    """One thread that asks, two that look, one that asks for a sound and waits (the slow lane, on the same
    tickets and flights). `patience`: seconds within which a ticket has to end."""

    def __init__(self, port: int, hook: str, seed: str, fast: Time, rate: float, patience: float) -> None:
        self._port = port
        self._hook = hook
        self._fast = fast
        self._rate = rate
        self._patience = patience
        self._luck = random.Random(f"{seed}:callers")
        self._lock = threading.Lock()
        self._heap: list[tuple[float, str]] = []
        self._sounds: deque[Input] = deque(maxlen=4)
        self._asking = threading.Event()
        self._over = threading.Event()
        self.inputs = Inputs(seed)
        self.tally = Tally()
        self.held: dict[str, Held] = {}
        works = (self._ask, self._watch, self._watch, self._wait)
        self._threads = [threading.Thread(target=work) for work in works]
        for thread in self._threads:
            thread.start()

    @property
    def open(self) -> list[Held]:
        with self._lock:
            return [held for held in self.held.values() if held.state == "open"]

    def stop_asking(self) -> None:
        self._asking.set()

    def look_again(self) -> None:
        """Once at every ticket whose result is still kept."""
        wire, now = Wire(self._port), self._fast.now()
        for held in list(self.held.values()):
            if held.state == "open" or now - held.ended < AGAIN_SECONDS[-1]:
                self._look(wire, held)

    def close(self) -> None:
        self._asking.set()
        self._over.set()
        for thread in self._threads:
            thread.join(10)

    def _ask(self) -> None:
        wire = Wire(self._port)
        burst = 0
        while burst or not self._asking.wait(self._luck.expovariate(self._rate)):
            if burst:
                burst -= 1
            else:
                asked, first = self.inputs.next(self._fast.now())
                burst = self._luck.choice(BURSTS) if first else 0
            if "audio" in asked.body:
                self._sounds.append(asked)
            hooked = self._luck.random() < HOOKED
            body: dict[str, Any] = {**asked.body, **({"webhook_url": self._hook} if hooked else {})}
            status, said = wire.ask("POST", MODEL_PATH, orjson.dumps(body))
            self.tally.answers[str(status) if status else "no answer"] += 1
            if status == 200:
                held = Held(said["request_id"], asked, self._fast.now(), hooked)
                with self._lock:
                    self.held[held.id] = held
                    heapq.heappush(self._heap, (self._first_look(held), held.id))

    def _wait(self) -> None:
        wire = Wire(self._port)
        while not self._asking.wait(1.0):
            recent = [one for one in list(self._sounds) if self._fast.now() - one.since < WINDOW_SECONDS]
            if not recent:
                continue
            status, said = wire.ask("POST", WAITING_PATH, orjson.dumps(recent[-1].body))
            self.tally.waited[str(status) if status else "no answer"] += 1
            if status == 200 and not _is_right(said, recent[-1]):
                self.tally.wrong_vectors.append(f"waited for: {recent[-1].label}")

    def _first_look(self, held: Held) -> float:
        """Whom nobody looks at is settled by others than the server."""
        seconds = self._patience + 130 if cursed(held.id) else self._luck.random() * 20
        return time.monotonic() + seconds / self._fast.factor

    def _watch(self) -> None:
        wire = Wire(self._port)
        while not self._over.is_set():
            with self._lock:
                due = self._heap[0][0] if self._heap else time.monotonic() + 1
                held = None
                if due <= time.monotonic():
                    held = self.held[heapq.heappop(self._heap)[1]]
            if held is None:
                self._over.wait(min(max(due - time.monotonic(), 0.0), 0.05))
                continue
            pause = self._look(wire, held)
            if pause is not None:
                with self._lock:
                    heapq.heappush(self._heap, (time.monotonic() + pause, held.id))

    def _look(self, wire: Wire, held: Held) -> float | None:
        """Real seconds until the next look; None: that was the last one."""
        status, said = wire.ask("GET", f"/v2/requests/{held.id}/status")
        if status == 0 or status in (429, 500, 503):
            return 0.05
        held.looks += 1
        state = said.get("status", "gone") if status in (200, 422) else "gone"
        if state == "COMPLETED" and not self._right(wire, held):
            return 0.05
        if state == "gone":
            self.tally.gone.append(f"{held.id}: HTTP {status} after {held.state}")
            held.state = held.state if held.state != "open" else "gone"
            return None
        if held.state not in ("open", state) or (
            state == "FAILED" and held.reason not in ("", said.get("error"))
        ):
            self.tally.changed.append(f"{held.id}: {held.state} {held.reason} became {state} {said}")
        if state not in ("COMPLETED", "FAILED"):
            return min(20 * 1.5**held.looks, 180) * (0.5 + self._luck.random()) / self._fast.factor
        if held.state == "open":
            held.state, held.ended = state, self._fast.now()
            held.reason = said.get("error", "")
        if held.again == len(AGAIN_SECONDS):
            return None
        held.again += 1
        return (held.ended + AGAIN_SECONDS[held.again - 1] - self._fast.now()) / self._fast.factor

    def _right(self, wire: Wire, held: Held) -> bool:
        """Whether the result could be read; it is noted where it is not the right one."""
        status, said = wire.ask("GET", f"/v2/requests/{held.id}")
        if status == 0 or status in (429, 500, 503):
            return False
        if status != 200:
            self.tally.gone.append(f"{held.id}: COMPLETED, but its result is HTTP {status}")
        elif not _is_right(said["output"], held.asked):
            self.tally.wrong_vectors.append(held.id)
        return True


def _is_right(said: Any, asked: Input) -> bool:
    found = np.array(said["embedding"], dtype="<f4")
    data = vector_for(asked.content, 768, model=MODEL, task_type="RETRIEVAL_DOCUMENT")
    return found.shape == (768,) and np.allclose(found, np.frombuffer(data, dtype="<f4"), atol=1e-6)


class Wire:
    """One connection, opened anew when the server died. Not thread-safe."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._connection: http.client.HTTPConnection | None = None

    def ask(self, method: str, path: str, body: bytes | None = None) -> tuple[int, Any]:
        """Status and JSON; (0, None) where there was no answer, for whatever reason."""
        if self._connection is None:
            self._connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=20)
        try:
            headers = {"x-api-key": KEY, "content-type": "application/json"}
            self._connection.request(method, path, body, headers)
            answer = self._connection.getresponse()
            return answer.status, orjson.loads(answer.read())
        except (OSError, http.client.HTTPException, ValueError):
            self._connection.close()
            self._connection = None
            time.sleep(0.02)
            return 0, None
