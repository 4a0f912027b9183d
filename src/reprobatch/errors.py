"""What can go wrong, by whose fault.

Three kinds, because the reader does a different thing after each: a job that is wrong is edited, a
machine that differs is replaced or accepted, data that differs is looked into. Every message is one
line that says what was expected, what was found and what to do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from difflib import get_close_matches
from pathlib import Path


class ReprobatchError(Exception):
    """Base of every error that reprobatch raises on purpose.

    ``exit_code`` is what the command line ends with: 2 where nothing could be run, 1 where
    something ran and differs, is corrupt or failed.
    """

    exit_code = 2

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))


class JobError(ReprobatchError):
    """The job, a path or an argument is wrong. Correct what the message names and run again."""


class EnvironmentDiffers(ReprobatchError):
    """This machine or process cannot give the recorded bits. Use another, or accept a difference."""

    exit_code = 1


class NotReproducible(ReprobatchError):
    """The contract does not hold what a run rests on. Mend the job, or insist knowingly."""

    exit_code = 1


class DataError(ReprobatchError):
    """A dataset holds something other than it should. Nothing was overwritten; look at what is named."""

    exit_code = 1


class StorageError(ReprobatchError):
    """A store did not answer, or with errors, also when asked again. Nothing half-written is left."""

    exit_code = 1


class RunFailed(ReprobatchError):
    """Some shards could not be made. What was made is kept; the same command tries the rest again."""

    exit_code = 1


class BatchHung(ReprobatchError):
    """A pipeline call took longer than the job allows. Its process is ended and the shard tried again."""

    exit_code = 1


class ItemFailed(ReprobatchError):
    """The pipeline raised on one or more items, which are named. Correct them; the others can be made."""

    exit_code = 1


def suggestion(word: str, known: Iterable[str]) -> str:
    """`` (did you mean 'x'?)`` for the nearest known word, or an empty string."""
    near = get_close_matches(str(word), list(known), n=1, cutoff=0.6)
    return f" (did you mean '{near[0]}'?)" if near else ""


def suggested_path(path: Path, fits: Callable[[Path], bool]) -> str:
    """As :func:`suggestion`, for a path that is not there: the nearest name in its folder of what ``fits``."""
    try:
        known = [str(path.with_name(entry.name)) for entry in path.parent.iterdir() if fits(entry)]
    except (OSError, ValueError):
        return ""
    return suggestion(str(path), known)
