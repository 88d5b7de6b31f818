"""The methods of the API: from a call to the body of its response."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from airflow_gemini_batch.emulator.answers.prompt import prompt_tokens
from airflow_gemini_batch.emulator.behaviour import AS_ASSUMED
from airflow_gemini_batch.emulator.checks import (
    CURRENT_MODELS,
    ROOT,
    Offer,
    check_job,
    check_model,
    end_of,
    pace_of,
)
from airflow_gemini_batch.emulator.faults.calls import REFUSED_TOKEN, JobPlan
from airflow_gemini_batch.emulator.faults.plan import Route
from airflow_gemini_batch.emulator.list_filter import FilterError, compile_filter
from airflow_gemini_batch.emulator.listing import page_size, page_token, read_mask, read_page_token
from airflow_gemini_batch.emulator.protocol import errors
from airflow_gemini_batch.emulator.protocol.errors import Violation
from airflow_gemini_batch.emulator.protocol.schema import Discovery
from airflow_gemini_batch.emulator.quotas import Meter
from airflow_gemini_batch.emulator.running.job_clock import IMMEDIATE
from airflow_gemini_batch.gcp.discovery import snake_case

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from airflow_gemini_batch.emulator.behaviour import Behaviour
    from airflow_gemini_batch.emulator.faults.plan import CallFault
    from airflow_gemini_batch.emulator.quotas import Quotas
    from airflow_gemini_batch.emulator.running.job_clock import Pace
    from airflow_gemini_batch.emulator.running.job_store import Job, JobStore

_COLLECTION = re.compile(r"/(v1|v1beta1)/(projects/[^/]+/locations/[^/]+)/batchPredictionJobs")
_JOB = re.compile(_COLLECTION.pattern + r"/([^/:]+)(:cancel)?")
_COUNT_TOKENS = re.compile(r"/(v1|v1beta1)/(projects/[^/]+/locations/[^/]+)/([^:]+):countTokens")
_GRANTS = ("urn:ietf:params:oauth:grant-type:jwt-bearer", "refresh_token")
# fmt: off
_SYSTEM_QUERY = frozenset((
    "$.xgafv", "$alt", "access_token", "alt", "callback", "fields", "key", "oauth_token", "prettyPrint",
    "quotaUser", "uploadType", "upload_protocol",
))
# fmt: on
_LIST_QUERY = {"filter", "pageSize", "pageToken", "readMask"}


@dataclass(frozen=True)
class Call:
    """An HTTP request.

    :param headers: by lowercase name
    :param faults: the faults that hit this call
    :param query_text: the query as it stands in the URL, where a parameter may occur several times
    """

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    content: bytes
    faults: tuple[CallFault, ...] = ()
    query_text: str = ""

    @property
    def route(self) -> Route | None:
        """The API method that it calls; None when there is no such method."""
        if self.path == "/token":
            return Route.TOKEN
        if _COLLECTION.fullmatch(self.path):
            return {"POST": Route.CREATE, "GET": Route.LIST}.get(self.method)
        if match := _JOB.fullmatch(self.path):
            verbs = {"GET": Route.GET, "POST:cancel": Route.CANCEL, "DELETE": Route.DELETE}
            return verbs.get(f"{self.method}{match[4] or ''}")
        return None


@dataclass(frozen=True)
class Settings:
    """Settings of the server; :class:`~airflow_gemini_batch.emulator.server.Emulator` documents them."""

    pace: Pace = IMMEDIATE
    offer: Offer = CURRENT_MODELS
    projects: Collection[str] | None = None
    behaviour: Behaviour = AS_ASSUMED


class Routes:
    """Answers calls.

    :param start: starts to run a new job
    :param next_job: returns the faults of the next job
    :param quotas: none to count calls only
    :param allows: whether the caller has a permission in a project
    """

    def __init__(
        self,
        settings: Settings,
        jobs: JobStore,
        start: Callable[[Job], None],
        next_job: Callable[[], JobPlan] = JobPlan,
        quotas: Quotas | None = None,
        allows: Callable[[str, str], bool] = lambda _permission, _project: True,
    ) -> None:
        self._allows = allows
        self.settings = settings
        self._jobs = jobs
        self._start = start
        self._next_job = next_job
        self.meter = Meter(quotas)

    def answer(self, call: Call) -> dict[str, Any]:
        """Return the body of the response to any call.

        :raises CallError: when the response is an error
        """
        if call.path == "/token" and call.method == "POST":
            return _token(call)
        collection, job = _COLLECTION.fullmatch(call.path), _JOB.fullmatch(call.path)
        counting = _COUNT_TOKENS.fullmatch(call.path)
        match = collection or job or counting
        if not match:
            raise errors.unknown_url(call.path)
        if not re.match(r"Bearer \S", call.headers.get("authorization", "")):
            raise errors.unauthenticated()
        if call.headers["authorization"].endswith(REFUSED_TOKEN):
            raise errors.of_status(401)
        version, parent = match[1], match[2]
        if collection:
            methods = {"POST": self._create, "GET": self._list}
            if call.method in methods:
                return methods[call.method](call, version, parent)
        elif counting and call.method == "POST":
            return self._count_tokens(call, version, parent, counting[3])
        elif job:
            return self._job(call, parent, f"{parent}/batchPredictionJobs/{job[3]}", job[4])
        raise errors.unknown_url(call.path)

    def _job(self, call: Call, parent: str, name: str, verb: str | None) -> dict[str, Any]:
        _query(call)
        if (call.method, verb) == ("GET", None):
            self._authorize("get", parent)
            job = self._jobs.get(name)
            resource = job.look()
            job.count_read()
            return resource
        if (call.method, verb) == ("POST", ":cancel"):
            self._authorize("cancel", parent)
            if body := _parse(call):
                raise errors.bad_body([_unknown_field(field, "") for field in body])
            self._jobs.get(name).cancel()
            return {}
        if (call.method, verb) == ("DELETE", None):
            self._authorize("delete", parent)
            self._jobs.delete(name)
            return _deleted(parent, name)
        raise errors.unknown_url(call.path)

    def _create(self, call: Call, version: str, parent: str) -> dict[str, Any]:
        self._authorize("create", parent)
        _query(call)
        body = _parse(call)
        discovery = Discovery.load("aiplatform", version)
        schema = discovery.schema_named("BatchPredictionJob")
        if violations := discovery.violations(schema, body, ROOT):
            raise errors.bad_body(violations)
        request = discovery.writable(schema, body)
        check_job(request, parent, self.settings.offer)
        pace = pace_of(request, self.settings.pace)
        ends = end_of(request)
        if not self.settings.behaviour.keeps_labels:
            request.pop("labels", None)
        job = self._jobs.create(parent, request, pace, replace(self._next_job(), own=ends))
        self._start(job)
        return job.as_created()

    def _count_tokens(self, call: Call, version: str, parent: str, model: str) -> dict[str, Any]:
        self._authorize("predict", parent)
        _query(call)
        body = _parse(call)
        discovery = Discovery.load("aiplatform", version)
        if violations := discovery.violations(discovery.schema_named("CountTokensRequest"), body, ""):
            raise errors.bad_body(violations)
        check_model(model, parent, self.settings.offer)
        tokens = prompt_tokens(body)
        details = [{"modality": modality, "tokenCount": count} for modality, count in tokens.items()]
        return {"totalTokens": sum(tokens.values()), "promptTokensDetails": details}

    def _list(self, call: Call, version: str, parent: str) -> dict[str, Any]:
        self._authorize("list", parent)
        query = _query(call, _LIST_QUERY)
        text = query.get("filter", "")
        behaviour = self.settings.behaviour
        if form := behaviour.refuses(text):
            raise errors.invalid_argument(f'Invalid filter "{text}": {form} is not supported.')
        try:
            matches = compile_filter(text, hyphens=behaviour.filters_hyphens)
        except FilterError as error:
            raise errors.invalid_argument(f'Invalid filter "{text}": {error}.') from None
        size = page_size(query.get("pageSize", "0"))
        before = read_page_token(query.get("pageToken", ""), parent, text)
        keep = read_mask(query.get("readMask", ""), version)
        shown: list[tuple[Job, dict[str, Any]]] = []
        for job in self._jobs.newest_first(parent):
            if before is None or job.number < before:
                resource = job.look()
                if matches(resource) and not job.is_hidden(call.faults):
                    shown.append((job, resource))
                if len(shown) > size:
                    break
        answer: dict[str, Any] = {}
        if len(shown) > size:
            shown = shown[:size]
            answer["nextPageToken"] = page_token(shown[-1][0].number, parent, text)
        for job, _ in shown:
            job.count_read()
        if shown:
            answer["batchPredictionJobs"] = [keep(resource) for _, resource in shown]
        return answer

    def _authorize(self, verb: str, parent: str) -> None:
        """Check that the caller may call now: the project first, then the quota."""
        projects, project = self.settings.projects, parent.split("/")[1]
        kind = "endpoints" if verb == "predict" else "batchPredictionJobs"
        permission = f"aiplatform.{kind}.{verb}"
        if (projects is not None and project not in projects) or not self._allows(permission, project):
            raise errors.permission_denied(permission, parent)
        self.meter.spend(verb, parent)


def _query(call: Call, allowed: Collection[str] = ()) -> dict[str, str]:
    """Return the query parameters by camelCase name; reject unknown ones."""
    spellings = {snake_case(name): name for name in allowed} | {name: name for name in allowed}
    unknown = [name for name in call.query if name not in spellings and name not in _SYSTEM_QUERY]
    if unknown:
        raise errors.bad_body([_unknown_parameter(name) for name in unknown])
    return {spellings[name]: value for name, value in call.query.items() if name in spellings}


def _token(call: Call) -> dict[str, Any]:
    form = dict(parse_qsl(call.content.decode("utf-8", "replace")))
    if form.get("grant_type") not in _GRANTS:
        raise errors.TokenError("unsupported_grant_type", "Tokens are given to service accounts only.")
    return {"access_token": "ya29.emulator", "expires_in": 3599, "token_type": "Bearer"}


def _parse(call: Call) -> dict[str, Any]:
    if not call.content:
        return {}
    try:
        body = json.loads(call.content)
    except ValueError:
        raise errors.invalid_argument("Invalid JSON payload received. Unexpected token.") from None
    if not isinstance(body, dict):
        problem = 'Unknown name "": Root element must be a message.'
        raise errors.invalid_argument(f"Invalid JSON payload received. {problem}")
    return body


def _deleted(parent: str, name: str) -> dict[str, Any]:
    package = "type.googleapis.com/google.cloud.aiplatform.v1"
    return {
        "name": f"{parent}/operations/{name.rsplit('/', 1)[-1]}",
        "metadata": {"@type": f"{package}.DeleteOperationMetadata", "genericMetadata": {}},
        "done": True,
        "response": {"@type": "type.googleapis.com/google.protobuf.Empty"},
    }


def _unknown_field(name: str, at: str) -> Violation:
    return Violation(at, f'Invalid JSON payload received. Unknown name "{name}": Cannot find field.')


def _unknown_parameter(name: str) -> Violation:
    return Violation(
        "",
        f'Invalid JSON payload received. Unknown name "{name}": Cannot bind query parameter. '
        f"Field '{name}' could not be found in request message.",
    )
