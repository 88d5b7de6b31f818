"""Models: their names, and what is known of each: where it is offered, until when, what it refuses and costs.

What is known is in ``models.json``, or in the newer file that ``[gemini_batch] models_file`` or the
environment variable ``GEMINI_BATCH_MODELS`` names. A model that it does not contain is never refused.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from datetime import date  # noqa: TC003 - msgspec reads the types
from decimal import Decimal
from fnmatch import fnmatchcase
from functools import cached_property, lru_cache
from pathlib import Path
from typing import cast

from airflow_gemini_batch.exceptions import InvalidParameterError
from airflow_gemini_batch.service import MAX_ROWS
from airflow_gemini_batch.settings import MODELS_FILE

GLOBAL = "global"

_DIRECTION = re.compile(r"(north|south)?(east|west|central)?[0-9]+")

LAST_TURN = "last turn with role model"
"""One of the things that a model may refuse."""

_PARENT = r"projects/(?P<project>[^/]+)/locations/(?P<location>[^/]+)/"
_FORMS = tuple(
    re.compile(form)
    for form in (
        rf"(?:{_PARENT})?publishers/(?P<publisher>[^/]+)/models/(?P<id>[^/@]+)(?P<version>@[^/]*)?",
        rf"{_PARENT}(?:models|endpoints)/(?P<id>[^/]+)",
        r"(?P<id>[A-Za-z0-9][A-Za-z0-9._-]*)(?P<version>@[A-Za-z0-9@._-]*)?",
    )
)
# Versions of a model, such as gemini-2.0-flash-001 and gemini-2.5-flash-preview-09-2025.
_VERSION = re.compile(r"-(\d{3}|preview(-\d{2}-\d{4})?)$")


@dataclass(frozen=True)
class ModelName:
    """A model as users and the service name it.

    :param id: such as ``gemini-3.5-flash``, or the ID of a tuned model or endpoint
    :param version: with its ``@``; empty when there is none
    :param publisher: such as ``google``; ``None`` for a tuned model and for a bare ID
    :param project: of a full resource name
    :param location: of a full resource name
    """

    id: str
    version: str = ""
    publisher: str | None = None
    project: str | None = None
    location: str | None = None

    @classmethod
    def parse(cls, name: str) -> ModelName | None:
        """Parse any form of a model's name; ``None`` when it has none of them.

        The forms are ``ID``, ``publishers/PUBLISHER/models/ID``, both with an optional ``@VERSION``, the same
        after ``projects/P/locations/L/``, and ``projects/P/locations/L/models/ID`` or ``…/endpoints/ID``.
        """
        for form in _FORMS:
            if match := form.fullmatch(name):
                parts = match.groupdict()
                return cls(**{**parts, "version": parts.get("version") or ""})
        return None

    @classmethod
    def id_of(cls, name: str) -> str:
        """Return the ID in any form of a model's name; what has none of the forms as it is."""
        known = cls.parse(name)
        return known.id if known else name

    @property
    def is_tuned(self) -> bool:
        """Whether it names a tuned model or an endpoint, which exists in one location."""
        return self.publisher is None and self.location is not None

    @property
    def publisher_model(self) -> str:
        """``publishers/PUBLISHER/models/ID``; a bare ID is Google's. Undefined for a tuned model."""
        return f"publishers/{self.publisher or 'google'}/models/{self.id}{self.version}"

    @property
    def google_id(self) -> str | None:
        """The ID of a model that Google publishes; ``None`` for any other model."""
        return self.id if not self.is_tuned and self.publisher in (None, "google") else None


@dataclass(frozen=True, kw_only=True)
class Model:
    """What is known of a model, named as in ``models.json``. Empty and ``None``: not known.

    :param stage: ``ga`` or ``preview``
    :param locations: where it is offered
    :param retires: the day on which it is closed to new projects, or switched off
    :param retires_or_later: whether ``retires`` is the earliest day
    :param switched_off: the reported day on which it is switched off for all projects, if that is another
    :param short_term: whether it retires 45 days after its replacement is released
    :param replacement: the model that Google names instead
    :param max_output_tokens: the most that ``maxOutputTokens`` may be
    :param thinking_levels: the values that ``thinkingLevel`` may have
    :param refuses: what fails a request: names of fields, and :data:`LAST_TURN`
    :param ignores: names of fields without effect
    :param kind: ``generation``, or ``embedding`` for a model that answers with vectors
    :param max_rows: number of requests that a job takes
    :param max_dimensions: length of the longest vector, of an embedding model
    :param input: ``gcs``, ``bigquery``
    :param outside_global: factor on the price at all locations but ``global``
    :param batch_share: the batch price as a share of the list price
    """

    stage: str | None = None
    locations: tuple[str, ...] = ()
    retires: date | None = None
    retires_or_later: bool = False
    switched_off: date | None = None
    short_term: bool = False
    replacement: str | None = None
    max_output_tokens: int | None = None
    thinking_levels: tuple[str, ...] = ()
    refuses: tuple[str, ...] = ()
    ignores: tuple[str, ...] = ()
    kind: str = "generation"
    max_rows: int = MAX_ROWS
    max_dimensions: int = 3072
    input: tuple[str, ...] = ("gcs", "bigquery")
    outside_global: Decimal = Decimal(1)
    batch_share: Decimal = Decimal("0.5")

    @property
    def is_embedding(self) -> bool:
        """Whether it answers with vectors instead of text."""
        return self.kind == "embedding"

    @property
    def reads_tables(self) -> bool:
        """Whether its jobs can read BigQuery tables."""
        return "bigquery" in self.input

    def is_offered_in(self, location: str) -> bool | None:
        """Whether it is offered at a location; ``None`` when that is not known."""
        return location in self.locations if self.locations else None

    def is_retired(self, today: date) -> bool:
        """Whether new projects can no longer use it, as far as that is certain."""
        return bool(self.retires and not self.retires_or_later and today >= self.retires)

    def price_factor(self, location: str) -> Decimal:
        """Return the factor on the price at a location."""
        return Decimal(1) if location == GLOBAL else self.outside_global


@dataclass(frozen=True)
class SearchFacts:
    """Searches with Google.

    :param usd_per_1000_queries: in US dollars
    :param queries_per_request: the fewest and the most of one request, for estimates
    """

    usd_per_1000_queries: Decimal
    queries_per_request: tuple[int, int]


@dataclass(frozen=True)
class Models:
    """All that is known of models.

    :param as_of: the day on which it was gathered
    :param models: by ID
    :param retired: by ID: the day, and the model to use instead
    :param legacy_embeddings: older embedding models, which the batch jobs of Gemini do not run: pattern of
        the ID, and what to use instead
    :param search: never ``None`` in what :func:`models` returns
    """

    as_of: date
    models: dict[str, Model]
    retired: dict[str, tuple[date, str]] = field(default_factory=dict)
    legacy_embeddings: dict[str, str] = field(default_factory=dict)
    search: SearchFacts | None = None

    @cached_property
    def by_id(self) -> dict[str, Model]:
        """What is known of each model; of a retired one, only since when, and what to use instead."""
        retired = {name: Model(retires=day, replacement=other) for name, (day, other) in self.retired.items()}
        return {**self.models, **retired}

    @cached_property
    def locations(self) -> frozenset[str]:
        """The locations where any model is offered."""
        return frozenset({GLOBAL}.union(*(model.locations for model in self.models.values())))

    def find(self, name: str) -> Model | None:
        """Return what is known of a model, given any form of its name; ``None`` if it is not known."""
        found = self.id_of(name)
        return self.by_id[found] if found else None

    def id_of(self, name: str) -> str | None:
        """Return the ID under which a model is known, without the version; ``None`` if it is not known."""
        parsed = ModelName.parse(name)
        found = parsed.google_id if parsed else None
        while found and found not in self.by_id:
            shorter = _VERSION.sub("", found)
            found = shorter if shorter != found else None
        return found


def models() -> Models:
    """Return what is known of models. Reads the file once per process.

    :raises InvalidParameterError: the file that ``GEMINI_BATCH_MODELS`` names cannot be used
    """
    return _completed(MODELS_FILE.value())


@lru_cache(maxsize=4)
def _completed(given: str | None) -> Models:
    known, packaged = _read(given), _read(None)
    # A model that the newer list says more of is not retired; what it does not mention stays as it is.
    retired = {name: facts for name, facts in packaged.retired.items() if name not in known.models}
    return replace(
        known,
        models={**packaged.models, **known.models},
        retired={**retired, **known.retired},
        search=known.search or packaged.search,
        legacy_embeddings=known.legacy_embeddings or packaged.legacy_embeddings,
    )


def search_facts() -> SearchFacts:
    """Return what is known of searches."""
    return cast("SearchFacts", models().search)


def find_model(name: str) -> Model | None:
    """Return what is known of a model, given any form of its name; ``None`` if it is not known."""
    return models().find(name)


def is_embedding_model(name: str) -> bool | None:
    """Whether a model answers with vectors; ``None`` when neither the file nor its name says so."""
    if known := find_model(name):
        return known.is_embedding
    parsed = ModelName.parse(name)
    return True if parsed and "embedding" in (parsed.google_id or "") else None


def similar_location(location: str) -> str | None:
    """Return the location that a misspelled one probably means; ``None`` if it may be right.

    Google adds regions, so one that is only not known, or has another number, may be right.
    """
    # Imported here: every DAG file imports this module.
    from difflib import get_close_matches

    known = models().locations
    area, _, direction = location.rpartition("-")
    areas = {name.rpartition("-")[0] for name in known}
    if location in known or (area in areas and _DIRECTION.fullmatch(direction)):
        return None
    return next(iter(get_close_matches(location, known, n=1, cutoff=0.8)), None)


def reads_tables(name: str) -> bool:
    """Whether the jobs of a model can read BigQuery tables, as far as is known."""
    known = find_model(name)
    return known is None or known.reads_tables


def refuse_legacy_embedding(name: str) -> None:
    """Refuse an embedding model of before Gemini: its batch jobs have another kind of input.

    :raises InvalidParameterError: names the model to use instead
    """
    parsed = ModelName.parse(name)
    for pattern, replacement in models().legacy_embeddings.items():
        if parsed and parsed.google_id and fnmatchcase(parsed.google_id, pattern):
            raise InvalidParameterError(
                "model",
                name,
                f"batch jobs of Gemini do not run this older embedding model; use {replacement}",
            )


@lru_cache(maxsize=4)
def _read(given: str | None) -> Models:
    import msgspec

    path = Path(given) if given else Path(__file__).with_name("models.json")
    try:
        return msgspec.json.decode(path.read_bytes(), type=Models)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
        fix = f"give the path of a file like the package's models.json: {error}"
        raise InvalidParameterError(MODELS_FILE.variable, str(path), fix) from None
