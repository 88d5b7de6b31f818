"""Where the bucket, the dataset and the model are, against the location of jobs. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_gemini_batch.doctor import commands
from airflow_gemini_batch.doctor.facts import Cause, Dataset, Problem
from airflow_gemini_batch.doctor.findings import Finding, Status
from airflow_gemini_batch.doctor.needs import READ_OBJECTS, WRITE_TABLES
from airflow_gemini_batch.exceptions import InvalidParameterError
from airflow_gemini_batch.gcp.table_name import check_region, region_doubt, region_inside
from airflow_gemini_batch.jobs.model_notices import before_submitting
from airflow_gemini_batch.jobs.spec import check_location
from airflow_gemini_batch.models import GLOBAL, ModelName, find_model
from airflow_gemini_batch.results.destination import can_load, can_query

if TYPE_CHECKING:
    from datetime import date

    from airflow_gemini_batch.doctor.facts import Caller, Facts, Setup

_LIST = "gemini-batch models"


def check_model(setup: Setup, today: date) -> Finding:
    """Return whether the list of models has the model at the location."""
    title = f"model {setup.model} in {setup.location}"
    try:
        check_location(setup.location)
    except InvalidParameterError as error:
        return Finding("model", title, Status.MISSING, f"{error.fix[0].upper()}{error.fix[1:]}.", _LIST)
    name, known = ModelName.parse(setup.model), find_model(setup.model)
    if name and name.is_tuned:
        is_there = name.location == setup.location != GLOBAL
        where = f"The tuned model is in {name.location}; its jobs run there only, and never in global."
        return Finding("model", title, Status.OK if is_there else Status.MISSING, where)
    notices = " ".join(before_submitting(setup.model, setup.location, today))
    if known is None:
        detail = notices or "It is not in the list of models, so nothing is known of it."
        return Finding("model", title, Status.UNKNOWN, detail, _LIST)
    offered = known.is_offered_in(setup.location)
    if offered is False or known.is_retired(today):
        return Finding("model", title, Status.MISSING, notices, _LIST)
    if offered is None:
        return Finding("model", title, Status.UNKNOWN, "Where it is offered is not known.", _LIST)
    return Finding("model", title, Status.OK, notices or "It is offered there.")


def check_bucket(setup: Setup, facts: Facts, caller: Caller) -> Finding:
    """Return whether the bucket exists, and whether the dataset can load from it."""
    title, region = f"bucket gs://{setup.bucket}", region_inside(setup.location)
    found = facts.bucket
    if isinstance(found, Problem):
        if found.cause is Cause.ABSENT:
            command = commands.create_bucket(setup, region)
            return Finding("bucket", title, Status.MISSING, "It does not exist.", command)
        look = commands.to_read(found, setup, READ_OBJECTS.role, "bucket", caller.member)
        detail = f"Where it is could not be read: {found.detail}"
        return Finding("bucket", title, Status.UNKNOWN, detail, look)
    if isinstance(facts.dataset, Dataset):
        there = facts.dataset.location
        if not can_load(there, found):
            detail = f"It is in {found}, and BigQuery cannot load from there into a dataset in {there}."
            place = found.lower() if "-" in found else found  # As BigQuery spells it.
            move = commands.create_dataset(f"{setup.dataset}_{_as_name(found)}", place)
            return Finding("bucket", title, Status.MISSING, detail, move)
        if not can_query(there, found):
            detail = (
                f"It is in {found}: a dataset in {there} loads from there, but its queries cannot read it, "
                "so only one job at a time can be landed."
            )
            return Finding("bucket", title, Status.OK, detail)
    return Finding("bucket", title, Status.OK, f"It is in {found}.")


def check_dataset(setup: Setup, facts: Facts, caller: Caller) -> Finding:
    """Return whether the dataset exists, and whether a job can read tables in it."""
    title, region = f"dataset {setup.dataset}", region_inside(setup.location)
    found = facts.dataset
    if isinstance(found, Problem):
        if found.cause is Cause.ABSENT:
            command = commands.create_dataset(setup.dataset, region)
            return Finding("dataset", title, Status.MISSING, "It does not exist.", command)
        look = commands.to_read(found, setup, WRITE_TABLES.role, "dataset", caller.member)
        detail = f"Where it is could not be read: {found.detail}"
        return Finding("dataset", title, Status.UNKNOWN, detail, look)
    if setup.files_only:
        return Finding("dataset", title, Status.OK, f"It is in {found.location}.")
    if doubt := region_doubt(found.location, setup.location):
        return Finding("dataset", title, Status.UNKNOWN, doubt)
    try:
        check_region(setup.dataset, found.location, setup.location)
    except InvalidParameterError:
        detail = (
            f"It is in {found.location}, where jobs in {setup.location} cannot use tables; results can be "
            "landed there, so give --files-only if jobs read and write files."
        )
        command = commands.create_dataset(f"{setup.dataset}_{_as_name(region)}", region)
        return Finding("dataset", title, Status.MISSING, detail, command)
    return Finding("dataset", title, Status.OK, f"It is in {found.location}.")


def _as_name(location: str) -> str:
    return location.lower().replace("-", "_")
