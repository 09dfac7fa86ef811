"""Posting to a stranger's URL: webhooks. Guarded at each attempt, bounded, and the answer is only a status.

What was a public address when the webhook was given may be another by now, so nothing that was found out
about the URL before is believed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from embedonce.core.errors import InvalidRequest
from embedonce.core.ticket import WEBHOOK_SECONDS
from embedonce.media.addresses import is_public
from embedonce.media.connect import Busy, Connections, HostSlots
from embedonce.media.guard import Guard, Refused
from embedonce.ports import Clock, Telemetry

if TYPE_CHECKING:
    import ssl

    from embedonce.net.bounded import Backend

PER_HOST = 2
"""Attempts at a time: fewer than there are threads that make them (`local.loops.POLLERS`)."""
MAX_URL = 2048


class WebhookPoster:
    """Thread-safe. `seconds` bound one attempt; `resolve`, `allowed`, `backend` and `tls` are given by tests
    (`connect`)."""

    def __init__(
        self,
        guard: Guard,
        clock: Clock,
        telemetry: Telemetry,
        *,
        seconds: float = WEBHOOK_SECONDS,
        resolve: Callable[[str, int], list[str]] | None = None,
        allowed: Callable[[str], bool] = is_public,
        backend: Backend | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._guard = guard
        self._telemetry = telemetry
        self._seconds = seconds
        self._connections = Connections(clock, resolve=resolve, allowed=allowed, backend=backend, tls=tls)
        self._hosts = HostSlots(PER_HOST)

    def check(self, url: str, param: str) -> None:
        """What can be said without looking anything up: `post` will not refuse it for its spelling.

        :raises InvalidRequest: naming `param`, never the URL
        """
        try:
            if len(url) > MAX_URL:
                raise Refused
            self._guard.target(url)
        except Refused:
            raise InvalidRequest(
                f"{param}: must be an https URL of at most {MAX_URL} characters with a public host, on port "
                "443 and without a user name",
                param=param,
            ) from None

    def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> bool | None:
        """Whether it was answered with 2xx. Never waits for other attempts: None while as many as may be are
        under way at the host."""
        sent = {"content-type": "application/json", "content-length": str(len(body)), **headers}
        try:
            target = self._guard.target(url)
            with self._hosts.take(target.host, 0.0):
                strangers = self._connections.begin(self._seconds)
                with strangers.ask("POST", target, sent, body) as response:
                    return 200 <= response.status < 300
        except Busy:
            self._telemetry.count("WebhooksBusy")
            return None
        except Refused:  # by the guard, by its address, or by the network: one and the same to the caller
            self._telemetry.count("WebhooksUnreachable")
        return False

    def close(self) -> None:
        self._connections.close()
