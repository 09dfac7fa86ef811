"""Who delivers webhooks, and what they are signed with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache

from embedonce import secretsource
from embedonce.access import webhooks
from embedonce.config import ConfigError, Settings, env_of
from embedonce.core.errors import InvalidRequest, ServiceUnavailable
from embedonce.media.guard import Guard
from embedonce.media.post import WebhookPoster
from embedonce.ports import Clock, Telemetry

FILE_NAME = "webhook.secret"
SHORTEST_KEY = 32
"""Characters of a master; whoever guesses it signs for every key."""


@dataclass(frozen=True, slots=True)
class Webhooks:
    """`sign(owner, message id, timestamp, body)` and `secret_of(key id)` raise `ServiceUnavailable` where the
    master cannot be read. `check(url, param)` raises `InvalidRequest` for what can never be delivered."""

    sender: WebhookPoster
    sign: Callable[[str, str, int, bytes], Mapping[str, str]]
    secret_of: Callable[[str], str]
    check: Callable[[str, str], None]
    close: Callable[[], None]


def webhooks_of(settings: Settings, clock: Clock, telemetry: Telemetry) -> Webhooks:
    """Reads no secret yet.

    :raises ConfigError: origins on AWS, where a URL could lead into the account, or what is no origin
    """
    if settings.webhook_origins and settings.mode == "aws":
        raise ConfigError(f"{env_of('webhook_origins')}: local mode only")
    try:
        guard = Guard(settings.webhook_origins)
    except ValueError as error:
        raise ConfigError(f"{env_of('webhook_origins')}: {error}") from None
    poster = WebhookPoster(guard, clock, telemetry)
    secret_of = secrets_of(settings)

    def sign(owner: str, message_id: str, timestamp: int, body: bytes) -> Mapping[str, str]:
        return webhooks.sign(secret_of(owner), message_id, timestamp, body)

    def unsigned(url: str, param: str) -> None:  # noqa: ARG001  # whatever the URL
        raise InvalidRequest(f"{param}: this deployment has no key to sign webhooks with", param=param)

    check = poster.check if _has_master(settings) else unsigned
    return Webhooks(poster, sign, secret_of, check, poster.close)


def secrets_of(settings: Settings) -> Callable[[str], str]:
    """From a key's id to its secret; raises `ServiceUnavailable` where the master cannot be read."""
    master = _master(settings)
    return lambda key_id: webhooks.secret_of(master(), key_id)


def _has_master(settings: Settings) -> bool:
    return bool(settings.webhook_key or settings.webhook_key_secret or settings.mode == "local")


def _master(settings: Settings) -> Callable[[], bytes]:
    """The value, the secret's text, or in local mode the data folder's: in this order, at first need."""
    if settings.webhook_key is not None:
        return _text(secretsource.from_value(settings.webhook_key), env_of("webhook_key"))
    variable = env_of("webhook_key_secret")
    if settings.webhook_key_secret:
        return _text(secretsource.from_aws(settings.webhook_key_secret, variable), variable)
    if settings.mode == "aws":
        return _unset(variable)
    return cache(lambda: _made_once(settings))


def _unset(variable: str) -> Callable[[], bytes]:
    def refuse() -> bytes:
        raise ServiceUnavailable(f"{variable} is not set, so webhooks are not signed", retry_after=60)

    return refuse


def _text(read: Callable[[], str], variable: str) -> Callable[[], bytes]:
    def master() -> bytes:
        text = read().strip()
        if len(text) < SHORTEST_KEY:
            raise ServiceUnavailable(
                f"{variable} has less than {SHORTEST_KEY} characters, so webhooks are not signed",
                retry_after=60,
            )
        return text.encode()

    return master


def _made_once(settings: Settings) -> bytes:
    from embedonce.local.secret import secret_file  # not in the Lambda package

    try:
        return secret_file(settings.data_dir, FILE_NAME)
    except (OSError, ValueError):
        raise ServiceUnavailable(
            f"{FILE_NAME} in {env_of('data_dir')} cannot be read or made, so webhooks are not signed",
            retry_after=60,
        ) from None
