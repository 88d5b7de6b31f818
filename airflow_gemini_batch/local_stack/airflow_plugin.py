"""A plugin for the Airflow of ``gemini-batch up``: its API needs no login, so it must answer no web page."""

from __future__ import annotations

import os
from typing import Any

from airflow.plugins_manager import AirflowPlugin

from airflow_gemini_batch.emulator.loopback import RefusedError, check_caller


class OnlyThisMachine:
    """Middleware that refuses pages of other sites, and host names other than 127.0.0.1 and localhost."""

    def __init__(self, app: Any) -> None:
        self._app = app
        self._port = int(os.environ["AIRFLOW__API__PORT"])

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        """Answer 403, or pass the request on."""
        if scope["type"] == "http":
            headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
            if scope["method"] == "GET" and headers.get("sec-fetch-mode") == "navigate":
                # A link on a page of another site opens the UI, and that page does not see it.
                headers.pop("sec-fetch-site", None)
            try:
                check_caller(self._port, headers)
            except RefusedError as error:
                head = [(b"content-type", b"application/json")]
                await send({"type": "http.response.start", "status": 403, "headers": head})
                await send({"type": "http.response.body", "body": error.body()})
                return
        await self._app(scope, receive, send)


class LoopbackPlugin(AirflowPlugin):
    """Adds the middleware to the api-server."""

    name = "gemini_batch_local_stack"
    fastapi_root_middlewares = [  # noqa: RUF012  # as the base class has it
        {"middleware": OnlyThisMachine, "args": [], "kwargs": {}, "name": "only this machine"}
    ]
