"""Finding duplicate keys in bounded memory: in one file as it is read, or among any number of rows."""

from __future__ import annotations

import tempfile
from array import array
from typing import IO, TYPE_CHECKING

from airflow_gemini_batch.exceptions import Described, InvalidParameterError
from airflow_gemini_batch.requests.keys import SAME_KEY

if TYPE_CHECKING:
    from collections.abc import Iterable

_KEYS_A_PASS = 200_000


class KeyTable:
    """Hash table of keys, as 64-bit hashes, and their line numbers.

    :param rows: capacity in keys; further keys are ignored
    """

    def __init__(self, rows: int) -> None:
        self._capacity = rows
        self._allocate(min(rows, _KEYS_A_PASS))

    def _allocate(self, rows: int) -> None:
        # At most three quarters full, so that probing stays short.
        size = 1 << max(rows * 4 // 3, 16).bit_length()
        self._mask = size - 1
        self._hashes = array("q", bytes(8 * size))
        self._lines = array("Q", bytes(8 * size))
        self._rows = self._free = rows

    def add(self, key: str, line: int) -> int:
        """Add a key; return the line that had the same key before, or 0."""
        # Zero means a free slot.
        return self._put(hash(key) or 1, line)

    def _put(self, value: int, line: int) -> int:
        hashes, mask = self._hashes, self._mask
        slot = value & mask
        while hashes[slot]:
            if hashes[slot] == value:
                return self._lines[slot]
            slot = (slot + 1) & mask
        if self._free:
            self._free -= 1
            hashes[slot], self._lines[slot] = value, line
        elif self._rows < self._capacity:
            before = [(each, self._lines[at]) for at, each in enumerate(hashes) if each]
            self._allocate(self._capacity)
            for known in (*before, (value, line)):
                self._put(*known)
        return 0


class Duplicates:
    """Finds keys that come twice among any number, 200,000 in memory at a time.

    Hashes of 64 bits stand for keys: among a million of them, two agree by chance once in 30 million files.
    """

    def __init__(self) -> None:
        self._recent = array("q")
        self._file: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed by __exit__
        self._count = 0

    def __enter__(self) -> Duplicates:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def add(self, key: str) -> None:
        """See the key of the next row."""
        self._recent.append(hash(key))
        if len(self._recent) >= _KEYS_A_PASS:
            self._spill()

    def check(self) -> None:
        """Raise if a key came twice.

        :raises InvalidParameterError: says in which rows
        """
        self._spill()
        passes = -(-self._count // _KEYS_A_PASS)
        for turn in range(passes):
            seen: set[int] = set()
            for row, value in self._hashes():
                if value % passes != turn:
                    continue
                if value in seen:
                    first = next(earlier for earlier, other in self._hashes() if other == value)
                    raise InvalidParameterError(
                        "prompts",
                        Described(f"(rows {first:,} and {row:,}) have the same key"),
                        f"{SAME_KEY}. Give each its own; rows without a key have the same one when their "
                        "text is the same",
                    )
                seen.add(value)

    def _spill(self) -> None:
        self._count += len(self._recent)
        self._file.write(self._recent.tobytes())
        del self._recent[:]

    def _hashes(self) -> Iterable[tuple[int, int]]:
        self._file.seek(0)
        row = 0
        while block := self._file.read(8 * 65_536):
            for value in array("q", block):
                row += 1
                yield row, value
