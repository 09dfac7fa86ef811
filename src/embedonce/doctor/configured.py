"""Settings that load, and still are not what can be meant."""

from __future__ import annotations

import difflib
import ipaddress
from collections.abc import Iterator, Mapping
from urllib.parse import urlsplit

from pydantic import SecretStr

from embedonce.bootstrap.upstreams import PAID, upstream_names
from embedonce.config import Settings, env_of
from embedonce.doctor.check import Check, problem, unless, warning
from embedonce.upstreams.failure import UpstreamFailure
from embedonce.upstreams.transport import key_bytes

OURS = ("EMBEDONCE_", "OPENROUTER_", "GEMINI_", "SEGMIND_", "OPENAI_COMPATIBLE_")
KEYS_BEGIN = {"sk-or-": "openrouter", "AIza": "gemini", "SG_": "segmind"}
LOCAL_ONLY = ("trusted_proxies", "allowed_hosts", "dev_key", "media_origins", "webhook_origins")
AWS_REQUIRED = (
    *("vectors_table", "flights_table", "access_table", "jobs_table", "usage_table"),
    *("work_queue_url", "poll_queue_url", "blob_bucket", "cache_bucket"),
)
AWS_ONLY = (*AWS_REQUIRED, "ingest_bucket", "results_bucket")
REQUEST_SECONDS = 27.0
SHORTEST_OPEN_KEY = 24
"""As `local.server` has it."""


def settings_checks(settings: Settings, environ: Mapping[str, str]) -> list[Check]:
    aws = settings.mode == "aws"
    return [
        *unless("variables", _unknown(environ), "every variable that begins like ours is a setting"),
        *unless("mode", _mode(settings, aws), f"{settings.mode}; nothing is set for the other mode"),
        *unless("keys and upstreams", _keys(settings), "each upstream that answers has what it needs"),
        *unless("addresses", _addresses(settings, aws), "nothing odd"),
        *unless("times", _times(settings, aws), "nothing odd"),
        *unless("files", _files(settings, aws), "nothing odd"),
    ]


def _unknown(environ: Mapping[str, str]) -> Iterator[Check]:
    known = [env_of(name) for name in Settings.model_fields]
    for variable in sorted(environ):
        if variable.startswith(OURS) and variable not in known and environ[variable]:
            near = difflib.get_close_matches(variable, known, n=1)
            remedy = f"is {near[0]} meant? " if near else ""
            yield warning("variables", f"{variable} is no setting", f"{remedy}unset it")


def _mode(settings: Settings, aws: bool) -> Iterator[Check]:
    if aws:
        for name in AWS_REQUIRED:
            if not getattr(settings, name):
                remedy = f"set {env_of(name)} (docs/deploy.md; the functions have it from template.yaml)"
                yield problem("mode", f"{env_of(name)} is required in AWS mode", remedy)
    for name in LOCAL_ONLY if aws else AWS_ONLY:
        if name in settings.model_fields_set:
            other = "local" if aws else "AWS"
            yield warning(
                "mode",
                f"{env_of(name)} counts in {other} mode only",
                f"unset it, or change {env_of('mode')}",
            )
    if aws and settings.limits == "local":
        yield warning("mode", "LIMITS=local does nothing on AWS", "unset LIMITS")


def _keys(settings: Settings) -> Iterator[Check]:
    names = upstream_names(settings)
    for name, prefix in PAID.items():
        value: SecretStr | None = getattr(settings, f"{prefix}_api_key")
        secret = getattr(settings, f"{prefix}_api_key_secret")
        variable = env_of(f"{prefix}_api_key")
        stored = env_of(f"{prefix}_api_key_secret")
        if name in names and not value and not secret:
            fit = stored if settings.mode == "aws" else variable
            said = f"{name} is to answer and has no key: what is new gets 503"
            yield problem("keys and upstreams", said, f"set {fit}, or take {name} out of EMBEDONCE_UPSTREAMS")
        if name not in names and (value or secret):
            yield warning(
                "keys and upstreams",
                f"{variable if value else stored} is set, but {name} never answers",
                f"add {name} to EMBEDONCE_UPSTREAMS, or unset the key",
            )
        if name in names:
            yield from _in_clear(f"{prefix}_base_url", getattr(settings, f"{prefix}_base_url"))
        yield from _key(value, secret, prefix, settings)
    yield from _compatible(settings, names)
    if settings.segmind_space == "google" and "segmind" not in names:
        remedy = "unset SEGMIND_SPACE, or set SEGMIND_API_KEY"
        yield warning("keys and upstreams", "SEGMIND_SPACE is set, but segmind never answers", remedy)
    paid = any(name != "embedded" for name in names)
    if "embedded" in names and paid:
        said = "the offline model is among paid upstreams: its vectors are of another space, some made up"
        yield warning("keys and upstreams", said, "take embedded out of EMBEDONCE_UPSTREAMS")
    if names == ("embedded",):
        said = "no provider has a key: the offline model answers, images, audio and video get made-up vectors"
        yield warning("keys and upstreams", said, "set GEMINI_API_KEY, OPENROUTER_API_KEY or SEGMIND_API_KEY")


def _key(value: SecretStr | None, secret: str | None, prefix: str, settings: Settings) -> Iterator[Check]:
    variable, stored = env_of(f"{prefix}_api_key"), env_of(f"{prefix}_api_key_secret")
    if value and secret:
        said = f"{variable} and {stored} are both set: the value counts, the secret is never read"
        yield warning("keys and upstreams", said, "unset one of them")
    if value and settings.mode == "aws":
        said = f"{variable} holds a key in the clear, where whoever reads the function's settings sees it"
        yield warning("keys and upstreams", said, f"put it into Secrets Manager and set {stored}")
    if value:
        text = value.get_secret_value()
        try:
            key_bytes(text, prefix)
        except UpstreamFailure:
            said = f"{variable} holds what no header can: spaces, line breaks or other characters"
            yield problem("keys and upstreams", said, "set it to the key alone, without quotes")
            return
        for begin, owner in KEYS_BEGIN.items():
            if text.strip().startswith(begin) and owner != prefix and prefix in PAID.values():
                said = f"{variable} holds what begins like a key for {env_of(f'{owner}_api_key')}"
                yield problem("keys and upstreams", said, "perhaps the two were exchanged")


def _compatible(settings: Settings, names: tuple[str, ...]) -> Iterator[Check]:
    base, key = settings.openai_compatible_base_url, settings.openai_compatible_api_key
    has_key = key is not None or settings.openai_compatible_api_key_secret is not None
    if has_key and not base:
        said = "OPENAI_COMPATIBLE_API_KEY is set without a server"
        yield warning("keys and upstreams", said, "set OPENAI_COMPATIBLE_BASE_URL, or unset the key")
    if base and "openai_compatible" not in names:
        said = "OPENAI_COMPATIBLE_BASE_URL is set, but openai_compatible never answers"
        yield warning("keys and upstreams", said, "add openai_compatible to EMBEDONCE_UPSTREAMS")
    if base and settings.openai_compatible_dimensions is None:
        said = "the size of that server's vectors is not known: answers are checked only after the call"
        yield warning("keys and upstreams", said, "set OPENAI_COMPATIBLE_DIMENSIONS")
    if base and has_key:
        yield from _in_clear("openai_compatible_base_url", base)
    if base:
        secret = settings.openai_compatible_api_key_secret
        yield from _key(key, secret, "openai_compatible", settings)


def _in_clear(name: str, url: str) -> Iterator[Check]:
    parts = urlsplit(url)
    if parts.scheme == "http" and not is_loopback(parts.hostname or ""):
        said = f"{env_of(name)} is http: key and inputs travel in the clear"
        yield warning("keys and upstreams", said, "use https, unless every part of the way is yours")


def _addresses(settings: Settings, aws: bool) -> Iterator[Check]:
    public = settings.public_base_url
    if public and public.startswith("http://") and not is_loopback(urlsplit(public).hostname or ""):
        said = "PUBLIC_BASE_URL is http: clients are told to send their keys in the clear"
        yield warning("addresses", said, "use https")
    if aws:
        return
    everybody = [each for each in settings.trusted_proxies if ipaddress.ip_network(each).prefixlen == 0]
    if everybody:
        said = "TRUSTED_PROXIES holds every address: any caller may say where answers' URLs lead"
        yield problem("addresses", said, "name the addresses of your proxies alone")
    open_ = not is_loopback(settings.host)
    proxies = [ipaddress.ip_network(each) for each in settings.trusted_proxies]
    if proxies and not open_ and not any(each.is_loopback or each.prefixlen == 0 for each in proxies):
        said = "TRUSTED_PROXIES names no loopback address, and no other can reach HOST"
        yield warning("addresses", said, "add 127.0.0.1, or serve on another HOST")
    if open_:
        said = f"other machines can reach HOST={settings.host}; TLS is not spoken"
        yield warning("addresses", said, "put a proxy with TLS in front, or unset HOST")
        if settings.host in ("0.0.0.0", "::") and not settings.allowed_hosts:  # noqa: S104  # compared
            said = "EMBEDONCE_ALLOWED_HOSTS is empty: clients that use another name than localhost get 421"
            yield warning("addresses", said, "name the hosts that clients use")
        key = settings.dev_key
        if key and len(key.get_secret_value()) < SHORTEST_OPEN_KEY:
            said = (
                "EMBEDONCE_DEV_KEY is short enough to be guessed from other machines: the server refuses it"
            )
            yield problem("addresses", said, f"give it {SHORTEST_OPEN_KEY} characters or more, or unset it")
        if settings.limits == "local":
            said = "LIMITS=local lets other machines send bodies of 1 GiB"
            yield warning("addresses", said, "unset LIMITS")
    for name, what in (("media_origins", "read"), ("webhook_origins", "post to")):
        if getattr(settings, name):
            said = f"{env_of(name)}: whoever may embed can make this server {what} everything there"
            yield warning("addresses", said, "for development and tests only")


def _times(settings: Settings, aws: bool) -> Iterator[Check]:
    if settings.upstream_timeout > REQUEST_SECONDS:
        said = f"EMBEDONCE_UPSTREAM_TIMEOUT is more than the {REQUEST_SECONDS:g} s that a request has"
        yield warning("times", said, "13 leaves time for a second attempt")
    if settings.job_upstream_timeout >= settings.job_timeout:
        said = "one call to a provider may take as long as a submitted request has in all"
        yield warning("times", said, "raise EMBEDONCE_JOB_TIMEOUT, or lower EMBEDONCE_JOB_UPSTREAM_TIMEOUT")
    if settings.media_timeout > REQUEST_SECONDS - 2:
        said = "a media URL may use up all the time of a request"
        yield warning("times", said, "lower EMBEDONCE_MEDIA_TIMEOUT")
    if not aws:
        run = set(settings.loops)
        missing = [name for name in ("worker", "poller", "janitor") if name not in run]
        if missing:
            said = f"the server does not run its own {', '.join(missing)}: submitted requests stand still"
            remedy = f"run `embedonce {missing[0]}` beside it, or unset EMBEDONCE_LOOPS"
            yield warning("times", said, remedy)


def _files(settings: Settings, aws: bool) -> Iterator[Check]:
    if aws and settings.ingest_bucket and not settings.ingest_rules:
        said = "files are picked up and no rule says how: each result is an error"
        yield warning("files", said, "set EMBEDONCE_INGEST_RULES (docs/ingest.md)")
    if aws and settings.ingest_rules and not settings.ingest_bucket:
        said = "EMBEDONCE_INGEST_RULES without EMBEDONCE_INGEST_BUCKET: nothing is picked up"
        yield warning("files", said, "set the bucket, or unset the rules")
    if aws and settings.ingest_bucket:
        for name in ("ingest_queue_url", "chunk_queue_url"):
            if not getattr(settings, name):
                said = f"{env_of(name)} is required with EMBEDONCE_INGEST_BUCKET"
                yield problem("files", said, f"set {env_of(name)}")
    if aws and not settings.webhook_key and not settings.webhook_key_secret:
        said = "webhooks are refused: there is nothing to sign them with"
        yield warning("webhooks", said, "set EMBEDONCE_WEBHOOK_KEY_SECRET, if they are wanted")


def is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
