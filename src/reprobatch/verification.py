"""Checks everything a dataset says of itself: files, rows, checksums, root.

Reads every byte once per check and makes nothing again; ``verify --regenerate`` adds that. Problems
are collected, not raised: a damaged shard must not hide the next one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from reprobatch import record, seeds
from reprobatch import store as names
from reprobatch.dataset import Dataset
from reprobatch.errors import DataError
from reprobatch.items import splitting_columns
from reprobatch.merkle import CompactRange
from reprobatch.segments import Segment, digest_of
from reprobatch.shardfile import DAMAGED, ShardFile, one_line
from reprobatch.store import shard_name, shard_number

Kind = Literal[
    "missing",
    "unreadable",
    "foreign",
    "doubled",
    "extra",
    "file",
    "rows",
    "seed",
    "place",
    "checksum",
    "merkle",
    "root",
    "manifest",
    "signature",
]


@dataclass(frozen=True)
class Problem:
    """Something that is not as it should be; ``shard`` and ``index`` where it has them."""

    kind: Kind
    expected: str
    found: str
    shard: int | None = None
    index: int | None = None

    def __str__(self) -> str:
        where = "" if self.shard is None else f"{shard_name(self.shard)}: "
        item = "" if self.index is None else f"item {self.index}: "
        return f"{where}{item}{self.kind}: expected {self.expected}, found {self.found}"


@dataclass
class Report:
    """What ``verify`` found: the root as computed from the checksums, where every shard is there."""

    verdict: Literal["intact", "damaged", "incomplete"]
    root: str | None
    items: int
    problems: list[Problem] = field(default_factory=list)


Checked = tuple[CompactRange | None, int, list[Problem]]
Check = Callable[[Dataset, Iterable[int], dict[int, str]], Iterator[Checked]]


def verify(
    dataset: Dataset, on_shard: Callable[[int], None] = lambda items: None, check: Check | None = None
) -> Report:
    """Check a whole dataset; ``on_shard`` is told the items of each shard as it is done.

    ``check`` checks shards, given their numbers and the hashes of their files, in that order; without
    it the threads of this process do.
    """
    problems = list(_strangers(dataset))
    sums = _sums(dataset, problems)
    root: CompactRange | None = CompactRange.of(0, [])
    earlier = {segment.stop: segment for segment in dataset.segments}
    items = 0
    for compact, rows, found in (check or _check_here)(dataset, range(dataset.plan.shards), sums):
        problems += found
        items += rows
        root = root.merge(compact) if root is not None and compact is not None else None
        if root is not None and root.end in earlier:
            problems += _segment_problems(dataset, earlier[root.end], root.root().hex())
        on_shard(rows)
    head = root.root().hex() if root is not None else None
    problems += _manifest_problems(dataset, head)
    missing = [p for p in problems if p.kind == "missing"]
    verdict: Any = "intact" if not problems else "incomplete" if len(missing) == len(problems) else "damaged"
    return Report(verdict, head, items, problems)


def _check_here(dataset: Dataset, shards: Iterable[int], sums: dict[int, str]) -> Iterator[Checked]:
    with ThreadPoolExecutor() as pool:
        yield from pool.map(lambda shard: check_shard(dataset, shard, sums.get(shard)), shards)


def check_shard(dataset: Dataset, shard: int, sha256: str | None) -> Checked:
    """Check one shard: its compact range as computed (``None`` if unknown), rows, and problems."""
    name = shard_name(shard)
    try:
        found, opened = dataset.store.open_hashed(name)
    except FileNotFoundError:
        return None, 0, [Problem("missing", "this shard", "no file; 'reprobatch run' makes it", shard)]
    except OSError as error:
        return None, 0, [Problem("unreadable", "a file that can be read", one_line(error), shard)]
    problems: list[Problem] = []
    if sha256 not in (None, found):
        problems.append(Problem("file", f"SHA-256 {sha256} of {names.SUMS}", found, shard))
    try:
        with ShardFile(opened, name) as file:
            compact, rows, inside = _contents(dataset, shard, file)
    except DataError as error:
        return None, 0, [*problems, Problem("unreadable", "a shard of this job", str(error), shard)]
    except DAMAGED as error:
        return None, 0, [*problems, Problem("unreadable", "a Parquet file with sound pages", one_line(error), shard)]
    return compact, rows, problems + inside


def _contents(dataset: Dataset, shard: int, file: ShardFile) -> Checked:
    job = dataset.job
    footer, made_for = file.footer(), dataset.job_digest(shard)
    if footer.job != made_for:
        return None, 0, [Problem("foreign", f"job digest {made_for}", footer.job, shard)]
    if footer.shard != shard:
        return None, 0, [Problem("doubled", f"shard {shard}", f"shard {footer.shard} under its name", shard)]
    expected_schema = record.schema(job.items.columns, job.column)
    if not file.schema.equals(expected_schema):
        return None, 0, [Problem("rows", f"columns {expected_schema.names}", str(file.schema.names), shard)]
    span = dataset.plan.shard(shard)
    problems: list[Problem] = []
    leaves: list[bytes] = []
    columns: dict[str, list[Any]] = {"index": [], "seed": [], "batch": [], "slot": []}
    columns |= {name: [] for name in splitting_columns(job.items)}
    for group in range(file.groups):
        table = file.table(group)
        for name, values in columns.items():
            values += table[name].to_pylist()
        leaves += _checksums(table, job.column, shard, problems)
    if columns["index"] != list(span):
        found = f"{len(leaves)} rows" + (f" from {columns['index'][0]}" if leaves else "")
        expected = f"items {span.start} … {span.stop - 1}"
        return None, len(leaves), [*problems, Problem("rows", expected, found, shard)]
    problems += _seed_problems(dataset, shard, columns)
    problems += _place_problems(dataset, shard, columns)
    compact = CompactRange.of(span.start, leaves)
    if compact.to_text() != footer.compact:
        problems.append(Problem("merkle", f"compact range {footer.compact[:80]}", compact.to_text()[:80], shard))
    return compact, len(leaves), problems


def _checksums(table: pa.Table, column: str, shard: int, problems: list[Problem]) -> Iterator[bytes]:
    """Leaf hashes of a row group's stored checksums, each compared with what its bytes give."""
    for chunk in table.select(["index", "dtype", "shape", column, "checksum"]).to_batches():
        index, dtype, shape, _, stored = chunk.columns
        data = chunk.column(column)
        for at in range(chunk.num_rows):
            computed = record.checksum(dtype[at].as_py(), shape[at].as_py(), memoryview(data[at].as_buffer()))
            written = stored[at].as_py()
            if computed != written:
                problems.append(Problem("checksum", written, computed, shard, index[at].as_py()))
            yield record.leaf(written)


def _seed_problems(dataset: Dataset, shard: int, columns: dict[str, list[Any]]) -> Iterator[Problem]:
    if "seed" in dataset.job.items.columns:
        return
    expected = seeds.derive(dataset.job.master_seed, np.array(columns["index"], np.int64))
    for at in np.flatnonzero(expected != np.array(columns["seed"], np.int64)):
        yield Problem("seed", str(expected[at]), str(columns["seed"][at]), shard, columns["index"][at])


def _place_problems(dataset: Dataset, shard: int, columns: dict[str, list[Any]]) -> Iterator[Problem]:
    job = dataset.job
    splitting = [columns[name] for name in splitting_columns(job.items)]
    settings = list(zip(*splitting, strict=True)) if splitting else []
    start = columns["index"][0]
    breaks = [start + at for at in range(1, len(settings)) if settings[at] != settings[at - 1]]
    plan = replace(dataset.plan, breaks=np.array(breaks, np.int64))
    for batch in plan.batches(shard):
        for slot, index in enumerate(range(batch.start, batch.stop)):
            found = (columns["batch"][index - start], columns["slot"][index - start])
            if found != (batch.number, slot):
                expected = f"batch {batch.number} slot {slot}"
                yield Problem("place", expected, f"batch {found[0]} slot {found[1]}", shard, index)


def _strangers(dataset: Dataset) -> Iterator[Problem]:
    for name in sorted(dataset.store.names(names.DATA)):
        number = shard_number(name)
        if number is None or number >= dataset.plan.shards:
            yield Problem("extra", f"only shards 0 … {dataset.plan.shards - 1} in {names.DATA}", name)


def _sums(dataset: Dataset, problems: list[Problem]) -> dict[int, str]:
    """File hashes by shard from SHA256SUMS; empty while the dataset is not complete."""
    if not dataset.store.exists(names.SUMS):
        if "root" in dataset.manifest:
            problems.append(Problem("manifest", names.SUMS, "no such file"))
        return {}
    data = dataset.store.get(names.SUMS)
    digest, recorded = hashlib.sha256(data).hexdigest(), dataset.manifest.get("files")
    if recorded is not None and digest != recorded:
        problems.append(Problem("manifest", f"{names.SUMS} with SHA-256 {recorded}", digest))
    found: dict[int, str] = {}
    for line in data.decode(errors="replace").splitlines():
        digest, _, name = line.partition("  ")
        number = shard_number(name.removeprefix(f"{names.DATA}/"))
        if number is not None:
            found[number] = digest
    return found


def _segment_problems(dataset: Dataset, segment: Segment, root: str) -> Iterator[Problem]:
    until = f"of the {segment.stop} items before the dataset grew"
    if root != segment.root:
        yield Problem("root", f"root {segment.root} {until}", root)
    digest = digest_of(segment, dataset.job)
    if digest != segment.job_digest:
        yield Problem("manifest", f"job digest {segment.job_digest} {until}", digest)


def _manifest_problems(dataset: Dataset, root: str | None) -> Iterator[Problem]:
    manifest, job = dataset.manifest, dataset.job
    if root is not None and manifest.get("root") != root:
        if "root" in manifest:
            yield Problem("root", str(manifest["root"]), root)
        else:
            yield Problem("manifest", "the root of a complete dataset", "none; 'reprobatch run' writes it")
    for key, expected in (("job_digest", job.digest), ("model_digest", job.pipeline.model_digest)):
        if manifest and manifest.get(key) != expected:
            yield Problem("manifest", f"{key} {expected}", str(manifest.get(key)))
