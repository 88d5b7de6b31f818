"""Parses a line of the input, and explains why the import would reject it."""

from __future__ import annotations

import json
import re
from typing import Any, NoReturn

# Twice as fast as the standard library.
from msgspec.json import decode as _decode_fast

from airflow_gemini_batch.requests.checking.findings import Level, Rule
from airflow_gemini_batch.requests.checking.inferred_columns import TOO_DEEP, TOO_DEEP_MESSAGE

_BOM = b"\xef\xbb\xbf"

_ONE_LINE = "Write each row as one JSON object on one line, with a JSON library and without line breaks."
NOT_JSON = Rule("not-json", Level.JOB, _ONE_LINE)
NOT_UTF8 = Rule("not-utf8", Level.JOB, "Encode the file as UTF-8.")
BOM = Rule("bom", Level.JOB, "Encode the file as UTF-8 without a byte order mark (`utf-8`, not `utf-8-sig`).")
_FORM_OF_A_LINE = 'Write each line as {"key": "…", "request": {…}}.'
NOT_AN_OBJECT = Rule("not-an-object", Level.JOB, _FORM_OF_A_LINE)
LONE_SURROGATE = Rule(
    "lone-surrogate",
    Level.JOB,
    "Cut texts between characters, not inside a surrogate pair, or replace what is left of one.",
)
NO_REQUEST = Rule("no-request", Level.JOB, _FORM_OF_A_LINE)


class RefusedLineError(Exception):
    """The import would reject a line."""

    def __init__(self, rule: Rule, message: str) -> None:
        self.rule = rule
        self.message = message
        super().__init__(message)


def parse(line: bytes) -> dict[str, Any]:
    """Parse a line.

    :raises RefusedLineError: the import would reject it
    """
    try:
        row = _decode_fast(line)
    except Exception:
        # The standard library decides, and explains what is wrong.
        row = None
    if type(row) is not dict:
        row = _parse_or_explain(line)
    if type(row.get("request")) is not dict:
        raise RefusedLineError(
            NO_REQUEST,
            "Error while reading data, error message: the row has no field `request` that is an object.",
        )
    return row  # type: ignore[no-any-return]


def _parse_or_explain(line: bytes) -> dict[str, Any]:
    problem = "Error while reading data, error message: JSON parsing error"
    try:
        row = _DECODER.decode(line.decode())
    except UnicodeDecodeError as error:
        raise RefusedLineError(NOT_UTF8, f"{problem}: byte {error.start + 1} is not UTF-8.") from None
    except RecursionError:
        raise RefusedLineError(TOO_DEEP, TOO_DEEP_MESSAGE) from None
    except json.JSONDecodeError as error:
        if line.startswith(_BOM):
            raise RefusedLineError(BOM, f"{problem}: the line starts with a byte order mark.") from None
        raise RefusedLineError(NOT_JSON, f"{problem}: {error.msg}, at character {error.pos + 1}.") from None
    except ValueError:
        raise RefusedLineError(NOT_JSON, f"{problem}: NaN, Infinity or too many digits.") from None
    if not isinstance(row, dict):
        raise RefusedLineError(NOT_AN_OBJECT, f"{problem}: the row is not a JSON object.")
    if _SURROGATE.search(line) and not _is_unicode(row):
        # Python reads it. BigQuery cannot store it, so that one such row would keep all results from landing.
        raise RefusedLineError(LONE_SURROGATE, f"{problem}: an escape is half of a surrogate pair.")
    return row


def _is_unicode(row: dict[str, Any]) -> bool:
    try:
        json.dumps(row, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    except RecursionError:
        pass  # It was parsed, and is found to be too deep later.
    return True


_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(name)


# Python accepts NaN and Infinity; JSON has neither.
_DECODER = json.JSONDecoder(parse_constant=_refuse_constant)
