"""Machines on this one that run Ray, and that die, are cut off and come back: network namespaces behind a switch.

A machine is a network namespace with an address, and a process of its own mount, process and host name namespaces
in it that starts Ray whenever it does not run, as a machine's supervisor would. Its death takes all its processes
along. The file system is shared but for Ray's folder, as one mounted from a server would be. Needs root.
"""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

BIN = Path(sys.executable).parent
NET, PORT = "10.78.0", 6379
OUTSIDE = f"{NET}.254"  # where the machines find what runs beside them, such as a bucket
BOOT = """
hostname {name}
ip link set lo up
mkdir -p /tmp/ray
mount --bind {folder} /tmp/ray
while :; do
  ray start {role} --node-ip-address={address} --num-cpus={cpus} --object-store-memory=100000000 \
    --disable-usage-stats --block
  rm -rf /tmp/ray/*
  sleep 0.5
done
"""
# a machine that says nothing is dead after about five seconds; Ray's own choice is half a minute
VARIABLES = {
    "RAY_health_check_initial_delay_ms": "2000",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "1500",
    "RAY_health_check_failure_threshold": "4",
    "RAY_AUTH_MODE": "token",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DEDUP_LOGS": "0",
}


class Host:
    """One machine, booted; number 0 is the cluster's head."""

    def __init__(self, network: Network, number: int, cpus: int) -> None:
        self.name, self.address, self._network, self._cpus = f"host{number}", f"{NET}.{number + 2}", network, cpus
        self._space = f"{self.name}-{os.getpid()}"
        self._role = f"--address={NET}.2:{PORT}" if number else f"--head --include-dashboard=false --port={PORT}"
        self.folder = network.folder / self.name
        run("ip", "netns", "add", self._space)
        network.inside("ip", "link", "add", self.name, "type", "veth", "peer", "name", "eth0", "netns", self._space)
        network.inside("ip", "link", "set", self.name, "master", "br0", "up")
        for words in (f"address add {self.address}/24 dev eth0", "link set eth0 up", f"route add default via {NET}.1"):
            run("ip", "netns", "exec", self._space, "ip", *words.split())
        self.boot()

    def boot(self) -> None:
        """Start the machine anew, with nothing of what ran on it before."""
        self.folder.mkdir(exist_ok=True)
        words = {"name": self.name, "folder": self.folder, "role": self._role, "address": self.address}
        own = ["unshare", "--mount", "--propagation", "slave", "--pid", "--uts", "--fork", "--kill-child"]
        command = [
            "ip",
            "netns",
            "exec",
            self._space,
            *own,
            "--mount-proc",
            "sh",
            "-c",
            BOOT.format(**words, cpus=self._cpus),
        ]
        with (self.folder.with_suffix(".log")).open("ab") as log:
            self._machine = subprocess.Popen(command, env=self._network.variables, stdout=log, stderr=log)

    def die(self) -> None:
        """As when the power fails."""
        self._machine.kill()  # process 1 of the machine goes with it, and so does all that ran there
        self._machine.wait()
        while self._pids():
            time.sleep(0.05)
        subprocess.run(["rm", "-rf", self.folder], check=True)

    def remove(self) -> None:
        self.die()
        run("ip", "netns", "delete", self._space)

    def cut(self, is_cut: bool) -> None:
        """Take the machine's link down, or up again; what runs on it runs on."""
        self._network.inside("ip", "link", "set", self.name, "down" if is_cut else "up")

    def workers(self) -> list[int]:
        """Process ids, as seen from outside, of what Ray runs for the job here."""
        return [pid for pid in self._pids() if command(pid).startswith("ray::Actor")]

    def kill(self, name: str) -> None:
        """Kill what goes by that name here."""
        for pid in self._pids():
            if Path(command(pid).split("\0")[0]).name == name:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    def start(self, words: list[str], log: Path) -> Driver:
        """A command on this machine."""
        return Driver([*self._enter("--pid"), *words], log, self._network.variables)

    def run(self, *words: object, check: bool = True) -> subprocess.CompletedProcess[bytes]:
        """A command with this machine's mounts."""
        return subprocess.run([*self._enter(), *map(str, words)], check=check, capture_output=True)

    def _enter(self, *more: str) -> list[str]:
        first = (Path(f"/proc/{self._machine.pid}/task/{self._machine.pid}/children").read_text().split())[0]
        return ["nsenter", f"--target={first}", "--net", "--mount", "--uts", f"--wd={Path.cwd()}", *more]

    def _pids(self) -> list[int]:
        found = subprocess.run(["ip", "netns", "pids", self._space], check=True, capture_output=True, text=True)
        return list(map(int, found.stdout.split()))


class Driver:
    """A process on a machine: the one that is waited for, and the one that is harmed."""

    def __init__(self, words: list[str], log: Path, variables: dict[str, str]) -> None:
        with log.open("ab") as file:
            self._outer = subprocess.Popen(words, stdout=file, stderr=file, env=variables)

    def poll(self) -> int | None:
        """Its exit status, once it has ended."""
        return self._outer.poll()

    def wait(self) -> int:
        return self._outer.wait()

    def signal(self, number: int) -> None:
        """Give it a signal, and wait for its end."""
        children = Path(f"/proc/{self._outer.pid}/task/{self._outer.pid}/children")
        for pid in children.read_text().split() if children.exists() else []:
            os.kill(int(pid), number)
        self.wait()


class Network:
    """A switch, and on it a head without CPUs and machines of one CPU; they reach what runs at ``OUTSIDE``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "token").write_text(secrets.token_hex(32))
        known = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        path = {"PATH": f"{BIN}:{os.environ['PATH']}", "RAY_AUTH_TOKEN_PATH": str(folder / "token")}
        self.variables = {**known, **VARIABLES, **path}
        self._space = f"switch-{os.getpid()}"
        run("ip", "netns", "add", self._space)
        self.inside("ip", "link", "add", "br0", "type", "bridge")
        self.inside("ip", "address", "add", f"{NET}.1/24", "dev", "br0")
        self.inside("ip", "link", "set", "br0", "up")
        uplink = f"up{os.getpid()}"
        run("ip", "link", "add", uplink, "type", "veth", "peer", "name", "uplink", "netns", self._space)
        self.inside("ip", "link", "set", "uplink", "master", "br0", "up")
        self.hosts: list[Host] = []
        run("ip", "address", "add", f"{OUTSIDE}/24", "dev", uplink)
        run("ip", "link", "set", uplink, "up")

    def boot(self, hosts: int, variables: dict[str, str]) -> None:
        """Start the machines, with these environment variables besides those that Ray needs."""
        self.variables.update(variables)
        self.head = Host(self, 0, 0)
        self.hosts = [Host(self, number, 1) for number in range(1, hosts + 1)]
        self.address = f"{self.head.address}:{PORT}"

    def close(self) -> None:
        for host in [*self.hosts, self.head]:
            host.remove()
        run("ip", "netns", "delete", self._space)

    def inside(self, *words: object) -> None:
        """A command on the switch."""
        run("ip", "netns", "exec", self._space, *words)


def command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:  # it has just ended
        return ""


def run(*words: object) -> None:
    subprocess.run([str(word) for word in words], check=True)
