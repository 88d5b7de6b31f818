"""Where the page looks for jobs: the option ``[gemini_batch] page_sources``. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from airflow_gemini_batch.batch_job import check_place
from airflow_gemini_batch.exceptions import InvalidParameterError

_PARAMETER = "[gemini_batch] page_sources"
_FORM = "give PROJECT/LOCATION or CONNECTION@PROJECT/LOCATION, and commas between several"


@dataclass(frozen=True)
class Source:
    """A project and location, and the connection that may list its jobs.

    :param project: ``None`` for the project of the connection
    """

    gcp_conn_id: str
    project: str | None
    location: str

    def __str__(self) -> str:
        return f"{self.project or self.gcp_conn_id}/{self.location}"


def parse_sources(text: str, default: Source) -> tuple[Source, ...]:
    """Parse the option; without any entry, it is the default.

    :raises InvalidParameterError: an entry does not have the form, or names no project or location
    """
    entries = [entry.strip() for entry in text.split(",") if entry.strip()]
    return tuple(dict.fromkeys(_source(entry, default) for entry in entries)) or (default,)


def _source(entry: str, default: Source) -> Source:
    connection, _, place = entry.rpartition("@")
    project, _, location = place.rpartition("/")
    try:
        check_place(project, location)
    except InvalidParameterError:
        raise InvalidParameterError(_PARAMETER, entry, _FORM) from None
    return Source(connection or default.gcp_conn_id, project, location)
