"""``log/``: who made what, when, in how many tries. Not part of the dataset's identity."""

from __future__ import annotations

import json
import os
import time
from dataclasses import asdict, is_dataclass
from typing import Any

from reprobatch.store import LOG, Store

_PREFIX = "attempts-"


class Journal:
    """JSON Lines of one run; a line an event, with the time in seconds since the epoch."""

    def __init__(self, store: Store) -> None:
        stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime())
        self._log = store.log(f"{_PREFIX}{stamp}-{os.getpid()}")

    def __enter__(self) -> Journal:
        self.write({"event": "run"})
        return self

    def __exit__(self, *_: object) -> None:
        self.write({"event": "end"})
        self._log.close()

    def write(self, event: dict[str, Any]) -> None:
        """Append an event."""
        kept = {k: asdict(v) if is_dataclass(v) and not isinstance(v, type) else v for k, v in event.items()}
        kept.pop("environment", None)
        self._log.write(json.dumps({"time": round(time.time(), 3), **kept}, ensure_ascii=False))


def read(store: Store) -> list[list[dict[str, Any]]]:
    """Events of every run, oldest run first; a line cut short by a crash is left out."""
    runs: dict[str, list[dict[str, Any]]] = {}
    for name in sorted(name for name in store.names(LOG) if name.startswith(_PREFIX)):
        events = runs.setdefault(name.split(".")[0], [])  # a bucket holds a run's lines in several parts
        for line in store.get(f"{LOG}/{name}").decode(errors="replace").splitlines():
            try:
                events.append(json.loads(line))
            except ValueError:
                continue
    return list(runs.values())
