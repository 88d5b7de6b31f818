"""What the package assumes where nobody has published what the service does, each in one place. Pure.

Where the package decides by a constant or a function of its own, the assumption is read from that.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from airflow_gemini_batch.batch_job import IMPORT_FAILED, JobState
from airflow_gemini_batch.gcp.wildcards import Matches

if TYPE_CHECKING:
    from collections.abc import Sequence

    from google.cloud.storage import Blob

FOUND, REFUSED, NOTHING = "accepted, and finds the job", "refused", "accepted, but finds nothing"
READ, NOT_READ = "read", "not read"
SHALLOW, DEEP = "star/a.jsonl", "star/deep/b.jsonl"
"""Names of the objects that wildcards are tried on, below the folder of the probe."""


@dataclass(frozen=True)
class Assumption:
    """One thing that the package assumes.

    :param question: what is asked
    :param assumed: the answer that the package counts on
    :param if_not: what to do if the answer is another
    """

    name: str
    question: str
    assumed: str
    if_not: str


@dataclass(frozen=True)
class _Named:
    name: str


def matched(uri: str) -> str:
    """Return the objects that the package takes a URI to match, as an answer."""
    listed = cast("Sequence[Blob]", [_Named(name) for name in (SHALLOW, DEEP)])
    found: list[Any] = list(Matches.of(uri, listed).objects)
    return ", ".join(sorted(str(each.name) for each in found))


def ended(state: JobState, code: int | None = None) -> str:
    """Return how a job ended, as an answer."""
    return state.name if code is None else f"{state.name} with code {code}"


_FILTER = "Without it, the package finds its jobs by their creation time, which reads more pages: no setting."

ASSUMPTIONS: tuple[Assumption, ...] = (
    Assumption(
        "key_echo",
        "Does the member `key` beside a request come back in the output?",
        "yes",
        "Set key_label=True on the tasks that build requests. Rows without keys are matched by request.",
    ),
    Assumption(
        "several_uris",
        "How many of two input URIs does a job read?",
        "2",
        "Give each job one URI, or one with a wildcard.",
    ),
    Assumption(
        "wildcard_star",
        "Which objects does star/* match, of star/a.jsonl and star/deep/b.jsonl?",
        matched("gs://bucket/star/*"),
        "Keep objects in other folders out of the reach of *, or list the objects.",
    ),
    Assumption(
        "wildcard_double_star",
        "Which of them does star/** match?",
        matched("gs://bucket/star/**"),
        "List the objects, or put them into one folder.",
    ),
    Assumption(
        "gzip",
        "Is an input file that is compressed with gzip read?",
        NOT_READ,
        "Nothing to set: your files may be compressed, though `gemini-batch validate` cannot read them.",
    ),
    Assumption(
        "job_labels",
        "Does a job keep its labels?",
        "yes",
        "Nothing to set: jobs are then found by their display names. Do not filter jobs by label.",
    ),
    Assumption("filter_label", 'Is the list filter labels.key="value" accepted?', FOUND, _FILTER),
    Assumption(
        "filter_label_exists",
        "Is the list filter labels.key:* accepted?",
        FOUND,
        "Nothing to set: the package does not use this form. Filter by a value.",
    ),
    Assumption(
        "filter_state",
        'Is the list filter state="…" accepted?',
        FOUND,
        "Nothing to set: the package does not use this form to find its own jobs.",
    ),
    Assumption(
        "filter_create_time",
        'Is the list filter createTime>="…" accepted?',
        FOUND,
        "Report it: jobs whose labels were lost are found by it.",
    ),
    Assumption(
        "filter_display_name",
        'Is the list filter displayName:"start*" accepted?',
        FOUND,
        "Report it: jobs whose labels were lost are found by it.",
    ),
    Assumption(
        "filter_hyphen",
        "Is a label key with a hyphen accepted in a list filter?",
        REFUSED,
        "Nothing to set: keys of the package have underscores.",
    ),
    Assumption(
        "end_all_rows_failed",
        "How does a job end whose rows all fail?",
        ended(JobState.SUCCEEDED),
        "Set on_incomplete on the waiting task, so that the failed rows are landed with their errors.",
    ),
    Assumption(
        "end_cancelled",
        "How does a job end that was cancelled?",
        ended(JobState.CANCELLED),
        "Report it: a retry may create the job again that somebody cancelled.",
    ),
    Assumption(
        "end_bad_line",
        "How does a job end if one of its two lines cannot be imported?",
        ended(JobState.FAILED, IMPORT_FAILED),
        "Compare the row counts of landed jobs: rows may be left out without an error.",
    ),
    Assumption(
        "table_columns",
        "Which columns does an output table have if only one row has the member `note`?",
        "key, note, request, response, status",
        "Give all rows of a file the same members if the output is a table.",
    ),
    Assumption(
        "multi_region_table",
        "Can a job in us or eu read a table in a region inside?",
        "yes",
        "Use location='global' for jobs that read tables.",
    ),
    Assumption(
        "upper_case_location",
        "Does BigQuery take the location of a query in upper case?",
        REFUSED,
        "Nothing to set: the package passes a location as BigQuery spells it.",
    ),
)

BY_NAME = {assumption.name: assumption for assumption in ASSUMPTIONS}
