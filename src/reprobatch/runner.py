"""A run: from a pinned job to a complete dataset, or as far as it comes.

Everything a later run needs is in the dataset: its job says whether it is the same, and its shards
say what is done. So a run that was killed at any moment goes on when the same command is given again.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reprobatch import canonical
from reprobatch import store as names
from reprobatch.actor import Receipt
from reprobatch.admission import Admission, Arrival
from reprobatch.card import dataset_card
from reprobatch.cluster import connected
from reprobatch.contract import Contract, samples
from reprobatch.dataset import Dataset
from reprobatch.errors import DataError, JobError, RunFailed
from reprobatch.job import ResolvedJob
from reprobatch.journal import Journal
from reprobatch.merkle import CompactRange
from reprobatch.plan import Plan
from reprobatch.pool import Pool
from reprobatch.resolve import Resolved
from reprobatch.schedule import Schedule
from reprobatch.store import Store, shard_name

FORMAT = "reprobatch/1"
Event = dict[str, Any]


@dataclass(frozen=True)
class Outcome:
    """A complete dataset: items in all, items made now, seconds of this run, root, folder."""

    items: int
    made: int
    seconds: float
    root: str
    out: str


def run(
    resolved: Resolved,
    out: Path | str,
    *,
    workers: int | None = None,
    address: str | None = None,
    insist: bool = False,
    on_event: Callable[[Event], None] = lambda event: None,
) -> Outcome:
    """Make what is missing of a job's dataset in ``out``.

    ``workers`` is the most at once, ``address`` a Ray cluster to join; with ``insist`` a job is run
    even if its contract does not hold. Raises :class:`JobError` where the folder belongs to another job,
    :class:`NotReproducible` where the contract does not hold, :class:`EnvironmentDiffers` where no worker
    gives the recorded bits, and :class:`RunFailed` where shards could not be made; what was made is kept.
    """
    began = time.monotonic()
    job, plan, store = resolved.job, resolved.plan, Store(out)
    claim(store, job)
    receipts: dict[int, Receipt] = {}
    there = _done(store, plan)
    schedule = Schedule(plan.shards, there, resolved.operation.attempts)
    made = sum(len(plan.shard(shard)) for shard in there)
    on_event({"event": "plan", "shards": plan.shards, "done": schedule.done, "items": plan.count, "made": made})
    if not schedule.finished:
        admission = _admission(Dataset(store.root), insist)
        with Journal(store) as journal:
            keep = _Keeper(store, job, plan, journal, receipts, on_event)
            _remember_places(store, resolved)
            with connected(address) as local:
                chosen, out_path = samples(job, plan, resolved.reader.read), str(store.root.resolve())
                operation = resolved.operation
                pool = Pool(
                    job, resolved.model_hint, out_path, chosen, admission, operation, keep, most=workers, local=local
                )
                pool.run(schedule, plan, resolved.reader.read)
    if schedule.failures:
        raise RunFailed(_failures(schedule, plan))
    root = complete(store, job, plan, receipts)
    made = sum(receipt.items for receipt in receipts.values())
    return Outcome(plan.count, made, time.monotonic() - began, root, str(out))


def claim(store: Store, job: ResolvedJob) -> None:
    """Make the folder this job's. Raises :class:`JobError`, with what differs, where it is another's."""
    if store.exists(names.JOB):
        there = Dataset(store.root).job
        if there.digest != job.digest:
            found = canonical.differences(job.as_dict(), there.as_dict())
            raise JobError(
                f"'{store.root}' holds another job's dataset; what differs: {'; '.join(found)}; "
                "give another --out, or the job it was made with"
            )
        store.create()
        return
    if store.root.exists() and (not store.root.is_dir() or any(store.root.iterdir())):
        raise JobError(
            f"expected --out to be a new or empty folder or a dataset, found something else at '{store.root}'"
        )
    store.create()
    store.put_new(names.JOB, (job.canonical + "\n").encode())
    store.put_new(names.CARD, dataset_card(job).encode())


def complete(store: Store, job: ResolvedJob, plan: Plan, receipts: dict[int, Receipt]) -> str:
    """Put the root together, and write it and the files' hashes down; returns the root, hex."""
    dataset = Dataset(store.root)
    with ThreadPoolExecutor() as pool:
        parts = list(pool.map(lambda shard: _part(dataset, shard, receipts.get(shard)), range(plan.shards)))
    whole = parts[0][0]
    for compact, _ in parts[1:]:
        whole = whole.merge(compact)
    root = whole.root().hex()
    sums = "".join(f"{digest}  {shard_name(shard)}\n" for shard, (_, digest) in enumerate(parts)).encode()
    store.put_new(names.SUMS, sums)
    manifest = {
        **dataset.manifest,
        **describe(job, plan),
        "root": root,
        "files": hashlib.sha256(sums).hexdigest(),
    }
    _write_manifest(store, manifest)
    return root


def describe(job: ResolvedJob, plan: Plan) -> dict[str, Any]:
    """The part of the manifest that follows from the job alone."""
    return {
        "format": FORMAT,
        "job_digest": job.digest,
        "model_digest": job.pipeline.model_digest,
        "seed_scheme": job.seed_scheme,
        "plan": {
            "items": plan.count,
            "shards": plan.shards,
            "batches": plan.total_batches,
            "padded": plan.padded,
        },
    }


def _admission(dataset: Dataset, insist: bool) -> Admission:
    manifest, recorded, contract = dataset.manifest, None, None
    if "canary" in manifest:
        recorded = Arrival(None, manifest["canary"]["checksum"], manifest["environment"])
        contract = Contract.from_dict(manifest["contract"])
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
        return {"environments": {**Dataset(self._store.root).manifest.get("environments", {}), canary: facts}}

    def _manifest(self, **entries: Any) -> None:
        there = Dataset(self._store.root).manifest
        _write_manifest(self._store, {**there, **describe(self._job, self._plan), **entries})


def _write_manifest(store: Store, manifest: dict[str, Any]) -> None:
    text = json.dumps(manifest, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
    store.replace(names.MANIFEST, text.encode())


def _done(store: Store, plan: Plan) -> list[int]:
    found = list(store.shards())
    foreign = [shard for shard in found if shard >= plan.shards]
    if foreign:
        raise DataError(f"expected shards 0 … {plan.shards - 1}, found {shard_name(min(foreign))}; remove it")
    return found


def _part(dataset: Dataset, shard: int, receipt: Receipt | None) -> tuple[CompactRange, str]:
    """A shard's compact range and file hash: from its receipt, or read back where another run made it."""
    if receipt is not None:
        return CompactRange.from_text(receipt.compact), receipt.sha256
    footer = dataset.footer(shard)
    name = shard_name(shard)
    if footer.job != dataset.job.digest or footer.shard != shard:
        raise DataError(f"{name}: expected a shard of this job, found one of another; remove it and run again")
    with dataset.store.path(name).open("rb") as file:
        return CompactRange.from_text(footer.compact), hashlib.file_digest(file, "sha256").hexdigest()


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
