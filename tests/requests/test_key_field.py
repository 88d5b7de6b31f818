"""Where a row has its key: what can be named, and that Python and SQL read the same."""

from __future__ import annotations

import json
import re
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airflow_gemini_batch.exceptions import InvalidParameterError
from airflow_gemini_batch.gcp.sql_template import render
from airflow_gemini_batch.gcp.table_name import TableName
from airflow_gemini_batch.requests.checking.likely_keys import LikelyKeys
from airflow_gemini_batch.requests.key_field import DEFAULT_KEY_FIELD, KeyField
from airflow_gemini_batch.results.outputs import JobTable
from airflow_gemini_batch.results.staging import Part

if TYPE_CHECKING:
    from google.cloud import bigquery

FIELDS = ("key", "custom_id", "metadata.request_id", "meta-data.Größe.id", "labels.custom-id")


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("key", "$.key"),
        ("custom_id", "$.custom_id"),
        ("metadata.request_id", "$.metadata.request_id"),
        ("custom-id", '$."custom-id"'),
        ("Größe.ID", '$."Größe".ID'),
        ("labels.custom-id", '$.request.labels."custom-id"'),
        ("request.labels.x", "$.request.labels.x"),
    ],
)
def test_what_can_be_named(text: str, path: str) -> None:
    field = KeyField.parse(text)
    assert field.json_path == path
    assert str(field) == text.removeprefix("request.")
    assert KeyField.parse(str(field)) == field


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "a b", " a", "a\n", "'a'", '"a"', "a'", 'a"b', "a`", "a\\", "$.a", "$", "a.", ".a", "a..b",
        "a[0]", "a/b", "1", "1a", "a.1", "-a", "a;b", "*", "x" * 129, None, 7, ["a"], {"a": 1}, b"a",
        "request", "request.contents", "request.labels", "request.labels.a.b", "labels", "labels.a.b",
        "response", "status", "processed_time", "status.code",
    ],
)  # fmt: skip
def test_what_is_no_place_of_a_key(text: Any) -> None:
    with pytest.raises(InvalidParameterError, match=re.escape(f"key_field={text!r}: ")) as error:
        KeyField.parse(text)
    assert "'custom_id'" in error.value.fix


def test_what_the_service_writes_itself_is_said() -> None:
    with pytest.raises(InvalidParameterError, match="the service writes this member itself"):
        KeyField.parse("status")


@given(st.text(max_size=12))
def test_any_text_is_a_safe_path_or_refused(text: str) -> None:
    try:
        field = KeyField.parse(text)
    except InvalidParameterError:
        return
    for made in (field.json_path, field.path_in_column):
        assert not set("'\\`\n") & set(made)
        assert re.fullmatch(r'\$(\.(\w+|"[\w-]+"))*', made)
    assert re.compile(field.torn_pattern)


SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**15), 10**15),
    st.integers(-99, 99).map(lambda n: n / 4),
    st.text(),
)
VALUES = st.one_of(SCALARS, st.lists(SCALARS, max_size=2), st.dictionaries(st.text(max_size=3), SCALARS))


@st.composite
def rows(draw: st.DrawFn) -> dict[str, Any]:
    """A row with anything in any of the places, or nothing."""
    row: dict[str, Any] = {"request": {"contents": []}}
    for text in FIELDS:
        *way, last = KeyField.parse(text).names
        place: Any = row
        for name in way:
            place = place.setdefault(name, draw(st.sampled_from([{}, {}, {}, 1, None, []])))
            if not isinstance(place, dict):
                break
        else:
            if draw(st.integers(0, 4)):
                place[last] = draw(VALUES)
    return row


def selected(template: str, field: KeyField, source: Any) -> str:
    """The keys of the rows as a landing names them, in the order of the rows."""
    landing = SimpleNamespace(key_field=field)
    made = render(f"results/{template}", landing=landing, part=Part(source), key_label="gemini_batch_key")
    return f"SELECT JSON_VALUE(key, '$') AS key FROM ({made})"


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(rows(), min_size=1, max_size=25))
def test_python_and_sql_read_the_same_key(
    bigquery_client: bigquery.Client, given_rows: list[dict[str, Any]]
) -> None:
    from google.cloud.bigquery import ArrayQueryParameter, QueryJobConfig

    lines = [json.dumps(row, ensure_ascii=False) for row in given_rows]
    config = QueryJobConfig(query_parameters=[ArrayQueryParameter("lines", "STRING", lines)])
    staged = SimpleNamespace(quoted="(SELECT line FROM UNNEST(@lines) AS line)")
    for text in FIELDS:
        field = KeyField.parse(text)
        expected = sorted(map(str, map(field.read, given_rows)))
        for template in ("requests_in_lines", "responses_in_lines"):
            sql = selected(template, field, staged)
            found = bigquery_client.query(sql, job_config=config).result()
            assert sorted(str(row["key"]) for row in found) == expected, (text, template)


def test_the_column_of_a_table(bigquery_client: bigquery.Client, dataset: str) -> None:
    """BigQuery ignores the case of columns; nested members are in JSON, or in text that is JSON."""
    made = TableName.parse(f"{dataset}.given")
    bigquery_client.query(
        f"CREATE TABLE {made.quoted} AS SELECT 17 AS Custom_ID, TRUE AS sure, 'plain' AS words, "
        'JSON \'{"request_id": 5, "deep": {"a": "b"}}\' AS metadata, '
        '\'{"request_id": "t"}\' AS text, JSON \'{"labels": {"id": "l"}}\' AS request'
    ).result()
    types = {
        "Custom_ID": "INTEGER", "sure": "BOOLEAN", "words": "STRING", "metadata": "JSON", "text": "STRING",
        "request": "JSON",
    }  # fmt: skip
    wanted = {
        "custom_id": "17", "sure": "true", "words": "plain", "metadata": None, "metadata.request_id": "5",
        "metadata.deep": None, "metadata.deep.a": "b", "text.request_id": "t", "words.a": None,
        "sure.a": None, "labels.id": "l", "labels.other": None, "nothing": None,
    }  # fmt: skip
    table = JobTable(made, types, None)
    for text, expected in wanted.items():
        sql = selected("requests_in_table", KeyField.parse(text), table)
        ((found,),) = bigquery_client.query(sql).result()
        assert found == expected, text


@pytest.mark.parametrize(
    ("text", "line", "key"),
    [
        ("custom_id", '{"custom_id": "a b", "request": {"co', '"a b"'),
        ("custom_id", ' { "custom_id" : -17, "request"', "-17"),
        ("custom_id", '{"request": {"custom_id": "not this one"', None),
        ("metadata.request_id", '{"metadata": {"request_id": "r"}, "request": {', '"r"'),
        ("labels.id", '{"request": {"labels": {"team": "x", "id": "l"}, "contents": [{', '"l"'),
        ("labels.id", '{"request": {"contents": [{"id": "not this one", "parts": [', None),
    ],
)
def test_the_key_of_a_torn_line(
    bigquery_client: bigquery.Client, text: str, line: str, key: str | None
) -> None:
    pattern = KeyField.parse(text).torn_pattern
    found = re.search(pattern, line)
    assert (found[1] if found else None) == key
    sql = f"SELECT REGEXP_EXTRACT('''{line}''', r'{pattern}')"
    ((in_sql,),) = bigquery_client.query(sql).result()
    assert in_sql == key


class TestLikelyKeys:
    @pytest.mark.parametrize(
        ("made", "name"),
        [
            (lambda n: {"custom_id": f"r{n}"}, "custom_id"),
            (lambda n: {"number": n, "id": n}, "id"),
            (lambda n: {"number": n}, "number"),
            (lambda n: {"version": 1}, None),
            (lambda n: {"version": 1, "requestId": str(n)}, "requestId"),
            (lambda n: {"custom_id": f"r{n}"} if n else {}, None),
            (lambda n: {"metadata": {"request_id": n, "team": "x"}}, "metadata.request_id"),
            (lambda n: {"a b": n}, None),
            (lambda n: {"rows": [n], "nothing": None}, None),
        ],
    )
    def test_what_all_rows_have_and_what_differs(self, made: Any, name: str | None) -> None:
        likely = LikelyKeys()
        for n in range(3):
            likely.add({**made(n), "request": {"contents": [{"id": n}]}})
        assert likely.find() == name

    def test_labels(self) -> None:
        likely = LikelyKeys()
        for n in range(300):
            labels = {"team": "x", "custom_id": f"r{n}"}
            likely.add({"request": {"contents": [], "labels": labels}})
        assert likely.find() == "labels.custom_id"
        likely.add({"request": {"contents": []}})
        assert likely.find() is None


def test_the_default() -> None:
    assert KeyField.parse("key") == DEFAULT_KEY_FIELD == KeyField()
    assert DEFAULT_KEY_FIELD.line("a", {"contents": []}) == {"key": "a", "request": {"contents": []}}
