"""Generates a GenerateContentResponse, determined by the request and a seed."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Any

from airflow_gemini_batch.emulator.answers.prompt import Prompt, count_tokens, parts_of, prompt_tokens
from airflow_gemini_batch.emulator.answers.scalars import SchemaError
from airflow_gemini_batch.emulator.answers.schema_values import SchemaValues
from airflow_gemini_batch.gcp.discovery import elements, member
from airflow_gemini_batch.requests.request_fields import searches_the_web

if TYPE_CHECKING:
    from collections.abc import Mapping

_ROLES = ("user", "model")


class RowError(Exception):
    """The model rejects a request: the row fails, but not the job."""

    def __init__(self, message: str) -> None:
        self.message = message
        super().__init__(message)


@dataclass(frozen=True)
class _Thoughts:
    tokens: int = 0
    text: str = ""


def check_request(request: Mapping[str, Any]) -> None:
    """Check the rules of the model that field types do not express.

    :raises RowError: when the model would reject the request
    """
    contents = elements(member(request, "contents"))
    if not contents:
        raise RowError("Unable to submit request because at least one contents field is required.")
    for content in contents:
        if member(content, "role") not in (*_ROLES, None):
            raise RowError("Please use a valid role: user, model.")
        if not elements(member(content, "parts")):
            raise RowError("Unable to submit request because it must have at least one parts field.")
    for part in parts_of(request):
        file = member(part, "fileData")
        if file is not None and not member(file, "mimeType"):
            raise RowError("Unable to submit request because it has an empty mimeType parameter.")


@dataclass(frozen=True)
class Plan:
    """The parsed ``generationConfig`` of a request; many requests share one.

    :param thinks: whether thinking tokens are counted
    :param thinking_budget: maximum number of thinking tokens; None for no limit
    """

    mime_type: str = "text/plain"
    values: SchemaValues | None = None
    candidates: int = 1
    max_tokens: int | None = None
    thinks: bool = False
    shows_thoughts: bool = False
    thinking_budget: int | None = None

    @classmethod
    def of(cls, config: Any) -> Plan:
        """Parse a ``generationConfig`` whose field names and types are already valid."""
        schema, mime_type = _response_format(config)
        limit = member(config, "maxOutputTokens")
        thinking = member(config, "thinkingConfig")
        budget = member(thinking, "thinkingBudget")
        return cls(
            mime_type=mime_type,
            values=SchemaValues(schema) if schema is not None else None,
            candidates=int(member(config, "candidateCount") or 1),
            max_tokens=None if limit is None else int(limit),
            thinks=thinking is not None and (budget is None or int(budget) != 0),
            shows_thoughts=bool(member(thinking, "includeThoughts")),
            thinking_budget=int(budget) if budget is not None and int(budget) > 0 else None,
        )


def answer(request: Mapping[str, Any], plan: Plan, digest: bytes, model: str, created: str) -> dict[str, Any]:
    """Return the response to a request that passed ``check_request``.

    :param plan: its parsed ``generationConfig``
    :param digest: 32-byte hash of the request and the seed
    :param model: id of the model, for ``modelVersion``
    :param created: ``createTime``
    :raises RowError: when no value matches the response schema
    """
    random = Random(int.from_bytes(digest[:16], "big"))  # noqa: S311
    prompt = Prompt.of(request)
    thoughts = _think(plan, prompt, random)
    candidates = [_candidate(index, plan, prompt, thoughts, random) for index in range(plan.candidates)]
    if searches_the_web(request):
        queries = [" ".join(prompt.words[first : first + 4]) for first in range(1 + digest[0] % 3)]
        candidates[0]["groundingMetadata"] = {"webSearchQueries": queries}
    return {
        "candidates": candidates,
        "createTime": created,
        "modelVersion": model,
        "responseId": base64.urlsafe_b64encode(digest[16:]).decode().rstrip("="),
        "usageMetadata": _usage(request, candidates, thoughts),
    }


def _think(plan: Plan, prompt: Prompt, random: Random) -> _Thoughts:
    if not plan.thinks:
        return _Thoughts()
    tokens = 24 + int(random.random() * 300)
    if plan.thinking_budget is not None:
        tokens = min(tokens, plan.thinking_budget)
    text = f"**Reading the request**\n\nIt is about {', '.join(prompt.words[:5])}."
    return _Thoughts(tokens, text if plan.shows_thoughts else "")


def _candidate(index: int, plan: Plan, prompt: Prompt, thoughts: _Thoughts, random: Random) -> dict[str, Any]:
    text, reason = _text(plan, prompt, random), "STOP"
    if plan.max_tokens is not None:
        left = max(plan.max_tokens - thoughts.tokens, 0)
        if count_tokens(text) > left:
            text, reason = text[: left * 4], "MAX_TOKENS"
    parts: list[dict[str, Any]] = []
    if thoughts.text:
        parts.append({"text": thoughts.text, "thought": True})
    if text:
        parts.append({"text": text})
        if thoughts.tokens:
            parts[-1]["thoughtSignature"] = base64.b64encode(random.randbytes(24)).decode()
    likelihood = -round(0.01 + 0.9 * random.random(), 6)
    return {
        "avgLogprobs": likelihood,
        "content": {"parts": parts, "role": "model"} if parts else {"role": "model"},
        "finishReason": reason,
        **({"index": index} if index else {}),
        "score": round(likelihood * max(count_tokens(text), 1), 6),
    }


def _text(plan: Plan, prompt: Prompt, random: Random) -> str:
    if plan.values:
        try:
            value = plan.values.value(prompt, random)
        except SchemaError as error:
            raise RowError(f"The specified schema is invalid: {error}.") from None
        if plan.mime_type == "text/x.enum" and isinstance(value, str):
            return value
        return json.dumps(value, ensure_ascii=False)
    text = " ".join(prompt.sentences[: 1 + int(random.random() * 3)])
    return json.dumps({"answer": text}, ensure_ascii=False) if plan.mime_type == "application/json" else text


def _response_format(config: Any) -> tuple[Any, str]:
    """Return the response schema, or None, and the MIME type."""
    mime_type = str(member(config, "responseMimeType") or "text/plain")
    for name in ("responseSchema", "responseJsonSchema"):
        if schema := member(config, name):
            return schema, mime_type
    for given in elements(member(config, "responseFormat")):
        if text := member(given, "text"):
            # Here the type is an enum name such as APPLICATION_JSON, not a MIME type.
            return text.get("schema"), str(member(text, "mimeType") or mime_type).lower().replace("_", "/")
    return None, mime_type


def _usage(
    request: Mapping[str, Any], candidates: list[dict[str, Any]], thoughts: _Thoughts
) -> dict[str, Any]:
    prompt_details = prompt_tokens(request)
    output = sum(
        count_tokens(part["text"])
        for candidate in candidates
        for part in candidate["content"].get("parts", [])
        if not part.get("thought")
    )
    prompt = sum(prompt_details.values())
    usage = {
        "billablePromptUsage": {"textCount": prompt_details["TEXT"] * 4},
        "candidatesTokenCount": output,
        "candidatesTokensDetails": [{"modality": "TEXT", "tokenCount": output}],
        "promptTokenCount": prompt,
        "promptTokensDetails": [{"modality": m, "tokenCount": n} for m, n in prompt_details.items() if n],
        "thoughtsTokenCount": thoughts.tokens,
        "totalTokenCount": prompt + output + thoughts.tokens,
        "trafficType": "ON_DEMAND",
    }
    return {name: value for name, value in usage.items() if value}
