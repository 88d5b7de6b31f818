"""The emulator with the real google-genai client."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from google.cloud import bigquery, storage

    from airflow_gemini_batch.emulator.server import Emulator

REQUEST = {"contents": [{"role": "user", "parts": [{"text": "Say hello."}]}]}


def create(sdk: Any, src: Any, dest: str, model: str = "gemini-3.5-flash", **labels: str) -> Any:
    from google.genai import types

    options = types.HttpOptions(extra_body={"labels": labels}) if labels else None
    config = types.CreateBatchJobConfig(display_name="from the SDK", dest=dest, http_options=options)
    return sdk.batches.create(model=model, src=src, config=config)


def wait(sdk: Any, job: Any) -> Any:
    while job.state.name in ("JOB_STATE_PENDING", "JOB_STATE_RUNNING"):
        job = sdk.batches.get(name=job.name)
    return job


@pytest.mark.usefixtures("servers")
def test_objects_in_and_out(
    emulator: Emulator, sdk: Any, storage_client: storage.Client, bucket: str
) -> None:
    from google.genai import types

    uris = [f"gs://{bucket}/{name}.jsonl" for name in "ab"]
    for name in "ab":
        content = json.dumps({"key": name, "request": REQUEST})
        storage_client.bucket(bucket).blob(f"{name}.jsonl").upload_from_string(content)
    source = types.BatchJobSource(format="jsonl", gcs_uri=uris)
    job = wait(sdk, create(sdk, source, f"gs://{bucket}/out", team="red"))
    assert job.state.name == "JOB_STATE_SUCCEEDED"
    assert job.model == "publishers/google/models/gemini-3.5-flash"
    assert job.output_info.gcs_output_directory.startswith(f"gs://{bucket}/out/prediction-model-")
    sent = next(
        request for request in emulator.requests if request.method == "POST" and request.path != "/token"
    )
    assert sent.path.startswith("/v1beta1/")
    assert sent.body["labels"] == {"team": "red"}
    assert sent.body["inputConfig"]["gcsSource"]["uris"] == uris
    assert emulator.jobs[0]["completionStats"] == {"successfulCount": "2"}


@pytest.mark.usefixtures("servers")
def test_tables_in_and_out(sdk: Any, bigquery_client: bigquery.Client, dataset: str) -> None:
    query = f"CREATE TABLE `{dataset}.input` AS SELECT 'k' AS key, '{json.dumps(REQUEST)}' AS request"
    bigquery_client.query(query).result()
    job = wait(sdk, create(sdk, f"bq://{dataset}.input", f"bq://{dataset}.output"))
    assert job.state.name == "JOB_STATE_SUCCEEDED", job.error
    assert job.output_info.bigquery_output_table == "output"


def test_list_with_filter_and_pages(sdk: Any) -> None:
    for n in range(5):
        create(sdk, "gs://b/in", "gs://b/out", **{"emulator-pace": "reads-99", "n": str(n % 2)})
    everything = sdk.batches.list(config={"page_size": 2})
    assert len(list(everything)) == 5
    assert len(list(sdk.batches.list(config={"page_size": 1, "filter": "labels.n=0"}))) == 3
    found = sdk.batches.list(config={"filter": 'display_name="from the SDK" AND state="JOB_STATE_FAILED"'})
    assert list(found) == []


def test_cancel_and_delete(sdk: Any) -> None:
    from google.genai import errors

    job = create(sdk, "gs://b/in", "gs://b/out", **{"emulator-pace": "reads-1"})
    with pytest.raises(errors.ClientError, match="FAILED_PRECONDITION"):
        sdk.batches.delete(name=job.name)
    sdk.batches.cancel(name=job.name)
    states = [sdk.batches.get(name=job.name).state.name for _ in range(2)]
    assert states == ["JOB_STATE_CANCELLING", "JOB_STATE_CANCELLED"]
    assert sdk.batches.delete(name=job.name).done is True
    with pytest.raises(errors.ClientError, match="404 NOT_FOUND"):
        sdk.batches.get(name=job.name)


def test_errors_are_the_sdks_own(sdk: Any) -> None:
    from google.genai import errors

    with pytest.raises(errors.ClientError) as error:
        create(sdk, "gs://b/in", "gs://b/out", model="gemini-99")
    assert (error.value.code, error.value.status) == (404, "NOT_FOUND")
    with pytest.raises(errors.ClientError, match="Invalid label key"):
        create(sdk, "gs://b/in", "gs://b/out", **{"Not-A-Label": "x"})


@pytest.mark.filterwarnings("ignore:Inheritance class AiohttpClientSession:DeprecationWarning")
def test_the_asynchronous_client(sdk: Any) -> None:
    name = create(sdk, "gs://b/in", "gs://b/out", **{"emulator-pace": "reads-1"}).name

    async def read() -> list[str]:
        try:
            return [(await sdk.aio.batches.get(name=name)).state.name for _ in range(2)]
        finally:
            await sdk.aio.aclose()

    assert asyncio.run(read()) == ["JOB_STATE_PENDING", "JOB_STATE_RUNNING"]
