"""What a worker process does with a shard it has made."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from conftest import DIGITS
from reprobatch import actor
from reprobatch.cluster import one_line
from reprobatch.errors import DataError, JobError, StorageError
from reprobatch.resolve import load
from reprobatch.worker import Shard


class Store:
    """Takes a shard once it has raised these errors."""

    def __init__(self, *errors: Exception) -> None:
        self.errors, self.put = list(errors), 0

    def put_new(self, name: str, data: Any) -> bool:
        self.put += 1
        if self.errors:
            raise self.errors.pop(0)
        return True


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Iterator[SimpleNamespace]:
    """An actor, how often it made a shard, and its store."""
    found = SimpleNamespace(shards=0, store=Store(), actor=actor.Actor())

    def shard(number: int, *_: Any) -> Shard:
        found.shards += 1
        return Shard(number, 8, [b"rows"], "00" * 32, "", 1.0)

    found.actor.worker, found.actor.made_in = SimpleNamespace(shard=shard), None
    monkeypatch.setattr(actor, "_store", lambda out: found.store)
    monkeypatch.setattr(actor, "PAUSE", 0.0)
    yield found


def test_a_shard_that_cannot_be_stored_for_a_moment_is_put_again_and_not_made_again(made: SimpleNamespace) -> None:
    made.store = Store(OSError(28, "No space left on device"), StorageError("503"), OSError(5, "Input/output error"))
    assert made.actor.make("out", 3, [], []).new
    assert (made.shards, made.store.put) == (1, 4)


def test_the_only_worker_of_a_new_dataset_has_a_new_process_load_beside_it(monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[Any] = []

    class Loaded:
        job, environment = SimpleNamespace(environments="one"), dict

        def __init__(self, *_: Any, **__: Any) -> None:
            order.append("loaded")

        def canary(self, first: Any) -> list[Any]:
            return []

        def probe(self, samples: Any, *, fresh: Any) -> Any:
            return fresh

    monkeypatch.setattr(actor, "Worker", Loaded)
    monkeypatch.setattr(actor.fresh, "begin", lambda *_: order.append("begun") or (lambda: "outputs"))
    job, alone, among = load(DIGITS).job.canonical, actor.Actor(), actor.Actor()
    alone.load(job, None, [], None, True)
    assert order == ["begun", "loaded"] and alone.probe(None, True)() == "outputs"
    among.load(job, None, [], None, False)
    assert order == ["begun", "loaded", "loaded"] and among.probe(None, False) is False


def test_a_store_that_never_takes_it_is_an_error_after_a_while(
    made: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(actor, "PATIENCE", 0.01)
    made.store = Store(*[OSError(30, "Read-only file system")] * 10**6)
    with pytest.raises(OSError, match="Read-only"):
        made.actor.make("out", 3, [], [])
    assert made.store.put > 1


@pytest.mark.parametrize("error", [DataError("other bytes"), JobError("access denied")])
def test_what_trying_again_cannot_mend_is_an_error_at_once(made: SimpleNamespace, error: Exception) -> None:
    made.store = Store(error)
    with pytest.raises(type(error)):
        made.actor.make("out", 3, [], [])
    assert made.store.put == 1


def test_why_an_actor_died_is_said_without_its_particulars() -> None:
    said = (
        "The actor died unexpectedly before finishing this task.\n\tclass_name: Actor\n\tactor_id: 0123\n\tpid: 7\n"
        "\tnamespace: 4567\n\tip: 10.0.0.3\nThe actor died because its node has died. \x1b[36mNode Id: 89ab\x1b[39m\n"
    )
    expected = "The actor died unexpectedly before finishing this task. The actor died because its node has died. "
    assert one_line(RuntimeError(said)) == f"{expected}Node Id: 89ab"
