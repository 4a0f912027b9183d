"""Proofs about a dataset, from what its shards say of themselves.

Reads the footers of all shards and one column of one shard: that which holds the item, or in which the old size
falls. What is proved is the manifest's root; where the shards give another one, nothing is.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

from reprobatch import proof, record
from reprobatch.dataset import Dataset
from reprobatch.errors import DataError, JobError
from reprobatch.merkle import CompactRange
from reprobatch.plan import Plan
from reprobatch.prooffile import ConsistencyProof, InclusionProof
from reprobatch.store import shard_name

_AT_ONCE = 32  # footers; each is mostly waiting where the dataset is in a bucket

OnShard = Callable[[int], None]


def prove(dataset: Dataset, index: int, on_shard: OnShard = lambda shards: None) -> InclusionProof:
    """Prove that item ``index`` is in the dataset; ``on_shard`` is told of every footer read.

    Raises :class:`JobError` for an index out of range, and :class:`DataError` where the dataset is not complete or a
    shard is not what the root was made of.
    """
    plan = dataset.plan
    own = plan.shard_of(index)
    root = _published(dataset)
    checksums = dataset.checksums(own)
    ranges = _ranges(dataset, plan, {own: checksums}, {index, index + 1}, on_shard)
    _require(root, ranges)
    checksum = checksums[index - plan.shard(own).start]
    path = _hex(proof.inclusion_from_ranges(ranges, index))
    return InclusionProof(index=index, checksum=checksum, size=ranges[-1].end, root=root, path=path)


def prove_extends(dataset: Dataset, old_size: int, on_shard: OnShard = lambda shards: None) -> ConsistencyProof:
    """Prove that the dataset extends its own first ``old_size`` items; their root is in the proof.

    Raises as :func:`prove` does.
    """
    plan = dataset.plan
    if not 1 <= old_size <= plan.count:
        raise JobError(f"expected an old size within 1 … {plan.count}, found {old_size}")
    root = _published(dataset)
    cut = {}
    if old_size < plan.count:
        shard = plan.shard_of(old_size)
        if plan.shard(shard).start != old_size:
            cut[shard] = dataset.checksums(shard)
    ranges = _ranges(dataset, plan, cut, {old_size}, on_shard)
    _require(root, ranges)
    old = CompactRange.join(part for part in ranges if part.end <= old_size)
    path = _hex(proof.consistency_from_ranges(ranges, old_size))
    size = ranges[-1].end
    return ConsistencyProof(old_size=old_size, old_root=old.root().hex(), size=size, root=root, path=path)


def _published(dataset: Dataset) -> str:
    root = dataset.manifest.get("root")
    if not isinstance(root, str):
        raise DataError("expected a complete dataset, found no root in its manifest; 'reprobatch run' completes it")
    return root


def _ranges(
    dataset: Dataset, plan: Plan, known: dict[int, list[str]], cuts: set[int], on_shard: OnShard
) -> list[CompactRange]:
    """The compact ranges of all shards; those whose checksums are ``known`` cut at ``cuts``."""
    ranges: list[CompactRange] = []
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        wholes = pool.map(lambda shard: _footer(dataset, shard, plan.shard(shard)), range(plan.shards))
        for shard, whole in enumerate(wholes):
            ranges += _cut(shard, whole, known[shard], cuts) if shard in known else [whole]
            on_shard(1)
    return ranges


def _footer(dataset: Dataset, shard: int, span: range) -> CompactRange:
    try:
        compact = CompactRange.from_text(dataset.footer(shard).compact)
    except ValueError as error:
        raise DataError(f"{shard_name(shard)}: {error}; see 'reprobatch verify'") from None
    if (compact.begin, compact.end) != (span.start, span.stop):
        raise DataError(
            f"{shard_name(shard)}: expected items {span.start} … {span.stop - 1}, found a footer of "
            f"{compact.begin} … {compact.end - 1}; see 'reprobatch verify'"
        )
    return compact


def _cut(shard: int, whole: CompactRange, checksums: list[str], cuts: set[int]) -> list[CompactRange]:
    try:
        leaves = [record.leaf(checksum) for checksum in checksums]
        agrees = CompactRange.of(whole.begin, leaves) == whole
    except (ValueError, TypeError):
        agrees = False
    if not agrees:
        raise DataError(
            f"{shard_name(shard)}: expected the checksums that its footer was made of, found others; "
            "see 'reprobatch verify'"
        )
    edges = sorted({whole.begin, whole.end} | {at for at in cuts if whole.begin < at < whole.end})
    return [CompactRange.of(at, leaves[at - whole.begin : end - whole.begin]) for at, end in pairwise(edges)]


def _require(root: str, ranges: list[CompactRange]) -> None:
    found = CompactRange.join(ranges).root().hex()
    if found != root:
        raise DataError(f"expected the manifest's root {root}, found {found} by the shards; see 'reprobatch verify'")


def _hex(path: list[bytes]) -> list[str]:
    return [digest.hex() for digest in path]
