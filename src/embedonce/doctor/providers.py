"""Each configured provider is asked something that costs nothing, with the key that would pay.

OpenRouter: `GET /key` (the key's own limits). Google: `GET /v1beta/models`. Segmind: `GET
/v1/get-user-credits`, its documented credit balance. An OpenAI-compatible server: `GET /models`, which many
have. The key goes to the configured origin only, and of an answer nothing is shown.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from embedonce import secretsource
from embedonce.config import Settings, env_of
from embedonce.core.errors import ServiceUnavailable
from embedonce.doctor.check import Check, ok, problem, skipped, warning
from embedonce.doctor.clock import Seen
from embedonce.ports import Clock, Upstream
from embedonce.upstreams.embedded import Embedded
from embedonce.upstreams.failure import Kind, UpstreamFailure
from embedonce.upstreams.google import of_error
from embedonce.upstreams.reading import courtesy
from embedonce.upstreams.transport import Reply, Transport, bearer, checked_base_url, key_bytes

SECONDS = 10.0
MOST_BYTES = 4 << 20


@dataclass(frozen=True, slots=True)
class Question:
    """`key`: the setting of the provider's key, without its end `_SECRET`. `credits`: where to get more."""

    setting: str
    path: str
    header: Callable[[str, str], Mapping[str, bytes]]
    read: Callable[[Any, Settings], Check | None]
    credits: str


def provider_checks(
    settings: Settings, upstreams: Sequence[Upstream], clock: Clock
) -> tuple[list[Check], list[Seen]]:
    """One line for each upstream that answers, and the dates that providers gave."""
    transport = Transport(clock)
    seen: list[Seen] = []

    def ask(upstream: Upstream) -> Check:
        if isinstance(upstream, Embedded):
            return _offline(upstream)
        return _asked(upstream.name, settings, transport, clock, seen)

    try:
        with ThreadPoolExecutor(max(1, len(upstreams))) as pool:
            return list(pool.map(ask, upstreams)), seen
    finally:
        transport.close()


def _offline(upstream: Embedded) -> Check:
    try:
        upstream.load()
    except UpstreamFailure as failure:
        return problem("upstream embedded", failure.message, "install embedonce[local] again")
    return ok("upstream embedded", "the offline model is there and is the right one")


def _asked(name: str, settings: Settings, transport: Transport, clock: Clock, seen: list[Seen]) -> Check:
    line = f"upstream {name}"
    question = QUESTIONS[name]
    variable = env_of(f"{question.setting}_api_key")
    try:
        key = _key_of(settings, question.setting, variable)
    except ServiceUnavailable as error:
        return problem(line, error.message, f"set {variable}, or on AWS {variable}_SECRET; see its line")
    base = checked_base_url(str(getattr(settings, f"{question.setting}_base_url")))
    try:
        headers = question.header(key, name) if key is not None else {}
        reply = transport.get_json(f"{base}{question.path}", headers, SECONDS, MOST_BYTES, upstream=name)
    except UpstreamFailure as failure:
        return _unanswered(line, failure, question)
    if "date" in reply.headers:
        seen.append(Seen(name, reply.headers["date"], clock.now()))
    if reply.status != 200:
        return _refused(line, name, reply, question, settings)
    said = courtesy(reply.body)
    return question.read(said, settings) or ok(line, "takes the key; nothing was paid")


def _key_of(settings: Settings, prefix: str, variable: str) -> str | None:
    """As the upstreams get it. None: an OpenAI-compatible server that wants none.

    :raises ServiceUnavailable: there is none, or it cannot be read
    """
    value, secret = getattr(settings, f"{prefix}_api_key"), getattr(settings, f"{prefix}_api_key_secret")
    if value is not None:
        return str(value.get_secret_value())
    if secret:
        return secretsource.from_aws(secret, variable)()
    return None if prefix == "openai_compatible" else secretsource.missing(variable)()


def _unanswered(line: str, failure: UpstreamFailure, question: Question) -> Check:
    base = env_of(f"{question.setting}_base_url")
    match failure.kind:
        case Kind.MISCONFIGURED:
            return problem(line, failure.message, f"check {base} and the key")
        case Kind.INVALID:
            return problem(line, failure.message, f"check {base}: something else seems to answer there")
        case _:
            remedy = f"check {base}, DNS, and whether this machine may connect there (no proxy is used)"
            return problem(line, failure.message, remedy)


def _refused(line: str, name: str, reply: Reply, question: Question, settings: Settings) -> Check:
    said, status = f"answered with HTTP {reply.status}", reply.status
    variable = env_of(f"{question.setting}_api_key")
    bad_key = f"{variable} is wrong, revoked or not for this API: make another at the provider"
    if name == "google" and status == 400:
        failure = of_error(courtesy(reply.body), status, None, name)
        status = 401 if failure.kind is Kind.MISCONFIGURED else status
    match status:
        case 401:
            return problem(line, f"{said}: the key is not taken", bad_key)
        case 403:
            remedy = f"{bad_key}; or allow it this API, this model and this machine's address there"
            return problem(line, said, remedy)
        case 402 | 406:
            return problem(line, f"{said}: no credits, or a spend limit is reached", question.credits)
        case 429:
            return warning(line, f"{said}: rate limit", "wait; if it stays so, raise the limit there")
        case 404 | 405:
            return _not_there(line, name, said, question, settings)
        case _ if status >= 500:
            return warning(line, said, "the provider has trouble: try again")
        case _:
            return problem(line, said, "the question was not understood: report it as an error of embedonce")


def _not_there(line: str, name: str, said: str, question: Question, settings: Settings) -> Check:
    """What stands in for a provider need not answer such questions."""
    setting = f"{question.setting}_base_url"
    if name == "openai_compatible" or setting in settings.model_fields_set:
        said = f"{said}: what costs nothing is not answered there, so the key is not checked"
        return skipped(line, said, f"check {env_of(setting)}; `embedonce doctor upstreams` embeds")
    return problem(line, said, "something else answers in the provider's place")


def _openrouter(said: Any, _: Settings) -> Check | None:
    data = said.get("data") if isinstance(said, dict) else None
    if not isinstance(data, dict):
        return _odd("openrouter")
    if data.get("is_management_key") is True or data.get("is_provisioning_key") is True:
        remedy = "make an ordinary API key there, and set OPENROUTER_API_KEY to it"
        return problem("upstream openrouter", "the key manages others and cannot embed", remedy)
    left = data.get("limit_remaining")
    if isinstance(left, int | float) and left <= 0:
        remedy = QUESTIONS["openrouter"].credits
        return problem("upstream openrouter", "the key's spend limit is used up", remedy)
    return None


def _google(said: Any, _: Settings) -> Check | None:
    models = said.get("models") if isinstance(said, dict) else None
    return None if isinstance(models, list) else _odd("google")


def _segmind(said: Any, _: Settings) -> Check | None:
    if not isinstance(said, dict):
        return _odd("segmind")
    amounts = [said.get("credits"), said.get("free-credits")]
    known = [float(each) for each in amounts if isinstance(each, int | float)]
    if not known:
        return _odd("segmind")
    if sum(known) <= 0:
        return problem("upstream segmind", "no credits are left", QUESTIONS["segmind"].credits)
    return None


def _compatible(said: Any, settings: Settings) -> Check | None:
    listed = said.get("data") if isinstance(said, dict) else None
    if not isinstance(listed, list):
        return _odd("openai_compatible")
    there = {each.get("id") for each in listed if isinstance(each, dict)}
    missing = [model for model in settings.openai_compatible_model if model not in there]
    if missing:
        said = f"the server does not list {', '.join(missing)}"
        return warning("upstream openai_compatible", said, "check OPENAI_COMPATIBLE_MODEL")
    return None


def _odd(name: str) -> Check:
    remedy = "check its base URL: something else may answer there"
    return warning(f"upstream {name}", "answered, but not in the form that it documents", remedy)


def _bearer(key: str, name: str) -> Mapping[str, bytes]:
    return {"authorization": bearer(key, name)}


QUESTIONS = {
    "openrouter": Question(
        "openrouter", "/key", _bearer, _openrouter, "add credits or raise the key's limit at OpenRouter"
    ),
    "google": Question(
        "gemini",
        "/v1beta/models?pageSize=1",
        lambda key, name: {"x-goog-api-key": key_bytes(key, name)},
        _google,
        "enable billing for the key's project",
    ),
    "segmind": Question(
        "segmind",
        "/v1/get-user-credits",
        lambda key, name: {"x-api-key": key_bytes(key, name)},
        _segmind,
        "add credits or raise the spend limit at Segmind",
    ),
    "openai_compatible": Question(
        "openai_compatible", "/models", _bearer, _compatible, "see that server's own documentation"
    ),
}
