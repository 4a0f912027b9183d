"""Completion in the shell: ``completion``, and what JOB and DIR may be completed to."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import click
from click.shell_completion import CompletionItem, get_completion_class

SHELLS = ("bash", "zsh", "fish")
VARIABLE = "_REPROBATCH_COMPLETE"


@click.command()
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print a script that lets a shell complete commands, options, job files and datasets.

    \b
    eval "$(reprobatch completion bash)"        # in ~/.bashrc
    eval "$(reprobatch completion zsh)"         # in ~/.zshrc, after compinit
    reprobatch completion fish | source         # in ~/.config/fish/config.fish
    """
    found = get_completion_class(shell)
    assert found is not None  # SHELLS are of those that click knows
    click.echo(found(ctx.find_root().command, {}, "reprobatch", VARIABLE).source())


def jobs(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem[str]]:
    """Job files and built-in jobs; where none begins so, whatever file the shell finds."""
    from reprobatch.jobfile import SUFFIXES
    from reprobatch.models import builtin_names

    built_in = [name for name in (f"builtin:{each}" for each in builtin_names()) if name.startswith(incomplete)]
    files = _beginning(incomplete, lambda path: path.suffix in SUFFIXES and path.is_file())
    further = not files and any(_beginning(incomplete, Path.is_dir))  # the shell goes down into folders, click does not
    found = [] if further else [*map(CompletionItem, files + built_in)]
    return found or [CompletionItem(incomplete, type="file")]


def datasets(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem[str]]:
    """Dataset folders; where none begins so, whatever folder the shell finds."""
    from reprobatch.dataset import is_dataset

    return [*map(CompletionItem, _beginning(incomplete, is_dataset))] or [CompletionItem(incomplete, type="dir")]


def _beginning(incomplete: str, fits: Callable[[Path], bool]) -> list[str]:
    """Paths that begin with what was typed, written as it was typed."""
    folder, slash, start = incomplete.rpartition("/")
    try:
        entries = sorted(Path(f"{folder}/" if slash else ".").expanduser().iterdir())
    except (OSError, RuntimeError):
        return []
    shown = [entry for entry in entries if entry.name.startswith(start) and (start or not entry.name.startswith("."))]
    return [f"{folder}{slash}{entry.name}" for entry in shown if fits(entry)]
