"""Progress on stderr: a bar on a terminal, plain lines elsewhere; both say the same."""

from __future__ import annotations

import os
import sys
import textwrap
import threading
import time
from collections import deque
from types import TracebackType
from typing import TextIO

EVERY = 5.0  # seconds between two plain lines
TICK = 1.0  # seconds between two looks of a bar: its time left runs down though nothing is done
RECENT = 32  # completions that the rate looks back on, so that it follows workers that come and go


class Progress:
    """Counts items towards ``total``; knows rate and time left.

    Says nothing about what is done within ``quiet`` seconds.
    """

    def __init__(
        self,
        total: int,
        initial: int = 0,
        label: str = "items",
        stream: TextIO | None = None,
        quiet: float = 0.0,
    ) -> None:
        self._stream = stream or sys.stderr
        self._total, self._done, self._label = total, initial, label
        self._quiet = quiet
        self._start = self._last = time.monotonic()
        self._recent = deque([(self._start, initial)], maxlen=RECENT)
        self._bar = None
        self._note, self._said = "", initial
        self._over = threading.Event()
        if self._stream.isatty():
            from tqdm import tqdm

            form = "{percentage:3.0f}% {bar} {desc}"
            self._bar = tqdm(
                total=total, initial=initial, file=self._stream, dynamic_ncols=True, delay=quiet, bar_format=form
            )
            self._show()
            threading.Thread(target=self._tick, daemon=True).start()

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None) -> None:
        self._over.set()
        if self._bar is not None:
            self._bar.set_description_str(self._text(), refresh=False)
            self._bar.close()
        elif kind is None and self._done != self._said and time.monotonic() - self._start >= self._quiet:
            self._line()

    def begin(self) -> None:
        """Work begins only now: what came before, such as starting processes, is no part of the rate."""
        self._recent = deque([(time.monotonic(), self._done)], maxlen=RECENT)

    def note(self, text: str) -> None:
        """What is shown beside the count, such as ``2 workers``."""
        self._note = text
        self._show()

    def say(self, text: str) -> None:
        """A line of its own, above the bar; on a terminal folded at words."""
        if self._bar is not None:
            self._bar.write(textwrap.fill(text, _columns(self._stream), subsequent_indent="  "), file=self._stream)
        else:
            print(text, file=self._stream, flush=True)

    def add(self, items: int) -> None:
        """So many items more are done."""
        self._done += items
        now = time.monotonic()
        self._recent.append((now, self._done))
        if self._bar is not None:
            self._bar.set_description_str(self._text(), refresh=False)
            self._bar.update(items)
        elif now - self._last >= EVERY:
            self._line()

    def _text(self) -> str:
        since, before = self._recent[0]
        rate = (self._done - before) / max(time.monotonic() - since, 1e-9)
        speed = f"{spoken_rate(rate)}, {duration((self._total - self._done) / rate)} left" if rate else "no rate yet"
        note = f", {self._note}" if self._note else ""
        return f"{self._done}/{self._total} {self._label}, {speed}{note}"

    def _line(self) -> None:
        self._last, self._said = time.monotonic(), self._done
        self.say(self._text())

    def _tick(self) -> None:
        while not self._over.wait(TICK):
            self._show()

    def _show(self) -> None:
        if self._bar is not None:
            self._bar.set_description_str(self._text(), refresh=time.monotonic() - self._start >= self._quiet)


def spoken_rate(rate: float) -> str:
    """Items a second, or a minute where it takes many seconds to make one: ``16.7/s``, ``0.62/s``, ``4.2/min``."""
    if rate < 0.1:
        return f"{rate * 60:.1f}/min"
    return f"{rate:.1f}/s" if rate >= 1 else f"{rate:.2f}/s"


def duration(seconds: float) -> str:
    """A time in the unit that says it in few digits: ``41 s``, ``46 min``, ``5.3 h``, ``3.1 days``."""
    for limit, size, unit in ((600, 1, "s"), (2 * 3600, 60, "min")):
        if seconds < limit:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds / 3600:.1f} h" if seconds < 48 * 3600 else f"{seconds / 86400:.1f} days"


def _columns(stream: TextIO) -> int:
    try:
        return max(20, os.get_terminal_size(stream.fileno()).columns)
    except (OSError, ValueError):
        return 80
