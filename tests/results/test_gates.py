"""Quality gates, and the size of the manifest. No service needed."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from airflow_gemini_batch.exceptions import InvalidParameterError, QualityGateError
from airflow_gemini_batch.results.cost import Tokens
from airflow_gemini_batch.results.gates import Gates
from airflow_gemini_batch.results.row_status import RowStatus
from airflow_gemini_batch.results.summary import WAYS, Manifest

NOW = datetime(2026, 11, 1, 23, 59, 59, 123456, UTC)


def manifest(succeeded: int = 0, invalid: int = 0, failed: int = 0, **names: str) -> Manifest:
    counts = dict.fromkeys(RowStatus, 0)
    counts |= {RowStatus.SUCCEEDED: succeeded, RowStatus.INVALID: invalid, RowStatus.FAILED: failed}
    rows = succeeded + invalid + failed
    given: dict[str, Any] = {
        "job_name": "projects/p/locations/us-central1/batchPredictionJobs/1",
        "destination_table": "p.d.answers",
        "error_table": "p.d.answers_errors",
        "output_location": "gs://bucket/out",
        **names,
    }
    return Manifest(
        state="JOB_STATE_SUCCEEDED",
        counts=counts,
        input_rows=rows,
        output_rows=rows,
        duplicates=0,
        unmatched=0,
        joined_by=dict.fromkeys(WAYS, rows),
        tokens=Tokens(rows, rows, rows, rows, rows),
        cost_usd=Decimal("0.5"),
        landed_at=NOW,
        create_time=NOW,
        start_time=NOW,
        end_time=NOW,
        **given,
    )


def test_default_gates_never_fail() -> None:
    for landed in (manifest(), manifest(failed=3), manifest(invalid=3)):
        Gates().check(landed)


@pytest.mark.parametrize(
    ("limit", "succeeded", "rows"), [(0.95, 95, 100), (0.1, 1, 10), (1, 7, 7), (0, 0, 5)]
)
def test_a_ratio_at_its_limit_passes(limit: float, succeeded: int, rows: int) -> None:
    Gates(min_success_ratio=limit).check(manifest(succeeded, failed=rows - succeeded))
    Gates(max_invalid_ratio=limit).check(manifest(rows - succeeded, invalid=succeeded))


def test_too_few_successes() -> None:
    landed = manifest(9_499_999, invalid=1, failed=500_000)
    with pytest.raises(QualityGateError) as caught:
        Gates(min_success_ratio=0.95).check(landed)
    error = caught.value
    assert (error.gate, error.limit, error.manifest) == ("min_success_ratio", 0.95, landed.to_dict())
    assert error.ratio == pytest.approx(0.95)
    assert error.ratio < 0.95
    message = str(error)
    assert "9,499,999 of 10,000,000 rows of projects/p/" in message
    assert (
        "landed in p.d.answers with their status: 9,499,999 succeeded, 500,000 failed, 1 invalid." in message
    )
    assert "The reasons are in p.d.answers_errors" in message
    assert message.endswith(
        "To accept the rows as they are, change min_success_ratio and clear this task: it finds the same "
        "rows, and costs nothing."
    )


def test_too_many_invalid_rows() -> None:
    Gates(max_invalid_ratio=0.25).check(manifest(3, invalid=1))
    with pytest.raises(
        QualityGateError, match=r"^2 of 4 rows .* a ratio of 0\.5, but max_invalid_ratio is 0\.25"
    ):
        Gates(max_invalid_ratio=0.25).check(manifest(2, invalid=2))


def test_no_rows_means_no_success() -> None:
    Gates(max_invalid_ratio=0).check(manifest())
    with pytest.raises(QualityGateError, match=r"^0 of 0 rows .* with their status: none"):
        Gates(min_success_ratio=0.01).check(manifest())


@pytest.mark.parametrize("value", [-0.1, 1.1, 95, math.nan, math.inf, "95%", "", "nan", True, None, [0.5]])
@pytest.mark.parametrize("parameter", ["min_success_ratio", "max_invalid_ratio"])
def test_a_value_that_is_not_a_ratio_is_refused(parameter: str, value: object) -> None:
    given: dict[str, object] = {"min_success_ratio": 0, "max_invalid_ratio": 1, parameter: value}
    with pytest.raises(InvalidParameterError, match=f"{parameter}=.*from 0 to 1") as caught:
        Gates.of(**given)
    assert caught.value.parameter == parameter


def test_text_rendered_from_a_template() -> None:
    assert Gates.of("0.9", " 1e-3 ") == Gates(0.9, 0.001)


PROJECT, ASCII, ACCENTED = "p" * 30, "a" * 1024, "é" * 512
JOB = f"projects/{PROJECT}/locations/northamerica-northeast1/batchPredictionJobs/{'9' * 19}"


@pytest.mark.parametrize(
    ("dataset", "table", "kept"),
    [
        ("d" * 60, "t" * 60, {"destination_table", "error_table", "output_location"}),
        (ASCII, ASCII, {"destination_table"}),
        (ASCII, ACCENTED, set()),
    ],
)
def test_a_manifest_has_at_most_4_kb(dataset: str, table: str, kept: set[str]) -> None:
    """However long the names are: those that do not fit are left out, the output location first."""
    facts = manifest(
        *(10**9, 10**9, 10**9),
        job_name=JOB,
        destination_table=f"{PROJECT}.{dataset}.{table}",
        error_table=f"{PROJECT}.{dataset}.{table}",
        output_location=f"gs://{'b' * 222}/{'o' * 1024}",
    ).to_dict()
    assert len(json.dumps(facts).encode()) <= 4096
    assert {name for name in ("destination_table", "error_table", "output_location") if facts[name]} == kept
    assert facts["job_name"] == JOB
    assert facts["counts"]["invalid"] == 10**9
