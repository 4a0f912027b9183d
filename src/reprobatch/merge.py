"""One dataset from parts that were made apart: the bytes of one run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from reprobatch import canonical, environment, manifest
from reprobatch.claim import claim
from reprobatch.dataset import Dataset
from reprobatch.errors import DataError, EnvironmentDiffers, JobError, RunFailed
from reprobatch.shardcheck import check_shard
from reprobatch.store import open_store, shard_name


def merge(parts: Sequence[Dataset], out: Path | str, on_items: Callable[[int], None] = lambda items: None) -> str:
    """Put the shards of several datasets of one job together in ``out``; returns the root, hex.

    Every shard is checked before it is copied; one that several parts hold must be equal in all.
    ``on_items`` is told the items of each shard as it is there. Raises :class:`JobError` for parts of
    different jobs, :class:`EnvironmentDiffers` for parts whose canaries differ, :class:`DataError` for a
    shard that is damaged or not the same twice, and :class:`RunFailed` where shards are in no part; what
    was copied is kept.
    """
    first = parts[0]
    for part in parts[1:]:
        _check_same(first, part)
    store = open_store(out)
    claim(store, first.job, _no_growth)
    entries = _entries(parts)
    if first.segments:
        entries["segments"] = [segment.as_dict() for segment in first.segments]
    manifest.write(store, {**entries, **manifest.describe(first.job, first.plan)})
    for part in parts:
        for shard in sorted(part.store.shards()):
            problems = check_shard(part, shard, None).problems
            if problems:
                raise DataError(f"{part.store}: {problems[0]}; see 'reprobatch verify'")
            store.put_new(shard_name(shard), part.store.get(shard_name(shard)))
            on_items(len(first.plan.shard(shard)))
    missing = sorted(set(range(first.plan.shards)) - set(store.shards()))
    if missing:
        raise RunFailed(
            f"expected {first.plan.shards} shards in all parts together, found {len(missing)} missing; first: "
            f"{shard_name(missing[0])}; merge the other parts into the same place, or run the job there"
        )
    return manifest.complete(store, first.job, first.plan, {})


def _check_same(one: Dataset, other: Dataset) -> None:
    if one.job.digest != other.job.digest:
        found = "; ".join(canonical.differences(one.job.as_dict(), other.job.as_dict()))
        raise JobError(f"expected parts of one job, found others in '{one.store}' (here) and '{other.store}': {found}")
    if one.segments != other.segments:
        raise JobError(f"expected parts that grew alike, found '{one.store}' and '{other.store}' with other segments")


def _entries(parts: Sequence[Dataset]) -> dict[str, Any]:
    """What the manifests say of canary, contract and environment: they have to agree, or be many."""
    known = [part for part in parts if "canary" in part.manifest]
    if not known:
        return {}
    first = known[0].manifest
    many: dict[str, Any] = {}
    for part in known:
        many |= part.manifest.get("environments", {})
        if part.manifest["canary"] != first["canary"] and parts[0].job.environments == "one":
            differ = environment.explain(part.manifest["environment"], first["environment"])
            raise EnvironmentDiffers(
                f"expected parts made by machines that give the same bits, found '{part.store}' with another canary "
                f"than '{known[0].store}'; what differs: {'; '.join(differ) or 'nothing that is recorded'}"
            )
    kept = {name: first[name] for name in ("environment", "canary", "contract")}
    return {**kept, **({"environments": many} if many else {})}


def _no_growth(start: int, stop: int) -> list[dict[str, Any]]:
    raise JobError("expected --out to be a new place or this job's, found a shorter job's dataset; give another")
