"""The report: the facts read from the tables, and the page."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any

import pytest

from airflow_gemini_batch.batch_job import BatchJob, JobError, JobName, JobState
from airflow_gemini_batch.exceptions import ReportError
from airflow_gemini_batch.gcp.table_name import TableName
from airflow_gemini_batch.jobs.identity import ESTIMATE_LABEL
from airflow_gemini_batch.requests.response_schema import ResponseSchema
from airflow_gemini_batch.results.cost import Tokens
from airflow_gemini_batch.results.landing import WriteMode
from airflow_gemini_batch.results.report.facts import ErrorKind, ReportFacts, report_facts
from airflow_gemini_batch.results.report.page import remark, render, sentence, share
from airflow_gemini_batch.results.report.tokens import histogram, short
from airflow_gemini_batch.results.row_status import RowStatus
from tests.results.lines import answered, asked, failed, response

if TYPE_CHECKING:
    from tests.results.conftest import Lander

BEGIN = datetime(2026, 11, 1, 18, 13, tzinfo=UTC)
NAME = JobName("my-project", "us-central1", "4711")
TABLE = TableName("my-project", "my_data", "answers")
JOB = BatchJob(
    NAME,
    JobState.SUCCEEDED,
    model="publishers/google/models/gemini-2.5-flash",
    create_time=BEGIN,
    start_time=BEGIN + timedelta(minutes=30),
    end_time=BEGIN + timedelta(minutes=90),
)
REFUSED = ErrorKind("failed", 400, "INVALID_ARGUMENT", "No contents", 2, 0, ("a", "b"))
BUSY = ErrorKind("failed", 429, "RESOURCE_EXHAUSTED", "Try again", 3, 3, ("c", "d", "e"))
FACTS = ReportFacts(
    job_name=NAME,
    results=TABLE,
    error_table=TABLE.sibling("answers_errors"),
    job=JOB,
    manifest=None,
    counts={**dict.fromkeys(RowStatus, 0), RowStatus.SUCCEEDED: 95, RowStatus.FAILED: 5},
    finish_reasons={"STOP": 95},
    tokens=Tokens(1000, 0, 500, 0, 1500),
    token_counts={"prompt": {10: 95}, "response": {5: 95}},
    errors=(BUSY, REFUSED),
    error_kinds=2,
    model="gemini-2.5-flash",
    task="dag.land",
    run="run-1",
    landed_at=BEGIN + timedelta(minutes=100),
)


class Page(HTMLParser):
    """The text and the tags of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self._texts: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        if self.tags[-1:] != ["style"]:
            self._texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self._texts).split())


def test_cost_and_estimate() -> None:
    assert "The price of this model is unknown" in Page(render(FACTS)).text
    job = replace(JOB, labels={ESTIMATE_LABEL: "200000-1500000"})
    assert "$" not in Page(render(FACTS)).text
    assert "$1,234.50" in Page(render(replace(FACTS, cost_usd=Decimal("1234.5")))).text
    text = Page(render(replace(FACTS, job=job, cost_usd=Decimal("0.53")))).text
    assert "total $0.5300" in text
    assert "estimated $0.2000 to $1.50" in text


def test_searches_are_in_the_report_if_the_table_knows_them(lander: Lander) -> None:
    answer = response("yes")
    answer["candidates"][0]["groundingMetadata"] = {"webSearchQueries": ["a", "b"]}
    lander.put_input(asked("a"), asked("b"))
    lander.put_output(answered("a", answer), answered("b", answer))
    manifest = lander.land()
    assert manifest.search_queries == 4
    tables = (lander.destination, lander.error_table)
    facts = report_facts(lander.job().name, *tables, lander.bigquery)
    assert (facts.search_queries, facts.cost_usd) == (4, manifest.cost_usd)
    assert "search queries 4" in Page(render(facts)).text
    # A table of an earlier version.
    columns = "SELECT * EXCEPT (search_queries)"
    older = f"CREATE OR REPLACE TABLE {tables[0].quoted} AS {columns} FROM {tables[0].quoted}"
    lander.query(older)
    facts = report_facts(lander.job().name, *tables, lander.bigquery)
    assert (facts.search_queries, facts.cost_usd) == (0, manifest.cost_usd)
    assert "search queries 4" not in Page(render(facts)).text
    # A landing adds the column.
    assert lander.land().search_queries == 4
    assert {row["search_queries"] for row in lander.rows().values()} == {2}


def with_counts(**counts: int) -> ReportFacts:
    return replace(FACTS, counts={status: counts.get(status.value, 0) for status in RowStatus})


def land_all_kinds(lander: Lander) -> Any:
    """Land rows of all seven statuses."""
    keys = ["good", "same", "busy1", "busy2", "refused", "blocked", "cut", "invalid", "broken", "gone"]
    lander.put_input(*(asked(key, "a secret prompt") for key in keys))
    good = '{"topic": "a secret answer"}'
    lander.put_output(
        answered("good", good, text="a secret prompt"),
        answered("same", good, text="a secret prompt"),
        answered("same", good, text="a secret prompt"),
        failed("busy1", 429, "RESOURCE_EXHAUSTED", "Try again in 17 seconds"),
        failed("busy2", 429, "RESOURCE_EXHAUSTED", "Try again in 9 seconds"),
        failed("refused", 400, "INVALID_ARGUMENT", "<script>alert(1)</script>"),
        answered("blocked", response("a secret answer", finish="SAFETY")),
        answered("cut", response("a secret answer", finish="MAX_TOKENS")),
        answered("invalid", '{"topic": 7}'),
        '{"key": "broken", "request": {"contents": "a secret prompt',
    )
    schema = {"type": "object", "properties": {"topic": {"type": "string"}}, "required": ["topic"]}
    return lander.land(ResponseSchema.of(schema))


def test_the_facts_match_the_tables(lander: Lander) -> None:
    manifest = land_all_kinds(lander)
    job = lander.job()
    facts = report_facts(job.name, lander.destination, lander.error_table, lander.bigquery, manifest=manifest)
    assert facts.counts == manifest.counts
    assert facts.rows == manifest.input_rows == 10
    assert facts.landed_at == manifest.landed_at
    assert facts.tokens == manifest.tokens
    later = report_facts(job.name, lander.destination, lander.error_table, lander.bigquery)
    assert facts.cost_usd == later.cost_usd == manifest.cost_usd is not None
    assert facts.finish_reasons == {"STOP": 3, "MAX_TOKENS": 1, "SAFETY": 1}
    assert facts.token_counts == {"prompt": {10: 5}, "response": {4: 5}}
    assert (facts.model, facts.task, facts.run) == ("gemini-2.5-flash", "dag.land", "run-1")
    busy, *others = facts.errors
    assert (busy.status, busy.code, busy.name) == ("failed", 429, "RESOURCE_EXHAUSTED")
    assert (busy.rows, busy.retryable, busy.keys) == (2, 2, ("busy1", "busy2"))
    assert facts.error_kinds == 1 + len(others) == 7
    assert sentence(facts) == ("2 of 10 rows succeeded (20.0%); 4 of the other 8 may succeed if resubmitted.")


def test_the_page_contains_no_prompts_and_no_responses(lander: Lander) -> None:
    manifest = land_all_kinds(lander)
    job = lander.job(create_time=BEGIN)
    facts = report_facts(
        job.name, lander.destination, lander.error_table, lander.bigquery, job=job, manifest=manifest
    )
    html = render(facts)
    page = Page(html)
    assert "secret" not in html
    assert "script" not in page.tags
    for text in (
        sentence(facts),
        "<script>alert(1)</script>",
        "not landed: 1.",
        "busy1",
        "SUCCEEDED",
    ):
        assert text in page.text
    for status in RowStatus:
        assert f"{status} " in page.text


def test_other_jobs_are_not_in_the_report(lander: Lander) -> None:
    lander.put_output(answered("a"), failed("b", 400, "INVALID_ARGUMENT"))
    lander.land()
    other = replace(lander, job_id="other")
    other.put_output(answered("c"))
    other.land()
    facts = report_facts(other.job().name, lander.destination, lander.error_table, lander.bigquery)
    assert (facts.rows, facts.errors) == (1, ())
    assert sentence(facts) == "The only row succeeded."


def test_rows_that_a_merge_did_not_write_are_in_the_report_of_their_landing(lander: Lander) -> None:
    lander.put_output(answered("a"))
    lander.land(write_mode=WriteMode.MERGE)
    other = replace(lander, job_id="other")
    other.put_output(failed("a", 400, "INVALID_ARGUMENT"))
    manifest = other.land(write_mode=WriteMode.MERGE)
    name = other.job().name
    facts = report_facts(name, lander.destination, lander.error_table, lander.bigquery, manifest=manifest)
    assert facts.counts == manifest.counts
    assert facts.finish_reasons == {}
    assert sentence(facts) == "The only row did not succeed; resubmitting it would not help."
    assert "landed by" not in Page(render(facts)).text


def test_a_job_that_was_not_landed_there(lander: Lander) -> None:
    lander.put_output(answered("a"))
    lander.land()
    with pytest.raises(ReportError, match=r"results has no rows of projects/.*/4711\. Land the job there"):
        report_facts(NAME, lander.destination, lander.error_table, lander.bigquery)


def test_a_table_that_does_not_exist(lander: Lander) -> None:
    with pytest.raises(ReportError, match=r"Could not read table .*results: "):
        report_facts(NAME, lander.destination, lander.error_table, lander.bigquery)


def test_the_page_fetches_nothing() -> None:
    page = Page(render(FACTS))
    assert not {"script", "link", "img", "iframe", "object", "embed"} & set(page.tags)
    assert not [name for name, _ in page.attributes if name in ("src", "href", "srcset", "background")]
    assert "url(" not in render(FACTS)
    assert ("content", "default-src 'none'; style-src 'unsafe-inline'") in page.attributes


@pytest.mark.parametrize("field", ["message", "name", "status", "keys"])
def test_values_are_escaped(field: str) -> None:
    bad = '"><b onclick=x>'
    error = replace(BUSY, **{field: (bad,) if field == "keys" else bad})
    html = render(replace(FACTS, errors=(error,), run=bad, finish_reasons={bad: 1}, model=bad))
    assert bad not in html
    assert "b" not in Page(html).tags
    assert Page(html).text.count(bad) >= 3


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        (with_counts(succeeded=12_000), "All 12,000 rows succeeded."),
        (
            replace(with_counts(succeeded=9, failed=1), errors=(replace(REFUSED, rows=1),), error_kinds=1),
            "9 of 10 rows succeeded (90.0%); resubmitting the other row would not help.",
        ),
        (
            replace(with_counts(succeeded=99_999, failed=5), error_kinds=40),
            "99,999 of 100,004 rows succeeded (> 99.9%); at least 3 of the other 5 may succeed if "
            "resubmitted.",
        ),
        (
            replace(with_counts(succeeded=7, failed=3), error_kinds=1),
            "7 of 10 rows succeeded (70.0%); the other 3 may succeed if resubmitted.",
        ),
        (
            replace(with_counts(succeeded=0, failed=3), error_kinds=1),
            "0 of 3 rows succeeded (0%); all of them may succeed if resubmitted.",
        ),
        (
            replace(with_counts(succeeded=0, failed=5), error_kinds=1),
            "0 of 5 rows succeeded (0%); 3 of them may succeed if resubmitted.",
        ),
        (
            replace(with_counts(succeeded=0, failed=1), errors=(replace(REFUSED, rows=1),), error_kinds=1),
            "The only row did not succeed; resubmitting it would not help.",
        ),
    ],
)
def test_the_first_sentence(facts: ReportFacts, expected: str) -> None:
    assert sentence(facts) == expected
    assert expected in Page(render(facts)).text


def test_no_message_quotes_a_prompt_and_what_is_quoted_makes_no_kind(lander: Lander) -> None:
    prompts = {"a": "zebra stripes", "b": "a zebra hides", "c": "zebra " * 200}
    lander.put_input(*(asked(key) for key in prompts))
    lander.put_output(
        *(
            failed(key, 400, "INVALID_ARGUMENT", f"The text '{prompt}' in 'contents.parts' is bad")
            for key, prompt in prompts.items()
        )
    )
    manifest = lander.land()
    name = lander.job().name
    facts = report_facts(name, lander.destination, lander.error_table, lander.bigquery, manifest=manifest)
    assert "zebra" not in render(facts)
    # The report reads the first 400 characters of a message, so the long one ends in the quoted text.
    assert [(error.message, error.rows) for error in facts.errors] == [
        ("The text '…' is bad", 2),
        ("The text '…'", 1),
    ]
    assert all("zebra" in row["error_message"] for row in lander.errors().values())


def test_a_job_that_failed_says_why() -> None:
    job = replace(JOB, state=JobState.FAILED, error=JobError(13, "System error."), start_time=None)
    facts = replace(FACTS, job=job)
    assert remark(facts) == "The job ended as FAILED; the rows it had completed are landed: System error."
    assert remark(facts) in Page(render(facts)).text


def test_a_report_without_job_and_manifest() -> None:
    page = Page(render(replace(FACTS, job=None, errors=(), token_counts={}, finish_reasons={})))
    assert "landed 2026-11-01 19:53:00" in page.text
    assert "The price of this model is unknown" in page.text


def test_phases_are_between_known_times() -> None:
    text = Page(render(FACTS)).text
    assert "queued 30 min running 1 h until landed 10 min" in text
    without_start = replace(FACTS, job=replace(JOB, start_time=None))
    assert "queued or running 1 h 30 min until landed 10 min" in Page(render(without_start)).text


@pytest.mark.parametrize(
    ("count", "whole", "expected"),
    [
        (0, 10, "0%"), (10, 10, "100%"), (0, 0, "0%"), (1, 10_000, "< 0.1%"), (9_999, 10_000, "> 99.9%"),
        (999, 1000, "99.9%"), (1, 8, "12.5%"),
    ],
)  # fmt: skip
def test_only_all_rows_are_100_percent(count: int, whole: int, expected: str) -> None:
    assert share(count, whole) == expected


def test_a_histogram_keeps_every_row_and_groups_the_longest() -> None:
    counts = dict.fromkeys(range(100, 400), 10) | {200_000: 3}
    found = histogram(counts)
    assert found
    assert sum(column.rows for column in found.columns) == 3003
    assert len(found.columns) <= 32
    last = found.columns[-1]
    assert (last.high, last.rows) == (None, 3 + sum(10 for n in range(last.low, 400)))
    assert found.columns[0].low == 100
    assert (found.median, found.p95, found.most) == (250, 385, 200_000)
    widths = {column.high - column.low for column in found.columns if column.high}
    assert widths == {10}


def test_histograms_of_few_rows() -> None:
    assert histogram({}) is None
    found = histogram({7: 2})
    assert found
    assert [(column.low, column.rows) for column in found.columns] == [(7, 2)]
    assert found.columns[0].label == "7 tokens: 2 rows"


@pytest.mark.parametrize(
    ("number", "expected"),
    [(0, "0"), (950, "950"), (1000, "1k"), (1250, "1.2k"), (35_499, "35k"), (1_500_000, "1.5M")],
)
def test_axis_numbers(number: int, expected: str) -> None:
    assert short(number) == expected
