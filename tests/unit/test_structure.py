"""Imports point inward; committed descriptions match the code."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import embedonce
from embedonce.http import openapi

ROOT = Path(embedonce.__file__).parent
SDKS = {"boto3", "botocore", "httpx", "httpcore", "pydantic", "aws_lambda_powertools", "uvicorn", "sqlite3"}
OUTWARD = {
    "core": {"core"},
    "ports": {"core", "ports"},
    "access": {"core", "ports", "access"},
    "accounting": {"core", "ports", "access", "accounting"},
    "usecases": {
        *("core", "ports", "access", "accounting", "usecases", "upstreams.router", "upstreams.failure"),
    },
    "http": {"core", "ports", "access", "http", "dialects", "embedonce"},
    "dialects": {"core", "ports", "access", "usecases", "http", "dialects"},
    "upstreams": {"core", "ports", "net", "media.child", "upstreams"},
    "media": {"core", "ports", "net", "media"},
    "segmenting": {"core", "ports", "media", "segmenting"},
    "net": {"ports", "net"},
    "stores": {"core", "ports", "stores"},
    "doctor": {
        *("core", "ports", "access", "media", "upstreams", "stores", "bootstrap", "local", "doctor"),
        *("config", "secretsource", "clock", "telemetry", "embedonce"),
    },
}
"""Which of our own packages each may import."""
MAY_USE = {
    "stores": {"botocore", "sqlite3"},
    "upstreams": {"httpx", "httpcore"},
    "media": {"httpcore"},
    "net": {"httpcore"},
    "doctor": {"botocore", "pydantic", "sqlite3"},
}


def imports(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module}
    return names


def modules(package: str) -> list[Path]:
    folder = ROOT / package
    return sorted(folder.rglob("*.py")) if folder.is_dir() else [ROOT / f"{package}.py"]


@pytest.mark.parametrize("package", OUTWARD)
def test_imports_point_inward(package: str) -> None:
    for path in modules(package):
        for name in imports(path):
            top, _, rest = name.partition(".")
            if top == "embedonce" and rest and not rest.startswith("__version__"):
                assert any(rest == a or rest.startswith(f"{a}.") for a in OUTWARD[package]), (path, name)
            assert top not in SDKS - MAY_USE.get(package, set()), (path, name)


def test_the_core_reads_no_clock_and_no_environment() -> None:
    for path in modules("core"):
        calendar = {"datetime"} if path.name == "days.py" else set()
        assert not imports(path) & {"time", "os", "datetime", "random", "uuid", "threading"} - calendar, path
        assert not {".now(", ".today("} & set(re.findall(r"\.\w+\(", path.read_text())) or not calendar, path


def test_one_module_for_providers_and_one_for_strangers_know_the_http_client() -> None:
    users = {
        path.relative_to(ROOT).as_posix()
        for path in ROOT.rglob("*.py")
        if any(name.split(".")[0] in ("httpx", "httpcore") for name in imports(path))
    }
    assert users == {"upstreams/transport.py", "media/fetch.py", "net/bounded.py"}


def test_entrypoints_are_wiring_only() -> None:
    for path in modules("entrypoints"):
        assert len(path.read_text().splitlines()) < 60, path


def test_the_committed_openapi_is_current() -> None:
    assert openapi.FILE.read_text() == openapi.text(), "run `make openapi`"


def test_importing_the_gateway_loads_nothing_heavy() -> None:
    """A hit in base64 needs neither numpy nor an HTTP client, so a cold start does not pay for them."""
    program = (
        "import sys; import embedonce.bootstrap, embedonce.http.lambda_event;"
        "print([m for m in ('numpy', 'httpx', 'httpcore', 'boto3', 'botocore', 'tokenizers', 'typer',"
        " 'uvicorn', 'aws_lambda_powertools') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT.parent
    )
    assert done.stdout.strip() == "[]"
