"""How far a run is, read from its dataset by somebody who knows nothing of its driver."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from reprobatch.folder import FolderStore
from reprobatch.plan import Plan
from reprobatch.status import Status, status
from reprobatch.store import shard_name

HELLO = [
    (0, {"event": "run"}),
    (1, {"event": "ready", "worker": 1, "host": "a"}),
    (2, {"event": "ready", "worker": 2, "host": "a"}),
    (2, {"event": "ready", "worker": 3, "host": "b"}),
]


class Half:
    """A dataset of 80 items in 10 shards, at a folder."""

    def __init__(self, folder: Path) -> None:
        self.store, self.plan = FolderStore(folder), Plan(80, 8, 8)
        self.store.create()

    def __len__(self) -> int:
        return 80

    def log(self, events: list[tuple[float, dict[str, Any]]], name: str = "attempts-20261123T000000-1.jsonl") -> None:
        lines = (json.dumps({"time": time, **event}) for time, event in events)
        (Path(self.store.address) / "log" / name).write_text("".join(f"{line}\n" for line in lines))

    def put(self, *shards: int) -> None:
        for shard in shards:
            (Path(self.store.address) / shard_name(shard)).touch()

    def at(self, now: float) -> Status:
        return status(self, now)  # type: ignore[arg-type]


@pytest.fixture
def half(tmp_path: Path) -> Half:
    return Half(tmp_path)


def start(shard: int, worker: int) -> dict[str, Any]:
    return {"event": "start", "shard": shard, "worker": worker, "attempt": 1}


def done(shard: int, worker: int) -> dict[str, Any]:
    return {"event": "done", "shard": shard, "worker": worker, "receipt": {"items": 8}}


def test_a_run_under_way_has_shards_by_state_a_rate_time_left_and_workers_by_host(half: Half) -> None:
    again = {"event": "again", "shard": 3, "worker": 2, "reason": "it rained"}
    half.log([*HELLO, (3, start(0, 1)), (3, start(3, 2)), (9, done(0, 1)), (9, start(1, 1)), (10, again)])
    half.put(0)
    rate = 8 / 20
    assert half.at(20) == Status(1, 1, 0, 10, rate, 72 / rate, {"a": 2, "b": 1}, 10.0)


def test_a_worker_that_was_lost_is_not_counted(half: Half) -> None:
    half.log([*HELLO, (3, {"event": "lost", "worker": 2, "reason": "its host is gone"})])
    assert half.at(4).workers == {"a": 1, "b": 1}


def test_a_shard_that_a_cut_off_machine_put_is_done_though_nobody_has_heard_of_it(half: Half) -> None:
    half.log([*HELLO, (3, start(0, 3))])
    half.put(0)
    found = half.at(4)
    assert (found.done, found.running) == (1, 0)


def test_a_driver_that_died_falls_silent_and_nothing_moves(half: Half) -> None:
    half.log([*HELLO, (3, start(0, 1)), (5, done(0, 1))])
    half.put(0)
    found = half.at(1000)
    assert (found.rate, found.eta_seconds, found.silent_seconds) == (None, None, 995.0)


def test_a_run_that_ended_is_not_silent_and_has_no_workers(half: Half) -> None:
    half.log([*HELLO, (3, start(0, 1)), (4, {"event": "failed", "shard": 0, "reason": "?"}), (5, {"event": "end"})])
    assert half.at(1000) == Status(0, 0, 1, 10, None, None, {}, None)


def test_only_the_newest_run_counts_and_a_line_cut_short_does_not(half: Half) -> None:
    half.log([*HELLO, (3, start(0, 1))], "attempts-20261123T000000-1.jsonl")
    half.log([(100, {"event": "run"}), (101, {"event": "ready", "worker": 1, "host": "c"})], "attempts-20261124.jsonl")
    with (Path(half.store.address) / "log" / "attempts-20261124.jsonl").open("a") as file:
        file.write('{"time": 102, "event": "sta')
    assert half.at(103) == Status(0, 0, 0, 10, None, None, {"c": 1}, 2.0)


def test_before_any_run_nothing_moves(half: Half) -> None:
    assert half.at(0) == Status(0, 0, 0, 10, None, None, {}, None)
