"""The emulator as a server in this process.

::

    with Emulator(pace=Pace(reads=2)) as emulator:
        os.environ["GOOGLE_VERTEX_BASE_URL"] = emulator.url
"""

from __future__ import annotations

import contextlib
import json
import logging
import threading
from collections import deque
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from airflow_gemini_batch.emulator.access import routes as access_routes
from airflow_gemini_batch.emulator.access.cloud import Cloud, cloud_from_json, cloud_to_json
from airflow_gemini_batch.emulator.behaviour import AS_ASSUMED
from airflow_gemini_batch.emulator.checks import Offer
from airflow_gemini_batch.emulator.faults.calls import FaultBook, Reply, disturbed
from airflow_gemini_batch.emulator.faults.plan import NO_FAULTS
from airflow_gemini_batch.emulator.faults.plan_json import plan_from_json, plan_to_json
from airflow_gemini_batch.emulator.http_server import LoopbackServer
from airflow_gemini_batch.emulator.protocol.errors import CallError, invalid_argument, unknown_url
from airflow_gemini_batch.emulator.routes import Routes, Settings
from airflow_gemini_batch.emulator.running.job_clock import IMMEDIATE
from airflow_gemini_batch.emulator.running.job_store import Abandoned, JobStore
from airflow_gemini_batch.emulator.running.rows import Habits
from airflow_gemini_batch.emulator.running.runner import Runner
from airflow_gemini_batch.exceptions import InvalidParameterError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping
    from datetime import date
    from types import TracebackType

    from airflow_gemini_batch.emulator.behaviour import Behaviour
    from airflow_gemini_batch.emulator.faults.plan import FaultPlan
    from airflow_gemini_batch.emulator.quotas import Quotas, Usage
    from airflow_gemini_batch.emulator.routes import Call
    from airflow_gemini_batch.emulator.running.job_clock import Pace

log = logging.getLogger(__name__)

FAULTS_PATH = "/_emulator/faults"
USAGE_PATH = "/_emulator/usage"
CHARGED_PATH = "/_emulator/charged"
CLOUD_PATH = "/_emulator/cloud"
_KEPT_REQUESTS = 100_000


@dataclass(frozen=True)
class RecordedRequest:
    """A request that the emulator has handled.

    :param body: the parsed JSON; None when there was none, and for ``/token``, whose form is secret
    :param status: HTTP status of the response; 0 when a fault ended the request before it took effect
    :param answer: the JSON body of the response
    :param faults: kinds of the faults that hit the request; with ``reset``, the caller got no response
    """

    method: str
    path: str
    query: Mapping[str, str]
    body: Any
    status: int
    answer: Any
    faults: tuple[str, ...] = ()


class Emulator:
    """The Vertex AI batch API on 127.0.0.1, in threads of this process.

    Jobs read input and write output only at ``STORAGE_EMULATOR_HOST`` and ``BIGQUERY_EMULATOR_HOST``, which
    are read when a job runs; without them, jobs fail.

    :param port: 0 chooses a free port
    :param pace: how fast jobs advance, unless they set the label ``emulator-pace``
    :param models: IDs of the publisher models that exist, in all locations; any other is a 404. Default: the
        models of today, where they are offered
    :param today: the day that decides which models are retired; default: the real one
    :param seed: changes the answers and the order of the output
    :param habits: how output rows differ from input rows
    :param projects: the only projects that callers may use, any other is a 403; None allows all
    :param quotas: how many calls a minute, above it a 429; None means no limit
    :param faults: what goes wrong, and when
    :param cloud: what the access APIs say; by default nothing is granted
    :param behaviour: what it does where nobody has published what the service does
    """

    def __init__(
        self,
        *,
        port: int = 0,
        pace: Pace = IMMEDIATE,
        models: Collection[str] | None = None,
        today: date | None = None,
        seed: int = 0,
        habits: Habits = Habits(),  # noqa: B008
        projects: Collection[str] | None = None,
        quotas: Quotas | None = None,
        faults: FaultPlan = NO_FAULTS,
        cloud: Cloud = Cloud(),  # noqa: B008
        behaviour: Behaviour = AS_ASSUMED,
    ) -> None:
        self.cloud = cloud
        self._port = port
        self._jobs = JobStore()
        self._recorded: deque[RecordedRequest] = deque(maxlen=_KEPT_REQUESTS)
        self._runner = Runner(habits, seed, behaviour)
        offer = Offer(None if models is None else frozenset(models), today)
        settings = Settings(pace, offer, projects, behaviour)
        self._first_plan = faults
        self._first_quotas = quotas
        self._book = FaultBook(faults)
        self._cleared = threading.Event()
        self._routes = Routes(
            settings, self._jobs, self._runner.start, self._book.next_job, quotas, self._allows
        )
        self._server: LoopbackServer | None = None
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        """``http://127.0.0.1:PORT/SECRET``; the value of ``GOOGLE_VERTEX_BASE_URL``.

        The secret is new for each start: requests without it are refused, and so are those of web pages.
        """
        if not self._server:
            raise RuntimeError("The emulator is not running: call start(), or use it in a with statement.")
        return str(self._server.url)

    @property
    def apis_url(self) -> str:
        """The value of ``GEMINI_BATCH_APIS_URL``: what the URLs of the access APIs begin with."""
        return f"{self.url}{access_routes.PREFIX}".rstrip("/")

    @property
    def jobs(self) -> tuple[dict[str, Any], ...]:
        """The jobs as REST resources, oldest first. Accessing them does not count as a read of a job."""
        return tuple(job.look() for job in reversed(self._jobs.newest_first()))

    @property
    def completed_rows(self) -> dict[str, int]:
        """Completed rows, which are charged, by the name of the job; also if its resource has no counts."""
        return {str(job.name): job.completed_rows for job in self._jobs.newest_first()}

    @property
    def requests(self) -> tuple[RecordedRequest, ...]:
        """The handled requests, oldest first."""
        return tuple(self._recorded)

    @property
    def quotas(self) -> Quotas | None:
        """How many calls a minute; setting it restarts the counting."""
        return self._routes.meter.quotas

    @quotas.setter
    def quotas(self, quotas: Quotas | None) -> None:
        self._routes.meter.start(quotas)

    @property
    def usage(self) -> Usage:
        """How many calls of each kind were made, and how many were above the quota."""
        return self._routes.meter.usage

    @property
    def faults(self) -> FaultPlan:
        """The fault plan; setting it restarts the counting of calls and jobs."""
        return self._book.plan

    @faults.setter
    def faults(self, plan: FaultPlan) -> None:
        self._book.plan = plan

    @property
    def today(self) -> date | None:
        """The day that decides which models are retired; ``None`` for the real one."""
        return self._routes.settings.offer.today

    @today.setter
    def today(self, day: date | None) -> None:
        settings = self._routes.settings
        self._routes.settings = replace(settings, offer=replace(settings.offer, today=day))

    def clear(self) -> None:
        """Delete all jobs and recorded requests; end running jobs and stalled calls.

        Also restores the fault plan and the quotas that were passed to the constructor.
        """
        self._end_stalls()
        self._jobs.clear()
        self._runner.join()
        self._recorded.clear()
        self._routes.meter.start(self._first_quotas)
        self._book.plan = self._first_plan

    def _end_stalls(self) -> None:
        self._cleared.set()
        self._cleared = threading.Event()

    def start(self) -> Emulator:
        """Start serving.

        :raises OSError: when the port is in use
        """
        if not self._server:
            self._server = LoopbackServer(self._port, self._handle)
            self._thread = threading.Thread(
                target=self._server.serve_forever, args=(0.02,), name="gemini-batch-emulator", daemon=True
            )
            self._thread.start()
        return self

    def stop(self) -> None:
        """Stop serving and end all jobs; safe to call more than once."""
        server, self._server = self._server, None
        self._end_stalls()
        if server:
            server.shutdown()
            server.close_connections()
            server.server_close()
        if self._thread:
            self._thread.join()
            self._thread = None
        self._jobs.clear()
        self._runner.join()

    def __enter__(self) -> Emulator:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _handle(self, call: Call) -> Reply:
        """Answer a call, apply the faults that the plan has for it, and record it."""
        if call.path == FAULTS_PATH:
            return self._answered(partial(self._plan_of, call))
        if call.path == USAGE_PATH and call.method == "GET":
            return self._answered(self.usage.to_json)
        if call.path == CHARGED_PATH and call.method == "GET":
            return self._answered(lambda: self.completed_rows)
        if call.path == CLOUD_PATH:
            return self._answered(partial(self._cloud_of, call))
        call = replace(call, faults=self._book.next_call(call.route))
        of_access = partial(access_routes.answer, call, self.cloud, self._routes.settings.behaviour)
        is_access = call.path.startswith(access_routes.PREFIX)
        answer = partial(self._answered, of_access if is_access else partial(self._routes.answer, call))
        try:
            reply = disturbed(call.faults, call.route, answer, partial(_pause, self._cleared))
        except Abandoned:
            return Reply(0, None, resets=True)
        body = None if call.path == "/token" else _json_or_none(call.content)
        kinds = tuple(fault.kind.value for fault in call.faults)
        self._recorded.append(
            RecordedRequest(call.method, call.path, call.query, body, reply.status, reply.answer, kinds)
        )
        return reply

    def _answered(self, answer: Callable[[], dict[str, Any]]) -> Reply:
        try:
            return Reply(200, answer())
        except CallError as error:
            return Reply(error.code, error.body())
        except RecursionError:
            refused = invalid_argument("The request is nested too deeply.")
            return Reply(refused.code, refused.body())
        except Exception:
            log.exception("The emulator failed to handle the request")
            return Reply(500, CallError(500, "INTERNAL", "Internal error encountered.").body())

    def _allows(self, permission: str, project: str) -> bool:
        return self.cloud.allows_job_call(permission, project)

    def _plan_of(self, call: Call) -> dict[str, Any]:
        """Get, set or delete the fault plan."""
        if call.method == "PUT":
            try:
                self.faults = plan_from_json(call.content)
            except InvalidParameterError as error:
                raise invalid_argument(str(error)) from None
        elif call.method == "DELETE":
            self.faults = NO_FAULTS
        elif call.method != "GET":
            raise unknown_url(call.path)
        return plan_to_json(self.faults)

    def _cloud_of(self, call: Call) -> dict[str, Any]:
        """Get or set what the access APIs say."""
        if call.method == "PUT":
            try:
                self.cloud = cloud_from_json(call.content)
            except InvalidParameterError as error:
                raise invalid_argument(str(error)) from None
        elif call.method != "GET":
            raise unknown_url(call.path)
        return cloud_to_json(self.cloud)


def _pause(cleared: threading.Event, seconds: float) -> None:
    if cleared.wait(seconds):
        raise Abandoned


def _json_or_none(content: bytes) -> Any:
    with contextlib.suppress(ValueError, RecursionError):
        return json.loads(content)
    return None
