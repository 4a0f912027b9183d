"""The command that reads a row of a dataset: ``show``."""

from __future__ import annotations

import click

from reprobatch.commands.common import as_json, dir_argument, show_result, shown


@click.command()
@dir_argument
@click.argument("index", type=int)
@as_json
def show(dir: str, index: int, json_: bool) -> None:
    """Show one item's row: its seed, place, arguments and checksum.

    \b
    reprobatch show digits 42
    reprobatch show s3://bucket/digits 42 --json
    """
    from reprobatch.dataset import Dataset

    row, _ = Dataset(dir).look_up(index)
    facts = {
        "index": row.index,
        "seed": row.seed,
        "batch": row.batch,
        "slot": row.slot,
        **row.item,
        "dtype": row.output.dtype,
        "shape": list(row.output.shape),
        **{name: f"{each.dtype} {list(each.shape)}" for name, each in row.output.also.items()},
        "checksum": row.checksum,
    }
    show_result(facts, "\n".join(f"{name}: {shown(value)}" for name, value in facts.items()), json_)
