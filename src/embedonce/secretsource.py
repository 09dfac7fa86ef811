"""Provider keys: from the environment on one machine, from Secrets Manager or SSM on AWS."""

from __future__ import annotations

from collections.abc import Callable

from pydantic import SecretStr

from embedonce.core.errors import ServiceUnavailable

CACHE_SECONDS = 300
"""How long a fetched secret is used: a rotated key takes effect within this."""


def from_value(value: SecretStr) -> Callable[[], str]:
    return value.get_secret_value


def missing(what: str) -> Callable[[], str]:
    def refuse() -> str:
        raise ServiceUnavailable(f"{what} is not set, so nothing new can be embedded", retry_after=60)

    return refuse


def from_aws(name: str, what: str) -> Callable[[], str]:
    """Read at first need. `name`: a Secrets Manager name or ARN, or an SSM parameter (ARN or `/path`)."""

    def fetch() -> str:
        from aws_lambda_powertools.utilities.parameters import get_parameter, get_secret
        from aws_lambda_powertools.utilities.parameters.exceptions import GetParameterError

        is_parameter = name.startswith(("/", "arn:aws:ssm:"))
        try:
            value: str | bytes = (
                get_parameter(name, decrypt=True, max_age=CACHE_SECONDS)
                if is_parameter
                else get_secret(name, max_age=CACHE_SECONDS)
            )
        except GetParameterError:
            raise ServiceUnavailable(f"{what} cannot be read from the secret store", retry_after=5) from None
        text = value.decode() if isinstance(value, bytes) else str(value)
        if not text.strip():
            raise ServiceUnavailable(f"{what} is empty in the secret store", retry_after=60)
        return text.strip()

    return fetch
