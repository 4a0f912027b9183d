"""A dataset's files: put, get, list. Whole files, or none.

:class:`Store` says what a store does; :mod:`reprobatch.folder` does it on a file system and
:mod:`reprobatch.bucket` in an object store. Names are made from shard numbers and constants, never from
data. A shard is put create-only: the first commit wins, an equal second one is fine, and another
content is an error that overwrites nothing.
"""

from __future__ import annotations

import hashlib
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from reprobatch.errors import DataError

JOB, MANIFEST, CARD, SUMS = "job.json", "manifest.json", "README.md", "SHA256SUMS"
DATA, LOG = "data", "log"
_SHARD = re.compile(r"shard-(\d{6,})\.parquet")
_URL = re.compile(r"[a-z][a-z0-9+]*://")

Data = bytes | memoryview | Sequence[bytes]
"""A file's bytes, whole or in pieces."""


def shard_name(number: int) -> str:
    """``data/shard-000042.parquet``; numbers of seven digits and more take the room they need."""
    return f"{DATA}/shard-{number:06d}.parquet"


def shard_number(name: str) -> int | None:
    """The number in a shard's file name, ``None`` for any other name."""
    match = _SHARD.fullmatch(name)
    return int(match[1]) if match and shard_name(int(match[1])) == f"{DATA}/{name}" else None


def is_url(root: Path | str) -> bool:
    """Whether a dataset's place is named by a URL, such as ``s3://bucket/prefix``."""
    return bool(_URL.match(str(root)))


def open_store(root: Path | str) -> Store:
    """The store at a folder's path or at a URL (``s3://``, ``gs://``, ``az://``, ``file://``).

    Makes nothing and reads nothing. Raises :class:`JobError` for a URL of another kind, or one whose
    credentials or account cannot be found.
    """
    from reprobatch.folder import FolderStore

    if not is_url(root):
        return FolderStore(root)
    if str(root).startswith("file://"):
        return FolderStore.at_url(str(root))
    from reprobatch.bucket import BucketStore

    return BucketStore(str(root))


class Store(ABC):
    """Files of one dataset; as text, its place as the user named it.

    ``address`` finds the same store from another process. ``create_only`` says whether the store itself
    refuses a second file of one name; where it does not, a put is read back and compared.
    """

    address: str
    create_only = True

    @abstractmethod
    def create(self) -> None:
        """Make the place for the files; raises :class:`JobError` where that fails."""

    @abstractmethod
    def is_free(self) -> bool:
        """Whether nothing is there yet that a new dataset would get mixed up with."""

    @abstractmethod
    def exists(self, name: str) -> bool:
        """Whether there is a file of that name."""

    @abstractmethod
    def get(self, name: str) -> bytes:
        """A file's bytes (``FileNotFoundError`` where there is none)."""

    @abstractmethod
    def open(self, name: str) -> Any:
        """A file to read at any position: a :class:`pyarrow.NativeFile`, or for pyarrow like one.

        Raises ``FileNotFoundError`` where there is none.
        """

    @abstractmethod
    def open_hashed(self, name: str) -> tuple[str, Any]:
        """A file's SHA-256, hex, and the file as :meth:`open` gives it, to be read from end to end."""

    @abstractmethod
    def pieces(self, name: str) -> Iterator[bytes | memoryview]:
        """A file's bytes in order, a few MB at a time (``FileNotFoundError`` where there is none)."""

    @abstractmethod
    def replace(self, name: str, data: bytes) -> None:
        """Put a file in one step, in the place of an earlier one."""

    @abstractmethod
    def names(self, folder: str) -> Iterator[str]:
        """Names, without the folder's, of everything in ``data`` or ``log``, in no order."""

    @abstractmethod
    def log(self, name: str) -> Log:
        """A new file in ``log`` that grows; its name there begins with ``name``."""

    @abstractmethod
    def _create(self, name: str, data: Sequence[bytes | memoryview]) -> bool:
        """Put a file whole where there is none of that name; whether there was none."""

    def put_new(self, name: str, data: Data) -> bool:
        """Put a file that must not change: whole, durable, create-only.

        Returns whether it was new. An equal file already there is fine; another content raises
        :class:`DataError` and leaves the first as it is.
        """
        pieces = [data] if isinstance(data, bytes | memoryview) else list(data)
        if self._create(name, pieces):
            return True
        if self.sha256(name) != sha256_of(pieces):
            raise DataError(
                f"{name}: expected the bytes of the first commit, found others in a second attempt; "
                "this job is not deterministic here, nothing was overwritten (see 'reprobatch verify')"
            )
        return False

    def sha256(self, name: str) -> str:
        """A file's SHA-256, hex (``FileNotFoundError`` where there is none)."""
        return sha256_of(self.pieces(name))

    def shards(self) -> Iterator[int]:
        """Numbers of the shards that are there, in no order."""
        for name in self.names(DATA):
            number = shard_number(name)
            if number is not None:
                yield number


class Log(ABC):
    """A file that lines are appended to."""

    @abstractmethod
    def write(self, line: str) -> None:
        """Append a line; it is on its way to the store when this returns, or seconds later."""

    @abstractmethod
    def close(self) -> None:
        """Put what is left."""


def sha256_of(pieces: Iterable[Any]) -> str:
    """SHA-256, hex, of bytes in pieces."""
    hashed = hashlib.sha256()
    for piece in pieces:
        hashed.update(piece)
    return hashed.hexdigest()
