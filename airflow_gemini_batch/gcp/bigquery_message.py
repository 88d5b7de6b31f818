"""BigQuery's error messages, without what they may take from rows.

A message can be any text: ``ERROR(prompt)`` makes a prompt the whole message, and errors of casts and loads
end with the value, often without quotes. So text is not cut out of a message; instead only known wordings are
kept, with names of tables, columns and functions in the places where BigQuery writes those.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from airflow_gemini_batch.exceptions import BigQueryError

if TYPE_CHECKING:
    from google.api_core.exceptions import GoogleAPICallError

_HIDDEN = "BigQuery's message is not shown here, since it may quote rows; the BigQuery job has it"

_CLIENT, _PACKAGE = "google.cloud.bigquery", "airflow_gemini_batch."

_TABLE = r"`?[\w-]+(?:\.[a-z]+:[\w-]+)?[:.][\w-]+(?:\.[\w$-]+)?`?(?![\w$-])"
_NAME = r"`?[A-Za-z_]\w{0,99}(?:\.[A-Za-z_]\w{0,99}){0,5}`?(?!\w)"
_AT = r" at \[\d+:\d+\]"
_TYPE = r"[A-Z][A-Z0-9_]*(?:<[A-Za-z0-9_<>, ]{1,200}>)?"

# What may follow a known wording, if it is all that follows.
_END = re.compile(rf"(?: in location [\w-]+)?\.?(?:{_AT})?(?:\s+(?:Location|Job ID): \S+)*\s*")

_KNOWN = [
    re.compile(pattern)
    for pattern in (
        # Names of resources and permissions.
        rf"Not found: (?:Table|Dataset|Job|Model|Routine|Connection) {_TABLE}(?: was not found)?",
        r"Not found: (?:Project|Bucket|URI|Table|Dataset|Function)",
        rf"Already Exists: (?:Table|Dataset|Job|Model|Routine) {_TABLE}",
        rf"Access Denied: (?:Table|Dataset) {_TABLE}: Permission [\w.]+ denied on (?:table|dataset) {_TABLE}"
        r"(?: \(or it may not exist\))?",
        rf"Access Denied: Table {_TABLE}: User does not have permission to query table {_TABLE}"
        r"(?:, or perhaps it does not exist)?",
        r"Access Denied: Project [\w-]+: User does not have bigquery\.[\w.]+ permission in project [\w-]+",
        r"Access Denied: BigQuery BigQuery: Permission denied while globbing file pattern"
        r"(?:\. [\w.@-]+ does not have storage\.[\w.]+ access to the Google Cloud Storage "
        r"(?:bucket|object))?",
        r"Access Denied: (?:BigQuery BigQuery|File|Table|Dataset|Project)",
        # The SQL itself.
        rf"Unrecognized name: {_NAME}(?={_AT})",
        rf"(?:Function|Type) not found: {_NAME}(?={_AT})",
        rf"Column name {_NAME} is ambiguous(?={_AT})",
        rf"No matching signature for (?:operator \S{{1,20}}|function {_NAME}) for argument types?: "
        rf"{_TYPE}(?:, {_TYPE})*(?=\.)",
        r"No matching signature for",
        r"Syntax error:",
        rf"Table name {_NAME} missing dataset while no default dataset is set in the request",
        rf"Table {_TABLE} (?:has lost its row\. Drop the table; the next landing creates it again)",
        r"\d+ rows have no key and equal requests",
        rf"Cannot query over table {_TABLE} without a filter",
        # Values.
        r"(?:Bad|Invalid) \w+ value:",
        r"Invalid (?:date|datetime|time|timestamp|number|NUMERIC|JSON|field name|cast)\b",
        r"Could not (?:cast literal|convert value|parse)",
        r"Failed to parse",
        r"Cannot parse",
        r"(?:Division by zero|\w+ overflow):",
        r"Array index \d+ is out of bounds(?: \(overflow\))?",
        r"Scalar subquery produced more than one element",
        r"UPDATE/MERGE must match at most one source row for each target row",
        r"Required field \w+ cannot be null",
        # Loads and limits.
        r"Error while reading data, error message: (?:JSON|CSV) (?:table|processing) encountered too many "
        r"errors, giving up\. Rows: \d+; errors: \d+(?=\.)",
        r"Error while reading data",
        rf"Provided Schema does not match Table {_TABLE}(?:\. Field {_NAME} has changed "
        rf"(?:type|mode) from {_TYPE} to {_TYPE})?",
        r"Cannot read and write in different locations: source: [\w-]+, destination: [\w-]+",
        r"Resources exceeded during query execution",
        r"Query exceeded (?:limit for bytes billed|resource limits)",
        r"(?:Custom quota|Quota) exceeded",
        r"Exceeded rate limits",
        r"Response too large to return",
        r"The job encountered an (?:internal )?error during execution",
        r"An internal error occurred and the request could not be completed",
        r"Operation timed out after [\d.]+ hours",
        r"Job execution was cancelled",
        rf"Transaction is aborted due to concurrent update against table {_TABLE}\. Transaction ID: [\w-]+",
        rf"Could not serialize access to table {_TABLE} due to concurrent update",
    )
]
# How the client starts the message of a request, and how scripts start the message of a statement.
_PREFIX = re.compile(r"(?:\d{3} )?(?:(?:GET|POST|PUT|PATCH|DELETE) https?://\S+: )?(?:Query error: )?")


def shown(message: str) -> str:
    """Return what is known to be safe in a message, with ``…`` in place of the rest; empty if nothing is."""
    text = message[_PREFIX.match(message).end() :]  # type: ignore[union-attr]  # It matches the empty text.
    for known in _KNOWN:
        if found := known.match(text):
            rest = text[found.end() :]
            is_end = _END.fullmatch(rest)
            return found.group() + (rest.rstrip() if is_end else " …")
    return ""


def explain(reason: str | None, message: str | None) -> str:
    """Return the reason and the safe part of the message of a BigQuery error.

    :param reason: BigQuery's short error code, such as ``invalidQuery``
    """
    return f"{reason or 'error'}: {shown(message or '') or _HIDDEN}"


def explain_error(error: GoogleAPICallError) -> str:
    """Return code, reason and the safe part of the message of an exception of BigQuery's client."""
    # The message of the exception has more: the URL, and once more all errors of the job.
    first = next((each for each in error.errors if isinstance(each, dict)), {})
    return f"{error.code or ''} {explain(first.get('reason'), first.get('message', error.message))}".lstrip()


def refusal(error: Exception) -> BigQueryError | None:
    """Translate an exception that BigQuery's client has raised to this package; ``None`` for any other.

    Its message may be a row, so the exception must not be chained to the one that replaces it. What the
    user's own functions have asked BigQuery is left to them.
    """
    if not type(error).__module__.startswith("google.api_core"):
        return None
    caller, frame = "", error.__traceback__
    while frame and not (module := frame.tb_frame.f_globals.get("__name__", "")).startswith(_CLIENT):
        caller, frame = module, frame.tb_next
    if not frame or not caller.startswith(_PACKAGE):
        return None
    return BigQueryError(explain_error(error))  # type: ignore[arg-type]  # Checked by its module.
