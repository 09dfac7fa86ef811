"""Build the Lambda package: build/lambda/ (what template.yaml's CodeUri names) and the same as a zip.

It is for arm64 and Python 3.13, made with neither Docker nor Python 3.13 on this machine: uv takes wheels for
another platform. Every wheel is checked against the hashes in requirements/lambda.txt. The result is checked
for size, for the platform of its native code and for what must not be in it; then the same locked versions
are taken for this machine, cut down by the same rules, and the handler answers a health event with nothing
but them on its path.

Run by `make build`, with the interpreter and uv of the development environment.
"""

# The only programs started are uv and this interpreter, with arguments from this file.
# ruff: noqa: S603, T201

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / "requirements" / "lambda.txt"
TESTED_LOCK = ROOT / "requirements" / "dev.txt"
PACKAGE = ROOT / "build" / "lambda"
ZIP = ROOT / "build" / "embedonce-api.zip"

# Lambda's python3.13 runs on Amazon Linux 2023 (glibc 2.34). numpy's arm64 wheels ask for glibc 2.27 or
# later, so manylinux2014 (2.17) would find none.
LAMBDA = ("--python-platform", "aarch64-manylinux_2_28", "--python-version", "3.13")
HOST = ("--python", sys.executable)

MAX_UNZIPPED = 60_000_000
MACHINE_AARCH64 = 183  # e_machine of the ELF header

# Our code that only the server on one machine and the command line use.
LOCAL_ONLY = (
    "embedonce/cli",
    "embedonce/local",
    "embedonce/stores/embedded",
    "embedonce/upstreams/embedded.py",
)
# Distributions whose presence means that local or development dependencies have leaked in.
FORBIDDEN = (
    *("wordllama", "tokenizers", "huggingface_hub", "safetensors"),
    *("uvicorn", "uvloop", "httptools", "typer", "click", "rich"),
    *("moto", "pytest", "mypy", "uv", "aws_xray_sdk"),
)

# botocore describes every AWS service. These are the ones the functions speak to, and sts because credentials
# can come through it.
AWS_SERVICES = frozenset({"dynamodb", "s3", "secretsmanager", "sqs", "ssm", "sts"})
BOTO3_RESOURCES = frozenset({"dynamodb", "s3", "sqs"})
# `import numpy` loads numpy.random and numpy.f2py only when they are asked for, and nothing here does.
UNUSED = (
    "aws_lambda_powertools/event_handler/openapi/swagger_ui/swagger-ui-bundle.min.js",
    "aws_lambda_powertools/event_handler/openapi/swagger_ui/swagger-ui.min.css",
    "bin",
    "boto3/examples",
    "numpy/_pyinstaller",
    "numpy/_core/include",
    "numpy/_core/lib",
    "numpy/doc",
    "numpy/f2py",
    "numpy/random",
    "numpy/testing",
)
UNUSED_DIRS = frozenset({"tests", "__pycache__", "sboms"})
UNUSED_FILES = ("*.pyi", "*.pyx", "*.pxd", "*.pyc", "*.a", "*.h", "_simd.*.so", "_*_tests.*.so", ".lock")
# Licences stay with the code they cover, and METADATA because importlib.metadata answers from it.
DIST_INFO_KEPT = ("METADATA", "LICEN[CS]E*", "NOTICE*", "COPYING*", "AUTHORS*", "licenses")


class BuildError(Exception):
    """The package is not fit to be deployed."""


def pins(lock: Path) -> dict[str, frozenset[str]]:
    """Hashes by `name==version`."""
    entries = re.split(r"\n(?=\S)", lock.read_text())
    return {
        entry.split()[0]: frozenset(re.findall(r"--hash=(\S+)", entry)) for entry in entries if "==" in entry
    }


def check_lock(lock: Path, tested: Path) -> None:
    """Raise BuildError unless `lock` names the same files as the lock that the tests are installed from.

    uv checks the wheels it installs here. This also finds an altered hash of a wheel for another platform,
    and a version that was never tested.
    """
    known = pins(tested)
    if wrong := [pin for pin, hashes in pins(lock).items() if not hashes or known.get(pin) != hashes]:
        raise BuildError(f"{lock.name} and {tested.name} differ: {', '.join(wrong)} (run `make lock`)")


def install(
    lock: Path, target: Path, platform: Iterable[str], environment: Mapping[str, str] | None = None
) -> None:
    """Put the locked wheels into `target`. Raises BuildError where a wheel is missing or has another hash."""
    uv = Path(sysconfig.get_path("scripts")) / "uv"
    command = [str(uv), "pip", "install", "--quiet", *platform, "--target", str(target)]
    # Copies: hard links would share their mode and contents with uv's cache.
    command += ["--require-hashes", "--no-deps", "--only-binary", ":all:", "--link-mode", "copy"]
    done = subprocess.run([*command, "--requirements", str(lock)], env=environment, check=False)
    if done.returncode:
        raise BuildError(f"uv could not install {lock.name} for {' '.join(platform)}")


def remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def copy_source(target: Path) -> None:
    """Our own code, without what only local mode uses."""
    shutil.copytree(ROOT / "src" / "embedonce", target / "embedonce", dirs_exist_ok=True)
    for name in LOCAL_ONLY:
        remove(target / name)


def prune(target: Path) -> None:
    """Remove what no function uses from the installed wheels."""
    for name in UNUSED:
        remove(target / name)
    keep_only(target / "botocore" / "data", AWS_SERVICES)
    keep_only(target / "boto3" / "data", BOTO3_RESOURCES)
    for info in target.glob("*.dist-info"):
        for path in info.iterdir():
            if not any(path.match(kept) for kept in DIST_INFO_KEPT):
                remove(path)
    for folder in [path for path in target.rglob("*") if path.is_dir() and path.name in UNUSED_DIRS]:
        shutil.rmtree(folder, ignore_errors=True)  # it may lie in one that is gone already
    for pattern in UNUSED_FILES:
        for path in target.rglob(pattern):
            path.unlink()


def keep_only(folder: Path, kept: frozenset[str]) -> None:
    """Of the folders in `folder`, only `kept`; files beside them (endpoints, retry rules) stay."""
    if not folder.is_dir():
        return
    for path in folder.iterdir():
        if path.is_dir() and path.name not in kept:
            shutil.rmtree(path)


def files(target: Path) -> list[Path]:
    return sorted(path for path in target.rglob("*") if path.is_file())


def check(target: Path) -> None:
    """Raise BuildError where the package is too big, for another machine, or holds what it must not."""
    problems = []
    present = {path.name.partition("-")[0].lower().removesuffix(".py") for path in target.iterdir()}
    problems += [f"{name} does not belong in it" for name in FORBIDDEN if name in present]
    for path in files(target):
        with path.open("rb") as opened:
            header = opened.read(20)
        if header[:4] == b"\x7fELF" and int.from_bytes(header[18:20], "little") != MACHINE_AARCH64:
            problems.append(f"{path.relative_to(target)} is not for arm64")
        elif header[:4] != b"\x7fELF" and (path.suffix == ".so" or ".so." in path.name):
            problems.append(f"{path.relative_to(target)} is no native library")
    if (size := sum(path.stat().st_size for path in files(target))) > MAX_UNZIPPED:
        problems.append(f"{size / 1e6:.1f} MB unzipped; {MAX_UNZIPPED / 1e6:.0f} MB is the most")
    if problems:
        raise BuildError("\n".join(problems))


def write_zip(target: Path, archive: Path) -> None:
    """The same files give the same bytes: names sorted, one date, one mode."""
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as opened:
        for path in files(target):
            entry = zipfile.ZipInfo(path.relative_to(target).as_posix(), date_time=(1980, 1, 1, 0, 0, 0))
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = (0o100755 if ".so" in path.name else 0o100644) << 16
            entry.create_system = 3  # Unix, whatever this machine is: it makes the mode above count
            opened.writestr(entry, path.read_bytes())


def probe(target: Path, interpreter: str = sys.executable) -> str:
    """Let the handler in `target` answer a health event with only `target` on its path and no network."""
    environment = {
        "PATH": os.defpath,
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "probe",
        "AWS_SECRET_ACCESS_KEY": "probe",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_LAMBDA_FUNCTION_NAME": "probe",
        "EMBEDONCE_MODE": "aws",
        "EMBEDONCE_VECTORS_TABLE": "vectors",
        "EMBEDONCE_FLIGHTS_TABLE": "flights",
        "EMBEDONCE_ACCESS_TABLE": "access",
        "EMBEDONCE_CACHE_BUCKET": "cache",
    }
    # -I and -S: neither this environment's packages, nor the user's, nor the current folder.
    program = [interpreter, "-I", "-S", "-B", str(ROOT / "scripts" / "lambda_probe.py")]
    program += [str(target), str(ROOT / "events" / "health.json")]
    with tempfile.TemporaryDirectory() as empty:
        done = subprocess.run(
            program, env=environment, cwd=empty, capture_output=True, text=True, check=False, timeout=120
        )
    if done.returncode:
        raise BuildError(f"the packaged handler does not run:\n{done.stdout}{done.stderr}")
    return done.stdout.strip()


def main() -> int:
    remove(ZIP)  # a build that fails must leave nothing that could be deployed by mistake
    remove(PACKAGE)
    PACKAGE.mkdir(parents=True)
    try:
        check_lock(LOCK, TESTED_LOCK)
        install(LOCK, PACKAGE, LAMBDA)
        copy_source(PACKAGE)
        prune(PACKAGE)
        check(PACKAGE)
        with tempfile.TemporaryDirectory() as scratch:
            host = Path(scratch)
            install(LOCK, host, HOST)
            copy_source(host)
            prune(host)
            print(probe(host))
    except BuildError as error:
        remove(PACKAGE)
        print(f"build failed: {error}", file=sys.stderr)
        return 1
    write_zip(PACKAGE, ZIP)
    unzipped = sum(path.stat().st_size for path in files(PACKAGE))
    print(f"{PACKAGE.relative_to(ROOT)}: {unzipped / 1e6:.1f} MB unzipped, arm64, Python 3.13")
    digest = hashlib.sha256(ZIP.read_bytes()).hexdigest()
    print(f"{ZIP.relative_to(ROOT)}: {ZIP.stat().st_size / 1e6:.1f} MB, SHA-256 {digest}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
