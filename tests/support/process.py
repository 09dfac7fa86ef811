"""The real server, and the fake provider, as processes of their own."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fakes.openrouter import KEY as PROVIDER_KEY

TESTS = Path(__file__).parent.parent
SERVE = [sys.executable, "-c", "from embedonce.cli import main; main()", "serve"]
OURS = (
    "EMBEDONCE_",
    "OPENROUTER_",
    "GEMINI_",
    "SEGMIND_",
    "OPENAI_",
    "AWS_",
    "LIMITS",
    "HOST",
    "PORT",
    "PUBLIC_",
    "TRUSTED_",
)


def clean_environment() -> dict[str, str]:
    """Without settings of ours that the machine may have, and without proxies."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(OURS) and "proxy" not in k.lower()}
    return kept | {"PYTHONPATH": os.pathsep.join([str(TESTS.parent / "src"), str(TESTS)])}


class ServerProcess:
    def __init__(self, folder: Path, **settings: str) -> None:
        environment = clean_environment() | {"PORT": "0", "EMBEDONCE_DATA_DIR": str(folder), **settings}
        self.process = subprocess.Popen(
            SERVE,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=folder.parent,
        )
        self.said = ""
        assert self.process.stdout is not None
        while "who answers" not in self.said:
            line = self.process.stdout.readline()
            assert line, f"the server ended: {self.said}"
            self.said += line
        while line != "\n":
            line = self.process.stdout.readline()
            assert line, f"the server ended: {self.said}"
            self.said += line
        found = re.search(r"serving on (http://\S+)", self.said)
        assert found is not None
        self.url = found[1]
        key = re.search(r"development key +(\S+)\n", self.said)
        self.key = settings.get("EMBEDONCE_DEV_KEY") or (key[1] if key else "")

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def stop(self) -> str:
        """Ask it to end; answers all that it still said."""
        return self._end(signal.SIGTERM)

    def _end(self, how: signal.Signals) -> str:
        if self.process.poll() is None:
            self.process.send_signal(how)
        rest, _ = self.process.communicate(timeout=40)
        return rest


@contextmanager
def server(folder: Path, **settings: str) -> Iterator[ServerProcess]:
    running = ServerProcess(folder, **settings)
    try:
        yield running
    finally:
        running.kill()


class ProviderProcess:
    """`fakes.openrouter` outside of the test's process."""

    def __init__(self, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "fakes.openrouter", *arguments],
            env=clean_environment(),
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        self.origin = f"http://127.0.0.1:{int(self.process.stdout.readline())}"

    @property
    def settings(self) -> dict[str, str]:
        return {"OPENROUTER_API_KEY": PROVIDER_KEY, "OPENROUTER_BASE_URL": f"{self.origin}/api/v1"}

    def counted(self) -> Mapping[str, Any]:
        with urllib.request.urlopen(f"{self.origin}/_calls") as answer:
            counted: Mapping[str, Any] = json.load(answer)
            return counted

    def control(self, what: str, body: str = "") -> None:
        asked = urllib.request.Request(f"{self.origin}/{what}", data=body.encode(), method="POST")
        urllib.request.urlopen(asked).close()


@contextmanager
def provider(*arguments: str) -> Iterator[ProviderProcess]:
    running = ProviderProcess(*arguments)
    try:
        yield running
    finally:
        running.process.kill()
        running.process.communicate()
