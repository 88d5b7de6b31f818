"""Converts prompts in all accepted forms to ``GenerateContentRequest``."""

from __future__ import annotations

import re
from dataclasses import asdict, is_dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from airflow_gemini_batch.exceptions import Described, InvalidParameterError, shown_or_type
from airflow_gemini_batch.requests.building.media import media
from airflow_gemini_batch.requests.keys import KEY_FIELD

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ROW_FIELDS = ("prompt", "system_instruction", "media_uri", "media_mime_type")
_PART_FIELDS = frozenset(
    {"text", "fileData", "inlineData", "functionCall", "functionResponse", "executableCode"}
)
_ACCEPTED = (
    "pass text, a list of parts, (key, prompt), a dict with 'prompt', 'contents' or 'request', "
    "or the contents of google.genai"
)


def camel_case(members: Mapping[str, Any]) -> dict[str, Any]:
    """Return an object with the names of its fields in camelCase. Nested objects stay as they are."""
    return {_camel(str(name)): value for name, value in members.items()}


# The names are the same in all rows.
@lru_cache(1024)
def _camel(name: str) -> str:
    return re.sub(r"_([a-z0-9])", lambda match: match.group(1).upper(), name)


def plain(item: Any) -> Any:
    """Convert an object of google.genai or any pydantic model to JSON; return anything else unchanged."""
    dump = getattr(item, "model_dump", None)
    return dump(mode="json", by_alias=True, exclude_none=True) if callable(dump) else item


def fields_of(item: Any) -> Mapping[str, Any]:
    """Return the fields of a row for a template.

    :raises InvalidParameterError: it is not a row
    """
    dump = getattr(item, "model_dump", None) or getattr(item, "_asdict", None)
    if callable(dump):
        item = dump()
    elif is_dataclass(item) and not isinstance(item, type):
        item = asdict(item)
    if not hasattr(item, "keys"):
        raise InvalidParameterError(
            "prompt",
            shown_or_type(item),
            "with a template, each row must be a mapping, dataclass, named tuple or pydantic model",
        )
    fields: Mapping[str, Any] = item
    return fields


def request_of(item: Any) -> dict[str, Any]:
    """Return the fields of the GenerateContentRequest for one prompt.

    :raises InvalidParameterError: the prompt has none of the accepted forms
    """
    if isinstance(item, (list, tuple)):
        return {"contents": _contents(item)}
    if not isinstance(item, dict):
        raise InvalidParameterError("prompt", shown_or_type(item), _ACCEPTED)
    if "request" in item:
        return _ready(plain(item["request"]))
    if "contents" in item:
        return _ready(item)
    if "prompt" in item:
        return _from_row(item)
    if "parts" in item or _PART_FIELDS & set(camel_case(item)):
        return {"contents": _contents([item])}
    raise InvalidParameterError("prompt", Described(f"has the fields {sorted(map(str, item))}"), _ACCEPTED)


def _ready(request: Any) -> dict[str, Any]:
    if not isinstance(request, dict) or not request.get("contents"):
        raise InvalidParameterError("request", shown_or_type(request), "pass an object with 'contents'")
    ready = {name: plain(value) for name, value in camel_case(request).items() if value is not None}
    contents = ready["contents"]
    ready["contents"] = _contents(contents if isinstance(contents, list) else [contents])
    return ready


def _from_row(row: dict[str, Any]) -> dict[str, Any]:
    if unknown := set(row) - set(ROW_FIELDS):
        raise InvalidParameterError(
            "prompt",
            Described(f"has the fields {sorted(unknown)}"),
            f"with 'prompt', a row may only have {', '.join((KEY_FIELD, *ROW_FIELDS[1:]))}",
        )
    uris, types = _several(row.get("media_uri")), _several(row.get("media_mime_type"))
    if len(types) not in (0, len(uris)):
        raise InvalidParameterError(
            "media_mime_type", len(types), f"pass one for each of the {len(uris)} media_uri"
        )
    parts = [media(uri, kind) for uri, kind in zip(uris, types or [None] * len(uris), strict=True)]
    request: dict[str, Any] = {"contents": _contents([*parts, *_several(row["prompt"])])}
    if instruction := row.get("system_instruction"):
        request["systemInstruction"] = instruction_of(instruction)
    return request


def _several(value: Any) -> list[Any]:
    if value is None:
        return []
    return list(value) if isinstance(value, (list, tuple)) else [value]


def instruction_of(text: Any) -> dict[str, Any]:
    """Return the content of a system instruction, which is one text or a list of texts."""
    return {"parts": [_part(each) for each in _several(text)]}


def _contents(items: Sequence[Any]) -> list[dict[str, Any]]:
    """Return a list of contents with complete fields; turn a list of parts into one content of the user."""
    given = [plain(item) for item in items]
    if given and all(isinstance(item, dict) and "parts" in item for item in given):
        return [
            {"role": "user", **item, "parts": [_part(part) for part in _several(item["parts"])]}
            for item in given
        ]
    parts = [_part(item) for item in given]
    if not parts:
        raise InvalidParameterError("prompt", [], "it has no parts; add at least one")
    return [{"role": "user", "parts": parts}]


def _part(item: Any) -> dict[str, Any]:
    if isinstance(item, str):
        if not item:
            raise InvalidParameterError("prompt", item, "a part of it is empty; remove it or add text")
        return {"text": item}
    part = plain(item)
    if not isinstance(part, dict) or not _PART_FIELDS & set(camel_case(part)):
        raise InvalidParameterError("prompt", shown_or_type(item), _ACCEPTED)
    return part
