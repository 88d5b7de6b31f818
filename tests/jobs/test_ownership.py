from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from airflow_gemini_batch.batch_job import BatchJob, JobName, JobState
from airflow_gemini_batch.emulator.list_filter import compile_filter
from airflow_gemini_batch.exceptions import DeletionRefusedError, OtherInstallationError
from airflow_gemini_batch.jobs.identity import INSTALLATION_LABEL, RUN_LABEL, label_value
from airflow_gemini_batch.jobs.listing import jobs_filter
from airflow_gemini_batch.jobs.ownership import check_deletable, check_ours, ended_at, is_old, is_ours

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)
MONTH = timedelta(days=30)
JOB = BatchJob(
    JobName("p", "global", "12"),
    JobState.SUCCEEDED,
    end_time=NOW - timedelta(days=29),
    labels={INSTALLATION_LABEL: label_value("Production")},
)


def test_a_job_belongs_to_the_installation_on_its_label() -> None:
    assert is_ours(JOB, "Production")
    assert not is_ours(JOB, "production")
    assert not is_ours(JOB, "")
    assert not is_ours(replace(JOB, labels={INSTALLATION_LABEL: ""}), "")
    check_ours(JOB, "Production")
    with pytest.raises(OtherInstallationError) as refused:
        check_ours(JOB, "test")
    assert refused.value.job is JOB
    assert "any_installation=True" in str(refused.value)


def test_a_job_is_old_when_it_ended_long_ago() -> None:
    with pytest.raises(DeletionRefusedError, match="it ended 29 d ago"):
        check_deletable(JOB, MONTH, NOW)
    later = NOW + timedelta(days=1)
    check_deletable(JOB, MONTH, later)
    assert (is_old(JOB, MONTH, NOW), is_old(JOB, MONTH, later)) == (False, True)


def test_an_expired_job_may_have_no_end() -> None:
    created = NOW - timedelta(days=40)
    expired = replace(JOB, state=JobState.EXPIRED, end_time=None, create_time=created)
    assert ended_at(expired) == created
    assert ended_at(replace(expired, update_time=NOW)) == NOW
    unknown = replace(expired, create_time=None)
    assert not is_old(unknown, timedelta(0), NOW)
    with pytest.raises(DeletionRefusedError, match="it is not known when it ended"):
        check_deletable(unknown, timedelta(0), NOW)


@pytest.mark.parametrize("state", [state for state in JobState if not state.is_terminal])
def test_a_job_that_has_not_ended_is_kept(state: JobState) -> None:
    assert not is_old(replace(JOB, state=state), timedelta(0), NOW)
    with pytest.raises(DeletionRefusedError, match="it has not ended"):
        check_deletable(replace(JOB, state=state), timedelta(0), NOW)


def test_the_filter_finds_the_jobs_of_an_installation() -> None:
    matches = compile_filter(jobs_filter("Production", since=NOW, before=NOW + MONTH))

    def job(installation: str, created: datetime) -> dict[str, object]:
        labels = {RUN_LABEL: "a", INSTALLATION_LABEL: label_value(installation)}
        return {"labels": labels, "createTime": created.isoformat().replace("+00:00", "Z")}

    assert matches(job("Production", NOW))
    assert not matches(job("production", NOW))
    assert not matches(job("Production", NOW - timedelta(seconds=1)))
    assert not matches(job("Production", NOW + MONTH + timedelta(seconds=1)))
    assert compile_filter(jobs_filter(None))(job("production", NOW))
    assert not compile_filter(jobs_filter(None))({"labels": {}})
