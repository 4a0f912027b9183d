"""What ``run.py`` measured, as the tables of ``docs/performance.md``: medians, and ranges in brackets."""

from __future__ import annotations

import itertools
import json
import statistics
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

Entry = dict[str, Any]
OURS, EACH_CORE = "reprobatch", "processes"
NAMES = {
    "reprobatch": "reprobatch",
    "reprobatch_quick": "reprobatch with `speed`",
    "plain": "(a) plain loop, all cores",
    "processes": "(b) torch.multiprocessing",
    "ray_data": "(c) Ray Data",
    "accelerated": "(d) accelerate",
}


def main() -> None:
    entries = [json.loads(line) for line in Path(sys.argv[1]).read_text().splitlines()]
    for case in dict.fromkeys(entry["case"] for entry in entries):
        show(case, [entry for entry in entries if entry["case"] == case])


def show(case: str, entries: list[Entry]) -> None:
    sizes = sorted({entry["items"] for entry in entries})
    print(f"\n### {case}: {len({entry['repetition'] for entry in entries})} repetitions\n")
    head = [*(f"{size} items" for size in sizes), "peak memory"]
    if len(sizes) > 1:
        head += [f"items/s, {small} → {large}" for small, large in steps(sizes)]
        head += ["CPU s an item"]
    print(f"| | {' | '.join(head)} |\n|---|{'---:|' * len(head)}")
    for contender, name in NAMES.items():
        mine = [entry for entry in entries if entry["contender"] == contender]
        if not mine:
            continue
        cells = [seconds([e["seconds"] for e in mine if e["items"] == size]) for size in sizes]
        cells.append(f"{max(e['peak'] for e in mine) / 1e6:.0f} MB")
        if len(sizes) > 1:
            cells += [rate(contender, small, large, entries) for small, large in steps(sizes)]
            cells.append(f"{cpu(mine, sizes[0], max(e['items'] for e in mine)):.4f}")
        print(f"| {name} | {' | '.join(cells)} |")
    over = [f"{size}: {difference(entries, size):+.1f} s" for size in sizes]
    print(f"\nwhole process over (b), medians: {', '.join(over)}")
    shares = [f"{size}: {100 * share:.1f} %" for size in sizes for share in [inside(entries, size)]]
    print(f"share of the workers' time inside pipeline calls: {', '.join(shares)}")


def steps(sizes: list[int]) -> list[tuple[int, int]]:
    return list(itertools.pairwise(sizes))


def seconds(taken: list[float]) -> str:
    if not taken:
        return "-"
    return f"{statistics.median(taken):.1f} s [{min(taken):.1f} … {max(taken):.1f}]"


def rate(contender: str, small: int, large: int, entries: list[Entry]) -> str:
    """Steady state: the further items over the further seconds of one repetition; and beside reprobatch's."""
    mine, ours = rates(contender, small, large, entries), rates(OURS, small, large, entries)
    if not mine:
        return "-"
    ratios = [ours[n] / mine[n] for n in mine.keys() & ours.keys()]
    beside = "" if contender == OURS or not ratios else f" (reprobatch: {statistics.median(ratios):.2f} times)"
    return f"{statistics.median(mine.values()):.0f}{beside}"


def rates(contender: str, small: int, large: int, entries: list[Entry]) -> dict[int, float]:
    at = {
        (entry["repetition"], entry["items"]): entry["seconds"] for entry in entries if entry["contender"] == contender
    }
    both = {repetition for repetition, _ in at if (repetition, small) in at and (repetition, large) in at}
    return {n: (large - small) / (at[n, large] - at[n, small]) for n in both}


def cpu(mine: list[Entry], small: int, large: int) -> float:
    """CPU seconds that an item more takes."""
    middle = {size: statistics.median(e["cpu"] for e in mine if e["items"] == size) for size in (small, large)}
    return float((middle[large] - middle[small]) / (large - small))


def difference(entries: list[Entry], size: int) -> float:
    """Seconds of the whole process that reprobatch takes longer than a process a core."""
    return middle(entries, OURS, size) - middle(entries, EACH_CORE, size)


def middle(entries: Iterable[Entry], contender: str, size: int) -> float:
    return statistics.median(e["seconds"] for e in entries if (e["contender"], e["items"]) == (contender, size))


def inside(entries: Iterable[Entry], size: int) -> float:
    return statistics.median(e["share"] for e in entries if (e["contender"], e["items"]) == (OURS, size))


if __name__ == "__main__":
    main()
