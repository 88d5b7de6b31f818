"""The cells of the matrix: a request, before or after it, and which process is killed or response lost."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from itertools import product
from typing import TYPE_CHECKING

from .wire import AIRFLOW, BIGQUERY, STORAGE, VERTEX

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from .wire import Exchange

# Land a job that ends at once; wait in the sensor; wait in the submit task; build the requests, too; build
# them in BigQuery, and merge; land a job that expires after four rows, and ask the others again; truncate,
# and store images; land while BigQuery is slow, in the triggerer; let a listener take longer after a task's
# success than Airflow allows.
SHORT, SENSOR, WAITING, BUILDING, QUERY, BAD_END, IMAGES, SLOW, LISTENER = DAG_IDS = (
    "crash_short",
    "crash_sensor",
    "crash_waiting",
    "crash_building",
    "crash_query",
    "crash_bad_end",
    "crash_images",
    "crash_slow",
    "crash_listener",
)


class Failure(Enum):
    """What happens; the value is its name in the table."""

    TASK = "the task process is killed"
    WORKER = "the worker and its task are killed"
    TRIGGERER = "the triggerer is killed"
    LOST = "the response is lost"
    STALLED = "the task process is killed, and the server acts 40 seconds later"
    STALLED_WORKER = "the worker and its task are killed, and the server acts 40 seconds later"
    OVERTIME = "Airflow ends the process of the successful task"

    @property
    def is_late(self) -> bool:
        """Whether the server processes the request some time after its client is gone."""
        return self in (Failure.STALLED, Failure.STALLED_WORKER)


class When(Enum):
    """Before or after the server has processed the request."""

    BEFORE = "before"
    AFTER = "after"


@dataclass(frozen=True)
class Boundary:
    """Identifies one request of a run.

    :param path: regular expression, matched anywhere in the path
    :param body: regular expression, matched anywhere in the body
    :param response: regular expression; with it, the request is identified only after the response
    :param by: part of the title of the process that sends the request
    :param nth: which of the matching requests
    """

    step: str
    name: str
    server: str
    method: str
    path: str
    body: str = ""
    response: str = ""
    by: str = ""
    nth: int = 1
    dag_id: str = SHORT

    def matches(self, exchange: Exchange) -> bool:
        """Whether a request matches, without regard to its response."""
        return (
            exchange.server == self.server
            and exchange.method in self.method.split("|")
            and bool(re.search(self.path, exchange.path))
            and bool(re.search(self.body.encode(), exchange.body))
            and (not self.by or self.by in exchange.client.title)
        )


@dataclass(frozen=True)
class Cell:
    """One failure in one run."""

    boundary: Boundary
    when: When
    failure: Failure

    @property
    def title(self) -> str:
        """Description of the cell."""
        return f"{self.boundary.step}: {self.when.value} {self.boundary.name}, {self.failure.value}"


_TASK, _TRIGGERER = "airflow worker --", "airflow triggerer"
_JOBS, _JOB = r"batchPredictionJobs$", r"batchPredictionJobs/\d+$"
_STATE, _RUN = r"/task-instances/[^/]+/state$", r"/task-instances/[^/]+/run$"
_BQ_JOB, _BQ_JOBS, _BQ_TABLES = r"/jobs/gemini-batch-land-", r"/jobs\?", r"/tables\?"

_LANDING = r'(?s)(?=.*"query")(?=.*gemini-batch-land)'
_UPLOAD = r"^/upload/|^/resumable|upload_id="

UPLOAD = {
    "upload": Boundary(
        "build", "the start of the upload", STORAGE, "POST", "uploadType=resumable", dag_id=BUILDING
    ),
    "lines": Boundary("build", "the upload of the lines", STORAGE, "PUT", _UPLOAD, dag_id=BUILDING),
    "name-lines": Boundary(
        "build", "the copy to the final object", STORAGE, "POST", "/copyTo/", dag_id=BUILDING
    ),
    "tidy": Boundary(
        "build", "the deletion of the temporary object", STORAGE, "DELETE", "growing", dag_id=BUILDING
    ),
    "keep": Boundary(
        "build", "the upload of the build manifest", STORAGE, "POST", "^/upload/.*multipart", dag_id=BUILDING
    ),
    "create-built": Boundary("build", "the create request", VERTEX, "POST", _JOBS, dag_id=BUILDING),
}
SUBMIT = {
    "token": Boundary("submit", "the token request", VERTEX, "POST", r"/token$"),
    "look-up": Boundary("submit", "the look-up by identity", VERTEX, "GET", r"batchPredictionJobs\?"),
    "create": Boundary("submit", "the create request", VERTEX, "POST", _JOBS),
    "record": Boundary("submit", "the write to the task state store", AIRFLOW, "PUT", "/store/ti/"),
    "link": Boundary("submit", "the write of the console link", AIRFLOW, "POST", "/submit/gemini_batch_job"),
    "name": Boundary("submit", "the write of the job name to XCom", AIRFLOW, "POST", "/submit/return_value"),
    "submitted": Boundary("submit", "the report of task success", AIRFLOW, "PATCH", _STATE, '"success"'),
}
WAIT = {
    "look": Boundary("wait", "the sensor's poll", VERTEX, "GET", _JOB, by=_TASK, dag_id=SENSOR),
    "defer": Boundary("wait", "the deferral", AIRFLOW, "PATCH", _STATE, '"deferred"', dag_id=SENSOR),
    "defer-submit": Boundary(
        "submit and wait", "the deferral", AIRFLOW, "PATCH", _STATE, '"deferred"', dag_id=WAITING
    ),
    # The first start of a task is identified as this run's only by its response, so it is not counted.
    "resume": Boundary("wait", "the start of the resumed task", AIRFLOW, "PATCH", _RUN, dag_id=SENSOR),
    "reread": Boundary(
        "wait", "the read of the ended job", VERTEX, "GET", _JOB, by=_TASK, nth=2, dag_id=SENSOR
    ),
    "reread-submit": Boundary(
        "submit and wait", "the read of the ended job", VERTEX, "GET", _JOB, by=_TASK, dag_id=WAITING
    ),
    "name-submit": Boundary(
        "submit and wait",
        "the write of the job name to XCom",
        AIRFLOW,
        "POST",
        "/submit/return_value",
        dag_id=WAITING,
    ),
    "summary": Boundary(
        "wait", "the write of the summary to XCom", AIRFLOW, "POST", "/wait/return_value", dag_id=SENSOR
    ),
    "waited": Boundary(
        "wait", "the report of task success", AIRFLOW, "PATCH", _STATE, '"success"', nth=2, dag_id=SENSOR
    ),
}
POLL = {
    "first": Boundary("wait", "the trigger's first poll", VERTEX, "GET", _JOB, by=_TRIGGERER, dag_id=SENSOR),
    "second": Boundary(
        "wait", "the trigger's second poll", VERTEX, "GET", _JOB, by=_TRIGGERER, nth=2, dag_id=SENSOR
    ),
    "last": Boundary(
        "wait",
        "the poll that returns the terminal state",
        VERTEX,
        "GET",
        _JOB,
        response="SUCCEEDED",
        by=_TRIGGERER,
        dag_id=SENSOR,
    ),
    "handed-over": Boundary("wait", "the start of the resumed task", AIRFLOW, "PATCH", _RUN, dag_id=SENSOR),
    "first-submit": Boundary(
        "submit and wait", "the trigger's first poll", VERTEX, "GET", _JOB, by=_TRIGGERER, dag_id=WAITING
    ),
    "last-submit": Boundary(
        "submit and wait",
        "the poll that returns the terminal state",
        VERTEX,
        "GET",
        _JOB,
        response="SUCCEEDED",
        by=_TRIGGERER,
        dag_id=WAITING,
    ),
}
LAND = {
    "job": Boundary("land", "the read of the job", VERTEX, "GET", _JOB, by=_TASK),
    "output": Boundary("land", "the listing of the output", STORAGE, "GET", r"/o\?.*prefix=[^&]*output"),
    "input": Boundary(
        "land", "the listing of the input", STORAGE, "GET", r"/o\?.*requests\.jsonl.*generation"
    ),
    "dataset": Boundary("land", "the read of the dataset location", BIGQUERY, "GET", r"/datasets/crash\?"),
    "results": Boundary(
        "land", "the creation of the results table", BIGQUERY, "POST", _BQ_TABLES, r'"partition|artitioning'
    ),
    "errors": Boundary("land", "the creation of the error table", BIGQUERY, "POST", _BQ_TABLES, r"_errors"),
    "landed": Boundary("land", "the check for an earlier landing", BIGQUERY, "GET", _BQ_JOB),
    "answers": Boundary("land", "the load of the output", BIGQUERY, "POST", _BQ_JOBS, r'"load".*_responses"'),
    "requests": Boundary("land", "the load of the input", BIGQUERY, "POST", _BQ_JOBS, r'"load".*_requests"'),
    "script": Boundary("land", "the transaction script", BIGQUERY, "POST", _BQ_JOBS, r'"query"'),
    "running": Boundary("land", "a poll of the running script", BIGQUERY, "GET", _BQ_JOB, nth=2),
    # A script on six rows may be done before the response to its start.
    "committed": Boundary(
        "land",
        "the poll that returns the commit",
        BIGQUERY,
        "GET|POST",
        f"{_BQ_JOB}|{_BQ_JOBS}",
        '"query"|^$',
        response='"state": ?"DONE"',
    ),
    "counts": Boundary("land", "the count query", BIGQUERY, "GET", r"/queries/.*maxResults=0"),
    "rows": Boundary("land", "the fetch of the counts", BIGQUERY, "GET", r"/queries/.*fields="),
    "drop": Boundary("land", "the drop of the first staging table", BIGQUERY, "DELETE", "_staging_"),
    "drop-2": Boundary(
        "land", "the drop of the second staging table", BIGQUERY, "DELETE", "_staging_", nth=2
    ),
    "manifest": Boundary("land", "the write of the manifest to XCom", AIRFLOW, "POST", "/land/return_value"),
    "done": Boundary("land", "the report of task success", AIRFLOW, "PATCH", _STATE, '"success"', nth=2),
}

QUERY_BUILD = {
    "query": Boundary("query", "the start of a query", BIGQUERY, "POST", _BQ_JOBS, '"query"', dag_id=QUERY),
    "queried": Boundary(
        "query", "the read of its job", BIGQUERY, "GET", r"/jobs/gemini-batch-", dag_id=QUERY
    ),
    "create-queried": Boundary("query", "the create request", VERTEX, "POST", _JOBS, dag_id=QUERY),
    "merge": Boundary(
        "merge",
        "the transaction script",
        BIGQUERY,
        "POST",
        _BQ_JOBS,
        _LANDING,
        dag_id=QUERY,
    ),
}
RETRY = {
    "reread-bad": Boundary(
        "bad end", "the read of the ended job", VERTEX, "GET", _JOB, by=_TASK, dag_id=BAD_END
    ),
    "land-bad": Boundary(
        "bad end", "the transaction script", BIGQUERY, "POST", _BQ_JOBS, '"query"', dag_id=BAD_END
    ),
    "create-retry": Boundary("retry", "the create request", VERTEX, "POST", _JOBS, nth=2, dag_id=BAD_END),
    "defer-retry": Boundary(
        "retry", "the deferral", AIRFLOW, "PATCH", _STATE, '"deferred"', nth=2, dag_id=BAD_END
    ),
    "retried": Boundary(
        "retry", "the write of its result to XCom", AIRFLOW, "POST", "/retry/return_value", dag_id=BAD_END
    ),
}
MEDIA = {
    "truncate": Boundary(
        "truncate and images",
        "the transaction script",
        BIGQUERY,
        "POST",
        _BQ_JOBS,
        '"query"',
        nth=2,
        dag_id=IMAGES,
    ),
    "landed-images": Boundary(
        "truncate and images",
        "the write of the manifest to XCom",
        AIRFLOW,
        "POST",
        "/land/return_value",
        dag_id=IMAGES,
    ),
}
SLOW_LANDING = {
    "slow-script": Boundary(
        "slow landing", "the transaction script", BIGQUERY, "POST", _BQ_JOBS, _LANDING, dag_id=SLOW
    ),
    "slow-running": Boundary(
        "slow landing", "the task's poll of the running script", BIGQUERY, "GET", _BQ_JOB, nth=3, dag_id=SLOW
    ),
    "slow-defer": Boundary(
        "slow landing", "the deferral", AIRFLOW, "PATCH", _STATE, '"deferred"', dag_id=SLOW
    ),
    "slow-resume": Boundary(
        "slow landing", "the start of the resumed task", AIRFLOW, "PATCH", _RUN, dag_id=SLOW
    ),
    "slow-committed": Boundary(
        "slow landing",
        "the resumed task's read of the commit",
        BIGQUERY,
        "GET",
        _BQ_JOB,
        response='"state": ?"DONE"',
        by=_TASK,
        dag_id=SLOW,
    ),
    "slow-drop": Boundary(
        "slow landing", "the drop of the first staging table", BIGQUERY, "DELETE", "_staging_", dag_id=SLOW
    ),
    "slow-manifest": Boundary(
        "slow landing",
        "the write of the manifest to XCom",
        AIRFLOW,
        "POST",
        "/land/return_value",
        dag_id=SLOW,
    ),
}
SLOW_POLL = {
    "slow-first": Boundary(
        "slow landing", "the trigger's first poll", BIGQUERY, "GET", _BQ_JOB, by=_TRIGGERER, dag_id=SLOW
    ),
    "slow-last": Boundary(
        "slow landing",
        "the trigger's poll that returns the commit",
        BIGQUERY,
        "GET",
        _BQ_JOB,
        response='"state": ?"DONE"',
        by=_TRIGGERER,
        dag_id=SLOW,
    ),
    "slow-handed-over": Boundary(
        "slow landing", "the start of the resumed task", AIRFLOW, "PATCH", _RUN, dag_id=SLOW
    ),
}
OVERTIME = Boundary(
    "submit", "the report of task success", AIRFLOW, "PATCH", _STATE, '"success"', dag_id=LISTENER
)

_BOTH = (When.BEFORE, When.AFTER)
_REPRESENTATIVE = (
    "create/AFTER/TASK",
    "create/AFTER/LOST",
    "defer/AFTER/WORKER",
    "last/AFTER/TRIGGERER",
    "slow-defer/AFTER/WORKER",
    "script/AFTER/TASK",
    "manifest/BEFORE/TASK",
)


def cells() -> dict[str, Cell]:
    """All cells by id, in the order of the steps of a run."""
    return {f"{key}/{cell.when.name}/{cell.failure.name}": cell for key, cell in _cells()}


def representative() -> dict[str, Cell]:
    """Seven cells, one for each kind of failure, and one of a landing that was deferred."""
    every = cells()
    return {key: every[key] for key in _REPRESENTATIVE}


def _cells() -> Iterator[tuple[str, Cell]]:
    for key, boundary in {**UPLOAD, **SUBMIT, **WAIT}.items():
        yield from _at(key, boundary)
    for key, boundary in {**POLL, **SLOW_POLL}.items():
        whens: Iterable[When] = (When.AFTER,) if boundary.response else _BOTH
        for when in whens:
            yield key, Cell(boundary, when, Failure.TRIGGERER)
    for key, boundary in {**LAND, **QUERY_BUILD, **RETRY, **MEDIA, **SLOW_LANDING}.items():
        yield from _at(key, boundary)
    for failure in (Failure.STALLED, Failure.STALLED_WORKER):
        yield "create", Cell(SUBMIT["create"], When.BEFORE, failure)
    yield "overtime", Cell(OVERTIME, When.AFTER, Failure.OVERTIME)


def _at(key: str, boundary: Boundary) -> Iterator[tuple[str, Cell]]:
    """Cells for a request of a task: the task or its worker dies, or the response to a write is lost."""
    is_airflow = boundary.server == AIRFLOW
    failure = Failure.WORKER if is_airflow else Failure.TASK
    # Before a read of landing is the same as after the previous read.
    is_one_of_many = "GET" in boundary.method and boundary.step == "land"
    # If a worker dies before it, LocalExecutor leaves the task queued; none of our code has run.
    is_start = boundary.path == _RUN
    whens: Iterable[When] = (When.AFTER,) if boundary.response or is_one_of_many or is_start else _BOTH
    for when in whens:
        yield key, Cell(boundary, when, failure)
    if "GET" in boundary.method:
        return
    yield key, Cell(boundary, When.AFTER, Failure.LOST)
    if boundary.name in _BOTH_DIE:
        for when, other in product(_BOTH, {Failure.TASK, Failure.WORKER} - {failure}):
            yield key, Cell(boundary, when, other)


# Requests that decide about money or rows: both ways to die.
_BOTH_DIE = frozenset(
    {
        "the create request",
        "the write to the task state store",
        "the load of the output",
        "the transaction script",
        "the write of the manifest to XCom",
    }
)
