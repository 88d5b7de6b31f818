"""What an embedding model refuses in a single request, and requests that are of another kind than the model.

Fields and types come from ``EmbedContentRequest`` in Google's discovery document.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from airflow_gemini_batch.gcp.discovery import Mismatch, elements, member, snake_case
from airflow_gemini_batch.models import Model, find_model, is_embedding_model
from airflow_gemini_batch.requests.checking.findings import Level, Rule
from airflow_gemini_batch.requests.checking.inferred_columns import Problem, child
from airflow_gemini_batch.requests.checking.model_rules import IGNORED_BY_MODEL
from airflow_gemini_batch.requests.checking.request_rules import (
    IGNORED_BESIDE_REQUEST,
    NO_PARTS,
    UNKNOWN_FIELD,
    WRONG_TYPE,
    files_without_type,
    path_of,
)
from airflow_gemini_batch.requests.request_fields import (
    EMBED_CONFIG,
    EMBEDDING,
    TITLE,
    TITLE_IN_TEXT,
    is_embedding,
    request_schemas,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Hashable, Iterable, Mapping

    from airflow_gemini_batch.gcp.discovery import Violation

WHOLE_NUMBERS: dict[str, Callable[[Any], Hashable]] = dict.fromkeys(
    ("outputDimensionality", "output_dimensionality"), lambda number: number
)
"""What matters to a rule of the number in a field, which is all of it; by its name, in both spellings."""

_TITLED = "RETRIEVAL_DOCUMENT"
_CONFIG_NAMES = (EMBED_CONFIG, snake_case(EMBED_CONFIG))

WRONG_KIND = Rule(
    "wrong-kind",
    Level.ROW,
    "Use a model of the other kind, or write the kind of request that this one takes.",
)
NO_CONTENT = Rule("no-content", Level.ROW, 'Add a text: `"content": {"parts": [{"text": "…"}]}`.')
BAD_DIMENSIONALITY = Rule(
    "bad-dimensionality", Level.ROW, "Leave out `output_dimensionality`, or give a length that the model has."
)
UNUSED_TITLE = Rule("unused-title", Level.ADVICE, f"Set `task_type` to `{_TITLED}`, or remove the title.")

IGNORED_TITLE = replace(IGNORED_BY_MODEL, fix=TITLE_IN_TEXT)


class EmbeddingRules:
    """The rules of embedding requests.

    :param model: of the job, in any form of its name; ``None`` if it is not known
    """

    def __init__(self, model: str | None = None) -> None:
        self._model = model
        self._takes_embeddings = is_embedding_model(model) if model else None
        known = (find_model(model) if model else None) or Model()
        self._longest, self._ignored = known.max_dimensions, known.ignores

    def problems(self, row: Mapping[str, Any]) -> list[Problem] | None:
        """Return what is wrong with a row whose ``request`` is an object.

        :return: ``None`` if other rules are for it, since it asks to generate
        """
        request = row["request"]
        if self._takes_embeddings not in (None, is_embedding(request)) and (
            wrong := self._wrong_kind(request)
        ):
            return [wrong]
        if not (is_embedding(request) if self._takes_embeddings is None else self._takes_embeddings):
            return None
        return [
            *_next_to_request(row),
            *map(_problem, request_schemas().violations(EMBEDDING, request)),
            *_content(request),
            *_config(request, self._longest),
            *_ignored(request, self._ignored),
        ]

    def _wrong_kind(self, request: Mapping[str, Any]) -> Problem | None:
        wanted, found, does = ("contents", "content", "generates")
        if self._takes_embeddings:
            wanted, found, does = ("content", "contents", "answers with vectors")
        if found not in request:
            return None  # It lacks a prompt, which is another problem.
        message = f'Invalid JSON payload received. Unknown name "{found}": Cannot find field.'
        fix = f"{self._model} {does} and takes `{wanted}`. {WRONG_KIND.fix}"
        return Problem(replace(WRONG_KIND, fix=fix), child("$.request", found), message)


def _problem(found: Violation) -> Problem:
    rule = WRONG_TYPE
    if found.mismatch is Mismatch.UNKNOWN_FIELD:
        rule = replace(UNKNOWN_FIELD, fix=UNKNOWN_FIELD.fix.replace("GenerateContent", "EmbedContent"))
    return Problem(rule, path_of(found), found.message)


def _next_to_request(row: Mapping[str, Any]) -> Iterable[Problem]:
    for name in ("content", *_CONFIG_NAMES):
        if name in row:
            rule = replace(IGNORED_BESIDE_REQUEST, fix="Move it into `request`.")
            message = f"The service ignores `{name}` next to `request` and only copies it to the output."
            yield Problem(rule, child("$", name), message)


def _content(request: Mapping[str, Any]) -> Iterable[Problem]:
    content = member(request, "content")
    if content is None or content == {}:
        yield Problem(NO_CONTENT, "$.request", "Unable to submit request because it has no content.")
    elif isinstance(content, dict):
        at = "$.request.content"
        if not elements(member(content, "parts")):
            message = "Unable to submit request because it must have at least one parts field."
            yield Problem(NO_PARTS, at, message)
        yield from files_without_type(content, at)


def _places(request: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Return the path and value of each object that may have the fields of the config.

    They may also stand next to the content, where Google's discovery document calls them deprecated.
    """
    name = next((name for name in _CONFIG_NAMES if request.get(name) is not None), None)
    return [("$.request", request), *([(child("$.request", name), request[name])] if name else [])]


def _ignored(request: Mapping[str, Any], names: Collection[str]) -> Iterable[Problem]:
    for at, config in _places(request):
        for name in config if isinstance(config, dict) else ():
            if snake_case(name) in names:
                rule = IGNORED_TITLE if name == TITLE else IGNORED_BY_MODEL
                yield Problem(rule, child(at, name), f"The model ignores {name}.")


def _config(request: Mapping[str, Any], longest: int) -> Iterable[Problem]:
    places, task_types = _places(request), []
    for at, config in places:
        length = member(config, "outputDimensionality")
        if _is_out_of_range(length, longest):
            message = f"The output dimensionality must be between 1 and {longest}."
            field = "outputDimensionality" if "outputDimensionality" in config else "output_dimensionality"
            yield Problem(BAD_DIMENSIONALITY, child(at, field), message)
        task_types.append(str(member(config, "taskType")).upper())
    for at, config in places:
        if member(config, TITLE) is not None and _TITLED not in task_types:
            message = f"A title is for texts that are embedded as {_TITLED}."
            yield Problem(UNUSED_TITLE, child(at, TITLE), message)


def _is_out_of_range(length: Any, longest: int) -> bool:
    """Whether a length is a number, also in quotes, that no vector has. Other values have the wrong type."""
    try:
        return length is not None and not 1 <= int(length) <= longest
    except (TypeError, ValueError, OverflowError):
        return False
