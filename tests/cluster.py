"""A Ray cluster of several nodes on this machine, each with environment variables of its own.

    python tests/cluster.py '[{}, {"ATEN_CPU_CAPABILITY": "default"}]'

Starts a head without CPUs and a node of one CPU for each entry, and prints the address. Then, a line
each on standard input: ``add {}`` and ``remove 0`` (abruptly, as a machine that dies). Stops at its end.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager


class Nodes:
    """The cluster as a test sees it."""

    def __init__(self, variables: list[dict[str, str]]) -> None:
        command = [sys.executable, __file__, json.dumps(variables)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.address = self._answer("address")

    def add(self, **variables: str) -> int:
        """One node more; its number."""
        self._say(f"add {json.dumps(variables)}")
        return int(self._answer("added"))

    def remove(self, number: int) -> None:
        self._say(f"remove {number}")
        self._answer("removed")

    def stop(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=60)

    def _say(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def _answer(self, word: str) -> str:
        assert self._process.stdout is not None
        found = next((line.split() for line in self._process.stdout if line.startswith(word)), None)
        assert found is not None, "the cluster ended"
        return found[-1]


@contextmanager
def nodes(*variables: dict[str, str]) -> Iterator[Nodes]:
    """A cluster with one node for each set of variables, for the length of a block."""
    found = Nodes(list(variables))
    try:
        yield found
    finally:
        found.stop()


def main() -> None:
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    members = [cluster.add_node(num_cpus=1, env_vars=variables) for variables in json.loads(sys.argv[1])]
    print("address", cluster.address, flush=True)
    for line in sys.stdin:
        verb, _, rest = line.partition(" ")
        if verb == "add":
            members.append(cluster.add_node(num_cpus=1, env_vars=json.loads(rest)))
            print("added", len(members) - 1, flush=True)
        else:
            cluster.remove_node(members[int(rest)], allow_graceful=False)
            print("removed", flush=True)
    cluster.shutdown()


if __name__ == "__main__":
    main()
