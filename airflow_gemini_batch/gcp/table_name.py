"""BigQuery tables: their names, taken apart, and where they lie."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from airflow_gemini_batch.exceptions import DatasetNotFoundError, InvalidParameterError

if TYPE_CHECKING:
    from google.cloud import bigquery as bq
    from google.cloud.bigquery import Client

_PROJECT = re.compile(r"(?:[a-z0-9.-]+:)?[a-z][a-z0-9-]*[a-z0-9]")
_DATASET = re.compile(r"[A-Za-z0-9_]{1,1024}")
# BigQuery takes any letter, mark and digit of Unicode, connectors, dashes and spaces.
_TABLE = re.compile(r"[\w\- ]{1,1024}")
_FORM = "give 'project.dataset.table', or 'dataset.table' in the project of the connection"


@dataclass(frozen=True)
class TableName:
    """``project.dataset.table``."""

    project: str
    dataset: str
    table: str

    @classmethod
    def parse(
        cls, name: str, default_project: str | None = None, parameter: str = "destination_table"
    ) -> TableName:
        """Take ``project.dataset.table``, ``dataset.table`` or either after ``bq://`` apart.

        :param default_project: the project of a name that has none
        :raises InvalidParameterError: when it is no such name
        """
        if not isinstance(name, str):
            raise InvalidParameterError(parameter, name, _FORM)
        parts = name.removeprefix("bq://").replace("`", "").rsplit(".", 2)
        if len(parts) == 2 and default_project:
            parts = [default_project, *parts]
        if len(parts) != 3:
            raise InvalidParameterError(parameter, name, _FORM)
        if "$" in parts[2]:
            raise InvalidParameterError(
                parameter, name, "leave out the partition after '$'; rows go to the partition of their day"
            )
        for part, pattern in zip(parts, (_PROJECT, _DATASET, _TABLE), strict=True):
            if not pattern.fullmatch(part):
                raise InvalidParameterError(parameter, name, f"{part!r} cannot be part of a name; {_FORM}")
        return cls(*parts)

    @property
    def dataset_id(self) -> str:
        """``project.dataset``."""
        return f"{self.project}.{self.dataset}"

    @property
    def quoted(self) -> str:
        """The name as GoogleSQL reads it."""
        return f"`{self}`"

    def sibling(self, table: str) -> TableName:
        """Name another table of the same dataset."""
        return replace(self, table=table)

    def __str__(self) -> str:
        return f"{self.project}.{self.dataset}.{self.table}"


def get_table(bigquery: Client, table: TableName | str) -> bq.Table | None:
    """Read a table's metadata; ``None`` when the table does not exist."""
    from google.api_core.exceptions import NotFound

    try:
        return bigquery.get_table(str(table))
    except NotFound:
        return None


def dataset_location(table: TableName, bigquery: Client, job_location: str) -> str:
    """Return where the dataset of a table lies, in capitals.

    :param job_location: named in the error as a place that would do
    :raises DatasetNotFoundError: when there is no such dataset
    """
    from google.api_core.exceptions import NotFound

    try:
        dataset = bigquery.get_dataset(table.dataset_id)
    except NotFound:
        place = "US" if job_location == "global" else job_location
        raise DatasetNotFoundError(table.dataset_id, place) from None
    return (dataset.location or "US").upper()
