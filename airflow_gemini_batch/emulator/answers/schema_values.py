"""Generates values that match a response schema, from the words of the prompt.

Supports both forms: the service's ``responseSchema`` (types in capitals, ``nullable``,
``propertyOrdering``) and JSON Schema (``responseJsonSchema``: lists of types, ``$ref``, ``const``, ``oneOf``,
``allOf``, ``prefixItems``, ``additionalProperties``). Ignored: ``pattern``, ``not``, ``if``,
``dependent…``, ``contains``.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_gemini_batch.emulator.answers.scalars import SchemaError, field_tokens, number_maker, text_maker
from airflow_gemini_batch.requests.json_schema import BrokenReferenceError, follow, reference_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from random import Random

    from airflow_gemini_batch.emulator.answers.prompt import Prompt

Schema = dict[str, Any]

# Below this depth, optional members are omitted so that recursive schemas end.
_SHALLOW = 6
_DEEPEST = 60
_TYPES = frozenset(("object", "array", "string", "boolean", "integer", "number", "null"))


@dataclass(frozen=True)
class _Context:
    prompt: Prompt
    random: Random

    def leaves_out(self, depth: int) -> bool:
        return depth >= _SHALLOW or self.random.random() < 0.1

    def choose(self, values: Sequence[Any]) -> Any:
        return values[int(self.random.random() * len(values))]


_Make = Callable[[_Context, int], Any]


class SchemaValues:
    """Generates values for one schema, which is parsed only once."""

    def __init__(self, schema: Schema) -> None:
        self._root = schema
        self._made: dict[tuple[str, str], _Make] = {}
        self._make: _Make | None = None

    def value(self, prompt: Prompt, random: Random) -> Any:
        """Return a value, determined by the prompt and the random state.

        :raises SchemaError: when no value matches the schema
        """
        if self._make is None:
            self._make = self._read(self._root, "")
        return self._make(_Context(prompt, random), 0)

    def _read(self, schema: Any, name: str) -> _Make:
        """Compile a schema into a function that generates values.

        :param name: property name, a hint for the content
        """
        schema = self._resolved(schema)
        if reference := reference_of(schema):
            return self._reference(reference, name)
        if "const" in schema:
            return lambda _context, _depth: schema["const"]
        if branches := schema.get("anyOf") or schema.get("oneOf"):
            return self._branches(_without(schema, "anyOf", "oneOf"), branches, name)
        kinds = _kinds(schema)
        makers = [self._of_kind(kind, schema, name) for kind in kinds if kind != "null"]
        if values := [value for value in schema.get("enum") or () if value is not None]:
            makers = [_choice(values)]
        if "null" not in kinds:
            return (
                makers[0]
                if len(makers) == 1
                else lambda context, depth: context.choose(makers)(context, depth)
            )
        if not makers:
            return lambda _context, _depth: None
        return lambda context, depth: (
            None if context.leaves_out(depth) else context.choose(makers)(context, depth)
        )

    def _of_kind(self, kind: str, schema: Schema, name: str) -> _Make:
        if kind == "object":
            return self._object(schema)
        if kind == "array":
            return self._array(schema, name)
        if kind == "string":
            make = text_maker(schema, name)
            return lambda context, _depth: make(context.prompt, context.random)
        if kind == "boolean":
            return lambda context, _depth: context.random.random() < 0.5
        make_number = number_maker(schema, name, whole=kind == "integer")
        return lambda context, _depth: make_number(context.random)

    def _resolved(self, schema: Any) -> Schema:
        """Merge ``allOf`` and the members next to a ``$ref``; keep a ``$ref`` without other members."""
        for _ in range(_DEEPEST):
            if not isinstance(schema, dict):
                return {}
            reference = reference_of(schema)
            beside = _without(schema, "$ref", "ref", "$defs", "defs", "definitions")
            if reference and beside:
                schema = {**self._referenced(reference), **beside}
            elif schema.get("allOf"):
                merged = _without(schema, "allOf")
                for part in schema["allOf"]:
                    part_ = self._resolved(part)
                    merged = _merge(merged, self._referenced(part_["$ref"]) if "$ref" in part_ else part_)
                schema = merged
            else:
                return schema
        raise SchemaError("a reference refers to itself")

    def _referenced(self, reference: str) -> Schema:
        schema: Schema = {"$ref": reference}
        followed: tuple[object, ...] = ()
        try:
            while step := follow(schema, self._root, followed):
                schema, followed = {**step.target, **step.siblings}, step.references
        except BrokenReferenceError as error:
            problem = "refers to itself" if error.is_recursive else "leads nowhere"
            raise SchemaError(f"the reference {error.reference} {problem}") from None
        return schema

    def _reference(self, reference: str, name: str) -> _Make:
        def make(context: _Context, depth: int) -> Any:
            # Compiled on first use because the schema may refer to itself.
            if (reference, name) not in self._made:
                self._made[reference, name] = self._read(self._referenced(reference), name)
            return self._made[reference, name](context, depth + 1 if depth < _SHALLOW else _deeper(depth))

        return make

    def _branches(self, shared: Schema, branches: Sequence[Any], name: str) -> _Make:
        """Choose a branch of ``anyOf``: rarely null; at depth, the simplest."""
        values = [b for b in branches if not (isinstance(b, dict) and _is_null(b))]
        makers = [self._read(_merge(shared, self._resolved(b)) if shared else b, name) for b in values]
        sizes = [len(str(b)) + 1000 * ("ref" in str(b)) for b in values]
        simplest = makers[sizes.index(min(sizes))] if makers else None
        has_null = len(values) < len(branches)

        def make(context: _Context, depth: int) -> Any:
            if simplest is None or (has_null and context.leaves_out(depth)):
                return None
            return (simplest if depth >= _SHALLOW else context.choose(makers))(context, depth)

        return make

    def _object(self, schema: Schema) -> _Make:
        properties: Schema = schema.get("properties") or {}
        needed = set(schema.get("required") or ())
        some_are_optional = schema.get("required") is not None
        order = [name for name in schema.get("propertyOrdering") or () if name in properties]
        others = schema.get("additionalProperties")
        other = self._read(others if isinstance(others, dict) else {"type": "string"}, "")
        members = [
            (name, self._read(properties[name], name), name in needed)
            for name in dict.fromkeys([*order, *properties])
        ]
        members += [(name, other, True) for name in sorted(needed - properties.keys())]
        least = _whole(schema, "minProperties", 0)
        usual = (
            min(2, _whole(schema, "maxProperties", 2)) if isinstance(others, dict) and not properties else 0
        )

        def make(context: _Context, depth: int) -> dict[str, Any]:
            below = _deeper(depth)
            made = {}
            for name, make_member, is_needed in members:
                if is_needed or not (context.leaves_out(depth) if some_are_optional else depth >= _SHALLOW):
                    made[name] = make_member(context, below)
            wanted = least if depth >= _SHALLOW else max(least, usual)
            if len(made) < wanted and others is not False:
                for name in _other_names(context.prompt, wanted):
                    if len(made) < wanted and name not in made and name not in properties:
                        made[name] = other(context, below)
            return made

        return make

    def _array(self, schema: Schema, name: str) -> _Make:
        least = _whole(schema, "minItems", 0)
        most = _whole(schema, "maxItems", 2**31)
        singular = name.removesuffix("s")
        first = [self._read(item, singular) for item in schema.get("prefixItems") or ()]
        items = schema.get("items", {"type": "string"})
        rest = None if items is False else self._read(items, singular)
        if rest is None:
            most = min(most, len(first))

        def make(context: _Context, depth: int) -> list[Any]:
            below = _deeper(depth)
            usual = least if depth >= _SHALLOW else max(least, 1 + int(context.random.random() * 3))
            length = min(usual, most)
            made: list[Any] = []
            for attempt in range(length * 20):
                if len(made) == length:
                    break
                make_item = first[len(made)] if len(made) < len(first) else rest
                item = make_item(context, below) if make_item else None
                # Strings may repeat, but only if there are no others.
                must_differ = schema.get("uniqueItems") or (isinstance(item, str) and attempt < length * 10)
                if not must_differ or item not in made:
                    made.append(item)
            if len(made) < least:
                raise SchemaError(f"there are no {least} different items")
            return made

        return make


def _deeper(depth: int) -> int:
    if depth >= _DEEPEST:
        raise SchemaError("the schema is recursive and never ends")
    return depth + 1


def _choice(values: Sequence[Any]) -> _Make:
    """Choose a value with a word of the prompt, else any."""
    tokens = [(value, field_tokens(value) if isinstance(value, str) else frozenset()) for value in values]

    def make(context: _Context, _depth: int) -> Any:
        vocabulary = context.prompt.vocabulary
        return context.choose([value for value, said in tokens if said & vocabulary] or values)

    return make


def _kinds(schema: Schema) -> list[str]:
    given = schema.get("type")
    kinds = [str(kind).lower() for kind in (given if isinstance(given, list) else [given] if given else [])]
    if not kinds or kinds == ["type_unspecified"]:
        kinds = ["object" if "properties" in schema else "array" if "items" in schema else "string"]
    if schema.get("nullable") and "null" not in kinds:
        kinds.append("null")
    for kind in kinds:
        if kind not in _TYPES:
            raise SchemaError(f"there is no type {kind}")
    return kinds


def _other_names(prompt: Prompt, least: int) -> list[str]:
    return [re.sub(r"\W", "_", word.lower()) for word in prompt.words] + [f"member_{n}" for n in range(least)]


def _is_null(schema: Schema) -> bool:
    return (
        str(schema.get("type")).lower() == "null"
        or schema.get("const", 0) is None
        or schema.get("enum") == [None]
    )


def _whole(schema: Schema, key: str, default: int) -> int:
    """Return an integer keyword; the service writes int64 as strings."""
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
