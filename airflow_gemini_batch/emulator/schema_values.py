"""Values that obey a response schema, made of the words of the prompt.

Both forms are read: the service's ``responseSchema`` (types in capitals, ``nullable``,
``propertyOrdering``) and JSON Schema (``responseJsonSchema``: lists of types, ``$ref``, ``const``, ``oneOf``,
``allOf``, ``prefixItems``, ``additionalProperties``). Not obeyed: ``pattern``, ``not``, ``if``,
``dependent…``, ``contains``.
"""

from __future__ import annotations

import math
import re
from datetime import datetime, timedelta, timezone
from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence
    from random import Random

    from airflow_gemini_batch.emulator.prompt import Prompt

Schema = dict[str, Any]

_TOKEN = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+")
# fmt: off
_SENTENCE_FIELDS = frozenset((
    "abstract", "answer", "comment", "description", "details", "explanation", "overview", "rationale",
    "reason", "reasoning", "reply", "sentence", "summary", "text",
))
_TITLE_FIELDS = frozenset(("headline", "heading", "name", "subject", "title", "topic"))
_SHARE_FIELDS = frozenset(("confidence", "fraction", "likelihood", "probability", "ratio", "score", "share"))
# fmt: on
_SENTENCE_LENGTH = 240
# Deeper than this, what may be left out is left out, so that recursive schemas end.
_SHALLOW = 6
_DEEPEST = 60
_EPOCH = datetime(2020, 1, 1, tzinfo=timezone.utc)


class SchemaError(ValueError):
    """The schema has no value, or none that can be found: a type that does not exist, a ref to nowhere."""


def make_value(schema: Schema, prompt: Prompt, random: Random, name: str = "") -> Any:
    """Return a value that obeys the schema; the same for the same random state.

    :param name: what the value is called, a hint at what it should say
    :raises SchemaError: when there is none
    """
    return _Maker(schema, prompt, random).value(schema, name, 0)


class _Maker:
    def __init__(self, root: Schema, prompt: Prompt, random: Random) -> None:
        self._root = root
        self._prompt = prompt
        self._random = random

    def value(self, schema: Any, name: str, depth: int) -> Any:
        if depth > _DEEPEST:
            raise SchemaError("the schema is recursive and never ends")
        schema = self._resolved(schema, depth)
        if "const" in schema:
            return schema["const"]
        kinds = _kinds(schema)
        if "null" in kinds and (len(kinds) == 1 or self._leaves_out(depth)):
            return None
        if schema.get("enum"):
            return self._choice([item for item in schema["enum"] if item is not None] or [None])
        kind = self._random.choice([kind for kind in kinds if kind != "null"])
        return self._of_kind(kind, schema, name, depth)

    def _of_kind(self, kind: str, schema: Schema, name: str, depth: int) -> Any:
        if kind == "object":
            return self._object(schema, depth)
        if kind == "array":
            return self._array(schema, name, depth)
        if kind == "string":
            return self._string(schema, name)
        if kind == "boolean":
            return self._random.random() < 0.5
        return self._number(schema, name, whole=kind == "integer")

    def _leaves_out(self, depth: int) -> bool:
        return depth >= _SHALLOW or self._random.random() < 0.1

    def _resolved(self, schema: Any, depth: int) -> Schema:
        """Follow references, merge ``allOf`` and choose one of ``anyOf`` until a plain schema is left."""
        for _ in range(_DEEPEST):
            if not isinstance(schema, dict):
                return {}
            if reference := schema.get("$ref") or schema.get("ref"):
                schema = {**self._referenced(reference), **_without(schema, "$ref", "ref")}
            elif schema.get("allOf"):
                merged = _without(schema, "allOf")
                for part in schema["allOf"]:
                    merged = _merge(merged, self._resolved(part, depth))
                schema = merged
            elif branches := schema.get("anyOf") or schema.get("oneOf"):
                schema = _merge(_without(schema, "anyOf", "oneOf"), self._branch(branches, depth))
            else:
                return schema
        raise SchemaError("a reference refers to itself")

    def _branch(self, branches: Sequence[Any], depth: int) -> Schema:
        values = [branch for branch in branches if not (isinstance(branch, dict) and _is_null(branch))]
        if len(values) < len(branches) and (not values or self._leaves_out(depth)):
            return {"type": "null"}
        if depth >= _SHALLOW:
            values.sort(key=lambda branch: len(str(branch)) + 1000 * ("ref" in str(branch)))
            return dict(values[0])
        return dict(self._random.choice(values))

    def _referenced(self, reference: str) -> Schema:
        found: Any = self._root
        for step in reference.lstrip("#").strip("/").split("/") if reference.strip("#/") else []:
            step = step.replace("~1", "/").replace("~0", "~")  # noqa: PLW2901
            found = (found.get(step) or found.get(step.lstrip("$"))) if isinstance(found, dict) else None
        if not isinstance(found, dict):
            raise SchemaError(f"the reference {reference} leads nowhere")
        return found

    def _object(self, schema: Schema, depth: int) -> dict[str, Any]:
        properties = schema.get("properties") or {}
        required = schema.get("required")
        needed = set(required or ())
        order = [name for name in schema.get("propertyOrdering") or [] if name in properties]
        names = list(dict.fromkeys([*order, *properties]))
        made = {}
        for name in names:
            if name in needed or not (depth >= _SHALLOW if required is None else self._leaves_out(depth)):
                made[name] = self.value(properties[name], name, depth + 1)
        others = schema.get("additionalProperties")
        for name in needed - made.keys():
            made[name] = self.value(others if isinstance(others, dict) else {}, name, depth + 1)
        self._add_others(schema, made, depth)
        return made

    def _add_others(self, schema: Schema, made: dict[str, Any], depth: int) -> None:
        """Add members of a map: as many as it must have, and one or two where it is nothing but a map."""
        others = schema.get("additionalProperties")
        least = _whole(schema, "minProperties", 0)
        if isinstance(others, dict) and not schema.get("properties") and depth < _SHALLOW:
            least = max(least, min(2, _whole(schema, "maxProperties", 2)))
        words = iter([*self._prompt.words, *(f"member_{n}" for n in range(least))])
        while len(made) < least and others is not False:
            name = re.sub(r"\W", "_", next(words).lower())
            if name not in made and name not in (schema.get("properties") or {}):
                made[name] = self.value(
                    others if isinstance(others, dict) else {"type": "string"}, name, depth + 1
                )

    def _array(self, schema: Schema, name: str, depth: int) -> list[Any]:
        least = _whole(schema, "minItems", 0)
        usual = least if depth >= _SHALLOW else max(least, self._random.randint(1, 3))
        length = min(usual, _whole(schema, "maxItems", usual))
        first = schema.get("prefixItems") or []
        made: list[Any] = []
        for _ in range(max(length, 1) * 10):
            if len(made) >= length:
                break
            items = first[len(made)] if len(made) < len(first) else schema.get("items")
            if items is False:
                break
            item = self.value({"type": "string"} if items is None else items, _singular(name), depth + 1)
            if (
                item not in made
                or not (schema.get("uniqueItems") or isinstance(item, str))
                or len(made) < least
            ):
                made.append(item)
        return made

    def _choice(self, values: Sequence[Any]) -> Any:
        """Choose the value that the prompt speaks of, or any."""
        spoken = [v for v in values if isinstance(v, str) and _tokens(v) & self._prompt.vocabulary]
        return self._random.choice(spoken or list(values))

    def _number(self, schema: Schema, name: str, *, whole: bool) -> float:
        low, high = _bounds(schema, whole=whole, span=1 if _tokens(name) & _SHARE_FIELDS else 100)
        step = schema.get("multipleOf")
        if step:
            first, last = math.ceil(low / step), math.floor(high / step)
            return self._random.randint(first, max(first, last)) * step  # type: ignore[no-any-return]
        if whole:
            first, last = math.ceil(low), math.floor(high)
            if first > last:
                raise SchemaError("there is no integer between minimum and maximum")
            return self._random.randint(first, last)
        number = low + (high - low) * self._random.uniform(0.05, 0.95)
        return round(number, 3) if low < round(number, 3) < high else number

    def _string(self, schema: Schema, name: str) -> str:
        form = str(schema.get("format") or "")
        made = self._formatted(form) or self._spoken(_tokens(name))
        least, most = _whole(schema, "minLength", 0), _whole(schema, "maxLength", 2**31)
        while len(made) < least:
            made += " " + self._random.choice(self._prompt.words)
        return made if len(made) <= most else made[:most]

    def _spoken(self, hints: frozenset[str]) -> str:
        for label, value in self._prompt.labelled.items():
            if _tokens(label) & hints:
                return _cut(value, _SENTENCE_LENGTH)
        if hints & _SENTENCE_FIELDS:
            return _cut(self._prompt.sentences[0], _SENTENCE_LENGTH)
        if hints & _TITLE_FIELDS:
            return " ".join(self._prompt.sentences[0].split()[:6]).rstrip(".,:;")
        words = self._prompt.words
        start = self._random.randrange(len(words))
        return " ".join(words[start : start + self._random.randint(1, 3)]).lower()

    def _formatted(self, form: str) -> str | None:
        if not form or form == "enum":
            return None
        at = _EPOCH + timedelta(seconds=self._random.randrange(6 * 365 * 86400))
        word = re.sub(r"[^a-z]", "", self._random.choice(self._prompt.words).lower()) or "nothing"
        digits = f"{self._random.getrandbits(128):032x}"
        return {
            "date": at.strftime("%Y-%m-%d"),
            "date-time": at.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "time": at.strftime("%H:%M:%SZ"),
            "duration": f"PT{at.minute}M",
            "email": f"{word}@example.com",
            "hostname": f"{word}.example.com",
            "ipv4": f"192.0.2.{at.minute}",
            "ipv6": f"2001:db8::{at.minute}",
            "uri": f"https://example.com/{word}",
            "url": f"https://example.com/{word}",
            "uuid": "-".join(
                (digits[:8], digits[8:12], "4" + digits[13:16], "8" + digits[17:20], digits[20:])
            ),
        }.get(form)


def _kinds(schema: Schema) -> list[str]:
    given = schema.get("type")
    kinds = [str(kind).lower() for kind in (given if isinstance(given, list) else [given] if given else [])]
    if not kinds or kinds == ["type_unspecified"]:
        kinds = ["object" if "properties" in schema else "array" if "items" in schema else "string"]
    if schema.get("nullable") and "null" not in kinds:
        kinds.append("null")
    for kind in kinds:
        if kind not in ("object", "array", "string", "boolean", "integer", "number", "null"):
            raise SchemaError(f"there is no type {kind}")
    return kinds


def _bounds(schema: Schema, *, whole: bool, span: float) -> tuple[float, float]:
    step = 1 if whole else 0
    low, high = schema.get("minimum"), schema.get("maximum")
    above, below = schema.get("exclusiveMinimum"), schema.get("exclusiveMaximum")
    if above is not None and not isinstance(above, bool):
        low = above + step if low is None else max(low, above + step)
    if below is not None and not isinstance(below, bool):
        high = below - step if high is None else min(high, below - step)
    if low is None:
        low = 0.0 if high is None or high >= 0 else high - span
    if high is None:
        high = low + span
    return low, high


def _is_null(schema: Schema) -> bool:
    return (
        str(schema.get("type")).lower() == "null"
        or schema.get("const", 0) is None
        or schema.get("enum") == [None]
    )


def _whole(schema: Schema, key: str, default: int) -> int:
    """Return a count; the service's own form has its int64 in quotes."""
    value = schema.get(key)
    return default if value is None else int(value)


def _without(schema: Schema, *keys: str) -> Schema:
    return {key: value for key, value in schema.items() if key not in keys}


def _merge(one: Schema, other: Schema) -> Schema:
    merged = {**one, **other}
    if "properties" in one and "properties" in other:
        merged["properties"] = {**one["properties"], **other["properties"]}
    if "required" in one and "required" in other:
        merged["required"] = [*one["required"], *other["required"]]
    return merged


@lru_cache(maxsize=4096)
def _tokens(name: str) -> frozenset[str]:
    return frozenset(token.lower() for token in _TOKEN.findall(name))


def _singular(name: str) -> str:
    return name.removesuffix("s")


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1].rsplit(" ", 1)[0] + "…"
