"""A small file system of its own that can be full, lose what it has taken, hang, or be read-only for one machine.

ext4 in a file (a loop device) on a tmpfs. Data that it takes goes to holes of the file, so when the tmpfs is full a
write succeeds and ``fsync`` says that it failed, as a disk with bad blocks does; its own tables have their room.
Needs root.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from hosts import Host, run

SIZE, BACKING = 64 << 20, 96 << 20  # bytes


class Disk:
    """Mounted at ``folder / "disk"``."""

    def __init__(self, folder: Path) -> None:
        self.path, self._under = folder / "disk", folder / "under"
        self.path.mkdir()
        self._under.mkdir()
        run("mount", "-t", "tmpfs", "-o", f"size={BACKING}", "soak", self._under)
        image = self._under / "image"
        run("truncate", "--size", SIZE, image)
        run("mkfs.ext4", "-q", "-b", 4096, "-E", "lazy_itable_init=0,lazy_journal_init=0", image)
        run("fallocate", "--length", SIZE, image)
        run("mount", "-o", "loop,noatime,discard,data_err=ignore,errors=continue", image, self.path)
        run("fstrim", self.path)  # what holds no table is a hole again

    def close(self) -> None:
        subprocess.run(["umount", "-l", self.path], check=False)
        subprocess.run(["umount", "-l", self._under], check=False)

    @contextmanager
    def full(self) -> Iterator[None]:
        """Not a byte more is taken."""
        with _filled(self.path / "ballast"):
            yield

    @contextmanager
    def losing(self) -> Iterator[None]:
        """Writes are taken, and lost: ``fsync`` fails."""
        # a folder's own blocks have their room too; it says what was lost the last time
        subprocess.run(["sync", "--file-system", self.path], check=False, stderr=subprocess.DEVNULL)
        with _filled(self._under / "ballast"):
            yield

    @contextmanager
    def hanging(self) -> Iterator[None]:
        """Whoever writes waits, and cannot even be killed."""
        run("fsfreeze", "--freeze", self.path)
        try:
            yield
        finally:
            run("fsfreeze", "--unfreeze", self.path)

    @contextmanager
    def read_only(self, host: Host) -> Iterator[None]:
        """One machine may no longer write."""
        remount = ["mount", "-o", "remount,bind,ro", str(self.path)]
        while host.run(*remount, check=False).returncode:  # not while it has a file open for writing
            time.sleep(0.01)
        try:
            yield
        finally:
            host.run("mount", "-o", "remount,bind,rw", str(self.path))


@contextmanager
def _filled(ballast: Path) -> Iterator[None]:
    try:
        with suppress(OSError), ballast.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(1 << 12))
        yield
    finally:
        ballast.unlink()
