"""What a number of rows a day needs, from the limits of the services. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

from airflow_gemini_batch.jobs.polling import DEFAULT_POLL_INTERVAL
from airflow_gemini_batch.jobs.shared_polls import REQUESTS_PER_MINUTE
from airflow_gemini_batch.service import (
    MAX_BYTES,
    MAX_LOAD_BYTES,
    MAX_LOAD_URIS,
    MAX_ROWS,
    PAGE_ROWS,
    READS_A_MINUTE,
    SUBMISSIONS_A_MINUTE,
)

MINUTES_A_DAY = 24 * 60
SIZES = (10**6, 10**8, 10**10)


@dataclass(frozen=True)
class Row:
    """What one row is assumed to be.

    :param model: whose batch price is taken
    :param input_price: US dollars per million tokens
    :param output_price: the same, thinking included
    """

    model: str = "gemini-3.1-flash-lite"
    request_bytes: int = 2_000
    output_bytes: int = 4_000
    input_tokens: int = 400
    output_tokens: int = 100
    input_price: float = 0.125
    output_price: float = 0.75


@dataclass(frozen=True)
class Assumptions:
    """What is not a limit, but measured or chosen.

    :param job_hours: from the creation of a job to its end
    :param staging_reads: how often a landing reads each staged byte
    :param landing_seconds: of a landing, however few its rows are
    :param rows_a_slot: rows that one slot lands in a second
    :param bigquery_price: US dollars per TiB, on demand
    :param triggers: of one triggerer process, Airflow's default
    :param map_length: tasks that one mapped task may become, Airflow's default
    """

    job_hours: float = 6.0
    staging_reads: int = 6
    landing_seconds: float = 30.0
    rows_a_slot: float = 5_000.0
    bigquery_price: float = 6.25
    triggers: int = 1_000
    map_length: int = 1_024


@dataclass(frozen=True)
class Load:
    """What the rows of a day need.

    :param waiting: jobs that exist at the same time
    :param submissions: a minute, over the day
    :param reads: a minute, if each triggerer process lists all waiting jobs once per interval
    :param reads_alone: a minute, if each trigger read its own job
    :param slots: average of the day
    :param bytes_billed: by BigQuery
    """

    rows: int
    jobs: int
    waiting: int
    triggerers: int
    submissions: float
    reads: float
    reads_alone: float
    slots: float
    bytes_billed: int
    bigquery_cost: float
    model_cost: float


@dataclass(frozen=True)
class Wall:
    """A limit, and how much of it is used.

    :param share: of the limit; above 1, it is exceeded
    :param way: round it
    """

    name: str
    share: float
    way: str


def load(rows: int, row: Row, given: Assumptions) -> Load:
    """Return what so many rows a day need, with the defaults of the package."""
    jobs = max(ceil(rows / MAX_ROWS), ceil(rows * row.request_bytes / MAX_BYTES))
    waiting = ceil(jobs * given.job_hours / 24)
    triggerers = ceil(waiting / given.triggers)
    looks = 60 / DEFAULT_POLL_INTERVAL
    # Before a job is created, a list tells whether this task run has one.
    lookups = jobs / MINUTES_A_DAY
    scanned = rows * (row.request_bytes + row.output_bytes) * given.staging_reads
    tokens = row.input_tokens * row.input_price + row.output_tokens * row.output_price
    return Load(
        rows=rows,
        jobs=jobs,
        waiting=waiting,
        triggerers=triggerers,
        submissions=jobs / MINUTES_A_DAY,
        reads=min(ceil(waiting / PAGE_ROWS) * looks, REQUESTS_PER_MINUTE) * triggerers + lookups,
        reads_alone=waiting * looks + lookups,
        slots=rows / given.rows_a_slot / (MINUTES_A_DAY * 60),
        bytes_billed=scanned,
        bigquery_cost=scanned / 2**40 * given.bigquery_price,
        model_cost=rows * tokens / 10**6,
    )


def walls(need: Load, row: Row, given: Assumptions) -> list[Wall]:
    """Return the limits, the one that is met first before the others."""
    output = need.rows * row.output_bytes
    found = [
        Wall(
            f"{SUBMISSIONS_A_MINUTE} submissions a minute, if the day's jobs are created within an hour",
            need.jobs / (SUBMISSIONS_A_MINUTE * 60),
            "spread the runs over the day, and let a pool hold the submit tasks back; then more regions or "
            "projects, each with a quota of its own",
        ),
        Wall(
            f"{READS_A_MINUTE} reads a minute",
            need.reads / READS_A_MINUTE,
            "a longer `poll_interval`, and more triggers in a process, since each process lists all jobs; a "
            f"process makes at most {REQUESTS_PER_MINUTE} requests a minute, and then sees an end later",
        ),
        Wall(
            f"{given.triggers:,} triggers in a triggerer, if the jobs are spread over the day",
            need.waiting / given.triggers,
            "more triggerers, or a higher `[triggerer] capacity`",
        ),
        Wall(
            f"{given.map_length:,} tasks in a mapped task, if one DAG run a day does it all",
            need.jobs / given.map_length,
            "hourly runs, or a higher `[core] max_map_length`",
        ),
        Wall(
            "landings that merge or truncate and so take turns, if each job has its own",
            need.jobs * given.landing_seconds / (MINUTES_A_DAY * 60),
            "land many jobs at once, as a list; then several tables",
        ),
        Wall(
            f"{MAX_LOAD_URIS:,} URIs in a load, if one landing takes the day's jobs",
            need.jobs / MAX_LOAD_URIS,
            "land every hour",
        ),
        Wall(
            f"{MAX_LOAD_BYTES / 10**12:.0f} TB in a load, if one landing takes the day's jobs",
            output / MAX_LOAD_BYTES,
            "land every hour",
        ),
    ]
    return sorted(found, key=lambda wall: -wall.share)
