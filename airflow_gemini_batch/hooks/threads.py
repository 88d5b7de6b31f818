"""Blocking calls of triggers, in threads that the triggers of one connection share."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar

from asgiref.sync import sync_to_async

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Sequence

_T = TypeVar("_T")

_threads: dict[Hashable, ThreadPoolExecutor] = {}


def connection_key(gcp_conn_id: str, impersonation_chain: str | Sequence[str] | None) -> tuple[Any, ...]:
    """Return what tells credentials apart, as the key of a dict."""
    chain = impersonation_chain
    return gcp_conn_id, chain if isinstance(chain, str) else tuple(chain or ())


async def in_thread(key: Hashable, call: Callable[[], _T], *, threads: int) -> _T:
    """Make a call off the event loop.

    :param key: calls with the same key share threads: a stalled server must not take those of others
    :param threads: how many they share
    """
    pool = _threads.get(key) or _threads.setdefault(
        key, ThreadPoolExecutor(max_workers=threads, thread_name_prefix="gemini-batch")
    )
    # Airflow answers a connection look-up from a thread that asgiref started; not from any other.
    return await sync_to_async(call, thread_sensitive=False, executor=pool)()
