"""The size of a request: everything in it that determines its number of tokens."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_gemini_batch.gcp.discovery import elements, member, snake_case
from airflow_gemini_batch.requests.request_fields import EMBED_CONFIG, is_embedding, searches_the_web

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

BYTES_PER_TOKEN = 4
"""UTF-8 bytes of text per token; English has about four characters per token, Chinese one to two."""

IMAGE_TOKENS = 258
"""Tokens of an image, or of each tile of a large image."""

_DATA = frozenset({"inlineData", "inline_data", "fileData", "file_data"})
_JSON_MEMBERS = ("tools", "toolConfig")
_SCHEMAS = ("responseSchema", "responseJsonSchema")
# Prices of files by the first half of their MIME type; any other file is a document, whose pages are images.
_PRICED_AS: dict[str, tuple[str, ...]] = {"audio": ("audio",), "video": ("video", "audio"), "text": ()}


@dataclass(frozen=True)
class RowSize:
    """What determines the tokens of one request.

    :param text_bytes: bytes of all text that the model reads, with schemas and tools as JSON
    :param images: number of images
    :param files: number of audio, video, document and text files, whose length only their content tells
    :param priced_as: names of the prices of these files: ``audio``, ``image``, ``video``
    :param max_output_tokens: ``maxOutputTokens``, thinking included; ``None`` if not set
    :param candidates: number of responses requested; 0 for an embedding
    :param searches: whether it has a tool that searches the web
    """

    text_bytes: int = 0
    images: int = 0
    files: int = 0
    priced_as: frozenset[str] = frozenset()
    max_output_tokens: int | None = None
    candidates: int = 1
    searches: bool = False

    @property
    def tokens(self) -> float:
        """Approximate number of prompt tokens; each file counts as one image."""
        return self.text_bytes / BYTES_PER_TOKEN + (self.images + self.files) * IMAGE_TOKENS


def row_of(line: bytes) -> Mapping[str, Any]:
    """Parse an input line; empty when it is not a JSON object."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return row if isinstance(row, dict) else {}


def request_of(row: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the request of a row, or ``None`` if it has none."""
    request = row.get("request")
    return request if isinstance(request, dict) else None


def row_size(request: Mapping[str, Any]) -> RowSize:
    """Measure a request, with fields in camelCase or snake_case."""
    text = images = files = 0
    priced_as: set[str] = set()
    for part in _parts(request):
        for name, value in part.items():
            # The service adds nulls to the requests in its output, which may be input again.
            if value is None or (name in _DATA and not _is_given(value)):
                continue
            if name in _DATA:
                kind = str(member(value, "mimeType") or "").partition("/")[0]
                data = member(value, "data")
                if kind == "image":
                    images += 1
                elif kind == "text" and isinstance(data, str):
                    text += len(data)  # In base64, so it is a third too much.
                else:
                    files += 1
                    priced_as.update(_PRICED_AS.get(kind, ("image",)))
            else:
                text += _text_bytes(value) if isinstance(value, str) else _json_bytes(value)
    config = member(request, "generationConfig")
    if is_embedding(request):
        titled = (member(request, EMBED_CONFIG), request)
        text += sum(_text_bytes(str(title)) for each in titled if (title := member(each, "title")))
    given = [member(request, name) for name in _JSON_MEMBERS] + [member(config, n) for n in _SCHEMAS]
    text += sum(_json_bytes(each) for each in given if each)
    return RowSize(
        text_bytes=text,
        images=images,
        files=files,
        priced_as=frozenset(priced_as),
        max_output_tokens=_count(member(config, "maxOutputTokens")),
        candidates=0 if is_embedding(request) else _count(member(config, "candidateCount")) or 1,
        searches=searches_the_web(request),
    )


def _parts(request: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    for name in ("systemInstruction", "contents", "content"):
        for message in elements(request.get(name) or request.get(snake_case(name))):
            for part in filter(_is_object, elements(member(message, "parts"))):
                yield part
                # The result of a function may have files as well.
                yield from filter(_is_object, elements(member(member(part, "functionResponse"), "parts")))


def _is_object(value: Any) -> bool:
    return isinstance(value, dict)


def _text_bytes(text: str) -> int:
    # Half of a surrogate pair, which a JSON file can have, cannot be encoded otherwise.
    return len(text.encode(errors="surrogatepass"))


def _is_given(data: Any) -> bool:
    return any(data.values()) if isinstance(data, dict) else bool(data)


def _json_bytes(value: Any) -> int:
    return _text_bytes(json.dumps(value, ensure_ascii=False)) if isinstance(value, (dict, list)) else 0


def _count(value: Any) -> int | None:
    """Parse a count, which may be a string; ``None`` for what is no number or none that the service takes."""
    try:
        count = int(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return count if 1 <= count < 2**31 and not isinstance(value, bool) else None
