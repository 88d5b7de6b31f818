from __future__ import annotations

import pytest

from airflow_gemini_batch.emulator.protocol.schema import Discovery
from airflow_gemini_batch.results.row_status import FINISH_REASONS, RowStatus, status_of


@pytest.mark.parametrize("version", ["v1", "v1beta1"])
def test_every_finish_reason_of_the_api_is_classified_once(version: str) -> None:
    discovery = Discovery.load("aiplatform", version)
    candidate = discovery.schema(discovery.schema_named("Candidate"))
    known = sorted(reason for reasons in FINISH_REASONS.values() for reason in reasons)
    assert known == sorted(candidate["properties"]["finishReason"]["enum"])


def test_an_unknown_finish_reason_is_a_failure() -> None:
    assert status_of("STOP") is RowStatus.SUCCEEDED
    assert status_of("SOMETHING_NEW") is RowStatus.FAILED
