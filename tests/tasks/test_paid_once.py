"""What a task run pays for, however its job ends and whatever changes around it.

The measure is the bill: completed rows, summed over all jobs of the emulator, against the rows asked.
"""

from __future__ import annotations

import json
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_gemini_batch.batch_job import JobState
from airflow_gemini_batch.emulator.faults.plan import CallFault, CallFaultKind, FaultPlan, JobFault, Route
from airflow_gemini_batch.exceptions import InvalidParameterError, JobConflictError, JobEndedError
from airflow_gemini_batch.hooks.gemini_batch import GeminiBatchHook
from airflow_gemini_batch.jobs import submission
from airflow_gemini_batch.jobs.identity import Mark, marked
from airflow_gemini_batch.jobs.spec import job_spec
from airflow_gemini_batch.operators.gemini_batch import (
    GeminiBatchResultsToBigQueryOperator,
    GeminiBatchSubmitOperator,
)
from airflow_gemini_batch.operators.retry import GeminiBatchRetryFailedOperator
from airflow_gemini_batch.sensors.gemini_batch import GeminiBatchJobSensor
from tests.recorder import Recorder
from tests.task_instance import TaskInstance, execute

if TYPE_CHECKING:
    from collections.abc import Callable

    from google.cloud import bigquery, storage

    from airflow_gemini_batch.emulator.server import Emulator
    from airflow_gemini_batch.jobs.spec import JobSpec
    from tests.conftest import RunningStack

Context = Any
BAD_ENDS = [
    JobFault(ends=JobState.EXPIRED),
    JobFault(ends=JobState.CANCELLED),
    *(JobFault(ends=JobState.FAILED, code=code) for code in (3, 7, 9, 13)),
]


@pytest.fixture
def wait_args(submit_args: dict[str, Any]) -> dict[str, Any]:
    """Submit and wait on the worker."""
    return {**submit_args, "wait_for_completion": True, "deferrable": False, "poll_interval": 0.05}


def paid(vertex: Emulator) -> int:
    return sum(int(job.get("completionStats", {}).get("successfulCount", 0)) for job in vertex.jobs)


def tries(make: Callable[[], Any], ti: TaskInstance, number: int = 3) -> Any:
    """Run a task as Airflow does with ``retries``; return its result or the last exception."""
    result: Any = None
    for ti.try_number in range(1, number + 1):
        try:
            return make().execute({"ti": ti})
        except AirflowFailException as error:
            return error
        except Exception as error:
            result = error
    return result


class TestBadEnds:
    @pytest.mark.parametrize("fault", BAD_ENDS, ids=lambda fault: f"{fault.ends.name}-{fault.code}")
    @pytest.mark.parametrize("counts", [True, False])
    def test_a_retry_does_not_pay_completed_rows_again(
        self, vertex: Emulator, wait_args: dict[str, Any], ti: TaskInstance, fault: JobFault, counts: bool
    ) -> None:
        vertex.faults = FaultPlan(jobs=[replace(fault, after_rows=2, counts=counts)])
        end = tries(lambda: GeminiBatchSubmitOperator(**wait_args), ti)
        assert isinstance(end, AirflowFailException)
        assert isinstance(end.__cause__, JobEndedError)
        assert len(vertex.jobs) == 1
        (job,) = vertex.jobs
        if counts:
            assert "2 succeeded" in str(end)
        if counts or fault.code != 3 or fault.ends is not JobState.FAILED:
            how = (
                'set on_incomplete="continue" on the task',
                "in the DAG, then clear it and its downstream tasks",
                "To run all rows again, and pay for all of them again, give the submit task a new force_new",
            )
            for fact in (job["outputInfo"]["gcsOutputDirectory"], "charged", *how):
                assert fact in str(end)

    @pytest.mark.parametrize("fault", [BAD_ENDS[0], BAD_ENDS[-1]], ids=lambda fault: fault.ends.name)
    def test_completed_rows_are_landed_and_only_the_others_asked_again(
        self,
        vertex: Emulator,
        wait_args: dict[str, Any],
        ti: TaskInstance,
        fault: JobFault,
        regional: str,
        bigquery_client: bigquery.Client,
    ) -> None:
        vertex.faults = FaultPlan(jobs=[replace(fault, after_rows=2)])
        goes_on = {**wait_args, "on_incomplete": "continue"}
        name = tries(lambda: GeminiBatchSubmitOperator(**goes_on), ti)
        assert name == vertex.jobs[0]["name"]
        waited = GeminiBatchJobSensor(task_id="wait", job_name=name, on_incomplete="continue")
        assert waited.execute({"ti": ti})["completion_stats"]["successful"] == 2

        vertex.faults = FaultPlan()
        table = f"{regional}.results"
        land = GeminiBatchResultsToBigQueryOperator(task_id="land", job_name=name, destination_table=table)
        counts = land.execute({"ti": TaskInstance(task_id="land")})["counts"]
        assert (counts["succeeded"], counts["missing"]) == (2, 1)
        again = GeminiBatchRetryFailedOperator(
            task_id="retry", results_table=table, job_name=name, deferrable=False, poll_interval=0.05
        )
        assert again.execute({"ti": TaskInstance(task_id="retry")})["left"] == 0
        assert paid(vertex) == 3
        keys = sorted(row["key"] for row in bigquery_client.query_and_wait(f"SELECT key FROM `{table}`"))
        assert keys == ["row-0", "row-1", "row-2"]

    @pytest.mark.parametrize("fault", BAD_ENDS, ids=lambda fault: f"{fault.ends.name}-{fault.code}")
    def test_a_job_that_is_not_charged_is_made_again_if_that_can_help(
        self, vertex: Emulator, wait_args: dict[str, Any], ti: TaskInstance, fault: JobFault
    ) -> None:
        vertex.faults = FaultPlan(jobs=[replace(fault, nth=(1,), after_rows=0)])
        end = tries(lambda: GeminiBatchSubmitOperator(**wait_args), ti)
        is_passing = fault.ends is JobState.EXPIRED or (fault.code == 13 and fault.ends is JobState.FAILED)
        assert isinstance(end, str if is_passing else AirflowFailException)
        assert len(vertex.jobs) == 1 + is_passing
        assert paid(vertex) == 3 * is_passing

    def test_without_a_wait_the_ended_job_is_returned_and_the_sensor_decides(
        self, vertex: Emulator, submit_args: dict[str, Any], ti: TaskInstance
    ) -> None:
        vertex.faults = FaultPlan(jobs=[JobFault(ends=JobState.EXPIRED, after_rows=2)])
        first = GeminiBatchSubmitOperator(**submit_args).execute({"ti": ti})
        wait = GeminiBatchJobSensor(task_id="wait", job_name=first, deferrable=False, poke_interval=0.05)
        with pytest.raises(AirflowFailException, match="2 succeeded"):
            wait.execute({"ti": ti})
        ti.try_number = 2
        assert GeminiBatchSubmitOperator(**submit_args).execute({"ti": ti}) == first

    def test_a_cleared_task_creates_a_job_again_after_one_that_was_cancelled_before_it_began(
        self, vertex: Emulator, wait_args: dict[str, Any]
    ) -> None:
        vertex.faults = FaultPlan(jobs=[JobFault(nth=(1,), ends=JobState.CANCELLED, after_rows=0)])
        ti = TaskInstance()
        for _ in range(2):
            with pytest.raises(AirflowFailException, match="cancelled"):
                GeminiBatchSubmitOperator(**wait_args).execute({"ti": ti})
            ti.try_number += 1
        ti.clear()
        assert GeminiBatchSubmitOperator(**wait_args).execute({"ti": ti}) == vertex.jobs[1]["name"]


class TestInstallations:
    def test_each_has_a_job_of_its_own_and_leaves_the_others_alone(
        self,
        vertex: Emulator,
        submit_args: dict[str, Any],
        monkeypatch: pytest.MonkeyPatch,
        storage_client: storage.Client,
        bucket: str,
    ) -> None:
        slow = {**submit_args, "labels": {"emulator-pace": "reads-50"}}
        other = storage_client.bucket(bucket).blob("other.jsonl")
        other.upload_from_string(
            '{"key": "a", "request": {"contents": [{"role": "user", "parts": [{"text": "x"}]}]}}'
        )
        names = {}
        for number in (1, 2):
            for name in ("prod", "dev"):
                monkeypatch.setenv("AIRFLOW__GEMINI_BATCH__INSTALLATION", name)
                for uri in (slow["input_uri"], f"gs://{bucket}/other.jsonl"):
                    operator = GeminiBatchSubmitOperator(**{**slow, "input_uri": uri})
                    ti = TaskInstance(run_id=f"scheduled__{uri}", try_number=number)
                    names.setdefault((name, uri), set()).add(operator.execute({"ti": ti}))
        assert [len(each) for each in names.values()] == [1, 1, 1, 1]
        assert len(set.union(*names.values())) == 4
        assert {job["state"] for job in vertex.jobs} == {"JOB_STATE_PENDING"}

    def test_a_job_of_an_earlier_version_is_found_by_its_name(
        self, vertex: Emulator, submit_args: dict[str, Any], ti: TaskInstance
    ) -> None:
        spec = self.spec(submit_args)
        mark = Mark.legacy(ti.identity, spec)
        old = replace(
            spec,
            display_name=f"dag.submit [{mark.run}.{mark.asked}]",
            labels={"airflow-gemini-batch-run": mark.run, "airflow-gemini-batch-request": mark.asked},
        )
        name = str(GeminiBatchHook().create_job(old).name)
        ti.try_number = 2
        assert GeminiBatchSubmitOperator(**submit_args).execute({"ti": ti}) == name

    def test_a_job_whose_labels_are_lost_is_found_by_its_name(
        self, submit_args: dict[str, Any], ti: TaskInstance
    ) -> None:
        bare = replace(marked(self.spec(submit_args), ti.identity), labels={})
        name = str(GeminiBatchHook().create_job(bare).name)
        ti.try_number = 2
        assert GeminiBatchSubmitOperator(**submit_args).execute({"ti": ti}) == name

    def test_a_filter_that_is_refused_is_replaced_by_one_on_time(
        self, vertex: Emulator, submit_args: dict[str, Any], ti: TaskInstance
    ) -> None:
        name = GeminiBatchSubmitOperator(**submit_args).execute({"ti": ti})
        refuses = CallFault(route=Route.LIST, kind=CallFaultKind.STATUS, status=400, nth=(1,))
        vertex.faults = FaultPlan(calls=[refuses])
        assert GeminiBatchSubmitOperator(**submit_args).execute({"ti": ti}) == name
        filters = [r.query["filter"] for r in vertex.requests if r.faults]
        assert [each.partition(".")[0] for each in filters] == ["labels"]

    def test_only_documented_filters_are_sent(self, vertex: Emulator, submit_args: dict[str, Any]) -> None:
        for index in (-1, 4):
            for number in (1, 2):
                ti = TaskInstance(map_index=index, try_number=number, run_id=f"run {index} {number}")
                GeminiBatchSubmitOperator(**submit_args).execute({"ti": ti})
        filters = [r.query["filter"] for r in vertex.requests if "filter" in r.query]
        assert len(filters) > 10
        for each in filters:
            assert "-" not in each.partition("=")[0], each
            assert "*" not in each.replace('*"', ""), each

    @staticmethod
    def spec(submit_args: dict[str, Any]) -> JobSpec:
        values = {name: value for name, value in submit_args.items() if name != "task_id"}
        spec = job_spec(project="local-project", display_name="dag.submit", **values)
        return replace(spec, input=GeminiBatchHook().inspect_input(spec))


class TestThingsThatChange:
    @pytest.fixture
    def files(self, storage_client: storage.Client, bucket: str) -> dict[str, str]:
        line = '{"key": "%s", "request": {"contents": [{"role": "user", "parts": [{"text": "%s"}]}]}}'
        for name in "abcd":
            storage_client.bucket(bucket).blob(f"{name}.jsonl").upload_from_string(line % (name, name))
        return {name: f"gs://{bucket}/{name}.jsonl" for name in "abcd"}

    @pytest.mark.parametrize("pace", ["immediate", "reads-50"])
    @pytest.mark.parametrize("order", ["cab", "dabc", "aabc", "c", "abcabc"])
    def test_a_mapped_task_whose_list_has_changed_pays_only_for_what_is_new(
        self, vertex: Emulator, submit_args: dict[str, Any], files: dict[str, str], order: str, pace: str
    ) -> None:
        def run(names: str, *, cleared: bool = False) -> None:
            for index, name in enumerate(names):
                mapped = {**submit_args, "input_uri": files[name], "labels": {"emulator-pace": pace}}
                ti = TaskInstance(map_index=index)
                # An index that is new has its first try.
                if cleared and index < 3:
                    ti.clear()
                GeminiBatchSubmitOperator(**mapped).execute({"ti": ti})

        run("abc")
        run(order, cleared=True)
        inputs = [job["inputConfig"]["gcsSource"]["uris"][0] for job in vertex.jobs]
        assert sorted(inputs) == sorted(files[name] for name in set("abc" + order))
        assert not [job for job in vertex.jobs if "CANCEL" in job["state"]]

    def test_a_look_at_the_input_that_is_refused_says_nothing(
        self,
        vertex: Emulator,
        submit_args: dict[str, Any],
        ti: TaskInstance,
        stack: RunningStack,
        bucket: str,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        slow = {**submit_args, "labels": {"emulator-pace": "reads-50"}, "preflight": False}
        name = GeminiBatchSubmitOperator(**slow).execute({"ti": ti})
        ti.try_number = 2
        with Recorder(stack.addresses.storage_url, forbidden=f"/storage/v1/b/{bucket}/o") as refuses:
            monkeypatch.setenv("STORAGE_EMULATOR_HOST", refuses.url)
            assert GeminiBatchSubmitOperator(**slow).execute({"ti": ti}) == name
        # The service may not be able to read its input either, and fail.
        (job,) = vertex.jobs
        assert job["name"] == name
        assert "CANCEL" not in job["state"]

    def test_an_object_whose_metadata_changes_is_the_same_input(
        self, submit_args: dict[str, Any], ti: TaskInstance, storage_client: storage.Client, bucket: str
    ) -> None:
        slow = {**submit_args, "labels": {"emulator-pace": "reads-50"}}
        name = GeminiBatchSubmitOperator(**slow).execute({"ti": ti})
        blob = storage_client.bucket(bucket).blob("in/requests.jsonl")
        blob.metadata = {"owner": "search"}
        blob.patch()
        ti.try_number = 2
        assert GeminiBatchSubmitOperator(**slow).execute({"ti": ti}) == name

    @pytest.fixture
    def request_table(self, regional: str, bigquery_client: bigquery.Client) -> Callable[[str], str]:
        def write(text: str) -> str:
            request = json.dumps({"contents": [{"role": "user", "parts": [{"text": text}]}]})
            bigquery_client.query_and_wait(
                f"CREATE OR REPLACE TABLE `{regional}.requests` AS SELECT CONCAT('row-', CAST(n AS STRING)) "
                f"AS key, PARSE_JSON('{request}') AS request FROM UNNEST([1, 2]) AS n"
            )
            return f"bq://{regional}.requests"

        return write

    def test_a_table_that_is_written_again_is_compared_by_its_rows(
        self,
        vertex: Emulator,
        submit_args: dict[str, Any],
        ti: TaskInstance,
        request_table: Callable[[str], str],
        bigquery_client: bigquery.Client,
        regional: str,
    ) -> None:
        submit_args["input_uri"] = request_table("Hello")
        first = GeminiBatchSubmitOperator(**submit_args).execute({"ti": ti})
        ti.try_number = 2
        request_table("Hello")
        table = bigquery_client.get_table(f"{regional}.requests")
        table.description = "metadata moves the time of the last change"
        bigquery_client.update_table(table, ["description"])
        assert GeminiBatchSubmitOperator(**submit_args).execute({"ti": ti}) == first
        request_table("Howdy")  # Other prompts of the same size.
        with pytest.raises(AirflowFailException, match="clear this task"):
            GeminiBatchSubmitOperator(**submit_args).execute({"ti": ti})
        ti.clear()
        assert GeminiBatchSubmitOperator(**submit_args).execute({"ti": ti}) != first

    def test_a_table_that_cannot_be_told_apart_makes_the_task_red(
        self,
        vertex: Emulator,
        submit_args: dict[str, Any],
        ti: TaskInstance,
        request_table: Callable[[str], str],
        stack: RunningStack,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        submit_args["input_uri"] = request_table("Hello")
        first = GeminiBatchSubmitOperator(**submit_args).execute({"ti": ti})
        ti.try_number = 2
        queries = f"/bigquery/v2/projects/{stack.project}/jobs"
        with Recorder(stack.addresses.bigquery_url, forbidden=queries) as refuses:
            monkeypatch.setenv("BIGQUERY_EMULATOR_HOST", refuses.url)
            assert GeminiBatchSubmitOperator(**submit_args).execute({"ti": ti}) == first
            request_table("Howdy")
            with pytest.raises(AirflowFailException, match="cannot be compared") as caught:
                GeminiBatchSubmitOperator(**submit_args).execute({"ti": ti})
        assert isinstance(caught.value.__cause__, JobConflictError)
        assert len(vertex.jobs) == 1

    def test_two_jobs_do_not_share_an_output_table(
        self, vertex: Emulator, submit_args: dict[str, Any], regional: str
    ) -> None:
        submit_args["output_uri"] = f"bq://{regional}.output"
        first = GeminiBatchSubmitOperator(**submit_args).execute({"ti": TaskInstance(map_index=0)})
        assert GeminiBatchSubmitOperator(**submit_args).execute({"ti": TaskInstance(map_index=0)}) == first
        for ti in (TaskInstance(run_id="tomorrow"), TaskInstance(task_id="other", map_index=1)):
            with pytest.raises(AirflowFailException, match=first) as caught:
                GeminiBatchSubmitOperator(**submit_args).execute({"ti": ti})
            error = caught.value.__cause__
            assert isinstance(error, InvalidParameterError)
            assert error.parameter == "output_uri"
        assert len(vertex.jobs) == 1

    def test_an_output_table_that_exists_is_named(
        self,
        submit_args: dict[str, Any],
        ti: TaskInstance,
        regional: str,
        bigquery_client: bigquery.Client,
        capsys: pytest.CaptureFixture[str],
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        """The job that has written it may be in another location, where it is not looked up."""
        bigquery_client.query_and_wait(f"CREATE TABLE `{regional}.output` AS SELECT 1 AS key")
        submit_args["output_uri"] = f"bq://{regional}.output"
        GeminiBatchSubmitOperator(**submit_args).execute({"ti": ti})
        log = capsys.readouterr().out + caplog.text
        assert f"The output table exists already, with 1 row: {regional}.output" in log


class TestTwoTriesAtOnce:
    def run_both(self, vertex: Emulator, args: dict[str, Any], faults: list[CallFault]) -> list[Any]:
        """Start a first try, and a second one while the first is creating its job."""
        vertex.faults = FaultPlan(calls=faults)
        ends: list[Any] = [None, None]

        def attempt(number: int) -> None:
            try:
                ti = TaskInstance(try_number=number)
                ends[number - 1] = execute(GeminiBatchSubmitOperator(**args), {"ti": ti})
            except Exception as error:
                ends[number - 1] = error

        threads = [threading.Thread(target=attempt, args=(number,)) for number in (1, 2)]
        threads[0].start()
        creates = "/batchPredictionJobs"
        while threads[0].is_alive() and not any(r.path.endswith(creates) for r in vertex.requests):
            threading.Event().wait(0.02)
        threads[1].start()
        for thread in threads:
            thread.join()
        return ends

    @pytest.mark.parametrize("after", [False, True])
    def test_a_create_that_stalls_is_waited_for(
        self,
        vertex: Emulator,
        submit_args: dict[str, Any],
        monkeypatch: pytest.MonkeyPatch,
        after: bool,
    ) -> None:
        monkeypatch.setattr(submission, "RETRY_WAITS", (0.5,) * 6)
        stalls = CallFault(route=Route.CREATE, kind=CallFaultKind.STALL, seconds=1.5, after=after, nth=(1,))
        ends = self.run_both(vertex, submit_args, [stalls])
        assert ends == [vertex.jobs[0]["name"]] * 2
        assert len(vertex.jobs) == 1

    def test_if_both_create_one_the_later_one_is_cancelled(
        self, vertex: Emulator, submit_args: dict[str, Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(submission, "_STALLED", 0.5)
        slow = {**submit_args, "labels": {"emulator-pace": "reads-50"}}
        stalls = CallFault(route=Route.CREATE, kind=CallFaultKind.STALL, seconds=2, nth=(1,))
        ends = self.run_both(vertex, slow, [stalls])
        assert ends[0] == ends[1]
        running = [job["name"] for job in vertex.jobs if "CANCEL" not in job["state"]]
        assert running == [ends[0]]
        assert paid(vertex) == 0
