"""A command on a terminal of 80 by 24 characters, as a person has it: typed at, and read."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

BIN = Path(sys.executable).parent
_CONTROL = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b[=>]|[\x07\r]")


class Terminal:
    """What a process on a pseudo-terminal prints, and a keyboard for it."""

    def __init__(self, process: subprocess.Popen[bytes], fd: int) -> None:
        self.process, self._fd, self.raw = process, fd, ""

    def type(self, keys: str) -> None:
        os.write(self._fd, keys.encode())

    def read_until(self, wanted: str, seconds: float = 60.0) -> str:
        """What was printed since the last call, without control characters, once ``wanted`` is in it."""
        found, deadline = "", time.monotonic() + seconds
        while wanted not in _CONTROL.sub("", found):
            assert time.monotonic() < deadline, f"expected {wanted!r}, found {found!r}"
            if select.select([self._fd], [], [], 0.2)[0]:
                try:
                    found += os.read(self._fd, 65536).decode(errors="replace")
                except OSError:  # the other end is closed
                    assert wanted in _CONTROL.sub("", found), found
        self.raw += found
        return _CONTROL.sub("", found)

    def rest(self) -> tuple[int, str]:
        """Exit code, and what was printed until the end."""
        found = b""
        try:
            while chunk := os.read(self._fd, 65536):
                found += chunk
        except OSError:  # the other end is closed
            pass
        self.raw += found.decode(errors="replace")
        return self.process.wait(timeout=60), _CONTROL.sub("", found.decode(errors="replace"))


@contextmanager
def terminal(*command: object, cwd: Path | None = None, env: Mapping[str, str] = os.environ) -> Iterator[Terminal]:
    """Run a command on a terminal of its own."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    known = {name: value for name, value in env.items() if name not in ("NO_COLOR", "COLUMNS", "LINES")}
    process = subprocess.Popen(
        [*map(str, command)],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        cwd=cwd,
        env={**known, "TERM": "xterm", "PATH": f"{BIN}:{os.environ['PATH']}"},
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # so that Ctrl-C is a signal to it
    )
    os.close(theirs)
    try:
        yield Terminal(process, ours)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        os.close(ours)
