"""A run: from a pinned job to a complete dataset, or as far as it comes.

Everything a later run needs is in the dataset: its job says whether it is the same, and its shards
say what is done. So a run that was killed at any moment goes on when the same command is given again.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from reprobatch import determinism, manifest
from reprobatch import store as names
from reprobatch.actor import Receipt
from reprobatch.admission import Admission, Arrival
from reprobatch.claim import claim
from reprobatch.cluster import connected
from reprobatch.contract import Contract, samples
from reprobatch.dataset import Dataset
from reprobatch.errors import DataError, RunFailed
from reprobatch.job import ResolvedJob
from reprobatch.journal import Journal
from reprobatch.plan import Plan
from reprobatch.pool import Pool
from reprobatch.resolve import Resolved
from reprobatch.schedule import Schedule
from reprobatch.store import Store, open_store, shard_name

Event = dict[str, Any]


@dataclass(frozen=True)
class Outcome:
    """What a run came to: items it was asked for, items made now, seconds, root and place.

    ``root`` is there once the dataset is complete; a part of it has none.
    """

    items: int
    made: int
    seconds: float
    root: str | None
    out: str


def run(
    resolved: Resolved,
    out: Path | str,
    *,
    workers: int | None = None,
    address: str | None = None,
    insist: bool = False,
    part: tuple[int, int] = (1, 1),
    on_event: Callable[[Event], None] = lambda event: None,
) -> Outcome:
    """Make what is missing of a job's dataset in ``out``, a folder's path or a URL.

    ``workers`` is the most at once, ``address`` a Ray cluster to join; with ``insist`` a job is run
    even if its contract does not hold. ``part`` is ``(k, n)`` for the k-th of n parts, to be merged.
    Raises :class:`JobError` where the place belongs to another job, :class:`NotReproducible` where the
    contract does not hold, :class:`EnvironmentDiffers` where no worker gives the recorded bits,
    :class:`StorageError` where a store does not answer, and :class:`RunFailed` where shards could not
    be made; what was made is kept.
    """
    began = time.monotonic()
    job, store = resolved.job, open_store(out)
    grown = claim(store, job, resolved.reader.read)
    plan = replace(resolved.plan, starts=Dataset(store.address).plan.starts)
    if grown:
        on_event({"event": "grown", "by": grown})
    if not store.create_only:
        on_event({"event": "warning", "reason": f"'{store}' cannot refuse a second put: each is read back instead"})
    wanted, there = plan.part(*part), _done(store, plan)
    elsewhere = (*range(wanted.start), *range(wanted.stop, plan.shards))
    schedule = Schedule(plan.shards, {*there, *elsewhere}, resolved.operation.attempts)
    items = sum(len(plan.shard(shard)) for shard in wanted)
    done = [shard for shard in there if shard in wanted]
    made = sum(len(plan.shard(shard)) for shard in done)
    on_event({"event": "plan", "shards": len(wanted), "done": len(done), "items": items, "made": made})
    receipts: dict[int, Receipt] = {}
    if not schedule.finished:
        _work(resolved, store, plan, schedule, receipts, on_event, workers=workers, address=address, insist=insist)
    if schedule.failures:
        raise RunFailed(_failures(schedule, plan))
    known = {shard: manifest.Hashes(receipt.compact, receipt.sha256) for shard, receipt in receipts.items()}
    whole = len({*there, *receipts}) == plan.shards or part == (1, 1)
    root = manifest.complete(store, job, plan, known) if whole else None
    made = sum(receipt.items for receipt in receipts.values())
    return Outcome(items, made, time.monotonic() - began, root, str(out))


def _work(
    resolved: Resolved,
    store: Store,
    plan: Plan,
    schedule: Schedule,
    receipts: dict[int, Receipt],
    on_event: Callable[[Event], None],
    *,
    workers: int | None,
    address: str | None,
    insist: bool,
) -> None:
    job = resolved.job
    admission = _admission(Dataset(store.address), insist)
    with Journal(store) as journal:
        keep = _Keeper(store, job, plan, journal, receipts, on_event)
        _remember_places(store, resolved)
        with connected(address, determinism.variables(job.determinism, job.workers.threads)) as local:
            pool = Pool(
                job,
                resolved.model_hint,
                store.address,
                samples(job, plan, resolved.reader.read),
                admission,
                resolved.operation,
                keep,
                most=workers,
                local=local,
            )
            pool.run(schedule, plan, resolved.reader.read)


def _admission(dataset: Dataset, insist: bool) -> Admission:
    there, recorded, contract = dataset.manifest, None, None
    if "canary" in there:
        recorded = Arrival(None, there["canary"]["checksum"], there["environment"])
        contract = Contract.from_dict(there["contract"])
    return Admission(recorded, contract, many=dataset.job.environments == "many", insist=insist)


class _Keeper:
    """Writes down what happens: journal, receipts, the contract and its environment."""

    def __init__(
        self,
        store: Store,
        job: ResolvedJob,
        plan: Plan,
        journal: Journal,
        receipts: dict[int, Receipt],
        tell: Callable[[Event], None],
    ) -> None:
        self._store, self._journal, self._receipts, self._tell = store, journal, receipts, tell
        self._job, self._plan = job, plan

    def __call__(self, event: Event) -> None:
        if event["event"] == "contract":
            self._contract(event)
        if event["event"] == "environment":
            self._manifest(**self._among_many(event["canary"], event["environment"]))
        if event["event"] == "done":
            self._receipts[event["shard"]] = event["receipt"]
        self._journal.write(event)
        self._tell(event)

    def _contract(self, event: Event) -> None:
        canary, facts = event["canary"], event["environment"]
        recorded = {"checksum": canary}
        self._manifest(
            environment=facts, canary=recorded, contract=event["contract"], **self._among_many(canary, facts)
        )

    def _among_many(self, canary: str, facts: dict[str, Any]) -> dict[str, Any]:
        """The environments so far and this one, where the job admits many."""
        if self._job.environments == "one":
            return {}
        return {"environments": {**Dataset(self._store.address).manifest.get("environments", {}), canary: facts}}

    def _manifest(self, **entries: Any) -> None:
        there = Dataset(self._store.address).manifest
        manifest.write(self._store, {**there, **manifest.describe(self._job, self._plan), **entries})


def _done(store: Store, plan: Plan) -> list[int]:
    found = list(store.shards())
    foreign = [shard for shard in found if shard >= plan.shards]
    if foreign:
        raise DataError(f"expected shards 0 … {plan.shards - 1}, found {shard_name(min(foreign))}; remove it")
    return found


def _failures(schedule: Schedule, plan: Plan) -> str:
    failures = sorted(schedule.failures.values(), key=lambda f: f.shard)
    first = failures[0]
    span = plan.shard(first.shard)
    return (
        f"{len(failures)} of {plan.shards} shards failed, the others are kept; first: shard {first.shard} (items "
        f"{span.start} … {span.stop - 1}), tried {first.attempts} times: {first.reason}; the same command tries again"
    )


def _remember_places(store: Store, resolved: Resolved) -> None:
    """Note where a folder model lies on this machine, for ``regenerate``; no part of the dataset."""
    if resolved.model_hint is not None:
        store.replace(f"{names.LOG}/places.json", json.dumps({"model": resolved.model_hint}).encode())
