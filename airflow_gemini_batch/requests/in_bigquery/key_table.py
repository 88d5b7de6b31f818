"""The keys of a file, to find those that come twice, in memory that does not grow with it."""

from __future__ import annotations

from array import array


class KeyTable:
    """A hash table of 64-bit hashes and line numbers, made in full at the start.

    :param rows: how many keys it must hold; further ones are not looked at
    """

    def __init__(self, rows: int) -> None:
        # At most three quarters full, so that a free slot is near.
        size = 1 << max(rows * 4 // 3, 16).bit_length()
        self._mask = size - 1
        self._hashes = array("q", bytes(8 * size))
        self._lines = array("Q", bytes(8 * size))
        self._free = rows

    def add(self, key: str, line: int) -> int:
        """Remember a key; return the line that had it before, 0 if none had."""
        # Zero means a free slot.
        value = hash(key) or 1
        hashes, mask = self._hashes, self._mask
        slot = value & mask
        while hashes[slot]:
            if hashes[slot] == value:
                return self._lines[slot]
            slot = (slot + 1) & mask
        if self._free:
            self._free -= 1
            hashes[slot], self._lines[slot] = value, line
        return 0
