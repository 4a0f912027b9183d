"""Datasets made in this process: a worker's own shards, committed and completed as a run does it, without Ray."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from making import put_missing
from reprobatch import contract, manifest, runner
from reprobatch.claim import claim
from reprobatch.dataset import Dataset
from reprobatch.resolve import Resolved, load
from reprobatch.store import open_store
from reprobatch.worker import Worker

PROMPTS = ("a dog", "a small blue square on a green square", "A bear is playing a guitar", "the cat", "a red circle")


def stable_diffusion_folder(folder: Path) -> Path:
    """A folder with a tiny Stable Diffusion in ``model`` and four prompts in ``prompts.txt``."""
    import tiny

    tiny.stable_diffusion(folder / "model")
    (folder / "prompts.txt").write_text("\n".join(PROMPTS[:4]) + "\n")
    return folder


def write_job(path: Path, **job: Any) -> Path:
    """A job file; ``master_seed``, ``batch_size`` and ``shard_size`` have defaults here."""
    with path.open("w") as file:
        YAML(typ="safe").dump(
            {"name": path.stem, "master_seed": 2**70 + 1, "batch_size": 4, "shard_size": 4, **job}, file
        )
    return path


def chosen(resolved: Resolved) -> contract.Samples:
    """What a probe of a job runs."""
    return contract.samples(resolved.job, resolved.plan, resolved.reader.read)


def probed(resolved: Resolved, spoil: Callable[[Any], None] = lambda pipe: None) -> contract.Contract:
    """A job's contract as measured in this process, after ``spoil`` has had its way with the diffusers pipeline."""
    worker = Worker(resolved.job, resolved.model_hint)
    spoil(worker._pipeline.pipe)
    return worker.probe(chosen(resolved), fresh=False)


def made(job_file: Path, out: Path, *overrides: str, fresh: bool = False) -> Dataset:
    """A whole dataset with its contract, as measured here and, if ``fresh``, in a new process besides."""
    resolved = load(job_file, list(overrides))
    worker = Worker(resolved.job, resolved.model_hint)
    items = chosen(resolved)
    return committed(resolved, worker, worker.probe(items, fresh=fresh), items, out)


def committed(
    resolved: Resolved, worker: Worker, measured: contract.Contract, chosen: contract.Samples, out: Path
) -> Dataset:
    """All shards of a job by one worker, with the manifest that a run would have written."""
    store, plan = open_store(out), resolved.plan
    claim(store, resolved.job, resolved.reader.read)
    runner._remember_places(store, resolved)
    canary = {"checksum": contract.canary(worker.canary(chosen.first))}
    manifest.write(store, {"environment": worker.environment(), "canary": canary, "contract": measured.as_dict()})
    put_missing(resolved, plan, store, worker)
    manifest.complete(store, resolved.job, plan, {})
    return Dataset(out)
