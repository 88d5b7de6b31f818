"""``task_state_store`` saves a look-up, and is never relied on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_gemini_batch.operators.gemini_batch import GeminiBatchSubmitOperator
from tests.task_instance import execute

if TYPE_CHECKING:
    from airflow_gemini_batch.emulator.server import Emulator

Context = Any


class Store(dict[str, Any]):
    def set(self, key: str, value: Any) -> None:
        self[key] = value


@pytest.fixture
def context(context: Context) -> Context:
    return {**context, "task_state_store": Store()}


def lists(vertex: Emulator) -> int:
    return len([r for r in vertex.requests if r.method == "GET" and r.path.endswith("/batchPredictionJobs")])


def test_a_retry_that_remembers_its_job_does_not_look_it_up(
    vertex: Emulator, submit_args: dict[str, Any], context: Context
) -> None:
    first = GeminiBatchSubmitOperator(**submit_args).execute(context)
    assert context["task_state_store"] == {"gemini_batch_job": first}
    looked_up = lists(vertex)
    assert GeminiBatchSubmitOperator(**submit_args).execute(context) == first
    assert lists(vertex) == looked_up


@pytest.mark.parametrize(
    "note", ["gibberish", "projects/local-project/locations/global/batchPredictionJobs/404", 7, None]
)
def test_a_note_that_leads_nowhere_is_noticed(
    vertex: Emulator, submit_args: dict[str, Any], context: Context, note: Any
) -> None:
    first = GeminiBatchSubmitOperator(**submit_args).execute(context)
    context["task_state_store"]["gemini_batch_job"] = note
    assert GeminiBatchSubmitOperator(**submit_args).execute(context) == first
    assert len(vertex.jobs) == 1
    assert context["task_state_store"]["gemini_batch_job"] == first


def test_a_note_of_another_runs_job_is_noticed(
    vertex: Emulator, submit_args: dict[str, Any], context: Context, ti: Any
) -> None:
    theirs = GeminiBatchSubmitOperator(**submit_args).execute(context)
    ti.run_id = "another"
    mine = GeminiBatchSubmitOperator(**submit_args).execute(context)
    assert mine != theirs
    assert len(vertex.jobs) == 2


def test_a_note_of_a_job_for_a_changed_request_is_noticed(
    submit_args: dict[str, Any], context: Context
) -> None:
    first = GeminiBatchSubmitOperator(**submit_args).execute(context)
    changed = {**submit_args, "model": "gemini-3.1-pro-preview"}
    assert GeminiBatchSubmitOperator(**changed).execute(context) != first


@pytest.mark.parametrize("change", [{"location": "europe-west3"}, {"project_id": "another-project"}])
def test_a_retry_does_not_pay_again_elsewhere(
    vertex: Emulator, submit_args: dict[str, Any], context: Context, ti: Any, change: dict[str, str]
) -> None:
    """The look-up searches one project and location; the note leads to the job in another."""
    first = GeminiBatchSubmitOperator(**submit_args, wait_for_completion=True, deferrable=False).execute(
        context
    )
    ti.try_number, ti.max_tries = 2, 3
    with pytest.raises(AirflowFailException, match=f"{first}.*clear this task"):
        execute(GeminiBatchSubmitOperator(**{**submit_args, **change}, retries=3), context)
    assert len(vertex.jobs) == 1
