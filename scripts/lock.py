"""Write requirements/{dev,local,ingest,lambda}.txt: exact versions and hashes of all that pyproject asks for.

The locks are universal (every platform, Python >= 3.11) and nested: what a smaller one pins, the larger ones
pin to the same version, so that what was tested is what runs. They name no registry and no path: a lock made
behind a mirror must install from the public index, and the other way round.

Run by `make lock`, with uv from the development environment.
"""

# The only program started is uv, with arguments from this file and pyproject.toml.
# ruff: noqa: S603, T201

from __future__ import annotations

import re
import subprocess
import sys
import sysconfig
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
REQUIREMENTS = ROOT / "requirements"
PYTHON = "3.11"  # the oldest supported version; the locks hold for it and everything later

HEADER = """\
# {what}
# Exact versions and hashes, for every platform, from pyproject.toml. Written by `make lock`: do not edit.
"""
WHAT = {
    "dev": "What tests, linters and builds need: local.txt and the development tools.",
    "local": "What the server on one machine needs, and setuptools to install the project itself.",
    "ingest": "What goes into the ingest function's Lambda package: lambda.txt and the media library.",
    "lambda": "What goes into the Lambda package.",
}
EXTRAS = {
    "dev": ("local", "ingest", "dev"),
    "local": ("local", "ingest"),
    "ingest": ("ingest",),
    "lambda": (),
}
# setuptools is needed where the project is installed (`pip install --no-build-isolation -e .`).
INSTALLS_PROJECT = ("dev", "local")

PLACE = re.compile(
    r"://|^\s*(?:-i|-f|--index|--extra-index|--find-links|--trusted-host)|\s@\s|(?:^|\s)/", re.M
)


def uv() -> str:
    return str(Path(sysconfig.get_path("scripts")) / "uv")


def compile_lock(name: str, build_requires: list[str], constraint: Path | None, upgrade: bool) -> str:
    """The text of one lock; versions already locked are kept unless `upgrade`."""
    with tempfile.TemporaryDirectory() as scratch:
        extra_in = Path(scratch) / "build.in"
        extra_in.write_text("\n".join(build_requires if name in INSTALLS_PROJECT else []) + "\n")
        out = Path(scratch) / f"{name}.txt"
        present = REQUIREMENTS / f"{name}.txt"
        if present.exists() and not upgrade:
            out.write_text(present.read_text())
        command = [uv(), "pip", "compile", "--quiet", "--universal", "--python-version", PYTHON]
        # One version everywhere: by default uv would lock a newer numpy for Python 3.12+ (so also for Lambda)
        # than the one the tests on 3.11 run with.
        command += ["--fork-strategy", "fewest", "--generate-hashes", "--only-binary", ":all:"]
        command += ["--no-header", "--no-annotate", "--no-emit-index-url", "--no-emit-find-links"]
        command += [f"--extra={extra}" for extra in EXTRAS[name]]
        if constraint is not None:
            command += ["--constraint", str(constraint)]
        command += ["--output-file", str(out), "pyproject.toml", str(extra_in)]
        subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
        return HEADER.format(what=WHAT[name]) + out.read_text()


def main(arguments: list[str]) -> int:
    build_requires = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"]
    REQUIREMENTS.mkdir(exist_ok=True)
    for name in EXTRAS:
        constraint = None if name == "dev" else REQUIREMENTS / "dev.txt"
        text = compile_lock(name, build_requires, constraint, upgrade="--upgrade" in arguments)
        if found := PLACE.search(text):
            print(
                f"requirements/{name}.txt would name a registry or a path: {found.group()!r}", file=sys.stderr
            )
            return 1
        path = REQUIREMENTS / f"{name}.txt"
        pins = len(re.findall(r"^\S+==", text, re.M))
        # An unchanged lock keeps its time, so that `make` does not set up the environment again.
        if path.exists() and path.read_text() == text:
            print(f"requirements/{name}.txt: {pins} packages, unchanged")
            continue
        path.write_text(text)
        print(f"requirements/{name}.txt: {pins} packages, written")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
