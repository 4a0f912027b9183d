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
from typing import Any

import click

from reprobatch.commands import (
    compare,
    complete,
    export,
    init,
    make,
    prove,
    read,
    regenerate,
    report,
    status,
    verify,
)
from reprobatch.commands.common import COULD_NOT, DIFFERS, DONE, INTERRUPTED
from reprobatch.errors import ReprobatchError, suggestion

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


for command in (
    init.init,
    make.run,
    make.plan,
    make.probe,
    status.status,
    read.show,
    regenerate.regenerate,
    verify.verify,
    compare.compare,
    export.export,
    report.report,
    make.merge,
    prove.prove,
    prove.sign,
    complete.completion,
):
    cli.add_command(command)


def main(arguments: list[str] | None = None) -> None:
    """Entry point; turns every error into one line and an exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    signal.signal(signal.SIGTERM, lambda *_: _interrupt())
    debug = "--debug" in arguments
    try:
        plain = [argument for argument in arguments if argument != "--debug"]  # may stand anywhere
        sys.exit(cli.main(args=plain, prog_name="reprobatch", standalone_mode=False, color=_colour()) or DONE)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        sys.exit(COULD_NOT)
    except click.ClickException as error:
        where = getattr(getattr(error, "ctx", None), "command_path", "reprobatch")
        _fail(f"{_wrong(error)}; see '{where} --help'", error, COULD_NOT, debug, arguments)
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


def _fail(text: str, error: BaseException, code: int, debug: bool, arguments: list[str]) -> None:
    if debug:
        traceback.print_exception(error)
    line = " ".join(text.split())
    click.echo(f"{click.style('reprobatch:', fg='red')} {line}", err=True, color=_colour())
    if "--json" in arguments:
        click.echo(json.dumps({"error": line, "kind": type(error).__name__}))
    sys.exit(code)


def _colour() -> bool | None:
    """No colour where nobody wants one; else (``None``) where there is a terminal."""
    return False if os.environ.get("NO_COLOR") else None


def _wrong(error: click.ClickException) -> str:
    if isinstance(error, click.NoSuchOption):
        known = error.ctx.command.get_params(error.ctx) if error.ctx else []
        return f"no option '{error.option_name}'{suggestion(error.option_name, (o for p in known for o in p.opts))}"
    return error.format_message().rstrip(".")


def _unexpected(error: Exception) -> str:
    text = " ".join(str(error).split())[:300]
    return f"{type(error).__name__}: {text} (--debug shows where)"


def _interrupt() -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    main()
