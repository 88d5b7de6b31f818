"""The script that lands a job: the .sql files beside this module, filled in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_gemini_batch.gcp.sql_template import render
from airflow_gemini_batch.gcp.table_name import TableName
from airflow_gemini_batch.requests.keys import KEY_LABEL
from airflow_gemini_batch.results.cost import MEDIA, media_counts
from airflow_gemini_batch.results.outputs import JobTable
from airflow_gemini_batch.results.row_status import FINISH_REASONS, RowStatus
from airflow_gemini_batch.results.typed import Typed, typed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow_gemini_batch.cost.prices import BatchPrices
    from airflow_gemini_batch.requests.response_schema import Column


@dataclass(frozen=True)
class Landing:
    """What the script reads and writes.

    :param answers: a staging table of raw lines in a column ``line``, or the job's output table
    :param requests: the same of the input; ``None`` when it cannot be read any more
    :param columns: of the response schema
    :param key_field: the member or column beside ``request`` that holds the key
    :param merges: whether a key has one row, over all jobs
    :param request: whether to store requests in the results table
    :param response: whether to store responses
    :param prices: of the job's model; ``None`` when they are not known
    :param media: the staging table of media that objects take the place of; ``None`` leaves them in responses
    """

    answers: TableName | JobTable
    requests: TableName | JobTable | None
    results: TableName
    errors: TableName
    columns: Sequence[Column]
    key_field: str
    merges: bool = False
    request: bool = True
    response: bool = True
    prices: BatchPrices | None = None
    media: TableName | None = None


def landing_script(landing: Landing) -> str:
    """Return the whole script: read and judge, join, land and count."""
    common = {
        "key_label": KEY_LABEL,
        "key_field": landing.key_field,
        "asked_request": "JSON_QUERY(source, '$.request')"
        if isinstance(landing.requests, TableName)
        else "source",
    }
    return "\n".join(
        (
            *((render("results/media"),) if landing.media else ()),
            render("results/typed"),
            _read(landing, common),
            render("results/cost", media=MEDIA),
            _join("key", "key", "key"),
            _leftovers(common),
            _land(landing, common),
        )
    )


def media_script(answers: TableName | JobTable, key_field: str, media: TableName) -> str:
    """Return the script that makes the staging table of media.

    :param answers: as for :class:`Landing`, like ``key_field``
    """
    source = _answers(answers, {"key_label": KEY_LABEL, "key_field": key_field})
    return render("results/media") + render("results/media_found", media=media.quoted, answers_source=source)


def _read(landing: Landing, common: Mapping[str, str]) -> str:
    answers = _answers(landing.answers, common)
    return render(
        "results/read",
        **common,
        answers_source=render("results/media_replaced", answers_source=answers) if landing.media else answers,
        requests_source=_requests(landing.requests, common),
        good_reasons=_reasons(RowStatus.SUCCEEDED),
        truncated_reasons=_reasons(RowStatus.TRUNCATED),
        blocked_reasons=_reasons(RowStatus.BLOCKED),
        typed=_typed(landing).query,
        typed_columns="".join(f"column_{index}, " for index in range(len(landing.columns))),
    )


def _leftovers(common: Mapping[str, str]) -> str:
    asked_label = f"JSON_VALUE({common['asked_request']}, '$.labels.{KEY_LABEL}')"
    # A line that is not JSON has no request, but its label may have been found in its text.
    broken_label = "IF(raw_line IS NULL, NULL, JSON_VALUE(key, '$'))"
    echoed_label = f"IFNULL(JSON_VALUE(request, '$.labels.{KEY_LABEL}'), {broken_label})"
    number = "IF(STARTS_WITH(key, '\"'), NULL, SAFE_CAST(key AS NUMERIC))"
    return render(
        "results/leftovers",
        **common,
        join_by_label=_join("label", asked_label, echoed_label),
        # Text that looks like a number comes back as a number; 007 and 7 can then not be told apart.
        join_by_number=_join("number", "number", number, condition="peers = 1"),
        digests=render("results/digests", **common),
        join_by_request=_join(
            "request",
            "digest",
            "digest",
            asked_from="(SELECT request_id, digest FROM digests WHERE request_id IS NOT NULL)",
            answered_from="(SELECT answer_id, digest FROM digests WHERE answer_id IS NOT NULL)",
        ),
    )


def _land(landing: Landing, common: Mapping[str, str]) -> str:
    tables = {"results": landing.results.quoted, "errors": landing.errors.quoted}
    asked = f"SAFE.PARSE_JSON({common['asked_request']}, wide_number_mode => 'round')"
    return render(
        "results/land",
        **common,
        **tables,
        **(_merging(tables) if landing.merges else _APPENDING),
        media_counts=media_counts(),
        request="answers.request" if landing.request else _NO_JSON,
        missing_request=asked if landing.request else _NO_JSON,
        response="answers.response" if landing.response else _NO_JSON,
        schema_columns="".join(f"`{column.name}`, " for column in landing.columns),
        typed_columns="".join(f"judged.column_{index}, " for index in range(len(landing.columns))),
    )


_NO_JSON = "CAST(NULL AS JSON)"
_APPENDING = {"merge": "", "is_best": "TRUE", "is_wanted": "TRUE", "is_landed": "TRUE", "written": "*"}


def _merging(tables: Mapping[str, str]) -> dict[str, str]:
    """What is written where a key has one row; what has no key is no other row's twin."""
    best = "PARTITION BY key ORDER BY bucket = 'succeeded' DESC, processed_at DESC, answer_id"
    keys = f"SELECT key FROM {tables['results']} WHERE"  # noqa: S608
    count = "(SELECT COUNT(*) FROM {} WHERE job_name = @job_name)"
    return {
        "merge": render("results/merge", **tables),
        "is_best": f"key IS NULL OR ROW_NUMBER() OVER ({best}) = 1",
        "is_wanted": "outcomes.is_best AND (outcomes.key IS NULL OR outcomes.key NOT IN "
        f"({keys} key IS NOT NULL))",
        "is_landed": "outcomes.is_best AND (outcomes.key IS NULL OR outcomes.key IN "
        f"({keys} job_name = @job_name))",
        "written": f"*, {count.format(tables['results'])} AS result_rows, "
        f"{count.format(tables['errors'])} AS error_rows",
    }


def count_script(table: TableName) -> str:
    """Return the query that counts the rows of ``@job_names`` in a table."""
    return render("results/count", table=table.quoted)


def replaced_script(results: TableName, errors: TableName) -> str:
    """Return the query that counts failures of ``@replaces`` which ``@job_names`` should have replaced."""
    return render("results/replaced", results=results.quoted, errors=errors.quoted)


def schemas_script(source: TableName | JobTable, limit: int, *, echoed: bool) -> str:
    """Return the query for the different response schemas of the requests, as JSON text.

    :param echoed: the requests are those that the output repeats
    """
    if isinstance(source, JobTable):
        table, request = source.name, f"TO_JSON_STRING({_json(source, 'request')})"
    elif echoed:
        document = "SAFE.PARSE_JSON(line, wide_number_mode => 'round')"
        table, request = source, f"TO_JSON_STRING(JSON_QUERY({document}, '$.request'))"
    else:
        table, request = source, "JSON_QUERY(line, '$.request')"
    return render("results/schemas", table=table.quoted, request=request, limit=str(limit))


def list_parameters(landing: Landing) -> dict[str, list[str]]:
    """Return the parameters of the script that are lists of text: the values of the schema's enums."""
    return _typed(landing).parameters


def _typed(landing: Landing) -> Typed:
    return typed(landing.columns, f"({render('results/answers_to_judge')})")


def _answers(source: TableName | JobTable, common: Mapping[str, str]) -> str:
    if isinstance(source, TableName):
        return render("results/answers_in_objects", **common, answers_table=source.quoted)
    return render(
        "results/answers_in_table",
        answers_table=source.name.quoted,
        key=_key(source, common["key_field"]),
        row_status=_column(source, "status"),
        processed_time=_column(source, "processed_time"),
        request=_json(source, "request"),
        response=_json(source, "response"),
    )


def _requests(source: TableName | JobTable | None, common: Mapping[str, str]) -> str:
    if source is None:
        return render("results/requests_unknown", **common)
    if isinstance(source, TableName):
        return render("results/requests_in_objects", **common, requests_table=source.quoted)
    return render(
        "results/requests_in_table",
        requests_table=source.name.quoted,
        key=_key(source, common["key_field"]),
        request=_json(source, "request"),
    )


def _column(table: JobTable, column: str) -> str:
    return column if column in table.column_types else "CAST(NULL AS STRING)"


def _json(table: JobTable, column: str) -> str:
    """The service takes and gives JSON as well as STRING."""
    if table.column_types.get(column) == "JSON":
        return column
    return f"SAFE.PARSE_JSON({_column(table, column)}, wide_number_mode => 'round')"


def _key(table: JobTable, column: str) -> str:
    """The key as JSON text, so that 7 and "7" differ."""
    if column not in table.column_types:
        return _column(table, column)
    return f"NULLIF(TO_JSON_STRING({column}), 'null')"


def _join(
    way: str,
    asked: str,
    answered: str,
    *,
    condition: str = "TRUE",
    asked_from: str = "requests",
    answered_from: str = "answers",
) -> str:
    return render(
        "results/join",
        way=way,
        asked=asked,
        asked_from=asked_from,
        answered=answered,
        answered_from=answered_from,
        condition=condition,
    )


def _reasons(bucket: RowStatus) -> str:
    return ", ".join(f"'{reason}'" for reason in FINISH_REASONS[bucket])
