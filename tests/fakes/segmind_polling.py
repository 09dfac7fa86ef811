"""What a fake provider of jobs has beside a `FakeProvider`: submissions, questions, and control of both.

A `JobScript` is one submission's fate, a `Behaviour` one answer's. In a test's process:

    fake.job_polls = (0, 0)                      # COMPLETED at the first question
    fake.next_job("fail:why", "lost")            # the next two accepted submissions
    fake.next("disconnect")                      # accepted and billed, but the answer is lost
    fake.next_poll("html", status(429))          # the next two questions, of status or result

Over HTTP the same by `POST /_jobs`, a word each: `polls:0,0`, `seconds:0.5`, `next:fail:why`, `always:stuck`,
`poll:html`, `poll_always:ok`, `fetches:1`.
"""

from __future__ import annotations

import base64
import json
import threading
import urllib.error
import urllib.request
from abc import abstractmethod
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import orjson

from fakes.answers import Planned, label, whole_body, written
from fakes.behaviour import BODIES, NOT_BILLED, Behaviour
from fakes.handler import Handler
from fakes.provider import FakeProvider, Recorded
from fakes.segmind_jobs import Job, Jobs, JobScript, accepted, result_said, status_said

REQUESTS = "/v2/requests/"


class JobsProvider(FakeProvider):
    """`submissions` counts accepted jobs by content, as `billed` does; `polled` has every question, of status
    or result. A job takes `job_polls` (how many status questions are answered QUEUED, then PROCESSING) and
    `job_seconds` (the same in seconds) when it is accepted. `fetches`: a medium may be a URL on loopback,
    which is fetched, and listed in `links`.
    """

    submits_at: str
    media_fields: tuple[str, ...]

    def __init__(self, *, key: str | None, port: int = 0) -> None:
        self.fetches = False
        self.links: list[str] = []
        self.jobs = Jobs()
        self.polled: list[Recorded] = []
        self._poll_script: deque[Behaviour] = deque()
        self._every_poll = Behaviour()
        super().__init__(key=key, port=port)
        self._server.RequestHandlerClass = JobsHandler

    @abstractmethod
    def output(self, behaviour: Behaviour, job: Job, read: int) -> tuple[Any, dict[str, str]]:
        """What came of it, edited as `behaviour` says, and headers. `read`: how often it was asked for."""

    @property
    def submissions(self) -> Counter[str]:
        return self.jobs.submissions

    @property
    def job_polls(self) -> tuple[int, int]:
        return self.jobs.polls

    @job_polls.setter
    def job_polls(self, polls: tuple[int, int]) -> None:
        self.jobs.polls = polls

    @property
    def job_seconds(self) -> float:
        return self.jobs.seconds

    @job_seconds.setter
    def job_seconds(self, seconds: float) -> None:
        self.jobs.seconds = seconds

    def next_job(self, *scripts: str) -> None:
        """One accepted submission each, in turn, before `always_job` counts again."""
        with self._lock:
            self.jobs.scripts.extend(map(JobScript.parse, scripts))

    def always_job(self, script: str) -> None:
        with self._lock:
            self.jobs.always = JobScript.parse(script)

    def next_poll(self, *behaviours: Behaviour | str) -> None:
        """One question each, whether for a status or a result."""
        with self._lock:
            self._poll_script.extend(self._possible(b) for b in behaviours)

    def always_poll(self, behaviour: Behaviour | str) -> None:
        with self._lock:
            self._every_poll = self._possible(behaviour)

    def control_jobs(self, word: str) -> None:
        """One word of `POST /_jobs`."""
        what, _, value = word.partition(":")
        match what:
            case "polls":
                queued, _, processing = value.partition(",")
                self.job_polls = int(queued), int(processing or 0)
            case "seconds":
                self.job_seconds = float(value)
            case "next":
                self.next_job(value)
            case "always":
                self.always_job(value)
            case "poll":
                self.next_poll(value)
            case "poll_always":
                self.always_poll(value)
            case "fetches":
                self.fetches = value != "0"
            case _:
                raise ValueError(f"no such control of jobs: {what}")

    def counted(self) -> dict[str, Any]:
        """What `GET /_calls` answers."""
        with self._lock:
            return {
                "calls": self.calls,
                "inputs_billed": self.inputs_billed,
                "billed": dict(self.billed),
                "most_in_flight": self.most_in_flight,
                "submissions": dict(self.submissions),
                "submitted": self.submissions.total(),
                "polls": len(self.polled),
                "jobs": {job.id: job.script.kind for job in self.jobs.by_id.values()},
            }

    def reset(self) -> None:
        super().reset()
        with self._lock:
            self.jobs = Jobs()
            self.polled.clear()
            self.links.clear()
            self.fetches = False
            self._poll_script.clear()
            self._every_poll = Behaviour()

    def plan(self, path: str, headers: Mapping[str, str], raw: bytes) -> tuple[Planned, threading.Event]:
        route = path.partition("?")[0]
        if route.startswith(REQUESTS):
            return self._poll(path, headers)
        if self.fetches:
            raw = self._with_fetched(raw)
        planned, free = super().plan(path, headers, raw)
        if route != self.submits_at or planned.behaviour.kind in NOT_BILLED:
            return planned, free
        body = json.loads(raw)
        (parts,) = self.contents(route, body)
        with self._lock:
            job = self.jobs.accept(label(parts), parts, body)
        if planned.behaviour.kind not in BODIES:
            planned = replace(planned, body=orjson.dumps(accepted(job, self.origin)))
        return planned, free

    def _poll(self, path: str, headers: Mapping[str, str]) -> tuple[Planned, threading.Event]:
        """The answer of a status or result URL. Its vectors are edited as the behaviour says."""
        job_id, _, kind = path.removeprefix(REQUESTS).partition("/")
        with self._lock:
            free = self._free
            self.polled.append(Recorded(path, headers, b"", None))
            if self._authenticated and headers.get("x-api-key") != self.key:
                return self.error(401, "Unauthorized"), free
            behaviour = self._poll_script.popleft() if self._poll_script else self._every_poll
            if behaviour.kind == "status":
                return self.error(behaviour.code, behaviour.text or "failed", behaviour), free
            if behaviour.kind == "error_under_200":
                said = {"error": behaviour.text or "failed"}
                return Planned(behaviour, 200, orjson.dumps(said)), free
            if page := whole_body(behaviour):
                return page, free
            job = self.jobs.by_id.get(job_id)
            code, said = (status_said if kind == "status" else result_said)(job, job_id)
            read = job.read if job else 0
        sent: dict[str, str] = {}
        if job is not None and kind != "status" and said.get("status", "COMPLETED") == "COMPLETED":
            said["output"], sent = self.output(behaviour, job, read)
        return Planned(behaviour, code, written(behaviour, said), sent), free

    def _with_fetched(self, raw: bytes) -> bytes:
        """The body with base64 in place of URLs on loopback; others stay, and are refused."""
        try:
            body = json.loads(raw)
        except ValueError:
            return raw
        for name in self.media_fields if isinstance(body, dict) else ():
            if isinstance(given := body.get(name), list):
                body[name] = [self._fetched(one) for one in given]
            elif name in body:
                body[name] = self._fetched(given)
        return json.dumps(body).encode()

    def _fetched(self, given: Any) -> Any:
        if not isinstance(given, str) or not given.startswith("http://127.0.0.1:"):
            return given
        self.links.append(given)
        past_proxies = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with past_proxies.open(given, timeout=5) as response:
                return base64.b64encode(response.read()).decode()
        except urllib.error.HTTPError as refused:
            refused.close()
        except OSError:
            pass
        return given


class JobsHandler(Handler):
    """Also GET `/v2/requests/…` and the control `/_jobs`."""

    @property
    def fake(self) -> JobsProvider:
        fake: JobsProvider = self.server.fake  # type: ignore[attr-defined]
        return fake

    def do_GET(self) -> None:
        if self.path.startswith("/v2/requests/"):
            self._embed(b"")
        elif self.path == "/_calls":
            self._send(200, json.dumps(self.fake.counted()).encode())
        else:
            super().do_GET()

    def do_POST(self) -> None:
        if self.path != "/_jobs":
            super().do_POST()
            return
        for word in self.rfile.read(int(self.headers.get("content-length", 0))).decode().split():
            self.fake.control_jobs(word)
        self._send(200, b"{}")
