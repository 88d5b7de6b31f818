"""Requests for embedding models: what all of them share, and one for each prompt."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from airflow_gemini_batch.exceptions import Described, InvalidParameterError, shown_or_type
from airflow_gemini_batch.formats import counted
from airflow_gemini_batch.gcp.discovery import snake_case
from airflow_gemini_batch.models import Model, find_model
from airflow_gemini_batch.requests.building.prompts import camel_case, plain, request_of
from airflow_gemini_batch.requests.request_fields import EMBED_CONFIG, TITLE, TITLE_IN_TEXT, embedding_fields

if TYPE_CHECKING:
    from collections.abc import Mapping

log = logging.getLogger(__name__)


def config_members(value: Any, model: str | None) -> dict[str, Any]:
    """Return an ``EmbedContentConfig`` as REST spells it.

    :param value: a dict in either spelling, or an object of google.genai
    :raises InvalidParameterError: a field is unknown, or has a value that no embedding model accepts
    """
    given = plain(value) if value is not None else {}
    if not isinstance(given, dict):
        fix = "give a dict such as {'output_dimensionality': 768, 'task_type': 'RETRIEVAL_DOCUMENT'}"
        raise InvalidParameterError("embedding_config", shown_or_type(value), fix)
    config = {name: each for name, each in camel_case(given).items() if each is not None}
    fields = embedding_fields()
    if unknown := sorted(set(config) - set(fields)):
        raise InvalidParameterError(
            "embedding_config",
            Described(f"has the fields {unknown}"),
            f"the fields are {', '.join(sorted(fields))}",
        )
    known_model = (find_model(model) if model else None) or Model()
    longest = known_model.max_dimensions
    length, task_type = config.get("outputDimensionality"), config.get("taskType")
    if length is not None and not (type(length) is int and 1 <= length <= longest):
        fix = f"give the length of the vectors, an integer from 1 to {longest}"
        raise InvalidParameterError("embedding_config['output_dimensionality']", length, fix)
    known = fields["taskType"]["enum"]
    if task_type is not None and task_type not in known:
        fix = f"give one of {', '.join(known[1:])}"
        raise InvalidParameterError("embedding_config['task_type']", task_type, fix)
    if ignored := [name for name in config if snake_case(name) in known_model.ignores]:
        log.warning("%s ignores these fields of embedding_config: %s", model, ", ".join(ignored))
    return config


def warn_of_titles(model: str | None) -> None:
    """Log that a model has no use for the titles of rows, if that is so."""
    if model and TITLE in (find_model(model) or Model()).ignores:
        log.warning("%s ignores the titles of rows. %s", model, TITLE_IN_TEXT)


def embedding_of(item: Any) -> dict[str, Any]:
    """Return the EmbedContentRequest for one prompt, without what all requests share.

    :param item: text parts and media, a row, which may have a ``title``, or a complete request
    :raises InvalidParameterError: the prompt has none of the accepted forms
    """
    if isinstance(item, dict):
        request = plain(item["request"]) if "request" in item else item
        if isinstance(request, dict) and "content" in request:
            return _ready(request)
    title = None
    if isinstance(item, dict) and "prompt" in item:
        title = item.get(TITLE)
        item = {name: value for name, value in item.items() if name != TITLE}
        if item.get("system_instruction"):
            fix = "an embedding model takes none; leave it out"
            raise InvalidParameterError("prompt", Described("has a system_instruction"), fix)
    return {"content": _content(item), **({EMBED_CONFIG: {"title": str(title)}} if title else {})}


def _content(item: Any) -> dict[str, Any]:
    request = request_of(item)
    contents = request.pop("contents")
    if request or len(contents) != 1:
        fix = "an embedding model takes one content and does not generate; write {'content': {'parts': […]}}"
        found = ", ".join([*sorted(request), counted(len(contents), "content")])
        raise InvalidParameterError("request", Described(f"has {found}"), fix)
    # The published requests leave this role out.
    return {name: value for name, value in contents[0].items() if (name, value) != ("role", "user")}


def _ready(request: Mapping[str, Any]) -> dict[str, Any]:
    ready = {name: plain(value) for name, value in camel_case(request).items() if value is not None}
    if EMBED_CONFIG in ready:
        ready[EMBED_CONFIG] = camel_case(ready[EMBED_CONFIG])
    if not ready.get("content"):
        raise InvalidParameterError(
            "request", Described(f"has the fields {sorted(ready)}"), "give 'content' with 'parts'"
        )
    return {**ready, "content": _content({"contents": ready["content"]})}
