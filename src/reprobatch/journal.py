"""``log/``: who made what, when, in how many tries. Not part of the dataset's identity."""

from __future__ import annotations

import json
import os
import time
from dataclasses import asdict, is_dataclass
from typing import Any

from reprobatch.store import LOG, Store


class Journal:
    """One JSON Lines file a run; a line an event, with the time in seconds since the epoch."""

    def __init__(self, store: Store) -> None:
        stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime())
        self._file = store.path(f"{LOG}/attempts-{stamp}-{os.getpid()}.jsonl").open("a", encoding="utf-8")

    def __enter__(self) -> Journal:
        self.write({"event": "run"})
        return self

    def __exit__(self, *_: object) -> None:
        self.write({"event": "end"})
        self._file.close()

    def write(self, event: dict[str, Any]) -> None:
        """Append an event; it is on its way to the file when this returns."""
        kept = {k: asdict(v) if is_dataclass(v) and not isinstance(v, type) else v for k, v in event.items()}
        kept.pop("environment", None)
        self._file.write(json.dumps({"time": round(time.time(), 3), **kept}, ensure_ascii=False) + "\n")
        self._file.flush()


def read(store: Store) -> list[list[dict[str, Any]]]:
    """Events of every run, oldest run first; a line cut short by a crash is left out."""
    runs = []
    for path in sorted(store.path(LOG).glob("attempts-*.jsonl")):
        events = []
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                events.append(json.loads(line))
            except ValueError:
                continue
        runs.append(events)
    return runs
