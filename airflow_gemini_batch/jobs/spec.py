"""The specification of a batch job, validated before anything is created or charged."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from airflow_gemini_batch.batch_job import LOCATION_FORM
from airflow_gemini_batch.exceptions import InvalidParameterError
from airflow_gemini_batch.gcp.gcs_uri import is_folder, is_object
from airflow_gemini_batch.gcp.table_name import TableName, is_dataset_uri
from airflow_gemini_batch.gcp.wildcards import Repeated, may_match
from airflow_gemini_batch.models import (
    GLOBAL,
    ModelName,
    reads_tables,
    refuse_legacy_embedding,
    similar_location,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

MAX_DISPLAY_NAME = 128
MAX_LABELS = 64
MAX_LABEL = 64
MAX_OWN_LABELS = MAX_LABELS - 9
"""Nine labels are written by this package; ``airflow_gemini_batch.jobs.identity`` has them."""
LABEL_PREFIX = "airflow_gemini_batch_"
"""How their keys begin. Google documents list filters on keys with underscores only."""
LEGACY_LABEL_PREFIX = "airflow-gemini-batch-"
"""How they began in earlier versions."""

# The service also writes shards, such as `predictions.jsonl-00000-of-00002`.
_OUTPUT_NAMES = ("predictions.jsonl", "incremental_predictions.jsonl", "predictions.jsonl-00000-of-00002")
_LOCATION = re.compile(r"[a-z]+(-[a-z]+)*-?[0-9]*")
# Letters of any script, if they are not capitals: so says the API's description of `labels`.
_LABEL_KEY = re.compile(r"[^\W\d_][\w-]*")
_LABEL_VALUE = re.compile(r"[\w-]*")


@dataclass(frozen=True)
class Disputed:
    """A URI that matches different objects, depending on how its wildcards are read.

    :param names: of the objects that match in one reading only
    """

    uri: str
    names: tuple[str, ...]


@dataclass(frozen=True)
class InputFacts:
    """Metadata of the input. All ``None`` if the credentials were not allowed to read it.

    :param content: identifies the content: name, size and checksum of each object, or the checksum of a
        table's rows; ``None`` if it is not known
    :param metadata: name, size and checksum of each object, or rows and bytes of a table
    :param modified: when the table last changed, its description and labels included; ``None`` for objects
    :param location: of the table's dataset
    :param missing: the object or table that does not exist. It may have been deleted since the job was
        created, so it is an error only if a job is to be created
    :param disputed: of the URIs, one whose wildcards can be read in two ways; an error in the same case
    :param repeated: an object that two of the URIs match; an error in the same case
    """

    content: tuple[str, ...] | None = None
    metadata: tuple[str, ...] | None = None
    modified: datetime | None = None
    location: str | None = None
    missing: str | None = None
    disputed: Disputed | None = None
    repeated: Repeated | None = None


@dataclass(frozen=True)
class JobSpec:
    """A batch job to create. Use :func:`job_spec`, which validates the values.

    :param model: ``publishers/…/models/…``, or the resource name of a tuned model
    :param input_uris: objects in Cloud Storage, or one ``bq://`` table
    :param input: what is known about the input
    """

    project: str
    location: str
    model: str
    input_uris: tuple[str, ...]
    output_uri: str
    display_name: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    input: InputFacts = InputFacts()

    @property
    def input_table(self) -> str | None:
        """``bq://…`` if the input is a BigQuery table, else ``None``."""
        return self.input_uris[0] if self.input_uris[0].startswith("bq://") else None

    @property
    def has_output_table(self) -> bool:
        """Whether the output is one BigQuery table."""
        return self.output_uri.startswith("bq://") and not is_dataset_uri(self.output_uri)

    @property
    def parent(self) -> str:
        """``projects/{project}/locations/{location}``."""
        return f"projects/{self.project}/locations/{self.location}"


def job_spec(
    *,
    project: str,
    location: str | None,
    model: str,
    input_uri: str | Sequence[str],
    output_uri: str,
    display_name: str | None = None,
    labels: Mapping[str, str] | None = None,
) -> JobSpec:
    """Validate the parameters of a job and convert them to the form that the API expects.

    :raises InvalidParameterError: names the parameter, its value and the fix
    """
    place = check_location(location)
    inputs, output = check_input_uris(input_uri), _output_uri(output_uri)
    _check_apart(inputs, output)
    name = _model(model, place)
    _check_table(name, inputs)
    return JobSpec(
        project=project,
        location=place,
        model=name,
        input_uris=inputs,
        output_uri=output,
        display_name=_display_name(display_name),
        labels=check_own_labels(labels or {}),
    )


def check_known_values(values: Mapping[str, Any]) -> None:
    """Check the form of those parameters of :func:`job_spec` that are known when a DAG is parsed.

    What takes the file of models is checked later, since every DAG file would pay for reading it.

    :raises InvalidParameterError: names the parameter, its value and the fix
    """
    checks: dict[str, Callable[[Any], object]] = {
        "model": _model_name,
        "input_uri": check_input_uris,
        "output_uri": _output_uri,
        "location": _form_of_location,
        "display_name": _display_name,
    }
    for name, value in values.items():
        checks[name](value)


def check_location(location: str | None) -> str:
    """Return a location if there may be one with this name.

    :raises InvalidParameterError: it is none, or a misspelled one
    """
    place = _form_of_location(location)
    if similar := similar_location(place):
        fix = f"unknown location; did you mean {similar!r}?"
        raise InvalidParameterError("location", place, fix)
    return place


def _form_of_location(location: str | None) -> str:
    if not location:
        raise InvalidParameterError(
            "location",
            location,
            f"no location is set; {LOCATION_FORM}, or set [gemini_batch] location or GOOGLE_CLOUD_LOCATION",
        )
    if not (isinstance(location, str) and _LOCATION.fullmatch(location)):
        raise InvalidParameterError("location", location, LOCATION_FORM)
    return location


def _model_name(model: object) -> ModelName:
    name = ModelName.parse(model) if isinstance(model, str) else None
    if name is None:
        raise InvalidParameterError(
            "model",
            model,
            "give a model id such as 'gemini-3.5-flash', 'publishers/google/models/ID', or the resource "
            "name of a tuned model, 'projects/P/locations/L/models/ID' or '…/endpoints/ID'",
        )
    return name


def _model(model: str, location: str) -> str:
    name = _model_name(model)
    if not name.is_tuned:
        refuse_legacy_embedding(model)
        return name.publisher_model
    if location == GLOBAL:
        raise InvalidParameterError(
            "location",
            location,
            f"tuned models do not run on the global endpoint; use the model's own, {name.location!r}",
        )
    if name.location != location:
        raise InvalidParameterError(
            "location", location, f"the tuned model {model} lives in {name.location!r}; use that"
        )
    return model


def check_input_uris(input_uri: str | Sequence[str]) -> tuple[str, ...]:
    """Return the URIs of an input as a tuple, if it is files in Cloud Storage or one table.

    :raises InvalidParameterError: names the URI and the fix
    """
    uris = tuple(input_uri) if isinstance(input_uri, Iterable) and not isinstance(input_uri, str) else ()
    if isinstance(input_uri, str) and input_uri:
        uris = (input_uri,)
    if not uris:
        raise InvalidParameterError(
            "input_uri",
            input_uri,
            "give gs://bucket/file.jsonl (one or several) or bq://project.dataset.table",
        )
    for uri in uris:
        if not isinstance(uri, str) or not uri.startswith(("gs://", "bq://")):
            raise InvalidParameterError(
                "input_uri", uri, "must start with gs:// (JSONL in Cloud Storage) or bq:// (a BigQuery table)"
            )
        if uri.startswith("bq://") and len(uris) > 1:
            raise InvalidParameterError(
                "input_uri", list(uris), "a job reads either one BigQuery table or files in Cloud Storage"
            )
        if uri.startswith("bq://"):
            return (f"bq://{TableName.parse(uri, parameter='input_uri')}",)
        if not is_object(uri):
            raise InvalidParameterError(
                "input_uri",
                uri,
                "give an object or a pattern, gs://bucket/file.jsonl or gs://bucket/in/*.jsonl",
            )
    if twice := next((uri for uri in uris if uris.count(uri) > 1), None):
        raise Repeated(twice, (twice, twice)).error()
    return uris


def _check_table(model: str, input_uris: Sequence[str]) -> None:
    """Refuse a table if the jobs of this model read none."""
    if input_uris[0].startswith("bq://") and not reads_tables(model):
        raise InvalidParameterError(
            "input_uri",
            input_uris[0],
            f"jobs of {model.rpartition('/')[2]} read only files in Cloud Storage: build the requests with "
            "BigQueryToGeminiBatchRequestsOperator and its `model` and `export_uri`; or write the columns "
            "`key` and `request` of the table to gs:// with EXPORT DATA (format JSON), and give that URI",
        )


def _output_uri(output_uri: str) -> str:
    if not output_uri or not isinstance(output_uri, str):
        raise InvalidParameterError(
            "output_uri", output_uri, "give gs://bucket/prefix or bq://project.dataset.table"
        )
    if is_folder(output_uri):
        return output_uri
    # With a project alone, the service creates a dataset whose name the job resource does not contain.
    if is_dataset_uri(output_uri):
        return output_uri
    if output_uri.startswith("bq://"):
        return f"bq://{TableName.parse(output_uri, parameter='output_uri')}"
    raise InvalidParameterError(
        "output_uri", output_uri, "give gs://bucket/prefix or bq://project.dataset.table"
    )


def _check_apart(input_uris: Sequence[str], output_uri: str) -> None:
    """Refuse input that includes the job's own output: a later job would ask for the answers as well."""
    if input_uris == (output_uri,) and output_uri.startswith("bq://"):
        raise InvalidParameterError("output_uri", output_uri, "give another table than the input")
    written = f"{output_uri.rstrip('/')}/prediction-model-2026-01-01T00:00:00.000000Z"
    for uri in input_uris:
        if any(may_match(uri, f"{written}/{name}") for name in _OUTPUT_NAMES):
            raise InvalidParameterError(
                "output_uri",
                output_uri,
                f"the input {uri} matches what the job writes there, so another run would read these answers "
                "as requests; choose a folder that the input does not match",
            )


def _display_name(display_name: str | None) -> str:
    name = display_name or ""
    if not isinstance(name, str):
        raise InvalidParameterError("display_name", name, "give text")
    if len(name) > MAX_DISPLAY_NAME:
        raise InvalidParameterError("display_name", name, f"at most {MAX_DISPLAY_NAME} characters")
    return name


def own_labels(labels: Mapping[str, str]) -> dict[str, str]:
    """Return the labels of a job that its user gave it, and not this package."""
    prefixes = (LABEL_PREFIX, LEGACY_LABEL_PREFIX)
    return {key: value for key, value in labels.items() if not key.startswith(prefixes)}


def check_own_labels(labels: Mapping[str, str]) -> dict[str, str]:
    """Return the labels that a user gives a job if there is room for them beside ours.

    :raises InvalidParameterError: names the label
    """
    checked = check_labels(labels)
    if reserved := sorted(checked.keys() - own_labels(checked)):
        raise InvalidParameterError(
            "labels", reserved[0], "use another name: this package writes such labels"
        )
    if len(checked) > MAX_OWN_LABELS:
        raise InvalidParameterError(
            "labels",
            sorted(checked),
            f"give at most {MAX_OWN_LABELS}: a job can have {MAX_LABELS}, and this package writes the others",
        )
    return checked


def check_labels(labels: Mapping[str, str]) -> dict[str, str]:
    """Return the labels of a job if the service accepts them.

    :raises InvalidParameterError: names the label
    """
    if not isinstance(labels, Mapping):
        raise InvalidParameterError("labels", labels, "give a dict of text by name")
    if len(labels) > MAX_LABELS:
        raise InvalidParameterError("labels", sorted(labels), f"at most {MAX_LABELS} labels")
    for key, value in labels.items():
        if not isinstance(key, str) or len(key) > MAX_LABEL or not _is_label(key, _LABEL_KEY):
            raise InvalidParameterError(
                "labels",
                key,
                f"a label key has at most {MAX_LABEL} characters: a lowercase letter, then lowercase "
                "letters, digits, '-' or '_'",
            )
        if not isinstance(value, str) or len(value) > MAX_LABEL or not _is_label(value, _LABEL_VALUE):
            raise InvalidParameterError(
                f"labels[{key!r}]",
                value,
                f"a label value is a string of at most {MAX_LABEL} lowercase letters, digits, '-' or '_'",
            )
    return dict(labels)


def _is_label(text: str, form: re.Pattern[str]) -> bool:
    return bool(form.fullmatch(text)) and text == text.lower()
