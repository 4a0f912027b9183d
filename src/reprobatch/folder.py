"""A dataset in a folder, on a local or shared file system."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from reprobatch.errors import JobError
from reprobatch.store import DATA, LOG, Log, Store

if TYPE_CHECKING:
    import pyarrow as pa

_PIECE = 4 << 20  # bytes read at once


class FolderStore(Store):
    """Files below a folder; a file gets its name when it is whole and on disk."""

    def __init__(self, root: Path | str) -> None:
        self._root = Path(root)
        self.address = os.path.abspath(root)  # for workers, whose working folder is another

    def __str__(self) -> str:
        return str(self._root)

    @classmethod
    def at_url(cls, url: str) -> FolderStore:
        """The folder at a ``file:///path`` URL. Raises :class:`JobError` where it names another host."""
        parts = urlsplit(url)
        if parts.netloc not in ("", "localhost") or not parts.path:
            raise JobError(f"expected a URL such as file:///datasets/digits, found '{url}'; a path will do as well")
        return cls(unquote(parts.path))

    def path(self, name: str) -> Path:
        """Where a file of that name lies."""
        return self._root / name

    def create(self) -> None:
        try:
            for folder in (DATA, LOG):
                self.path(folder).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise JobError(f"cannot make the dataset folder '{self._root}': {error.strerror}") from None

    def is_free(self) -> bool:
        return not self._root.exists() or (self._root.is_dir() and not any(self._root.iterdir()))

    def exists(self, name: str) -> bool:
        return self.path(name).is_file()

    def get(self, name: str) -> bytes:
        return self.path(name).read_bytes()

    def open(self, name: str) -> pa.NativeFile:
        import pyarrow as pa

        return pa.OSFile(str(self.path(name)))

    def open_hashed(self, name: str) -> tuple[str, pa.NativeFile]:
        return self.sha256(name), self.open(name)

    def pieces(self, name: str) -> Iterator[memoryview]:
        buffer = memoryview(bytearray(_PIECE))
        with self.path(name).open("rb", buffering=0) as file:
            while read := file.readinto(buffer):
                yield buffer[:read]

    def replace(self, name: str, data: bytes) -> None:
        log = self.path(LOG)  # a copy of a dataset may have been made without it
        replace_file(self.path(name), data, log if log.is_dir() else self._root)

    def names(self, folder: str) -> Iterator[str]:
        with suppress(FileNotFoundError), os.scandir(self.path(folder)) as entries:
            for entry in entries:
                yield entry.name

    def log(self, name: str) -> Log:
        return _FileLog(self.path(f"{LOG}/{name}.jsonl"))

    def _create(self, name: str, data: Sequence[bytes | memoryview]) -> bool:
        try:
            _link_new(self.path(name), data)
        except FileExistsError:
            return False
        return True


class _FileLog(Log):
    def __init__(self, path: Path) -> None:
        self._file = path.open("a", encoding="utf-8")

    def write(self, line: str) -> None:
        self._file.write(line + "\n")
        self._file.flush()

    def close(self) -> None:
        self._file.close()


def replace_file(path: Path, data: bytes, beside: Path) -> None:
    """Put a file on disk whole, in the place of an earlier one; ``beside`` is a folder for it meanwhile."""
    handle, temporary = tempfile.mkstemp(dir=beside, prefix=".new-")
    try:
        with os.fdopen(handle, "wb") as file:
            _write(file.fileno(), [data])
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise


def _link_new(path: Path, data: Sequence[bytes | memoryview]) -> None:
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


def _link_named(path: Path, data: Sequence[bytes | memoryview]) -> None:
    handle, temporary = tempfile.mkstemp(dir=path.parent.parent / LOG, prefix=".new-")
    try:
        with os.fdopen(handle, "wb") as file:
            _write(file.fileno(), data)
        os.chmod(temporary, 0o644)
        os.link(temporary, path)
    finally:
        os.unlink(temporary)
    _sync_folder(path.parent)


def _write(handle: int, data: Sequence[bytes | memoryview]) -> None:
    for piece in data:
        view = memoryview(piece)
        while view:
            view = view[os.write(handle, view) :]
    os.fsync(handle)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
