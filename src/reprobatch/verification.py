"""Checks everything a dataset says of itself: files, rows, checksums, root.

Reads every byte once per check and makes nothing again; ``verify --regenerate`` adds that. Problems
are collected, not raised: a damaged shard must not hide the next one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Literal

from reprobatch import attachments, canonical
from reprobatch import store as names
from reprobatch.dataset import Dataset
from reprobatch.errors import DataError, JobError
from reprobatch.manifest import describe
from reprobatch.merkle import CompactRange
from reprobatch.segments import Segment, digest_of
from reprobatch.shardcheck import Checked, Problem, check_shard
from reprobatch.store import shard_number


@dataclass
class Report:
    """What ``verify`` found: the root as computed from the checksums, where every shard is there.

    ``model`` says whether the model's digest was worked out again, or why not.
    """

    verdict: Literal["intact", "damaged", "incomplete"]
    root: str | None
    items: int
    problems: list[Problem] = field(default_factory=list)
    model: str = "recomputed"


Check = Callable[[Dataset, Iterable[int], dict[int, str]], Iterator[Checked]]


def verify(
    dataset: Dataset,
    on_shard: Callable[[int], None] = lambda items: None,
    check: Check | None = None,
    places: Mapping[str, str] | None = None,
) -> Report:
    """Check a whole dataset; ``on_shard`` is told the items of each shard as it is done.

    ``check`` checks shards, given their numbers and the hashes of their files, in that order; without
    it the threads of this process do. ``places`` says where the model and what is put into it lie here.
    """
    model, problems = _model(dataset, {**dataset.places, **(places or {})})
    problems += _strangers(dataset)
    sums = _sums(dataset, problems)
    root: CompactRange | None = CompactRange.of(0, [])
    earlier = {segment.stop: segment for segment in dataset.segments}
    items = batches = 0
    for found in (check or _check_here)(dataset, range(dataset.plan.shards), sums):
        problems += found.problems
        items, batches = items + found.rows, batches + found.batches
        root = root.merge(found.compact) if root is not None and found.compact is not None else None
        if root is not None and root.end in earlier:
            problems += _segment_problems(dataset, earlier[root.end], root.root().hex())
        on_shard(found.rows)
    head = root.root().hex() if root is not None else None
    problems += _manifest_problems(dataset, head, batches)
    missing = [p for p in problems if p.kind == "missing"]
    verdict: Any = "intact" if not problems else "incomplete" if len(missing) == len(problems) else "damaged"
    return Report(verdict, head, items, problems, model)


def _check_here(dataset: Dataset, shards: Iterable[int], sums: dict[int, str]) -> Iterator[Checked]:
    with ThreadPoolExecutor() as pool:
        yield from pool.map(lambda shard: check_shard(dataset, shard, sums.get(shard)), shards)


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


def _model(dataset: Dataset, places: Mapping[str, str]) -> tuple[str, list[Problem]]:
    """Whether the model's digest was worked out again, and what is wrong with it. Downloads nothing."""
    spec = dataset.job.pipeline
    pinned: dict[str, Any] = {"model": spec, **spec.attachments}
    away = [name for name, each in pinned.items() if each.revision is not None and name not in places]
    if away:
        return f"not recomputed: {away[0]} is on the hub; --model or --place says where it lies here", []
    try:
        attachments.locate_all(spec.model, spec.revision, spec.model_digest, spec.attachments, places)
    except JobError as error:
        return f"not recomputed: {error}", []
    except DataError as error:
        return "other", [Problem("model", f"model digest {spec.model_digest}", str(error))]
    return "recomputed", []


def _segment_problems(dataset: Dataset, segment: Segment, root: str) -> Iterator[Problem]:
    until = f"of the {segment.stop} items before the dataset grew"
    if root != segment.root:
        yield Problem("root", f"root {segment.root} {until}", root)
    digest = digest_of(segment, dataset.job)
    if digest != segment.job_digest:
        yield Problem("manifest", f"job digest {segment.job_digest} {until}", digest)


def _manifest_problems(dataset: Dataset, root: str | None, batches: int) -> Iterator[Problem]:
    """What the manifest says, against what follows from the job and the shards; ``root`` where all are sound."""
    manifest, job = dataset.manifest, dataset.job
    text = dataset.store.get(names.JOB).decode(errors="replace").strip()
    if text != job.canonical:
        yield Problem("manifest", f"{names.JOB} in canonical form", "other text that means the same")
    if root is not None and manifest.get("root") != root:
        if "root" in manifest:
            yield Problem("root", str(manifest["root"]), root)
        else:
            yield Problem("manifest", "the root of a complete dataset", "none; 'reprobatch run' writes it")
    if not manifest:
        return
    for name, expected in describe(job, dataset.plan).items():
        if name != "plan" and manifest.get(name) != expected:
            yield Problem("manifest", f"{name} {expected}", str(manifest.get(name)))
    said = manifest.get("plan")
    plan = describe(job, dataset.plan)["plan"]
    if root is not None:
        plan |= {"batches": batches, "padded": batches * job.batch_size - plan["items"]}
        if said != plan:
            yield Problem("manifest", f"plan {canonical.dumps(plan)}", canonical.shown(said))
