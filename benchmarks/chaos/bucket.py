"""An S3 server whose answers fail, are late, or do not come: the machines reach it through a proxy, which does that."""

from __future__ import annotations

import os
import random
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from hosts import OUTSIDE

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))
import s3


class Bucket:
    """A bucket at ``url``; ``variables`` are the environment in which it is found, harmed or not."""

    def __init__(self, dice: random.Random) -> None:
        self._dice, self._stack = dice, ExitStack()
        endpoint = self._stack.enter_context(s3.server())
        self._proxy = s3.Proxy(endpoint, OUTSIDE)
        self._stack.callback(self._proxy.close)
        self.url, self.variables = f"s3://{s3.BUCKET}", s3.variables(self._proxy.endpoint)
        os.environ.update(s3.variables(endpoint))  # who looks at the result goes straight to it

    def close(self) -> None:
        self._stack.close()

    @property
    def harmed(self) -> dict[str, int]:
        """How many requests suffered what."""
        return dict(self._proxy.done)

    @contextmanager
    def unreliable(self) -> Iterator[None]:
        """A third of the requests get an error, no answer, a late one, or one that is not true."""
        with self._harm(s3.at_random(random.Random(self._dice.random()), 0.3)):
            yield

    @contextmanager
    def refusing(self) -> Iterator[None]:
        """Every request gets an error."""
        with self._harm(lambda method, path: "503"):
            yield

    @contextmanager
    def hanging(self) -> Iterator[None]:
        """No request gets an answer before it is over."""
        over = threading.Event()

        def wait(method: str, path: str) -> None:
            self._proxy.done["hangs"] += 1
            over.wait()

        with self._harm(wait):
            try:
                yield
            finally:
                over.set()

    @contextmanager
    def _harm(self, harm: Callable[[str, str], str | None]) -> Iterator[None]:
        before, self._proxy.harm = self._proxy.harm, harm
        try:
            yield
        finally:
            self._proxy.harm = before
