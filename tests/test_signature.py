"""Who answers for a dataset: OpenSSH's signature over its manifest, by real keys and the real ssh-keygen."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from synthetic import Command, made

ALICE = "alice@example.org"


def ssh_keygen(*arguments: object, data: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(["ssh-keygen", *map(str, arguments)], input=data, capture_output=True, timeout=60)


def make_key(path: Path, passphrase: str = "") -> Path:
    assert ssh_keygen("-q", "-t", "ed25519", "-N", passphrase, "-C", "", "-f", path).returncode == 0
    return path


def allow(path: Path, key: Path, options: str = "", names: str = ALICE) -> Path:
    path.write_text(f"{names} {options} {key.with_name(key.name + '.pub').read_text()}")
    return path


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Alice's and Mallory's keys, and lists of allowed signers."""
    folder = tmp_path_factory.mktemp("keys")
    alice, mallory = make_key(folder / "alice"), make_key(folder / "mallory")
    allow(folder / "signers", alice)
    allow(folder / "others", mallory)
    return folder


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Iterator[Command]:
    before = signal.getsignal(signal.SIGTERM)
    yield Command(capsys)
    signal.signal(signal.SIGTERM, before)


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    return made(tmp_path / "dataset", tens=1)


@pytest.fixture
def signed(dataset: Path, keys: Path, command: Command) -> Path:
    assert command("sign", dataset, "--key", keys / "alice")[0] == 0
    return dataset


@pytest.fixture
def verify(command: Command) -> Callable[..., tuple[int, dict]]:
    def run(*arguments: object) -> tuple[int, dict]:
        code, printed, _ = command("verify", *arguments, "--json")
        return code, json.loads(printed)

    return run


def signature_problem(facts: dict) -> str:
    assert facts["verdict"] == "untrusted"
    (problem,) = facts["problems"]
    assert problem["kind"] == "signature" and (problem["shard"], problem["index"]) == (None, None)
    return f"expected {problem['expected']}, found {problem['found']}"


Verify = Callable[..., tuple[int, dict]]


def test_a_signed_dataset_names_its_signer(signed: Path, keys: Path, command: Command) -> None:
    fingerprint = ssh_keygen("-l", "-f", keys / "alice.pub").stdout.decode().split()[1]
    code, printed, _ = command("verify", signed, "--signers", keys / "signers")
    assert (code, printed.splitlines()[1]) == (0, f"signed by {ALICE} with ED25519 {fingerprint}")
    assert printed.startswith("intact: 10 items, root ")
    _, printed, _ = command("verify", signed, "--signers", keys / "signers", "--json")
    assert json.loads(printed)["signature"] == {"checked": True, "signer": ALICE, "key": f"ED25519 {fingerprint}"}


def test_ssh_keygen_alone_says_the_same(signed: Path, keys: Path) -> None:
    manifest, sig = (signed / "manifest.json").read_bytes(), signed / "manifest.json.sig"
    options = ["-Y", "verify", "-f", keys / "signers", "-I", ALICE, "-n", "reprobatch", "-s", sig]
    assert ssh_keygen(*options, data=manifest).returncode == 0
    assert ssh_keygen(*options, data=manifest + b" ").returncode != 0


def test_a_signature_made_by_ssh_keygen_alone_is_as_good(dataset: Path, keys: Path, verify: Verify) -> None:
    assert ssh_keygen("-Y", "sign", "-n", "reprobatch", "-f", keys / "alice", dataset / "manifest.json").returncode == 0
    code, facts = verify(dataset, "--signers", keys / "signers")
    assert (code, facts["signature"]["signer"]) == (0, ALICE)


def test_a_signature_that_was_not_checked_is_mentioned(signed: Path, command: Command, verify: Verify) -> None:
    code, printed, _ = command("verify", signed)
    assert code == 0 and "signed (manifest.json.sig), but that was not checked; --signers FILE says who" in printed
    assert verify(signed)[1]["signature"] == {"checked": False}


def test_a_dataset_without_a_signature_is_intact_but_for_nobody_who_asks_for_one(
    dataset: Path, keys: Path, verify: Verify
) -> None:
    code, facts = verify(dataset)
    assert (code, facts["verdict"], facts["signature"]) == (0, "intact", None)
    code, facts = verify(dataset, "--signers", keys / "signers")
    assert code == 1 and signature_problem(facts) == "expected a signature manifest.json.sig, found none"


def test_a_signer_who_is_not_listed_is_not_trusted(signed: Path, keys: Path, verify: Verify) -> None:
    code, facts = verify(signed, "--signers", keys / "others")
    said = signature_problem(facts)
    assert code == 1 and said.startswith("expected a signer listed in others, found key ED25519 SHA256:")
    assert facts["signature"]["signer"] is None and facts["signature"]["key"] in said


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ('namespaces="git,reprobatch"', 0),
        ('namespaces="git"', 1),
        ('valid-before="20200101"', 1),
        ('valid-after="20200101"', 0),
    ],
)
def test_the_list_may_say_what_for_and_when_a_key_is_good(
    options: str, code: int, signed: Path, keys: Path, verify: Verify, tmp_path: Path
) -> None:
    found, facts = verify(signed, "--signers", allow(tmp_path / "signers", keys / "alice", options))
    assert found == code
    assert code == 0 or signature_problem(facts).startswith("expected a signer ")


def test_one_key_may_have_several_names(signed: Path, keys: Path, verify: Verify, tmp_path: Path) -> None:
    _, facts = verify(
        signed, "--signers", allow(tmp_path / "signers", keys / "alice", names="a@example.org,b@example.org")
    )
    assert facts["signature"]["signer"] == "a@example.org"


def test_a_signature_of_another_manifest_is_told_apart_from_a_stranger(
    signed: Path, keys: Path, verify: Verify
) -> None:
    manifest = json.loads((signed / "manifest.json").read_text())
    (signed / "manifest.json").write_text(json.dumps(manifest | {"environment": {"torch": "9.9"}}))
    code, facts = verify(signed, "--signers", keys / "signers")
    said = (
        "expected a signature over this manifest.json, found none (Signature verification failed: incorrect signature"
    )
    assert code == 1 and signature_problem(facts).startswith(said)
    assert "was it made of another?" in signature_problem(facts)


def test_a_signature_for_another_purpose_is_none(dataset: Path, keys: Path, verify: Verify) -> None:
    ssh_keygen("-Y", "sign", "-n", "git", "-f", keys / "alice", dataset / "manifest.json")
    code, facts = verify(dataset, "--signers", keys / "signers")
    assert code == 1 and "namespace does not match" in signature_problem(facts)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "expected a signature over this manifest.json, found none"),
        (b"nonsense", "expected a signature over this manifest.json, found none"),
        (b"\0" * 100_000, "expected a signature of at most 65536 bytes, found 100000"),
    ],
    ids=["empty", "nonsense", "huge"],
)
def test_a_file_that_is_no_signature_is_none(
    content: bytes, expected: str, signed: Path, keys: Path, verify: Verify
) -> None:
    (signed / "manifest.json.sig").write_bytes(content)
    code, facts = verify(signed, "--signers", keys / "signers")
    assert code == 1 and signature_problem(facts).startswith(expected)


def test_a_bit_flipped_anywhere_in_a_signature_is_found(signed: Path, keys: Path) -> None:
    """The encoded part, a bit in each eighth byte."""
    from reprobatch import signature
    from reprobatch.dataset import Dataset

    store, original = Dataset(signed).store, (signed / "manifest.json.sig").read_bytes()
    begin, end = original.index(b"\n") + 1, original.rindex(b"\n-----END")
    for at in range(begin, end - 4, 8):  # the last four hold unused bits
        changed = bytearray(original)
        changed[at] ^= 1
        (signed / "manifest.json.sig").write_bytes(changed)
        assert signature.check(store, keys / "signers").problem is not None, at


def test_a_good_signature_does_not_hide_damage(signed: Path, keys: Path, verify: Verify) -> None:
    shard = signed / "data" / "shard-000000.parquet"
    shard.write_bytes(shard.read_bytes()[:-1])
    code, facts = verify(signed, "--signers", keys / "signers")
    assert (code, facts["verdict"], facts["signature"]["signer"]) == (1, "damaged", ALICE)


def test_signing_again_replaces_the_signature(signed: Path, keys: Path, command: Command, verify: Verify) -> None:
    code, printed, _ = command("sign", signed, "--key", keys / "mallory", "--json")
    facts = json.loads(printed)
    manifest = json.loads((signed / "manifest.json").read_text())
    assert (code, facts["root"], facts["signature"]) == (0, manifest["root"], "manifest.json.sig")
    assert verify(signed, "--signers", keys / "signers")[0] == 1
    code, found = verify(signed, "--signers", keys / "others")
    assert (code, found["signature"]["key"]) == (0, facts["key"])


@pytest.mark.parametrize("manifest", [None, "{}", "[]", "no JSON"])
def test_only_a_complete_dataset_is_signed(
    manifest: str | None,
    dataset: Path,
    keys: Path,
    command: Command,
) -> None:
    (dataset / "manifest.json").unlink()
    if manifest is not None:
        (dataset / "manifest.json").write_text(manifest)
    code, printed, said = command("sign", dataset, "--key", keys / "alice")
    assert (code, printed, said.count("\n")) == (1, "", 1) and "'reprobatch run' completes" in said
    assert not (dataset / "manifest.json.sig").exists()


# What ssh-keygen cannot do


def test_without_ssh_keygen_it_is_said_what_to_install(
    signed: Path,
    keys: Path,
    command: Command,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    for arguments in (["sign", signed, "--key", keys / "alice"], ["verify", signed, "--signers", keys / "signers"]):
        assert "expected ssh-keygen, found none on the PATH; install OpenSSH" in command.refuses(*arguments)


def test_an_encrypted_key_without_its_passphrase_is_not_used(
    dataset: Path,
    command: Command,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SSH_ASKPASS", "/bin/false")
    monkeypatch.setenv("SSH_ASKPASS_REQUIRE", "force")  # or a terminal would be asked
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    said = command.refuses("sign", dataset, "--key", make_key(tmp_path / "locked", "secret"))
    assert "incorrect passphrase supplied" in said and "'ssh-add' the key first" in said
    assert not (dataset / "manifest.json.sig").exists()


@pytest.fixture
def agent(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with tempfile.TemporaryDirectory() as folder:  # a socket's path must be short
        place = Path(folder) / "agent"
        with subprocess.Popen(["ssh-agent", "-D", "-a", str(place)], stdout=subprocess.DEVNULL) as process:
            while not place.exists():
                assert process.poll() is None
                time.sleep(0.01)
            monkeypatch.setenv("SSH_AUTH_SOCK", str(place))
            yield
            process.terminate()


def test_a_key_in_the_agent_is_named_by_its_public_half(
    agent: None,
    dataset: Path,
    command: Command,
    verify: Verify,
    tmp_path: Path,
) -> None:
    key = make_key(tmp_path / "alice")
    subprocess.run(["ssh-add", "-q", str(key)], check=True)
    key.unlink()
    assert command("sign", dataset, "--key", tmp_path / "alice.pub")[0] == 0
    assert verify(dataset, "--signers", allow(tmp_path / "signers", key))[0] == 0


def test_what_cannot_sign_is_said_in_one_line(
    dataset: Path,
    keys: Path,
    command: Command,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    assert "--key: expected a key file, found none at" in command.refuses("sign", dataset, "--key", tmp_path / "none")
    assert "is a directory" in command.refuses("sign", dataset, "--key", tmp_path)
    assert "ssh-keygen could not sign" in command.refuses("sign", dataset, "--key", keys / "signers")
    shutil.copy(keys / "alice.pub", tmp_path / "lonely.pub")
    assert "No private key found" in command.refuses("sign", dataset, "--key", tmp_path / "lonely.pub")
    shutil.copy(keys / "alice", tmp_path / "open")
    (tmp_path / "open").chmod(0o644)
    assert "are too open" in command.refuses("sign", dataset, "--key", tmp_path / "open")
    assert "expected a dataset" in command.refuses("sign", tmp_path, "--key", keys / "alice")


def test_a_list_of_signers_that_is_not_there_is_said_before_anything_is_read(
    signed: Path,
    command: Command,
    tmp_path: Path,
) -> None:
    said = command.refuses("verify", signed, "--signers", tmp_path / "none")
    assert "--signers: expected a file of allowed signers, found none at" in said
