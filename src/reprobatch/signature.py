"""Who answers for a dataset: a signature over its manifest, in OpenSSH's format, made and checked by ``ssh-keygen``.

The manifest holds the root, the job digest and the digest of ``SHA256SUMS``, so one signature covers them all. No
cryptography happens here: ``ssh-keygen -Y verify -n reprobatch`` says the same without reprobatch, with the keys
and the list of allowed signers that people have for git.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from reprobatch import store as names
from reprobatch.errors import DataError, JobError
from reprobatch.shardcheck import Problem
from reprobatch.store import Store

NAME = f"{names.MANIFEST}.sig"
NAMESPACE = "reprobatch"
_LIMIT = 1 << 16  # bytes of a signature; the largest keys make some thousand
_KEY = re.compile(r"with (\S+) key (\S+)")
_NOISE = re.compile(r"^(@.*|Signing .*|Enter passphrase[^:]*: *)", re.MULTILINE)


@dataclass(frozen=True)
class Signed:
    """What is known of a dataset's signature: the signer as the list names him, the key, and what is wrong."""

    signer: str | None = None
    key: str | None = None
    problem: Problem | None = None


def sign(store: Store, key: Path) -> str:
    """Sign a complete dataset's manifest, in the place of an earlier signature; returns the key's fingerprint.

    ``key`` is a private key, or a public one whose private half the SSH agent holds. An encrypted key's passphrase is
    asked for on the terminal. Raises :class:`DataError` where the dataset is not complete and :class:`JobError`
    where ``ssh-keygen`` cannot sign.
    """
    if not key.is_file():
        raise JobError(f"--key: expected a key file, found none at '{key}'; 'ssh-keygen -t ed25519' makes one")
    manifest = _manifest(store)
    try:
        complete = "root" in json.loads(manifest)
    except (ValueError, TypeError):
        complete = False
    if not complete:
        raise DataError(f"expected a root in {names.MANIFEST}, found none; 'reprobatch run' completes the dataset")
    with _files(manifest) as (file, signature):
        done = _ssh_keygen("sign", "-f", str(key), str(file))
        if done.returncode or not signature.is_file():
            hint = "" if "passphrase" not in done.stderr else _PASSPHRASE
            raise JobError(f"ssh-keygen could not sign with '{key}': {_said(done)}{hint}")
        store.replace(NAME, signature.read_bytes())
    fingerprint = check(store, None).key
    if fingerprint is None:
        raise DataError(f"expected {NAME} to fit {names.MANIFEST}, found that it does not; sign again")
    return fingerprint


_PASSPHRASE = "; give the right passphrase in a terminal, or 'ssh-add' the key first"


def check(store: Store, signers: Path | None) -> Signed:
    """Check a dataset's signature against its manifest and a file of allowed signers.

    Without ``signers``, only whether it fits the manifest, by whatever key. Raises :class:`JobError` where there is
    no such file, or no ``ssh-keygen``.
    """
    if signers is not None and not signers.is_file():
        raise JobError(f"--signers: expected a file of allowed signers, found none at '{signers}'; check the path")
    if not store.exists(NAME):
        return _wrong(f"a signature {NAME}", "none")
    signature, manifest = store.get(NAME), _manifest(store)
    if len(signature) > _LIMIT:
        return _wrong(f"a signature of at most {_LIMIT} bytes", f"{len(signature)}")
    with _files(manifest, signature) as (file, beside):
        done = _ssh_keygen("check-novalidate", "-s", str(beside), read=file)
        if done.returncode:
            return _wrong(f"a signature over this {names.MANIFEST}", f"none ({_said(done)}); was it made of another?")
        key = _fingerprint(done.stdout)
        if signers is None:
            return Signed(key=key)
        found = _ssh_keygen("find-principals", "-f", str(signers), "-s", str(beside))
        if found.returncode:
            return _wrong(f"a signer listed in {signers.name}", f"key {key}, which is not ({_said(found)})", key)
        for signer in found.stdout.splitlines():
            done = _ssh_keygen("verify", "-f", str(signers), "-I", signer, "-s", str(beside), read=file)
            if not done.returncode:
                return Signed(signer, key)
    return _wrong(f"a signer allowed by {signers.name}", f"key {key}, which is not ({_said(done)})", key)


def _manifest(store: Store) -> bytes:
    try:
        return store.get(names.MANIFEST)
    except FileNotFoundError:
        raise DataError(f"expected {names.MANIFEST}, found none; 'reprobatch run' completes the dataset") from None


def _wrong(expected: str, found: str, key: str | None = None) -> Signed:
    return Signed(key=key, problem=Problem("signature", expected, found))


def _fingerprint(said: str) -> str:
    match = _KEY.search(said)
    return f"{match[1]} {match[2]}" if match else "that ssh-keygen does not name"


@contextmanager
def _files(manifest: bytes, signature: bytes | None = None) -> Iterator[tuple[Path, Path]]:
    """Manifest and signature as files: with the manifest on stdin, ``sign`` would read a passphrase from it."""
    with TemporaryDirectory(prefix="reprobatch-") as folder:
        file, beside = Path(folder) / names.MANIFEST, Path(folder) / NAME
        file.write_bytes(manifest)
        if signature is not None:
            beside.write_bytes(signature)
        yield file, beside


def _ssh_keygen(action: str, *arguments: str, read: Path | None = None) -> subprocess.CompletedProcess[str]:
    namespace = () if action == "find-principals" else ("-n", NAMESPACE)
    command = ["ssh-keygen", "-Y", action, *namespace, *arguments]
    try:
        with open(read or os.devnull, "rb") as stdin:
            return subprocess.run(command, stdin=stdin, capture_output=True, text=True, errors="replace")
    except FileNotFoundError:
        raise JobError("expected ssh-keygen, found none on the PATH; install OpenSSH's client") from None


def _said(done: subprocess.CompletedProcess[str]) -> str:
    lines = [line.strip().rstrip(".") for line in _NOISE.sub("", done.stderr).splitlines()]
    return "; ".join(filter(None, lines))[:300] or f"exit code {done.returncode}"
