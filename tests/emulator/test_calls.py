"""The API methods over plain HTTP: requests, responses and errors."""

from __future__ import annotations

import http.client
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

from airflow_gemini_batch.batch_job import JobState
from airflow_gemini_batch.emulator.running.job_clock import Pace
from airflow_gemini_batch.emulator.server import Emulator, RecordedRequest

from .wire import PARENT, Http, job_body, violations_of_answers

if TYPE_CHECKING:
    from collections.abc import Callable

    Create = Callable[..., dict[str, Any]]


def error_of(answer: tuple[int, Any]) -> dict[str, Any]:
    status, body = answer
    assert body["error"]["code"] == status
    error: dict[str, Any] = body["error"]
    return error


@pytest.mark.parametrize("version", ["v1", "v1beta1"])
def test_a_created_job_is_pending_and_can_be_read(emulator: Emulator, version: str) -> None:
    call = Http(emulator.url, version)
    labels = {"emulator-pace": "reads-9", "team": "red"}
    status, created = call("POST", "", job_body(labels=labels))
    assert status == 200
    assert created["name"].startswith(f"{PARENT}/batchPredictionJobs/")
    assert created["state"] == "JOB_STATE_PENDING"
    assert created["labels"] == labels
    assert {name: created[name] for name in job_body()} == job_body()
    status, read = call("GET", f"/{version}/{created['name']}")
    assert status == 200
    assert {name: read[name] for name in created} == created


def test_job_names_are_unique_and_have_the_services_format(create: Create) -> None:
    names = {create()["name"].rsplit("/", 1)[-1] for _ in range(20)}
    assert len(names) == 20
    assert all(name.isdigit() and len(name) == 19 for name in names)


@pytest.mark.parametrize(
    "model",
    [
        "publishers/google/models/gemini-3.5-flash",
        "publishers/google/models/gemini-3.5-flash@default",
        f"{PARENT}/publishers/google/models/gemini-3.1-pro-preview",
    ],
)
def test_models_that_exist(create: Create, model: str) -> None:
    assert create(model=model)["model"] == model


@pytest.mark.parametrize("model", ["models/1234567890", "models/1234567890@2", "endpoints/456"])
def test_tuned_models_exist(http: Http, model: str) -> None:
    parent = "projects/123/locations/us-central1"
    answer = http("POST", f"/v1/{parent}/batchPredictionJobs", job_body(model=f"{parent}/{model}"))
    assert answer[0] == 200


def test_a_model_that_does_not_exist_is_a_404(http: Http) -> None:
    error = error_of(http("POST", "", job_body(model="publishers/google/models/gemini-99")))
    assert (error["code"], error["status"]) == (404, "NOT_FOUND")
    assert error["message"].startswith(
        f"Publisher Model `{PARENT}/publishers/google/models/gemini-99` was not found or your project does "
    )


def test_an_embedding_model_reads_no_table(http: Http) -> None:
    body = job_body("bq://p.d.t", model="publishers/google/models/gemini-embedding-2")
    error = error_of(http("POST", "", body))
    assert (error["code"], error["status"]) == (400, "INVALID_ARGUMENT")
    (violation,) = error["details"][0]["fieldViolations"]
    assert violation["field"] == "batch_prediction_job.input_config.bigquery_source"
    assert "only input in Cloud Storage" in violation["description"]


def test_the_known_models_can_be_chosen() -> None:
    with Emulator(models={"mine"}) as emulator:
        call = Http(emulator.url)
        assert call("POST", "", job_body(model="publishers/google/models/mine"))[0] == 200
        assert call("POST", "")[0] == 400
        assert call("POST", "", job_body())[0] == 404


@pytest.mark.parametrize(
    ("model", "location"),
    [
        ("gemini-3.5-flash", "europe-west2"),
        ("gemini-3.5-flash-001", "eu"),
        ("gemini-3.1-flash-lite-preview", "global"),
        ("gemini-3.9-flash", "global"),
        ("gemini-5-pro-preview", "us"),
        ("gemini-embedding-001", "us-central1"),
        ("gemini-4-argon", "global"),
    ],
)
def test_models_of_today_exist_where_they_are_offered(http: Http, model: str, location: str) -> None:
    path = f"/v1/projects/p/locations/{location}/batchPredictionJobs"
    assert http("POST", path, job_body(model=f"publishers/google/models/{model}"))[0] == 200


@pytest.mark.parametrize(
    ("model", "location"),
    [
        ("gemini-3.5-flash", "us-central1"),
        ("gemini-3.1-pro-preview", "eu"),
        ("gemini-embedding-001", "global"),
        ("gemini-2.5-flash", "us-central1"),
        ("gemini-2.5-flash-preview-09-2025", "global"),
        ("gemini-2.0-flash-001", "us-central1"),
        ("gemini-1.5-pro", "us-central1"),
        ("gemini-3.5-flsh", "global"),
    ],
)
def test_models_of_yesterday_and_of_other_locations_are_a_404(http: Http, model: str, location: str) -> None:
    path = f"/v1/projects/p/locations/{location}/batchPredictionJobs"
    error = error_of(http("POST", path, job_body(model=f"publishers/google/models/{model}")))
    assert (error["code"], error["status"]) == (404, "NOT_FOUND")


def test_the_day_decides_whether_a_model_is_retired() -> None:
    body = job_body(model="publishers/google/models/gemini-2.5-flash")
    with Emulator(today=date(2026, 10, 19)) as emulator:
        call = Http(emulator.url)
        assert call("POST", "", body)[0] == 200
        emulator.today = date(2026, 10, 20)
        assert call("POST", "", body)[0] == 404
        assert call("POST", "", job_body())[0] == 200
        emulator.today = date(2027, 5, 19)
        assert call("POST", "", job_body())[0] == 404


def test_a_tuned_model_lives_in_its_location(http: Http) -> None:
    elsewhere = "projects/p/locations/europe-west4/models/1"
    path = "/v1/projects/p/locations/us-central1/batchPredictionJobs"
    assert error_of(http("POST", path, job_body(model=elsewhere)))["status"] == "NOT_FOUND"
    path = "/v1/projects/p/locations/global/batchPredictionJobs"
    error = error_of(http("POST", path, job_body(model="projects/p/locations/global/models/1")))
    assert "not supported on global" in error["message"]


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (
            {"foo": 1},
            "Invalid JSON payload received. Unknown name \"foo\" at 'batch_prediction_job': Cannot find",
        ),
        ({"displayName": 7}, "Invalid value at 'batch_prediction_job.display_name' (TYPE_STRING), 7"),
        (
            {"displayName": ""},
            "1.Field: batch_prediction_job.display_name; Message: Required field is not set.",
        ),
        ({"displayName": "x" * 129}, "longer than 128"),
        ({"model": None}, "Field: batch_prediction_job.model; Message: Required field is not set."),
        ({"model": "gemini-3.5-flash"}, 'Invalid resource name "gemini-3.5-flash"'),
        ({"inputConfig": {}}, "Field: batch_prediction_job.input_config; Message: Required"),
        (
            {"inputConfig": {"instancesFormat": "jsonl"}},
            "Field: batch_prediction_job.input_config; Message: Required",
        ),
        (
            {"inputConfig": {"instancesFormat": "jsonl", "gcsSource": {"uris": []}}},
            "Field: batch_prediction_job.input_config.gcs_source.uris; Message: Required",
        ),
        (
            {"inputConfig": {"instancesFormat": "jsonl", "gcsSource": {"uris": ["gs://a", "s3://b"]}}},
            'Invalid URI "s3://b": it must start with gs://',
        ),
        (
            {"inputConfig": {"instancesFormat": "csv", "gcsSource": {"uris": ["gs://a"]}}},
            'Unsupported format "csv" for gcs_source; supported: "jsonl"',
        ),
        (
            {
                "inputConfig": {
                    "instancesFormat": "jsonl",
                    "gcsSource": {"uris": ["gs://a"]},
                    "bigquerySource": {"inputUri": "bq://a"},
                }
            },
            "oneof field 'source' is already set. Cannot set 'bigquerySource'",
        ),
        (
            {
                "outputConfig": {
                    "predictionsFormat": "bigquery",
                    "bigqueryDestination": {"outputUri": "a.b.c"},
                }
            },
            'Invalid URI "a.b.c": it must start with bq://',
        ),
        ({"labels": {"Key": "a"}}, 'Invalid label key "Key"'),
        ({"labels": {"1": "a"}}, 'Invalid label key "1"'),
        ({"labels": {"a": "B"}}, 'Invalid value "B" of label "a"'),
        ({"labels": {"a": "x" * 65}}, "At most 64 characters"),
        ({"labels": {f"k{n}": "" for n in range(65)}}, "There are 65 labels"),
        ({"labels": {"emulator-pace": "soon"}}, "labels.emulator-pace='soon'"),
    ],
)
def test_an_invalid_body_is_a_400(http: Http, change: dict[str, Any], complaint: str) -> None:
    error = error_of(http("POST", "", {**job_body(), **change}))
    assert (error["code"], error["status"]) == (400, "INVALID_ARGUMENT")
    assert complaint in error["message"]
    assert error["details"][0]["@type"] == "type.googleapis.com/google.rpc.BadRequest"
    assert error["details"][0]["fieldViolations"]


def test_all_problems_are_reported_together(http: Http) -> None:
    violations = error_of(http("POST", "", {"foo": 1, "bar": 2}))["details"][0]["fieldViolations"]
    assert len(violations) == 2
    assert error_of(http("POST", "", {}))["message"].count("Required field is not set.") == 4


@pytest.mark.parametrize("content", [b"{", b"[]", b"\xff"])
def test_a_body_that_is_not_a_json_object_is_a_400(http: Http, content: bytes) -> None:
    assert "Invalid JSON payload received" in error_of(http("POST", "", content))["message"]


def test_read_only_fields_are_ignored(create: Create) -> None:
    job = create(state="JOB_STATE_SUCCEEDED", name="mine", completionStats={"successfulCount": 5})
    assert job["state"] == "JOB_STATE_PENDING"
    assert job["name"] != "mine"
    assert "completionStats" not in job


def test_a_call_without_a_token_is_a_401(http: Http) -> None:
    assert error_of(http("GET", token=None))["status"] == "UNAUTHENTICATED"
    assert error_of(http("GET", token=""))["code"] == 401


def test_tokens_are_issued_and_assertions_are_not_recorded(emulator: Emulator, http: Http) -> None:
    form = b"grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&assertion=secret"
    status, answer = http("POST", "/token", form, token=None)
    assert status == 200
    assert answer["access_token"]
    assert answer["token_type"] == "Bearer"
    assert "secret" not in repr(emulator.requests)
    status, answer = http("POST", "/token", b"grant_type=password", token=None)
    assert (status, answer["error"]) == (400, "unsupported_grant_type")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/"),
        ("GET", "/v2/x"),
        ("PATCH", f"/v1/{PARENT}/batchPredictionJobs/1"),
        ("GET", f"/v1/{PARENT}/batchPredictionJobs/1:cancel"),
        ("PUT", ""),
    ],
)
def test_an_unknown_method_is_a_404(http: Http, method: str, path: str) -> None:
    status, body = http(method, path)
    assert status == 404
    assert "was not found on this server" in body["error"]["message"]


@pytest.mark.parametrize(("method", "path"), [("GET", ""), ("POST", ":cancel"), ("DELETE", "")])
def test_a_job_that_does_not_exist_is_a_404(http: Http, method: str, path: str) -> None:
    error = error_of(http(method, f"/v1/{PARENT}/batchPredictionJobs/404{path}"))
    assert error["status"] == "NOT_FOUND"
    assert f"{PARENT}/batchPredictionJobs/404" in error["message"]


def test_a_job_belongs_to_its_location(http: Http, create: Create) -> None:
    elsewhere = create()["name"].replace("global", "europe-west4")
    assert http("GET", f"/v1/{elsewhere}")[0] == 404


def test_a_forbidden_project_is_a_403(emulator: Emulator) -> None:
    with Emulator(projects={"mine"}) as strict:
        call = Http(strict.url)
        error = error_of(call("POST", "", job_body()))
        assert error["status"] == "PERMISSION_DENIED"
        assert error["message"].startswith(
            "Permission 'aiplatform.batchPredictionJobs.create' denied on resource "
            f"'//aiplatform.googleapis.com/{PARENT}'"
        )
        assert call("GET", "/v1/projects/mine/locations/l/batchPredictionJobs")[0] == 200


def test_unknown_query_parameters_are_refused(http: Http) -> None:
    error = error_of(http("GET", order_by="name"))
    assert 'Unknown name "order_by": Cannot bind query parameter' in error["message"]
    assert http("GET", **{"$alt": "json"})[0] == 200


class TestList:
    def test_newest_first_and_only_those_of_the_parent(self, http: Http, create: Create) -> None:
        names = [create()["name"] for _ in range(3)]
        http("POST", "/v1/projects/other/locations/global/batchPredictionJobs", job_body())
        _, answer = http("GET")
        assert [job["name"] for job in answer["batchPredictionJobs"]] == names[::-1]
        assert "nextPageToken" not in answer

    def test_an_empty_list_is_an_empty_object(self, http: Http) -> None:
        assert http("GET") == (200, {})

    def test_pages_contain_each_job_exactly_once_while_jobs_are_added(
        self, http: Http, create: Create
    ) -> None:
        names = [create()["name"] for _ in range(5)]
        seen, token = [], ""
        for _ in range(3):
            _, answer = http("GET", pageSize=2, pageToken=token)
            seen += [job["name"] for job in answer["batchPredictionJobs"]]
            token = answer.get("nextPageToken", "")
            create()
        assert seen == names[::-1]
        assert token == ""

    def test_a_page_that_ends_with_the_last_job_has_no_token(self, http: Http, create: Create) -> None:
        for _ in range(2):
            create()
        assert "nextPageToken" not in http("GET", pageSize=2)[1]

    def test_pages_are_limited(self, http: Http, create: Create) -> None:
        for _ in range(101):
            create()
        assert len(http("GET")[1]["batchPredictionJobs"]) == 50
        assert len(http("GET", pageSize=1000)[1]["batchPredictionJobs"]) == 100

    @pytest.mark.parametrize("page_size", ["-1", "many"])
    def test_an_invalid_page_size(self, http: Http, page_size: str) -> None:
        assert (
            "Invalid value at 'page_size' (TYPE_INT32)"
            in error_of(http("GET", pageSize=page_size))["message"]
        )

    def test_a_token_belongs_to_its_filter(self, http: Http, create: Create) -> None:
        for _ in range(3):
            create()
        token = http("GET", pageSize=1)[1]["nextPageToken"]
        for query in ({"pageToken": "nonsense"}, {"pageToken": token, "filter": "labels.a:*"}):
            assert "page token is invalid" in error_of(http("GET", pageSize=1, **query))["message"]

    def test_a_filter_applies_to_all_pages(self, http: Http, create: Create) -> None:
        wanted = [create(labels={"team": "red" if n % 2 else "blue"})["name"] for n in range(6)][1::2]
        found, token = [], ""
        for _ in range(3):
            _, answer = http("GET", pageSize=1, filter="labels.team=red", pageToken=token)
            found += [job["name"] for job in answer["batchPredictionJobs"]]
            token = answer.get("nextPageToken", "")
        assert found == wanted[::-1]
        assert token == ""

    def test_an_invalid_filter_is_a_400(self, http: Http) -> None:
        error = error_of(http("GET", filter="nonsense"))
        assert error["status"] == "INVALID_ARGUMENT"
        assert error["message"].startswith('Invalid filter "nonsense": ')

    def test_a_read_mask_omits_other_fields(self, http: Http, create: Create) -> None:
        create()
        _, answer = http("GET", readMask="name,display_name,inputConfig.instancesFormat")
        job = answer["batchPredictionJobs"][0]
        assert set(job) == {"name", "displayName", "inputConfig"}
        assert job["inputConfig"] == {"instancesFormat": "jsonl"}
        assert len(http("GET", readMask="*")[1]["batchPredictionJobs"][0]) > 5
        assert 'no field "foo"' in error_of(http("GET", readMask="name,foo"))["message"]


class TestPace:
    def states(self, http: Http, job: dict[str, Any], reads: int) -> list[str]:
        path = f"/v1/{job['name']}"
        return [http("GET", path)[1]["state"].removeprefix("JOB_STATE_") for _ in range(reads)]

    @pytest.fixture(autouse=True)
    def _nowhere(self, monkeypatch: pytest.MonkeyPatch) -> None:
        # These jobs fail, so that no other server is needed.
        monkeypatch.delenv("STORAGE_EMULATOR_HOST", raising=False)

    def test_immediate(self, http: Http, create: Create) -> None:
        assert self.states(http, create("immediate"), 2) == ["FAILED", "FAILED"]

    def test_each_state_is_shown_for_a_number_of_reads(self, http: Http, create: Create) -> None:
        seen = self.states(http, create("reads-2"), 6)
        assert seen == ["PENDING", "PENDING", "RUNNING", "RUNNING", "FAILED", "FAILED"]

    def test_a_listed_job_counts_as_read_and_a_filtered_one_does_not(
        self, http: Http, create: Create
    ) -> None:
        job = create("reads-1")
        http("GET", filter="labels.other:*")
        assert http("GET")[1]["batchPredictionJobs"][0]["state"] == "JOB_STATE_PENDING"
        assert self.states(http, job, 2) == ["RUNNING", "FAILED"]

    def test_the_jobs_property_does_not_count_as_a_read(
        self, emulator: Emulator, http: Http, create: Create
    ) -> None:
        job = create("reads-1")
        assert [emulator.jobs[0]["state"] for _ in range(3)] == ["JOB_STATE_PENDING"] * 3
        assert self.states(http, job, 1) == ["PENDING"]

    def test_each_state_lasts_for_a_time(self, http: Http, create: Create) -> None:
        job = create("milliseconds-250")
        path = f"/v1/{job['name']}"
        seen: dict[str, None] = {}
        while not JobState(read := http("GET", path)[1]["state"]).is_terminal:
            seen[read] = None
        assert list(seen) == ["JOB_STATE_PENDING", "JOB_STATE_RUNNING"]
        read = http("GET", path)[1]
        assert job["createTime"] < read["startTime"] < read["endTime"] == read["updateTime"]

    def test_a_job_that_cannot_reach_storage_names_the_variable(self, http: Http, create: Create) -> None:
        _, job = http("GET", f"/v1/{create('immediate')['name']}")
        assert job["error"]["code"] == 9
        assert "STORAGE_EMULATOR_HOST" in job["error"]["message"]
        assert "completionStats" not in job
        assert "outputInfo" not in job


class TestCancelAndDelete:
    def test_a_pending_job_can_be_cancelled(self, http: Http, create: Create) -> None:
        path = f"/v1/{create('reads-1')['name']}"
        assert http("POST", f"{path}:cancel", {}) == (200, {})
        assert http("POST", f"{path}:cancel", {}) == (200, {})
        assert http("GET", path)[1]["state"] == "JOB_STATE_CANCELLING"
        _, job = http("GET", path)
        assert job["state"] == "JOB_STATE_CANCELLED"
        assert job["error"] == {"code": 1, "message": "CANCELED"}
        assert job["endTime"]
        assert "outputInfo" not in job
        assert "completionStats" not in job

    def test_a_job_that_has_ended_cannot_be_cancelled(self, http: Http, create: Create) -> None:
        error = error_of(http("POST", f"/v1/{create('immediate')['name']}:cancel"))
        assert (error["code"], error["status"]) == (400, "FAILED_PRECONDITION")

    def test_cancel_takes_no_fields(self, http: Http, create: Create) -> None:
        error = error_of(http("POST", f"/v1/{create()['name']}:cancel", {"force": True}))
        assert 'Unknown name "force"' in error["message"]

    def test_delete_returns_a_finished_operation(self, http: Http, create: Create) -> None:
        path = f"/v1/{create('immediate')['name']}"
        status, operation = http("DELETE", path)
        assert status == 200
        assert operation["done"] is True
        assert "/operations/" in operation["name"]
        assert http("GET", path)[0] == 404

    def test_a_job_that_has_not_ended_cannot_be_deleted(self, http: Http, create: Create) -> None:
        path = f"/v1/{create()['name']}"
        assert error_of(http("DELETE", path))["status"] == "FAILED_PRECONDITION"
        assert http("GET", path)[0] == 200


class TestServer:
    def test_requests_are_recorded(self, emulator: Emulator, http: Http) -> None:
        http("POST", "", job_body(model="publishers/google/models/none"))
        http("GET", pageSize=3)
        post, get = emulator.requests
        assert (post.method, post.status, post.body["displayName"]) == ("POST", 404, "a job")
        assert post.path == f"/v1/{PARENT}/batchPredictionJobs"
        assert (get.query, get.body, get.answer) == ({"pageSize": "3"}, None, {})

    def test_clear_deletes_jobs_and_requests(self, emulator: Emulator, http: Http, create: Create) -> None:
        job = create()
        emulator.clear()
        assert emulator.jobs == emulator.requests == ()
        assert http("GET", f"/v1/{job['name']}")[0] == 404

    def test_a_connection_is_kept_and_responses_come_in_one_packet(self, emulator: Emulator) -> None:
        connection = http.client.HTTPConnection(urlsplit(emulator.url).netloc)
        try:
            for _ in range(3):
                headers = {"Authorization": "Bearer x"}
                path = f"{urlsplit(emulator.url).path}/v1/{PARENT}/batchPredictionJobs"
                connection.request("GET", path, headers=headers)
                kept = connection.sock
                assert json.load(connection.getresponse()) == {}
                assert connection.sock is kept is not None
        finally:
            connection.close()

    def test_stop_ends_all_threads_despite_waiting_jobs_and_open_connections(self) -> None:
        before = set(threading.enumerate())
        emulator = Emulator(pace=Pace(seconds=3600)).start()
        connection = http.client.HTTPConnection(urlsplit(emulator.url).netloc)
        try:
            content = json.dumps(job_body())
            path = f"{urlsplit(emulator.url).path}/v1/{PARENT}/batchPredictionJobs"
            connection.request("POST", path, content, {"Authorization": "Bearer x"})
            assert connection.getresponse().read()
            emulator.stop()
            emulator.stop()
            left = [
                thread
                for thread in set(threading.enumerate()) - before
                if thread.name.startswith("batch-job")
            ]
            assert left == []
        finally:
            connection.close()
        with pytest.raises(RuntimeError, match="not running"):
            _ = emulator.url

    def test_many_callers_at_once(self, http: Http, create: Create) -> None:
        with ThreadPoolExecutor(8) as pool:
            names = {job["name"] for job in pool.map(lambda _: create("reads-1"), range(40))}
        assert len(names) == 40
        _, answer = http("GET", pageSize=100)
        assert {job["name"] for job in answer["batchPredictionJobs"]} == names


def test_the_check_of_responses_finds_violations() -> None:
    path = f"/v1/{PARENT}/batchPredictionJobs/1"
    wrong = [
        {"name": "x", "completionStats": {"successfulCount": 1}},
        {"name": "x", "display_name": "y"},
        {"name": "x", "state": "RUNNING"},
        {"name": "x", "error": {"code": "3"}},
        {"name": "x", "createTime": "2026-01-01T00:00:00+00:00"},
        {"name": "x", "labels": None},
    ]
    for answer in wrong:
        assert len(violations_of_answers([RecordedRequest("GET", path, {}, None, 200, answer)])) == 1
    assert (
        len(violations_of_answers([RecordedRequest("GET", path, {}, None, 404, {"error": {"code": 500}})]))
        == 1
    )


DEEP = {
    "arrays": "[" * 100_000 + "]" * 100_000,
    "objects": '{"labels":' * 50_000 + "1" + "}" * 50_000,
    "fewer": '{"labels":' * 900 + "1" + "}" * 900,
}


@pytest.mark.parametrize("body", DEEP.values(), ids=DEEP)
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", ""),
        ("PUT", "/_emulator/faults"),
        ("POST", f"/v1/{PARENT}/publishers/google/models/gemini-3.5-flash:countTokens"),
    ],
)
def test_nesting_without_end_is_the_mistake_of_the_caller(
    http: Http, method: str, path: str, body: str
) -> None:
    assert http(method, path, body.encode())[0] == 400
