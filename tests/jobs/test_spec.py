from __future__ import annotations

import pytest

from airflow_gemini_batch.exceptions import InvalidParameterError
from airflow_gemini_batch.jobs.spec import JobSpec, job_spec

GOOD = {
    "project": "p",
    "location": "us-central1",
    "model": "gemini-3.5-flash",
    "input_uri": "gs://bucket/in.jsonl",
    "output_uri": "gs://bucket/out",
}
TUNED = "projects/12/locations/us-central1/models/34"


def spec(**changes: object) -> JobSpec:
    return job_spec(**{**GOOD, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ("gemini-3.5-flash", "publishers/google/models/gemini-3.5-flash"),
        (
            "publishers/google/models/gemini-3.1-pro-preview",
            "publishers/google/models/gemini-3.1-pro-preview",
        ),
        ("publishers/meta/models/llama", "publishers/meta/models/llama"),
        ("projects/p/locations/l/publishers/google/models/g", "publishers/google/models/g"),
        (TUNED, TUNED),
        (TUNED.replace("models", "endpoints"), TUNED.replace("models", "endpoints")),
    ],
)
def test_a_model_is_sent_as_a_resource_name(given: str, sent: str) -> None:
    assert spec(model=given).model == sent


@pytest.mark.parametrize(
    ("uris", "sent"),
    [
        ("gs://bucket/a.jsonl", ("gs://bucket/a.jsonl",)),
        (["gs://bucket/a.jsonl", "gs://bucket/b*.jsonl"], ("gs://bucket/a.jsonl", "gs://bucket/b*.jsonl")),
        ("bq://p-1.d.t", ("bq://p-1.d.t",)),
    ],
)
def test_valid_inputs(uris: object, sent: tuple[str, ...]) -> None:
    assert spec(input_uri=uris).input_uris == sent


@pytest.mark.parametrize("model", ["gemini-embedding-001", "publishers/google/models/gemini-embedding-2"])
def test_jobs_of_embedding_models_read_no_tables(model: str) -> None:
    way_round = "BigQueryToGeminiBatchRequestsOperator and its `model` and `export_uri`; or .* EXPORT DATA"
    with pytest.raises(InvalidParameterError, match=f"input_uri='bq://p-1.d.t': .*{way_round}"):
        spec(model=model, input_uri="bq://p-1.d.t")
    assert spec(model=model).input_uris == ("gs://bucket/in.jsonl",)
    # Nothing is known of it, so nothing is refused.
    assert spec(model="gemini-embedding-9", input_uri="bq://p-1.d.t").input_table


@pytest.mark.parametrize(
    ("model", "replacement"),
    [
        ("text-embedding-004", "gemini-embedding-001"),
        ("publishers/google/models/text-embedding-005@default", "gemini-embedding-001"),
        ("textembedding-gecko", "gemini-embedding-001"),
        ("textembedding-gecko-multilingual@001", "gemini-embedding-001"),
        ("text-multilingual-embedding-002", "gemini-embedding-001"),
        ("multimodalembedding@001", "gemini-embedding-2 for media, or gemini-embedding-001 for text"),
    ],
)
def test_older_embedding_models_are_refused_by_name(model: str, replacement: str) -> None:
    with pytest.raises(InvalidParameterError, match=f"^model='{model}': .*; use {replacement}"):
        spec(model=model)
    spec(model=TUNED)
    spec(model="publishers/other/models/text-embedding-1")


@pytest.mark.parametrize("location", ["us-central1", "europe-west4", "global", "us", "me-central2"])
def test_valid_locations(location: str) -> None:
    assert spec(location=location).location == location


@pytest.mark.parametrize(
    ("parameter", "changes"),
    [
        ("location", {"location": None}),
        ("location", {"location": "US Central"}),
        ("location", {"location": "global", "model": TUNED}),
        ("location", {"location": "europe-west4", "model": TUNED}),
        ("model", {"model": ""}),
        ("model", {"model": "gemini 2.5"}),
        ("model", {"model": "projects/p/models/1"}),
        ("input_uri", {"input_uri": ""}),
        ("input_uri", {"input_uri": []}),
        ("input_uri", {"input_uri": "/tmp/in.jsonl"}),
        ("input_uri", {"input_uri": "s3://bucket/in.jsonl"}),
        ("input_uri", {"input_uri": "gs://bucket"}),
        ("input_uri", {"input_uri": "gs://bucket/folder/"}),
        ("input_uri", {"input_uri": "bq://d.t"}),
        ("input_uri", {"input_uri": ["bq://p.d.t", "bq://p.d.u"]}),
        ("input_uri", {"input_uri": ["gs://bucket/a", None]}),
        ("output_uri", {"output_uri": ""}),
        ("output_uri", {"output_uri": None}),
        ("output_uri", {"output_uri": "bucket/out"}),
        ("output_uri", {"output_uri": "bq://p"}),
        ("output_uri", {"output_uri": "gs://bucket/out*"}),
        ("output_uri", {"input_uri": "gs://bucket/*", "output_uri": "gs://bucket/out"}),
        ("output_uri", {"input_uri": "gs://bucket/a/*.jsonl", "output_uri": "gs://bucket/a/out/"}),
        ("output_uri", {"input_uri": "gs://bucket/a*/predictions.jsonl", "output_uri": "gs://bucket/a"}),
        ("output_uri", {"input_uri": ["gs://bucket/x", "gs://bucket/*-of-*"], "output_uri": "gs://bucket"}),
        ("output_uri", {"input_uri": "bq://p.d.t", "output_uri": "bq://p.d.t"}),
        ("display_name", {"display_name": "x" * 129}),
        ("labels", {"labels": {"Team": "a"}}),
        ("labels", {"labels": {f"k{n}": "v" for n in range(65)}}),
        ("labels", {"labels": {f"k{n}": "v" for n in range(56)}}),
        ("labels", {"labels": {"airflow_gemini_batch_dag": "etl"}}),
        ("labels", {"labels": {"airflow-gemini-batch-estimate": "1-2"}}),
        ("labels['team']", {"labels": {"team": "Data Eng"}}),
    ],
)
def test_an_error_about_an_invalid_value_names_the_parameter_and_the_fix(
    parameter: str, changes: dict[str, object]
) -> None:
    with pytest.raises(InvalidParameterError) as caught:
        spec(**changes)
    assert caught.value.parameter == parameter
    assert caught.value.fix
    assert str(caught.value).startswith(f"{parameter}=")


@pytest.mark.parametrize(
    ("input_uri", "output_uri"),
    [
        ("gs://bucket/in/*.jsonl", "gs://bucket/out"),
        ("gs://bucket/*.txt", "gs://bucket"),
        ("gs://bucket/*", "gs://another"),
        ("gs://bucket/*", "bq://p.d.t"),
        ("bq://p.d.t", "bq://p.d"),
        ("bq://p.d.t", "bq://p.d.u"),
    ],
)
def test_input_may_be_next_to_the_output(input_uri: str, output_uri: str) -> None:
    assert spec(input_uri=input_uri, output_uri=output_uri).output_uri == output_uri
