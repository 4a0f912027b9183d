"""Datasets in an object store: a real S3 server, and one that fails now and then."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import s3
from conftest import DIGITS, ROOT, SMALL, data, reprobatch
from reprobatch import journal
from reprobatch.bucket import BucketStore
from reprobatch.compare import compare
from reprobatch.dataset import Dataset
from reprobatch.errors import DataError, JobError, StorageError
from reprobatch.status import status
from reprobatch.store import open_store, shard_name
from reprobatch.verification import verify


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with s3.server() as found:
        yield found


@pytest.fixture
def proxy(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[s3.Proxy]:
    found = s3.Proxy(endpoint)
    for name, value in s3.variables(found.endpoint).items():
        monkeypatch.setenv(name, value)
    yield found
    found.close()


@pytest.fixture
def copied(proxy: s3.Proxy, digits: Path) -> str:
    """The digits in a bucket."""
    place = f"s3://{s3.BUCKET}/copied"
    store = open_store(place)
    for path in sorted(digits.rglob("*")):
        if path.is_file():
            store.replace(str(path.relative_to(digits)), path.read_bytes())
    return place


def objects(place: str) -> dict[str, bytes]:
    store = open_store(place)
    return {name: store.get(f"data/{name}") for name in sorted(store.names("data"))}


def test_a_run_that_is_killed_and_resumed_before_a_failing_store_gives_the_bytes_of_a_folder(
    digits: Path, proxy: s3.Proxy
) -> None:
    place = f"s3://{s3.BUCKET}/killed"
    proxy.harm = s3.at_random(random.Random(20261123), 0.25)
    command = [sys.executable, "-m", "reprobatch.cli", "run", str(DIGITS), "--out", place, *SMALL]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None and not any("shard-" in path for method, path in proxy.requests if method == "PUT"):
        time.sleep(0.02)
    assert process.poll() is None
    process.kill()
    process.wait()
    made = reprobatch("run", *command[4:], "--json")
    proxy.harm = lambda method, path: None
    assert {"503", "reset", "slow", "lost answer"} <= proxy.done.keys(), proxy.done
    assert objects(place) == data(digits)
    assert json.loads(made.stdout)["root"] == json.loads((digits / "manifest.json").read_text())["root"]
    for name in ("job.json", "README.md", "SHA256SUMS", "manifest.json"):
        assert open_store(place).get(name) == (digits / name).read_bytes(), name
    found = Dataset(place)
    assert verify(found).verdict == "intact"
    assert status(found).done == 5
    runs = journal.read(found.store)
    assert len(runs) == 2 and runs[1][-1]["event"] == "end"
    again = reprobatch("regenerate", place, 33, "--json")
    assert json.loads(again.stdout)["verdict"] == "identical"


def test_a_look_up_takes_two_requests_and_reads_one_row_group(copied: str, proxy: s3.Proxy, digits: Path) -> None:
    dataset = Dataset(copied)
    assert dataset.plan.shards == 5  # its manifest is read once
    before, bytes_before = len(proxy.requests), proxy.sent
    row, batch = dataset.look_up(41)
    assert row.checksum == Dataset(digits).look_up(41)[0].checksum and len(batch) == 8
    assert [method for method, _ in proxy.requests[before:]] == ["GET", "GET"] or len(proxy.requests) - before == 1
    assert all("shard-000002" in path for _, path in proxy.requests[before:])
    assert proxy.sent - bytes_before <= 2 * (digits / shard_name(2)).stat().st_size


def test_workers_of_a_data_loader_read_a_bucket_where_they_are_spawned(copied: str, proxy: s3.Proxy) -> None:
    from torch.utils.data import DataLoader

    from reprobatch.torch_data import ShardSampler, TorchDataset

    dataset = TorchDataset(copied)
    sampler = ShardSampler(dataset, 16, workers=1)
    before = len(proxy.requests)
    loader = DataLoader(dataset, batch_sampler=sampler, num_workers=1, multiprocessing_context="spawn")
    assert sorted(int(index) for batch in loader for index in batch["index"]) == list(range(70))
    asked = [path for method, path in proxy.requests[before:] if "shard-" in path and method == "GET"]
    assert len(asked) == len(set(asked)) == 5  # small shards: footer and row group in one request
    with pytest.raises(JobError, match="expected a process that was not forked"):
        list(DataLoader(dataset, num_workers=1, multiprocessing_context="fork"))


def test_a_shard_of_many_row_groups_is_looked_up_in_at_most_three_requests(
    proxy: s3.Proxy, monkeypatch: pytest.MonkeyPatch, digits: Path
) -> None:
    from reprobatch import ranges

    monkeypatch.setattr(ranges, "TAIL", 1024)  # a footer longer than what comes at first
    store = open_store(f"s3://{s3.BUCKET}/ranges")
    store.put_new(shard_name(0), (digits / shard_name(0)).read_bytes())
    file = store.open(shard_name(0))
    from reprobatch.shardfile import ShardFile

    with ShardFile(file, "shard") as shard:
        table = shard.table(0)
    assert table.num_rows == 16 and file.requests <= 3


def test_a_lagging_list_makes_nothing_twice_and_loses_nothing(digits: Path, copied: str, proxy: s3.Proxy) -> None:
    proxy.harm = lambda method, path: "stale" if "list-type" in path and "data" in path else None
    assert len(list(open_store(copied).shards())) == 4
    store = open_store(copied)
    for number in range(5):
        assert not store.put_new(shard_name(number), (digits / shard_name(number)).read_bytes())
    proxy.harm = lambda method, path: None
    assert objects(copied) == data(digits)


def test_a_put_that_was_stored_but_answered_with_an_error_is_no_conflict(proxy: s3.Proxy) -> None:
    store = open_store(f"s3://{s3.BUCKET}/lost")
    assert store.create_only
    times = iter(["lost answer", "reset", "503"])
    proxy.harm = lambda method, path: next(times, None) if method == "PUT" else None
    store.put_new(shard_name(0), b"made")
    assert store.get(shard_name(0)) == b"made" and proxy.done["lost answer"] == 1


@pytest.mark.parametrize("conditional", [True, False])
def test_a_second_attempt_with_other_bytes_is_nondeterminism(
    proxy: s3.Proxy, monkeypatch: pytest.MonkeyPatch, conditional: bool
) -> None:
    if not conditional:
        monkeypatch.setenv("AWS_CONDITIONAL_PUT", "disabled")
    store = open_store(f"s3://{s3.BUCKET}/twice-{conditional}")
    assert store.create_only == conditional
    assert store.put_new(shard_name(0), [b"fi", b"rst"])
    assert not store.put_new(shard_name(0), b"first")
    with pytest.raises(DataError, match=r"shard-000000\.parquet: expected the bytes of the first commit"):
        store.put_new(shard_name(0), b"second")
    assert store.get(shard_name(0)) == b"first"


def test_without_conditional_puts_the_run_says_so(proxy: s3.Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    from reprobatch.resolve import load
    from reprobatch.runner import run

    monkeypatch.setenv("AWS_CONDITIONAL_PUT", "disabled")
    said: list[str] = []

    class Told(Exception):
        pass

    def tell(event: dict[str, object]) -> None:
        said.append(str(event.get("reason")))
        raise Told

    with pytest.raises(Told):
        run(load(DIGITS), f"s3://{s3.BUCKET}/unconditional", on_event=tell)
    assert said == [f"'s3://{s3.BUCKET}/unconditional' cannot refuse a second put: each is read back instead"]


def test_who_overwrites_between_put_and_reading_back_is_found_out(
    proxy: s3.Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_CONDITIONAL_PUT", "disabled")
    store = open_store(f"s3://{s3.BUCKET}/race")
    assert isinstance(store, BucketStore)
    other = open_store(f"s3://{s3.BUCKET}/race")
    pieces = store.pieces

    def late(name: str) -> Iterator[memoryview]:
        other.replace(name, b"another's")
        return pieces(name)

    monkeypatch.setattr(store, "pieces", late)
    with pytest.raises(DataError, match="not deterministic here"):
        store.put_new(shard_name(0), b"ours")


def test_another_job_in_the_same_place_is_refused(copied: str) -> None:
    done = reprobatch("run", DIGITS, "--out", copied, *SMALL, "-s", "master_seed=1", check=False)
    assert done.returncode == 2 and "master_seed: 1 here, 20261123 there" in done.stderr


def test_a_place_with_other_objects_is_not_taken(proxy: s3.Proxy) -> None:
    open_store(f"s3://{s3.BUCKET}/full").replace("mine.txt", b"mine")
    done = reprobatch("run", DIGITS, "--out", f"s3://{s3.BUCKET}/full", check=False)
    assert done.returncode == 2 and "found something else at" in done.stderr


def test_a_bucket_equals_its_folder_item_by_item(copied: str, digits: Path) -> None:
    report = compare(Dataset(copied), Dataset(digits))
    assert report.passed and report.statistics.verdicts["identical"] == 70


@pytest.mark.parametrize(
    ("changes", "error", "said"),
    [
        ({"AWS_SECRET_ACCESS_KEY": "wrong"}, JobError, "access denied"),
        ({"AWS_ENDPOINT": "http://127.0.0.1:1", "AWS_MAX_RETRIES": "1"}, StorageError, "the same command tries again"),
    ],
)
def test_a_store_that_cannot_be_used_is_said_in_a_line(
    proxy: s3.Proxy, monkeypatch: pytest.MonkeyPatch, changes: dict[str, str], error: type[Exception], said: str
) -> None:
    for name, value in changes.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(error, match=said) as found:
        Dataset(f"s3://{s3.BUCKET}/none")
    assert "\n" not in str(found.value) and s3.SECRET not in str(found.value)


def test_credentials_of_a_profile_are_found(endpoint: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)
    profile = tmp_path / "credentials"
    profile.write_text(f"[lab]\naws_access_key_id = {s3.KEY}\naws_secret_access_key = {s3.SECRET}\n")
    named = {"AWS_SHARED_CREDENTIALS_FILE": str(profile), "AWS_PROFILE": "lab", "AWS_REGION": "us-east-1"}
    for name, value in {**named, "AWS_ENDPOINT": endpoint}.items():
        monkeypatch.setenv(name, value)
    store = open_store(f"s3://{s3.BUCKET}/profile")
    store.replace("found", b"found")
    assert store.get("found") == b"found"


@pytest.mark.parametrize("url", ["s5://x/y", "s3://", "az://account/container/x", "file://host/x"])
def test_a_url_that_names_no_place_is_refused(url: str) -> None:
    with pytest.raises(JobError, match=r"expected a (place|URL) such as"):
        open_store(url)


@pytest.mark.parametrize("url", ["gs://bucket/digits", "s3://bucket/digits"])
def test_a_store_is_opened_without_a_request(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in s3.variables("http://127.0.0.1:1").items():
        monkeypatch.setenv(name, value)
    assert open_store(url).address == url


def test_a_file_url_is_a_folder(digits: Path) -> None:
    assert Dataset(f"file://{digits}")[3].checksum == Dataset(digits)[3].checksum
    assert os.fspath(digits) == open_store(f"file://{digits}").address
