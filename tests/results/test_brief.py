"""A manifest in few words."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_gemini_batch.results.brief import brief, is_manifest, line

JOB = "projects/p/locations/global/batchPredictionJobs/1"
LANDED: dict[str, Any] = {
    "job_name": JOB,
    "state": "JOB_STATE_SUCCEEDED",
    "destination_table": "p.d.answers",
    "error_table": "p.d.answers_errors",
    "counts": {"succeeded": 1200, "failed": 3, "blocked": 0},
    "cost_usd": 1.25,
}
TOGETHER = {
    "destination_table": "p.d.answers",
    "error_table": "p.d.answers_errors",
    "counts": {"succeeded": 2},
    "cost_usd": None,
    "jobs": [{"job_name": f"{JOB}{n}"} for n in range(12)],
}
RETRIED = {
    "results_table": "p.d.answers",
    "error_table": "p.d.answers_errors",
    "counts": {"succeeded": 1},
    "rounds": [{"job_name": JOB}],
    "cost_usd": 0.5,
}


def test_a_landing() -> None:
    facts = brief(LANDED)
    assert facts == {
        "table": "p.d.answers",
        "jobs": 1,
        "job_name": JOB,
        "state": "JOB_STATE_SUCCEEDED",
        "rows": 1203,
        "rows_succeeded": 1200,
        "rows_failed": 3,
        "cost_usd": 1.25,
    }
    assert line(facts) == "1,203 rows in p.d.answers: 1,200 succeeded, 3 failed; about $1.25"


def test_jobs_that_were_landed_together() -> None:
    facts = brief(TOGETHER)
    assert facts["jobs"] == 12
    assert str(facts["job_name"]).split() == [f"{JOB}{n}" for n in range(10)]
    assert line(facts) == "2 rows in p.d.answers: 2 succeeded; cost unknown"


def test_retries() -> None:
    assert brief(RETRIED)["table"] == "p.d.answers"
    assert brief(RETRIED)["job_name"] == JOB
    assert brief({**RETRIED, "rounds": []})["jobs"] == 0


def test_a_manifest_whose_long_names_were_left_out() -> None:
    facts = brief({**LANDED, "destination_table": None, "counts": {}})
    assert line(facts) == "0 rows: none; about $1.25"


@pytest.mark.parametrize("manifest", [LANDED, TOGETHER, RETRIED])
def test_no_value_is_nested(manifest: dict[str, Any]) -> None:
    assert is_manifest(manifest)
    assert all(isinstance(value, (str, int, float)) for value in brief(manifest).values())


@pytest.mark.parametrize("value", [None, JOB, [], {"counts": 1}, {"counts": {}}])
def test_other_values_are_no_manifests(value: object) -> None:
    assert not is_manifest(value)
