"""Two machines and a launcher on this one: ``ray up`` over SSH, the digits job submitted, ``ray down``.

    python benchmarks/hosts/two_hosts.py [-s items.repeat=30 -s shard_size=16]

Needs root, Debian's ``openssh-server`` and ``rsync``, and Ray with its dashboard. A machine is a network namespace
with an address of its own, in which an sshd is process 1 of its own process, mount and host name namespaces: it sees
no process but its own (``ray stop`` is harmless to other clusters here) and its death takes all of them along. The
file system is shared but for ``/tmp`` and root's home. A third namespace holds the bridge between them and runs the
launcher; nothing is reached from outside, and nothing outside is reached.

Ends with 0 if the dataset that two machines made has the root that one machine gives.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
BIN = Path(sys.executable).parent
HUB, HEAD, WORKER = "10.77.0.1", "10.77.0.2", "10.77.0.3"

# A private /tmp and home; the interpreter may live in the real home, and stays visible there
KEPT = (
    Path(sys.base_prefix).relative_to(Path.home()).parts[0] if Path.home() in Path(sys.base_prefix).parents else ".keep"
)
MACHINE = """
set -e
hostname {name}
ip link set lo up
mkdir -p {home}/{kept} {own}/{kept} /run/sshd
mount --bind {own}/{kept} {home}/{kept}
mount --rbind {home} {own}
mount --bind {tmp} /tmp
exec /usr/sbin/sshd -D -e -f {folder}/sshd_config
"""

SSHD = """
Port 22
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/key.pub
PermitRootLogin prohibit-password
StrictModes no
UsePAM no
PrintMotd no
PidFile none
"""


def main() -> int:
    assert os.geteuid() == 0, "network namespaces need root"
    overrides = sys.argv[1:] or ["-s", "items.repeat=30", "-s", "shard_size=16"]
    with ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="hosts-", dir="/var/tmp"))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        prepare(folder)
        hub = stack.enter_context(switch())
        stack.enter_context(machine("head", HEAD, hub, folder))
        stack.enter_context(machine("worker", WORKER, hub, folder))
        two = on_two_machines(Launcher(hub, folder), folder, overrides)
        for name in ("head", "worker"):
            print(f"ray down: no Ray on {name} after {wait_for_the_end(f'{name}{os.getpid()}'):.0f} s")
    one = on_this_machine(overrides)
    print(f"two machines: {two}\none machine:  {one}\n{'same' if two == one else 'DIFFERENT'}")
    return 0 if two == one else 1


class Launcher:
    """Runs commands where an operator would: on a third machine, with the token."""

    def __init__(self, hub: str, folder: Path) -> None:
        self._prefix = ["ip", "netns", "exec", hub]
        known = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        auth = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(folder / "token")}
        quiet = {"RAY_USAGE_STATS_ENABLED": "0", "TMPDIR": str(folder / "launcher")}
        # Ray 2.60's own choice, version 2, never starts the workers of a local provider
        quiet["RAY_UP_enable_autoscaler_v2"] = "0"
        self._variables = {**known, **auth, **quiet, "PATH": f"{BIN}:{os.environ['PATH']}"}

    def __call__(self, *command: object, show: bool = True, check: bool = True) -> str:
        words = list(map(str, command))
        if show:
            print("$", " ".join(words), flush=True)
        pipe = subprocess.Popen(
            [*self._prefix, *words], env=self._variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        assert pipe.stdout is not None
        said = []
        for line in pipe.stdout:
            said.append(line)
            if show:
                print("  ", line, end="", flush=True)
        if check and pipe.wait() != 0:
            raise SystemExit(f"exit status {pipe.returncode}: {' '.join(words)}\n{''.join(said[-30:])}")
        return "".join(said)


def on_two_machines(launcher: Launcher, folder: Path, overrides: list[str]) -> str:
    """``ray up``, the job, ``ray down``; returns the root."""
    config = folder / "cluster.yaml"
    words = {"head": HEAD, "worker": WORKER, "folder": str(folder)}
    config.write_text(fill((HERE / "cluster.yaml").read_text(), words))
    out = folder / "digits"
    dashboard = ["--address", f"http://{HEAD}:8265"]
    launcher("ray", "up", "-y", "--no-config-cache", config)
    try:
        wait_for_nodes(launcher, 2)
        job = ["reprobatch", "run", "jobs/digits.yaml", "--out", out, *overrides]
        launcher("ray", "job", "submit", *dashboard, "--working-dir", folder / "work", "--", *job)
        launcher(BIN / "reprobatch", "verify", out)
        print(f"made on: {', '.join(hosts(out))}")
        assert len(hosts(out)) == 2, "expected shards from both machines"
        return str(json.loads((out / "manifest.json").read_text())["root"])
    finally:
        launcher("ray", "down", "-y", config, check=False)


def wait_for_the_end(space: str) -> float:
    """Seconds until no raylet runs there: ``ray down`` stops the head, a worker notices after a minute."""
    began = time.monotonic()
    while "raylet" in processes(space):
        assert time.monotonic() < began + 180, "expected ray down to end Ray, found a raylet after three minutes"
        time.sleep(1)
    return time.monotonic() - began


def processes(space: str) -> list[str]:
    pids = subprocess.run(["ip", "netns", "pids", space], check=True, stdout=subprocess.PIPE, text=True).stdout.split()
    names = [Path(f"/proc/{pid}/comm") for pid in pids]
    return [name.read_text().strip() for name in names if name.exists()]


def wait_for_nodes(launcher: Launcher, count: int) -> None:
    """The head answers first; its autoscaler starts the others, over SSH."""
    deadline = time.monotonic() + 180
    listing = ["curl", "-s", "-H", f"@{launcher_header(launcher)}", f"http://{HEAD}:8265/nodes?view=summary"]
    while True:
        text = launcher(*listing, show=False, check=False)
        if text.count('"state": "ALIVE"') + text.count('"state":"ALIVE"') >= count:
            return
        assert time.monotonic() < deadline, f"expected {count} nodes, found: {text[:2000]}"
        time.sleep(3)


def launcher_header(launcher: Launcher) -> Path:
    token = Path(launcher._variables["RAY_AUTH_TOKEN_PATH"])
    header = token.with_name("header")
    header.write_text(f"Authorization: Bearer {token.read_text()}\n")
    return header


def on_this_machine(overrides: list[str]) -> str:
    with tempfile.TemporaryDirectory() as out:
        command = [BIN / "reprobatch", "run", ROOT / "jobs" / "digits.yaml", "--out", out, "--workers", "1", "--json"]
        done = subprocess.run([*map(str, command), *overrides], cwd=ROOT, check=True, stdout=subprocess.PIPE)
        return str(json.loads(done.stdout)["root"])


def hosts(out: Path) -> list[str]:
    """The machines that made shards, from the run's journal."""
    events = [json.loads(line) for path in out.glob("log/attempts-*.jsonl") for line in path.read_text().splitlines()]
    where = {event["worker"]: event["host"] for event in events if event["event"] == "ready"}
    return sorted({where[event["worker"]] for event in events if event["event"] == "done"})


def prepare(folder: Path) -> None:
    """Keys, a token, and what is sent with the job."""
    for name in ("key", "host_key"):
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name)
    (folder / "token").write_text(secrets.token_hex(32))
    (folder / "sshd_config").write_text(fill(SSHD, {"folder": str(folder)}))
    (folder / "launcher").mkdir()
    (folder / "work" / "jobs" / "prompts").mkdir(parents=True)
    for name in ("jobs/digits.yaml", "jobs/prompts/digits.txt"):
        shutil.copy(ROOT / name, folder / "work" / name)


@contextmanager
def switch() -> Iterator[str]:
    """A namespace with a bridge: the network between the machines, and the launcher's place in it."""
    name = f"hub{os.getpid()}"
    run("ip", "netns", "add", name)
    try:
        inside(name, "ip", "link", "add", "br0", "type", "bridge")
        inside(name, "ip", "address", "add", f"{HUB}/24", "dev", "br0")
        for device in ("lo", "br0"):
            inside(name, "ip", "link", "set", device, "up")
        yield name
    finally:
        run("ip", "netns", "delete", name)


@contextmanager
def machine(name: str, address: str, hub: str, folder: Path) -> Iterator[None]:
    """A machine on the network, with an sshd that runs when the block begins."""
    space = f"{name}{os.getpid()}"
    run("ip", "netns", "add", space)
    process = None
    try:
        inside(hub, "ip", "link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", space)
        inside(hub, "ip", "link", "set", name, "master", "br0", "up")
        inside(space, "ip", "address", "add", f"{address}/24", "dev", "eth0")
        inside(space, "ip", "link", "set", "eth0", "up")
        inside(space, "ip", "route", "add", "default", "via", HUB)  # leads nowhere; Ray looks its address up with it
        process = boot(name, space, folder)
        wait_for_ssh(hub, address, process, folder / f"{name}.log")
        yield
    finally:
        if process is not None:
            process.kill()  # process 1 of the machine goes with it, and so does all that ran there
            process.wait()
        run("ip", "netns", "delete", space)


def boot(name: str, space: str, folder: Path) -> subprocess.Popen[bytes]:
    home, tmp = folder / name / "root", folder / name / "tmp"
    home.mkdir(parents=True)
    tmp.mkdir()
    # ray up and ray down call what they need by name, from a login shell
    (home / ".bashrc").write_text(f"export PATH={BIN}:$PATH\n")
    script = fill(
        MACHINE,
        {
            "name": name,
            "home": str(home),
            "own": str(Path.home()),
            "kept": KEPT,
            "tmp": str(tmp),
            "folder": str(folder),
        },
    )
    own = ["unshare", "--mount", "--pid", "--uts", "--fork", "--kill-child", "--mount-proc"]
    log = (folder / f"{name}.log").open("wb")
    return subprocess.Popen(["ip", "netns", "exec", space, *own, "sh", "-c", script], stdout=log, stderr=log)


def wait_for_ssh(hub: str, address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    probe = ["ip", "netns", "exec", hub, "bash", "-c", f"exec 3<>/dev/tcp/{address}/22"]
    for _ in range(100):
        if subprocess.run(probe, stderr=subprocess.DEVNULL).returncode == 0:
            return
        assert process.poll() is None, f"sshd ended: {log.read_text()}"
        time.sleep(0.1)
    raise SystemExit(f"no sshd at {address}")


def fill(text: str, words: dict[str, str]) -> str:
    for word, value in words.items():
        text = text.replace(f"{{{word}}}", value)
    return text


def inside(space: str, *command: object) -> None:
    run("ip", "netns", "exec", space, *command)


def run(*command: object) -> None:
    subprocess.run([str(word) for word in command], check=True)


if __name__ == "__main__":
    sys.exit(main())
