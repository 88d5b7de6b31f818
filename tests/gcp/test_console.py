from __future__ import annotations

import pytest

from airflow_gemini_batch.batch_job import JobName
from airflow_gemini_batch.gcp.console import job_page, place_page, table_page
from airflow_gemini_batch.gcp.table_name import TableName
from airflow_gemini_batch.service import CONSOLE


def test_a_job() -> None:
    name = JobName("my-project", "us-central1", "12")
    assert job_page(name) == (
        f"{CONSOLE}agent-platform/locations/us-central1/batch-predictions/12?project=my-project"
    )


def test_a_table() -> None:
    page = f"{CONSOLE}bigquery?project=p&p=p&d=d&t=my%20t%26x%3D1&page=table"
    assert table_page(TableName("p", "d", "my t&x=1")) == page


FOLDER = f"{CONSOLE}storage/browser/bkt"


@pytest.mark.parametrize(
    ("uri", "page"),
    [
        ("gs://bkt", f"{FOLDER}/?project=p"),
        ("gs://bkt/out", f"{FOLDER}/out/?project=p"),
        ("gs://bkt/out/", f"{FOLDER}/out/?project=p"),
        (
            "gs://bkt/out/prediction-model-2026-11-28T10:00:00.123456Z",
            f"{FOLDER}/out/prediction-model-2026-11-28T10%3A00%3A00.123456Z/?project=p",
        ),
        ("gs://bkt/my v1.2/", f"{FOLDER}/my%20v1.2/?project=p"),
        ("gs://bkt/r/12.html", f"{CONSOLE}storage/browser/_details/bkt/r/12.html?project=p"),
        ("gs://bkt/r?x#y.html", f"{CONSOLE}storage/browser/_details/bkt/r%3Fx%23y.html?project=p"),
        ("bq://p.d.t", f"{CONSOLE}bigquery?project=p&p=p&d=d&t=t&page=table"),
        ("bq://p.d", f"{CONSOLE}bigquery?project=p&p=p&d=d&page=dataset"),
        ("bq://x.p.d.$", ""),
        ("bq://p", ""),
        ("javascript:alert(1)", ""),
        ("", ""),
        (None, ""),
    ],
)
def test_a_place(uri: str | None, page: str) -> None:
    assert place_page(uri, "p") == page
