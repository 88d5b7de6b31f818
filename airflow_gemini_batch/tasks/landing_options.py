"""How results are stored, as users say it: the options of landing, and the names of its tables."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

from airflow_gemini_batch.exceptions import InvalidParameterError
from airflow_gemini_batch.tasks.options import PriceOptions
from airflow_gemini_batch.tasks.parameters import (
    check_flag,
    check_schema,
    choice,
    is_known,
    options,
    refused_when_parsed,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_gemini_batch.cost.prices import NegotiatedPrices
    from airflow_gemini_batch.gcp.table_name import TableName
    from airflow_gemini_batch.requests.response_schema import ResponseSchema
    from airflow_gemini_batch.results.gates import Gates
    from airflow_gemini_batch.results.landing import WriteMode
    from airflow_gemini_batch.results.media import MediaFolder
    from airflow_gemini_batch.results.report.location import ReportPlace

_FLAGS = ("include_request", "include_response", "usage_view", "emit_asset")
_CHECKED_HERE = {"error_table", "response_schema", *_FLAGS}


@options
class LandingOptions(PriceOptions):
    """How results are stored in BigQuery, and how many of them must be good.

    :param error_table: table for the rows that did not succeed; default: the results table's name followed
        by ``_errors`` (templated)
    :param response_schema: pydantic model or a list of one, JSON Schema or ``Schema`` of a response; its
        properties become typed columns. Default: the schema that all requests of the job share; ``False``: no
        typed columns
    :param write_mode: ``append``: keep the rows of other jobs; ``merge``: keep one row per key across all
        jobs; ``truncate``: delete rows of other DAG runs first (templated)
    :param include_request: store requests in the results table; the error table always has them
    :param include_response: store responses in the results table
    :param media_uri_prefix: store generated images as objects under ``gs://bucket/prefix``, with references
        to them in the results table. Images pass through the worker, a few at a time. By default they stay in
        ``response`` (templated)
    :param min_success_ratio: fail the task, after landing, if a smaller share of the rows succeeded; 0 to 1
        (templated)
    :param max_invalid_ratio: fail the task, after landing, if a larger share of the rows does not match the
        response schema; 0 to 1 (templated)
    :param report_uri: also write an HTML report about the job: an object, ``gs://bucket/name.html``, or a
        folder, ``gs://bucket/folder/`` (templated)
    :param usage_view: create a view of cost by day, DAG, model and labels, named like the results table
        followed by ``_usage``
    :param emit_asset: make the results table an outlet, ``bigquery://project/dataset/table``, with an asset
        event when the task has landed rows and succeeds; see docs/events.md
    """

    templated: ClassVar[tuple[str, ...]] = (
        "error_table",
        "write_mode",
        "media_uri_prefix",
        "min_success_ratio",
        "max_invalid_ratio",
        "report_uri",
        *PriceOptions.templated,
    )

    error_table: str | None = None
    response_schema: Any = None
    write_mode: str = "append"
    include_request: bool = True
    include_response: bool = True
    media_uri_prefix: str | None = None
    min_success_ratio: float = 0.0
    max_invalid_ratio: float = 1.0
    report_uri: str | None = None
    usage_view: bool = True
    emit_asset: bool = True

    def __post_init__(self) -> None:
        for name in _FLAGS:
            check_flag(name, getattr(self, name))
        check_schema(self.response_schema)
        if self.given(vars(self)).keys() - _CHECKED_HERE:
            # Only for values that are not defaults: every DAG file pays for the modules that check them.
            LandingValues.of(self)


@dataclass(frozen=True, kw_only=True)
class LandingValues:
    """Landing options whose check needs no connection, parsed."""

    write_mode: WriteMode
    response_schema: ResponseSchema | None
    media: MediaFolder | None
    gates: Gates
    report: ReportPlace | None
    prices: NegotiatedPrices | None

    @classmethod
    def of(cls, options: LandingOptions) -> Self:
        """Parse the options.

        :raises InvalidParameterError: a value cannot work
        """
        from airflow_gemini_batch.cost.prices import NegotiatedPrices
        from airflow_gemini_batch.requests.response_schema import ResponseSchema
        from airflow_gemini_batch.results.gates import Gates
        from airflow_gemini_batch.results.landing import WriteMode
        from airflow_gemini_batch.results.media import MediaFolder
        from airflow_gemini_batch.results.report.location import ReportPlace

        media, report, schema = options.media_uri_prefix, options.report_uri, options.response_schema
        if media and not options.include_response:
            fix = "without responses nothing would refer to the images: leave out include_response=False"
            raise InvalidParameterError("media_uri_prefix", media, fix)
        return cls(
            write_mode=choice(WriteMode, "write_mode", options.write_mode),
            response_schema=ResponseSchema.of(schema) if schema else None,
            media=MediaFolder.parse(media) if media else None,
            gates=Gates.of(options.min_success_ratio, options.max_invalid_ratio),
            report=ReportPlace.parse(report) if report else None,
            prices=None if options.prices is None else NegotiatedPrices.of(options.prices),
        )


def check_not_landed(values: Mapping[str, Any]) -> None:
    """Refuse what a user expects of landed results if no results are landed.

    Others may be in the default arguments of a DAG, where they do no harm.

    :raises InvalidParameterError: a gate, a report or an error table is given
    """
    expected = {"min_success_ratio", "max_invalid_ratio", "report_uri", "error_table"}
    for name in sorted(LandingOptions.given(values).keys() & expected):
        fix = "it is about landed results: give results_table as well, or leave it out"
        raise InvalidParameterError(name, values[name], fix)


def result_tables(
    destination_table: str, error_table: str | None, project: str, parameter: str = "destination_table"
) -> tuple[TableName, TableName]:
    """Return the names of the results table and of the error table.

    :param project: of tables whose names have none
    :raises InvalidParameterError: a name is not valid, or both are the same
    """
    from airflow_gemini_batch.gcp.table_name import TableName

    destination = TableName.parse(destination_table, project, parameter)
    errors = TableName.parse(error_table or f"{destination}_errors", project, "error_table")
    if errors == destination:
        fix = "rows that did not succeed need a table of their own: leave error_table out, or name another"
        raise InvalidParameterError("error_table", error_table, fix)
    return destination, errors


def check_tables_when_parsed(
    destination_table: object, error_table: object, parameter: str = "destination_table"
) -> None:
    """Check the names of the tables, as far as they are known when the DAG is parsed.

    :raises InvalidParameterError: a name is not valid, or both are the same
    """
    with refused_when_parsed():
        # Any project does for names without one.
        if not is_known(destination_table):
            destination_table = "dataset.a-template"
        result_tables(destination_table, error_table if is_known(error_table) else None, "project", parameter)  # type: ignore[arg-type]
