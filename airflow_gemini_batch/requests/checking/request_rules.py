"""What the model refuses in a single request: that row fails, the other rows run.

Fields and types come from Google's discovery document. Like the service, the check accepts camelCase and
snake_case names, numbers in quotes, null for no value, and a single element instead of an array of one.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from airflow_gemini_batch.gcp.discovery import Mismatch, Violation, elements, member, snake_case
from airflow_gemini_batch.requests.checking.findings import Level, Rule
from airflow_gemini_batch.requests.checking.inferred_columns import Problem, child
from airflow_gemini_batch.requests.request_fields import REQUEST, request_schemas

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_ROLES = ("user", "model")
_OF_CONFIG = (
    *("responseSchema", "responseJsonSchema", "responseMimeType", "responseModalities", "thinkingConfig"),
    *("temperature", "topP", "topK", "maxOutputTokens", "stopSequences", "candidateCount", "seed"),
)
_OF_REQUEST = (
    *("generationConfig", "systemInstruction", "tools", "toolConfig", "safetySettings", "cachedContent"),
    *("contents", "labels"),
)
# Field, in both spellings → the object that it belongs in.
_PARENTS = {
    spelling: parent
    for names, parent in ((_OF_CONFIG, "request.generationConfig"), (_OF_REQUEST, "request"))
    for name in names
    for spelling in (name, snake_case(name))
}
# Users may put any value next to `request`, but they would not give their own values these names.
_NEVER_NEXT_TO_REQUEST = {
    spelling for name in (*_OF_CONFIG[:5], *_OF_REQUEST[:-1]) for spelling in (name, snake_case(name))
}

UNKNOWN_FIELD = Rule(
    "unknown-field",
    Level.ROW,
    "Correct the name or remove the field: GenerateContentRequest has no such field.",
)
WRONG_TYPE = Rule("wrong-type", Level.ROW, "Write a value of the type that the field requires.")
INVALID_ROLE = Rule(
    "invalid-role",
    Level.ROW,
    "Set `role` to `user` or `model`. Put instructions for the model into `systemInstruction`.",
)
NO_CONTENTS = Rule(
    "no-contents", Level.ROW, 'Add a prompt: `"contents": [{"role": "user", "parts": [{"text": "…"}]}]`.'
)
NO_PARTS = Rule("no-parts", Level.ROW, "Add at least one part to every element of `contents`.")
NO_MIME_TYPE = Rule(
    "no-mime-type", Level.ROW, "Add the `mimeType` of the file next to `fileUri`, such as `image/png`."
)
MISPLACED = Rule("misplaced", Level.ROW, "Move the field to the object that it belongs in.")
IGNORED_BESIDE_REQUEST = Rule(
    "ignored-beside-request", Level.RESULT, "Move it into `request` or `request.generationConfig`."
)


def row_problems(row: Mapping[str, Any]) -> list[Problem]:
    """Return what is wrong with a row whose ``request`` is an object."""
    request = row["request"]
    violations = request_schemas().violations(REQUEST, request)
    return [*_next_to_request(row), *map(_problem, violations), *_contents(request)]


def _next_to_request(row: Mapping[str, Any]) -> Iterable[Problem]:
    for name in row:
        if name in _NEVER_NEXT_TO_REQUEST:
            rule = replace(IGNORED_BESIDE_REQUEST, fix=f"Move it to `{_PARENTS[name]}`.")
            message = f"The service ignores `{name}` next to `request` and only copies it to the output."
            yield Problem(rule, child("$", name), message)


def path_of(found: Violation) -> str:
    """Return the JSON path of a violation in a request."""
    path = "$.request"
    for step in found.path:
        path = f"{path}[{step}]" if isinstance(step, int) else child(path, step)
    return path


def _problem(found: Violation) -> Problem:
    rule = WRONG_TYPE
    if found.mismatch is Mismatch.UNKNOWN_FIELD:
        rule = UNKNOWN_FIELD
        parent = _PARENTS.get(str(found.path[-1]))
        if parent and (found.schema == REQUEST or found.field == "generation_config"):
            rule = replace(MISPLACED, fix=f"Move it to `{parent}`.")
    return Problem(rule, path_of(found), found.message)


def _contents(request: Mapping[str, Any]) -> Iterable[Problem]:
    contents = elements(member(request, "contents"))
    if not contents:
        message = "Unable to submit request because at least one contents field is required."
        yield Problem(NO_CONTENTS, "$.request", message)
    for index, content in enumerate(contents):
        at = f"$.request.contents[{index}]"
        if member(content, "role") not in (*_ROLES, None):
            yield Problem(INVALID_ROLE, f"{at}.role", "Please use a valid role: user, model.")
        if not elements(member(content, "parts")):
            message = "Unable to submit request because it must have at least one parts field."
            yield Problem(NO_PARTS, at, message)
        yield from files_without_type(content, at)
    yield from files_without_type(member(request, "systemInstruction"), "$.request.systemInstruction")


def files_without_type(content: Any, at: str) -> Iterable[Problem]:
    """Yield a problem for each file of a content that has no MIME type."""
    for index, part in enumerate(elements(member(content, "parts"))):
        for name in ("fileData", "inlineData"):
            file = member(part, name)
            if isinstance(file, dict) and any(file.values()) and not member(file, "mimeType"):
                message = "Unable to submit request because it has an empty mimeType parameter."
                yield Problem(NO_MIME_TYPE, f"{at}.parts[{index}].{name}", message)
