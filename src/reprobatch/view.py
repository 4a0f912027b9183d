"""What a person sees of a run while it goes on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from reprobatch.progress import Progress


class RunView:
    """Turns a run's events (see :class:`reprobatch.cluster.Pool`) into progress and lines on stderr."""

    def __init__(self) -> None:
        self._progress: Any = None
        self._workers: set[int] = set()
        self._failures = 0

    def __enter__(self) -> Callable[[dict[str, Any]], None]:
        return self._on_event

    def __exit__(self, *details: Any) -> None:
        if self._progress is not None:
            self._progress.__exit__(*details)

    def _on_event(self, event: dict[str, Any]) -> None:
        getattr(self, f"_{event['event']}", lambda event: None)(event)

    def _grown(self, event: dict[str, Any]) -> None:
        click.echo(f"the dataset grows by {event['by']} items; what is there stays as it is", err=True)

    def _warning(self, event: dict[str, Any]) -> None:
        click.echo(event["reason"], err=True)

    def _plan(self, event: dict[str, Any]) -> None:
        self._progress = Progress(event["items"], event["made"])
        if event["done"]:
            self._progress.say(f"{event['done']} of {event['shards']} shards are there already")
        if event["made"] < event["items"]:
            self._progress.note("starting")

    def _ready(self, event: dict[str, Any]) -> None:
        if not self._workers:
            self._progress.begin()
        self._workers.add(event["worker"])
        self._note()

    def _lost(self, event: dict[str, Any]) -> None:
        self._workers.discard(event["worker"])
        self._note()
        self._progress.say(f"worker {event['worker']} lost: {event['reason']}")

    def _done(self, event: dict[str, Any]) -> None:
        self._progress.add(event["receipt"].items)

    def _again(self, event: dict[str, Any]) -> None:
        self._progress.say(f"shard {event['shard']} will be tried again: {event['reason']}")

    def _failed(self, event: dict[str, Any]) -> None:
        self._failures += 1
        self._note()
        self._progress.say(f"shard {event['shard']} failed: {event['reason']}")

    def _waiting(self, event: dict[str, Any]) -> None:
        self._progress.say(event["reason"])

    def _probing(self, event: dict[str, Any]) -> None:
        self._progress.say("measuring what is reproducible here")

    def _turned_away(self, event: dict[str, Any]) -> None:
        self._workers.discard(event["worker"])
        self._note()
        self._progress.say(f"worker {event['worker']} turned away: {event['reason']}")

    def _environment(self, event: dict[str, Any]) -> None:
        said = "; ".join(event["differs"]) or "nothing that is recorded"
        self._progress.say(f"worker {event['worker']}'s environment differs from the recorded one: {said}")

    def _note(self) -> None:
        failed = f", {self._failures} shard{'s' * (self._failures != 1)} failed" if self._failures else ""
        self._progress.note(f"{len(self._workers)} worker{'s' * (len(self._workers) != 1)}{failed}")
