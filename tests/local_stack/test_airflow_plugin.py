"""The middleware that keeps web pages away from the Airflow of ``gemini-batch up``."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

OWN = {"host": "127.0.0.1:8080"}


def status(headers: dict[str, str], method: str = "GET") -> int:
    from airflow_gemini_batch.local_stack.airflow_plugin import LoopbackPlugin

    sent: list[dict[str, Any]] = []

    async def application(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    (added,) = LoopbackPlugin.fastapi_root_middlewares
    app = added["middleware"](application, *added["args"], **added["kwargs"])
    encoded = [(name.encode(), value.encode()) for name, value in headers.items()]
    asyncio.run(app({"type": "http", "method": method, "headers": encoded}, None, send))
    return int(sent[0]["status"])


@pytest.fixture(autouse=True)
def port(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__API__PORT", "8080")


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        (OWN, 200),
        ({"host": "localhost:8080"}, 200),
        ({**OWN, "origin": "http://127.0.0.1:8080", "sec-fetch-site": "same-origin"}, 200),
        ({**OWN, "sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}, 200),
        ({**OWN, "sec-fetch-site": "cross-site", "sec-fetch-mode": "cors"}, 403),
        ({**OWN, "origin": "http://evil.example"}, 403),
        ({"host": "evil.example:8080"}, 403),
        ({}, 403),
    ],
)
def test_only_pages_of_airflow_itself_are_answered(headers: dict[str, str], expected: int) -> None:
    assert status(headers) == expected


def test_a_form_of_another_site_is_refused() -> None:
    navigation = {**OWN, "sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}
    assert status(navigation, "POST") == 403
