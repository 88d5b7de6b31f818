"""Fault plans: which calls, rows and jobs they hit, and what callers see."""

from __future__ import annotations

import http.client
import json
import re
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_gemini_batch.batch_job import JobState
from airflow_gemini_batch.emulator.faults.plan import (
    STATUSES,
    CallFault,
    CallFaultKind,
    FaultPlan,
    JobFault,
    OutputFault,
    Route,
    RowFault,
    RowFaultKind,
)
from airflow_gemini_batch.emulator.faults.plan_json import plan_from_json, plan_to_json
from airflow_gemini_batch.emulator.running.row_faults import disturbed_lines, order
from airflow_gemini_batch.emulator.server import Emulator
from airflow_gemini_batch.exceptions import InvalidParameterError
from tests.emulator.wire import Http, job_body

if TYPE_CHECKING:
    from collections.abc import Callable

FAULTS = "/_emulator/faults"
JOBS = "/v1/projects/local-project/locations/global/batchPredictionJobs"
TOKEN_FORM = b"grant_type=urn:ietf:params:oauth:grant-type:jwt-bearer"

whens: dict[str, Any] = {
    "nth": st.lists(st.integers(1, 9), max_size=3).map(tuple),
    "probability": st.none() | st.floats(0, 1),
}
call_faults = st.builds(
    CallFault,
    route=st.sampled_from([route for route in Route if route not in (Route.LIST, Route.TOKEN)]),
    kind=st.sampled_from(
        [CallFaultKind.STATUS, CallFaultKind.RESET, CallFaultKind.STALL, CallFaultKind.TRICKLE]
    ),
    after=st.booleans(),
    status=st.sampled_from(STATUSES),
    seconds=st.floats(0, 9),
    **whens,
)
list_faults = st.builds(
    CallFault,
    route=st.just(Route.LIST),
    kind=st.sampled_from([CallFaultKind.LAG, CallFaultKind.TRUNCATE]),
    lists=st.integers(0, 9),
    keep=st.integers(0, 9),
    **whens,
)
job_faults = st.builds(
    JobFault,
    ends=st.none() | st.sampled_from([state for state in JobState if state.is_terminal]),
    after_rows=st.none() | st.integers(0, 9),
    path=st.lists(st.sampled_from([state for state in JobState if not state.is_terminal])).map(tuple),
    output=st.sampled_from(OutputFault),
    exports=st.booleans(),
    counts=st.booleans(),
    code=st.sampled_from([3, 7, 9, 13]),
    shards=st.integers(0, 4),
    incremental=st.booleans(),
    **whens,
)
plans = st.builds(
    FaultPlan,
    calls=st.lists(call_faults | list_faults),
    rows=st.lists(st.builds(RowFault, kind=st.sampled_from(RowFaultKind), **whens)),
    jobs=st.lists(job_faults),
    seed=st.integers(),
)


@given(plans)
def test_a_plan_round_trips_through_json(plan: FaultPlan) -> None:
    assert plan_from_json(json.dumps(plan_to_json(plan))) == plan


@given(plans)
def test_a_plan_is_deterministic(plan: FaultPlan) -> None:
    again = plan_from_json(json.dumps(plan_to_json(plan)))
    for number in range(1, 9):
        assert plan.of_call(Route.GET, number, number) == again.of_call(Route.GET, number, number)
        assert plan.of_row(1, number) == again.of_row(1, number)
        assert plan.of_job(number) == again.of_job(number)


def test_faults_hit_by_number_by_probability_or_always() -> None:
    always = CallFault(route=Route.GET, kind=CallFaultKind.RESET)
    some = CallFault(route=Route.GET, kind=CallFaultKind.STALL, nth=(2, 4))
    chance = CallFault(route=Route.ANY, kind=CallFaultKind.TRICKLE, probability=0.3)
    plan = FaultPlan(calls=[always, some, chance])
    found = [plan.of_call(Route.GET, number, number) for number in range(1, 1001)]
    assert sum(always in hit for hit in found) == 1000
    assert [number for number, hit in enumerate(found, 1) if some in hit] == [2, 4]
    assert 230 < sum(chance in hit for hit in found) < 370
    assert not any({always, some} & set(plan.of_call(Route.CREATE, n, n)) for n in range(1, 10))


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("{", "faults='…': invalid JSON"),
        ("[]", r"faults=\[\]: input should be an object"),
        ('{"call": []}', "faults.call=.*: unknown member, give calls, rows, jobs, seed"),
        ('{"calls": {}}', "faults.calls={}: input should be a valid array"),
        (
            '{"calls": [{"route": "post", "kind": "reset"}]}',
            r"faults.calls\[0\].route='post': input should be 'create', 'get'",
        ),
        ('{"calls": [{"route": "get"}]}', r"faults.calls\[0\].kind=None: add this member"),
        ('{"calls": [{"route": "get", "kind": "lag"}]}', "lag applies only to list"),
        ('{"calls": [{"route": "get", "kind": "wrong_token"}]}', "wrong_token applies only to token"),
        ('{"calls": [{"route": "get", "kind": "status", "status": 200}]}', "status=200: give one of 400"),
        ('{"calls": [{"route": "get", "kind": "reset", "nth": [0]}]}', r"nth=\(0,\): give numbers from 1"),
        ('{"rows": [{"kind": "dropped", "probability": 2}]}', "probability=2.0: give a number from 0 to 1"),
        ('{"jobs": [{"ends": "RUNNING"}]}', "ends='RUNNING': give a terminal state"),
        ('{"jobs": [{"path": ["FAILED"]}]}', "path=.*: give states that are not terminal"),
        ('{"jobs": [{"ends": "DONE"}]}', "ends='DONE': give the name of a job state, such as FAILED"),
        (
            '{"rows": [{"kind": "dropped", "nht": [1]}]}',
            r"faults.rows\[0\].nht=\[1\]: unknown member, give nth",
        ),
        ('{"jobs": [{"after_rows": true}]}', "after_rows=True: input should be a valid integer"),
        ('{"jobs": [{"exports": 1}]}', "exports=1: input should be a valid boolean"),
    ],
)
def test_a_bad_plan_is_explained(text: str, complaint: str) -> None:
    with pytest.raises(InvalidParameterError, match=complaint):
        plan_from_json(text)


@given(st.lists(st.booleans(), max_size=9), st.text())
def test_shuffling_keeps_all_rows_and_moves_only_those_hit(hits: list[bool], seed: str) -> None:
    hit = [place for place, is_hit in enumerate(hits) if is_hit]
    found = order(hit, len(hits), seed)
    assert sorted(found) == list(range(len(hits)))
    assert all(found[place] == place for place in range(len(hits)) if place not in hit)


LINE = (
    json.dumps({"request": {"contents": []}, "status": "", "response": {"a": 1}, "key": "007"}).encode()
    + b"\n"
)


def lines(*kinds: RowFaultKind, line: bytes = LINE) -> list[bytes]:
    return disturbed_lines(line, kinds, "seed").splitlines()


def test_dropped_doubled_and_changed_rows_stay_valid_json() -> None:
    assert lines(RowFaultKind.DROPPED, RowFaultKind.DOUBLED) == []
    assert lines(RowFaultKind.DOUBLED) == [LINE.strip(), LINE.strip()]
    assert json.loads(lines(RowFaultKind.NUMBER_KEYS)[0])["key"] == 7
    assert "key" not in json.loads(lines(RowFaultKind.NO_KEYS)[0])
    assert json.loads(lines(RowFaultKind.EXTRA_MEMBERS)[0])["newMember"]
    assert json.loads(lines(RowFaultKind.HUGE_NUMBERS)[0])["hugeInteger"] > 2**64


@given(st.sampled_from([RowFaultKind.TRUNCATED, RowFaultKind.CORRUPT]), st.text(max_size=40), st.text())
def test_a_broken_line_is_one_line_and_not_json(kind: RowFaultKind, text: str, seed: str) -> None:
    line = json.dumps({"key": text}, ensure_ascii=False).encode("utf-8", "replace") + b"\n"
    (broken,) = disturbed_lines(line, [kind], seed).rstrip(b"\n").split(b"\n")
    assert broken.strip()
    with pytest.raises(ValueError):  # noqa: PT011
        json.loads(broken)


def plan(route: Route, kind: CallFaultKind, **more: Any) -> FaultPlan:
    return FaultPlan(calls=[CallFault(route=route, kind=kind, **more)])


@pytest.mark.parametrize("status", [status for status in STATUSES if status != 502])
def test_a_status_instead_of_the_response(emulator: Emulator, http: Http, status: int) -> None:
    emulator.faults = plan(Route.CREATE, CallFaultKind.STATUS, status=status, nth=(1,))
    code, answer = http("POST", "", job_body())
    assert (code, answer["error"]["code"]) == (status, status)
    assert emulator.jobs == ()
    assert http("POST", "", job_body())[0] == 200


def test_a_status_after_the_call_took_effect(emulator: Emulator, http: Http) -> None:
    emulator.faults = plan(Route.CREATE, CallFaultKind.STATUS, status=503, nth=(1,), after=True)
    assert http("POST", "", job_body())[0] == 503
    assert len(emulator.jobs) == 1


def test_a_502_is_an_html_page() -> None:
    with Emulator(faults=plan(Route.LIST, CallFaultKind.STATUS, status=502)) as emulator:
        status, content = raw(emulator, "GET", JOBS)
    assert status == 502
    assert content.startswith(b"<!DOCTYPE html>")


def raw(emulator: Emulator, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(urlsplit(emulator.url).netloc, timeout=10)
    try:
        base = urlsplit(emulator.url).path
        connection.request(method, base + path, body, {"Authorization": "Bearer any"})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


@pytest.mark.parametrize("after", [False, True])
def test_a_reset_before_or_after_the_call_took_effect(after: bool) -> None:
    with Emulator(faults=plan(Route.CREATE, CallFaultKind.RESET, after=after)) as emulator:
        with pytest.raises(ConnectionResetError):
            raw(emulator, "POST", JOBS, json.dumps(job_body()).encode())
        assert len(emulator.jobs) == after
        (record,) = emulator.requests
        assert (record.status, record.faults) == (200 if after else 0, ("reset",))


@pytest.mark.parametrize("after", [False, True])
def test_a_stalled_call_takes_effect_even_if_the_caller_disconnects(after: bool) -> None:
    with Emulator(faults=plan(Route.CREATE, CallFaultKind.STALL, seconds=1.5, after=after)) as emulator:
        connection = http.client.HTTPConnection(urlsplit(emulator.url).netloc, timeout=0.2)
        path = urlsplit(emulator.url).path + JOBS
        connection.request("POST", path, json.dumps(job_body()), {"Authorization": "Bearer any"})
        with pytest.raises(TimeoutError):
            connection.getresponse()
        connection.close()
        assert len(emulator.jobs) == after
        until = time.monotonic() + 5
        while not emulator.requests and time.monotonic() < until:
            time.sleep(0.01)
        assert len(emulator.jobs) == 1


def test_clear_ends_stalled_calls() -> None:
    with Emulator(faults=plan(Route.CREATE, CallFaultKind.STALL, seconds=60)) as emulator:
        connection = http.client.HTTPConnection(urlsplit(emulator.url).netloc, timeout=20)
        path = urlsplit(emulator.url).path + JOBS
        connection.request("POST", path, json.dumps(job_body()), {"Authorization": "Bearer any"})
        with ThreadPoolExecutor(1) as pool:
            answer = pool.submit(connection.getresponse)
            while not answer.done():
                time.sleep(0.05)  # Nothing shows when the call has begun to stall.
                emulator.clear()
        with pytest.raises(ConnectionResetError):
            answer.result()
        connection.close()
        assert emulator.jobs == ()


def test_a_trickled_response_is_complete(emulator: Emulator, http: Http) -> None:
    emulator.faults = plan(Route.LIST, CallFaultKind.TRICKLE, seconds=0.2)
    begun = time.monotonic()
    assert http("GET") == (200, {})
    http("POST", "", job_body())
    assert len(http("GET")[1]["batchPredictionJobs"]) == 1
    assert time.monotonic() - begun >= 0.2


def shown(http: Http) -> list[int]:
    return [len(http("GET")[1].get("batchPredictionJobs", ())) for _ in range(4)]


def test_lists_lag_behind_by_lists(emulator: Emulator, http: Http, create: Callable[..., Any]) -> None:
    create()
    emulator.faults = plan(Route.LIST, CallFaultKind.LAG, lists=2)
    assert shown(http) == [0, 0, 1, 1]
    name = emulator.jobs[0]["name"]
    assert http("GET", f"/v1/{name}")[0] == 200


def test_lists_lag_behind_by_seconds(emulator: Emulator, http: Http, create: Callable[..., Any]) -> None:
    emulator.faults = plan(Route.LIST, CallFaultKind.LAG, seconds=1.5)
    create()
    assert shown(http)[0] == 0
    time.sleep(1.5)
    assert shown(http) == [1, 1, 1, 1]


def test_a_truncated_list(emulator: Emulator, http: Http, create: Callable[..., Any]) -> None:
    for _ in range(4):
        create()
    emulator.faults = plan(Route.LIST, CallFaultKind.TRUNCATE, keep=2, nth=(2,))
    assert [len(http("GET", pageSize=3)[1].get("batchPredictionJobs", ())) for _ in range(3)] == [3, 2, 3]
    emulator.faults = plan(Route.LIST, CallFaultKind.TRUNCATE, keep=3)
    assert "nextPageToken" not in http("GET", pageSize=3)[1]


def test_a_wrong_token_is_refused_everywhere(emulator: Emulator, http: Http) -> None:
    emulator.faults = plan(Route.TOKEN, CallFaultKind.WRONG_TOKEN, nth=(1,))
    tokens = [http("POST", "/token", TOKEN_FORM)[1]["access_token"] for _ in range(2)]
    assert [http("GET", token=token)[0] for token in tokens] == [401, 200]


def test_an_error_of_the_token_endpoint() -> None:
    with Emulator(faults=plan(Route.TOKEN, CallFaultKind.STATUS, status=503)) as emulator:
        status, answer = Http(emulator.url)("POST", "/token", TOKEN_FORM)
    assert (status, answer["error"]) == (503, "internal_failure")


def test_a_job_follows_the_path_in_the_plan(emulator: Emulator, http: Http) -> None:
    path = (JobState.QUEUED, JobState.RUNNING, JobState.PAUSED, JobState.UPDATING)
    emulator.faults = FaultPlan(jobs=[JobFault(path=path, nth=(1,))])
    slow = {**job_body(), "labels": {"emulator-pace": "reads-1"}}
    _, job = http("POST", "", slow)
    states = [job["state"]] + [http("GET", f"/v1/{job['name']}")[1]["state"] for _ in range(4)]
    assert states == [str(path[0]), *map(str, path)]
    assert http("POST", "", slow)[1]["state"] == "JOB_STATE_PENDING"


def test_the_plan_is_set_read_and_deleted_over_http(emulator: Emulator, http: Http) -> None:
    wanted = {
        "seed": 3,
        "calls": [{"route": "list", "kind": "status", "status": 429}],
        "rows": [],
        "jobs": [],
    }
    assert http("PUT", FAULTS, wanted) == (200, wanted)
    assert http("GET", FAULTS) == (200, wanted)
    assert http("GET")[0] == 429
    status, answer = http("PUT", FAULTS, {"calls": [{"route": "list"}]})
    assert (status, answer["error"]["status"]) == (400, "INVALID_ARGUMENT")
    assert "faults.calls[0].kind" in answer["error"]["message"]
    assert http("DELETE", FAULTS)[1]["calls"] == []
    assert http("GET")[0] == 200
    assert {request.path for request in emulator.requests} == {JOBS}


def test_clear_restores_the_first_plan_and_restarts_counting() -> None:
    first = plan(Route.LIST, CallFaultKind.STATUS, nth=(2,))
    with Emulator(faults=first) as emulator:
        http = Http(emulator.url)
        assert [http("GET")[0] for _ in range(3)] == [200, 503, 200]
        emulator.faults = FaultPlan()
        assert [http("GET")[0] for _ in range(3)] == [200, 200, 200]
        emulator.clear()
        assert [http("GET")[0] for _ in range(3)] == [200, 503, 200]


def test_the_plan_in_the_documentation_is_valid() -> None:
    text = (Path(__file__).parents[3] / "docs" / "emulator.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```json\n(.*?)```", text, re.DOTALL)
    assert len(plan_from_json(example).calls) == 3
    for kind in (*CallFaultKind, *RowFaultKind, *Route):
        assert f"`{kind.value}`" in text
