"""The tiny jobs of a probe: their input, and what they cost at most. Pure."""

from __future__ import annotations

import gzip
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from airflow_gemini_batch.cost.estimate import Estimate, estimate
from airflow_gemini_batch.cost.sample import Sample
from airflow_gemini_batch.doctor.probe.assumptions import DEEP, SHALLOW
from airflow_gemini_batch.gcp.table_name import region_doubt
from airflow_gemini_batch.models import find_model

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from airflow_gemini_batch.cost.prices import BatchPrices

LABEL = "gemini_batch_probe"
"""Key of the label that every job of a probe has; its value is the ID of the probe."""
HYPHEN_LABEL = "gemini-batch-probe"

# Answers may be cut off: only what comes back with them matters.
_MAX_OUTPUT_TOKENS = 32


@dataclass(frozen=True)
class Place:
    """Where a probe works.

    :param run: ID of the probe: lower-case letters, digits and hyphens
    :param dataset: ``project.dataset``
    :param dataset_location: as BigQuery says it; ``None`` if it could not be read
    """

    project: str
    location: str
    model: str
    bucket: str
    dataset: str
    dataset_location: str | None
    run: str

    @property
    def folder(self) -> str:
        """The folder of everything that the probe writes, without a slash at the end."""
        return f"gemini-batch-probe/{self.run}"

    def uri(self, name: str) -> str:
        """Return the URI of an object or folder of the probe."""
        return f"gs://{self.bucket}/{self.folder}/{name}"

    def table(self, name: str) -> str:
        """Return the name of a table of the probe."""
        return f"{self.dataset}.gemini_batch_probe_{self.run.replace('-', '_')}_{name}"

    @property
    def multi_region(self) -> str | None:
        """The multi-region around the dataset from which jobs may be able to read its tables."""
        there = self.dataset_location or ""
        return next((each for each in ("us", "eu") if region_doubt(there, each)), None)


@dataclass(frozen=True)
class Step:
    """One job.

    :param settles: the assumptions that it settles
    :param objects: content by name below the folder of the probe
    :param rows: rows of the input table, if the input is one
    :param cancels: it is cancelled as soon as it exists
    """

    name: str
    settles: tuple[str, ...]
    inputs: tuple[str, ...]
    output: str
    location: str
    objects: Mapping[str, bytes] = field(default_factory=dict)
    rows: tuple[Mapping[str, Any], ...] = ()
    cancels: bool = False

    @property
    def lines(self) -> list[bytes]:
        """All its requests, one a line."""
        lines = [line for content in self.objects.values() for line in _plain(content).splitlines()]
        return lines + [json.dumps(row).encode() for row in self.rows]


def steps(place: Place, wanted: Collection[str]) -> tuple[Step, ...]:
    """Return the jobs that settle the assumptions with these names."""
    return tuple(step for step in _all_steps(place) if set(step.settles) & set(wanted))


def highest_cost(all_steps: Iterable[Step], prices: BatchPrices | None) -> Estimate:
    """Estimate what the jobs cost together."""
    return estimate(Sample([[line for step in all_steps for line in step.lines]]), prices)


def _all_steps(place: Place) -> Iterable[Step]:
    filters = ("label", "label_exists", "state", "create_time", "display_name", "hyphen")
    names = ("key_echo", "several_uris", "job_labels", *(f"filter_{each}" for each in filters))
    two = {"plain/a.jsonl": _file(_row("a")), "plain/b.jsonl": _file(_row("b"))}
    yield _step(place, "plain", names, two)
    below = {name.replace("star", "{}"): _file(_row(name)) for name in (SHALLOW, DEEP)}
    for name, stars in (("wildcard_star", "*"), ("wildcard_double_star", "**")):
        objects = {key.format(name): content for key, content in below.items()}
        yield _step(place, name, (name,), objects, inputs=(place.uri(f"{name}/{stars}"),))
    yield _step(place, "gzip", ("gzip",), {"gzip/a.jsonl.gz": gzip.compress(_file(_row("a")), mtime=0)})
    refused = _row("a")
    # A role that no model takes fails a row when it runs, not the import.
    refused["request"]["contents"][0]["role"] = "nobody"
    yield _step(place, "all_rows_failed", ("end_all_rows_failed",), {"failing/a.jsonl": _file(refused)})
    yield _step(place, "cancelled", ("end_cancelled",), {"cancelled/a.jsonl": _file(_row("a"))}, cancels=True)
    bad = _row("b")
    # An empty object is what the import refuses for certain.
    bad["request"]["generationConfig"]["responseSchema"] = {"type": "OBJECT", "properties": {}}
    yield _step(place, "bad_line", ("end_bad_line",), {"bad/a.jsonl": _file(_row("a"), bad)})
    noted = {**_row("b"), "note": "only here"}
    table = f"bq://{place.table('columns')}"
    yield _step(
        place, "columns", ("table_columns",), {"columns/a.jsonl": _file(_row("a"), noted)}, output=table
    )
    if around := _around(place):
        row = {"key": "a", "request": json.dumps(_row("a")["request"])}
        yield Step(
            "multi_region",
            ("multi_region_table",),
            (f"bq://{place.table('requests')}",),
            place.uri("multi_region/output"),
            around,
            rows=(row,),
        )


def _around(place: Place) -> str | None:
    """Return the multi-region around the dataset, if the model is offered there."""
    known = find_model(place.model)
    around = place.multi_region
    return around if around and (known is None or known.is_offered_in(around) is not False) else None


def _step(
    place: Place,
    name: str,
    settles: tuple[str, ...],
    objects: Mapping[str, bytes],
    *,
    inputs: tuple[str, ...] = (),
    output: str | None = None,
    cancels: bool = False,
) -> Step:
    uris = inputs or tuple(place.uri(each) for each in objects)
    target = output or place.uri(f"output/{name}")
    return Step(name, settles, uris, target, place.location, objects, cancels=cancels)


def _row(key: str) -> dict[str, Any]:
    return {
        "key": key,
        "request": {
            "contents": [{"role": "user", "parts": [{"text": "Reply with the word yes."}]}],
            "generationConfig": {"maxOutputTokens": _MAX_OUTPUT_TOKENS},
        },
    }


def _file(*rows: Mapping[str, Any]) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def _plain(content: bytes) -> bytes:
    return gzip.decompress(content) if content.startswith(b"\x1f\x8b") else content
