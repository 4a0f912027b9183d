"""A Ray cluster: joined or started, and how many workers it has room for."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import ray

from reprobatch.errors import JobError
from reprobatch.settings import Workers

_COLOUR = re.compile(r"\x1b\[\d+m")
_PARTICULAR = re.compile(r"\s+(class_name|actor_id|pid|namespace|ip): ")  # before the line that says why it died


@contextmanager
def connected(address: str | None, variables: Mapping[str, str] | None = None) -> Iterator[bool]:
    """Ray for the length of a block: the cluster at ``address`` (or in ``RAY_ADDRESS``), else a local one.

    Yields whether it is a local one, which has what it has and never grows. ``variables`` are in the
    environment of a local one's processes from the start: with a ``runtime_env`` instead, Ray's first workers
    wait for an agent, and those it started in advance are of no use.
    """
    address = address or os.environ.get("RAY_ADDRESS")
    os.environ.setdefault("RAY_DEDUP_LOGS", "0")
    # that tokens are on is no news at every start; that they are off still is
    told = logging.getLogger("ray._private.authentication.authentication_token_setup")
    told.addFilter(lambda record: "is enabled" not in record.getMessage())
    try:
        with _set({} if address else variables or {}):
            ray.init(
                address=address or "local",
                include_dashboard=None if address else False,
                log_to_driver=False,
                logging_level=logging.ERROR,
                configure_logging=False,
            )
    except (ConnectionError, RuntimeError, ValueError) as error:
        where = f"at '{address}'" if address else "on this machine"
        hint = "; is it up, and does it take this RAY_AUTH_MODE and token?" if address else ""
        raise JobError(f"cannot reach a Ray cluster {where}: {one_line(error)}{hint}") from None
    try:
        yield address is None
    finally:
        ray.shutdown()


@contextmanager
def _set(variables: Mapping[str, str]) -> Iterator[None]:
    """Environment variables for what is started in a block; this process has its own back after it."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def room(needs: Workers) -> int:
    """How many workers the nodes that are there have room for, were they all free."""
    return sum(_fit(node["Resources"], needs) for node in ray.nodes() if node["Alive"])


def shortage(needs: Workers) -> str:
    """What a worker needs, and what the cluster has and has free."""
    have, free = ray.cluster_resources(), ray.available_resources()
    return (
        f"a worker needs {needs.cpus:g} CPU and {needs.gpus:g} GPU on one node, the cluster has "
        f"{have.get('CPU', 0):g} CPU and {have.get('GPU', 0):g} GPU, free now are {free.get('CPU', 0):g} and "
        f"{free.get('GPU', 0):g}"
    )


def one_line(error: BaseException) -> str:
    """An error's text, as one line of at most 300 characters, without Ray's colours and an actor's particulars."""
    plain = _COLOUR.sub("", str(error))
    lines = [line.strip() for line in plain.splitlines() if line.strip() and not _PARTICULAR.match(line)]
    return " ".join(lines)[:300] if lines else type(error).__name__


def _fit(resources: dict[str, float], needs: Workers) -> int:
    fits = [int(resources.get(kind, 0) / need) for kind, need in (("CPU", needs.cpus), ("GPU", needs.gpus)) if need]
    return min(fits, default=int(resources.get("CPU", 1)))
