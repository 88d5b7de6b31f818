"""The cells of the matrix: at which request, before or after it, who is killed or what is lost."""

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

# Submit and land a job that has ended; wait with the sensor; wait in the submitting task; build, too.
SHORT, SENSOR, WAITING, BUILDING = DAG_IDS = (
    "crash_short",
    "crash_sensor",
    "crash_waiting",
    "crash_building",
)


class Blow(Enum):
    """What is done; the value says it in the table."""

    TASK = "the task's process is killed"
    WORKER = "the worker is killed, and the task with it"
    TRIGGERER = "the triggerer is killed"
    LOST = "the answer is lost"


class When(Enum):
    """Whether the server has done what it was asked."""

    BEFORE = "before"
    AFTER = "after"


@dataclass(frozen=True)
class Boundary:
    """A request, told from the others of a run.

    :param path: a regular expression, searched
    :param body: likewise
    :param answer: likewise; the request is known only once it is answered
    :param by: part of the title of the process that sends it
    :param nth: which of those that match
    """

    step: str
    name: str
    server: str
    method: str
    path: str
    body: str = ""
    answer: str = ""
    by: str = ""
    nth: int = 1
    dag_id: str = SHORT

    def matches(self, exchange: Exchange) -> bool:
        """Whether a request is one of these, as far as can be told before it is answered."""
        return (
            exchange.server == self.server
            and exchange.method in self.method.split("|")
            and bool(re.search(self.path, exchange.path))
            and bool(re.search(self.body.encode(), exchange.body))
            and (not self.by or self.by in exchange.client.title)
        )


@dataclass(frozen=True)
class Cell:
    """One thing that goes wrong, once, in one run."""

    boundary: Boundary
    when: When
    blow: Blow

    @property
    def title(self) -> str:
        """The cell in words."""
        return f"{self.boundary.step}: {self.when.value} {self.boundary.name}, {self.blow.value}"


_TASK, _TRIGGERER = "airflow worker --", "airflow triggerer"
_JOBS, _JOB = r"batchPredictionJobs$", r"batchPredictionJobs/\d+$"
_STATE, _RUN = r"/task-instances/[^/]+/state$", r"/task-instances/[^/]+/run$"
_BQ_JOB, _BQ_JOBS, _BQ_TABLES = r"/jobs/gemini-batch-land-", r"/jobs\?", r"/tables\?"

_UPLOAD = r"^/upload/|^/resumable|upload_id="

UPLOAD = {
    "upload": Boundary(
        "build", "the upload is begun", STORAGE, "POST", "uploadType=resumable", dag_id=BUILDING
    ),
    "lines": Boundary("build", "the upload of the lines", STORAGE, "PUT", _UPLOAD, dag_id=BUILDING),
    "name-lines": Boundary("build", "the object gets its name", STORAGE, "POST", "/copyTo/", dag_id=BUILDING),
    "tidy": Boundary("build", "the growing object is deleted", STORAGE, "DELETE", "growing", dag_id=BUILDING),
    "keep": Boundary(
        "build", "the note of what was built", STORAGE, "POST", "^/upload/.*multipart", dag_id=BUILDING
    ),
    "create-built": Boundary("build", "the create", VERTEX, "POST", _JOBS, dag_id=BUILDING),
}
SUBMIT = {
    "token": Boundary("submit", "the access token", VERTEX, "POST", r"/token$"),
    "look-up": Boundary("submit", "the look-up by identity", VERTEX, "GET", r"batchPredictionJobs\?"),
    "create": Boundary("submit", "the create", VERTEX, "POST", _JOBS),
    "record": Boundary("submit", "the note in the task state store", AIRFLOW, "PUT", "/store/ti/"),
    "link": Boundary("submit", "the link", AIRFLOW, "POST", "/submit/gemini_batch_job"),
    "name": Boundary("submit", "the job name to XCom", AIRFLOW, "POST", "/submit/return_value"),
    "submitted": Boundary("submit", "the task's success", AIRFLOW, "PATCH", _STATE, '"success"'),
}
WAIT = {
    "look": Boundary("wait", "the sensor's look", VERTEX, "GET", _JOB, by=_TASK, dag_id=SENSOR),
    "defer": Boundary("wait", "the deferral", AIRFLOW, "PATCH", _STATE, '"deferred"', dag_id=SENSOR),
    "defer-submit": Boundary(
        "submit and wait", "the deferral", AIRFLOW, "PATCH", _STATE, '"deferred"', dag_id=WAITING
    ),
    # The first start of a task is known to be this run's only when it is answered: it is not counted.
    "resume": Boundary("wait", "the resumed task's start", AIRFLOW, "PATCH", _RUN, dag_id=SENSOR),
    "reread": Boundary(
        "wait", "the look at the ended job", VERTEX, "GET", _JOB, by=_TASK, nth=2, dag_id=SENSOR
    ),
    "reread-submit": Boundary(
        "submit and wait", "the look at the ended job", VERTEX, "GET", _JOB, by=_TASK, dag_id=WAITING
    ),
    "name-submit": Boundary(
        "submit and wait", "the job name to XCom", AIRFLOW, "POST", "/submit/return_value", dag_id=WAITING
    ),
    "summary": Boundary("wait", "the summary to XCom", AIRFLOW, "POST", "/wait/return_value", dag_id=SENSOR),
    "waited": Boundary(
        "wait", "the task's success", AIRFLOW, "PATCH", _STATE, '"success"', nth=2, dag_id=SENSOR
    ),
}
POLL = {
    "first": Boundary("wait", "the trigger's first look", VERTEX, "GET", _JOB, by=_TRIGGERER, dag_id=SENSOR),
    "second": Boundary(
        "wait", "the trigger's second look", VERTEX, "GET", _JOB, by=_TRIGGERER, nth=2, dag_id=SENSOR
    ),
    "last": Boundary(
        "wait",
        "the look that shows the end",
        VERTEX,
        "GET",
        _JOB,
        answer="SUCCEEDED",
        by=_TRIGGERER,
        dag_id=SENSOR,
    ),
    "handed-over": Boundary("wait", "the resumed task's start", AIRFLOW, "PATCH", _RUN, dag_id=SENSOR),
    "first-submit": Boundary(
        "submit and wait", "the trigger's first look", VERTEX, "GET", _JOB, by=_TRIGGERER, dag_id=WAITING
    ),
    "last-submit": Boundary(
        "submit and wait",
        "the look that shows the end",
        VERTEX,
        "GET",
        _JOB,
        answer="SUCCEEDED",
        by=_TRIGGERER,
        dag_id=WAITING,
    ),
}
LAND = {
    "job": Boundary("land", "the look at the job", VERTEX, "GET", _JOB, by=_TASK),
    "output": Boundary("land", "the list of the output", STORAGE, "GET", r"/o\?.*prefix=[^&]*output"),
    "input": Boundary("land", "the list of the input", STORAGE, "GET", r"/o\?.*requests\.jsonl.*generation"),
    "dataset": Boundary("land", "the dataset's location", BIGQUERY, "GET", r"/datasets/crash\?"),
    "results": Boundary(
        "land", "the results table is made", BIGQUERY, "POST", _BQ_TABLES, r'"partition|artitioning'
    ),
    "errors": Boundary("land", "the error table is made", BIGQUERY, "POST", _BQ_TABLES, r"_errors"),
    "landed": Boundary("land", "the look for an earlier landing", BIGQUERY, "GET", _BQ_JOB),
    "staging": Boundary("land", "a staging table is made", BIGQUERY, "POST", _BQ_TABLES, "_staging_"),
    "answers": Boundary("land", "the load of the output", BIGQUERY, "POST", _BQ_JOBS, r'"load".*_answers"'),
    "requests": Boundary("land", "the load of the input", BIGQUERY, "POST", _BQ_JOBS, r'"load".*_requests"'),
    "script": Boundary("land", "the script with the transaction", BIGQUERY, "POST", _BQ_JOBS, r'"query"'),
    "running": Boundary("land", "a look at the running script", BIGQUERY, "GET", _BQ_JOB, nth=2),
    # A script of six rows may be done before the answer to its start is.
    "committed": Boundary(
        "land",
        "the look that shows the commit",
        BIGQUERY,
        "GET|POST",
        f"{_BQ_JOB}|{_BQ_JOBS}",
        '"query"|^$',
        answer='"state": ?"DONE"',
    ),
    "counts": Boundary("land", "the counts", BIGQUERY, "GET", r"/queries/.*maxResults=0"),
    "rows": Boundary("land", "the row of counts", BIGQUERY, "GET", r"/queries/.*fields="),
    "drop": Boundary("land", "the first staging table is dropped", BIGQUERY, "DELETE", "_staging_"),
    "drop-2": Boundary("land", "the second staging table is dropped", BIGQUERY, "DELETE", "_staging_", nth=2),
    "manifest": Boundary("land", "the manifest to XCom", AIRFLOW, "POST", "/land/return_value"),
    "done": Boundary("land", "the task's success", AIRFLOW, "PATCH", _STATE, '"success"', nth=2),
}

_BOTH = (When.BEFORE, When.AFTER)
_REPRESENTATIVE = (
    "create/AFTER/TASK",
    "create/AFTER/LOST",
    "defer/AFTER/WORKER",
    "last/AFTER/TRIGGERER",
    "script/AFTER/TASK",
    "manifest/BEFORE/TASK",
)


def cells() -> dict[str, Cell]:
    """All cells by id, in the order of a run."""
    return {f"{key}/{cell.when.name}/{cell.blow.name}": cell for key, cell in _cells()}


def representative() -> dict[str, Cell]:
    """Six of them, one for each kind of end."""
    every = cells()
    return {key: every[key] for key in _REPRESENTATIVE}


def _cells() -> Iterator[tuple[str, Cell]]:
    for key, boundary in {**UPLOAD, **SUBMIT, **WAIT}.items():
        yield from _at(key, boundary)
    for key, boundary in POLL.items():
        whens: Iterable[When] = (When.AFTER,) if boundary.answer else _BOTH
        for when in whens:
            yield key, Cell(boundary, when, Blow.TRIGGERER)
    for key, boundary in LAND.items():
        yield from _at(key, boundary)


def _at(key: str, boundary: Boundary) -> Iterator[tuple[str, Cell]]:
    """What is done at a task's request: the task or its worker dies; the answer to a change is lost, too."""
    is_airflow = boundary.server == AIRFLOW
    # What reads is read again; one way to die is enough there.
    blow = Blow.WORKER if is_airflow else Blow.TASK
    # Before one read of landing is after the one before it.
    is_one_of_many = "GET" in boundary.method and boundary.step == "land"
    # When a worker dies before it, LocalExecutor leaves the task in the queue; nothing of ours has begun.
    is_start = boundary.path == _RUN
    whens: Iterable[When] = (When.AFTER,) if boundary.answer or is_one_of_many or is_start else _BOTH
    for when in whens:
        yield key, Cell(boundary, when, blow)
    if "GET" in boundary.method:
        return
    yield key, Cell(boundary, When.AFTER, Blow.LOST)
    if boundary.name in _BOTH_DIE:
        for when, other in product(_BOTH, {Blow.TASK, Blow.WORKER} - {blow}):
            yield key, Cell(boundary, when, other)


# Where money or rows are at stake, both ways to die.
_BOTH_DIE = frozenset(
    {
        "the create",
        "the note in the task state store",
        "the load of the output",
        "the script with the transaction",
        "the manifest to XCom",
    }
)
