"""The landings of docs/cost.md: their scripts, and how the conditions in them turn out."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from airflow_gemini_batch.gcp.table_name import TableName
from airflow_gemini_batch.requests.in_bigquery.claims import COLUMNS as CLAIM_COLUMNS
from airflow_gemini_batch.requests.in_bigquery.claims import claim_statement, open_failures_statement
from airflow_gemini_batch.requests.in_bigquery.statements import Failures
from airflow_gemini_batch.requests.in_bigquery.table_marks import TableMark
from airflow_gemini_batch.requests.key_field import DEFAULT_KEY_FIELD
from airflow_gemini_batch.results.columns import ERROR_COLUMNS, RESULT_COLUMNS
from airflow_gemini_batch.results.cost import usage_query
from airflow_gemini_batch.results.destination import lock_of
from airflow_gemini_batch.results.report.facts import report_script
from airflow_gemini_batch.results.row_counts import Tables as LandedTables
from airflow_gemini_batch.results.row_counts import landed_script
from airflow_gemini_batch.results.staging import Part
from airflow_gemini_batch.results.statements import Landing, landing_script, schemas_script
from tests.billing.model import INPUT_LINE, OUTPUT_LINE, Bill, Tables, bill
from tests.billing.reads import Statement, statement_of
from tests.billing.script import taken
from tests.results.google_sql import column_types, sql_type
from tests.results.test_sql import flat, parameter_types

if TYPE_CHECKING:
    from tests.results.google_sql import GoogleSql

RESULTS, ERRORS, OUTPUT, INPUT = (
    TableName("my-project", "my_data", name) for name in ("results", "results_errors", "output", "input")
)
LOCK = lock_of(RESULTS)
CLAIMS = RESULTS.sibling(f"{RESULTS.table}_retry_claims")
TABLES = Tables(str(RESULTS), str(ERRORS), str(CLAIMS), {str(OUTPUT): OUTPUT_LINE, str(INPUT): INPUT_LINE})

# What a condition contains, and whether it holds: keys match, and some rows did not succeed.
_USUAL = {
    "FROM responses WHERE response_id NOT IN": False,
    "is_keyless": False,
    f"NOT EXISTS (SELECT 1 FROM {LOCK.quoted})": False,
    "failed_since IS NOT NULL": True,
    "status != 'succeeded' AND is_written": True,
    "WHERE job_name IN UNNEST(@job_names)": False,
    # The round has no claims yet.
    "claims.round = @round": True,
}
_OF_JOB, _STAYS, _OF_KEYS = (
    "WHERE job_name IN UNNEST(@job_names)",
    "run_id = @run_id",
    "key IN (SELECT key FROM outcomes",
)


@dataclass(frozen=True)
class Mode:
    """A landing.

    :param name: as the page names it
    :param landing: what differs from the defaults of :class:`Landing`
    :param conditions: what a condition contains, and whether it holds, besides what usually does
    """

    name: str
    landing: dict[str, Any] = field(default_factory=dict)
    conditions: dict[str, bool] = field(default_factory=dict)

    def holds(self, condition: str) -> bool:
        """Whether a condition holds.

        :raises ValueError: it is unknown
        """
        for text, holds in {**_USUAL, **self.conditions}.items():
            if text in condition:
                return holds
        raise ValueError(f"no answer to: {condition}")

    @property
    def script(self) -> str:
        """The statements that run, as the analyzer reads them."""
        landing = Landing(
            responses=(Part(OUTPUT),),
            requests=(Part(INPUT),),
            results=RESULTS,
            errors=ERRORS,
            columns=(),
            key_field=DEFAULT_KEY_FIELD,
            **self.landing,
        )
        return flat(taken(landing_script(landing), self.holds))


_LOCKED = {"lock": LOCK}
FIRST = Mode("`append`, the first time")
AGAIN = Mode("`append`, again with other options", conditions={_OF_JOB: True})
MODES = (
    FIRST,
    AGAIN,
    Mode("`truncate`, no other job in the run", {"truncates": True, **_LOCKED}, {_STAYS: False}),
    Mode("`truncate`, beside other jobs of the run", {"truncates": True, **_LOCKED}, {_STAYS: True}),
    Mode("`merge`, none of the keys is there", {"merges": True, **_LOCKED}, {_OF_KEYS: False}),
    Mode("`merge`, keys are there", {"merges": True, **_LOCKED}, {_OF_KEYS: True}),
    Mode("a retry round, `append`", {"replaces": True, "claims": CLAIMS}),
    Mode("a retry round, `merge`", {"replaces": True, "merges": True, **_LOCKED}, {_OF_KEYS: True}),
)
SAME = "a cleared task whose rows are there"
CLAIMING = "finding and claiming the failures of a job"
CLAIMING_ALL = "finding and claiming the failures of all jobs"
REPORT = "a report about a job"
VIEW = "the view `…_usage`, all days"
NEXT_INPUT = RESULTS.sibling("results_retry_input")


def claiming_script(jobs: tuple[str, ...]) -> str:
    """Return the statements that come before the job of a retry round, as the analyzer reads them."""
    failures = Failures(RESULTS, ERRORS, jobs)
    found = open_failures_statement(failures, CLAIMS)
    claimed = claim_statement(failures, CLAIMS, NEXT_INPUT, TableMark.retry("digest"), 30)
    script = f"{found.rstrip().rstrip(';')};\n{claimed}"
    # The landing script has another parameter of this name.
    return flat(taken(script, Mode("").holds)).replace("@jobs", "@jobs_")


def statements(analyzer: GoogleSql, script: str) -> tuple[Statement, ...]:
    """Return what the statements of a script do."""
    tables = {str(RESULTS): column_types(RESULT_COLUMNS), str(ERRORS): column_types(ERROR_COLUMNS)}
    tables |= {str(name): {"line": sql_type("STRING")} for name in (OUTPUT, INPUT)}
    tables[str(CLAIMS)] = {name: sql_type(kind) for name, kind, _ in CLAIM_COLUMNS}
    tables[str(LOCK)] = {"job_name": sql_type("STRING"), "locked_at": sql_type("TIMESTAMP")}
    texts = (
        "round",
        "series",
        "retried_job",
        "owner",
        "project",
        "location",
        "model",
        "output_uri",
        "job_name",
    )
    parameters = {
        **parameter_types(),
        **dict.fromkeys(texts, sql_type("STRING")),
        "number": sql_type("INT64"),
    }
    lists = dict.fromkeys(("jobs_", "failed_jobs", "abandoned"), sql_type("STRING", "REPEATED"))
    return tuple(map(statement_of, analyzer.check(script, tables, {**parameters, **lists})))


def bills(analyzer: GoogleSql) -> dict[str, Bill]:
    """Return what each landing bills, by its name, with the query that infers its schema."""
    inferred = statements(analyzer, schemas_script([Part(INPUT)], 20, is_output=False))
    found = {
        mode.name: bill([*inferred, *statements(analyzer, mode.script)], TABLES, changed_days=1)
        for mode in MODES
    }
    around = {
        SAME: landed_script(LandedTables(RESULTS, ERRORS)),
        CLAIMING: claiming_script(("one",)),
        CLAIMING_ALL: claiming_script(()),
        REPORT: ";\n".join(
            report_script(query, results=RESULTS, errors=ERRORS, has_searches=True, is_named=True).strip()
            for query in ("rows", "tokens", "errors")
        ),
        VIEW: usage_query(RESULTS),
    }
    for name, script in around.items():
        found[name] = bill(statements(analyzer, script), TABLES, changed_days=0)
    return found
