"""The command line, through the same entry as the installed `embedonce`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from embedonce import config
from embedonce.access.keys import well_formed
from embedonce.cli.main import app
from support.gateway import gateway

README = Path(__file__).parents[2] / "README.md"


@pytest.fixture
def run(tmp_path: Path) -> Any:
    def invoke(*arguments: str, **environment: str) -> Result:
        base = {"EMBEDONCE_DATA_DIR": str(tmp_path / "data"), "COLUMNS": "200", "EMBEDONCE_MODE": ""}
        return CliRunner().invoke(app, list(arguments), env={**base, **environment})

    return invoke


def test_keys_are_created_listed_used_and_revoked(run: Any, tmp_path: Path) -> None:
    made = run("keys", "create", "search [team]", "--namespace", "team-a", "--scope", "embed")
    assert made.exit_code == 0
    key = made.stdout.splitlines()[0]
    assert well_formed(key)
    listed = run("keys", "list").stdout
    assert "search [team]" in listed
    assert "team-a" in listed
    assert key not in listed
    key_id = re.search(r"key_[0-9a-f]{16}", listed)
    assert key_id is not None
    with gateway(tmp_path / "data", upstreams=None) as gate:
        assert gate.request("GET", "/v1/models", headers={"authorization": f"Bearer {key}"}).status == 200
    assert run("keys", "revoke", key_id[0]).exit_code == 0
    with gateway(tmp_path / "data") as gate:
        assert gate.request("GET", "/v1/models", headers={"authorization": f"Bearer {key}"}).status == 401
    assert run("keys", "revoke", "key_0000000000000000").exit_code == 1


def test_admin_is_never_the_default_and_isolated_keys_have_their_own_namespace(run: Any) -> None:
    run("keys", "create", "plain")
    run("keys", "create", "alone", "--isolated")
    listed = run("keys", "list").stdout
    assert "admin" not in listed
    assert "isolated/key_" in listed
    for wrong in ("isolated/key_1", "a b", "", "x" * 65):
        refused = run("keys", "create", "bad", "--namespace", wrong)
        assert refused.exit_code == 2
    assert run("keys", "create", "bad", "--isolated", "--namespace", "x").exit_code == 2
    assert run("keys", "create", "bad", "--scope", "everything").exit_code == 2


def test_config_shows_sources_and_masks_secrets(run: Any) -> None:
    shown = run("config", OPENROUTER_API_KEY="sk-or-secret-canary", PORT="9000").stdout
    assert "canary" not in shown
    assert re.search(r"OPENROUTER_API_KEY +\*{8} +environment", shown)
    assert re.search(r"PORT +9000 +environment", shown)
    assert re.search(r"HOST +127\.0\.0\.1 +default", shown)


def test_every_setting_is_in_the_readme_or_the_configuration_page(run: Any) -> None:
    page = (README.parent / "docs" / "configuration.md").read_text()
    for variable, _, _, _ in config.table(config.load({})):
        assert f"`{variable}`" in page, variable


def test_help_names_every_command(run: Any) -> None:
    said = run("--help").stdout
    for command in ("serve", "config", "keys", "openapi", "version"):
        assert command in said
