"""An origin of media on loopback that sends raw bytes, over TLS if asked; and a network that leads there.

    with Origin(lambda asked: [ok(b"...", etag='"1"')]) as origin: ...

Each connection is answered once, with the chunks that the function yields, and closed.
"""

from __future__ import annotations

import datetime
import socket
import ssl
import threading
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import httpcore
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

DENIED = [
    *("127.0.0.1", "127.255.255.254", "0.0.0.0", "0.1.2.3", "10.0.0.1", "172.16.0.1", "172.31.255.255"),
    *("192.168.0.1", "169.254.169.254", "169.254.170.2", "100.64.0.1", "100.100.100.200", "100.127.255.255"),
    *("192.0.0.1", "192.0.0.192", "192.0.2.1", "198.51.100.7", "203.0.113.9", "198.18.0.1", "198.19.255.255"),
    *("192.88.99.1", "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255", "168.63.129.16"),
    *("::", "::1", "::127.0.0.1", "::8.8.8.8", "::ffff:127.0.0.1", "::ffff:8.8.8.8", "::ffff:a9fe:a9fe"),
    *("64:ff9b::127.0.0.1", "64:ff9b::8.8.8.8", "64:ff9b:1::a9fe:a9fe", "2002:7f00:1::", "2002:808:808::1"),
    *("2001::1", "2001:0:4136:e378:8000:63bf:3fff:fdd2", "2001:10::1", "2001:20::1", "2001:2::1"),
    *("2001:db8::1", "3fff::1", "100::1", "fc00::1", "fd00:ec2::254", "fe80::1", "fe80::1%eth0"),
    *("fec0::1", "ff02::1", "5f00::1", "4000::1", "::ffff:0:127.0.0.1"),
]
"""Addresses that a URL must never lead to: every kind of SECURITY 9."""


@dataclass(frozen=True)
class Asked:
    path: str
    headers: Mapping[str, str]


Respond = Callable[[Asked], Iterable[bytes]]


def head(status: int = 200, **headers: str | int) -> bytes:
    lines = [f"HTTP/1.1 {status} Any", *(f"{n.replace('_', '-')}: {v}" for n, v in headers.items())]
    return "\r\n".join(lines).encode() + b"\r\n\r\n"


def ok(body: bytes, **headers: str | int) -> bytes:
    return head(200, content_length=len(body), **headers) + body


def conditional(asked: Asked, body: bytes, etag: str) -> bytes:
    """As an honest origin answers."""
    if asked.headers.get("if-none-match") == etag:
        return head(304, etag=etag)
    return ok(body, etag=etag)


class Origin:
    def __init__(self, respond: Respond, tls: ssl.SSLContext | None = None) -> None:
        self.respond = respond
        self.asked: list[Asked] = []
        self.most_at_once = 0
        self._at_once = 0
        self._tls = tls
        self._lock = threading.Lock()
        self.closing = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port: int = self._listener.getsockname()[1]
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def sent_whole(self) -> int:
        """Requests that asked for the bytes whatever they are."""
        return sum(1 for a in self.asked if not a.headers.keys() & {"if-none-match", "if-modified-since"})

    def trickle(self, data: bytes, pause: float = 0.02) -> Iterable[bytes]:
        """Byte by byte, until the test is over."""
        for at in range(len(data)):
            if self.closing.wait(pause):
                return
            yield data[at : at + 1]

    def __enter__(self) -> Origin:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.closing.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(5)

    def _accept(self) -> None:
        while not self.closing.is_set():
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._serve, args=(connection,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        with suppress(OSError), connection:
            connection.settimeout(5)
            stream = self._tls.wrap_socket(connection, server_side=True) if self._tls else connection
            with stream:
                raw = b""
                while b"\r\n\r\n" not in raw:
                    chunk = stream.recv(65_536)
                    if not chunk:
                        return
                    raw += chunk
                first, *lines = raw.decode("latin-1").split("\r\n\r\n")[0].split("\r\n")
                headers = {n.lower(): v.strip() for n, _, v in (line.partition(":") for line in lines)}
                asked = Asked(first.split(" ")[1], headers)
                with self._lock:
                    self.asked.append(asked)
                    self._at_once += 1
                    self.most_at_once = max(self.most_at_once, self._at_once)
                # Over before its last piece is sent: who has that may ask for the next.
                last = b""
                try:
                    for chunk in self.respond(asked):
                        if self.closing.is_set():
                            return
                        if last:
                            stream.sendall(last)
                        last = chunk
                finally:
                    with self._lock:
                        self._at_once -= 1
                stream.sendall(last)


class Wire(httpcore.NetworkBackend):
    """Records what is connected to, and leads all of it to one port on loopback."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._inner = httpcore.SyncBackend()
        self.connected: list[tuple[str, int]] = []

    def connect_tcp(self, host: str, port: int, *rest: Any, **named: Any) -> httpcore.NetworkStream:
        self.connected.append((host, port))
        return self._inner.connect_tcp("127.0.0.1", self._port, *rest, **named)


def certificates(folder: Path, *names: str) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """(server, client): a certificate for these names, and who trusts it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(n) for n in names]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = folder / "certificate.pem"
    pem.write_bytes(
        certificate.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(pem)
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.load_verify_locations(cafile=pem)
    return server, client
