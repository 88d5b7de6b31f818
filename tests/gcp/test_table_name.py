from __future__ import annotations

import pytest

from airflow_gemini_batch.exceptions import InvalidParameterError
from airflow_gemini_batch.gcp.table_name import TableName


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("my-project.data.rows", "my-project.data.rows"),
        ("data.rows", "home-project.data.rows"),
        ("bq://my-project.data.rows", "my-project.data.rows"),
        ("`my-project.data.rows`", "my-project.data.rows"),
        ("example.com:my-project.data.rows", "example.com:my-project.data.rows"),
        ("my-project.data.daily rows-2é", "my-project.data.daily rows-2é"),
    ],
)
def test_names_are_taken_apart(name: str, expected: str) -> None:
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
        7,
    ],
)
def test_what_is_no_table_is_refused_by_the_parameters_name(name: object) -> None:
    with pytest.raises(InvalidParameterError, match="error_table="):
        TableName.parse(name, "home-project", "error_table")  # type: ignore[arg-type]


def test_a_bare_name_needs_a_project() -> None:
    with pytest.raises(InvalidParameterError, match="project of the connection"):
        TableName.parse("data.rows")


def test_quoting() -> None:
    name = TableName("p-1", "data", "rows")
    assert name.quoted == "`p-1.data.rows`"
    assert name.sibling("other").dataset_id == name.dataset_id
