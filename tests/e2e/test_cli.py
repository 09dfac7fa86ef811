"""The command line, through the same entry as the installed `embedonce`."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from embedonce import config
from embedonce.access.keys import well_formed
from embedonce.cli.main import app, main
from embedonce.core.pricing import PICO
from embedonce.ports import Deployment
from embedonce.stores.embedded.access import EmbeddedAccess
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
    headings, row = (line.split("\t") for line in listed.splitlines())
    assert (len(headings), row[headings.index("state")]) == (len(row), "live")
    assert run("keys", "revoke", key_id[0]).exit_code == 0
    assert re.search(r"\trevoked \d{4}-\d\d-\d\d \d\d:\d\d\t", run("keys", "list").stdout)
    with gateway(tmp_path / "data") as gate:
        assert gate.request("GET", "/v1/models", headers={"authorization": f"Bearer {key}"}).status == 401
    nobody = run("keys", "revoke", "key_0000000000000000")
    assert (nobody.exit_code, "`embedonce keys list`" in nobody.stderr) == (1, True)


@pytest.mark.parametrize("name", ["", " ", "x" * 65, "two\nlines", "bell\a", "back\u202ewards"])
def test_a_key_has_a_name_that_can_be_shown(run: Any, name: str) -> None:
    refused = run("keys", "create", name)
    assert (refused.exit_code, "1 to 64 printable" in refused.stderr) == (2, True)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no full device")
@pytest.mark.parametrize("buffered", [True, False])
def test_output_that_cannot_be_written(
    run: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    buffered: bool,
) -> None:
    monkeypatch.setenv("EMBEDONCE_DATA_DIR", str(tmp_path / "data"))

    def ends(*arguments: str) -> list[str]:
        """What is said on stderr."""
        monkeypatch.setattr("sys.argv", ["embedonce", *arguments])
        with open("/dev/full", "w") as full, monkeypatch.context() as patched:
            full.reconfigure(write_through=not buffered)
            patched.setattr("sys.stdout", full)
            with pytest.raises(SystemExit) as end:
                main()
        assert end.value.code == 1
        return capsys.readouterr().err.splitlines()

    *_, taken_back, said = ends("keys", "create", "unseen")
    assert said == "embedonce: the output cannot be written: No space left on device"
    assert re.fullmatch("embedonce: the key could not be shown, so key_[0-9a-f]{16} is revoked", taken_back)
    assert "\trevoked 2" in run("keys", "list").stdout
    assert ends("savings", "--json") == ends("openapi") == [said]


def test_savings_name_keys_in_full_however_narrow_it_is(run: Any, tmp_path: Path) -> None:
    ids = []
    for name in ("a" * 64, "b"):
        run("keys", "create", name)
    with gateway(tmp_path / "data") as gate:
        gate.embed(["something"])
        ids = [key.id for key in gate.app.parts.stores.access.list()]
    said = run("savings", COLUMNS="40").stdout
    for key_id in (*ids, "a" * 64):
        assert key_id in said


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


def only_key(run: Any) -> tuple[str, str, str]:
    """Budget, requests and tokens of the one key there is, as the list shows them."""
    _, row = run("keys", "list").stdout.splitlines()
    budget, requests, tokens = row.split("\t")[-3:]
    return budget, requests, tokens


def test_a_key_is_limited_when_it_is_made_and_later_and_only_where_it_is_said(run: Any) -> None:
    made = run("keys", "create", "intern", "--budget", "5.25", "--rpm", "60", "--tpm", "100000")
    assert made.exit_code == 0
    assert only_key(run) == ("5.25 USD", "60", "100000")
    found = re.search(r"key_[0-9a-f]{16}", run("keys", "list").stdout)
    assert found is not None
    changed = run("keys", "limit", found[0], "--rpm", "none")
    assert changed.exit_code == 0
    assert "within 60 seconds" in changed.stdout
    assert "5.25 USD a month, requests a minute: none, tokens a minute: 100000" in changed.stdout
    assert only_key(run) == ("5.25 USD", "none", "100000")
    assert run("keys", "limit", found[0], "--budget", "0", "--tpm", "7").exit_code == 0
    assert only_key(run) == ("0 USD", "none", "7")
    assert run("keys", "limit", found[0], "--budget", "none", "--tpm", "none").exit_code == 0
    assert only_key(run) == ("none", "none", "none")


def test_limits_that_mean_nothing_are_refused(run: Any) -> None:
    run("keys", "create", "plain", "--budget", "5")
    found = re.search(r"key_[0-9a-f]{16}", run("keys", "list").stdout)
    assert found is not None
    for wrong in (
        *(("--budget", "-1"), ("--budget", "1e3"), ("--budget", "inf"), ("--budget", "")),
        *(("--rpm", "0"), ("--rpm", "1.5"), ("--tpm", "many"), ("--tpm", "9999999999999")),
        (),
    ):
        assert run("keys", "limit", found[0], *wrong).exit_code == 2, wrong
    for wrong in (("--budget", "none"), ("--rpm", "0"), ("--tpm", "x")):
        assert run("keys", "create", "other", *wrong).exit_code == 2, wrong
    assert only_key(run) == ("5 USD", "none", "none")
    nobody = run("keys", "limit", "key_0000000000000000", "--budget", "1")
    assert nobody.exit_code == 1
    assert "there is no key" in nobody.stderr


def test_the_daily_cap_is_as_configured_until_it_is_set(run: Any) -> None:
    assert run("limits").exit_code == 1, "there is no store yet"
    assert run("limits", "set", "--daily-usd", "1").exit_code == 1
    run("keys", "create", "plain")
    assert "50 USD a day (the default of EMBEDONCE_DAILY_USD)" in run("limits").stdout
    configured = run("limits", EMBEDONCE_DAILY_USD="12.50").stdout
    assert "12.5 USD a day (EMBEDONCE_DAILY_USD of this environment)" in configured
    changed = run("limits", "set", "--daily-usd", "0.25")
    assert "0.25 USD a day (set here)" in changed.stdout
    assert "within 60 seconds" in changed.stdout
    assert "0.25 USD a day (set here)" in run("limits", EMBEDONCE_DAILY_USD="12.50").stdout
    for wrong in ("-1", "none", "1e9", ""):
        refused = run("limits", "set", "--daily-usd", wrong)
        assert (refused.exit_code, "`default` goes back" in refused.stderr) == (2, True), wrong
        assert "from 0 to 999999.999999999 in steps of 0.000000001" in refused.stderr
    assert "0.25 USD" in run("limits").stdout
    assert "50 USD a day" in run("limits", "set", "--daily-usd", "default").stdout
    assert "50 USD a day (the default" in run("limits").stdout


def test_buying_is_paused_and_resumed_and_the_cap_stays(run: Any) -> None:
    run("keys", "create", "plain")
    run("limits", "set", "--daily-usd", "3")
    assert "buying: yes" in run("limits").stdout
    assert "buying: paused" in run("limits", "pause").stdout
    assert re.search(r"buying: paused\nall keys together: 3 USD", run("limits").stdout)
    assert "buying: paused" in run("limits", "set", "--daily-usd", "4").stdout
    assert re.search(r"buying: yes\nall keys together: 4 USD", run("limits", "resume").stdout)


def test_a_change_is_made_over_what_somebody_else_set_meanwhile(
    run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("keys", "create", "plain")
    real = EmbeddedAccess.set_deployment
    others = [7 * PICO, 8 * PICO]

    def late(store: EmbeddedAccess, wanted: Deployment) -> bool:
        if others:
            real(store, replace(store.deployment(), daily=others.pop()))
        return real(store, wanted)

    monkeypatch.setattr(EmbeddedAccess, "set_deployment", late)
    paused = run("limits", "pause").stdout
    assert re.search(r"buying: paused\nall keys together: 7 USD a day", paused), "and not what was seen first"
    monkeypatch.setattr(EmbeddedAccess, "set_deployment", lambda store, wanted: False)
    assert run("limits", "resume").exit_code == 1
    assert "buying: paused" in run("limits").stdout


@pytest.mark.parametrize("usd", ["-1", "nan", "inf", "1e3", "50 USD", "1234567", "٣"])
def test_a_daily_cap_that_is_no_amount_is_refused(usd: str) -> None:
    with pytest.raises(config.ConfigError, match="EMBEDONCE_DAILY_USD: must be USD"):
        config.load({"EMBEDONCE_DAILY_USD": usd})
    assert config.load({"EMBEDONCE_DAILY_USD": "0"}).daily_usd == "0"
    assert config.load({"EMBEDONCE_DAILY_USD": ""}).daily_usd == "50"
