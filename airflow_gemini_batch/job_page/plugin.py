"""The plugin that adds the page to Airflow 3.1 and later; Airflow 2.11 ignores it.

Every process of Airflow imports this module, so it imports nothing that costs time.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from airflow.plugins_manager import AirflowPlugin
from airflow.providers.common.compat.sdk import conf

PREFIX = "/gemini_batch"


class _Page:
    """The app of the page, imported when it is first asked."""

    _app: Any = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer a request."""
        if self._app is None:
            from airflow_gemini_batch.job_page.airflow_side import look
            from airflow_gemini_batch.job_page.app import create_app
            from airflow_gemini_batch.job_page.cache import JobCache

            self._app = create_app(JobCache(look))
        await self._app(scope, receive, send)


def _path() -> str:
    """The path of the page, which begins with that of Airflow's own address."""
    address = str(conf.get("api", "base_url", fallback=""))
    return urlsplit(address).path.rstrip("/") + f"{PREFIX}/"


class GeminiBatchPlugin(AirflowPlugin):
    """Adds a page with the batch jobs of this Airflow to the menu *Browse*."""

    name = "gemini_batch"
    fastapi_apps = [  # noqa: RUF012  # as the base class has it
        {"app": _Page(), "url_prefix": PREFIX, "name": "Gemini batch jobs"},
    ]
    external_views = [  # noqa: RUF012
        {
            "name": "Gemini batch jobs",
            "href": _path(),
            "destination": "nav",
            "category": "browse",
            "url_route": "gemini_batch_jobs",
        }
    ]
