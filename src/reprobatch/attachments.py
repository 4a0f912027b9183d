"""What is put into a pipeline from beside its model: components such as a ControlNet, and adapters.

An attachment is a file or a folder, here or on the hub. Resolved, it is a reference without a path of one machine and a
digest over its bytes, so that another file under the same name is another job. Loads no torch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from reprobatch import canonical, hub, models
from reprobatch.errors import DataError, JobError
from reprobatch.settings import ATTRIBUTE_NAME, Strict

Hint = str | dict[str, str] | None  # where things lie on this machine: the model alone, or several by name
_WEIGHTS = ".safetensors"


class Source(Strict):
    """Where an attachment lies: ``path`` is a file, a folder or a hub id with its ``revision``.

    ``file`` names one within it.
    """

    path: str = Field(min_length=1)
    revision: str | None = Field(default=None, min_length=1)
    file: str | None = Field(default=None, min_length=1)


class Component(Source):
    """A component's own folder, as ``save_pretrained`` wrote it, in the place of the model's or where it has none."""


class _Worn(Strict):
    """How an adapter is put on: by its ``kind``, with a ``name`` and ``scale``; a textual inversion has a ``token``."""

    kind: Literal["lora", "textual_inversion", "ip_adapter"]
    name: str | None = Field(default=None, pattern=ATTRIBUTE_NAME)
    scale: float = 1.0
    token: str | None = Field(default=None, min_length=1)

    @model_validator(mode="after")
    def _fits(self) -> _Worn:
        if (self.token is not None) != (self.kind == "textual_inversion"):
            raise ValueError(
                f"expected 'token' with a textual_inversion and nothing else, found it otherwise ({self.kind})"
            )
        if self.kind == "textual_inversion" and (self.scale != 1.0 or self.name is not None):
            raise ValueError("a textual_inversion has no scale and no name; leave them out")
        return self


class Adapter(Source, _Worn):
    """A LoRA, a textual inversion or an IP-Adapter: one safetensors file."""


class ResolvedComponent(Strict):
    """A component, pinned."""

    reference: str
    revision: str | None
    file: str | None
    digest: str


class ResolvedAdapter(ResolvedComponent, _Worn):
    """An adapter, pinned."""


@dataclass(frozen=True)
class Attachment:
    """An attachment on this machine: reference, commit where it has one, path and digest."""

    reference: str
    revision: str | None
    path: Path
    digest: str


def resolve(name: str, source: Source, beside: Path) -> Attachment:
    """Find an attachment, from the working directory or beside the job file, downloading it where it is a hub id.

    ``name`` is the attachment's in the job, for errors. Raises :class:`JobError` where there is none.
    """
    for path in (Path(source.path).expanduser(), beside / source.path):
        if path.exists():
            if source.revision is not None:
                raise JobError(f"pipeline.{name}: revision belongs to hub ids, found it with a path; leave it out")
            found = _inside(name, path.resolve(), source.file)
            return _attachment(name, f"file:{found.name}", None, found)
    if not hub.is_id(source.path):
        raise JobError(f"pipeline.{name}: no file or folder at '{source.path}', and it is no hub id (owner/name)")
    if source.file is None and not name.startswith("components."):
        raise JobError(f"pipeline.{name}: hub repository '{source.path}' may hold several files; name one with 'file'")
    commit = hub.commit_of(source.path, source.revision)
    found = _inside(name, hub.download_attached(source.path, commit, source.file), source.file)
    return _attachment(name, source.path, commit, found)


def places(hint: Hint) -> dict[str, str]:
    """Where things lie on this machine, by name; a hint that is text is the model's place."""
    return {"model": hint} if isinstance(hint, str) else dict(hint or {})


def locate(name: str, pinned: ResolvedComponent, hint: str | None) -> Attachment:
    """A pinned attachment on this machine, proven by its digest.

    Raises :class:`JobError` where it cannot be found and :class:`DataError` where something else is there.
    """
    if hint is None and pinned.revision is not None:
        at = _inside(name, hub.download_attached(pinned.reference, pinned.revision, pinned.file), pinned.file)
    elif hint is None or not Path(hint).exists():
        raise JobError(
            f"expected {name} '{pinned.reference.removeprefix('file:')}' (digest {pinned.digest[:12]}…), found "
            f"{'nothing at ' + repr(hint) if hint else 'no path to it'}; give it with --place {name}=PATH"
        )
    else:
        at = Path(hint)
    found = _attachment(name, pinned.reference, pinned.revision, at)
    if found.digest != pinned.digest:
        raise DataError(
            f"{name} {pinned.reference}: expected digest {pinned.digest}, found {found.digest}; "
            "it changed under this name, use the one the job was made with"
        )
    return found


def locate_all(
    model: str,
    revision: str | None,
    digest: str,
    pinned: Mapping[str, ResolvedComponent | ResolvedAdapter],
    places: Mapping[str, str],
) -> tuple[models.Model, dict[str, Attachment]]:
    """A resolved pipeline's model and attachments here, proven by their digests; errors as :func:`locate`."""
    found = {name: locate(name, each, places.get(name)) for name, each in pinned.items()}
    digests = {name: each.digest for name, each in found.items()}
    return models.locate(model, revision, digest, places.get("model"), digests), found


def _attachment(name: str, reference: str, revision: str | None, path: Path) -> Attachment:
    component = name.startswith("components.")
    if component != path.is_dir():
        wanted = "a folder with a config.json" if component else "one file; name it with 'file'"
        raise JobError(f"pipeline.{name}: expected {wanted}, found {'a folder' if path.is_dir() else 'a file'}")
    if not component and path.suffix != _WEIGHTS:
        raise JobError(f"pipeline.{name}: expected a {_WEIGHTS} file, found '{path.name}'; other formats may hold code")
    return Attachment(reference, revision, path, _digest(path))


def _inside(name: str, path: Path, file: str | None) -> Path:
    if file is None:
        return path
    found = (path / file).resolve()
    if not path.is_dir() or not found.is_relative_to(path.resolve()) or not found.exists():
        raise JobError(f"pipeline.{name}: no '{file}' in '{path.name}'; correct 'file'")
    return found


def _digest(path: Path) -> str:
    if path.is_dir():
        members = sorted(p for p in path.rglob("*") if p.is_file() and p.suffix in hub.SUFFIXES)
        return canonical.digest({p.relative_to(path).as_posix(): _sha256(p) for p in members})
    return _sha256(path)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
