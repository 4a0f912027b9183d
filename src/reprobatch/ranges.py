"""A remote object read like a file, in as few requests as the reader can do with."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

TAIL = 64 << 10  # bytes; what pyarrow reads of a file's end at first


class RangeFile(io.RawIOBase):
    """A read-only file over two kinds of request.

    ``tail(n)`` gives the last ``n`` bytes, or all, and the object's size; ``get(start, stop)`` the bytes
    ``start`` … ``stop - 1``. The tail is asked for at once. :meth:`fetch` gets a range that is about to be
    read in pieces; what was not fetched is got as it is read. ``requests`` counts.
    """

    def __init__(self, tail: Callable[[int], tuple[Any, int]], get: Callable[[int, int], Any]) -> None:
        super().__init__()
        self._get = get
        self._at = 0
        self.requests = 1
        end, self.size = tail(TAIL)
        self._tail = memoryview(end)
        self._held: tuple[int, memoryview] = (0, memoryview(b""))

    def fetch(self, start: int, stop: int) -> None:
        """Get bytes ``start`` … ``stop - 1`` in one request, in the place of those got before."""
        if start < self.size - len(self._tail):
            self._held = (start, self._range(start, min(stop, self.size)))

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self.size}[whence]
        return self._at

    def readinto(self, buffer: Any) -> int:
        wanted = memoryview(buffer).cast("B")
        size = max(0, min(len(wanted), self.size - self._at))
        wanted[:size] = self._bytes(self._at, self._at + size)
        self._at += size
        return size

    def _bytes(self, start: int, stop: int) -> memoryview:
        for begin, data in (self._held, (self.size - len(self._tail), self._tail)):
            if begin <= start and stop <= begin + len(data):
                return data[start - begin : stop - begin]
        return self._range(start, stop) if stop > start else memoryview(b"")

    def _range(self, start: int, stop: int) -> memoryview:
        self.requests += 1
        return memoryview(self._get(start, stop))
