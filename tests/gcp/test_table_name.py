from __future__ import annotations

import pytest

from airflow_gemini_batch.exceptions import InvalidParameterError
from airflow_gemini_batch.gcp.table_name import TableName, check_region, is_dataset_uri, is_same_location
from airflow_gemini_batch.jobs.spec import job_spec


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("my-project.data.rows", "my-project.data.rows"),
        ("data.rows", "home-project.data.rows"),
        ("bq://my-project.data.rows", "my-project.data.rows"),
        ("`my-project.data.rows`", "my-project.data.rows"),
        ("example.com:my-project.data.rows", "example.com:my-project.data.rows"),
        ("123456789.data.rows", "123456789.data.rows"),
        ("my-project.data.daily rows-2é", "my-project.data.daily rows-2é"),
        ("my-project.data.पंक्तियाँ", "my-project.data.पंक्तियाँ"),
    ],
)
def test_names_are_parsed(name: str, expected: str) -> None:
    assert str(TableName.parse(name, "home-project")) == expected


@pytest.mark.parametrize(
    "name",
    [
        "rows",
        "",
        "a.b.c.d e",
        "p-1.data-set.rows",
        "my-project.data.rows$20260101",
        "my-project.data.a`b;c",
        "my-project.data.a\nb",
        "my-project.data.rows ",
        "my-project.data. rows",
        f"my-project.data.{'é' * 513}",
        7,
    ],
)
def test_an_invalid_name_is_refused_under_its_parameter(name: object) -> None:
    with pytest.raises(InvalidParameterError, match="error_table="):
        TableName.parse(name, "home-project", "error_table")  # type: ignore[arg-type]


def test_a_name_without_project_needs_a_default() -> None:
    with pytest.raises(InvalidParameterError, match=r"give 'project\.dataset\.table'$"):
        TableName.parse("data.rows")


class TestAsInputAndOutput:
    """A job's input and output accept the same names as every other table parameter."""

    @pytest.mark.parametrize("name", ["p.d.t", "p.d.my table", "p.d.tägliche-zeilen", "example.com:p.d.t"])
    def test_valid(self, name: str) -> None:
        spec = job_spec(
            project="p",
            location="us-central1",
            model="m",
            input_uri=f"bq://{name}",
            output_uri=f"bq://{name}_out",
        )
        assert spec.input_uris == (f"bq://{name}",)
        assert spec.output_uri == f"bq://{name}_out"
        assert str(TableName.parse(name)) == name

    @pytest.mark.parametrize("name", ["p.d.t$20260101", "p.d-1.t", "p.d.a;b", "P.d.t"])
    @pytest.mark.parametrize("parameter", ["input_uri", "output_uri"])
    def test_invalid(self, name: str, parameter: str) -> None:
        uris = {
            "input_uri": "gs://bucket/in.jsonl",
            "output_uri": "gs://bucket/out",
            parameter: f"bq://{name}",
        }
        with pytest.raises(InvalidParameterError, match=f"{parameter}="):
            job_spec(project="p", location="us-central1", model="m", **uris)
        with pytest.raises(InvalidParameterError):
            TableName.parse(name)

    def test_a_partition_is_refused_with_the_name_to_give(self) -> None:
        with pytest.raises(InvalidParameterError, match=r"input_uri=.*remove .*'\$20260101'.*'t'"):
            job_spec(
                project="p",
                location="us-central1",
                model="m",
                input_uri="bq://p.d.t$20260101",
                output_uri="gs://bucket/out",
            )

    @pytest.mark.parametrize(
        ("uri", "expected"),
        [("bq://p.d", True), ("bq://p.d.t", False), ("bq://p", False), ("p.d", False), ("bq://p.d-1", False)],
    )
    def test_datasets(self, uri: str, expected: bool) -> None:
        assert is_dataset_uri(uri) is expected


def test_locations_are_compared_whatever_their_case() -> None:
    assert is_same_location("us-central1", "US-CENTRAL1")
    assert not is_same_location("US", "us-central1")


def test_quoting() -> None:
    name = TableName("p-1", "data", "rows")
    assert name.quoted == "`p-1.data.rows`"
    assert name.sibling("other").dataset_id == name.dataset_id


@pytest.mark.parametrize("region", [None, "us-central1", "US-CENTRAL1"])
def test_an_input_table_in_the_jobs_region_is_accepted(region: str | None) -> None:
    check_region("bq://p.d.t", region, "us-central1")


def test_the_global_endpoint_accepts_tables_in_any_region() -> None:
    check_region("bq://p.d.t", "europe-west4", "global")


@pytest.mark.parametrize(("region", "place"), [("us-central1", "us"), ("EUROPE-WEST4", "eu")])
def test_a_region_inside_the_jobs_multi_region_is_accepted_with_a_warning(
    region: str, place: str, caplog: pytest.LogCaptureFixture
) -> None:
    check_region("bq://p.d.t", region, place)
    assert "can read it. If the job fails, use location='global'" in caplog.text
    assert repr(place) in caplog.text


@pytest.mark.parametrize(
    ("region", "place"), [("europe-west4", "us"), ("us-central1", "eu"), ("europe-west2", "eu"), ("EU", "eu")]
)
def test_a_region_outside_the_jobs_multi_region_is_refused(region: str, place: str) -> None:
    with pytest.raises(InvalidParameterError):
        check_region("bq://p.d.t", region, place)


@pytest.mark.parametrize(("region", "parameter"), [("US", "input_uri"), ("europe-west4", "location")])
def test_an_input_table_in_another_region_is_rejected(region: str, parameter: str) -> None:
    with pytest.raises(InvalidParameterError) as caught:
        check_region("bq://p.d.t", region, "us-central1")
    assert caught.value.parameter == parameter


@pytest.mark.parametrize(
    ("region", "place", "example"),
    [
        ("US", "global", "us-central1"),
        ("EU", "global", "europe-west4"),
        ("EU", "eu", "europe-west4"),
        ("US", "us-east5", "us-east5"),
    ],
)
def test_a_table_in_a_multi_region_is_refused_with_a_region_to_use(
    region: str, place: str, example: str
) -> None:
    with pytest.raises(InvalidParameterError, match=f"in a single region such as '{example}'"):
        check_region("bq://p.d.t", region, place)
