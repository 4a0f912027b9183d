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
# as they are called beside the others
OURS = {"reprobatch": "reprobatch", "reprobatch_quick": "with `speed`", "reprobatch_compiled": "compiled"}
EACH_CORE = "processes"
NAMES = {
    "reprobatch": "reprobatch",
    "reprobatch_quick": "reprobatch, with `speed`",
    "reprobatch_compiled": "reprobatch, with `speed` and compiled",
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
    print()
    for ours, name in OURS.items():
        mine = [entry for entry in entries if entry["contender"] == ours]
        if not mine:
            continue
        over = [f"{size}: {overs:+.1f} s" for size in sizes if (overs := difference(ours, size, entries)) is not None]
        print(f"{name}, whole process over (b): {', '.join(over) or '-'}")
        shares = [f"{size}: {100 * share(mine, size):.1f} %" for size in sorted({entry["items"] for entry in mine})]
        print(f"{name}, share of the workers' time inside pipeline calls: {', '.join(shares)}")


def steps(sizes: list[int]) -> list[tuple[int, int]]:
    return list(itertools.pairwise(sizes))


def seconds(taken: list[float]) -> str:
    if not taken:
        return "-"
    return f"{statistics.median(taken):.1f} s [{min(taken):.1f} … {max(taken):.1f}]"


def rate(contender: str, small: int, large: int, entries: list[Entry]) -> str:
    """Steady state: the further items over the further seconds of one repetition; and beside reprobatch's."""
    mine = rates(contender, small, large, entries)
    if not mine:
        return "-"
    beside = []
    for ours, name in OURS.items() if contender not in OURS else ():
        theirs = rates(ours, small, large, entries)
        ratios = [theirs[n] / mine[n] for n in mine.keys() & theirs.keys()]
        beside += [f"{name}: {statistics.median(ratios):.2f} times"] if ratios else []
    return f"{statistics.median(mine.values()):.3g}" + (f" ({', '.join(beside)})" if beside else "")


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


def difference(ours: str, size: int, entries: list[Entry]) -> float | None:
    """Seconds that reprobatch's whole process takes longer than a process a core in the same repetition."""
    took = {(e["contender"], e["repetition"]): e["seconds"] for e in entries if e["items"] == size}
    pairs = [(took[ours, n], took[EACH_CORE, n]) for who, n in took if who == ours and (EACH_CORE, n) in took]
    return statistics.median(mine - theirs for mine, theirs in pairs) if pairs else None


def share(mine: Iterable[Entry], size: int) -> float:
    """Of the workers' time, inside pipeline calls."""
    return float(statistics.median(entry["share"] for entry in mine if entry["items"] == size))


if __name__ == "__main__":
    main()
