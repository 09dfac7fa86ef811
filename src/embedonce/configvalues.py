"""How single settings are written in the environment, and read from there."""

from __future__ import annotations

import ipaddress
import json
import re
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

USD = r"[0-9]{1,6}(\.[0-9]{1,9})?"


def setting(env: str, doc: str, default: Any = None, **rules: Any) -> Any:
    """A field of the settings: the variable it is read from, and what it means."""
    return Field(default, description=doc, json_schema_extra={"env": env}, **rules)


def comma_list(value: Any) -> Any:
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


def routes(value: Any) -> Any:
    """`text=openrouter,google;video=segmind`"""
    if not isinstance(value, str):
        return value
    chosen_by: dict[str, Any] = {}
    for route in filter(None, map(str.strip, value.split(";"))):
        modality, equals, names = route.partition("=")
        chosen = comma_list(names)
        if not equals or not chosen:
            raise ValueError("must read modality=upstream,upstream;modality=upstream")
        if modality.strip() in chosen_by or len(set(chosen)) < len(chosen):
            raise ValueError("names a modality, or an upstream of one, twice")
        chosen_by[modality.strip()] = chosen
    return chosen_by


def on_unknown(value: Any) -> Any:
    """`fail`, or `resubmit_below=` and a price in USD: kept as the price alone."""
    if not isinstance(value, str) or value == "fail":
        return None
    rule, equals, price = value.partition("=")
    if rule != "resubmit_below" or not equals or not re.fullmatch(USD, price):
        raise ValueError("must be `fail` or `resubmit_below=` and a price in USD, as in resubmit_below=0.01")
    return price


def usd(value: Any) -> Any:
    """Decimal text, as it was written."""
    if not isinstance(value, str) or not re.fullmatch(USD, value):
        raise ValueError("must be USD, as in 50 or 0.25")
    return value


def base_url(value: Any) -> Any:
    """Without the slash at the end."""
    if not isinstance(value, str):
        return value
    form = r"https?://(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_.-]+)(:[0-9]{1,5})?(/[A-Za-z0-9_.~%/-]*)?"
    if not re.fullmatch(form, value):
        raise ValueError("must be http:// or https://, a host, and nothing else but a port and a path")
    return value.rstrip("/")


def networks(value: Any) -> Any:
    given = comma_list(value)
    try:
        for network in given:
            ipaddress.ip_network(network)
    except ValueError:
        raise ValueError("must be IP addresses or networks (10.0.0.0/8), comma-separated") from None
    return given


def json_or_file(value: Any) -> Any:
    """Inline JSON, or the path of a file that holds it."""
    if not isinstance(value, str):
        return value
    try:
        text = value if value.lstrip().startswith(("[", "{")) else Path(value).expanduser().read_text()
        return json.loads(text)
    except (OSError, RuntimeError, ValueError, RecursionError):
        raise ValueError("neither JSON nor a readable file of JSON") from None


class ExtraModel(BaseModel):
    """A model beyond the built-in ones, or new ids for one (`EMBEDONCE_MODELS`)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str = Field(min_length=1, max_length=200)
    like: str | None = None
    aliases: tuple[str, ...] = ()
    dimensions: int | None = Field(default=None, ge=1, le=65_536)
    derivable: bool | None = None
    usd_per_million_tokens: str | None = Field(default=None, pattern=r"^\d{1,6}(\.\d{1,9})?$")
