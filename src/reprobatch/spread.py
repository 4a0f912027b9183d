"""Work on a dataset spread over a Ray cluster: shards checked, batches made again.

Ray is at the rim here too: what runs in a task is a plain function or class of this package, and a
dataset is opened where the work is done, by its address.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import ray
from ray import exceptions

from reprobatch import cluster, determinism
from reprobatch.dataset import Dataset
from reprobatch.errors import ReprobatchError, RunFailed
from reprobatch.regenerate import Regenerator
from reprobatch.replay import Agreement
from reprobatch.shardcheck import Checked, check_shard
from reprobatch.verdict import Comparison

AHEAD = 2  # tasks in flight for each CPU


def check_shards(dataset: Dataset, shards: Iterable[int], sums: dict[int, str]) -> Iterator[Checked]:
    """Check shards on the cluster that this process has joined; results in the order of ``shards``.

    Raises :class:`RunFailed` where a node cannot read the dataset or a task is lost for good.
    """
    task = ray.remote(num_cpus=1)(_check)
    limit = max(1, int(AHEAD * ray.cluster_resources().get("CPU", 1)))
    flying: deque[Any] = deque()
    for shard in shards:
        flying.append(task.remote(dataset.store.address, shard, sums.get(shard)))
        if len(flying) >= limit:
            yield _result(flying.popleft())
    while flying:
        yield _result(flying.popleft())


@dataclass(frozen=True)
class Remade:
    """An item that was made again: what it is compared with what is stored."""

    index: int
    comparison: Comparison


class _Remaker:
    """Runs in an actor's process: makes batches of one dataset again."""

    def __init__(self, address: str, places: dict[str, str]) -> None:
        self._again = Regenerator(Dataset(address), places=places)

    def agreement(self) -> Agreement:
        return self._again.agreement()

    def make(self, indices: Sequence[int]) -> list[Remade]:
        _, batch = self._again.dataset.look_up(indices[0])
        made = self._again.batch(batch)
        return [Remade(one.index, one.comparison) for one in made if one.index in indices]


def remake(
    dataset: Dataset, batches: Sequence[list[int]], places: dict[str, str], on_agreement: Callable[[Agreement], None]
) -> Iterator[Remade]:
    """Make batches again on the cluster that this process has joined, in no order.

    ``places`` says where things lie on the cluster's nodes. As many actors as there is room for; each is
    told of by its canary. Raises :class:`RunFailed` where there is no room or an actor is lost.
    """
    needs = dataset.job.workers
    room = cluster.room(needs)
    if room < 1:
        raise RunFailed(f"{cluster.shortage(needs)}; join a larger cluster, or leave --address out")
    remote = ray.remote(_Remaker).options(
        num_cpus=needs.cpus,
        num_gpus=needs.gpus,
        runtime_env={"env_vars": determinism.variables(dataset.job.determinism, needs.threads)},
    )
    actors = [remote.remote(dataset.store.address, places) for _ in range(min(room, len(batches)))]
    for actor in actors:
        on_agreement(_result(actor.agreement.remote()))
    pool = ray.util.ActorPool(actors)
    for batch in batches:
        pool.submit(lambda actor, indices: actor.make.remote(indices), batch)
    while pool.has_next():
        yield from _answer(pool.get_next_unordered)


def _check(address: str, shard: int, sha256: str | None) -> Checked:
    return check_shard(Dataset(address), shard, sha256)


def _result(reference: Any) -> Any:
    return _answer(lambda: ray.get(reference))


def _answer(ask: Callable[[], Any]) -> Any:
    """What a task gave; its own error, or that it was lost, in a line."""
    try:
        return ask()
    except exceptions.RayTaskError as error:
        cause = error.cause
        if isinstance(cause, ReprobatchError):
            raise type(cause)(str(cause)) from None
        raise RunFailed(f"expected a node to do its part, found {cluster.one_line(cause or error)}") from None
    except exceptions.RayError as error:
        raise RunFailed(
            f"expected a node to do its part, found it lost: {cluster.one_line(error)}; try again"
        ) from None
