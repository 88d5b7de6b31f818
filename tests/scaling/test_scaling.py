"""The page about scaling agrees with the limits, and names the first wall."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from airflow_gemini_batch.cost.prices import BatchPrices
from airflow_gemini_batch.service import MAX_BYTES, MAX_ROWS
from tests.scaling.model import SIZES, Assumptions, Row, load, walls
from tests.scaling.tables import BEGIN, END, replaced, tables

PAGE = Path(__file__).parents[2] / "docs" / "scaling.md"


def test_the_page_has_the_tables_of_today() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert replaced(page, tables(Row(), Assumptions())) == page, "run `make scaling`"


def test_a_page_without_marks_is_refused() -> None:
    with pytest.raises(ValueError, match="scaling: begin"):
        replaced(f"{END}{BEGIN[:-1]}", "")


def test_the_price_is_the_list_price() -> None:
    row = Row()
    listed = BatchPrices.listed(row.model, "global", datetime(2026, 11, 28, tzinfo=UTC))
    assert listed
    assert (float(listed.short.input), float(listed.short.output)) == (row.input_price, row.output_price)


@pytest.mark.parametrize(
    ("rows", "size", "jobs"),
    [(1, 2_000, 1), (MAX_ROWS + 1, 2_000, 2), (MAX_ROWS, 2 * MAX_BYTES // MAX_ROWS, 2)],
)
def test_a_job_ends_at_its_rows_or_its_bytes(rows: int, size: int, jobs: int) -> None:
    assert load(rows, replace(Row(), request_bytes=size), Assumptions()).jobs == jobs


def test_one_list_for_all_triggers_takes_fewer_reads_than_one_for_each() -> None:
    for rows in SIZES:
        need = load(rows, Row(), Assumptions())
        assert need.reads <= need.reads_alone


def test_the_first_wall_is_the_one_that_the_fewest_rows_meet() -> None:
    row, given = Row(), Assumptions()
    found = walls(load(SIZES[-1], row, given), row, given)
    assert [wall.share for wall in found] == sorted((wall.share for wall in found), reverse=True)
    assert found[0].share > 1
    assert max(wall.share for wall in walls(load(SIZES[0], row, given), row, given)) < 1
