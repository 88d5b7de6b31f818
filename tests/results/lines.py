"""Output and input lines as the service writes and reads them."""

from __future__ import annotations

import json
from typing import Any

USAGE = {"promptTokenCount": 10, "candidatesTokenCount": 4, "totalTokenCount": 14}


def request(text: str = "Say hello", **more: Any) -> dict[str, Any]:
    return {"contents": [{"role": "user", "parts": [{"text": text}]}], **more}


def response(*parts: str | dict[str, Any], finish: str | None = "STOP", **more: Any) -> dict[str, Any]:
    texts = [{"text": part} if isinstance(part, str) else part for part in parts]
    candidate: dict[str, Any] = {"content": {"role": "model", "parts": texts}, "avgLogprobs": -0.1}
    if finish:
        candidate["finishReason"] = finish
    return {
        "candidates": [candidate],
        "modelVersion": "gemini-2.5-flash",
        "responseId": "abc",
        "usageMetadata": USAGE,
        **more,
    }


def asked(key: Any = None, text: str = "Say hello", **more: Any) -> str:
    """An input line."""
    line = {"request": request(text, **more)}
    return json.dumps(line if key is None else {"key": key, **line})


def answered(
    key: Any = None,
    answer: dict[str, Any] | str | None = "hello",
    *,
    text: str = "Say hello",
    status: str = "",
    **more: Any,
) -> str:
    """An output line with its members in the service's order; non-ASCII text is not escaped."""
    line: dict[str, Any] = {
        "request": more.pop("request", None) or request(text),
        "status": status,
        "response": response(answer) if isinstance(answer, str) else answer,
        "processed_time": "2026-11-01T18:13:16.826+00:00",
        **more,
    }
    return json.dumps(line if key is None else {**line, "key": key}, ensure_ascii=False)


def failed(
    key: Any, code: int, status: str, message: str = "No", words: str = "Bad Request", **more: Any
) -> str:
    error = json.dumps({"error": {"code": code, "message": message, "status": status}})
    return answered(key, {}, status=f"{words}: {error}", **more)


def as_json(value: Any) -> Any:
    """A JSON column arrives parsed or as text, depending on the version of the client."""
    return json.loads(value) if isinstance(value, str) else value
