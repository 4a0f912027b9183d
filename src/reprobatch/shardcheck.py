"""One shard against everything that is said of it: its file's hash, its footer, its rows, its checksums."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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
from reprobatch.shardfile import DAMAGED, ShardFile, one_line
from reprobatch.store import shard_name

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
    "model",
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


@dataclass(frozen=True)
class Checked:
    """What a shard was found to hold: the compact range as computed (``None`` if unknown), rows and batches."""

    compact: CompactRange | None = None
    rows: int = 0
    batches: int = 0
    problems: list[Problem] = field(default_factory=list)


def check_shard(dataset: Dataset, shard: int, sha256: str | None) -> Checked:
    """Check one shard; ``sha256`` is its file's, where it is recorded."""
    name = shard_name(shard)
    try:
        found, opened = dataset.store.open_hashed(name)
    except FileNotFoundError:
        return Checked(problems=[Problem("missing", "this shard", "no file; 'reprobatch run' makes it", shard)])
    except OSError as error:
        return Checked(problems=[Problem("unreadable", "a file that can be read", one_line(error), shard)])
    problems: list[Problem] = []
    if sha256 not in (None, found):
        problems.append(Problem("file", f"SHA-256 {sha256} of {names.SUMS}", found, shard))
    try:
        with ShardFile(opened, name) as file:
            inside = _contents(dataset, shard, file)
    except DataError as error:
        return Checked(problems=[*problems, Problem("unreadable", "a shard of this job", str(error), shard)])
    except DAMAGED as error:
        return Checked(
            problems=[*problems, Problem("unreadable", "a Parquet file with sound pages", one_line(error), shard)]
        )
    return replace(inside, problems=problems + inside.problems)


def _contents(dataset: Dataset, shard: int, file: ShardFile) -> Checked:
    job = dataset.job
    footer, made_for = file.footer(), dataset.job_digest(shard)
    if footer.job != made_for:
        return Checked(problems=[Problem("foreign", f"job digest {made_for}", footer.job, shard)])
    if footer.shard != shard:
        return Checked(problems=[Problem("doubled", f"shard {shard}", f"shard {footer.shard} under its name", shard)])
    expected_schema = record.schema(job.items.columns, job.column, job.also)
    if not file.schema.equals(expected_schema):
        return Checked(problems=[Problem("rows", f"columns {expected_schema.names}", str(file.schema.names), shard)])
    span = dataset.plan.shard(shard)
    problems: list[Problem] = []
    leaves: list[bytes] = []
    columns: dict[str, list[Any]] = {"index": [], "seed": [], "batch": [], "slot": []}
    columns |= {name: [] for name in splitting_columns(job.items)}
    for group in range(file.groups):
        table = file.table(group)
        for name, values in columns.items():
            values += table[name].to_pylist()
        leaves += _checksums(table, job.column, job.also, shard, problems)
    if columns["index"] != list(span):
        found = f"{len(leaves)} rows" + (f" from {columns['index'][0]}" if leaves else "")
        expected = f"items {span.start} … {span.stop - 1}"
        return Checked(rows=len(leaves), problems=[*problems, Problem("rows", expected, found, shard)])
    problems += _seed_problems(dataset, shard, columns)
    problems += _place_problems(dataset, shard, columns)
    compact = CompactRange.of(span.start, leaves)
    if compact.to_text() != footer.compact:
        problems.append(Problem("merkle", f"compact range {footer.compact[:80]}", compact.to_text()[:80], shard))
    return Checked(compact, len(leaves), columns["batch"][-1] + 1, problems)


def _checksums(
    table: pa.Table, column: str, also: Sequence[str], shard: int, problems: list[Problem]
) -> Iterator[bytes]:
    """Leaf hashes of a row group's stored checksums, each compared with what its bytes give."""
    outputs = [("dtype", "shape", column), *(record.columns_of(name) for name in also)]
    for chunk in table.to_batches():
        index, stored = chunk.column("index"), chunk.column("checksum")
        parts = [[chunk.column(name) for name in names] for names in outputs]
        for at in range(chunk.num_rows):
            own, *further = (
                record.checksum(dtype[at].as_py(), shape[at].as_py(), memoryview(data[at].as_buffer()))
                for dtype, shape, data in parts
            )
            computed = record.combined(own, dict(zip(also, further, strict=True)))
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
