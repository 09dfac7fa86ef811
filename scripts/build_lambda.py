"""Build the Lambda packages: build/lambda/ and build/ingest/ (the template's CodeUri), each also as a
zip. The second one is that of the function that cuts files, with its parsers.

They are for arm64 and Python 3.13, made with neither Docker nor Python 3.13 on this machine: uv takes wheels
for another platform. Every wheel is checked against the hashes in the package's lock. The result is checked
for size, for the platform of its native code and for what must not be in it; then the same locked versions
are taken for this machine, cut down by the same rules, and a handler answers an event (the ingest package
also cuts a file for each of its parsers), and the other functions' handlers are imported, with nothing but
them on their path.

Where a Python 3.13 is found ($PYTHON313, on PATH, or pyenv's) it does the same there, and the modules that
the handlers' cold starts load are packed with their bytecode, which is the same on every platform. Lambda
cannot keep any of its own: its package folder is read-only, so that without it every cold start compiles.

Run by `make build`, with the interpreter and uv of the development environment:
python scripts/build_lambda.py [lambda|ingest]
"""

# The only programs started are uv and this interpreter, with arguments from this file.
# ruff: noqa: S603, T201

from __future__ import annotations

import hashlib
import importlib
import os
import py_compile
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TESTED_LOCK = ROOT / "requirements" / "dev.txt"

# Lambda's python3.13 runs on Amazon Linux 2023 (glibc 2.34). numpy's arm64 wheels ask for glibc 2.27 or
# later, so manylinux2014 (2.17) would find none.
LAMBDA = ("--python-platform", "aarch64-manylinux_2_28", "--python-version", "3.13")
HOST = ("--python", sys.executable)

CACHE_TAG = "cpython-313"
MACHINE_AARCH64 = 183  # e_machine of the ELF header

# Our code that only the server on one machine and the command line use.
LOCAL_ONLY = (
    "embedonce/cli",
    "embedonce/doctor",
    "embedonce/local",
    "embedonce/simulation",
    "embedonce/stores/embedded",
    "embedonce/upstreams/embedded.py",
)


@dataclass(frozen=True)
class Package:
    """`entrypoints`: the first answers `event` when the package is probed. `after`: further modules that are
    loaded with it soon enough to be packed with their bytecode. `without`: what of our code is left out.
    `filled_up_to`: bytes with bytecode; what the disk adds to each file is under the limit too."""

    name: str
    lock: Path
    zip: Path
    entrypoints: tuple[str, ...]
    event: str
    after: tuple[str, ...]
    without: tuple[str, ...]
    forbidden: tuple[str, ...]
    max_unzipped: int
    filled_up_to: int

    @property
    def folder(self) -> Path:
        return ROOT / "build" / self.name


# One package for all functions but one. The API's callers wait for its cold start, so it comes first; and
# what a first miss imports on top of the handler itself comes with the cold start as often as not.
MAIN = Package(
    name="lambda",
    lock=ROOT / "requirements" / "lambda.txt",
    zip=ROOT / "build" / "embedonce-api.zip",
    entrypoints=("api", "worker", "poller", "janitor", "chunks"),
    event="health",
    after=("httpx", "embedonce.net.bounded", "aws_lambda_powertools.utilities.parameters"),
    without=(*LOCAL_ONLY, "embedonce/segmenting", "embedonce/entrypoints/ingest.py"),
    forbidden=("av", "av.libs"),
    max_unzipped=60_000_000,
    filled_up_to=58_500_000,
)
# Each cut starts an interpreter that imports its parser, and would compile it each time.
INGEST = Package(
    name="ingest",
    lock=ROOT / "requirements" / "ingest.txt",
    zip=ROOT / "build" / "embedonce-ingest.zip",
    entrypoints=("ingest",),
    event="ingest_test_event",
    after=(
        *(f"embedonce.segmenting.{name}" for name in ("cutter", "wire", "text", "html", "rows", "pdf", "av")),
    ),
    without=(*LOCAL_ONLY, *(f"embedonce/entrypoints/{name}.py" for name in MAIN.entrypoints)),
    forbidden=(),
    max_unzipped=170_000_000,
    filled_up_to=168_000_000,
)
PACKAGES = {package.name: package for package in (MAIN, INGEST)}

# Distributions whose presence means that local or development dependencies have leaked in.
FORBIDDEN = (
    *("wordllama", "tokenizers", "huggingface_hub", "safetensors"),
    *("uvicorn", "uvloop", "httptools", "typer", "click", "rich"),
    *("moto", "pytest", "mypy", "uv", "aws_xray_sdk"),
)

# botocore describes every AWS service. These are the ones the functions speak to, and sts because credentials
# can come through it.
AWS_SERVICES = frozenset({"dynamodb", "s3", "s3vectors", "secretsmanager", "sqs", "ssm", "sts"})
BOTO3_RESOURCES = frozenset({"dynamodb", "s3", "sqs"})
# `import numpy` loads some of its packages only when they are asked for, and nothing here does.
UNUSED = (
    "aws_lambda_powertools/event_handler",
    "aws_lambda_powertools/utilities/auth_alpha",
    "aws_lambda_powertools/utilities/circuit_breaker",
    "aws_lambda_powertools/utilities/data_masking",
    "aws_lambda_powertools/utilities/feature_flags",
    "aws_lambda_powertools/utilities/idempotency",
    "aws_lambda_powertools/utilities/kafka",
    "aws_lambda_powertools/utilities/streaming",
    "aws_lambda_powertools/utilities/validation",
    "bin",
    "boto3/examples",
    "dateutil/zoneinfo",
    "numpy/_pyinstaller",
    "numpy/_core/include",
    "numpy/_core/lib",
    "numpy/core",
    "numpy/ctypeslib",
    "numpy/doc",
    "numpy/f2py",
    "numpy/fft",
    "numpy/ma",
    "numpy/polynomial",
    "numpy/random",
    "numpy/testing",
    "numpy/typing",
    "pydantic/mypy.py",
    "pydantic/v1",
)
UNUSED_DIRS = frozenset({"tests", "__pycache__", "sboms"})
UNUSED_FILES = (
    "*.pyi",
    "*.pyx",
    "*.pxd",
    "*.pyc",
    "*.a",
    "*.c",
    "*.h",
    "_simd.*.so",
    "_*_tests.*.so",
    ".lock",
)
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


def copy_source(target: Path, without: Iterable[str]) -> None:
    """Our own code."""
    shutil.copytree(ROOT / "src" / "embedonce", target / "embedonce", dirs_exist_ok=True)
    for name in without:
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


def check(target: Path, package: Package) -> None:
    """Raise BuildError where the package is too big, for another machine, or holds what it must not."""
    problems = []
    present = {path.name.partition("-")[0].lower().removesuffix(".py") for path in target.iterdir()}
    problems += [
        f"{name} does not belong in it" for name in (*FORBIDDEN, *package.forbidden) if name in present
    ]
    for path in files(target):
        with path.open("rb") as opened:
            header = opened.read(20)
        if header[:4] == b"\x7fELF" and int.from_bytes(header[18:20], "little") != MACHINE_AARCH64:
            problems.append(f"{path.relative_to(target)} is not for arm64")
        elif header[:4] != b"\x7fELF" and (path.suffix == ".so" or ".so." in path.name):
            problems.append(f"{path.relative_to(target)} is no native library")
    if (size := sum(path.stat().st_size for path in files(target))) > package.max_unzipped:
        problems.append(f"{size / 1e6:.1f} MB unzipped; {package.max_unzipped / 1e6:.0f} MB is the most")
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


PROBE_ENVIRONMENT = {
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
    "EMBEDONCE_JOBS_TABLE": "jobs",
    "EMBEDONCE_USAGE_TABLE": "usage",
    "EMBEDONCE_WORK_QUEUE_URL": "https://sqs.us-east-1.amazonaws.com/123456789012/work",
    "EMBEDONCE_POLL_QUEUE_URL": "https://sqs.us-east-1.amazonaws.com/123456789012/poll",
    "EMBEDONCE_BLOB_BUCKET": "blobs",
    "EMBEDONCE_CACHE_BUCKET": "cache",
    "EMBEDONCE_INGEST_BUCKET": "files",
    "EMBEDONCE_INGEST_QUEUE_URL": "https://sqs.us-east-1.amazonaws.com/123456789012/ingest",
    "EMBEDONCE_CHUNK_QUEUE_URL": "https://sqs.us-east-1.amazonaws.com/123456789012/chunks",
}


def run_alone(interpreter: str, script: str, *arguments: str, given: str = "") -> str:
    """What one of our scripts prints, run with neither this environment's packages, nor the user's, nor the
    current folder (-I, -S), and writing no bytecode beside what it imports (-B)."""
    program = [interpreter, "-I", "-S", "-B", str(ROOT / "scripts" / script), *arguments]
    with tempfile.TemporaryDirectory() as empty:
        done = subprocess.run(
            program,
            env=PROBE_ENVIRONMENT,
            cwd=empty,
            input=given,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
    if done.returncode:
        raise BuildError(f"the packaged handler does not run:\n{done.stdout}{done.stderr}")
    return done.stdout.strip()


def probe(target: Path, package: Package, interpreter: str = sys.executable) -> str:
    """Let the first handler in `target` answer the package's event, and import the others, with only `target`
    on their path and no network."""
    event = str(ROOT / "events" / f"{package.event}.json")
    return run_alone(interpreter, "lambda_probe.py", str(target), event, *package.entrypoints)


# ---- bytecode


def find_python() -> str | None:
    """A Python of Lambda's version, or None. Raises BuildError where $PYTHON313 names something else."""
    named = os.environ.get("PYTHON313")
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    found = [sys.executable, shutil.which("python3.13")]
    found += [str(path) for path in sorted(pyenv.glob("versions/3.13*/bin/python3.13"), reverse=True)]
    for candidate in [named] if named else found:
        # A shim of pyenv is on PATH also where the version is not chosen, and then fails.
        if candidate and _cache_tag(candidate) == CACHE_TAG:
            return candidate
    if named:
        raise BuildError("$PYTHON313 is no CPython 3.13")
    return None


def _cache_tag(interpreter: str) -> str:
    program = [interpreter, "-I", "-S", "-c", "import sys; print(sys.implementation.cache_tag)"]
    try:
        return subprocess.run(program, capture_output=True, text=True, check=False).stdout.strip()
    except OSError:
        return ""


def loaded_by_cold_start(target: Path, package: Package) -> list[str]:
    """Python files in `target` that the first handler, what comes after it, then the other handlers import.
    Run by `run_alone`."""
    sys.path.insert(0, str(target))
    first, *others = (f"embedonce.entrypoints.{name}" for name in package.entrypoints)
    for name in (first, *package.after, *others):
        importlib.import_module(name)
    origins = [getattr(module, "__file__", None) for module in list(sys.modules.values())]
    places = [Path(origin) for origin in origins if origin and origin.endswith(".py")]
    return list(dict.fromkeys(p.relative_to(target).as_posix() for p in places if p.is_relative_to(target)))


def compile_modules(target: Path, names: Iterable[str]) -> None:
    """Run by `run_alone` with Lambda's version of Python.

    Unchecked: the zip has no times of its own, and the files cannot change under a function.
    """
    for name in names:
        if (target / name).exists():
            py_compile.compile(
                str(target / name),
                dfile=f"/var/task/{name}",
                doraise=True,
                optimize=0,
                invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
            )


def add_bytecode(package: Package, python: str) -> str:
    """Bytecode for the package, as far as there is room for it; the handler is run with such first. What is
    imported last goes without first: it is what only a first miss or the functions behind queues need.

    :returns: what came of it, for the user
    """
    with tempfile.TemporaryDirectory() as scratch:
        twin = Path(scratch).resolve()
        assemble(twin, package, ("--python", python))
        names = run_alone(python, "build_lambda.py", "loaded", str(twin), package.name)
        without = probe(twin, package, python)
        run_alone(python, "build_lambda.py", "compile", str(twin), package.name, given=names)
        print(f"{without} without bytecode")
        print(f"{probe(twin, package, python)} with it")
    folder = package.folder
    run_alone(python, "build_lambda.py", "compile", str(folder), package.name, given=names)
    over = sum(path.stat().st_size for path in files(folder)) - package.filled_up_to
    wanted = names.split("\n")
    for name in reversed(wanted):
        source = folder / name
        path = source.parent / "__pycache__" / f"{source.stem}.{CACHE_TAG}.pyc"
        if over > 0 and path.exists():
            over -= path.stat().st_size
            path.unlink()
    compiled = list(folder.rglob(f"*.{CACHE_TAG}.pyc"))
    size = sum(path.stat().st_size for path in compiled)
    return f"bytecode of {len(compiled)} of {len(wanted)} modules: {size / 1e6:.1f} MB"


def assemble(target: Path, package: Package, platform: Iterable[str]) -> None:
    install(package.lock, target, platform)
    copy_source(target, package.without)
    prune(target)


def build(package: Package) -> None:
    """:raises BuildError:"""
    package.folder.mkdir(parents=True)
    check_lock(package.lock, TESTED_LOCK)
    assemble(package.folder, package, LAMBDA)
    check(package.folder, package)
    with tempfile.TemporaryDirectory() as scratch:
        assemble(Path(scratch), package, HOST)
        print(probe(Path(scratch), package))
    if python := find_python():
        print(add_bytecode(package, python))
        check(package.folder, package)
    else:
        print("no Python 3.13 here ($PYTHON313 names one): no bytecode, so that cold starts compile")


def main(names: Iterable[str]) -> int:
    for package in [PACKAGES[name] for name in names] or PACKAGES.values():
        folder, archive = package.folder, package.zip
        remove(archive)  # a build that fails must leave nothing that could be deployed by mistake
        remove(folder)
        try:
            build(package)
        except BuildError as error:
            remove(folder)
            print(f"build failed: {error}", file=sys.stderr)
            return 1
        write_zip(folder, archive)
        unzipped = sum(path.stat().st_size for path in files(folder))
        print(f"{folder.relative_to(ROOT)}: {unzipped / 1e6:.1f} MB unzipped, arm64, Python 3.13")
        digest = hashlib.sha256(archive.read_bytes()).hexdigest()
        print(f"{archive.relative_to(ROOT)}: {archive.stat().st_size / 1e6:.1f} MB, SHA-256 {digest}")
    return 0


def child(task: str, target: str, name: str) -> None:
    """This script, started again by `run_alone`."""
    if task == "loaded":
        print("\n".join(loaded_by_cold_start(Path(target), PACKAGES[name])))
    elif task == "compile":
        compile_modules(Path(target), sys.stdin.read().split())


if __name__ == "__main__":
    if len(sys.argv) == 4:
        child(*sys.argv[1:])
        sys.exit()
    sys.exit(main(sys.argv[1:]))
