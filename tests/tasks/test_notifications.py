"""What callbacks are told, with Airflow's own notifiers."""

from __future__ import annotations

import json
from dataclasses import replace
from decimal import Decimal
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import DAG, AirflowFailException, BaseNotifier
from airflow.providers.smtp.notifications.smtp import SmtpNotifier
from airflow.utils.state import TaskInstanceState

from airflow_gemini_batch.batch_job import BatchJob, JobName, JobState
from airflow_gemini_batch.exceptions import (
    CostLimitError,
    GeminiBatchError,
    InvalidParameterError,
    JobEndedError,
    PollingError,
    QualityGateError,
)
from airflow_gemini_batch.notifications import GeminiBatchNotification, with_notification
from airflow_gemini_batch.tasks.wait import fail_without_retry
from tests.results.test_brief import JOB, LANDED
from tests.task_instance import TaskInstance

if TYPE_CHECKING:
    from collections.abc import Sequence

NAME = JobName.parse(JOB)
TASK = {"dag_id": "dag", "task_id": "land", "run_id": "run"}


class Ti(TaskInstance):
    """A task instance that has returned something."""

    def __init__(self, result: Any = None, **more: Any) -> None:
        state = more.pop("state", "success")
        super().__init__(task_id="land", **more)
        self.result, self.state = result, state

    def xcom_pull(self, task_ids: str, map_indexes: int | None = None) -> Any:
        assert task_ids == self.task_id
        assert map_indexes == (self.map_index if self.map_index >= 0 else None)
        if isinstance(self.result, Exception):
            raise self.result
        return self.result


def told(result: Any = None, error: object = None, **more: Any) -> GeminiBatchNotification:
    context = {"ti": Ti(result, **more), "dag": DAG("dag", schedule=None)}
    found = GeminiBatchNotification.of({**context, "exception": error} if error else context)
    assert json.loads(json.dumps(found.facts)) == found.facts
    assert "\n" not in found.text
    return found


def raised(error: GeminiBatchError) -> BaseException:
    """What a task raises."""
    with pytest.raises(AirflowFailException) as found, fail_without_retry(type(error)):
        raise error
    return found.value


def test_a_landing() -> None:
    found = told(LANDED)
    assert found.text == (
        "dag.land succeeded: 1,203 rows in p.d.answers: 1,200 succeeded, 3 failed; about $1.25"
    )
    assert found.facts["rows_failed"] == 3
    assert found.facts["job_name"] == JOB
    assert str(found.facts["console_url"]).startswith("https://console.cloud.google.com/")
    assert told(LANDED, map_index=2).facts["map_index"] == 2


@pytest.mark.parametrize("result", [JOB, {"job_name": JOB, "state": "JOB_STATE_SUCCEEDED"}])
def test_a_job(result: Any) -> None:
    assert told(result).text == f"dag.land succeeded: {JOB}"
    assert told(result).facts["job_name"] == JOB


@pytest.mark.parametrize("result", [None, "text", 7, {"text": "a prompt"}, RuntimeError("no database")])
def test_other_results_are_not_told(result: Any) -> None:
    assert told(result).text == "dag.land succeeded"
    assert told(result).facts == TASK


@pytest.mark.parametrize(
    ("state", "text"),
    [
        ("failed", "failed"),
        (TaskInstanceState.FAILED, "failed"),
        ("up_for_retry", "failed, and will be tried again"),
        ("skipped", "was skipped"),
        ("running", "is running"),
        (None, "has reported no result, as when its worker dies"),
    ],
)
def test_only_a_task_that_has_succeeded_is_said_to_have(state: object, text: str) -> None:
    assert told(LANDED, state=state).text == f"dag.land {text}; see the log of the task"


def test_the_callback_of_a_dag_is_about_the_dag() -> None:
    context = {"ti": Ti(LANDED), "dag": DAG("dag", schedule=None), "reason": "task_failure"}
    found = GeminiBatchNotification.of(context)
    assert found.text == "dag: task failure"
    assert "task_id" not in found.facts


class Unreadable(dict[str, Any]):
    """A context whose values cannot be had."""

    def get(self, key: str, default: Any = None) -> Any:
        raise RuntimeError("a prompt")


@pytest.mark.parametrize("context", [None, "x", [], 7, Unreadable()])
def test_no_context_makes_it_fail(context: Any) -> None:
    found = GeminiBatchNotification.of(context)
    assert "cannot be read" in found.text
    assert "a prompt" not in found.text


def test_all_notifiers_are_called_though_one_fails() -> None:
    def fails(context: Any) -> None:
        raise ValueError(context["gemini_batch"].text)

    seen: list[Any] = []
    with pytest.raises(ValueError, match="succeeded"):
        with_notification(fails, seen.append)({"ti": Ti(LANDED)})
    assert len(seen) == 1


@pytest.mark.parametrize("notifier", [None, "x", [print]])
def test_what_cannot_be_called_is_refused(notifier: Any) -> None:
    with pytest.raises(InvalidParameterError, match=r"notifiers\[0\]=.*give a notifier"):
        with_notification(notifier)


def test_a_job_that_failed() -> None:
    job = BatchJob(NAME, JobState.FAILED)
    found = told(error=raised(JobEndedError(job, "The job ended.")))
    assert found.text == "dag.land failed: The job ended."
    assert found.facts["error"] == "JobEndedError"
    assert found.facts["state"] == "JOB_STATE_FAILED"
    assert found.facts["job_name"] == JOB


def test_a_gate_that_was_missed_tells_what_was_landed() -> None:
    gate = QualityGateError("Too few.", gate="min_success_ratio", limit=0.9, ratio=0.5, manifest=LANDED)
    found = told(error=raised(gate))
    assert found.text == "dag.land failed: Too few."
    assert (found.facts["rows"], found.facts["cost_usd"]) == (1203, 1.25)


def test_a_job_that_would_cost_too_much() -> None:
    estimate: Any = SimpleNamespace(cost_usd="$40.00 to $55.00")
    found = told(error=CostLimitError(Decimal(20), estimate, "It may cost more."))
    assert (found.facts["limit_usd"], found.facts["estimated_cost"]) == (20.0, "$40.00 to $55.00")


def test_a_job_that_cannot_be_read() -> None:
    found = told(error=PollingError(JOB, "gone", is_transient=False))
    assert found.facts["job_name"] == JOB


@pytest.mark.parametrize("error", [ValueError("a prompt"), AirflowFailException("a prompt"), "a prompt"])
def test_the_text_of_other_errors_is_not_told(error: object) -> None:
    found = told(error=error)
    assert found.text == f"dag.land failed: {type(error).__name__}; see the log of the task"
    assert "a prompt" not in str(found)


def test_a_callback_of_a_dag_has_no_task() -> None:
    run = SimpleNamespace(dag_id="dag", run_id="run")
    found = GeminiBatchNotification.of({"dag_run": run, "exception": ValueError()})
    assert found.text == "dag failed: ValueError; see the log of the task"


class Slack(BaseNotifier):
    """Renders and keeps what Slack's notifier would send."""

    template_fields: Sequence[str] = ("text", "blocks")

    def __init__(self, text: str, blocks: Any = None) -> None:
        super().__init__()
        self.text, self.blocks = text, blocks
        self.sent: list[tuple[str, Any]] = []

    def notify(self, context: Any) -> None:
        self.sent.append((self.text, self.blocks))


def test_templates_of_notifiers_can_use_it() -> None:
    blocks = [{"type": "section", "text": "{{ gemini_batch.facts.cost_usd }} US dollars"}]
    slack = Slack("{{ gemini_batch.text }}", blocks)
    seen: list[Any] = []
    context = {"ti": Ti(LANDED), "dag": DAG("dag", schedule=None)}
    with_notification(slack, seen.append)(context)
    assert slack.sent == [(told(LANDED).text, [{"type": "section", "text": "1.25 US dollars"}])]
    assert seen[0]["gemini_batch"] == told(LANDED)
    assert "gemini_batch" not in context


def test_mail_is_rendered(monkeypatch: pytest.MonkeyPatch) -> None:
    mail = SmtpNotifier(
        to="me@example.com", subject="{{ gemini_batch.text }}", html_content="see {{ ti.task_id }}"
    )
    monkeypatch.setattr(SmtpNotifier, "notify", lambda self, context: None)
    error = JobEndedError(replace(BatchJob(NAME, JobState.EXPIRED)), "The job expired.")
    with_notification(mail)({"ti": Ti(), "dag": DAG("dag", schedule=None), "exception": error})
    assert mail.subject == "dag.land failed: The job expired."
    assert mail.html_content == "see land"
