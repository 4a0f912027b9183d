"""Whose dataset a place holds: nobody's yet, this job's, a shorter one's that can grow, or another's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from reprobatch import canonical, croissant, manifest
from reprobatch import store as names
from reprobatch.card import dataset_card
from reprobatch.dataset import Dataset
from reprobatch.errors import DataError, JobError
from reprobatch.inputs import told
from reprobatch.job import ResolvedJob
from reprobatch.segments import Segment, forbids_growth
from reprobatch.store import Store, shard_name

Read = Callable[[int, int], list[dict[str, Any]]]


def claim(store: Store, job: ResolvedJob, read: Read) -> int:
    """Make the place this job's; returns how many items it has grown by (0: it did not).

    ``read`` gives the job's items by index range. Raises :class:`JobError`, with what differs, where the
    place is another's.
    """
    if store.exists(names.JOB):
        there = Dataset(store.address)
        if there.job.digest == job.digest:
            store.create()
            _put(store, {name: text for name, text in _papers(job).items() if not store.exists(name)})
            return 0
        _grow(there, job, read)
        return job.items.count - there.job.items.count
    if not store.is_free():
        raise JobError(f"expected --out to be a new or empty place or a dataset, found something else at '{store}'")
    store.create()
    _put(store, {names.JOB: job.canonical + "\n", **_papers(job)})
    return 0


def _papers(job: ResolvedJob) -> dict[str, str]:
    """What is written about a dataset, from its job alone, by name."""
    return {names.CARD: dataset_card(job), croissant.FILE: croissant.metadata(job)}


def _put(store: Store, texts: dict[str, str]) -> None:
    for name, text in texts.items():
        store.put_new(name, text.encode())


def _grow(there: Dataset, job: ResolvedJob, read: Read) -> None:
    """Turn a complete dataset into the beginning of a longer one.

    The manifest goes first: with it and the old job the dataset is what it was, and growth can begin
    again.
    """
    store = there.store
    differing = forbids_growth(there.job, job)
    if differing:
        raise JobError(
            f"'{store}' holds another job's dataset; what differs: {'; '.join(differing)}; "
            "give another --out, or the job it was made with"
        )
    root = there.manifest.get("root") or _begun(there)
    if root is None:
        found = "; ".join(canonical.differences(job.as_dict(), there.job.as_dict()))
        raise JobError(
            f"expected a complete dataset at '{store}' to add items to, found one without a root; what differs: "
            f"{found}; complete it with its own job first"
        )
    _check_items(there, job, read)
    start = there.segments[-1].stop if there.segments else 0
    old = Segment(start, len(there), there.job.digest, root, there.job.as_dict()["items"])
    kept = {k: v for k, v in there.manifest.items() if k not in ("root", "files")}
    manifest.write(store, {**kept, "segments": [segment.as_dict() for segment in [*there.segments, old]]})
    for name, text in {**_papers(job), names.JOB: job.canonical + "\n"}.items():  # cut off, growth is begun again
        store.replace(name, text.encode())


def _begun(there: Dataset) -> str | None:
    """The root, where growth was begun and cut off before the new job was written."""
    entries = there.manifest.get("segments", [])
    last = entries[-1] if entries else {}
    return last.get("root") if last.get("job_digest") == there.job.digest else None


def _check_items(there: Dataset, job: ResolvedJob, read: Read) -> None:
    """See that the dataset's items are the first of the job's."""
    columns = list(there.job.items.columns)
    if job.items.source is None:
        return
    for shard in range(there.plan.shards):
        with there.file(shard) as file:
            for group in range(file.groups):
                rows = file.table(group, ["index", *columns]).to_pylist()
                if not rows:
                    continue
                first = rows[0]["index"]
                for row, item in zip(rows, read(first, first + len(rows)), strict=True):
                    index = row.pop("index")
                    if row != {name: told(item[name]) for name in columns}:
                        raise _changed(shard, index, row, item)


def _changed(shard: int, index: int, row: dict[str, Any], item: dict[str, Any]) -> JobError:
    name = next((name for name in row if row[name] != told(item[name])), None)
    if name is None:
        raise DataError(f"{shard_name(shard)}: item {index} has other columns than its job; see 'reprobatch verify'")
    return JobError(
        f"expected the items that are there to be the first of the longer job, found item {index} with {name} "
        f"{canonical.shown(told(item[name]))} here, {canonical.shown(row[name])} there; add items at the end only"
    )
