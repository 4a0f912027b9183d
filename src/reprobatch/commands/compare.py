"""The command that lays two datasets side by side: ``compare``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from reprobatch.commands import complete
from reprobatch.commands.common import DIFFERS, DONE, as_json, show_result

_BAR = 40  # characters of the longest bar


@click.command()
@click.argument("a", shell_complete=complete.datasets)
@click.argument("b", shell_complete=complete.datasets)
@click.option("--atol", type=click.FloatRange(0), metavar="X", help="Absolute tolerance; else the job's of A.")
@click.option("--rtol", type=click.FloatRange(0), metavar="X", help="Relative tolerance; else the job's of A.")
@click.option("--plot", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE.png", help="Draw how far apart.")
@as_json
def compare(a: str, b: str, atol: float | None, rtol: float | None, plot: Path | None, json_: bool) -> None:
    """Compare two datasets item by item: identical, within tolerance, different.

    \b
    reprobatch compare digits other
    reprobatch compare digits other --atol 1e-5 --plot apart.png

    Within means |a - b| <= atol + rtol * |a| for every value of an item. The exit code is 0 where all
    items are identical or within and none is missing.
    """
    from reprobatch import compare as core
    from reprobatch.dataset import Dataset
    from reprobatch.progress import Progress

    if plot is not None:
        core.check_plot(plot)
    one, other = Dataset(a), Dataset(b)
    before = {
        "job_differs": core.job_differences(one, other),
        "environment_differs": core.environment_differences(one, other),
    }
    if not json_:
        click.echo(_before(a, b, before), nl=False)
    flags = {name: value for name, value in (("atol", atol), ("rtol", rtol)) if value is not None}
    with Progress(max(len(one), len(other)), label="items compared") as progress:
        report = core.compare(one, other, one.job.tolerance.model_copy(update=flags), progress.add)
    facts = {**report.facts(), **before}
    if plot is not None:
        core.plot(report.statistics.histogram, plot, f"A: {a}   B: {b}")
    show_result(facts, "\n".join(_lines(facts)), json_)
    sys.exit(DONE if report.passed else DIFFERS)


def _before(a: str, b: str, differs: dict[str, list[str]]) -> str:
    heads = {"job_differs": f"jobs differ (here {a}, there {b}):"}
    heads["environment_differs"] = f"environments differ (first {a}, recorded {b}):"
    return "".join(
        "\n".join([heads[key], *(f"  {line}" for line in lines)]) + "\n" for key, lines in differs.items() if lines
    )


def _lines(facts: dict[str, Any]) -> list[str]:
    tolerance, measured, missing = facts["tolerance"], facts["measured"], facts["missing"]
    verdicts = ", ".join(f"{facts[verdict]} {verdict}" for verdict in ("identical", "within", "different"))
    lines = [f"{verdicts} (atol {tolerance['atol']:g}, rtol {tolerance['rtol']:g})"]
    if measured["items"]:
        lines.append(f"L_inf {_number(measured['linf'])}, RMS {_number(measured['rms'])}, cosine {measured['cosine']}")
    without = facts["histogram"]["none"]
    if without:
        lines.append(
            f"{without} items have no L_inf (other shapes, or values that are not finite) and are left out of that"
        )
    if any(missing.values()):
        lines.append(f"missing: {missing['a']} items in A, {missing['b']} in B")
    if facts["seeds_differ"]:
        lines.append(f"{facts['seeds_differ']} items have other seeds in A than in B: they started from other noise")
    return lines + (_distribution(facts) if facts["worst"] else []) + _worst(facts["worst"])


def _distribution(facts: dict[str, Any]) -> list[str]:
    histogram, at_most = facts["histogram"], facts["quantiles"]
    rows = [(f"{b['from']:.0e} … {b['to']:.0e}", b["items"]) for b in histogram["buckets"]]
    rows = [("0", histogram["zero"]), *rows, ("none", histogram["none"])]
    most = max(items for _, items in rows)
    lines = ["L_inf of an item:"]
    lines += [f"  {name:>15} {items:>9} {'#' * -(-_BAR * items // most)}" for name, items in rows if items]
    if at_most["p50"] is not None:
        shares = (f"{name.removeprefix('p')} % {_number(value)}" for name, value in at_most.items())
        lines.append(f"  at most, of items: {', '.join(shares)}")
    return lines


def _worst(worst: list[dict[str, Any]]) -> list[str]:
    if not worst:
        return []
    lines = [f"worst {len(worst)}:", f"  {'item':>9} {'L_inf':>9} {'RMS':>9}  {'cosine':<15} checksums"]
    for item in worst:
        sums = "  ".join(f"{checksum[:12]}…" for checksum in item["checksums"].values())
        cosine = "none" if item["cosine"] is None else f"{item['cosine']:.13f}"
        why = f"  ({item['why']})" if item["why"] else ""
        apart = f"{_number(item['linf']):>9} {_number(item['rms']):>9}  {cosine:<15}"
        lines.append(f"  {item['index']:>9} {apart} {sums}{why}")
    return lines


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.3g}"
