"""A Ray cluster of several nodes on this machine, each with environment variables of its own.

    python tests/cluster.py '[{}, {"ATEN_CPU_CAPABILITY": "default"}]'

Starts a node of one CPU for each entry, prints the address, and stops when its standard input ends.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def nodes(*variables: dict[str, str]) -> Iterator[str]:
    """The address of a cluster with one node for each set of variables, for the length of a block."""
    process = subprocess.Popen(
        [sys.executable, __file__, json.dumps(variables)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin is not None and process.stdout is not None
    try:
        address = next((line.split()[1] for line in process.stdout if line.startswith("address ")), None)
        assert address is not None, "the cluster did not start"
        yield address
    finally:
        process.stdin.close()
        process.wait(timeout=60)


def main() -> None:
    from ray.cluster_utils import Cluster

    cluster = Cluster()
    for variables in json.loads(sys.argv[1]):
        cluster.add_node(num_cpus=1, env_vars=variables, include_dashboard=False)
    print("address", cluster.address, flush=True)
    sys.stdin.read()
    cluster.shutdown()


if __name__ == "__main__":
    main()
