"""Page sizes, page tokens and read masks of ``batchPredictionJobs.list``."""

from __future__ import annotations

import base64
import binascii
import json
from typing import TYPE_CHECKING, Any

from airflow_gemini_batch.emulator.protocol import errors
from airflow_gemini_batch.emulator.protocol.errors import Violation
from airflow_gemini_batch.emulator.protocol.schema import Discovery
from airflow_gemini_batch.gcp.discovery import snake_case
from airflow_gemini_batch.service import PAGE_ROWS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

# The service's own page sizes are not published; small ones make tests use several pages.
DEFAULT_PAGE_SIZE = 50


def page_size(text: str) -> int:
    """Parse ``pageSize``."""
    try:
        size = int(text)
    except ValueError:
        size = -1
    if size < 0:
        problem = f"Invalid value at 'page_size' (TYPE_INT32), \"{text}\""
        raise errors.bad_body([Violation("page_size", problem)])
    return min(size, PAGE_ROWS) or DEFAULT_PAGE_SIZE


def page_token(number: int, parent: str, text: str) -> str:
    """Return the token of the page after the job with this number; ``text`` is the filter."""
    return base64.urlsafe_b64encode(json.dumps([number, parent, text]).encode()).decode()


def read_page_token(token: str, parent: str, text: str) -> int | None:
    """Return the job number that the page starts after; a token is valid only for its parent and filter."""
    if not token:
        return None
    try:
        number, *belongs = json.loads(base64.urlsafe_b64decode(token))
    except (ValueError, binascii.Error, TypeError):
        belongs = []
    if belongs != [parent, text]:
        raise errors.invalid_argument("The page token is invalid, or belongs to another parent or filter.")
    return int(number)


def read_mask(mask: str, version: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Return a function that reduces a job to the fields in ``readMask``."""
    if mask in ("", "*"):
        return lambda resource: resource
    discovery = Discovery.load("aiplatform", version)
    fields = discovery.fields(discovery.schema_named("BatchPredictionJob"))
    paths = [[snake_case(name) for name in path.strip().split(".")] for path in mask.split(",")]
    for path in paths:
        if path[0] not in fields:
            raise errors.invalid_argument(f'Invalid field mask "{mask}": no field "{".".join(path)}".')
    return lambda resource: _pick(resource, paths)


def _pick(value: Any, paths: Sequence[Sequence[str]]) -> Any:
    """Keep only the members of a JSON object that the paths name."""
    if not isinstance(value, dict) or [] in paths:
        return value
    kept = {}
    for name, item in value.items():
        below = [path[1:] for path in paths if path[0] == snake_case(name)]
        if below:
            kept[name] = _pick(item, below)
    return kept
