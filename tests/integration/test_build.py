"""The locks and the Lambda package: what may be in them, and that an altered hash stops an installation."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import re
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from test_template import FUNCTIONS

from embedonce.config import ConfigError

ROOT = Path(__file__).resolve().parents[2]


def _script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


build = _script("build_lambda")
locking = _script("lock")

ELF_ARM64 = b"\x7fELF\x02\x01\x01" + bytes(9) + (3).to_bytes(2, "little") + (183).to_bytes(2, "little")
ELF_X86 = ELF_ARM64[:18] + (62).to_bytes(2, "little")


def pins(name: str) -> dict[str, str]:
    text = (ROOT / "requirements" / f"{name}.txt").read_text()
    return dict(re.findall(r"^([A-Za-z0-9._-]+)==(\S+)", text, re.M))


def write(path: Path, content: bytes = b"") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


# ---- locks


@pytest.mark.parametrize("name", ["lambda", "ingest", "local", "dev"])
def test_every_pin_has_hashes_and_no_place(name: str) -> None:
    text = (ROOT / "requirements" / f"{name}.txt").read_text()
    entries = [entry for entry in re.split(r"\n(?=\S)", text) if not entry.startswith("#")]
    assert len(entries) == len(pins(name)) > 15
    for entry in entries:
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", entry), entry
    assert not locking.PLACE.search(text)


@pytest.mark.parametrize("name", ["lambda", "ingest", "local"])
def test_locks_name_the_same_files(name: str) -> None:
    build.check_lock(ROOT / "requirements" / f"{name}.txt", build.TESTED_LOCK)


@pytest.mark.parametrize("package", build.PACKAGES)
@pytest.mark.parametrize("which", [0, -1])
def test_any_altered_hash_in_a_packages_lock_is_found(which: int, package: str, tmp_path: Path) -> None:
    text = build.PACKAGES[package].lock.read_text()
    found = list(re.finditer(r"sha256:([0-9a-f])", text))[which]
    digit = "0" if found[1] != "0" else "1"
    altered = text[: found.start(1)] + digit + text[found.end(1) :]
    lock = write(tmp_path / "lambda.txt", altered.encode())
    with pytest.raises(build.BuildError, match="differ"):
        build.check_lock(lock, build.TESTED_LOCK)


def test_what_is_tested_is_what_runs() -> None:
    lambda_, ingest, local, dev = pins("lambda"), pins("ingest"), pins("local"), pins("dev")
    assert lambda_.items() <= ingest.items() <= local.items() <= dev.items()
    assert ingest.keys() - lambda_.keys() == {"av"}
    assert "setuptools" in local, "`make run` installs the project without a build environment"
    assert "setuptools" not in lambda_


@pytest.mark.parametrize(
    "text",
    [
        "-i https://pypi.example/simple\n",
        "--find-links wheels\n",
        "six @ file:///somewhere/six.whl\n",
        "six==1.17.0  # from /somewhere/pyproject.toml\n",
    ],
)
def test_a_place_in_a_lock_is_seen(text: str) -> None:
    assert locking.PLACE.search(text)


@pytest.mark.parametrize("package", build.PACKAGES.values(), ids=build.PACKAGES)
def test_nothing_local_is_locked_for_lambda(package: Any) -> None:
    names = {name.lower().replace("-", "_") for name in pins(package.lock.stem)}
    assert not names & {*build.FORBIDDEN, *package.forbidden}


# ---- installing by hash


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    path = tmp_path / "wheels" / "tiny-1.0-py3-none-any.whl"
    path.parent.mkdir()
    info = "tiny-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as opened:
        opened.writestr("tiny.py", "")
        opened.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n")
        opened.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        opened.writestr(f"{info}/RECORD", "")
    return path


def offline(wheel: Path) -> dict[str, str]:
    cache = wheel.parent.parent / "uv-cache"
    places = {"UV_NO_INDEX": "1", "UV_OFFLINE": "1", "UV_FIND_LINKS": str(wheel.parent)}
    return os.environ | places | {"UV_CACHE_DIR": str(cache), "UV_NO_CONFIG": "1"}


def test_a_wheel_with_the_locked_hash_is_installed(wheel: Path, tmp_path: Path) -> None:
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    lock = write(tmp_path / "lock.txt", f"tiny==1.0 --hash=sha256:{digest}\n".encode())
    build.install(lock, tmp_path / "out", build.LAMBDA, offline(wheel))
    assert (tmp_path / "out" / "tiny.py").exists()


@pytest.mark.parametrize("kind", ["altered", "missing"])
def test_an_altered_or_missing_hash_fails_the_build(kind: str, wheel: Path, tmp_path: Path) -> None:
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    altered = ("0" if digest[0] != "0" else "1") + digest[1:]
    text = f"tiny==1.0 --hash=sha256:{altered}\n" if kind == "altered" else "tiny==1.0\n"
    lock = write(tmp_path / "lock.txt", text.encode())
    with pytest.raises(build.BuildError):
        build.install(lock, tmp_path / "out", build.LAMBDA, offline(wheel))
    assert not (tmp_path / "out" / "tiny.py").exists()


# ---- what is in the package


@pytest.mark.parametrize("package", build.PACKAGES.values(), ids=build.PACKAGES)
def test_what_is_left_out_exists_and_the_rest_is_copied(package: Any, tmp_path: Path) -> None:
    source = ROOT / "src"
    missing = [name for name in package.without if not (source / name).exists()]
    assert not missing, "the list names what is not there (any more)"
    build.copy_source(tmp_path, package.without)
    copied = {path.relative_to(tmp_path).as_posix() for path in build.files(tmp_path)}
    everything = {path.relative_to(source).as_posix() for path in (source / "embedonce").rglob("*.py")}
    assert everything - copied == {name for name in everything if name.startswith(package.without)}
    entrypoints = {path for path in copied & everything if path.startswith("embedonce/entrypoints/")}
    shared = {f"embedonce/entrypoints/{name}.py" for name in ("__init__", "messages")}
    assert entrypoints == shared | {f"embedonce/entrypoints/{name}.py" for name in package.entrypoints}
    assert not any("sqlite" in name or "cli" in Path(name).parts for name in copied)


def test_only_the_ingest_package_has_parsers() -> None:
    assert "embedonce/segmenting" in build.MAIN.without
    assert "av" in build.MAIN.forbidden
    assert "embedonce/segmenting" not in build.INGEST.without
    assert build.INGEST.max_unzipped < 250 << 20, "Lambda's limit"
    cutters = {path.stem for path in (ROOT / "src/embedonce/segmenting").glob("*.py")}
    packed = {name.rpartition(".")[2] for name in build.INGEST.after}
    assert packed <= cutters


def test_pruning_keeps_code_licences_and_used_services(tmp_path: Path) -> None:
    kept = [
        "numpy/__init__.py",
        "numpy/_core/_multiarray_umath.so",
        "av/packet.abi3.so",
        "av.libs/libavcodec-0123.so.62.28.102",
        "numpy-2.0.dist-info/METADATA",
        "numpy-2.0.dist-info/licenses/LICENSE.txt",
        "boto3-1.0.dist-info/NOTICE",
        "boto3/data/dynamodb/resources-1.json",
        "botocore/data/endpoints.json",
        "botocore/data/_retry.json",
        *(f"botocore/data/{service}/service-2.json.gz" for service in build.AWS_SERVICES),
    ]
    removed = [
        "bin/httpx",
        "boto3/data/ec2/resources-1.json",
        "boto3/examples/s3.rst",
        "botocore/data/ec2/service-2.json.gz",
        "numpy/__init__.pyi",
        "numpy/__pycache__/x.cpython-313.pyc",
        "numpy/_core/_simd.cpython-313-aarch64-linux-gnu.so",
        "numpy/_core/tests/data/x.csv",
        "numpy/random/mtrand.so",
        "numpy/testing/tests/test_x.py",
        "numpy-2.0.dist-info/RECORD",
        "numpy-2.0.dist-info/entry_points.txt",
        "av/packet.pxd",
        "av/packet.pyi",
        "av/filter/pixel.h",
        "av/filter/pixel.c",
    ]
    for name in kept + removed:
        write(tmp_path / name)
    build.prune(tmp_path)
    assert {path.relative_to(tmp_path).as_posix() for path in build.files(tmp_path)} == set(kept)


def test_a_fit_package_passes(tmp_path: Path) -> None:
    write(tmp_path / "numpy/core.so", ELF_ARM64)
    write(tmp_path / "numpy.libs/libgfortran.so.5.0.0", ELF_ARM64)
    write(tmp_path / "six.py", b"pass")
    build.check(tmp_path, build.MAIN)
    write(tmp_path / "av/packet.abi3.so", ELF_ARM64)
    build.check(tmp_path, build.INGEST)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("numpy/core.so", ELF_X86, "not for arm64"),
        ("numpy.libs/libgfortran.so.5.0.0", ELF_X86, "not for arm64"),
        ("numpy/tool", ELF_X86, "not for arm64"),
        ("numpy/core.so", b"MZ", "no native library"),
        ("wordllama/weights.safetensors", b"", "wordllama does not belong"),
        ("uvicorn/__init__.py", b"", "uvicorn does not belong"),
        ("typer-0.29.2.dist-info/METADATA", b"", "typer does not belong"),
    ],
)
@pytest.mark.parametrize("package", build.PACKAGES.values(), ids=build.PACKAGES)
def test_an_unfit_package_fails(
    name: str, content: bytes, message: str, package: Any, tmp_path: Path
) -> None:
    write(tmp_path / name, content)
    with pytest.raises(build.BuildError, match=message):
        build.check(tmp_path, package)


@pytest.mark.parametrize("name", ["av/__init__.py", "av-18.1.0.dist-info/METADATA", "av.libs/x.py"])
def test_the_media_library_is_in_one_package_only(name: str, tmp_path: Path) -> None:
    write(tmp_path / name)
    build.check(tmp_path, build.INGEST)
    with pytest.raises(build.BuildError, match=r"av(.libs)? does not belong"):
        build.check(tmp_path, build.MAIN)


def test_too_big_a_package_fails(tmp_path: Path) -> None:
    assert build.MAIN.max_unzipped == 60_000_000
    assert build.INGEST.max_unzipped == 170_000_000
    write(tmp_path / "a.py", bytes(50))
    write(tmp_path / "b.py", bytes(50))
    with pytest.raises(build.BuildError, match="MB unzipped"):
        build.check(tmp_path, replace(build.MAIN, max_unzipped=99))


def test_the_same_files_give_the_same_zip(tmp_path: Path) -> None:
    archives = []
    for turn, names in enumerate((["b.py", "a/x.so"], ["a/x.so", "b.py"])):
        folder = tmp_path / str(turn)
        for name in names:
            path = write(folder / name, name.encode())
            path.chmod(0o600 if turn else 0o664)
            os.utime(path, (turn + 1e9, turn + 1e9))
        archive = tmp_path / f"{turn}.zip"
        build.write_zip(folder, archive)
        archives.append(archive.read_bytes())
    assert archives[0] == archives[1]
    with zipfile.ZipFile(tmp_path / "0.zip") as opened:
        modes = {entry.filename: entry.external_attr >> 16 for entry in opened.infolist()}
    assert modes == {"a/x.so": 0o100755, "b.py": 0o100644}


def handler_package(folder: Path, handler: str, other: str = "def handler(event, context): ...\n") -> Path:
    write(folder / "embedonce/__init__.py")
    write(folder / "embedonce/entrypoints/__init__.py")
    for name in build.MAIN.entrypoints:
        code = handler if name == "api" else other
        write(folder / f"embedonce/entrypoints/{name}.py", code.encode())
    return folder


def test_there_is_an_entrypoint_for_each_function() -> None:
    for package in build.PACKAGES.values():
        folder = package.folder.relative_to(ROOT).as_posix()
        handlers = {each["Handler"] for each in FUNCTIONS.values() if each["CodeUri"] == folder}
        assert handlers == {f"embedonce.entrypoints.{name}.handler" for name in package.entrypoints}


def test_make_builds_every_package() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for package in build.PACKAGES.values():
        archive = package.zip.relative_to(ROOT).as_posix()
        needed = rf"{package.lock.relative_to(ROOT)} events/{package.event}\.json"
        assert re.search(rf"^build: .*{archive}", makefile, re.M)
        assert re.search(rf"^{archive}: .*{needed}.*\n\t.*build_lambda.py {package.name}$", makefile, re.M)


def test_the_probe_runs_the_handler_of_the_package(tmp_path: Path) -> None:
    package = handler_package(tmp_path, "def handler(event, context): return {'statusCode': 200}\n")
    assert "api answered 200" in (said := build.probe(package, build.MAIN))
    assert "worker, poller, janitor, chunks start" in said


def test_the_probe_hands_the_ingest_function_a_message(tmp_path: Path) -> None:
    handler = "def handler(event, context): return {'batchItemFailures': []}\n"
    write(tmp_path / "embedonce/__init__.py")
    write(tmp_path / "embedonce/entrypoints/__init__.py")
    write(tmp_path / "embedonce/entrypoints/ingest.py", handler.encode())
    assert "ingest handled a message" in build.probe(tmp_path, build.INGEST)
    failing = handler.replace("[]", "[1]")
    write(tmp_path / "embedonce/entrypoints/ingest.py", failing.encode())
    with pytest.raises(build.BuildError, match="was answered with"):
        build.probe(tmp_path, build.INGEST)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ("import pytest\n", "No module named"),
        ("handler = None\n", "has no handler"),
        ("import socket\nsocket.create_connection(('127.0.0.1', 9))\n", "the network was used"),
    ],
)
def test_the_probe_fails_where_another_function_does_not_start(
    other: str, message: str, tmp_path: Path
) -> None:
    api = "def handler(event, context): return {'statusCode': 200}\n"
    with pytest.raises(build.BuildError, match=message):
        build.probe(handler_package(tmp_path, api, other), build.MAIN)


@pytest.mark.parametrize(
    ("handler", "message"),
    [
        ("import pytest\ndef handler(event, context): return {'statusCode': 200}\n", "No module named"),
        ("def handler(event, context): return {'statusCode': 503}\n", "was answered with"),
        (
            "import socket\ndef handler(event, context): socket.create_connection(('127.0.0.1', 9))\n",
            "the network was used",
        ),
        (
            f"import sys\nsys.path += {sys.path!r}\nimport pytest\n"
            "def handler(event, context): return {'statusCode': 200}\n",
            "outside the package",
        ),
    ],
)
def test_the_probe_fails_where_the_package_is_not_enough(handler: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(build.BuildError, match=message):
        build.probe(handler_package(tmp_path, handler), build.MAIN)


# ---- make deploy


rules = _script("rules")


def test_rules_become_one_line_that_quoting_leaves_alone() -> None:
    text = """[
        {"key": "key_0123456789abcdef", "prefix": "a's/", "title": "Say \\"ä\\" and \\\\ done"}
    ]"""
    line = rules.line_of(text)
    assert json.loads(line) == json.loads(text)
    assert line.isascii()
    assert not any(each in line for each in ("\n", "'", '\\"', ", "))


@pytest.mark.parametrize(
    "text", ["{}", "[", '[{"keys": "key_0123456789abcdef"}]', '[{"overlap_bytes": 5000}]']
)
def test_rules_that_the_functions_would_refuse_are_not_deployed(text: str) -> None:
    with pytest.raises((ValueError, ConfigError)):
        rules.line_of(text)


@pytest.mark.parametrize("tool", ["sam", "aws"])
def test_make_deploy_hands_the_rules_over(tool: str, tmp_path: Path) -> None:
    """With stand-ins for the tools, which print what they are given."""
    stand_in = write(tmp_path / "bin" / tool, b'#!/bin/sh\nfor each; do printf "<%s>\\n" "$each"; done\n')
    stand_in.chmod(0o755)
    given = '[{"key": "key_0123456789abcdef", "prefix": "$HOME `x`/"}]'
    file = write(tmp_path / "rules.json", given.encode())
    venv = tmp_path / "venv"
    (venv / "bin").mkdir(parents=True)
    (venv / "bin" / "python").symlink_to(sys.executable)
    done = subprocess.run(
        [
            *("make", "-s", "deploy", "-o", "build", f"VENV={venv}"),
            *(f"RULES={file}", "PARAMS=ThrottleRate=20", "DEPLOY_BUCKET=uploads"),
        ],
        cwd=ROOT,
        env={"PATH": f"{tmp_path / 'bin'}:/usr/bin:/bin", "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    line = rules.line_of(given)
    quoted = f"'{line}'" if tool == "sam" else line
    assert f"<--parameter-overrides>\n<ThrottleRate=20>\n<IngestRules={quoted}>\n" in done.stdout
