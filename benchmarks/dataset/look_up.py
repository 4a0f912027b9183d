"""What it takes to look one item up, in datasets of 10^3 to 10^7 rows.

    python benchmarks/dataset/look_up.py                 # some minutes, and 2 GB of disk for 10^7 rows
    python benchmarks/dataset/look_up.py --largest 100000

Latents of 16 values, 10 000 items a shard. Each figure is the median of 100 look-ups at random places,
in rounds over all datasets, so that whatever else the machine does falls on all of them alike.
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from pathlib import Path
from statistics import median

from made_up import make

from reprobatch.dataset import Dataset

SHARD = 10_000
LOOK_UPS = 100


def bytes_read() -> int:
    return int(Path("/proc/self/io").read_text().split()[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--largest", type=int, default=10**7)
    arguments = parser.parse_args()
    dice = random.Random(1)
    with tempfile.TemporaryDirectory() as folder:
        sizes = [10**k for k in range(3, 8) if 10**k <= arguments.largest]
        for size in sizes:
            begin = time.monotonic()
            make(Path(folder) / str(size), size, (16,), "float32", SHARD)
            print(f"{size} rows made in {time.monotonic() - begin:.0f} s", flush=True)
        opened = {size: Dataset(Path(folder) / str(size)) for size in sizes}
        times: dict[int, list[float]] = {size: [] for size in sizes}
        read: dict[int, list[int]] = {size: [] for size in sizes}
        opening: dict[int, list[float]] = {size: [] for size in sizes}
        for _ in range(LOOK_UPS):
            for size, dataset in opened.items():
                begin = time.perf_counter()
                Dataset(Path(folder) / str(size)).plan.shards  # noqa: B018  # job.json and manifest.json
                opening[size].append(time.perf_counter() - begin)
                index, before, begin = dice.randrange(size), bytes_read(), time.perf_counter()
                row, _ = dataset.look_up(index)
                times[size].append(time.perf_counter() - begin)
                read[size].append(bytes_read() - before)
                assert row.index == index and row.checksum == row.stored
    print("\n| rows | shards | opening the dataset | a look-up | bytes read |\n|---:|---:|---:|---:|---:|")
    for size in sizes:
        print(
            f"| {size} | {opened[size].plan.shards} | {1e3 * median(opening[size]):.2f} ms "
            f"| {1e3 * median(times[size]):.1f} ms | {median(read[size]):.0f} |"
        )


if __name__ == "__main__":
    main()
