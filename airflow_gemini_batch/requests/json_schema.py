"""Resolves references (``$ref``) inside a JSON Schema."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

REFERENCE_KEYWORDS = ("$ref", "ref")
"""JSON Schema's keyword, and that of the service's own ``Schema``."""


class BrokenReferenceError(Exception):
    """A reference cannot be resolved.

    :param is_recursive: True: it leads back to itself. False: the document has nothing of that name
    """

    def __init__(self, reference: object, *, is_recursive: bool) -> None:
        self.reference = reference
        self.is_recursive = is_recursive
        super().__init__(reference)


class Followed(NamedTuple):
    """A schema whose reference was followed by one step.

    :param target: the schema that the reference names
    :param siblings: the other keywords next to the reference
    :param references: all references followed so far
    """

    target: Mapping[str, Any]
    siblings: dict[str, Any]
    references: tuple[object, ...]


def reference_of(schema: Mapping[str, Any], keywords: tuple[str, ...] = REFERENCE_KEYWORDS) -> Any:
    """Return the reference of a schema, None if it has none."""
    return next((schema[keyword] for keyword in keywords if schema.get(keyword)), None)


def follow(
    schema: Mapping[str, Any],
    document: Mapping[str, Any],
    references: tuple[object, ...] = (),
    keywords: tuple[str, ...] = REFERENCE_KEYWORDS,
) -> Followed | None:
    """Follow the reference of a schema by one step. Returns None if it has none.

    :param document: the whole schema, which references point into
    :param references: those followed on the way to this schema
    :raises BrokenReferenceError: the reference names nothing in the document, or is in ``references``
    """
    reference = reference_of(schema, keywords)
    if reference is None:
        return None
    if reference in references:
        raise BrokenReferenceError(reference, is_recursive=True)
    siblings = {name: value for name, value in schema.items() if name not in keywords}
    return Followed(target(document, reference), siblings, (*references, reference))


def target(document: Mapping[str, Any], reference: object) -> Mapping[str, Any]:
    """Return the schema that a reference such as ``#/$defs/Item`` names.

    :raises BrokenReferenceError: the document has nothing of that name, or the reference leaves the document
    """
    found: Any = document
    pointer = str(reference).removeprefix("#").strip("/")
    for step in pointer.split("/") if pointer else ():
        name = step.replace("~1", "/").replace("~0", "~")
        # The service's `Schema` has `defs`; converters rename the keyword and keep `#/$defs/…`.
        found = (found.get(name) or found.get(name.lstrip("$"))) if isinstance(found, dict) else None
    if not str(reference).startswith("#") or not isinstance(found, dict):
        raise BrokenReferenceError(reference, is_recursive=False)
    return found
