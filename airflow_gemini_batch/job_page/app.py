"""The page in Airflow 3: a FastAPI app that the api-server mounts.

Airflow's session or token says who asks. Users see the jobs of the DAGs that they may read, and no others.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_gemini_batch.job_page.rows import Names, job_row, sorted_rows
from airflow_gemini_batch.jobs.identity import DAG_LABEL

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from fastapi import FastAPI

    from airflow_gemini_batch.job_page.cache import JobCache, Snapshot

_FOLDER = Path(__file__).parent
_FILES = {"": "text/html", "page.js": "text/javascript", "page.css": "text/css"}
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'self'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
"""Labels may hold anything, so nothing in them can run, even if it were not escaped."""


def create_app(cache: JobCache) -> FastAPI:
    """Return the app: ``/``, its two files, and ``/jobs``. Without a user, everything is a 401."""
    from airflow.api_fastapi.app import get_auth_manager
    from airflow.api_fastapi.core_api.security import get_user
    from fastapi import Depends, FastAPI, Request
    from fastapi.responses import JSONResponse, Response

    app = FastAPI(title="Gemini batch jobs", docs_url=None, redoc_url=None, openapi_url=None)

    @app.middleware("http")
    async def add_headers(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        response = await call_next(request)
        response.headers.update(HEADERS)
        return response

    @app.get("/jobs")
    def jobs(user: Any = Depends(get_user)) -> JSONResponse:  # noqa: B008
        readable = get_auth_manager().get_authorized_dag_ids(user=user)
        return JSONResponse(shown(cache.snapshot(), readable, cache.interval))

    def serve(name: str, media_type: str) -> None:
        text = (_FOLDER / (name or "page.html")).read_bytes()

        @app.get(f"/{name}", dependencies=[Depends(get_user)])
        def file() -> Response:
            return Response(text, media_type=media_type)

    for name, media_type in _FILES.items():
        serve(name, media_type)
    return app


def shown(snapshot: Snapshot, dag_ids: Iterable[str], interval: float) -> dict[str, Any]:
    """Return what a user sees, as JSON types.

    :param dag_ids: of the DAGs that the user may read
    :param interval: seconds between two lists
    """
    listing, now = snapshot.listing, datetime.now(UTC)
    names = Names.of_dags(dag_ids, listing.costs)
    visible = [job for job in listing.jobs if job.labels.get(DAG_LABEL) in names.dags]
    return {
        "at": snapshot.at and snapshot.at.isoformat(),
        "interval": interval,
        "is_looking": snapshot.is_looking,
        "jobs": [row.to_dict() for row in sorted_rows(job_row(job, now, names) for job in visible)],
        "problems": list(listing.problems),
        "is_cut": listing.is_cut,
    }
