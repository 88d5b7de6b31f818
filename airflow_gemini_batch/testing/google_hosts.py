"""Keeps tests away from Google: a test that would reach one of its hosts fails at once."""

from __future__ import annotations

import os
import socket
from typing import Any

_SUFFIXES = (".googleapis.com", ".google.com", ".google.internal", ".goog")
_METADATA_SERVER = "169.254.169.254"
_attempts: list[str] = []


class GoogleReachedError(BaseException):
    """A test would have reached a host of Google. No ``except Exception`` catches it, so nothing retries.

    :ivar host: the host
    """

    def __init__(self, host: str) -> None:
        self.host = host
        super().__init__(message(host))


def message(host: str) -> str:
    """Say that a test would have reached a host, and what to do."""
    return (
        f"This test would have reached {host}. Use the fixture gemini_batch_stack, which has emulators of "
        "Cloud Storage, BigQuery and Vertex AI. If the test uses it, a task has a connection of its own: "
        "define that with gemini_batch_stack.define_connection(conn_id); or it calls Google without an "
        "Airflow connection."
    )


def attempts() -> list[str]:
    """Return the hosts that would have been reached since the last call."""
    found, _attempts[:] = list(_attempts), []
    return found


def refuse_google() -> None:
    """Refuse connections of this process to Google's hosts, from now on; call it once."""
    # Otherwise a proxy would look the names up.
    for name in ("NO_PROXY", "no_proxy"):
        os.environ[name] = ",".join([*filter(None, [os.environ.get(name)]), *_SUFFIXES, _METADATA_SERVER])
    # gRPC looks names up by itself: its calls go to a port where nobody listens.
    os.environ.update({"grpc_proxy": "http://127.0.0.1:9", "no_grpc_proxy": "127.0.0.1,localhost"})
    for name in ("getaddrinfo", "gethostbyname", "gethostbyname_ex"):
        setattr(socket, name, _guarded(getattr(socket, name)))
    for name in ("connect", "connect_ex"):
        setattr(socket.socket, name, _guarded_method(getattr(socket.socket, name)))


def _guarded(look_up: Any) -> Any:
    def guarded(host: Any, *args: Any, **kwargs: Any) -> Any:
        _check(host)
        return look_up(host, *args, **kwargs)

    return guarded


def _guarded_method(connect: Any) -> Any:
    def guarded(self: socket.socket, address: Any, /) -> Any:
        if isinstance(address, tuple):
            _check(address[0])
        return connect(self, address)

    return guarded


def _check(host: object) -> None:
    name = host.decode("latin-1") if isinstance(host, bytes) else str(host)
    name = name.rstrip(".").lower()
    if name == _METADATA_SERVER or f".{name}".endswith(_SUFFIXES):
        _attempts.append(name)
        raise GoogleReachedError(name)
