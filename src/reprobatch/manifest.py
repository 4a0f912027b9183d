"""``manifest.json``, and the root and file hashes that a complete dataset gets."""

from __future__ import annotations

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from reprobatch import store as names
from reprobatch.dataset import Dataset
from reprobatch.errors import DataError
from reprobatch.job import ResolvedJob
from reprobatch.merkle import CompactRange
from reprobatch.plan import Plan
from reprobatch.store import Store, shard_name

FORMAT = "reprobatch/1"
AT_ONCE = 1000  # shards that are asked to be read back


@dataclass(frozen=True, slots=True)
class Hashes:
    """What the root needs of a shard: its Merkle compact range as text, and its file's SHA-256."""

    compact: str
    sha256: str


def describe(job: ResolvedJob, plan: Plan) -> dict[str, Any]:
    """The part of the manifest that follows from the job and the plan alone."""
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


def write(store: Store, entries: dict[str, Any]) -> None:
    """Put the manifest in the place of an earlier one."""
    text = json.dumps(entries, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
    store.replace(names.MANIFEST, text.encode())


def complete(store: Store, job: ResolvedJob, plan: Plan, known: dict[int, Hashes]) -> str:
    """Put the root together, and write it and the files' hashes down; returns the root, hex.

    ``known`` spares shards of this run from being read back. Raises :class:`DataError` where a shard is
    missing, damaged or another job's, and where the dataset as it was would not be the beginning of this.
    """
    dataset = Dataset(store.address)
    found = _all_hashes(dataset, plan.shards, known)
    _check_old_root(dataset, found)
    root = _root([each.compact for each in found])
    sums = "".join(f"{each.sha256}  {shard_name(shard)}\n" for shard, each in enumerate(found)).encode()
    _put_sums(store, sums, grown=bool(dataset.segments))
    segments = {"segments": [segment.as_dict() for segment in dataset.segments]} if dataset.segments else {}
    kept = {name: entry for name, entry in dataset.manifest.items() if name != "segments"}
    write(
        store,
        {**kept, **describe(job, plan), **segments, "root": root, "files": hashlib.sha256(sums).hexdigest()},
    )
    return root


def _all_hashes(dataset: Dataset, shards: int, known: dict[int, Hashes]) -> list[Hashes]:
    unknown = [shard for shard in range(shards) if shard not in known]
    found: dict[int, Hashes] = {}
    with ThreadPoolExecutor() as pool:
        for start in range(0, len(unknown), AT_ONCE):  # what the pool is asked takes room until it is answered
            some = unknown[start : start + AT_ONCE]
            found.update(zip(some, pool.map(lambda shard: _hashes(dataset, shard), some), strict=True))
    return [known[shard] if shard in known else found[shard] for shard in range(shards)]


def _hashes(dataset: Dataset, shard: int) -> Hashes:
    footer, name = dataset.footer(shard), shard_name(shard)
    if footer.job != dataset.job_digest(shard) or footer.shard != shard:
        raise DataError(f"{name}: expected a shard of this job, found one of another; remove it and run again")
    return Hashes(footer.compact, dataset.store.sha256(name))


def _root(compacts: list[str]) -> str:
    whole = CompactRange.of(0, [])
    for text in compacts:
        whole = whole.merge(CompactRange.from_text(text))
    return whole.root().hex()


def _check_old_root(dataset: Dataset, hashes: list[Hashes]) -> None:
    for segment in dataset.segments:
        shards = dataset.plan.shard_of(segment.stop)
        found = _root([each.compact for each in hashes[:shards]])
        if found != segment.root:
            raise DataError(
                f"expected items 0 … {segment.stop - 1} with root {segment.root}, found root {found}: what was there "
                "before the dataset grew has changed; see 'reprobatch verify'"
            )


def _put_sums(store: Store, sums: bytes, *, grown: bool) -> None:
    if grown and store.exists(names.SUMS):
        there = store.get(names.SUMS)
        if not sums.startswith(there):
            raise DataError(f"{names.SUMS}: expected the hashes of the first shards to stay, found others")
        store.replace(names.SUMS, sums)
    else:
        store.put_new(names.SUMS, sums)
