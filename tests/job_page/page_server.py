"""The files of the page on 127.0.0.1, with jobs that a test chooses. Airflow itself is in ``test_app.py``."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from airflow_gemini_batch import job_page
from airflow_gemini_batch.batch_job import BatchJob, CompletionStats, JobError, JobName, JobState
from airflow_gemini_batch.job_page.app import HEADERS, shown
from airflow_gemini_batch.job_page.cache import Listing, Snapshot
from airflow_gemini_batch.jobs.identity import DAG_LABEL, ESTIMATE_LABEL, TASK_LABEL, label_value

Answer = Callable[[], tuple[int, dict[str, Any]]]
FOLDER = Path(job_page.__file__).parent
FILES = {"/": "page.html", "/page.js": "page.js", "/page.css": "page.css"}
TYPES = {".html": "text/html", ".js": "text/javascript", ".css": "text/css"}
DAGS = ["product_reviews", "support.Tickets_daily", "invoices", "catalog_embeddings", "<b>&\"'</b>"]
TASKS = ["submit", "gemini_batch.job.submit", "retry", "answers"]
MODELS = ["gemini-3.5-flash", "gemini-3.1-flash-lite", "gemini-embedding-001", "gemini-3.1-pro"]
ENDED = [JobState.SUCCEEDED] * 9 + [JobState.FAILED, JobState.EXPIRED, JobState.CANCELLED]
ERROR = JobError(
    3, "Failed to import data. Repeated field must be imported as a JSON array. Field: request.tools"
)


def jobs(number: int, now: datetime) -> list[BatchJob]:
    """Make jobs of all kinds."""
    return [_job(each, now) for each in range(number)]


def _job(number: int, now: datetime) -> BatchJob:
    created = now - timedelta(minutes=7 + number * 9)
    state = (
        [JobState.RUNNING, JobState.RUNNING, JobState.QUEUED, JobState.CANCELLING][number % 4]
        if number < 7
        else ENDED[number % len(ENDED)]
    )
    rows = 500 + number * 7919 % 190_000
    done = rows * (number * 37 % 90 + 5) // 100 if state is not JobState.SUCCEEDED else rows
    failed = 0 if number % 3 else number * 7 % 90
    dag, task = DAGS[number % len(DAGS)], TASKS[number % len(TASKS)]
    job = BatchJob(
        JobName("my-project", "us-central1" if number % 5 == 0 else "global", str(10**18 + number * 7919)),
        state,
        display_name=f"{dag}.{task} [{'a' * 24}.{'b' * 24}]",
        model=f"publishers/google/models/{MODELS[number % len(MODELS)]}",
        output_uri="gs://my-bucket/results",
        stats=CompletionStats(done - failed, failed, rows - done),
        create_time=created,
        start_time=created + timedelta(minutes=3),
        end_time=created + timedelta(minutes=6) if state.is_terminal else None,
        error=ERROR if state is JobState.FAILED else None,
        labels={
            DAG_LABEL: label_value(dag),
            TASK_LABEL: label_value(task),
            ESTIMATE_LABEL: f"{rows * 90}-{rows * 140}",
        },
    )
    return replace(job, stats=CompletionStats(), start_time=None) if state is JobState.QUEUED else job


def listing(found: list[BatchJob], *problems: str, is_cut: bool = False) -> Answer:
    """Answer with jobs, of which some have a known cost."""
    from decimal import Decimal

    costs = {str(job.name): Decimal(job.stats.successful or 0) / 9000 for job in found[::2] if job.end_time}
    snapshot = Snapshot(datetime.now(UTC), Listing(tuple(found), costs, problems, is_cut), False)
    return lambda: (200, shown(snapshot, DAGS, 60.0))


@contextmanager
def served(answer: Answer, test_page: str = "") -> Iterator[str]:
    """Serve the page; yield its URL.

    :param test_page: HTML of a page of the same origin, ``../test.html``
    """

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = self.path.removeprefix("/gemini_batch")
            if path == "/jobs":
                status, content = answer()
                self._send(status, json.dumps(content).encode(), "application/json")
            elif path == "/test.html":
                self._send(200, test_page.encode(), "text/html", {})
            elif path in FILES:
                file = FOLDER / FILES[path]
                self._send(200, file.read_bytes(), TYPES[file.suffix])
            else:
                self._send(404, b"", "text/plain")

        def _send(self, status: int, content: bytes, kind: str, headers: Mapping[str, str] = HEADERS) -> None:
            self.send_response(status)
            for name, value in {**headers, "Content-Type": f"{kind}; charset=utf-8"}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/gemini_batch/"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
