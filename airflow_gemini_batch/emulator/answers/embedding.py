"""Generates the response to an embedding request: a vector, determined by the content and a seed.

The vectors of texts that share words are near each other, so that a search finds what one expects.
"""

from __future__ import annotations

import math
import re
import zlib
from random import Random
from typing import TYPE_CHECKING, Any

from airflow_gemini_batch.emulator.answers.prompt import count_tokens
from airflow_gemini_batch.emulator.answers.response import RowError
from airflow_gemini_batch.gcp.discovery import elements, member

if TYPE_CHECKING:
    from collections.abc import Mapping

DIMENSIONS = 3072
"""The length of a vector for which the request names none, and the longest."""

_MEDIA_TOKENS = 258
_WORD = re.compile(r"\w+")
# Each word moves this many numbers of the vector by this much; the others hold noise.
_SPREAD = 16
_WEIGHT = 1.0
_NOISE = 0.04


def check_embedding(request: Mapping[str, Any]) -> None:
    """Check the rules of an embedding model that field types do not express.

    :raises RowError: when the model would reject the request
    """
    content = member(request, "content")
    if not content:
        raise RowError("Unable to submit request because it has no content.")
    parts = elements(member(content, "parts"))
    if not parts:
        raise RowError("Unable to submit request because it must have at least one parts field.")
    for part in parts:
        file = member(part, "fileData")
        if file is not None and not member(file, "mimeType"):
            raise RowError("Unable to submit request because it has an empty mimeType parameter.")
    for config in (request, member(request, "embedContentConfig")):
        length = member(config, "outputDimensionality")
        if length is not None and not 1 <= int(length) <= DIMENSIONS:
            raise RowError(f"The output dimensionality must be between 1 and {DIMENSIONS}.")


def embedding(request: Mapping[str, Any], seed: int, *, counts_only_tokens: bool) -> dict[str, Any]:
    """Return the response to a request that passed :func:`check_embedding`.

    :param counts_only_tokens: whether it has ``tokenCount`` instead of ``usageMetadata``; both were published
    """
    config = member(request, "embedContentConfig")
    length = member(config, "outputDimensionality") or member(request, "outputDimensionality") or DIMENSIONS
    parts = [part for part in elements(member(request["content"], "parts")) if isinstance(part, dict)]
    texts = [str(part.get("text") or "") for part in parts]
    media = [data for part in parts if (data := member(part, "inlineData") or member(part, "fileData"))]
    title = str(member(config, "title") or member(request, "title") or "")
    tokens = sum(map(count_tokens, (*texts, title))) + _MEDIA_TOKENS * len(media)
    named = [str(member(each, "fileUri") or member(each, "data")) for each in media]
    usage: dict[str, Any] = {"promptTokenCount": tokens, "totalTokenCount": tokens}
    return {
        "embedding": {"values": _vector([*texts, title, *named], int(length), seed)},
        **({"tokenCount": str(tokens)} if counts_only_tokens else {"usageMetadata": usage}),
    }


def _vector(texts: list[str], length: int, seed: int) -> list[float]:
    """Return a vector of length 1."""
    text = "\n".join(texts)
    random = Random(f"{seed}\0{text}")  # noqa: S311
    values = [_NOISE * (random.random() - 0.5) for _ in range(length)]
    for word in _WORD.findall(text.lower()):
        places = Random(zlib.crc32(f"{seed}\0{word}".encode("utf-8", "replace")))  # noqa: S311
        for _ in range(_SPREAD):
            values[int(places.random() * length)] += _WEIGHT if places.random() < 0.5 else -_WEIGHT
    norm = math.sqrt(math.fsum(value * value for value in values)) or 1.0
    return [round(value / norm, 9) for value in values]
