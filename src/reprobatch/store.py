"""A dataset folder's files: put, get, list. Whole files, or none.

Names are made from shard numbers and constants, never from data. A shard is put create-only: the
first commit wins, an equal second one is fine, and another content is an error that overwrites
nothing.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from reprobatch.errors import DataError, JobError

JOB, MANIFEST, CARD, SUMS = "job.json", "manifest.json", "README.md", "SHA256SUMS"
DATA, LOG = "data", "log"
_SHARD = re.compile(r"shard-(\d{6,})\.parquet")


def shard_name(number: int) -> str:
    """``data/shard-000042.parquet``; numbers of seven digits and more take the room they need."""
    return f"{DATA}/shard-{number:06d}.parquet"


def shard_number(name: str) -> int | None:
    """The number in a shard's file name, ``None`` for any other name."""
    match = _SHARD.fullmatch(name)
    return int(match[1]) if match and shard_name(int(match[1])) == f"{DATA}/{name}" else None


class Store:
    """Files of one dataset folder on a local or shared file system."""

    def __init__(self, root: Path | str) -> None:
        self.root = Path(root)

    def path(self, name: str) -> Path:
        """Where a file of that name lies."""
        return self.root / name

    def create(self) -> None:
        """Make the folder and its ``data`` and ``log``; raises :class:`JobError` where that fails."""
        try:
            for folder in (DATA, LOG):
                (self.root / folder).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise JobError(f"cannot make the dataset folder '{self.root}': {error.strerror}") from None

    def exists(self, name: str) -> bool:
        """Whether there is a file of that name."""
        return self.path(name).is_file()

    def get(self, name: str) -> bytes:
        """A file's bytes (``FileNotFoundError`` where there is none)."""
        return self.path(name).read_bytes()

    def put_new(self, name: str, data: bytes | memoryview) -> bool:
        """Put a file that must not change: whole, on disk, create-only.

        Returns whether it was new. An equal file already there is fine; another content raises
        :class:`DataError` and leaves the first as it is.
        """
        path = self.path(name)
        try:
            _link_new(path, data)
        except FileExistsError:
            if path.read_bytes() != bytes(data):
                raise DataError(
                    f"{name}: expected the bytes of the first commit, found others in a second attempt; "
                    "this job is not deterministic here, nothing was overwritten (see 'reprobatch verify')"
                ) from None
            return False
        return True

    def replace(self, name: str, data: bytes) -> None:
        """Put a file in one step, in the place of an earlier one."""
        replace_file(self.path(name), data, self.root / LOG)

    def shards(self) -> Iterator[int]:
        """Numbers of the shards that are there, in no order."""
        for name in self.data_names():
            number = shard_number(name)
            if number is not None:
                yield number

    def data_names(self) -> Iterator[str]:
        """Names of everything in ``data``."""
        with suppress(FileNotFoundError), os.scandir(self.root / DATA) as entries:
            for entry in entries:
                yield entry.name


def replace_file(path: Path, data: bytes, beside: Path) -> None:
    """Put a file on disk whole, in the place of an earlier one; ``beside`` is a folder for it meanwhile."""
    handle, temporary = tempfile.mkstemp(dir=beside, prefix=".new-")
    try:
        with os.fdopen(handle, "wb") as file:
            _write(file.fileno(), data)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise


def _link_new(path: Path, data: bytes | memoryview) -> None:
    """Write an unnamed file, then give it its name: a crash leaves nothing behind."""
    try:
        handle = os.open(path.parent, os.O_TMPFILE | os.O_WRONLY, 0o644)
    except (OSError, AttributeError):  # not every file system and platform has unnamed files
        _link_named(path, data)
        return
    try:
        _write(handle, data)
        # a folder handle makes Python call linkat, without which the link in /proc is not followed
        os.link(f"/proc/self/fd/{handle}", path, src_dir_fd=handle, follow_symlinks=True)
    finally:
        os.close(handle)
    _sync_folder(path.parent)


def _link_named(path: Path, data: bytes | memoryview) -> None:
    handle, temporary = tempfile.mkstemp(dir=path.parent.parent / LOG, prefix=".new-")
    try:
        with os.fdopen(handle, "wb") as file:
            _write(file.fileno(), data)
        os.chmod(temporary, 0o644)
        os.link(temporary, path)
    finally:
        os.unlink(temporary)
    _sync_folder(path.parent)


def _write(handle: int, data: bytes | memoryview) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(handle, view) :]
    os.fsync(handle)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
