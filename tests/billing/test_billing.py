"""The page about cost says what the statements bill."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.billing.model import SIZES, Bill, Tables, bill
from tests.billing.reads import Read, Statement
from tests.billing.script import taken
from tests.billing.tables import MARKS, size_text, tables
from tests.scaling.tables import replaced

if TYPE_CHECKING:
    from tests.results.google_sql import GoogleSql

PAGE = Path(__file__).parents[2] / "docs" / "cost.md"
NAMES = Tables("results", "errors", "claims", {"output": 4_000})
SCRIPT = "A;\nIF\n  EXISTS (x)\nTHEN\n  B;\n  IF\n    y\n  THEN\n    C;\n  END IF;\nELSE\n  D;\nEND IF;\nE;\n"


@pytest.fixture
def found(analyzer: GoogleSql) -> dict[str, Bill]:
    from tests.billing.modes import bills

    return bills(analyzer)


@pytest.mark.analyzer
@pytest.mark.xdist_group("analyzer")
def test_the_page_has_the_tables_of_today(found: dict[str, Bill]) -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert replaced(page, tables(found), MARKS) == page, "run `make billing`"


@pytest.mark.analyzer
@pytest.mark.xdist_group("analyzer")
def test_a_first_landing_changes_no_row_and_reads_no_older_partition(analyzer: GoogleSql) -> None:
    from tests.billing.modes import ERRORS, FIRST, RESULTS, statements

    made = statements(analyzer, FIRST.script)
    assert {each.target for each in made if each.kind == "INSERT"} >= {str(RESULTS), str(ERRORS)}
    assert not [each for each in made if each.changes_rows or each.kind == "TRUNCATE"]
    reads = [read for each in made for read in each.reads if read.table in (str(RESULTS), str(ERRORS))]
    assert reads
    assert {read.since for read in reads} == {"since"}


@pytest.mark.analyzer
@pytest.mark.xdist_group("analyzer")
def test_bounds_are_those_of_the_partition_column_alone(analyzer: GoogleSql) -> None:
    from tests.billing.modes import RESULTS, statements

    where = {
        "landed_at >= @since": "since",
        "key = 'a' AND landed_at = @landed_at": "=landed_at",
        "landed_at >= @since OR key = 'a'": "",
        "processed_at >= @since": "",
        "landed_at <= @since": "",
        "landed_at >= processed_at": "",
    }
    for condition, since in where.items():
        for verb in ("SELECT key FROM", "DELETE FROM"):
            (made,) = statements(analyzer, f"{verb} {RESULTS.quoted} WHERE {condition}")
            assert [read.since for read in made.reads] == [since], condition
    (made,) = statements(
        analyzer, f"DELETE FROM {RESULTS.quoted} WHERE landed_at >= @since AND status = 'failed'"
    )
    assert made.changes_rows
    assert made.reads[0].columns == {"landed_at", "status"}


@pytest.mark.analyzer
@pytest.mark.xdist_group("analyzer")
@pytest.mark.parametrize("jobs", [(), ("one",)])
def test_finding_failures_reads_nothing_from_before_them(jobs: tuple[str, ...], analyzer: GoogleSql) -> None:
    from tests.billing.modes import ERRORS, RESULTS, claiming_script, statements

    reads = [read for each in statements(analyzer, claiming_script(jobs)) for read in each.reads]
    assert {read.since for read in reads if read.table == str(RESULTS)} == {"failed_since"}
    # Their time is looked up in all days of the error table, without the requests.
    older = [read.columns - {"job_name"} for read in reads if read.table == str(ERRORS) and not read.since]
    assert older == [{"landed_at", "results_table", "retryable"}] * 2


@pytest.mark.parametrize(("holding", "runs"), [("", "ADE"), ("x", "ABE"), ("y", "ADE"), ("xy", "ABCE")])
def test_only_branches_that_are_taken_run(holding: str, runs: str) -> None:
    kept = taken(
        SCRIPT.replace("  IF", "IF").replace("  THEN", "THEN").replace("  END", "END"),
        lambda condition: any(letter in condition.replace("EXISTS", "") for letter in holding),
    )
    assert [letter for letter in "ABCDE" if f"{letter};" in kept] == list(runs)
    assert ("SELECT (    y\n);" in kept) == ("x" in holding)


@pytest.mark.parametrize("script", ["IF\n  x\nTHEN\nA;\n", "A;\nELSE\n", "END IF;\n"])
def test_a_script_that_is_not_closed_is_refused(script: str) -> None:
    with pytest.raises(ValueError, match="without"):
        taken(script, lambda _condition: True)


def test_bounded_reads_grow_with_the_day_and_others_with_the_table() -> None:
    columns = frozenset({"job_name", "landed_at"})
    bounded, all_days = (
        bill([Statement("SELECT", (Read("results", columns, since),))], NAMES, changed_days=1)
        for since in ("since", "")
    )
    small, _, large = SIZES
    assert all_days.size(large) == pytest.approx(all_days.size(small) * large / small)
    assert bounded.size(large) == pytest.approx(all_days.size(large) * 3 / 365)


def test_deleting_bills_the_whole_day_and_truncating_nothing() -> None:
    table = SIZES[1]
    read = Read("results", frozenset({"job_name", "landed_at"}), "since")
    deleted = bill([Statement("DELETE", (read,), "results")], NAMES, changed_days=1)
    only_read = bill([Statement("SELECT", (read,))], NAMES, changed_days=1)
    assert deleted.size(table) == pytest.approx(only_read.size(table) + table / 365)
    assert bill([Statement("TRUNCATE", (), "results")], NAMES, changed_days=1).size(table) == 0


def test_tables_of_the_job_are_read_whole() -> None:
    made = [
        Statement(
            "CREATE", (Read("output", frozenset({"line"})),), "responses", frozenset({"request", "key"})
        ),
        Statement("SELECT", (Read("responses", frozenset({"key"})),)),
    ]
    assert bill(made, NAMES, changed_days=1).own == 200_000 * (4_000 + 20)


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0"), (1, "under 1 MB"), (5_650_000_000, "5.65 GB"), (10**14, "100 TB")]
)
def test_sizes_have_three_digits(size: int, text: str) -> None:
    assert size_text(size) == text
