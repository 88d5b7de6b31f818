"""A StatsD server on a UDP port, and Airflow set up to send to it."""

from __future__ import annotations

import os
import re
import socket
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import timedelta

_LINE = re.compile(r"(?P<name>[^:,]+)(?P<tags>(?:,[^:,=]+=[^:,=]+)*):(?P<value>[^|]+)\|(?P<kind>c|ms|g)")


@dataclass(frozen=True)
class Received:
    """One line of the wire."""

    name: str
    value: float
    kind: str
    tags: dict[str, str]


@dataclass
class Server:
    """What was received so far."""

    sock: socket.socket
    lines: list[Received] = field(default_factory=list)

    def read(self) -> list[Received]:
        """Return all metrics of this package. On loopback a datagram is there once it is sent."""
        self.sock.setblocking(False)
        while True:
            try:
                line = self.sock.recv(65536).decode()
            except BlockingIOError:
                return [each for each in self.lines if each.name.startswith("gemini_batch.")]
            match = _LINE.fullmatch(line)
            assert match, line
            tags = dict(each.split("=") for each in match["tags"].split(",")[1:])
            self.lines.append(Received(match["name"], float(match["value"]), match["kind"], tags))

    def values(self) -> dict[str, float]:
        """Return the sum of each metric."""
        sums: dict[str, float] = {}
        for each in self.read():
            sums[each.name] = sums.get(each.name, 0) + each.value
        return sums


class Client:
    """What Airflow asks of ``statsd.StatsClient``, whose lines it writes."""

    def __init__(self, address: tuple[str, int]) -> None:
        self._address = address
        self._sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)

    def _send(self, stat: str, value: Any, kind: str) -> None:
        self._sock.sendto(f"{stat}:{value}|{kind}".encode(), self._address)

    def incr(self, stat: str, count: int = 1, rate: float = 1) -> None:
        self._send(stat, count, "c")

    def gauge(self, stat: str, value: float, rate: float = 1, delta: bool = False) -> None:
        self._send(stat, value, "g")

    def timing(self, stat: str, delta: timedelta | float, rate: float = 1) -> None:
        value = delta if isinstance(delta, (int, float)) else delta.total_seconds() * 1000
        self._send(stat, f"{value:.6f}", "ms")

    def close(self) -> None:
        self._sock.close()


@contextmanager
def receiving(*, of_triggerer: bool = False, tags: bool = True) -> Iterator[Server]:
    """Let Airflow send to a new server, as its tasks do, or as its triggerer does.

    :param tags: whether names have the tags, in the form of InfluxDB
    """
    enabled = {"AIRFLOW__METRICS__STATSD_INFLUXDB_ENABLED": str(tags)}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock, patch.dict(os.environ, enabled):
        sock.bind(("127.0.0.1", 0))
        client = Client(sock.getsockname())
        try:
            module = logger_module("statsd_logger", of_triggerer=of_triggerer)
            # Airflow 2 reads from its settings whether a name may have tags.
            more = {} if module.__name__.startswith("airflow.metrics") else {"statsd_influxdb_enabled": tags}
            logger = module.SafeStatsdLogger(client, influxdb_tags_enabled=tags, **more)
            with sending_to(logger, of_triggerer=of_triggerer):
                yield Server(sock)
        finally:
            client.close()


def logger_module(name: str, *, of_triggerer: bool = False) -> Any:
    """Import the module with one of Airflow's loggers of metrics."""
    place = "airflow._shared" if of_triggerer else "airflow.sdk._shared"
    try:
        return import_module(f"{place}.observability.metrics.{name}")
    except ImportError:  # Airflow 2
        return import_module(f"airflow.metrics.{name}")


@contextmanager
def sending_to(logger: Any, *, of_triggerer: bool = False) -> Iterator[None]:
    """Let Airflow send metrics to one of its loggers."""
    try:
        stats = import_module(f"airflow{'' if of_triggerer else '.sdk'}.observability.stats")
    except ImportError:  # Airflow 2
        stats_2 = import_module("airflow.stats").Stats
        # Where Airflow keeps it once the first metric was sent.
        stats_2.instance = logger
        yield
        stats_2.instance = None
        return
    stats.initialize(factory=lambda: logger, export_legacy_names=True)
    yield
    off = logger_module("base_stats_logger", of_triggerer=of_triggerer).NoStatsLogger
    stats.initialize(factory=off, export_legacy_names=True)
