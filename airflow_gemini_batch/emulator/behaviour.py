"""What the emulator does where nobody has published what the service does."""

from __future__ import annotations

import re
from dataclasses import dataclass

from airflow_gemini_batch.batch_job import JobState

_FORMS = {
    "label": re.compile(r"labels\.[a-z0-9_]+\s*="),
    "label_exists": re.compile(r"labels\.[a-z0-9_]+\s*:"),
    "state": re.compile(r"\bstate\s*!?="),
    "create_time": re.compile(r"\b(createTime|create_time)\s*[<>=]"),
    "display_name": re.compile(r"\b(displayName|display_name)\s*:"),
}


@dataclass(frozen=True)
class Behaviour:
    """What the emulator does; each default is what the package assumes of the service.

    :param reads_all_uris: a job with several input URIs reads all of them, not only the first
    :param star_crosses: ``*`` in a URI matches across folders
    :param double_star_crosses: ``**`` does
    :param reads_gzip: an input file that is compressed with gzip is decompressed
    :param keeps_labels: the labels of a create are those of the job
    :param refused_filters: forms of list filters that are a 400: ``label``, ``label_exists``, ``state``,
        ``create_time``, ``display_name``
    :param filters_hyphens: a filter may name a label key with a hyphen
    :param ends_all_failed: state of a job whose rows have all failed
    :param ends_cancelled: state of a job that was cancelled
    :param skips_bad_lines: a line that cannot be imported is left out, and does not fail the job
    :param unites_columns: rows with different members are written to a table with the columns of all
    :param reads_tables_inside: a job in ``us`` or ``eu`` reads tables of a region inside
    :param takes_upper_case: BigQuery takes a location such as ``US-CENTRAL1``
    """

    reads_all_uris: bool = True
    star_crosses: bool = False
    double_star_crosses: bool = True
    reads_gzip: bool = False
    keeps_labels: bool = True
    refused_filters: tuple[str, ...] = ()
    filters_hyphens: bool = False
    ends_all_failed: JobState = JobState.SUCCEEDED
    ends_cancelled: JobState = JobState.CANCELLED
    skips_bad_lines: bool = False
    unites_columns: bool = True
    reads_tables_inside: bool = True
    takes_upper_case: bool = False

    def refuses(self, filter_: str) -> str:
        """Return the form in a list filter that is refused; empty if there is none."""
        return next((form for form in self.refused_filters if _FORMS[form].search(filter_)), "")


AS_ASSUMED = Behaviour()
