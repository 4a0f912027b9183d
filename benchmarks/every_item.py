"""Regenerates every item of a dataset, by replay and alone, and counts those whose checksums are equal.

    python benchmarks/every_item.py digits        # a thousand digits: a few minutes on 2 cores

Starts ``--processes`` fresh processes, none of which made the dataset. Exits 1 if any item differs.
"""

from __future__ import annotations

import argparse
import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor

from reprobatch.dataset import Dataset
from reprobatch.regenerate import Regenerator


def share(folder: str, number: int, of: int) -> tuple[int, int]:
    """Items equal by replay, and alone, of every ``of``-th batch from ``number``."""
    regenerator = Regenerator(Dataset(folder))
    dataset, step = regenerator.dataset, regenerator.dataset.job.batch_size
    replayed = alone = 0
    for start in range(number * step, len(dataset), of * step):
        _, batch = dataset.look_up(start)
        made = regenerator.batch(batch)
        replayed += sum(m.comparison.verdict == "identical" for m in made)
        alone += sum(regenerator(m.index, alone=True).comparison.verdict == "identical" for m in made)
    return replayed, alone


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset")
    parser.add_argument("--processes", type=int, default=2)
    arguments = parser.parse_args()
    start, count = time.monotonic(), len(Dataset(arguments.dataset))
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(arguments.processes, context) as pool:
        tasks = [
            pool.submit(share, arguments.dataset, number, arguments.processes) for number in range(arguments.processes)
        ]
        found = [task.result() for task in tasks]
    replayed, alone = (sum(column) for column in zip(*found, strict=True))
    print(f"{count} items: {replayed} equal by replay, {alone} equal alone, {time.monotonic() - start:.0f} s")
    return 0 if replayed == alone == count else 1


if __name__ == "__main__":
    raise SystemExit(main())
