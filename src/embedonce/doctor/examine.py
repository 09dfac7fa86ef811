"""All checks in order; none is left out because another one found a problem."""

from __future__ import annotations

from collections.abc import Mapping

from embedonce import config
from embedonce.clock import SystemClock
from embedonce.config import Settings
from embedonce.doctor.answers import Composed, composed
from embedonce.doctor.check import Check, guarded, ok, problem, skipped
from embedonce.doctor.clock import Seen, clock_check
from embedonce.doctor.configured import settings_checks
from embedonce.doctor.providers import provider_checks
from embedonce.ports import Clock
from embedonce.telemetry import quieten_libraries


def examine(environ: Mapping[str, str], clock: Clock | None = None) -> list[Check]:
    quieten_libraries()
    clock = clock or SystemClock()
    try:
        settings = config.load(environ)
    except config.ConfigError as error:  # it names the variable, never its value
        remedy = "nothing starts with it: change that setting (docs/configuration.md)"
        return [problem("settings", str(error), remedy), skipped("everything else", "needs the settings")]
    checks = [ok("settings", f"{len(settings.model_fields_set)} set, all can be read")]
    checks += guarded("settings", lambda: settings_checks(settings, environ))
    made: list[Composed] = []

    def compose() -> list[Check]:
        parts, found = composed(settings, clock)
        made.extend([parts] if parts is not None else [])
        return found

    checks += guarded("upstreams", compose)
    payers = tuple(dict.fromkeys(rule.terms.payer for parts in made for rule in parts.rules))
    seen: list[Seen] = []
    if settings.mode == "aws":
        checks += guarded("AWS", lambda: _aws(settings, payers, clock, seen))
    else:
        checks += machine_checks(settings, payers, clock, seen)

    def ask() -> list[Check]:
        if not made:
            return [skipped("upstream keys", "needs settings that work")]
        try:
            found, dates = provider_checks(settings, made[0].upstreams, clock)
        finally:
            for upstream in made[0].upstreams:
                upstream.close()
        seen.extend(dates)
        return found

    checks += guarded("upstream keys", ask)
    return [*checks, *guarded("clock", lambda: [clock_check(seen)])]


def _aws(settings: Settings, payers: tuple[str, ...], clock: Clock, seen: list[Seen]) -> list[Check]:
    from embedonce.doctor.aws import aws_checks
    from embedonce.doctor.awscalls import Aws

    return aws_checks(settings, payers, Aws(clock, seen))


def machine_checks(
    settings: Settings, payers: tuple[str, ...], clock: Clock, seen: list[Seen]
) -> list[Check]:
    """Of local mode: folder, database, port; secrets that are read from AWS all the same."""
    from embedonce.doctor.folder import folder_checks
    from embedonce.doctor.port import port_check
    from embedonce.doctor.rows import database_checks

    checks = guarded("data folder", lambda: folder_checks(settings))
    checks += guarded("database", lambda: database_checks(settings, payers, clock))
    checks += guarded("port", lambda: [port_check(settings)])
    if any(name.endswith("_secret") and getattr(settings, name) for name in type(settings).model_fields):
        from embedonce.doctor.aws import secret_looks
        from embedonce.doctor.awscalls import Aws

        for name, look in secret_looks(settings, Aws(clock, seen)):
            checks += guarded(name, look)
    return checks
