"""What the launcher changes in the BigQuery emulator: loads of raw lines, lookups, and translations."""

from __future__ import annotations

import subprocess
import textwrap
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import date
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from airflow_gemini_batch.local_stack.stack import LocalStack

if TYPE_CHECKING:
    from google.cloud import bigquery, storage


pytestmark = pytest.mark.any_airflow


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
def test_lines_are_loaded_unchanged(
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


SCRIPT = """
DECLARE factor {type} DEFAULT {value};
CREATE TEMP FUNCTION shown(value STRING) RETURNS STRING {body};
CREATE TEMP TABLE numbers AS SELECT factor AS number;
INSERT INTO numbers SELECT factor;
SELECT shown(CAST(MAX(number) AS STRING)) AS largest, COUNT(*) AS amount, ANY_VALUE(@given) AS given
FROM numbers
"""


def test_a_statement_means_what_it_says_when_a_script_has_it_again(bigquery_client: bigquery.Client) -> None:
    """Its text is the same each time; the variable, the function and the type of the parameter are not."""
    from google.cloud import bigquery as bq

    java_script, sql = """LANGUAGE js AS 'return "<" + value'""", "AS (CONCAT('[', value))"
    answers = []
    for kind, value, body, given in [
        ("INT64", "1", java_script, bq.ScalarQueryParameter("given", "STRING", "x")),
        ("INT64", "2", java_script, bq.ScalarQueryParameter("given", "STRING", "y")),
        ("STRING", "'a'", sql, bq.ScalarQueryParameter("given", "STRING", "z")),
        ("INT64", "1", java_script, bq.ScalarQueryParameter("given", "INT64", 3)),
        ("INT64", "1", java_script, bq.ArrayQueryParameter("given", "INT64", [4])),
    ]:
        script = SCRIPT.format(type=kind, value=value, body=body)
        config = bq.QueryJobConfig(query_parameters=[given])
        answers += map(tuple, bigquery_client.query_and_wait(script, job_config=config))
    assert answers == [("<1", 2, "x"), ("<2", 2, "y"), ("[a", 2, "z"), ("<1", 2, 3), ("<1", 2, [4])]


def test_a_name_is_that_of_a_table_in_the_default_dataset(
    dataset: str, bigquery_client: bigquery.Client
) -> None:
    from google.api_core.exceptions import GoogleAPICallError
    from google.cloud import bigquery as bq

    script = "{first}; SELECT * FROM numbers"
    made = "CREATE TEMP TABLE numbers AS SELECT 1 AS n"
    bigquery_client.query_and_wait(f"CREATE TABLE {dataset}.numbers AS SELECT 2 AS n")
    inside = bq.QueryJobConfig(default_dataset=dataset)
    for _ in range(2):
        temporary = bigquery_client.query_and_wait(script.format(first=made))
        assert [row.n for row in temporary] == [1]
        job = bigquery_client.query("SELECT * FROM numbers", job_config=inside)
        assert [row.n for row in job.result()] == [2]
        assert [table.table_id for table in job.referenced_tables] == ["numbers"]
        with pytest.raises(GoogleAPICallError, match="numbers"):
            bigquery_client.query_and_wait(script.format(first="SELECT 0"))


def test_a_statement_means_what_it_says_for_each_table(
    dataset: str, bigquery_client: bigquery.Client
) -> None:
    """Its text is the same but for the name of the table, whose columns decide what it means."""
    from google.api_core.exceptions import BadRequest, NotFound

    def found(table: str) -> list[object]:
        job = bigquery_client.query(f"SELECT v.a, '{table}' AS name FROM `{table}` WHERE TRUE")
        rows = list(job.result())
        assert [str(read).replace(":", ".") for read in job.referenced_tables] == [table]
        assert {row.name for row in rows} == {table}
        return [row.a for row in rows]

    names = [f"{dataset}.{name}" for name in ("one", "two", "v", "one_more")]
    values: list[tuple[str, object]] = [
        ("STRUCT(1 AS a)", 1),
        ('JSON \'{"a": "x"}\'', "x"),
        ("STRUCT(DATE '2026-11-01' AS a)", date(2026, 11, 1)),
        ("STRUCT(2 AS a)", 2),
    ]
    for _ in range(2):
        values.reverse()
        for name, (value, _) in zip(names, values, strict=True):
            bigquery_client.query_and_wait(f"CREATE OR REPLACE TABLE `{name}` AS SELECT {value} AS v, 1 AS n")
            bigquery_client.query_and_wait(f"INSERT INTO `{name}` (v, n) SELECT v, n + 1 FROM `{name}`")
        assert [found(name) for name in names] == [[shown, shown] for _, shown in values]
    bigquery_client.query_and_wait(f"DROP TABLE `{names[1]}`")
    with pytest.raises(NotFound, match="two"):
        found(names[1])
    assert found(names[0]) == [1, 1]
    filtered = (
        f"`{names[1]}` (v STRUCT<a INT64>, t DATE) PARTITION BY t OPTIONS (require_partition_filter = TRUE)"
    )
    bigquery_client.query_and_wait(f"CREATE TABLE {filtered}")
    with pytest.raises(BadRequest, match="filter"):
        found(names[1])


@pytest.mark.parametrize(
    ("statement", "value"),
    [
        ("SELECT s /* `{named}` */ FROM {plain}", "one"),
        ("SELECT s -- `{named}`\nFROM {plain}", "one"),
        ("SELECT CONCAT(s, '`{named}`') FROM {plain}", "one`{named}`"),
        ("SELECT '{named}' FROM `{named}`", "{named}"),
        ("SELECT TO_HEX(b'{named}') FROM `{named}`", "{hex}"),
        ("SELECT CONCAT(s, '{start}o{escaped}') FROM `{named}`", "{last}{one}"),
        ("SELECT CONCAT(s, '\"{dotted}\"') FROM `{named}`", '{last}"{dotted}"'),
        (r'SELECT CONCAT(s, "\"{escaped_dots}\"") FROM `{named}`', '{last}"{dotted_one}"'),
        ("SELECT CONCAT(s, {last}.s) FROM `{named}`", "{last}{last}"),
    ],
)
def test_the_name_of_a_table_may_be_something_else_as_well(
    dataset: str, bigquery_client: bigquery.Client, statement: str, value: str
) -> None:
    """What differs from a statement before is in a comment, a string or an alias, not only in a table."""
    for last in ("one", "two"):
        bigquery_client.query_and_wait(f"CREATE TABLE `{dataset}.{last}` AS SELECT '{last}' AS s")
    for last in ("one", "two", "one"):
        named, one = f"{dataset}.{last}", f"{dataset}.one"
        words = {
            "named": named,
            "plain": one,
            "last": last,
            "one": one,
            "hex": named.encode().hex(),
            "start": one.removesuffix("one"),
            "escaped": r"\x6e\x65",
            "dotted": named.replace(".", '"."'),
            "dotted_one": one.replace(".", '"."'),
            "escaped_dots": one.replace(".", r"\".\""),
        }
        found = bigquery_client.query_and_wait(statement.format(**words))
        assert [tuple(row) for row in found] == [(value.format(**words),)]


def test_the_columns_of_a_table_are_those_that_it_has_now(
    dataset: str, bigquery_client: bigquery.Client
) -> None:
    def columns() -> list[str]:
        return [field.name for field in bigquery_client.get_table(f"{dataset}.t").schema]

    bigquery_client.query_and_wait(f"CREATE TABLE {dataset}.t (a INT64)")
    assert columns() == ["a"]
    bigquery_client.query_and_wait(f"ALTER TABLE {dataset}.t ADD COLUMN b STRING")
    assert columns() == ["a", "b"]
    bigquery_client.query_and_wait(f"BEGIN DROP TABLE {dataset}.t; CREATE TABLE {dataset}.t (c DATE); END")
    assert columns() == ["c"]


def test_a_missing_object_is_named(bucket: str, dataset: str, bigquery_client: bigquery.Client) -> None:
    from google.api_core.exceptions import GoogleAPICallError

    with pytest.raises(GoogleAPICallError, match=r"nothing\.jsonl"):
        load(f"gs://{bucket}/nothing.jsonl", dataset, bigquery_client)


def test_tables_and_views_are_found_while_they_exist(dataset: str, bigquery_client: bigquery.Client) -> None:
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


def test_a_new_table_is_never_seen_without_its_labels(dataset: str, bigquery_client: bigquery.Client) -> None:
    from google.cloud.exceptions import NotFound

    statement = """
        CREATE OR REPLACE TABLE `{table}` OPTIONS (labels = [('is', 'labeled')], description = 'described')
        AS SELECT n FROM UNNEST(GENERATE_ARRAY(1, 1000)) AS n
    """
    seen = set()
    for number in range(10):
        table = f"{dataset}.t{number}"
        job = bigquery_client.query(statement.format(table=table))
        while not job.done():
            with suppress(NotFound):
                found = bigquery_client.get_table(table)
                seen.add((found.labels.get("is"), found.description))
        found = bigquery_client.get_table(table)
        seen.add((found.labels.get("is"), found.description))
    assert seen == {("labeled", "described")}


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO `{table}` VALUES (2)",
        "UPDATE `{table}` SET n = 2 WHERE TRUE",
        "DELETE FROM `{table}` WHERE TRUE",
        "TRUNCATE TABLE `{table}`",
        "MERGE `{table}` AS t USING (SELECT 2) AS s ON FALSE WHEN NOT MATCHED THEN INSERT (n) VALUES (2)",
        "BEGIN TRANSACTION; INSERT INTO `{table}` VALUES (2); COMMIT TRANSACTION",
        "CREATE OR REPLACE TABLE `{table}` AS SELECT 2 AS n",
    ],
)
def test_a_table_whose_rows_change_is_modified(
    statement: str, dataset: str, bigquery_client: bigquery.Client
) -> None:
    table = f"{dataset}.t"
    bigquery_client.query_and_wait(f"CREATE TABLE `{table}` AS SELECT 1 AS n")
    before = bigquery_client.get_table(table).modified
    bigquery_client.query_and_wait(f"SELECT * FROM `{table}`")
    bigquery_client.query_and_wait(
        f"BEGIN TRANSACTION; DELETE FROM `{table}` WHERE TRUE; ROLLBACK TRANSACTION"
    )
    assert bigquery_client.get_table(table).modified == before
    bigquery_client.query_and_wait(statement.format(table=table))
    assert bigquery_client.get_table(table).modified > before


CHAINS = (
    ("1202745214610572250", "4361340978689903416", "8420570347655862045", "5549999967683654859"),
    ("5269843136835266641", "2897722810377532991", "2606601063314987738", "7326451843338931370"),
)
CHAIN = """
    WITH RECURSIVE reached AS (
      SELECT DISTINCT target FROM `{table}` WHERE target IS NOT NULL AND start IN (@start)
      UNION ALL
      SELECT links.target
      FROM reached
      JOIN (SELECT DISTINCT start, target FROM `{table}` WHERE target IS NOT NULL) AS links
        ON links.start = reached.target
    )
    SELECT DISTINCT target FROM reached
"""


def test_a_recursive_query_follows_a_chain_to_its_end(tmp_path: Path) -> None:
    """With several threads, DuckDB's filters end more than every third one early."""
    with LocalStack(tmp_path, vertex_url="", bigquery_threads=2) as addresses:
        _follow_chains(addresses.bigquery_url)


def _follow_chains(url: str) -> None:
    from google.auth.credentials import AnonymousCredentials
    from google.cloud import bigquery as bq

    bigquery_client = bq.Client(
        "local-project",
        AnonymousCredentials(),  # type: ignore[no-untyped-call]
        client_options={"api_endpoint": url},
    )
    bigquery_client.create_dataset("chains")
    table = "chains.links"
    prefix = "projects/local-project/locations/us-central1/batchPredictionJobs/"

    def run(statement: str) -> None:
        bigquery_client.query_and_wait(statement)

    run(f"CREATE TABLE `{table}` (start STRING, key STRING, step STRING, target STRING)")
    run(f"INSERT INTO `{table}` (step) VALUES ('')")
    for places in CHAINS:
        for (start, target), rows in zip(pairwise(places), (15, 10, 5), strict=True):
            keys = f"UNNEST(GENERATE_ARRAY(1, {rows})) AS n"
            run(
                f"INSERT INTO `{table}` (start, key, step) "
                f"SELECT '{prefix}{start}', CONCAT('k', n), '{start}' FROM {keys}"
            )
            for value in ("key = key", f"target = '{prefix}{target}'"):
                run(f"UPDATE `{table}` SET {value} WHERE step = '{start}'")
    for start, *others in CHAINS * 10:
        config = bq.QueryJobConfig(
            query_parameters=[bq.ScalarQueryParameter("start", "STRING", f"{prefix}{start}")]
        )
        found = bigquery_client.query_and_wait(CHAIN.format(table=table), job_config=config)
        assert {row.target for row in found} == {f"{prefix}{other}" for other in others}


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


def test_functions_in_javascript_are_made_by_many_threads(bigquery_client: bigquery.Client) -> None:
    def run(number: int) -> int:
        script = f"""
            CREATE TEMP FUNCTION plus(x FLOAT64) RETURNS FLOAT64 LANGUAGE js AS "return x + {number}";
            SELECT plus(1) AS sum"""
        (row,) = bigquery_client.query_and_wait(script)
        return int(row["sum"])

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(run, range(8))) == list(range(1, 9))


def test_many_writers_at_once_do_not_close_the_database(tmp_path: Path) -> None:
    """DuckDB 1.4 alone closes it within three seconds of this."""
    from airflow_gemini_batch.local_stack import stack as stack_module
    from airflow_gemini_batch.local_stack.bigquery_python import find_bigquery_python

    script = textwrap.dedent(
        """
        import pathlib, sys
        from concurrent.futures import ThreadPoolExecutor
        sys.path.insert(0, sys.argv[1])
        data = pathlib.Path(sys.argv[2])
        import launcher, writes
        launcher._link_extensions(data.parent / "home")
        launcher._adapt()
        launcher.files.adapt(data)
        writes.adapt()
        from local_bigquery.engine import database
        from local_bigquery.settings import settings
        settings.data_dir, settings.default_project_id = data, "project"
        database.execute("CREATE SCHEMA project.shop")

        def work(worker):
            database.execute(f"CREATE TABLE project.shop.t{worker} (n BIGINT)")
            for number in range(40):
                for state in ("PENDING", "RUNNING", "DONE"):
                    job = ["project", f"{worker}-{number}", "parent" if number % 2 else None, state, 1, "{}"]
                    database.execute("INSERT OR REPLACE INTO emulator.jobs VALUES (?, ?, ?, ?, ?, ?)", job)
            database.execute(f"INSERT INTO project.shop.t{worker} VALUES (7)")

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(work, range(8)))
        print(database.fetch("SELECT count(*) FROM emulator.jobs"), database.projects())
        """
    )
    folder = Path(stack_module.__file__).parent / "bigquery"
    command = [str(find_bigquery_python()), "-c", script, str(folder), str(tmp_path / "data")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "[(320,)] ['project']\n"
