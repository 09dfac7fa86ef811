"""Webhooks: signatures by the specification, a secret for each key, and where the master comes from."""

from __future__ import annotations

import base64
import re
import stat
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook, WebhookVerificationError

from embedonce import secretsource
from embedonce.access.webhooks import secret_of, sign
from embedonce.bootstrap.webhooks import FILE_NAME, Webhooks, secrets_of, webhooks_of
from embedonce.config import ConfigError, Settings, load
from embedonce.core.errors import InvalidRequest, ServiceUnavailable
from embedonce.local.secret import secret_file
from embedonce.telemetry import LogTelemetry
from support.clock import FakeClock

MASTER = bytes(range(32))
URL = "https://hooks.example/x"
PAGE = Path(__file__).parents[2] / "docs" / "webhooks.md"


def test_the_published_vector() -> None:
    """From the reference implementations' own tests (Svix, whose format the specification took over)."""
    assert sign(
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        "msg_p5jXN8AQM9LWM0D4loKWxJek",
        1614265330,
        b'{"test": 2432232314}',
    ) == {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }


def test_golden_secret() -> None:
    """Receivers keep it: a release that changes it breaks every one of them."""
    secret = secret_of(MASTER, "key_0123456789abcdef")
    assert secret == "whsec_4M+49xnCxHn86Ql7ncnEJ+bfvvw2VA4NwMnM4EElx2E="
    assert len(base64.b64decode(secret.removeprefix("whsec_"))) == 32


@given(st.binary(min_size=1, max_size=64), st.text(max_size=40), st.text(max_size=200))
def test_the_reference_library_verifies(master: bytes, key_id: str, text: str) -> None:
    secret, body = secret_of(master, key_id), text.encode()
    headers = dict(sign(secret, "msg_1", int(time.time()), body))
    Webhook(secret).verify(body, headers, json_parse=False)


@pytest.mark.parametrize("change", ["webhook-id", "webhook-timestamp", "webhook-signature", "body", "key"])
def test_what_was_changed_is_refused(change: str) -> None:
    now = int(time.time())
    secret, body = secret_of(MASTER, "key_a"), b"{}"
    headers = dict(sign(secret, "msg_1", now, body))
    if change == "body":
        body = b"{ }"
    elif change == "key":
        secret = secret_of(MASTER, "key_b")
    elif change == "webhook-signature":
        headers = dict(sign(secret_of(bytes(32), "key_a"), "msg_1", now, body))
    else:
        headers[change] = {"webhook-id": "msg_2", "webhook-timestamp": str(now - 1)}[change]
    with pytest.raises(WebhookVerificationError):
        Webhook(secret).verify(body, headers)


def test_the_documented_receivers_verify() -> None:
    code = "\n".join(
        block for block in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.S) if "def " in block
    )
    names: dict[str, Any] = {}
    exec(code, names)
    secret, other, body = secret_of(MASTER, "key_a"), secret_of(MASTER, "key_b"), b'{"type": "x"}'
    headers = dict(sign(secret, "msg_1", int(time.time()), body))
    assert names["verify"](secret, body, headers) == {"type": "x"}
    assert names["verify_either"]([other, secret], body, headers) == {"type": "x"}
    late = dict(sign(secret, "msg_1", int(time.time()) - 301, body))
    for wrong in ((other, body, headers), (secret, b"{}", headers), (secret, body, late)):
        with pytest.raises(ValueError, match=r"secret|old"):
            names["verify"](*wrong)
    with pytest.raises(WebhookVerificationError):
        names["verify_either"]([other], body, headers)


@pytest.mark.parametrize(
    ("secret", "message_id"),
    [("MfKQ9r8G", "msg_1"), ("whsec_not base64", "msg_1"), ("whsec_MfKQ9r8G", "a.b")],
)
def test_what_cannot_be_signed(secret: str, message_id: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  # base64's own text among them
        sign(secret, message_id, 1, b"")


def test_the_data_folder_s_secret_is_made_once(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    with ThreadPoolExecutor(8) as pool:
        found = set(pool.map(lambda _: secret_file(folder, FILE_NAME), range(32)))
    assert found == {secret_file(folder, FILE_NAME)}
    assert secret_file(folder, "other") not in found
    assert {path.name for path in folder.iterdir()} == {FILE_NAME, "other"}
    assert stat.S_IMODE((folder / FILE_NAME).stat().st_mode) == 0o600
    (folder / FILE_NAME).write_bytes(b"short")
    with pytest.raises(ValueError, match=FILE_NAME):
        secret_file(folder, FILE_NAME)


def webhooks(**variables: str) -> Webhooks:
    return webhooks_of(load(variables), FakeClock(), LogTelemetry())


def test_locally_the_data_folder_has_the_master(tmp_path: Path) -> None:
    made = webhooks(EMBEDONCE_DATA_DIR=str(tmp_path / "data"))
    assert not (tmp_path / "data").exists(), "nothing is made before it is needed"
    made.check(URL, "webhook")
    secret = made.secret_of("key_a")
    assert secret == secret_of(secret_file(tmp_path / "data", FILE_NAME), "key_a")
    assert secret == secrets_of(Settings(data_dir=tmp_path / "data"))("key_a")
    assert made.sign("key_a", "msg_1", 1, b"{}") == sign(secret, "msg_1", 1, b"{}")


def test_a_data_folder_that_cannot_be_used_is_a_503(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(ServiceUnavailable, match=FILE_NAME):
            webhooks(EMBEDONCE_DATA_DIR=str(folder)).secret_of("key_a")


def test_a_given_master_and_one_in_the_secret_store(monkeypatch: pytest.MonkeyPatch) -> None:
    master = "m" * 32
    stored = [master, f" {master}\n", "short"]
    monkeypatch.setattr(secretsource, "from_aws", lambda name, what: lambda: stored.pop(0))
    expected = secret_of(master.encode(), "key_a")
    assert webhooks(EMBEDONCE_WEBHOOK_KEY=master).secret_of("key_a") == expected
    on_aws = webhooks(EMBEDONCE_MODE="aws", EMBEDONCE_WEBHOOK_KEY_SECRET="arn:aws:secretsmanager:x")
    on_aws.check(URL, "webhook")
    assert [on_aws.secret_of("key_a") for _ in range(2)] == [expected] * 2
    with pytest.raises(ServiceUnavailable) as refused:
        on_aws.sign("key_a", "msg_1", 1, b"{}")
    assert "short" not in refused.value.message


def test_a_short_master_stops_the_start() -> None:
    with pytest.raises(ConfigError, match="EMBEDONCE_WEBHOOK_KEY") as refused:
        load({"EMBEDONCE_WEBHOOK_KEY": "canary"})
    assert "canary" not in str(refused.value)


def test_on_aws_without_a_master_no_webhook_is_accepted() -> None:
    made = webhooks(EMBEDONCE_MODE="aws")
    with pytest.raises(InvalidRequest, match="webhook: ") as refused:
        made.check(URL, "webhook")
    assert refused.value.param == "webhook"
    with pytest.raises(ServiceUnavailable):
        made.secret_of("key_a")


def test_origins_are_for_one_machine() -> None:
    with pytest.raises(ConfigError, match="EMBEDONCE_WEBHOOK_ORIGINS: local"):
        webhooks(EMBEDONCE_MODE="aws", EMBEDONCE_WEBHOOK_ORIGINS="http://127.0.0.1:9000")
    with pytest.raises(ConfigError, match="EMBEDONCE_WEBHOOK_ORIGINS: an origin"):
        webhooks(EMBEDONCE_WEBHOOK_ORIGINS="http://127.0.0.1:9000/path")
    webhooks(EMBEDONCE_WEBHOOK_ORIGINS="http://127.0.0.1:9000").check("http://127.0.0.1:9000/x", "webhook")
