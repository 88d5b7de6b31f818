"""How much a request asks for: what decides its tokens, as far as it can be read off the request."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_gemini_batch.gcp.discovery import elements, member, snake_case

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

BYTES_A_TOKEN = 4
"""Of text in UTF-8. Of characters it is about four in English and between one and two in Chinese."""

IMAGE_TOKENS = 258
"""Of a picture, or of one of the tiles that a large one is cut into."""

_DATA = frozenset({"inlineData", "inline_data", "fileData", "file_data"})
_BESIDE_CONTENTS = ("tools", "toolConfig")
_SCHEMAS = ("responseSchema", "responseJsonSchema")


@dataclass(frozen=True)
class RowSize:
    """What decides the tokens of one request.

    :param text_bytes: of all text that the model reads, and of schemas and tools as JSON
    :param images: pictures
    :param files: sound, films and documents; nobody knows how long they are without reading them
    :param hears: whether there is sound among them, which some models price on its own
    :param max_output_tokens: what the request limits an answer to, thoughts included
    :param candidates: answers that it asks for; 0 for an embedding
    """

    text_bytes: int = 0
    images: int = 0
    files: int = 0
    hears: bool = False
    max_output_tokens: int | None = None
    candidates: int = 1

    @property
    def tokens(self) -> float:
        """About how many tokens the prompt has, without what its files hold."""
        return self.text_bytes / BYTES_A_TOKEN + (self.images + self.files) * IMAGE_TOKENS


def row_of(line: bytes) -> Mapping[str, Any]:
    """Read an input line; empty when it is no object."""
    try:
        row = json.loads(line)
    except ValueError:
        return {}
    return row if isinstance(row, dict) else {}


def request_of(row: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the request of a row, or ``None`` where it has none."""
    request = row.get("request")
    return request if isinstance(request, dict) else None


def row_size(request: Mapping[str, Any]) -> RowSize:
    """Measure a request, in either spelling of its fields."""
    text = images = files = 0
    hears = False
    for part in _parts(request):
        for name, value in part.items():
            if name in _DATA:
                kind = str(member(value, "mimeType") or "").partition("/")[0]
                images, files = images + (kind == "image"), files + (kind not in ("image", "text"))
                hears = hears or kind in ("audio", "video")
            else:
                text += len(value.encode()) if isinstance(value, str) else _json_bytes(value)
    config = member(request, "generationConfig")
    given = [member(request, name) for name in _BESIDE_CONTENTS] + [member(config, n) for n in _SCHEMAS]
    text += sum(_json_bytes(each) for each in given if each)
    return RowSize(
        text_bytes=text,
        images=images,
        files=files,
        hears=hears,
        max_output_tokens=_count(member(config, "maxOutputTokens")),
        candidates=0 if "content" in request else _count(member(config, "candidateCount")) or 1,
    )


def _parts(request: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    for name in ("systemInstruction", "contents", "content"):
        for message in elements(request.get(name) or request.get(snake_case(name))):
            yield from (part for part in elements(member(message, "parts")) if isinstance(part, dict))


def _json_bytes(value: Any) -> int:
    return len(json.dumps(value, ensure_ascii=False).encode()) if isinstance(value, (dict, list)) else 0


def _count(value: Any) -> int | None:
    """Read a count, which may be text."""
    try:
        return int(value)
    except (TypeError, ValueError):
        return None
