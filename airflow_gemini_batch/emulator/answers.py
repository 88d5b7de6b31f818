"""What the model answers: a GenerateContentResponse that the request and a seed determine."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Any

from airflow_gemini_batch.emulator.prompt import Prompt, count_tokens, elements, member, prompt_tokens
from airflow_gemini_batch.emulator.schema_values import SchemaError, make_value

if TYPE_CHECKING:
    from collections.abc import Mapping

_ROLES = ("user", "model")


class RowError(Exception):
    """The model refuses a request; the row fails, the job does not."""

    def __init__(self, message: str) -> None:
        self.message = message
        super().__init__(message)


@dataclass(frozen=True)
class _Thoughts:
    tokens: int = 0
    text: str = ""


def check_request(request: Mapping[str, Any]) -> None:
    """Check what the types of the fields do not say.

    :raises RowError: when the model would refuse it
    """
    contents = elements(member(request, "contents"))
    if not contents:
        raise RowError("Unable to submit request because at least one contents field is required.")
    for content in contents:
        if member(content, "role") not in (*_ROLES, None):
            raise RowError("Please use a valid role: user, model.")
        if not elements(member(content, "parts")):
            raise RowError("Unable to submit request because it must have at least one parts field.")


def answer(request: Mapping[str, Any], digest: bytes, model: str, created: str) -> dict[str, Any]:
    """Return the response to a request that ``check_request`` let through.

    :param digest: 32 bytes that stand for the request and the seed
    :param model: id of the model, for ``modelVersion``
    :param created: ``createTime``
    :raises RowError: when the response schema has no value
    """
    random = Random(int.from_bytes(digest[:16], "big"))  # noqa: S311
    config = member(request, "generationConfig") or {}
    prompt = Prompt.of(request)
    thoughts = _think(config, prompt, random)
    candidates = [
        _candidate(index, config, prompt, thoughts, random)
        for index in range(int(member(config, "candidateCount") or 1))
    ]
    return {
        "candidates": candidates,
        "createTime": created,
        "modelVersion": model,
        "responseId": base64.urlsafe_b64encode(digest[16:]).decode().rstrip("="),
        "usageMetadata": _usage(request, candidates, thoughts),
    }


def _think(config: Mapping[str, Any], prompt: Prompt, random: Random) -> _Thoughts:
    asked = member(config, "thinkingConfig")
    if asked is None:
        return _Thoughts()
    budget = member(asked, "thinkingBudget")
    if budget is not None and int(budget) == 0:
        return _Thoughts()
    tokens = random.randint(24, 320)
    if budget is not None and int(budget) > 0:
        tokens = min(tokens, int(budget))
    text = f"**Reading the request**\n\nIt is about {', '.join(prompt.words[:5])}."
    return _Thoughts(tokens, text if member(asked, "includeThoughts") else "")


def _candidate(
    index: int, config: Mapping[str, Any], prompt: Prompt, thoughts: _Thoughts, random: Random
) -> dict[str, Any]:
    text, reason = _text(config, prompt, random), "STOP"
    limit = member(config, "maxOutputTokens")
    if limit is not None:
        left = max(int(limit) - thoughts.tokens, 0)
        if count_tokens(text) > left:
            text, reason = text[: left * 4], "MAX_TOKENS"
    parts: list[dict[str, Any]] = []
    if thoughts.text:
        parts.append({"text": thoughts.text, "thought": True})
    if text:
        parts.append({"text": text})
        if thoughts.tokens:
            parts[-1]["thoughtSignature"] = base64.b64encode(random.randbytes(24)).decode()
    likelihood = -round(random.uniform(0.01, 0.9), 6)
    return {
        "avgLogprobs": likelihood,
        "content": {"parts": parts, "role": "model"} if parts else {"role": "model"},
        "finishReason": reason,
        **({"index": index} if index else {}),
        "score": round(likelihood * max(count_tokens(text), 1), 6),
    }


def _text(config: Mapping[str, Any], prompt: Prompt, random: Random) -> str:
    schema, mime_type = _response_format(config)
    if schema is not None:
        try:
            value = make_value(schema, prompt, random)
        except SchemaError as error:
            raise RowError(f"The specified schema is invalid: {error}.") from None
        if mime_type == "text/x.enum" and isinstance(value, str):
            return value
        return json.dumps(value, ensure_ascii=False)
    sentences = prompt.sentences[: random.randint(1, 3)]
    if mime_type == "application/json":
        return json.dumps({"answer": " ".join(sentences)}, ensure_ascii=False)
    return " ".join(sentences)


def _response_format(config: Mapping[str, Any]) -> tuple[Any, str]:
    """Return the schema that the answer must obey, if any, and its MIME type."""
    mime_type = str(member(config, "responseMimeType") or "text/plain")
    for name in ("responseSchema", "responseJsonSchema"):
        if schema := member(config, name):
            return schema, mime_type
    for given in elements(member(config, "responseFormat")):
        if text := member(given, "text"):
            return member(text, "schema"), str(member(text, "mimeType") or mime_type)
    return None, mime_type


def _usage(
    request: Mapping[str, Any], candidates: list[dict[str, Any]], thoughts: _Thoughts
) -> dict[str, Any]:
    asked = prompt_tokens(request)
    answered = sum(
        count_tokens(part["text"])
        for candidate in candidates
        for part in candidate["content"].get("parts", [])
        if not part.get("thought")
    )
    prompt = sum(asked.values())
    usage = {
        "billablePromptUsage": {"textCount": asked["TEXT"] * 4},
        "candidatesTokenCount": answered,
        "candidatesTokensDetails": [{"modality": "TEXT", "tokenCount": answered}],
        "promptTokenCount": prompt,
        "promptTokensDetails": [{"modality": m, "tokenCount": n} for m, n in asked.items() if n],
        "thoughtsTokenCount": thoughts.tokens,
        "totalTokenCount": prompt + answered + thoughts.tokens,
        "trafficType": "ON_DEMAND",
    }
    return {name: value for name, value in usage.items() if value}
