"""Progress on stderr: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TextIO

EVERY = 5.0  # seconds between two plain lines


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
        self._total, self._done, self._initial, self._label = total, initial, initial, label
        self._quiet = quiet
        self._start = self._last = time.monotonic()
        self._bar = None
        self._note, self._said = "", initial
        if self._stream.isatty():
            from tqdm import tqdm

            unit = f" {label}"
            self._bar = tqdm(
                total=total, initial=initial, unit=unit, file=self._stream, dynamic_ncols=True, delay=quiet
            )

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None) -> None:
        if self._bar is not None:
            self._bar.close()
        elif kind is None and self._done != self._said and time.monotonic() - self._start >= self._quiet:
            self._line()

    def note(self, text: str) -> None:
        """What is shown beside the count, such as ``2 workers``."""
        self._note = text
        if self._bar is not None:
            self._bar.set_postfix_str(text)

    def say(self, text: str) -> None:
        """A line of its own, above the bar."""
        if self._bar is not None:
            self._bar.write(text, file=self._stream)
        else:
            print(text, file=self._stream, flush=True)

    def add(self, items: int) -> None:
        """So many items more are done."""
        self._done += items
        if self._bar is not None:
            self._bar.update(items)
        elif time.monotonic() - self._last >= EVERY:
            self._line()

    def _line(self) -> None:
        self._last, self._said = time.monotonic(), self._done
        rate = (self._done - self._initial) / max(self._last - self._start, 1e-9)
        left = f"{(self._total - self._done) / rate:.0f} s left" if rate else "no rate yet"
        note = f", {self._note}" if self._note else ""
        self.say(f"{self._done}/{self._total} {self._label}, {rate:.1f}/s, {left}{note}")
