"""The command line: the only place that prints.

Results go to stdout, everything else to stderr. Commands import what they need when they run, so that
``--help`` is quick and ``verify`` never loads torch.
"""

from __future__ import annotations

import errno
import json
import os
import signal
import sys
import traceback
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from reprobatch.errors import ReprobatchError, suggestion

DONE, DIFFERS, COULD_NOT, INTERRUPTED = 0, 1, 2, 130
_BAD_PATH = {
    errno.EACCES,
    errno.EISDIR,
    errno.ELOOP,
    errno.ENAMETOOLONG,
    errno.ENOTDIR,
    errno.EPERM,
    errno.EROFS,
}


class _Group(click.Group):
    """Suggests the nearest command for a mistyped one, in one line."""

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        name = args[0] if args else ""
        if name and not name.startswith("-") and self.get_command(ctx, name) is None:
            raise click.UsageError(f"no command '{name}'{suggestion(name, self.commands)}")
        return super().resolve_command(ctx, args)


as_json = click.option("--json", "json_", is_flag=True, help="One JSON document on stdout, nothing else there.")
overrides = click.option(
    "-s",
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY.SUB=VALUE",
    help="Override a value of the job; repeatable.",
)
model_option = click.option("--model", metavar="PATH", help="Where a folder model lies on this machine.")
_FOLDER = click.Path(path_type=Path, file_okay=False)
job_argument = click.argument("job", type=click.Path(path_type=Path))
dir_argument = click.argument("dir", type=click.Path(path_type=Path))


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option("--debug", is_flag=True, help="Show tracebacks.")
@click.version_option(package_name="reprobatch", message="%(prog)s %(version)s")
def cli(debug: bool) -> None:
    """Batch generation whose every item can be made again, bit for bit.

    \b
    reprobatch run jobs/digits.yaml --out digits
    reprobatch regenerate digits 42
    reprobatch verify digits

    Exit codes: 0 same or done, 1 differs, corrupt or failed, 2 could not run.
    """


@cli.command()
@job_argument
@click.option("--out", required=True, type=_FOLDER, help="Dataset folder; new, or this job's.")
@click.option("--workers", type=click.IntRange(1), metavar="N", help="At most N workers at once.")
@click.option("--address", metavar="ADDRESS", help="Ray cluster to join, instead of RAY_ADDRESS or a local one.")
@overrides
@as_json
def run(
    job: Path, out: Path, workers: int | None, address: str | None, overrides: tuple[str, ...], json_: bool
) -> None:
    """Make a job's dataset, or what is missing of it.

    \b
    reprobatch run jobs/digits.yaml --out digits
    reprobatch run jobs/digits.yaml --out digits -s items.repeat=10 --workers 2
    """
    from reprobatch.resolve import load

    resolved = load(job, list(overrides))
    _warn_repeated_seeds(resolved)
    from reprobatch.runner import run as run_job  # loads ray: not before the job is known to be right

    with _RunView() as view:
        outcome = run_job(resolved, out, workers=workers, address=address, on_event=view)
    text = f"{outcome.items} items ({outcome.made} made now) in {outcome.seconds:.1f} s\nroot {outcome.root}"
    _print(asdict(outcome), text, json_)


@cli.command()
@job_argument
@overrides
@as_json
def plan(job: Path, overrides: tuple[str, ...], json_: bool) -> None:
    """Show what a job would make: items, shards, batches, bytes, first seeds."""
    import numpy as np

    from reprobatch import seeds
    from reprobatch.estimate import output_bytes
    from reprobatch.resolve import load

    resolved = load(job, list(overrides))
    plan, first = resolved.plan, min(5, resolved.plan.count)
    explicit = [item["seed"] for item in resolved.reader.read(0, first) if "seed" in item]
    each = output_bytes(resolved.job, resolved.model.folder)
    facts = {
        "items": plan.count,
        "shards": plan.shards,
        "batches": plan.total_batches,
        "padded": plan.padded,
        "bytes": None if each is None else each * plan.count,
        "seeds": explicit or seeds.derive(resolved.job.master_seed, np.arange(first)).tolist(),
        "job_digest": resolved.job.digest,
    }
    _print(facts, "\n".join(f"{name}: {_shown(value)}" for name, value in facts.items()), json_)


@cli.command()
@dir_argument
@as_json
def status(dir: Path, json_: bool) -> None:
    """Show how far a dataset is, from its folder alone."""
    from reprobatch.dataset import Dataset
    from reprobatch.status import status as read

    now = read(Dataset(dir))
    shards = {"done": now.done, "running": now.running, "failed": now.failed, "total": now.total}
    rate = "nothing moving" if now.rate is None else f"{now.rate:.1f} items/s, {now.eta_seconds:.0f} s left"
    text = f"{now.done}/{now.total} shards done, {now.running} running, {now.failed} failed; {rate}"
    _print({"shards": shards, "rate": now.rate, "eta_seconds": now.eta_seconds}, text, json_)


@cli.command()
@dir_argument
@click.argument("index", type=int)
@as_json
def show(dir: Path, index: int, json_: bool) -> None:
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
        "checksum": row.checksum,
    }
    _print(facts, "\n".join(f"{name}: {_shown(value)}" for name, value in facts.items()), json_)


@cli.command()
@dir_argument
@click.argument("index", type=int)
@click.option("--alone", is_flag=True, help="From the item's own row, without its neighbours.")
@click.option("--to", type=click.Path(path_type=Path), help="Write it to FILE.safetensors, .npy or .png.")
@model_option
@as_json
def regenerate(dir: Path, index: int, alone: bool, to: Path | None, model: str | None, json_: bool) -> None:
    """Make one item again and compare it with what is stored.

    \b
    reprobatch regenerate digits 42
    reprobatch regenerate digits 42 --alone --to 42.png
    """
    from reprobatch import export as files
    from reprobatch.dataset import Dataset

    dataset = Dataset(dir)
    if to is not None:
        files.check_suffix(to)
    dataset.look_up(index)  # a wrong index is said before a model is loaded
    regenerator = _regenerator(dataset, model)
    made = regenerator(index, alone=alone)
    if to is not None:
        files.save(made.output, to, regenerator.worker.decode)
    comparison = made.comparison
    facts = {"index": index, "seed": made.seed, "method": made.method, **asdict(comparison)}
    text = f"item {index} (seed {made.seed}), by {made.method}\nstored   {comparison.stored}\n"
    text += f"computed {comparison.computed}\n{comparison.verdict}"
    if comparison.verdict != "identical":
        text += f", L_inf {comparison.linf}"
    _print(facts, text, json_)
    sys.exit(DONE if comparison.verdict == "identical" else DIFFERS)


@cli.command()
@dir_argument
@click.option("--regenerate", "sample", type=click.IntRange(1), metavar="N", help="Also make N random items again.")
@model_option
@as_json
def verify(dir: Path, sample: int | None, model: str | None, json_: bool) -> None:
    """Check every file, row and checksum of a dataset, and its root.

    \b
    reprobatch verify digits
    reprobatch verify digits --regenerate 20
    """
    from reprobatch.dataset import Dataset
    from reprobatch.progress import Progress
    from reprobatch.verification import verify as check

    dataset = Dataset(dir)
    with Progress(len(dataset), label="items checked") as progress:
        report = check(dataset, progress.add)
    facts: dict[str, Any] = asdict(report)
    lines = [
        *(str(problem) for problem in report.problems),
        f"{report.verdict}: {report.items} items, root {report.root}",
    ]
    if sample is not None and report.verdict == "intact":
        facts["regenerated"], said = _remake(dataset, sample, model)
        lines += said
        if facts["regenerated"]["differ"]:
            facts["verdict"] = "differs"
    _print(facts, "\n".join(lines), json_)
    sys.exit(DONE if facts["verdict"] == "intact" else DIFFERS)


@cli.command()
@dir_argument
@click.option("--to", required=True, type=click.Path(path_type=Path), help="Folder for the pictures.")
@model_option
@as_json
def export(dir: Path, to: Path, model: str | None, json_: bool) -> None:
    """Write every item as a PNG, latents decoded through the pipeline's VAE."""
    from reprobatch import export as files
    from reprobatch.dataset import Dataset
    from reprobatch.progress import Progress

    dataset = Dataset(dir)
    next(dataset.groups(0))  # an empty dataset is said before a model is loaded
    worker = _regenerator(dataset, model).worker
    with Progress(len(dataset), label="pictures") as progress:
        count = files.export(dataset, to, worker.decode, lambda: progress.add(1))
    _print({"items": count, "to": str(to)}, f"{count} pictures in {to}", json_)


def main(arguments: list[str] | None = None) -> None:
    """Entry point; turns every error into one line and an exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    signal.signal(signal.SIGTERM, lambda *_: _interrupt())
    debug = "--debug" in arguments
    try:
        plain = [argument for argument in arguments if argument != "--debug"]  # may stand anywhere
        sys.exit(cli.main(args=plain, prog_name="reprobatch", standalone_mode=False) or DONE)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        sys.exit(COULD_NOT)
    except click.ClickException as error:
        where = getattr(getattr(error, "ctx", None), "command_path", "reprobatch")
        _fail(f"{error.format_message().rstrip('.')}; see '{where} --help'", error, COULD_NOT, debug, arguments)
    except ReprobatchError as error:
        _fail(str(error), error, error.exit_code, debug, arguments)
    except (KeyboardInterrupt, click.Abort) as error:
        _fail("interrupted; the same command goes on from here", error, INTERRUPTED, debug, arguments)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(DIFFERS)
    except OSError as error:
        known = error.filename is not None and error.errno in _BAD_PATH
        text = f"cannot use '{error.filename}': {error.strerror}; give another path" if known else _unexpected(error)
        _fail(text, error, COULD_NOT if known else DIFFERS, debug, arguments)
    except Exception as error:
        _fail(_unexpected(error), error, DIFFERS, debug, arguments)


class _RunView:
    """What a person sees of a run."""

    def __init__(self) -> None:
        self._progress: Any = None
        self._workers: set[int] = set()
        self._failures = 0

    def __enter__(self) -> Callable[[dict[str, Any]], None]:
        return self._on_event

    def __exit__(self, *details: Any) -> None:
        if self._progress is not None:
            self._progress.__exit__(*details)

    def _on_event(self, event: dict[str, Any]) -> None:
        getattr(self, f"_{event['event']}", lambda event: None)(event)

    def _plan(self, event: dict[str, Any]) -> None:
        from reprobatch.progress import Progress

        done = min(event["items"], event["done"] * -(-event["items"] // event["shards"]))
        self._progress = Progress(event["items"], done)
        if event["done"]:
            self._progress.say(f"{event['done']} of {event['shards']} shards are there already")

    def _ready(self, event: dict[str, Any]) -> None:
        self._workers.add(event["worker"])
        self._note()

    def _lost(self, event: dict[str, Any]) -> None:
        self._workers.discard(event["worker"])
        self._note()
        self._progress.say(f"worker {event['worker']} lost: {event['reason']}")

    def _done(self, event: dict[str, Any]) -> None:
        self._progress.add(event["receipt"].items)

    def _again(self, event: dict[str, Any]) -> None:
        self._progress.say(f"shard {event['shard']} will be tried again: {event['reason']}")

    def _failed(self, event: dict[str, Any]) -> None:
        self._failures += 1
        self._note()
        self._progress.say(f"shard {event['shard']} failed: {event['reason']}")

    def _waiting(self, event: dict[str, Any]) -> None:
        self._progress.say(event["reason"])

    def _environment(self, event: dict[str, Any]) -> None:
        self._progress.say(f"this environment differs from the recorded one: {'; '.join(event['differs'])}")

    def _note(self) -> None:
        failed = f", {self._failures} shards failed" if self._failures else ""
        self._progress.note(f"{len(self._workers)} workers{failed}")


def _regenerator(dataset: Any, model: str | None) -> Any:
    from reprobatch import determinism

    # before torch is imported, which reads some of them once
    determinism.prepare(dataset.job.determinism, dataset.job.workers.threads)
    from reprobatch.regenerate import Regenerator

    return Regenerator(dataset, model)


def _remake(dataset: Any, sample: int, model: str | None) -> tuple[dict[str, Any], list[str]]:
    import random

    from reprobatch.progress import Progress

    regenerator = _regenerator(dataset, model)
    chosen = sorted(random.Random(dataset.manifest["root"]).sample(range(len(dataset)), min(sample, len(dataset))))
    lines, differ = [], 0
    with Progress(len(chosen), label="items made again") as progress:
        for index in chosen:
            comparison = regenerator(index).comparison
            if comparison.verdict != "identical":
                differ += 1
                lines.append(f"item {index}: expected {comparison.stored}, found {comparison.computed}")
            progress.add(1)
    if differ:
        lines.append(f"{differ} of {len(chosen)} items made again differ")
    else:
        share = min(1.0, 3 / len(chosen))
        lines.append(
            f"{len(chosen)} items made again, none differs: with 95 % confidence fewer than {share:.1%} of all do"
        )
    return {"sample": len(chosen), "differ": differ}, lines


def _warn_repeated_seeds(resolved: Any) -> None:
    if "seed" not in resolved.job.items.columns:
        return
    from reprobatch.items import repeated_seeds

    pairs = repeated_seeds(resolved.item_file)
    if resolved.job.items.repeat > 1:
        click.echo(f"items.repeat is {resolved.job.items.repeat}: each explicit seed is used as often", err=True)
    for first, second in pairs[:1]:
        click.echo(f"rows {first} and {second} of the items have the same seed, and so the same noise", err=True)


def _print(facts: dict[str, Any], text: str, json_: bool) -> None:
    click.echo(json.dumps(facts, ensure_ascii=False) if json_ else text)


def _shown(value: Any) -> str:
    return "unknown" if value is None else " ".join(map(str, value)) if isinstance(value, list) else str(value)


def _fail(text: str, error: BaseException, code: int, debug: bool, arguments: list[str]) -> None:
    if debug:
        traceback.print_exception(error)
    line = " ".join(text.split())
    click.echo(f"reprobatch: {line}", err=True)
    if "--json" in arguments:
        click.echo(json.dumps({"error": line, "kind": type(error).__name__}))
    sys.exit(code)


def _unexpected(error: Exception) -> str:
    text = " ".join(str(error).split())[:300]
    return f"{type(error).__name__}: {text} (--debug shows where)"


def _interrupt() -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    main()
