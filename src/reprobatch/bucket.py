"""A dataset under a prefix in an object store: S3 and what speaks like it, Google Cloud Storage, Azure.

Through obstore, which finds credentials the usual way (environment variables, the machine's role; for
S3 also profiles, where boto3 is installed) and tries again what failed for a moment. A shard is one put
with the condition that nothing is there of that name; a put that was stored but answered with an error
is tried again, found there, and compared.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any

import obstore
import pyarrow as pa
from obstore import exceptions
from obstore.store import from_url

from reprobatch.errors import JobError, StorageError
from reprobatch.ranges import RangeFile
from reprobatch.store import LOG, Log, Store, sha256_of

LARGEST_PUT = 5 << 30  # bytes; what S3 takes in one request, and only such a one can be create-only
REQUEST_TIME = timedelta(minutes=30)  # a shard of gigabytes goes in one request
FLUSH = 5.0  # seconds that a line of the log may wait
_MARK = f"{LOG}/create-only"
_METADATA = "169.254.169.254"  # where a cloud's machines are told their credentials
_DENIED = (exceptions.PermissionDeniedError, exceptions.UnauthenticatedError)


class BucketStore(Store):
    """Objects below ``s3://bucket/prefix``, ``gs://bucket/prefix`` or ``az://container/prefix``."""

    def __init__(self, url: str) -> None:
        self.address = url.rstrip("/")
        with self._said("open"):
            self._store: Any = from_url(url, **_options(url))
        self._lock = threading.Lock()
        self._conditional: bool | None = None

    def __str__(self) -> str:
        return self.address

    @property
    def create_only(self) -> bool:  # type: ignore[override]
        """Whether a second put of a name is refused; asked once, by putting a mark twice."""
        with self._lock:
            if self._conditional is None:
                self._conditional = self._put_new_is_refused()
            return self._conditional

    def create(self) -> None:
        pass  # an object store has no folders

    def is_free(self) -> bool:
        with self._said("list"):
            return not any(obstore.list(self._store))

    def exists(self, name: str) -> bool:
        try:
            with self._said("look for", name):
                obstore.head(self._store, name)
        except FileNotFoundError:
            return False
        return True

    def get(self, name: str) -> bytes:
        return bytes(self._whole(name))

    def open(self, name: str) -> RangeFile:
        def get(start: int, stop: int) -> Any:
            with self._said("read", name):
                return obstore.get_range(self._store, name, start=start, end=stop)

        return RangeFile(lambda size: self._tail(name, size), get)

    def open_hashed(self, name: str) -> tuple[str, pa.NativeFile]:
        data = self._whole(name)
        return sha256_of([data]), pa.BufferReader(pa.py_buffer(data))

    def pieces(self, name: str) -> Iterator[memoryview]:
        with self._said("read", name):
            for piece in obstore.get(self._store, name).stream():
                yield memoryview(piece)

    def replace(self, name: str, data: bytes) -> None:
        with self._said("write", name):
            obstore.put(self._store, name, data, use_multipart=False)

    def names(self, folder: str) -> Iterator[str]:
        with self._said("list"):
            for some in obstore.list(self._store, prefix=folder):
                yield from (entry["path"].removeprefix(f"{folder}/") for entry in some)

    def log(self, name: str) -> Log:
        return _BucketLog(self, name)

    def _tail(self, name: str, size: int) -> tuple[Any, int]:
        with self._said("read", name):
            try:
                result = obstore.get(self._store, name, options={"range": {"suffix": size}})
                return result.bytes(), result.meta["size"]
            except exceptions.BaseError:  # an empty object has no last bytes, and Azure no such request
                whole = obstore.head(self._store, name)["size"]
                start = max(0, whole - size)
                return obstore.get_range(self._store, name, start=start, end=whole) if whole else b"", whole

    def _whole(self, name: str) -> Any:
        with self._said("read", name):
            return obstore.get(self._store, name).bytes()

    def _create(self, name: str, data: Sequence[bytes | memoryview]) -> bool:
        size = sum(memoryview(piece).nbytes for piece in data)
        if size > LARGEST_PUT:
            raise JobError(
                f"{name}: expected at most {LARGEST_PUT} bytes, which is what one put may hold, found {size}; "
                "lower shard_size or shard_bytes"
            )
        if self.create_only:
            return self._put_if_new(name, data)
        if self.exists(name):
            return False
        with self._said("write", name):
            obstore.put(self._store, name, list(data), use_multipart=False)
        # whoever came in between is found out by reading back; its bytes are compared by the caller
        return self.sha256(name) == sha256_of(data)

    def _put_if_new(self, name: str, data: Sequence[bytes | memoryview]) -> bool:
        try:
            with self._said("write", name):
                obstore.put(self._store, name, list(data), mode="create", use_multipart=False)
        except exceptions.AlreadyExistsError:
            return False
        return True

    def _put_new_is_refused(self) -> bool:
        try:
            # a store that has no such condition may say so, or may just overwrite
            return not (self._put_if_new(_MARK, [b""]) and self._put_if_new(_MARK, [b""]))
        except (NotImplementedError, exceptions.NotSupportedError):
            return False
        except StorageError as error:
            if "501" in str(error):
                return False
            raise

    @contextmanager
    def _said(self, verb: str, name: str = "") -> Iterator[None]:
        """The object store's errors, in a line, by whose fault."""
        what = f"{self.address}/{name}" if name else self.address
        try:
            yield
        except _DENIED as error:
            raise JobError(f"cannot {verb} '{what}': access denied ({_line(error)}); check the credentials") from None
        except exceptions.AlreadyExistsError:
            raise
        except FileNotFoundError as error:
            if "NoSuchBucket" in str(error):
                raise JobError(f"cannot {verb} '{what}': there is no such bucket; make it first") from None
            raise
        except (exceptions.BaseError, ValueError) as error:
            if verb == "open":
                raise JobError(
                    f"expected a place such as s3://bucket/prefix, found '{what}' ({_line(error)})"
                ) from None
            hint = "the same command tries again"
            if _METADATA in str(error):
                hint = "no credentials in the environment, no role of this machine; set AWS_ACCESS_KEY_ID and the like"
            raise StorageError(f"cannot {verb} '{what}' ({_line(error)}); {hint}") from None


class _BucketLog(Log):
    """Lines put in parts, one every few seconds, since objects do not grow.

    The log is no part of the dataset: what cannot be put is tried again with the next part, and no run
    ends for it.
    """

    def __init__(self, store: BucketStore, name: str) -> None:
        self._store, self._name = store, name
        self._lines: list[str] = []
        self._part = 0
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._flush_now_and_then, name="log", daemon=True)
        self._thread.start()

    def write(self, line: str) -> None:
        with self._lock:
            self._lines.append(line)

    def close(self) -> None:
        self._ended.set()
        self._thread.join()

    def _flush_now_and_then(self) -> None:
        while not self._ended.wait(FLUSH):
            self._flush()
        self._flush()

    def _flush(self) -> None:
        with self._lock:
            lines = self._lines[:]
        if not lines:
            return
        with suppress(StorageError, JobError):
            text = "".join(f"{line}\n" for line in lines)
            self._store.replace(f"{LOG}/{self._name}.{self._part:06d}.jsonl", text.encode())
            self._part += 1
            with self._lock:
                del self._lines[: len(lines)]


def _options(url: str) -> dict[str, Any]:
    # a place or an endpoint is plain HTTP only where its user says so by naming it
    named = (url, *(os.environ.get(key, "") for key in ("AWS_ENDPOINT", "AWS_ENDPOINT_URL")))
    plain = any(place.startswith("http://") for place in named)
    options: dict[str, Any] = {"client_options": {"timeout": REQUEST_TIME, **({"allow_http": True} if plain else {})}}
    provider = _profile() if url.startswith("s3") else None
    return options if provider is None else {**options, "credential_provider": provider}


def _profile() -> Any:
    """Credentials of boto3, which knows profiles and single sign-on, where the environment has none."""
    if "AWS_ACCESS_KEY_ID" in os.environ:
        return None
    try:
        import boto3
        from obstore.auth.boto3 import Boto3CredentialProvider
    except ImportError:
        return None
    session = boto3.Session()
    return None if session.get_credentials() is None else Boto3CredentialProvider(session)


def _line(error: BaseException) -> str:
    """The first line of an error: what follows it are the library's own structures."""
    return " ".join(str(error).split("\n\nDebug source")[0].split())[:300]
