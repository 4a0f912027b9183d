"""How far a dataset is, from its folder alone."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass
from typing import Any

from reprobatch import journal
from reprobatch.dataset import Dataset

RECENT = 60.0  # seconds that the rate looks back
SILENT = 60.0  # seconds without a word after which that is said


@dataclass(frozen=True)
class Status:
    """Shards by state, items a second of late, seconds left (``None`` where nothing moves), workers by host.

    ``silent_seconds`` is how long the run has said nothing, by the clocks of its machine and this one: ``None``
    where no run has begun or the last one has ended. A driver that was killed falls silent.
    """

    done: int
    running: int
    failed: int
    total: int
    rate: float | None
    eta_seconds: float | None
    workers: dict[str, int]
    silent_seconds: float | None


def status(dataset: Dataset, now: float | None = None) -> Status:
    """Read the state from the shards that are there and from the last run's journal."""
    done = set(dataset.store.shards())
    runs = journal.read(dataset.store)
    events = runs[-1] if runs else []
    ended = any(event["event"] == "end" for event in events)
    states: dict[int, str] = {}
    for event in events:
        if "shard" in event:
            states[event["shard"]] = event["event"]
    failed = [s for s, state in states.items() if state == "failed" and s not in done]
    running = [] if ended else [s for s, state in states.items() if state == "start" and s not in done]
    now = time.time() if now is None else now
    rate = None if ended else _rate(events, now)
    total = dataset.plan.shards
    left = len(dataset) * (total - len(done)) / total
    eta = left / rate if rate else None
    silent = None if ended or not events else max(0.0, now - events[-1]["time"])
    return Status(len(done), len(running), len(failed), total, rate, eta, {} if ended else _workers(events), silent)


def _workers(events: list[dict[str, Any]]) -> dict[str, int]:
    hosts = {event["worker"]: event["host"] for event in events if event["event"] == "ready"}
    gone = {event["worker"] for event in events if event["event"] in ("lost", "turned_away")}
    return dict(sorted(Counter(host for worker, host in hosts.items() if worker not in gone).items()))


def _rate(events: list[dict[str, Any]], now: float) -> float | None:
    finished = [e for e in events if e["event"] == "done" and e["time"] >= now - RECENT]
    if not finished:
        return None
    since = max(now - RECENT, events[0]["time"])
    items = sum(e["receipt"]["items"] for e in finished)
    return float(items / max(now - since, 1e-9))
