"""Commands that read a dataset: ``status``, ``show``."""

from __future__ import annotations

import click

from reprobatch.commands.common import as_json, dir_argument, show_result, shown


@click.command()
@dir_argument
@as_json
def status(dir: str, json_: bool) -> None:
    """Show how far a dataset is, from its folder alone."""
    from reprobatch.dataset import Dataset
    from reprobatch.status import SILENT
    from reprobatch.status import status as read

    now = read(Dataset(dir))
    shards = {"done": now.done, "running": now.running, "failed": now.failed, "total": now.total}
    rate = "nothing moving" if now.rate is None else f"{now.rate:.1f} items/s, {now.eta_seconds:.0f} s left"
    text = f"{now.done}/{now.total} shards done, {now.running} running, {now.failed} failed; {rate}"
    text += "".join(f"\n{count} worker{'s' * (count != 1)} on {host}" for host, count in now.workers.items())
    if now.silent_seconds is not None and now.silent_seconds > SILENT:
        text += f"\nthe run has said nothing for {now.silent_seconds:.0f} s; where its driver has died, run it again"
    facts = {"shards": shards, "rate": now.rate, "eta_seconds": now.eta_seconds, "workers": now.workers}
    facts["silent_seconds"] = now.silent_seconds
    show_result(facts, text, json_)


@click.command()
@dir_argument
@click.argument("index", type=int)
@as_json
def show(dir: str, index: int, json_: bool) -> None:
    """Show one item's row."""
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
