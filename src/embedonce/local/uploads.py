"""What presigned URLs of S3 are on AWS: leave, signed by this installation, to put exactly those bytes once.

    PUT /v2/uploads/{id}?blob=…&size=…&sha256=…&type=…&expires=…&signature=…

The URL is the credential: no API key is asked for. Bodies go to disk as they come and are never in memory as
a whole. Refusals have the statuses and the codes of S3, as `{"error": "<code>: <text>"}`.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import re
import threading
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol, TypeVar
from urllib.parse import urlencode

import orjson

from embedonce.core.errors import StoreUnavailable
from embedonce.http.message import Response
from embedonce.local.secret import secret_file
from embedonce.ports import Clock, PresignedPut

SECRET_FILE = "signing.secret"  # noqa: S105  # a file's name
PREFIX = "/v2/uploads/"
MAX_SECONDS = 900
BODY_SECONDS = 300.0
"""For all of the bytes to arrive, and for the next ones of them."""
IDLE_SECONDS = 30.0
WRITE_BYTES = 1 << 18
"""Are written at a time: what arrives is a quarter of that or less."""
THREADS = 4

SIGNED = ("blob", "size", "sha256", "type", "expires")
_DIGITS = re.compile(r"[0-9]{1,15}")

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
T = TypeVar("T")


class Writer(Protocol):
    """See `embedonce.stores.embedded.blobs.BlobWriter`."""

    def write(self, data: bytes) -> None: ...

    def commit(self) -> None: ...

    def abort(self) -> None: ...


class Blobs(Protocol):
    def create(self, key: str) -> Writer: ...

    def start(self, key: str, size: int) -> tuple[bytes, int] | None: ...


class Refused(Exception):
    def __init__(self, status: int, code: str, text: str) -> None:
        super().__init__(code)
        self.status = status
        self.body = orjson.dumps({"error": f"{code}: {text}"})


class Disconnected(Exception):
    """The client went away before all bytes were there."""


def signing_secret(data_dir: Path) -> bytes:
    """:raises OSError, ValueError: see `secret_file`"""
    return secret_file(data_dir, SECRET_FILE)


class UploadSigner:
    """A `Signer` of the directory blob store. `secret`: the installation's, the same in all its processes."""

    def __init__(self, secret: bytes, clock: Clock) -> None:
        self._secret = secret
        self._clock = clock

    def __call__(self, key: str, size: int, sha256: bytes, content_type: str, seconds: int) -> PresignedPut:
        """Path and query: under which name the server is reached is not known here."""
        values = {
            "blob": key,
            "size": str(size),
            "sha256": sha256.hex(),
            "type": content_type,
            "expires": str(int(self._clock.now()) + min(seconds, MAX_SECONDS)),
        }
        query = urlencode({**values, "signature": self._signature(values)})
        headers = {"Content-Length": str(size), "Content-Type": content_type, "If-None-Match": "*"}
        return PresignedPut(f"{PREFIX}{_id_of(key)}?{query}", headers)

    def check(self, path: str, query: Mapping[str, str]) -> None:
        """:raises Refused: not a URL of ours, altered, or of the past"""
        given = query.get("signature", "").encode("utf-8", "surrogatepass")
        signed = hmac.compare_digest(self._signature(query).encode(), given)
        if not signed or path != f"{PREFIX}{_id_of(query.get('blob', ''))}":
            raise Refused(403, "SignatureDoesNotMatch", "the URL is not as it was given out")
        left = int(query["expires"]) - self._clock.now()
        if not 0 < left <= MAX_SECONDS:
            raise Refused(403, "AccessDenied", "the URL has expired")

    def _signature(self, values: Mapping[str, str]) -> str:
        said = "\n".join(["embedonce/put/1", *(values.get(name, "").encode().hex() for name in SIGNED)])
        return hmac.new(self._secret, said.encode(), hashlib.sha256).hexdigest()


def _id_of(key: str) -> str:
    """`uploads/<owner>/<id>/<SHA-256>`"""
    return key.rpartition("/")[0].rpartition("/")[2]


class _Sink:
    """A blob on its way to disk. Locked: an upload may be given up while a thread still writes."""

    def __init__(self, writer: Writer, size: int, sha256: str) -> None:
        self._writer = writer
        self._size = size
        self._sha256 = sha256
        self._hash = hashlib.sha256()
        self._lock = threading.Lock()

    def write(self, data: bytes) -> None:
        with self._lock:
            self._hash.update(data)
            self._writer.write(data)

    def commit(self) -> None:
        with self._lock:
            if self._hash.hexdigest() != self._sha256:
                raise Refused(400, "BadDigest", "the bytes have another SHA-256")
            self._writer.commit()

    def abort(self) -> None:
        with self._lock:
            self._writer.abort()


class UploadReceiver:
    def __init__(self, signer: UploadSigner, blobs: Blobs) -> None:
        self._signer = signer
        self._blobs = blobs
        self._open: set[str] = set()
        """Keys whose bytes are arriving: one quota is one file on the disk. Used by the event loop only."""
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="upload")

    @staticmethod
    def takes(method: str, path: str) -> bool:
        return method == "PUT" and path.startswith(PREFIX)

    def close(self) -> None:
        self._threads.shutdown(wait=True)

    async def put(
        self, path: str, query: Mapping[str, str], headers: Mapping[str, str], receive: Receive
    ) -> Response:
        """:raises Disconnected: nothing is kept"""
        try:
            self._signer.check(path, query)
            self._check_headers(query, headers)
            await self._store(query, receive)
        except Refused as refusal:
            return Response(refusal.status, refusal.body)
        except FileExistsError:
            exists = Refused(412, "PreconditionFailed", "it has been put already")
            return Response(exists.status, exists.body)
        except StoreUnavailable:
            unavailable = Refused(503, "ServiceUnavailable", "uploads cannot be kept right now")
            return Response(unavailable.status, unavailable.body, headers={"Retry-After": "2"})
        return Response(200, b"")

    @staticmethod
    def _check_headers(query: Mapping[str, str], headers: Mapping[str, str]) -> None:
        length = headers.get("content-length")
        if length is None or "transfer-encoding" in headers:
            raise Refused(411, "MissingContentLength", "Content-Length: required")
        if not _DIGITS.fullmatch(length) or int(length) != int(query["size"]):
            raise Refused(400, "IncorrectContentLength", f"Content-Length: must be {query['size']}")
        for name, value in (("Content-Type", query["type"]), ("If-None-Match", "*")):
            if headers.get(name.lower()) != value:
                raise Refused(403, "SignatureDoesNotMatch", f"{name}: must be {value}")

    async def _store(self, query: Mapping[str, str], receive: Receive) -> None:
        size = int(query["size"])
        key = query["blob"]
        if key in self._open:
            raise Refused(409, "OperationAborted", "these bytes are being put already")
        self._open.add(key)
        try:
            await self._written(key, size, query["sha256"], receive)
        finally:
            self._open.discard(key)

    async def _written(self, key: str, size: int, sha256: str, receive: Receive) -> None:
        sink = _Sink(await self._run(self._begun, key), size, sha256)
        try:
            try:
                async with asyncio.timeout(BODY_SECONDS):
                    await self._copied(sink, size, receive)
            except TimeoutError:
                raise Refused(408, "RequestTimeout", "the bytes did not arrive in time") from None
            await self._run(sink.commit)
        finally:
            await asyncio.shield(self._run(sink.abort))

    def _begun(self, key: str) -> Writer:
        if self._blobs.start(key, 1) is not None:
            raise FileExistsError
        return self._blobs.create(key)

    async def _copied(self, sink: _Sink, size: int, receive: Receive) -> None:
        held = bytearray()
        read = 0
        more = True
        while more:
            async with asyncio.timeout(IDLE_SECONDS):
                message = await receive()
            if message["type"] == "http.disconnect":
                raise Disconnected
            chunk = message.get("body", b"")
            more = bool(message.get("more_body"))
            read += len(chunk)
            if read > size:
                raise Refused(400, "IncorrectContentLength", f"there are more than {size} bytes")
            held += chunk
            if len(held) >= WRITE_BYTES or (held and not more):
                await self._run(sink.write, bytes(held))
                held.clear()
        if read < size:
            raise Refused(400, "IncompleteBody", f"there are {read} bytes, not {size}")

    def _run(self, function: Callable[..., T], *arguments: Any) -> asyncio.Future[T]:
        return asyncio.get_running_loop().run_in_executor(self._threads, function, *arguments)
