"""Generates strings and numbers: strings in a given format, or from words of the prompt that fit the name."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from random import Random
from typing import TYPE_CHECKING, Any

from airflow_gemini_batch.emulator.answers.prompt import Prompt

if TYPE_CHECKING:
    from collections.abc import Mapping

TextMaker = Callable[[Prompt, Random], str]

_TOKEN = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+")
# fmt: off
_SENTENCE_FIELDS = frozenset((
    "abstract", "answer", "comment", "description", "details", "explanation", "overview", "rationale",
    "reason", "reasoning", "reply", "sentence", "summary", "text",
))
_TITLE_FIELDS = frozenset(("headline", "heading", "name", "subject", "title", "topic"))
_SHARE_FIELDS = frozenset((
    "confidence", "fraction", "likelihood", "probability", "ratio", "score", "share",
))
# fmt: on
_SENTENCE_LENGTH = 240
_EPOCH = datetime(2020, 1, 1, tzinfo=UTC)
_SECONDS = 6 * 365 * 86400


class SchemaError(ValueError):
    """No value matches the schema, or the schema is invalid: an unknown type, a dangling ``$ref``."""


def field_tokens(name: str) -> frozenset[str]:
    """Return the words of a name in lowercase: ``oneLine_summary`` → one, line, summary."""
    return frozenset(token.lower() for token in _TOKEN.findall(name))


def text_maker(schema: Mapping[str, Any], name: str) -> TextMaker:
    """Return a function that generates strings for a schema of type string.

    :param name: property name: a summary becomes a sentence, a title is short
    """
    form = schema.get("format")
    make = _FORMATS.get(str(form)) or _from_prompt(field_tokens(name))
    least, most = int(schema.get("minLength") or 0), schema.get("maxLength")
    if not least and most is None:
        return make

    def make_within(prompt: Prompt, random: Random) -> str:
        text = make(prompt, random)
        while len(text) < least:
            text += " " + random.choice(prompt.words)
        return text if most is None else text[: int(most)]

    return make_within


def _from_prompt(hints: frozenset[str]) -> TextMaker:
    def make(prompt: Prompt, random: Random) -> str:
        for label, value in prompt.labelled.items():
            if not hints.isdisjoint(label.split()):
                return _cut(value)
        if hints & _SENTENCE_FIELDS:
            return _cut(prompt.sentences[0])
        if hints & _TITLE_FIELDS:
            return " ".join(prompt.sentences[0].split()[:6]).rstrip(".,:;")
        words = prompt.words
        start = int(random.random() * len(words))
        return " ".join(words[start : start + 1 + int(random.random() * 3)]).lower()

    return make


def _cut(text: str) -> str:
    if len(text) <= _SENTENCE_LENGTH:
        return text
    return text[: _SENTENCE_LENGTH - 1].rsplit(" ", 1)[0] + "…"


def _timed(form: str) -> TextMaker:
    return lambda _prompt, random: (_EPOCH + timedelta(seconds=random.randrange(_SECONDS))).strftime(form)


def _with_word(form: str) -> TextMaker:
    def make(prompt: Prompt, random: Random) -> str:
        return form.format(re.sub(r"[^a-z]", "", random.choice(prompt.words).lower()) or "nothing")

    return make


def _uuid(_prompt: Prompt, random: Random) -> str:
    digits = f"{random.getrandbits(128):032x}"
    return "-".join((digits[:8], digits[8:12], "4" + digits[13:16], "8" + digits[17:20], digits[20:]))


_FORMATS: dict[str, TextMaker] = {
    "date": _timed("%Y-%m-%d"),
    "date-time": _timed("%Y-%m-%dT%H:%M:%SZ"),
    "time": _timed("%H:%M:%SZ"),
    "duration": lambda _prompt, random: f"PT{random.randrange(1, 600)}M",
    "email": _with_word("{}@example.com"),
    "hostname": _with_word("{}.example.com"),
    "ipv4": lambda _prompt, random: f"192.0.2.{random.randrange(256)}",
    "ipv6": lambda _prompt, random: f"2001:db8::{random.randrange(0xFFFF):x}",
    "uri": _with_word("https://example.com/{}"),
    "url": _with_word("https://example.com/{}"),
    "uuid": _uuid,
}


def number_maker(schema: Mapping[str, Any], name: str, *, whole: bool) -> Callable[[Random], float]:
    """Return a function that generates numbers between minimum and maximum.

    :raises SchemaError: when there is no such number
    """
    low, high = _bounds(schema, whole=whole, span=1 if field_tokens(name) & _SHARE_FIELDS else 100)
    step = schema.get("multipleOf") or (1 if whole else None)
    if step:
        first, last = math.ceil(low / step), math.floor(high / step)
        if first > last:
            raise SchemaError("there is no number between minimum and maximum")
        return lambda random: (first + int(random.random() * (last - first + 1))) * step

    def make(random: Random) -> float:
        number = low + (high - low) * (0.05 + 0.9 * random.random())
        return round(number, 3) if low < round(number, 3) < high else number

    return make


def _bounds(schema: Mapping[str, Any], *, whole: bool, span: float) -> tuple[float, float]:
    step = 1 if whole else 0
    low, high = schema.get("minimum"), schema.get("maximum")
    above, below = schema.get("exclusiveMinimum"), schema.get("exclusiveMaximum")
    if above is not None and not isinstance(above, bool):
        low = above + step if low is None else max(low, above + step)
    if below is not None and not isinstance(below, bool):
        high = below - step if high is None else min(high, below - step)
    if low is None:
        low = 0.0 if high is None or high >= 0 else high - span
    return low, low + span if high is None else high
