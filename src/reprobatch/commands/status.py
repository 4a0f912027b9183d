"""The command that says how far a dataset is, once or until it is complete: ``status``."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from reprobatch.commands.common import INTERRUPTED, as_json, dir_argument, show_result
from reprobatch.progress import duration, spoken_rate

if TYPE_CHECKING:
    from reprobatch.status import Status


@click.command()
@dir_argument
@click.option("--watch", is_flag=True, help="Look again and again until the dataset is complete; Ctrl-C ends it.")
@click.option(
    "--every",
    type=click.FloatRange(min=0.1),
    default=2.0,
    show_default=True,
    metavar="SECONDS",
    help="Time between two looks.",
)
@as_json
def status(dir: str, watch: bool, every: float, json_: bool) -> None:
    """Show how far a dataset is, from its folder alone.

    \b
    reprobatch status digits
    reprobatch status digits --watch              # in a second terminal
    reprobatch status s3://bucket/digits --watch --every 30 --json

    With --watch there is one picture on a terminal that changes, and elsewhere a line a change; with
    --json as well, one JSON document a change, each on a line of its own.
    """
    from reprobatch.dataset import Dataset
    from reprobatch.status import status as read

    if not watch:
        now = read(Dataset(dir))
        show_result(_facts(now), "\n".join(_lines(now)), json_)
        return
    looks = _looks(dir, every)
    try:
        if sys.stdout.isatty() and not json_:
            _picture(looks)
        else:
            _changes(looks, json_)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


def _looks(dir: str, every: float) -> Iterator[Status]:
    """One look after another, up to the one that finds the dataset complete."""
    from reprobatch.dataset import Dataset
    from reprobatch.status import status as read

    while True:
        now = read(Dataset(dir))  # opened again each time: it may have grown
        yield now
        if now.done == now.total:
            return
        time.sleep(every)


def _changes(looks: Iterator[Status], json_: bool) -> None:
    before = None
    for now in looks:
        seen = (now.done, now.running, now.failed, now.total, now.workers, _is_silent(now))
        if seen != before:
            before = seen
            show_result(_facts(now), "; ".join(_lines(now)), json_)
            sys.stdout.flush()


def _picture(looks: Iterator[Status]) -> None:
    from rich.console import Group
    from rich.live import Live
    from rich.progress_bar import ProgressBar
    from rich.text import Text

    with Live(auto_refresh=False) as live:
        for now in looks:
            bar = ProgressBar(total=now.total, completed=now.done)  # last: it ends no line
            live.update(Group(*map(Text, _lines(now)), bar), refresh=True)


def _facts(now: Status) -> dict[str, Any]:
    shards = {"done": now.done, "running": now.running, "failed": now.failed, "total": now.total}
    return {"shards": shards, **{k: v for k, v in asdict(now).items() if k not in shards}}


def _lines(now: Status) -> list[str]:
    rate = "nothing moving"
    if now.done == now.total:
        rate = "complete"
    elif now.rate is not None and now.eta_seconds is not None:
        rate = f"{spoken_rate(now.rate).replace('/', ' items/')}, {duration(now.eta_seconds)} left"
    lines = [f"{now.done}/{now.total} shards done, {now.running} running, {now.failed} failed; {rate}"]
    lines += [f"{count} worker{'s' * (count != 1)} on {host}" for host, count in now.workers.items()]
    if _is_silent(now):
        silent = f"the run has said nothing for {duration(now.silent_seconds or 0.0)}"
        lines.append(f"{silent}; where its driver has died, run it again")
    return lines


def _is_silent(now: Status) -> bool:
    from reprobatch.status import SILENT

    return now.silent_seconds is not None and now.silent_seconds > SILENT and now.done != now.total
