"""BigQuery tables: parsing their names, looking them up, and the location of their dataset."""

from __future__ import annotations

import logging
import re
import unicodedata
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from airflow_gemini_batch.exceptions import DatasetNotFoundError, InvalidParameterError
from airflow_gemini_batch.models import GLOBAL

if TYPE_CHECKING:
    from google.cloud import bigquery as bq
    from google.cloud.bigquery import Client

log = logging.getLogger(__name__)

_PROJECT = re.compile(r"(?:[a-z0-9.-]+:)?[a-z0-9](?:[a-z0-9-]*[a-z0-9])?")
_DATASET = re.compile(r"[A-Za-z0-9_]{1,1024}")
_MAX_TABLE_BYTES = 1024
# Unicode categories that BigQuery allows: letters, marks, numbers, connectors, dashes, spaces.
_TABLE_CATEGORIES = ("L", "M", "N", "Pc", "Pd", "Zs")
_URI_FORM = "give bq://project.dataset.table"
_FORM = "give 'project.dataset.table'"
_REGIONS_INSIDE = {"us": "us-", "eu": "europe-"}
_A_REGION_INSIDE = {"us": "us-central1", "eu": "europe-west4"}
# The data of the multi-region `eu` stays in member states, so London and Zurich are not part of it.
_EUROPE_OUTSIDE_EU = ("europe-west2", "europe-west6")


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
        """Parse ``project.dataset.table`` or ``dataset.table``, with or without a leading ``bq://``.

        :param default_project: used when the name has no project
        :param parameter: named in the error
        :raises InvalidParameterError: the name is not valid in BigQuery, or selects a partition
        """
        if not isinstance(name, str):
            raise InvalidParameterError(parameter, name, _FORM)
        form = _URI_FORM if name.startswith("bq://") else _FORM
        if default_project:
            form += f", or 'dataset.table' in project {default_project!r}"
        parts = re.sub("`([^`]*)`", r"\1", name.removeprefix("bq://")).rsplit(".", 2)
        if len(parts) == 2 and default_project:
            parts = [default_project, *parts]
        if len(parts) != 3:
            raise InvalidParameterError(parameter, name, form)
        project, dataset, table = parts
        base, dollar, partition = table.partition("$")
        if dollar:
            raise InvalidParameterError(
                parameter, name, f"remove the partition suffix '${partition}': give the whole table, {base!r}"
            )
        valid = (_PROJECT.fullmatch(project), _DATASET.fullmatch(dataset), _is_table_id(table))
        for part, is_valid in zip(parts, valid, strict=True):
            if not is_valid:
                raise InvalidParameterError(parameter, name, f"{part!r} cannot be part of a name; {form}")
        return cls(project, dataset, table)

    @property
    def dataset_id(self) -> str:
        """``project.dataset``."""
        return f"{self.project}.{self.dataset}"

    @property
    def quoted(self) -> str:
        """The name as GoogleSQL reads it, in backticks."""
        return f"`{self}`"

    def sibling(self, table: str) -> TableName:
        """Name another table of the same dataset."""
        return replace(self, table=table)

    def __str__(self) -> str:
        return f"{self.project}.{self.dataset}.{self.table}"


def is_dataset_uri(uri: str) -> bool:
    """Whether a URI is ``bq://project.dataset``."""
    project, _, dataset = uri.removeprefix("bq://").rpartition(".")
    return uri.startswith("bq://") and bool(_PROJECT.fullmatch(project) and _DATASET.fullmatch(dataset))


def get_table(bigquery: Client, table: TableName | str) -> bq.Table | None:
    """Read a table's metadata; ``None`` when the table does not exist."""
    from google.api_core.exceptions import NotFound

    try:
        return bigquery.get_table(str(table))
    except NotFound:
        return None


def dataset_location(table: TableName, bigquery: Client, job_location: str) -> str:
    """Return the location of a table's dataset as BigQuery spells it, such as ``US`` or ``europe-west4``.

    Jobs take it unchanged: whether they take another spelling is not documented.

    :param job_location: suggested in the error as the location for a new dataset
    :raises DatasetNotFoundError: the dataset does not exist
    """
    from google.api_core.exceptions import NotFound

    try:
        dataset = bigquery.get_dataset(table.dataset_id)
    except NotFound:
        suggestion = "US" if job_location == GLOBAL else region_inside(job_location)
        raise DatasetNotFoundError(table.dataset_id, suggestion) from None
    return dataset.location or "US"


def is_same_location(one: str, other: str) -> bool:
    """Whether two locations are the same; BigQuery and Cloud Storage spell them with other cases."""
    return one.lower() == other.lower()


def check_region(table: str, dataset_location: str | None, job_location: str) -> None:
    """Check that a batch job can read a table.

    ``global`` reads tables of any region. Whether ``us`` and ``eu`` read those of a region inside them is not
    documented, so that only gives a warning.

    :param table: its name, for the error
    :param dataset_location: location of its dataset; ``None`` if unknown
    :raises InvalidParameterError: the dataset is in a multi-region, or in another region than the job
    """
    if not dataset_location:
        return
    if doubt := region_doubt(dataset_location, job_location):
        log.warning("%s Table: %s", doubt, table)
        return
    region = dataset_location.lower()
    if region in _REGIONS_INSIDE:
        is_region = job_location != GLOBAL and job_location not in _REGIONS_INSIDE
        example = job_location if is_region else _A_REGION_INSIDE[region]
        raise InvalidParameterError(
            "input_uri",
            table,
            f"its dataset is in the multi-region {dataset_location!r}, which batch jobs cannot read; "
            f"copy the table to a dataset in a single region such as {example!r}",
        )
    if job_location not in (GLOBAL, region):
        raise InvalidParameterError(
            "location",
            job_location,
            f"the dataset of {table} is in {region!r}, and a job reads only tables in its own region; use "
            "that location, or 'global'",
        )


def region_doubt(dataset_location: str, job_location: str) -> str:
    """Return why nobody knows whether a job can read a table; empty if it is known."""
    region = dataset_location.lower()
    if not _is_inside(region, job_location):
        return ""
    return (
        f"The dataset of the input is in {region}. Google does not say whether a batch job in "
        f"{job_location!r} can read it. If the job fails, use location='global'."
    )


def region_inside(job_location: str) -> str:
    """Return a region whose tables a job can read: its own, or one inside its multi-region."""
    return _A_REGION_INSIDE.get(
        job_location, _A_REGION_INSIDE["us"] if job_location == GLOBAL else job_location
    )


def _is_inside(region: str, multi_region: str) -> bool:
    prefix = _REGIONS_INSIDE.get(multi_region)
    return prefix is not None and region.startswith(prefix) and region not in _EUROPE_OUTSIDE_EU


def _is_table_id(text: str) -> bool:
    categories = {unicodedata.category(character) for character in text}
    if text != text.strip():
        return False  # BigQuery's documentation does not say whether it is another table.
    return 0 < len(text.encode()) <= _MAX_TABLE_BYTES and all(
        category.startswith(_TABLE_CATEGORIES) for category in categories
    )
