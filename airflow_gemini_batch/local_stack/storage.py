"""The Cloud Storage emulator as one process: ``python -m airflow_gemini_batch.local_stack.storage BINARY``.

``fake-gcs-server`` would answer every web page, so it is not reached directly. It keeps objects in memory,
where no object name leads to a file, and it speaks TLS with a certificate that only this process trusts, so
that a browser refuses to talk to it. This process listens on another port, refuses web pages, and forwards
the rest.
"""

from __future__ import annotations

import contextlib
import http.client
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from datetime import UTC, datetime, timedelta
from functools import cached_property
from http.server import BaseHTTPRequestHandler
from ipaddress import IPv4Address
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from airflow_gemini_batch.emulator.loopback import LoopbackHTTPServer, RefusedError
from airflow_gemini_batch.local_stack.stack import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

START_SECONDS = 60.0
_CHUNK = 1 << 20
# Set anew for each connection.
_HOP = frozenset(("connection", "keep-alive", "transfer-encoding", "host", "expect"))


class _Server(LoopbackHTTPServer):
    def connect_to(self, port: int, trust: ssl.SSLContext) -> None:
        """Forward requests to ``port``."""
        self.upstream, self.trust = port, trust

    def handle_error(self, request: object, client_address: object) -> None:
        """Ignore clients that disconnect."""


class _Handler(BaseHTTPRequestHandler):
    """Forwards the requests of one connection over one connection."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = _CHUNK
    server: _Server

    @cached_property
    def _upstream(self) -> http.client.HTTPSConnection:
        return http.client.HTTPSConnection(
            "127.0.0.1", self.server.upstream, context=self.server.trust, blocksize=_CHUNK
        )

    def finish(self) -> None:
        if "_upstream" in self.__dict__:
            self._upstream.close()
        with contextlib.suppress(OSError):
            super().finish()

    def do_GET(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        try:
            target = self.server.url.target(self.path, headers)
        except RefusedError as error:
            self.close_connection = True
            self._head(403, {"content-type": "application/json"}, len(error.body()))
            self.wfile.write(error.body())
            return
        length = int(headers.get("content-length") or 0)
        kept = {name: value for name, value in headers.items() if name not in _HOP}
        self._upstream.request(self.command, target, self._body(length), kept)
        url = urlsplit(target)
        has_links = url.path.startswith(("/storage/", "/upload/")) and "alt=media" not in url.query
        self._answer(self._upstream.getresponse(), has_links)

    do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = do_GET  # noqa: N815

    def _body(self, length: int) -> Iterator[bytes] | None:
        return self._pieces(length) if length else None

    def _pieces(self, length: int) -> Iterator[bytes]:
        while length and (piece := self.rfile.read(min(length, _CHUNK))):
            length -= len(piece)
            yield piece

    def _answer(self, answer: http.client.HTTPResponse, has_links: bool) -> None:
        """Send a response to the client; with ``has_links``, those to the other port lead here instead."""
        own, public = f"https://127.0.0.1:{self.server.upstream}", str(self.server.url)
        kept = {name: value for name, value in answer.headers.items() if name.lower() not in _HOP}
        if "Location" in kept:
            kept["Location"] = kept["Location"].replace(own, public)
        if self.command == "HEAD" or not (has_links or answer.length is None):
            self._head(answer.status, kept)
            while piece := answer.read(_CHUNK):
                self.wfile.write(piece)
            return
        content = answer.read()
        if has_links:
            content = content.replace(own.encode(), public.encode())
        kept.pop("Content-Length", None)
        self._head(answer.status, kept, len(content))
        self.wfile.write(content)

    def _head(self, status: int, headers: dict[str, str], length: int | None = None) -> None:
        self.send_response_only(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if length is not None:
            self.send_header("Content-Length", str(length))
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Log nothing: paths have the secret."""


def main(binary: str) -> None:
    """Serve until ``fake-gcs-server`` ends or this process is stopped."""
    server = _Server(("127.0.0.1", 0), _Handler)
    with tempfile.TemporaryDirectory(prefix="gemini-batch-tls-") as folder:
        certificate, key = Path(folder, "certificate.pem"), Path(folder, "key.pem")
        _write_certificate(certificate, key)
        trust = ssl.create_default_context(cafile=str(certificate))
        process, port = _start(binary, certificate, key, trust)
    server.connect_to(port, trust)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(f"listening on {server.url}", flush=True)
    sys.exit(process.wait())


def _write_certificate(certificate: Path, key: Path) -> None:
    """Write a key, and a certificate of it for 127.0.0.1 that signs itself."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    private = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "fake-gcs-server of the local stack")])
    now = datetime.now(UTC)
    address = x509.IPAddress(IPv4Address("127.0.0.1"))
    signed = (
        x509.CertificateBuilder(name, name, private.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=365))
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(private, hashes.SHA256())
    )
    certificate.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    pem, pkcs8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    key.write_bytes(private.private_bytes(pem, pkcs8, serialization.NoEncryption()))


def _start(
    binary: str, certificate: Path, key: Path, trust: ssl.SSLContext
) -> tuple[subprocess.Popen[bytes], int]:
    """Start ``fake-gcs-server`` and wait until it has loaded its certificate and answers."""
    # It cannot choose a port itself, and another process may take the free port before it starts.
    for _ in range(5):
        port = free_port()
        command = [binary, "-scheme", "https", "-host", "127.0.0.1", "-port", str(port)]
        command += ["-cert-location", str(certificate), "-private-key-location", str(key)]
        process = subprocess.Popen([*command, "-backend", "memory", "-log-level", "warn"])  # noqa: S603
        if _answers(process, port, trust):
            return process, port
    sys.exit("fake-gcs-server found no free port in five attempts.")


def _answers(process: subprocess.Popen[bytes], port: int, trust: ssl.SSLContext) -> bool:
    """Wait until the process answers at ``port``; return False if it has ended, as when the port is taken."""
    deadline = time.monotonic() + START_SECONDS
    while process.poll() is None:
        # The handshake proves that it is this process: nothing else has the key.
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)) as connection:
            trust.wrap_socket(connection, server_hostname="127.0.0.1").close()
            return True
        if time.monotonic() > deadline:
            sys.exit(f"fake-gcs-server did not answer within {START_SECONDS:.0f} s.")
        time.sleep(0.02)
    return False


if __name__ == "__main__":
    main(sys.argv[1])
