"""Where a worker's time goes while it makes shards: outside the pipeline, and by operator inside.

    python benchmarks/profile_worker.py                       # the digits job, 2 steps: under a minute
    python benchmarks/profile_worker.py -s call.num_inference_steps=20

A worker without Ray, in this process. First its own stages, timed around what they call; then torch's profiler.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

from reprobatch import determinism
from reprobatch.resolve import load

SHARDS = 8
TOP = 12


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("job", nargs="?", default="jobs/digits.yaml")
    parser.add_argument("-s", dest="overrides", action="append", default=[])
    given = parser.parse_args()
    resolved = load(given.job, given.overrides or ["call.num_inference_steps=2"])
    determinism.prepare(resolved.job.determinism, resolved.job.workers.threads)
    from torch.profiler import ProfilerActivity, profile

    from reprobatch import record, worker
    from reprobatch.worker import Worker

    spent: dict[str, float] = {}
    made = Worker(resolved.job, resolved.model_hint)
    plan = resolved.plan

    def shard(number: int) -> None:
        span = plan.shard(number)
        made.shard(number, plan.batches(number), resolved.reader.read(span.start, span.stop))

    shard(0)
    _timed(spent, made._pipeline, "generate", "pipeline call")
    _timed(spent, record.ShardWriter, "add", "rows, checksums, Merkle leaves, Parquet")
    _timed(spent, record.ShardWriter, "finish", "end of a file")
    _timed(spent, worker, "sha256_of", "SHA-256 of the file")
    began = time.perf_counter()
    for number in range(SHARDS):
        shard(number)
    whole = time.perf_counter() - began
    print(f"| {SHARDS} shards of {len(plan.shard(0))} items | s | of the time |\n|---|---:|---:|")
    for stage, seconds in {"all": whole, **spent}.items():
        print(f"| {stage} | {seconds:.3f} | {100 * seconds / whole:.1f} % |")
    batch = resolved.reader.read(0, resolved.job.batch_size)
    with profile(activities=[ProfilerActivity.CPU]) as profiled:  # which sees the operators of its own thread
        made._pipeline.generate(batch, list(range(len(batch))))
    averages = sorted(profiled.key_averages(), key=lambda each: -each.self_cpu_time_total)
    total = sum(each.self_cpu_time_total for each in averages)
    print("\n| operator | calls | of the operators' time |\n|---|---:|---:|")
    for each in averages[:TOP]:
        print(f"| `{each.key}` | {each.count} | {100 * each.self_cpu_time_total / total:.1f} % |")


def _timed(spent: dict[str, float], owner: Any, name: str, stage: str) -> None:
    """Count the seconds inside a function; some run beside the pipeline, in a thread of their own."""
    function: Callable[..., Any] = getattr(owner, name)

    def timed(*args: Any, **kwargs: Any) -> Any:
        began = time.perf_counter()
        try:
            return function(*args, **kwargs)
        finally:
            spent[stage] = spent.get(stage, 0.0) + time.perf_counter() - began

    setattr(owner, name, timed)


if __name__ == "__main__":
    main()
