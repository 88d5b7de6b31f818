"""The filter of ``batchPredictionJobs.list``: fields from the discovery document, syntax from AIP-160.

``display_name`` (``=``, ``!=``, ``:`` with ``*``), ``model_display_name`` and ``state`` (``=``, ``!=``),
``create_time`` (all comparisons), ``labels.k=v``, ``labels.k:*``; ``AND``, ``OR``, ``NOT``, parentheses.
In AIP-160, ``OR`` binds more tightly than ``AND``, and ``AND`` is optional.

Two forms that no page of Google shows are refused, because nobody knows whether the service takes them: a
hyphen in the key of a label, and a wildcard that is not at the end.
"""

from __future__ import annotations

import operator
import re
from datetime import datetime
from typing import TYPE_CHECKING, Any

from airflow_gemini_batch.batch_job import JobState

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Predicate = Callable[[Mapping[str, Any]], bool]

_TOKEN = re.compile(
    r"""\s*(?:
        (?P<string>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')
      | (?P<operator><=|>=|!=|=|<|>|:)
      | (?P<paren>[()])
      | (?P<minus>-(?=[A-Za-z(]))
      | (?P<word>[^\s()<>=!:"']+)
    )""",
    re.VERBOSE,
)
_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_LABEL_KEY = re.compile(r"[a-z][a-z0-9_]*")
_LABEL_KEY_WITH_HYPHENS = re.compile(r"[a-z][a-z0-9_-]*")
_TIME = re.compile(r"^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d+))?(Z|[+-]\d\d:\d\d)$", re.IGNORECASE)


class FilterError(ValueError):
    """The filter is invalid; the message says why."""


def compile_filter(text: str, *, hyphens: bool = False) -> Predicate:
    """Compile a filter into a predicate on job resources.

    :param hyphens: whether the key of a label may have hyphens
    :raises FilterError: on a syntax error, or a field or comparison that is not supported
    """
    parser = _Parser(_tokens(text), _LABEL_KEY_WITH_HYPHENS if hyphens else _LABEL_KEY)
    return parser.parse() if text.strip() else lambda _: True


def parse_time(text: str) -> datetime:
    """Parse an RFC 3339 time.

    :raises ValueError: when the text has another format
    """
    match = _TIME.match(text)
    if not match:
        raise ValueError(f"{text!r} is not a time in RFC 3339 format")
    fraction = (match[2] or "0")[:6].ljust(6, "0")
    zone = "+00:00" if match[3].upper() == "Z" else match[3]
    return datetime.fromisoformat(f"{match[1].upper()}.{fraction}{zone}")


def _tokens(text: str) -> list[tuple[str, str]]:
    tokens, position = [], 0
    text = text.rstrip()
    while position < len(text):
        match = _TOKEN.match(text, position)
        if not match:
            raise FilterError(f"unexpected {text[position:].strip()[:20]!r} at position {position}")
        kind = match.lastgroup or ""
        value = match[kind]
        if kind == "string":
            value = re.sub(r"\\(.)", r"\1", value[1:-1])
        tokens.append((kind, value))
        position = match.end()
    return tokens


class _Parser:
    def __init__(self, tokens: list[tuple[str, str]], label_key: re.Pattern[str]) -> None:
        self._tokens = tokens
        self._label_key = label_key
        self._at = 0

    def parse(self) -> Predicate:
        predicate = self._conjunction()
        if self._at < len(self._tokens):
            raise FilterError(f"unexpected {self._tokens[self._at][1]!r}")
        return predicate

    def _peek(self) -> tuple[str, str]:
        return self._tokens[self._at] if self._at < len(self._tokens) else ("end", "end of filter")

    def _take(self, *kinds: str) -> str:
        kind, value = self._peek()
        if kind not in kinds:
            raise FilterError(f"expected {' or '.join(kinds)}, found {value!r}")
        self._at += 1
        return value

    def _accept(self, token: tuple[str, str]) -> bool:
        if self._peek() != token:
            return False
        self._at += 1
        return True

    def _conjunction(self) -> Predicate:
        terms = [self._disjunction()]
        while self._accept(("word", "AND")) or self._peek() not in (("end", "end of filter"), ("paren", ")")):
            terms.append(self._disjunction())
        return lambda job: all(term(job) for term in terms)

    def _disjunction(self) -> Predicate:
        terms = [self._term()]
        while self._accept(("word", "OR")):
            terms.append(self._term())
        return lambda job: any(term(job) for term in terms)

    def _term(self) -> Predicate:
        if self._accept(("word", "NOT")) or self._accept(("minus", "-")):
            term = self._term()
            return lambda job: not term(job)
        if self._accept(("paren", "(")):
            inner = self._conjunction()
            if not self._accept(("paren", ")")):
                raise FilterError("a parenthesis is not closed")
            return inner
        field = self._take("word")
        compare = self._take("operator")
        value = self._take("string", "word")
        if field.startswith("labels."):
            return _label(field.removeprefix("labels."), compare, value, self._label_key)
        return _restriction(field, compare, value)


def _restriction(field: str, compare: str, value: str) -> Predicate:
    if field in ("create_time", "createTime"):
        return _create_time(field, compare, value)
    if field in ("display_name", "displayName"):
        if compare == ":":
            return _display_name(value)
        return _equality(field, compare, value, lambda job: job.get("displayName", ""))
    if field in ("model_display_name", "modelDisplayName"):
        return _equality(field, compare, value, lambda job: job.get("model", "").rsplit("/", 1)[-1])
    if field == "state":
        if value not in JobState._value2member_map_:
            raise FilterError(f"{value!r} is not a value of JobState")
        return _equality(field, compare, value, lambda job: job.get("state"))
    raise FilterError(f"field {field!r} is not supported")


def _display_name(value: str) -> Predicate:
    start, star, rest = value.partition("*")
    if rest:
        raise FilterError(f"display_name:{value} has a wildcard that is not at the end")
    if star:
        return lambda job: str(job.get("displayName", "")).startswith(start)
    return lambda job: bool(job.get("displayName", "") == start)


def _equality(field: str, compare: str, value: str, read: Callable[[Mapping[str, Any]], Any]) -> Predicate:
    if compare not in ("=", "!="):
        raise FilterError(f"{field!r} does not support {compare!r}")
    return lambda job: _COMPARE[compare](read(job), value)


def _create_time(field: str, compare: str, value: str) -> Predicate:
    if compare == ":":
        raise FilterError(f"{field!r} does not support ':'")
    try:
        time = parse_time(value)
    except ValueError as error:
        raise FilterError(str(error)) from None
    return lambda job: _COMPARE[compare](parse_time(job["createTime"]), time)


def _label(key: str, compare: str, value: str, allowed: re.Pattern[str]) -> Predicate:
    if not allowed.fullmatch(key):
        raise FilterError(f"labels.{key} is not a documented form: give a key of letters, digits and '_'")
    if compare == ":":
        if value != "*":
            raise FilterError(f"labels.{key}:{value} is not supported, only labels.{key}:* is")
        return lambda job: key in job.get("labels", {})
    return _equality(f"labels.{key}", compare, value, lambda job: job.get("labels", {}).get(key))
