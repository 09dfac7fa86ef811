"""How media are resolved: by the guard's rules, and in local mode from the operator's own origins too."""

from __future__ import annotations

from embedonce.config import ConfigError, Settings, env_of
from embedonce.media.fetch import Fetcher
from embedonce.media.guard import Guard
from embedonce.media.remote import RemoteMediaSource
from embedonce.media.resolve import Resolver
from embedonce.media.uploads import UploadSource
from embedonce.ports import BlobStore, Clock, Telemetry, ValidatorStore


def resolver_of(
    settings: Settings,
    validators: ValidatorStore | None,
    blobs: BlobStore,
    clock: Clock,
    telemetry: Telemetry,
) -> Resolver:
    """:raises ConfigError: origins on AWS, where a URL could lead into the account, or what is no origin"""
    if settings.media_origins and settings.mode == "aws":
        raise ConfigError(f"{env_of('media_origins')}: local mode only")
    try:
        guard = Guard(settings.media_origins)
    except ValueError as error:
        raise ConfigError(f"{env_of('media_origins')}: {error}") from None
    max_bytes = settings.media_mb << 20
    remote = RemoteMediaSource(
        Fetcher(guard, clock),
        validators,
        clock,
        telemetry,
        seconds=settings.media_timeout,
        max_bytes=max_bytes,
    )
    uploads = UploadSource(blobs, max_bytes=settings.upload_mb << 20)
    return Resolver(remote, uploads, clock, max_bytes=max_bytes)
