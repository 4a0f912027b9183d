"""``ray job submit`` against a cluster that asks for a token: what the job says, how it fails, stops and goes on.

The cluster is what ``ray start`` makes of this machine, on the loopback address, with a dashboard, ports, a
temporary folder and a token of its own, so that it neither meets nor ends another one.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests
from ray.job_submission import JobSubmissionClient

from conftest import ROOT, SMALL, data, reprobatch

BIN = Path(sys.executable).parent
JOB = ["reprobatch", "run", "jobs/digits.yaml", *SMALL, "--out"]


class Submitter:
    """``ray job``, as given at a shell, for one cluster; the jobs run in a folder with nothing but the job."""

    def __init__(self, dashboard: str, variables: dict[str, str], files: Path) -> None:
        self.dashboard, self.variables, self.files = dashboard, variables, files

    def command(self, *arguments: object) -> list[str]:
        verb, *rest = map(str, arguments)
        return [str(BIN / "ray"), "job", verb, "--address", self.dashboard, "--log-color", "false", *rest]

    def submit(self, *entrypoint: object, name: str) -> list[str]:
        files = ["--working-dir", self.files, "--submission-id", name]
        return self.command("submit", *files, "--", *entrypoint)

    def run(self, command: list[str], **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command, env={**self.variables, **variables}, capture_output=True, text=True, timeout=200, cwd=self.files
        )

    def begin(self, command: list[str]) -> subprocess.Popen[bytes]:
        quiet = subprocess.DEVNULL
        return subprocess.Popen(
            command, env=self.variables, stdout=quiet, stderr=quiet, cwd=self.files, preexec_fn=_hear_ctrl_c
        )

    def status(self, name: str) -> str:
        return self._client().get_job_status(name).value

    def log(self, name: str) -> str:
        return self._client().get_job_logs(name)

    def _client(self) -> JobSubmissionClient:
        token = Path(self.variables["RAY_AUTH_TOKEN_PATH"]).read_text()
        return JobSubmissionClient(self.dashboard, headers={"Authorization": f"Bearer {token}"})


@pytest.fixture(scope="module")
def submitter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Submitter]:
    folder = tmp_path_factory.mktemp("ray")
    token = folder / "token"
    token.write_text(secrets.token_hex(32))
    known = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    auth = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token)}
    variables = {**known, **auth, "PATH": f"{BIN}:{os.environ['PATH']}"}
    dashboard, agent, client = free_ports(3)
    process = subprocess.Popen(head_command(dashboard, agent, client), env=variables, stdout=subprocess.DEVNULL)
    try:
        found = Submitter(f"http://127.0.0.1:{dashboard}", variables, work(folder / "work"))
        until(lambda: process.poll() is not None or answers(found.dashboard))
        until(lambda: process.poll() is not None or can_submit(found))
        assert process.poll() is None, "ray start ended"
        yield found
    finally:
        end(process)
        shutil.rmtree(temporary(dashboard), ignore_errors=True)


def head_command(dashboard: int, agent: int, client: int) -> list[str]:
    ports = [f"--dashboard-port={dashboard}", f"--dashboard-agent-listen-port={agent}", "--port=0"]
    ports += [f"--ray-client-server-port={client}", "--min-worker-port=0", "--max-worker-port=0"]
    where = ["--node-ip-address=127.0.0.1", "--dashboard-host=127.0.0.1", f"--temp-dir={temporary(dashboard)}"]
    size = ["--num-cpus=2", "--object-store-memory=100000000", "--disable-usage-stats"]
    return [str(BIN / "ray"), "start", "--head", "--block", *ports, *where, *size]


def temporary(number: int) -> Path:
    """Not in pytest's folder: the paths of Ray's sockets may have 107 characters."""
    return Path(f"/tmp/reprobatch-{os.getpid()}-{number}")


def work(folder: Path) -> Path:
    """What is sent with the job: the job file and its prompts."""
    (folder / "jobs" / "prompts").mkdir(parents=True)
    for name in ("jobs/digits.yaml", "jobs/prompts/digits.txt"):
        shutil.copy(ROOT / name, folder / name)
    return folder


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def answers(dashboard: str) -> bool:
    try:
        return requests.get(f"{dashboard}/api/version", timeout=5).status_code == 401  # it asks for the token
    except requests.ConnectionError:
        return False


def can_submit(submitter: Submitter) -> bool:
    try:
        submitter._client().list_jobs()
    except RuntimeError:
        return False
    return True


def _hear_ctrl_c() -> None:
    """What a shell starts in the background ignores SIGINT, and hands that down: CI may be such a one."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline, "waited two minutes"
        time.sleep(0.1)


def end(process: subprocess.Popen[bytes]) -> None:
    """End this cluster and no other, which ``ray stop`` would not do: ``--block`` takes its processes along."""
    process.terminate()
    process.wait(timeout=60)


def test_a_job_that_fails_is_a_failure_to_whoever_submitted_it(submitter: Submitter, tmp_path: Path) -> None:
    hopeless = ["-s", "operation.batch_seconds=0.0001", "-s", "operation.attempts=1", "--workers", 1]
    done = submitter.run(submitter.submit(*JOB, tmp_path / "d", *hopeless, "-s", "items.repeat=1", name="hopeless"))
    assert done.returncode == 1
    assert submitter.status("hopeless") == "FAILED"
    assert "reprobatch: 1 of 1 shards failed" in submitter.log("hopeless")
    assert "Traceback" not in submitter.log("hopeless")


def test_a_stopped_job_goes_on_gives_the_same_bytes_and_logs_plain_lines(submitter: Submitter, tmp_path: Path) -> None:
    out, long = tmp_path / "d", ["-s", "call.num_inference_steps=80"]  # still at work while ray job comes and goes
    waiting = submitter.begin(submitter.submit(*JOB, out, *long, "--workers", 1, name="first"))
    until(lambda: waiting.poll() is not None or any(out.glob("data/*.parquet")))

    waiting.send_signal(signal.SIGINT)  # ends the waiting, not the job
    waiting.wait(timeout=60)
    assert submitter.status("first") == "RUNNING"

    assert submitter.run(submitter.command("stop", "first")).returncode == 0
    assert submitter.status("first") == "STOPPED"
    assert "reprobatch: interrupted; the same command goes on from here" in submitter.log("first")
    made = data(out)
    assert 0 < len(made) < 5

    done = submitter.run(submitter.submit(*JOB, out, *long, name="second"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert submitter.status("second") == "SUCCEEDED"
    assert f"{len(made)} of 5 shards are there already" in done.stdout  # the log, while it is waited for
    assert len(data(out)) == 5 and made.items() <= data(out).items()
    checked = json.loads(reprobatch("verify", out, "--regenerate", 10, "--json").stdout)
    assert checked["verdict"] == "intact" and checked["regenerated"]["differ"] == []
    assert_plain_progress(submitter.log("second"))


def assert_plain_progress(log: str) -> None:
    assert re.search(r"^\d+/70 items, [\d.]+/s, \d+ s left, \d workers?$", log, re.MULTILINE)
    assert re.search(r"^root [0-9a-f]{64}$", log, re.MULTILINE)
    assert "\r" not in log and "\x1b" not in log and "%|" not in log


def test_without_the_token_nothing_is_submitted(submitter: Submitter) -> None:
    done = submitter.run(submitter.submit("true", name="stranger"), RAY_AUTH_MODE="disabled")
    assert done.returncode != 0
    assert "Authentication required" in done.stderr
