"""What the launcher changes of the BigQuery stand-in leaves the answers as they were."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from google.cloud import bigquery, storage

DOCUMENT = '{"text": "seven", "number": 7, "list": [1, {"x": null}], "null": null, "object": {"a b": true}}'
PATHS = (
    "$.text",
    "$.number",
    "$.list",
    "$.list[0]",
    "$.list[1].x",
    "$.null",
    "$.object",
    '$.object."a b"',
    "$.no",
)


def members(documents: str, bigquery_client: bigquery.Client, *, together: bool) -> list[list[object]]:
    """Every path by JSON_VALUE and JSON_QUERY: in one SELECT, which is read at once, or in one for each."""
    sources = [f"{function}(doc, '{path}')" for path in PATHS for function in ("JSON_VALUE", "JSON_QUERY")]
    texts = [f"TO_JSON_STRING({source})" if "QUERY" in source else source for source in sources]
    source = f"SELECT id, SAFE.PARSE_JSON(line) AS doc FROM ({documents})"
    queries = (
        [f"SELECT {', '.join(f'{text} AS c{n}' for n, text in enumerate(texts))} FROM ({source}) ORDER BY id"]
        if together
        else [f"SELECT {text} AS c FROM ({source}) ORDER BY id" for text in texts]
    )
    answers = [list(bigquery_client.query_and_wait(query)) for query in queries]
    return [[value for rows in answers for value in rows[row].values()] for row in range(len(answers[0]))]


def test_members_read_at_once_are_those_read_one_by_one(bigquery_client: bigquery.Client) -> None:
    lines = [DOCUMENT, "[1]", '"text"', "null", '{"text": ["a"], "list": {"x": 1}}', "{broken"]
    documents = " UNION ALL ".join(f"SELECT {n} AS id, r'''{line}''' AS line" for n, line in enumerate(lines))
    together = members(documents, bigquery_client, together=True)
    assert together == members(documents, bigquery_client, together=False)
    assert together[0][:4] == ["seven", '"seven"', "7", "7"]


@pytest.mark.parametrize(
    ("content", "lines"),
    [
        (b"a\nb\n", ["a", "b"]),
        (b"a\r\nb", ["a", "b"]),
        (b"\n\na", ["a"]),
        (b"\xff and \xe2\x80\xa8\n", ["\ufffd and \u2028"]),
        (b"", []),
        (b"\n\n", []),
        (b'"quoted", not\n', ['"quoted", not']),
        (b"a\n\n" + b"x" * (17 << 20) + b"\nb", ["a", "x" * (17 << 20), "b"]),
    ],
    ids=["plain", "mixed ends", "empty lines", "not UTF-8", "empty", "only ends", "quotes", "long"],
)
def test_lines_are_loaded_as_they_are(
    content: bytes,
    lines: list[str],
    bucket: str,
    dataset: str,
    storage_client: storage.Client,
    bigquery_client: bigquery.Client,
) -> None:
    storage_client.bucket(bucket).blob("a b/ü 1.jsonl").upload_from_string(content)
    load(f"gs://{bucket}/a b/*.jsonl", dataset, bigquery_client)
    assert [row.line for row in bigquery_client.list_rows(f"{dataset}.t")] == lines


def test_an_object_that_is_not_there_is_named(
    bucket: str, dataset: str, bigquery_client: bigquery.Client
) -> None:
    from google.api_core.exceptions import GoogleAPICallError

    with pytest.raises(GoogleAPICallError, match=r"nothing\.jsonl"):
        load(f"gs://{bucket}/nothing.jsonl", dataset, bigquery_client)


def test_tables_and_views_are_found_as_long_as_they_are_there(
    dataset: str, bigquery_client: bigquery.Client
) -> None:
    from google.api_core.exceptions import NotFound

    def there() -> dict[str, str]:
        return {each.table_id: each.table_type for each in bigquery_client.list_tables(dataset)}

    for number in (1, 2):
        bigquery_client.query_and_wait(f"CREATE TABLE {dataset}.t (n INT64 NOT NULL, r STRUCT<s STRING>)")
        bigquery_client.query_and_wait(f"CREATE VIEW {dataset}.v AS SELECT n FROM {dataset}.t")
        assert bigquery_client.get_table(f"{dataset}.t").num_rows == 0
        bigquery_client.query_and_wait(f"INSERT INTO {dataset}.t (n) SELECT {number}")
        table = bigquery_client.get_table(f"{dataset}.t")
        assert table.num_rows == 1
        assert [(field.name, field.mode) for field in table.schema] == [("n", "REQUIRED"), ("r", "NULLABLE")]
        assert there() == {"t": "TABLE", "v": "VIEW"}
        for kind, name in (("VIEW", "v"), ("TABLE", "t")):
            bigquery_client.query_and_wait(f"DROP {kind} {dataset}.{name}")
        assert there() == {}
        with pytest.raises(NotFound):
            bigquery_client.get_table(f"{dataset}.t")


def test_the_rows_of_a_query_are_found_by_its_job(bigquery_client: bigquery.Client) -> None:
    from google.api_core.exceptions import NotFound

    job = bigquery_client.query("SELECT * FROM UNNEST([1, 2, 3]) AS n")
    assert job.result().total_rows == 3
    assert job.destination
    assert bigquery_client.get_table(job.destination).num_rows == 3
    with pytest.raises(NotFound):
        bigquery_client.get_table(f"{job.destination}_no")


def load(uri: str, dataset: str, bigquery_client: bigquery.Client) -> None:
    from google.cloud.bigquery import LoadJobConfig, SchemaField

    config = LoadJobConfig(
        source_format="CSV",
        field_delimiter="\x01",
        quote_character="",
        schema=[SchemaField("line", "STRING")],
    )
    bigquery_client.load_table_from_uri(uri, f"{dataset}.t", job_config=config).result()
