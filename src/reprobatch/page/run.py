"""What ``log/`` tells of the runs that made a dataset, as a page draws it: seconds from a run's start, no dates.

Hosts have numbers in the order in which they appear: a report is shown around, and their names are nobody's business.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

BINS = 60  # of the rate over time
_ENDS = ("lost", "turned_away")

Event = dict[str, Any]


def runs(journal: Iterable[list[Any]]) -> list[dict[str, Any]]:
    """Each run's facts, oldest first; lines that are no events are passed over, and runs that did nothing."""
    found = [_run([each for each in events if _is_event(each)]) for events in journal]
    return [run for run in found if run is not None]


def attempts(journal: Iterable[list[Any]]) -> dict[int, int]:
    """How often the making of a shard failed, by shard, over all runs."""
    counts: dict[int, int] = {}
    for events in journal:
        for event in events:
            if _is_event(event) and event["event"] in ("again", "failed") and isinstance(event.get("shard"), int):
                counts[event["shard"]] = counts.get(event["shard"], 0) + 1
    return dict(sorted(counts.items()))


def _is_event(event: Any) -> bool:
    """Whether a line of the log is an event as the journal writes them: a killed run's last may be anything."""
    return (
        isinstance(event, dict)
        and isinstance(event.get("event"), str)
        and _is_number(event.get("time"))
        and all(isinstance(event.get(name), int | str | None) for name in ("shard", "worker", "host", "attempt"))
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _run(events: list[Event]) -> dict[str, Any] | None:
    if not any(event["event"] in ("done", "again", "failed", *_ENDS) for event in events):
        return None
    began = events[0]["time"]
    spans, troubles = _spans(events, began), _troubles(events, began)
    length = max(event["time"] for event in events) - began
    return {
        "seconds": round(length, 3),
        "ended": any(event["event"] == "end" for event in events),
        "items": sum(span["items"] for span in spans),
        "rate": _rate(spans, length),
        "spans": spans,
        "troubles": troubles,
        "workers": _workers(events, spans, troubles),
    }


def _spans(events: list[Event], began: float) -> list[dict[str, Any]]:
    """Shards that were made: by whom, from when to when, items."""
    started: dict[tuple[Any, Any], float] = {}
    found = []
    for event in events:
        key = (event.get("worker"), event.get("shard"))
        if event["event"] == "start":
            started[key] = event["time"]
        elif event["event"] == "done" and isinstance(event.get("receipt"), dict):
            receipt = {name: value for name, value in event["receipt"].items() if _is_number(value)}
            # a worker has two shards in flight, and computes one: what it spent on this one is what counts
            spent = receipt.get("pipeline_seconds") or event["time"] - started.get(key, event["time"])
            found.append(
                {
                    "shard": event.get("shard"),
                    "worker": event.get("worker"),
                    "from": round(max(event["time"] - spent, started.get(key, began)) - began, 3),
                    "to": round(event["time"] - began, 3),
                    "items": int(receipt.get("items", 0)),
                    "attempt": event.get("attempt", 1),
                }
            )
    return found


def _troubles(events: list[Event], began: float) -> list[dict[str, Any]]:
    """Attempts that failed and workers that went away."""
    return [
        {
            "at": round(event["time"] - began, 3),
            "what": event["event"],
            "shard": event.get("shard"),
            "worker": event.get("worker"),
            "why": str(event.get("reason", "")),
        }
        for event in events
        if event["event"] in ("again", "failed", *_ENDS)
    ]


def _rate(spans: list[dict[str, Any]], length: float) -> list[float]:
    """Items a second in equal stretches of the run, each shard's spread evenly over the time of its making."""
    bins = [0.0] * BINS
    width = length / BINS
    for span in spans if width > 0 else ():
        start, stop = span["from"], max(span["to"], span["from"] + width / 100)
        for at in range(max(0, int(start / width)), min(BINS, int(stop / width) + 1)):
            inside = min(stop, (at + 1) * width) - max(start, at * width)
            bins[at] += max(0.0, inside) / (stop - start) * span["items"] / width
    return [round(value, 3) for value in bins]


def _workers(events: list[Event], spans: list[dict[str, Any]], troubles: list[dict[str, Any]]) -> list[dict[str, Any]]:
    hosts: dict[str, int] = {}
    named: dict[Any, int | None] = {}
    for event in events:
        if "worker" not in event:
            continue
        host = event.get("host")
        number = hosts.setdefault(str(host), len(hosts) + 1) if host is not None else None
        named[event["worker"]] = named.get(event["worker"]) or number
    rows = []
    for worker, number in named.items():
        made = [span for span in spans if span["worker"] == worker]
        failed = [each for each in troubles if each["worker"] == worker and each["what"] in ("again", "failed")]
        busy = round(sum(span["to"] - span["from"] for span in made), 3)
        items = sum(span["items"] for span in made)
        rows.append(
            {
                "worker": worker,
                "host": number,
                "shards": len(made),
                "items": items,
                "busy": busy,
                "rate": round(items / busy, 3) if busy > 0 else None,
                "failed": len(failed),
            }
        )
    return sorted(rows, key=lambda row: (str(type(row["worker"])), row["worker"]))
