"""Which bits are equal: between two processes, between cuBLAS workspaces, and in a batch of each size."""

from __future__ import annotations

import gc
import os
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path
from typing import Any

import made
from report import Findings
from sizes import Sizes

from reprobatch import contract, fresh
from reprobatch.contract import Answer
from reprobatch.probes import same
from reprobatch.record import Output
from reprobatch.resolve import Resolved
from reprobatch.worker import Worker

WORKSPACES = (":16:8", ":4096:8")


def canaries(sizes: Sizes, work: Path, found: Findings) -> None:
    """The canary of a worker in this process, and of one in a new process."""
    found.table("A job's canary in two processes", ("pipeline", "dtype", "canary here", "equal in a new process"))
    pairs = list(product(made.PIPELINES, sizes.dtypes))
    jobs = [made.resolved(sizes, work, *pair, sizes.fresh_at) for pair in pairs]
    with _processes() as pool:
        elsewhere = [pool.submit(_attempt, job) for job in jobs]
        here = [_here(job) for job in jobs]
    for pair, mine, theirs in zip(pairs, here, (future.result() for future in elsewhere), strict=True):
        where = ", ".join(pair)
        if isinstance(mine, str) or isinstance(theirs, str):
            found.problem(f"{where}: here {_outcome(mine)}, in a new process {_outcome(theirs)}")
            continue
        answer = same(mine, theirs)
        found.row(*pair, contract.canary(mine)[:16], _cell(answer))
        if not answer.holds:
            found.problem(f"{where}: the canary differs between two processes (L_inf {answer.linf})")


def workspaces(sizes: Sizes, work: Path, found: Findings) -> None:
    """Each cuBLAS workspace in a process of its own: whether it starts, and whether the bits are equal."""
    columns = ("pipeline", "dtype", *(f"{w} starts" for w in WORKSPACES), "equal bits")
    found.table("The canary under two values of CUBLAS_WORKSPACE_CONFIG", columns)
    pairs = list(product(made.PIPELINES, sizes.dtypes))
    jobs = {
        (pipeline, dtype, workspace): made.resolved(sizes, work, pipeline, dtype, sizes.fresh_at, workspace)
        for (pipeline, dtype), workspace in product(pairs, WORKSPACES)
    }
    with _processes() as pool:
        outcomes = dict(zip(jobs, pool.map(_attempt, jobs.values()), strict=True))
    for pair in pairs:
        tried = [outcomes[(*pair, workspace)] for workspace in WORKSPACES]
        reasons = [outcome for outcome in tried if isinstance(outcome, str)]
        started = [not isinstance(outcome, str) for outcome in tried]
        found.row(*pair, *started, None if reasons else _cell(same(*tried)))  # type: ignore[arg-type]
        for reason in reasons:
            found.problem(f"{', '.join(pair)}: {reason}")


def sweep(sizes: Sizes, work: Path, found: Findings) -> None:
    """Every job's contract at every batch size."""
    columns = ("pipeline", "dtype", "batch", *contract.QUESTIONS, "item 0", "seconds")
    found.table("Contracts", columns)
    for pipeline, dtype, batch in product(made.PIPELINES, sizes.dtypes, sizes.sweep_batches):
        try:
            found.row(pipeline, dtype, batch, *_contract(sizes, work, pipeline, dtype, batch, found))
        except Exception as error:  # out of memory at 32 must not hide 16
            found.problem(f"{pipeline}, {dtype}, batch {batch}: {_text(error)}")
        _release(sizes)
    questions = "; ".join(f"*{name}*: {text}" for name, text in contract.QUESTIONS.items())
    found.note(
        f"{questions}. A number in brackets is the L_inf. *item 0* is the beginning of the checksum of the job's first "
        "item at two steps: rows of one pipeline and dtype that show the same gave it the same bits. A new process is "
        f"started at batch {sizes.fresh_at} only."
    )


def _contract(sizes: Sizes, work: Path, pipeline: str, dtype: str, batch: int, found: Findings) -> list[Any]:
    start = time.perf_counter()
    job = made.resolved(sizes, work, pipeline, dtype, batch)
    samples, worker = made.sampled(job), Worker(job.job, job.model_hint)
    measured = worker.probe(samples, fresh=batch == sizes.fresh_at)
    if measured.broken:
        causes = "; ".join(measured.causes)
        found.problem(f"{pipeline}, {dtype}, batch {batch}: {', '.join(measured.broken)} broken ({causes})")
    item = worker.canary(samples.first)[0].checksum[:8]
    cells = [_cell(measured[name]) for name in contract.QUESTIONS]
    return [*cells, item, round(time.perf_counter() - start, 1)]


def _attempt(job: Resolved) -> list[Output] | str:
    """A canary from a new process, or why there is none."""
    try:
        return fresh.canary_outputs(job.job, job.model_hint, made.sampled(job).first)
    except Exception as error:
        return f"{job.job.determinism.cublas_workspace}: {_text(error)}"


def _here(job: Resolved) -> list[Output] | str:
    """A canary from this process, or why there is none."""
    try:
        return Worker(job.job, job.model_hint).canary(made.sampled(job).first)
    except Exception as error:  # one job's failure must not hide the others
        return _text(error)


def _outcome(made_or_why: list[Output] | str) -> str:
    return made_or_why if isinstance(made_or_why, str) else "well"


def _processes() -> ThreadPoolExecutor:
    """Threads that wait for new processes: as many at once as there are cores for."""
    return ThreadPoolExecutor(max(1, min(4, (os.cpu_count() or 1) // 4)))


def _release(sizes: Sizes) -> None:
    import torch

    gc.collect()
    if sizes.device == "cuda":
        torch.cuda.empty_cache()


def _cell(answer: Answer) -> str | None:
    if answer.holds is None:
        return None
    if answer.holds:
        return "yes"
    measure = [f"{answer.linf:.2g}"] if answer.linf is not None else []
    return f"no ({', '.join([*measure, *([answer.why] if answer.why else [])]) or 'not comparable'})"


def _text(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
