"""BigQuery's messages say what is wrong, and never what is in a row."""

from __future__ import annotations

import json
import traceback
from typing import Any

import pytest
import requests
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_gemini_batch.cost.sample import sample_table
from airflow_gemini_batch.exceptions import BigQueryError, LandingError
from airflow_gemini_batch.gcp import bigquery_job
from airflow_gemini_batch.gcp.bigquery_message import explain, shown
from airflow_gemini_batch.tasks.wait import fail_without_retry

KEPT = [
    "Not found: Table my-project:my_dataset.answers was not found in location us-central1",
    "Not found: Dataset my-project:my_dataset was not found in location EU",
    "Access Denied: Table p-1:d.t: User does not have permission to query table p-1:d.t, or perhaps it does "
    "not exist in location US.",
    "Access Denied: Table p-1:d.t: Permission bigquery.tables.getData denied on table p-1:d.t (or it may not "
    "exist).",
    "Access Denied: Project p-1: User does not have bigquery.jobs.create permission in project p-1.",
    "Unrecognized name: promt at [3:8]",
    "Transaction is aborted due to concurrent update against table p:d.t. Transaction ID: 1",
    "Provided Schema does not match Table p:d.t. Field cost has changed type from STRING to NUMERIC",
    "Array index 5 is out of bounds",
    "Table p.d.t_landing_lock has lost its row. Drop the table; the next landing creates it again.",
]
# From published reports. Each of these values came from a row; where BigQuery quotes it, and where not.
WITH_VALUES = [
    "{}",
    "{} at [1:8]",
    "Query error: {} at [4:2]",
    "400 POST https://bigquery.googleapis.com/bigquery/v2/projects/p/jobs: {}",
    "Bad int64 value: {}",
    "Invalid NUMERIC value: {}; at row 1",
    'Could not cast literal "{}" to type INT64 at [1:13]',
    "Could not cast literal {} to type INT64",
    "Could not convert value '{}' to integer. Field: stars; Value: {}",
    'Failed to parse input string "{}"',
    "Cannot parse regular expression: missing ): ({}",
    "Invalid timestamp: '{}'",
    "Invalid JSON: syntax error while parsing value - invalid literal; last read: '{}'",
    "Division by zero: {} / 0",
    "int64 overflow: {} + 1",
    "Syntax error: Unexpected identifier {} at [1:1]",
    "No matching signature for function LENGTH for argument types: INT64. {}",
    "Not found: Table {}",
    "Not found: URI gs://bucket/{}",
    "Error while reading data, error message: JSON parsing error in row starting at position 0: {}",
    "Error while reading data, error message: JSON table encountered too many errors, giving up. Rows: 1; "
    "errors: 1. {}",
    "Resources exceeded during query execution: {}",
    "Array index {} is out of bounds",
]


@pytest.mark.parametrize("message", KEPT)
def test_names_and_advice_are_kept(message: str) -> None:
    assert shown(message) == message


def test_the_wording_before_a_value_is_kept() -> None:
    assert explain("invalidQuery", "Bad int64 value: zebra") == "invalidQuery: Bad int64 value: …"
    hidden = explain("invalidQuery", "zebra stripes")
    assert hidden.startswith("invalidQuery: ")
    assert "may quote rows" in hidden


@pytest.mark.parametrize("message", WITH_VALUES)
@settings(max_examples=20)
@given(before=st.text(max_size=80), after=st.text(max_size=80))
def test_no_text_of_a_row_is_shown(message: str, before: str, after: str) -> None:
    assert "zebra" not in explain("invalidQuery", message.replace("{}", f"{before} zebra stripes {after}"))
    assert "zebra" not in explain("invalidQuery", message.replace("{}", "zebra"))


class Refused:
    """A failed BigQuery job whose message is a prompt."""

    job_id = "stem-1"
    error_result = {"reason": "invalidQuery", "message": "my zebra is ill"}  # noqa: RUF012

    def done(self) -> bool:
        return True


def test_the_error_of_a_job_shows_its_reason_and_not_its_message() -> None:
    class Jobs:
        def get_job(self, job_id: str, location: str | None) -> Any:
            from google.api_core.exceptions import NotFound

            raise NotFound(job_id)

    step = bigquery_job.Step[Any]("stem", lambda _: Refused(), lambda _: True)
    with pytest.raises(LandingError, match="stem-1 failed, nothing was landed: invalidQuery") as caught:
        bigquery_job.run(Jobs(), None, [step])  # type: ignore[arg-type]
    assert "zebra" not in "".join(traceback.format_exception(caught.value))


class Wire(requests.Session):
    """BigQuery refuses every request with a message that is a prompt."""

    is_mtls = False

    def request(self, *_: Any, **__: Any) -> requests.Response:  # type: ignore[override]
        error = {"message": "my zebra is ill", "reason": "invalidQuery"}
        answer = requests.Response()
        answer.status_code = 400
        answer.headers["Content-Type"] = "application/json"
        answer.request = requests.Request("POST", "https://bigquery.googleapis.com/").prepare()
        answer._content = json.dumps({"error": {"code": 400, **error, "errors": [error]}}).encode()
        return answer


@pytest.fixture
def client() -> Any:
    from google.auth.credentials import AnonymousCredentials
    from google.cloud import bigquery

    return bigquery.Client("p", AnonymousCredentials(), _http=Wire())  # type: ignore[no-untyped-call]


def test_the_error_of_a_request_is_shown_in_the_same_way_wherever_it_comes_from(client: Any) -> None:
    with pytest.raises(BigQueryError, match="400 invalidQuery") as caught, fail_without_retry():
        sample_table("p.d.t", "JSON", "us-central1", client)
    told = "".join(traceback.format_exception(caught.value))
    assert "zebra" not in told
    assert "sample_table" in told


def test_errors_of_the_users_own_function_are_left_alone(client: Any) -> None:
    with pytest.raises(Exception, match="my zebra is ill"), fail_without_retry():
        client.query("SELECT 1")
