"""The jobs of the fake Segmind's v2: when they are done, and what is said of them."""

from __future__ import annotations

import time
import uuid
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fakes.answers import Sent

FATES = frozenset(
    {
        "ok",
        "fail",  # FAILED under 422, with `text` as the error
        "fail_200",  # FAILED under 200
        "fail_late",  # COMPLETED, but the result is FAILED under 422
        "lost",  # accepted, then 404 on both URLs
        "lost_result",  # COMPLETED, but the result is 404
        "stuck",  # never completed
        "flip",  # COMPLETED, then PROCESSING again on the result and once on the status
        "fickle",  # every reading of the result has another vector
        "garbage",  # COMPLETED with `text` as the output
        "no_state",  # an answer without status
        "other_id",  # every answer is of another job
        "odd_state",  # `text` in place of QUEUED and PROCESSING
        "evil_urls",  # status_url, response_url and poll_url are below `text`
        "no_id",  # accepted, but the answer has no request_id
        "bad_id",  # accepted, but the answer has `text` as its request_id
        "done",  # COMPLETED in the answer to the submission, and after
    }
)


@dataclass(frozen=True)
class JobScript:
    kind: str = "ok"
    text: str = ""

    def __post_init__(self) -> None:
        if self.kind not in FATES:
            raise ValueError(f"no such fate of a job: {self.kind}. There are {', '.join(sorted(FATES))}")

    @classmethod
    def parse(cls, spec: str) -> JobScript:
        """`kind` or `kind:text`"""
        kind, _, text = spec.partition(":")
        return cls(kind, text)


@dataclass
class Job:
    """`queued`, `processing`: so many status questions are answered so. `ready`: on `time.monotonic()`."""

    parts: Sequence[Sent]
    body: Mapping[str, Any]
    script: JobScript
    queued: int
    processing: int
    seconds: float
    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    made: float = field(default_factory=time.monotonic)
    asked: int = 0
    read: int = 0

    def state(self) -> str:
        """As of now, after `asked` questions."""
        if self.script.kind == "done":
            return "COMPLETED"
        passed, asked = time.monotonic() - self.made, max(self.asked, 1)
        if asked <= self.queued or passed < self.seconds / 2:
            return self.script.text if self.script.kind == "odd_state" else "QUEUED"
        working = asked <= self.queued + self.processing or passed < self.seconds
        flipped = self.script.kind == "flip" and self.read and asked <= self.queued + self.processing + 2
        if working or flipped or self.script.kind == "stuck":
            return self.script.text if self.script.kind == "odd_state" else "PROCESSING"
        return "FAILED" if self.script.kind in ("fail", "fail_200") else "COMPLETED"


class Jobs:
    """All that were accepted, by id; the caller holds the fake's lock."""

    def __init__(self) -> None:
        self.by_id: dict[str, Job] = {}
        self.submissions: Counter[str] = Counter()
        self.polls: tuple[int, int] = (1, 1)
        self.seconds = 0.0
        self.always = JobScript()
        self.scripts: deque[JobScript] = deque()

    def accept(self, label: str, parts: Sequence[Sent], body: Mapping[str, Any]) -> Job:
        script = self.scripts.popleft() if self.scripts else self.always
        job = Job(parts, body, script, *self.polls, self.seconds)
        self.by_id[job.id] = job
        self.submissions[label] += 1
        return job


def accepted(job: Job, origin: str) -> dict[str, Any]:
    """The answer to a submission."""
    base = job.script.text if job.script.kind == "evil_urls" else origin
    said: dict[str, Any] = {
        "request_id": job.script.text if job.script.kind == "bad_id" else job.id,
        "status": "COMPLETED" if job.script.kind == "done" else "QUEUED",
        "status_url": f"{base}/v2/requests/{job.id}/status",
        "response_url": f"{base}/v2/requests/{job.id}",
        "poll_url": f"{base}/v2/requests/{job.id}/status",
    }
    if job.script.kind == "no_id":
        del said["request_id"]
    return said


def not_found(job_id: str) -> tuple[int, dict[str, Any]]:
    return 404, {"error": f"Request {job_id} not found"}


def status_said(job: Job | None, job_id: str) -> tuple[int, dict[str, Any]]:
    """HTTP status and body of a status URL. Counts as a question."""
    if job is None or job.script.kind == "lost":
        return not_found(job_id)
    job.asked += 1
    return _said(job, job.state())


def result_said(job: Job | None, job_id: str) -> tuple[int, dict[str, Any]]:
    """The same of a result URL, but for the output."""
    if job is None or job.script.kind in ("lost", "lost_result"):
        return not_found(job_id)
    state = job.state()
    if state == "COMPLETED":
        job.read += 1
        if job.script.kind == "flip" and job.read == 1:
            state = "PROCESSING"
        elif job.script.kind == "fail_late":
            state = "FAILED"
    return _said(job, state)


def _said(job: Job, state: str) -> tuple[int, dict[str, Any]]:
    said: dict[str, Any] = {"request_id": job.id, "status": state, "metrics": {}}
    if state == "COMPLETED":
        said["metrics"] = {"inference_time": 0.1}
    if state == "FAILED":
        said["error"] = job.script.text or "Inference failed"
    if job.script.kind == "other_id":
        said["request_id"] = "another-job"
    if job.script.kind == "no_state":
        del said["status"]
    return 422 if state == "FAILED" and job.script.kind != "fail_200" else 200, said
