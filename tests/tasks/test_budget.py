"""What a job may cost is known before it costs anything."""

from __future__ import annotations

import json
import logging
import uuid
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_gemini_batch.exceptions import CostLimitError, InvalidParameterError
from airflow_gemini_batch.jobs.identity import ESTIMATE_LABEL
from airflow_gemini_batch.jobs.spec import MAX_OWN_LABELS
from airflow_gemini_batch.operators.gemini_batch import GeminiBatchSubmitOperator

if TYPE_CHECKING:
    from google.cloud import bigquery, storage

    from airflow_gemini_batch.emulator.server import Emulator

Context = Any
Args = dict[str, Any]
GROUNDED: Args = {
    "key": "k1",
    "request": {
        "contents": [{"role": "user", "parts": [{"text": "Who founded x? Search now."}]}],
        "tools": [{"googleSearch": {"excludeDomains": ["example.invalid"]}}],
        "generationConfig": {"maxOutputTokens": 200},
    },
}
PROMPT = "Name a river of this land. " * 20


def request(**config: Any) -> dict[str, Any]:
    contents = [{"role": "user", "parts": [{"text": PROMPT}]}]
    return {"contents": contents, "generationConfig": {"maxOutputTokens": 100, **config}}


@pytest.fixture
def args(submit_args: Args, storage_client: storage.Client) -> Args:
    """A thousand requests: by the service's count 135,000 tokens for 0.1013; their answers up to 0.45."""
    lines = "".join(json.dumps({"key": f"k{n}", "request": request()}) + "\n" for n in range(1_000))
    bucket, _, name = submit_args["input_uri"].removeprefix("gs://").partition("/")
    storage_client.bucket(bucket).blob(name).upload_from_string(lines)
    return submit_args


def counts(vertex: Emulator) -> int:
    return sum(each.path.endswith(":countTokens") for each in vertex.requests)


def test_a_job_within_the_limit_carries_its_estimate(vertex: Emulator, args: Args, context: Context) -> None:
    GeminiBatchSubmitOperator(**args, max_cost_usd=0.56).execute(context)
    (job,) = vertex.jobs
    # 135 tokens by the service's count, give or take 2 %.
    assert job["labels"][ESTIMATE_LABEL] == "99225-553275"
    assert counts(vertex) == 20


def test_a_job_beyond_the_limit_is_not_created(vertex: Emulator, args: Args, context: Context) -> None:
    with pytest.raises(
        AirflowFailException, match=r"\$0\.0992 to \$0\.5533, which is more than max_cost_usd=0\.54\."
    ) as error:
        GeminiBatchSubmitOperator(**args, max_cost_usd="0.54").execute(context)
    assert isinstance(error.value.__cause__, CostLimitError)
    assert error.value.__cause__.estimate.rows == 1_000
    assert "No batch job was created" in str(error.value)
    assert PROMPT.strip() not in str(error.value)
    assert not vertex.jobs


def test_a_retry_that_attaches_estimates_nothing(vertex: Emulator, args: Args, context: Context) -> None:
    """What is paid is paid: a limit that was lowered since does not matter to the job that is there."""
    GeminiBatchSubmitOperator(**args, max_cost_usd=1).execute(context)
    counted = counts(vertex)
    GeminiBatchSubmitOperator(**args, max_cost_usd=0.0001).execute(context)
    assert len(vertex.jobs) == 1
    assert counts(vertex) == counted


def test_what_the_service_does_not_count_is_reckoned(vertex: Emulator, args: Args, context: Context) -> None:
    """A model that the service does not have, so that counting is refused, as is the job in the end."""
    args["model"] = "gemini-2.5-flash-lite"
    with pytest.raises(AirflowFailException, match=r"Prompts are estimated at 2 to 6 bytes"):
        GeminiBatchSubmitOperator(**args, max_cost_usd=0.0001).execute(context)
    assert not vertex.jobs


def test_what_nobody_limits_is_refused_and_told_how(
    vertex: Emulator, submit_args: Args, context: Context
) -> None:
    with pytest.raises(AirflowFailException, match="maxOutputTokens is not set"):
        GeminiBatchSubmitOperator(**submit_args, max_cost_usd=100).execute(context)
    assert not vertex.jobs
    GeminiBatchSubmitOperator(**submit_args, max_cost_usd=100, estimated_output_tokens=500).execute(context)
    assert len(vertex.jobs) == 1


def test_a_model_without_a_price_needs_one(vertex: Emulator, args: Args, context: Context) -> None:
    args |= {"model": "projects/1/locations/us-central1/endpoints/42", "location": "us-central1"}
    with pytest.raises(AirflowFailException, match=r"cannot be estimated.*Set prices"):
        GeminiBatchSubmitOperator(**args, max_cost_usd=1).execute(context)
    assert not vertex.jobs


def test_negotiated_prices_hold(vertex: Emulator, args: Args, context: Context) -> None:
    prices = {"input": 0.015, "output": 0.125}
    GeminiBatchSubmitOperator(**args, max_cost_usd=0.0146, prices=prices).execute(context)
    assert vertex.jobs[0]["labels"][ESTIMATE_LABEL] == "1984-14566"


def test_without_a_limit_files_are_estimated_and_nothing_is_counted(
    vertex: Emulator, args: Args, context: Context, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger="airflow_gemini_batch"):
        GeminiBatchSubmitOperator(**args).execute(context)
    assert vertex.jobs[0]["labels"][ESTIMATE_LABEL] == "67500-652500"
    assert counts(vertex) == 0


def test_without_a_limit_and_without_a_check_nothing_is_read(
    vertex: Emulator, args: Args, context: Context
) -> None:
    GeminiBatchSubmitOperator(**args, preflight=False).execute(context)
    assert ESTIMATE_LABEL not in vertex.jobs[0]["labels"]


def test_a_job_with_all_labels_of_the_package_and_of_a_user_is_created(
    vertex: Emulator, args: Args, context: Context, dataset: str
) -> None:
    labels = {f"label{n}": "x" for n in range(MAX_OWN_LABELS)}
    args |= {"output_uri": f"bq://{dataset}.out", "labels": labels}
    context["ti"].map_index = 0
    GeminiBatchSubmitOperator(**args).execute(context)
    (job,) = vertex.jobs
    assert len(job["labels"]) == 64
    assert job["labels"].items() >= labels.items()
    assert ESTIMATE_LABEL in job["labels"]


def test_the_location_is_part_of_the_price(vertex: Emulator, args: Args, context: Context) -> None:
    """135 tokens by the service's count, 2 % more or less, at 0.125, and up to 100 at 0.75, times 1.1."""
    args |= {"model": "gemini-3.1-flash-lite", "location": "eu"}
    GeminiBatchSubmitOperator(**args, max_cost_usd=1).execute(context)
    assert vertex.jobs[0]["labels"][ESTIMATE_LABEL] == "18191-101434"
    GeminiBatchSubmitOperator(**args | {"location": "global"}, max_cost_usd=1).execute(context)
    assert vertex.jobs[1]["labels"][ESTIMATE_LABEL] == "16537-92213"


@pytest.fixture
def grounded(args: Args, storage_client: storage.Client) -> Args:
    """A thousand requests with a search tool: 1,000 to 5,000 queries for 14 to 70 US dollars."""
    bucket, _, name = args["input_uri"].removeprefix("gs://").partition("/")
    storage_client.bucket(bucket).blob(name).upload_from_string(f"{json.dumps(GROUNDED)}\n" * 1_000)
    return args | {"model": "gemini-3.1-flash-lite", "location": "global"}


def test_searches_count_against_the_limit(vertex: Emulator, grounded: Args, context: Context) -> None:
    with pytest.raises(
        AirflowFailException, match=r"search queries.* \$14\.00 to \$70\.00 of the cost"
    ) as error:
        GeminiBatchSubmitOperator(**grounded, max_cost_usd=2).execute(context)
    assert isinstance(error.value.__cause__, CostLimitError)
    assert not vertex.jobs
    GeminiBatchSubmitOperator(**grounded, max_cost_usd=2, prices={"free_searches": "5000"}).execute(context)
    assert len(vertex.jobs) == 1


def test_searches_of_a_table_count_against_the_limit(
    vertex: Emulator, grounded: Args, context: Context, bigquery_client: bigquery.Client
) -> None:
    uri = table_of(1_000, GROUNDED["request"], bigquery_client)
    grounded |= {"input_uri": uri, "location": "global"}
    with pytest.raises(AirflowFailException, match=r"search queries.* of the cost"):
        GeminiBatchSubmitOperator(**grounded, max_cost_usd=2).execute(context)
    assert not vertex.jobs


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ({"max_cost_usd": 0}, r"max_cost_usd=0: give US dollars"),
        ({"prices": {"input": 1}}, "output must be given"),
        ({"estimated_output_tokens": 0}, "estimated_output_tokens=0: give tokens"),
    ],
)
def test_values_are_checked_before_anything_is_asked(
    vertex: Emulator, args: Args, context: Context, given: Args, complaint: str
) -> None:
    with pytest.raises(AirflowFailException, match=complaint) as error:
        GeminiBatchSubmitOperator(**args, **given).execute(context)
    assert isinstance(error.value.__cause__, InvalidParameterError)
    assert not vertex.jobs
    assert not [each for each in vertex.requests if each.path != "/token"]


def table_of(rows: int, request: Args, bigquery_client: bigquery.Client) -> str:
    """Create a table of equal requests in a region, and return its URI."""
    from google.cloud import bigquery

    dataset = bigquery.Dataset(f"{bigquery_client.project}.budget_{uuid.uuid4().hex[:12]}")
    dataset.location = "us-central1"
    name = f"{bigquery_client.create_dataset(dataset).full_dataset_id}.input".replace(":", ".")
    columns = f"'k' || n AS key, PARSE_JSON('{json.dumps(request)}') AS request"
    numbers = f"UNNEST(GENERATE_ARRAY(1, {rows})) AS n"
    bigquery_client.query(f"CREATE TABLE `{name}` AS SELECT {columns} FROM {numbers}").result()
    return f"bq://{name}"


def test_a_table(vertex: Emulator, args: Args, context: Context, bigquery_client: bigquery.Client) -> None:
    args["input_uri"] = table_of(1_000, request(), bigquery_client)
    with pytest.raises(AirflowFailException, match=r"1,000 requests may cost"):
        GeminiBatchSubmitOperator(**args, max_cost_usd=0.54).execute(context)
    assert not vertex.jobs
    GeminiBatchSubmitOperator(**args, max_cost_usd=0.57).execute(context)
    assert len(vertex.jobs) == 1
