"""A dataset that grows: more items at its end, nothing touched of what is there.

The last batch of what was there was padded and is committed, so growth begins a new shard. A
**segment** is the index range that was made for one, shorter, job; the manifest keeps the earlier ones
with their roots. As the items' seeds depend on master seed and index alone, the new job differs from
the old one in how many items there are, and in nothing else.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from reprobatch import canonical
from reprobatch.errors import DataError
from reprobatch.job import ResolvedJob


@dataclass(frozen=True)
class Segment:
    """Items ``start`` … ``stop - 1``; ``root`` is that of items 0 … ``stop - 1``, ``items`` the job's entry then."""

    start: int
    stop: int
    job_digest: str
    root: str
    items: dict[str, Any]

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


def read_segments(manifest: dict[str, Any], job: ResolvedJob) -> list[Segment]:
    """The earlier segments of a job's dataset, oldest first.

    One that ends where the job does is what the dataset is now: growth was begun and its job not
    written. Raises :class:`DataError` where the entries are none, or do not follow one another.
    """
    try:
        found = [Segment(**entry) for entry in manifest.get("segments", [])]
        for before, segment in zip([None, *found], found, strict=False):
            if not (before.stop if before else 0) == segment.start < segment.stop:
                raise ValueError(f"one from {segment.start} to {segment.stop} out of its place")
    except (TypeError, ValueError) as error:
        raise DataError(f"manifest.json: expected segments that follow one another, found {error}") from None
    return [segment for segment in found if segment.stop < job.items.count]


def digest_of(segment: Segment, job: ResolvedJob) -> str:
    """Digest of the job that a segment was made for, from today's job and what the items were then."""
    return canonical.digest({**job.as_dict(), "items": segment.items})


def forbids_growth(old: ResolvedJob, new: ResolvedJob) -> list[str]:
    """Why a dataset of ``old`` cannot become one of ``new``, in words; empty where it can.

    What the items hold is not looked at: that the old ones are the first of the new is the caller's to see.
    """
    reasons = canonical.differences(_fixed(new), _fixed(old))
    if (old.items.source is None) != (new.items.source is None):
        reasons.append("items.source: a file on one side, a count on the other")
    if new.items.count <= old.items.count:
        reasons.append(f"items.count: {new.items.count} here, {old.items.count} there")
    if any(len(axis.values) > 1 for axis in new.items.grid):
        reasons.append("items.grid: more rows would move the items of its later settings; make a dataset of their own")
    return reasons


def _fixed(job: ResolvedJob) -> dict[str, Any]:
    facts = job.as_dict()
    return {**facts, "items": {k: v for k, v in facts["items"].items() if k not in ("count", "source")}}
