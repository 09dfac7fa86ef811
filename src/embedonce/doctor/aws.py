"""AWS mode: credentials first, then all that the settings name, side by side."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import botocore.session
from botocore.config import Config
from botocore.exceptions import BotoCoreError

from embedonce.bootstrap.upstreams import PAID
from embedonce.bootstrap.webhooks import SHORTEST_KEY
from embedonce.config import Settings, env_of
from embedonce.core.errors import StoreUnavailable
from embedonce.doctor.awscalls import USE_OTHERS, Asked, Aws, Refused
from embedonce.doctor.awsstores import Look, store_looks
from embedonce.doctor.check import Check, guarded, ok, problem, skipped, warning
from embedonce.stores.aws.access import DynamoAccess
from embedonce.stores.aws.clients import AwsClients
from embedonce.upstreams.failure import UpstreamFailure
from embedonce.upstreams.transport import key_bytes

THREADS = 8
SECRETS = (*(f"{prefix}_api_key_secret" for prefix in (*PAID.values(), "openai_compatible")),)
SECRETS += ("webhook_key_secret",)
_CONFIG = Config(connect_timeout=2, read_timeout=5, retries={"mode": "standard", "total_max_attempts": 2})


def aws_checks(
    settings: Settings, payers: tuple[str, ...], aws: Aws, clients: AwsClients | None = None
) -> list[Check]:
    """:param payers: ids of the keys that rules name
    :param clients: given by tests only
    """
    missing = _credentials()
    if missing is not None:
        return [missing, skipped("AWS", "nothing can be asked")]
    made = clients or AwsClients()
    looks = [*store_looks(settings, made, aws), *secret_looks(settings, aws)]
    if settings.access_table:
        looks.append(("API keys", partial(_keys, settings, payers, made, aws)))
    try:
        with ThreadPoolExecutor(THREADS) as pool:
            done = list(pool.map(lambda look: guarded(*look), looks))
    finally:
        if clients is None:
            made.close()
    return [
        ok("AWS credentials", "there are some, and a region"),
        *(each for found in done for each in found),
    ]


def _credentials() -> Check | None:
    session = botocore.session.get_session()
    try:
        credentials = session.get_credentials()
        region = session.get_config_variable("region")
    except BotoCoreError as error:
        return problem("AWS credentials", f"cannot be had ({type(error).__name__})", USE_OTHERS)
    if credentials is None:
        return problem("AWS credentials", "there are none", USE_OTHERS)
    if not region:
        return problem("AWS credentials", "no region is set", "set AWS_REGION (or AWS_DEFAULT_REGION)")
    return None


def secret_looks(settings: Settings, aws: Aws) -> Iterator[tuple[str, Look]]:
    """Also in local mode, where a setting may name a secret too."""
    for name in SECRETS:
        if stored := getattr(settings, name):
            yield f"secret {env_of(name)}", partial(_secret, name, stored, aws)


def _secret(name: str, stored: str, aws: Aws) -> list[Check]:
    """As `secretsource` reads it, without its cache."""
    line = f"secret {env_of(name)}"
    is_parameter = stored.startswith(("/", "arn:aws:ssm:"))
    action = "ssm:GetParameter" if is_parameter else "secretsmanager:GetSecretValue"
    try:
        text = aws.call(Asked(line, env_of(name), action), lambda: _read(stored, is_parameter))["Text"]
    except Refused as refused:
        return [refused.check]
    text = text.strip()
    if not text:
        return [problem(line, "is empty", "put the key there, as plain text")]
    if name == "webhook_key_secret":
        if len(text) < SHORTEST_KEY:
            return [
                problem(line, f"has less than {SHORTEST_KEY} characters", "put a longer random text there")
            ]
        return [ok(line, "can be read")]
    if text.startswith(("{", "[", '"')):
        return [problem(line, "holds JSON or quotes", "put the key itself there, as plain text")]
    try:
        key_bytes(text, name)
    except UpstreamFailure:
        return [problem(line, "holds what no header can", "put the key alone there, in one line")]
    return [ok(line, "can be read")]


def _read(stored: str, is_parameter: bool) -> dict[str, Any]:
    session = botocore.session.get_session()
    client: Any = session.create_client("ssm" if is_parameter else "secretsmanager", config=_CONFIG)
    try:
        if is_parameter:
            answer = client.get_parameter(Name=stored, WithDecryption=True)
            text = answer["Parameter"]["Value"]
        else:
            answer = client.get_secret_value(SecretId=stored)
            text = answer.get("SecretString") or answer.get("SecretBinary", b"").decode(errors="replace")
    finally:
        client.close()
    return {"Text": text, "ResponseMetadata": answer.get("ResponseMetadata", {})}


def _keys(settings: Settings, payers: tuple[str, ...], clients: AwsClients, aws: Aws) -> list[Check]:
    """With the operator's permissions: functions look keys up, and do not list them."""
    store = DynamoAccess(clients, str(settings.access_table), aws.clock)
    try:
        live = {key.id for key in store.list() if key.live}
    except StoreUnavailable:
        hint = "listing needs dynamodb:Query and dynamodb:BatchGetItem, which functions do not have"
        return [skipped("API keys", "cannot be listed with these credentials", hint)]
    if not live:
        remedy = "embedonce keys create NAME (docs/deploy.md)"
        return [problem("API keys", "there is no live key: every request is refused with 401", remedy)]
    checks = [ok("API keys", f"{len(live)} live")]
    if any(payer not in live for payer in payers):
        said = "a rule names a key that does not exist or is revoked: its files are not embedded"
        remedy = "set `key` in EMBEDONCE_INGEST_RULES to an id of `embedonce keys list`"
        checks.append(warning("API keys", said, remedy))
    return checks
