"""Where a model lies, and the digest of what it holds.

A model reference is one of ``builtin:NAME`` (ships with the package), a folder, or a hub id with a
revision. Whatever it is, it becomes a local folder and a digest over its bytes; the digest is part of
the job, so that another model under the same name is another job. Loads no torch.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from reprobatch import canonical, hub
from reprobatch.errors import DataError, JobError, suggestion

INDEX = "model_index.json"
_LICENCE = re.compile(r"^license: ([\w.-]+)$", re.MULTILINE)
_LOCAL = re.compile(r"(builtin|folder|file):[^\0]+", re.DOTALL)


@dataclass(frozen=True)
class Model:
    """A model on this machine: its canonical reference, commit where it has one, folder and digest."""

    reference: str
    revision: str | None
    folder: Path
    digest: str


def builtin_names() -> list[str]:
    """Names that may follow ``builtin:``."""
    return sorted(p.name for p in _builtin_root().iterdir() if (p / INDEX).is_file())


def builtin_job(reference: str) -> Path:
    """The job file that ships beside a built-in model. Raises :class:`JobError` for a name that is none."""
    return _builtin_folder(reference) / "job.yaml"


def builtin_prompts(reference: str) -> bytes | None:
    """The item file of the job that ships beside a built-in model; ``None`` for other models."""
    if not reference.startswith("builtin:"):
        return None
    folder = _builtin_folder(reference)
    return (folder / f"{folder.name}.txt").read_bytes()


def folder_digest(folder: Path | str) -> str:
    """SHA-256 (hex) over what a pipeline folder holds.

    The hash of the canonical JSON of ``{relative path: SHA-256 of the file}`` over
    ``model_index.json`` and every ``.json``, ``.safetensors``, ``.txt`` and ``.model`` file in the
    component folders, and over weights and configurations beside the index where a component has no
    folder. Cards and other files at the top are not part of it.
    """
    folder = Path(folder)
    members = _members(folder)
    with ThreadPoolExecutor() as pool:
        digests = list(pool.map(_file_digest, members))
    names = [m.relative_to(folder).as_posix() for m in members]
    text = json.dumps(dict(zip(names, digests, strict=True)), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def read_index(folder: Path) -> dict[str, Any]:
    """``model_index.json`` of a pipeline folder; a pipeline that brings its own code is refused."""
    try:
        index = json.loads((folder / INDEX).read_text())
    except (OSError, ValueError) as error:
        raise JobError(
            f"expected a diffusers pipeline folder with a readable {INDEX}, found none at '{folder}' "
            f"({type(error).__name__}); point pipeline.model at the folder that save_pretrained wrote"
        ) from None
    name = index.get("_class_name") if isinstance(index, dict) else None
    if not isinstance(name, str):
        raise JobError(
            f"expected the name of a diffusers pipeline class in {INDEX}, found {name!r}; "
            "pipelines that bring their own code are not run"
        )
    return dict(index)


def licence(reference: str) -> str | None:
    """What the card of a built-in model states as its licence, in the hub's spelling; ``None`` for others.

    Others' cards are not part of a model's digest, so a licence read there would not follow from the job.
    """
    name = reference.removeprefix("builtin:")
    if name == reference or name not in builtin_names():
        return None
    stated = _LICENCE.search((_builtin_root() / name / "README.md").read_text(encoding="utf-8"))
    return stated[1] if stated else None


def resolve(reference: str, revision: str | None = None) -> Model:
    """Find the model of a job on this machine, downloading it where it is a hub id.

    ``reference`` is what the job says; relative folders are taken from the working directory. A
    branch or tag given as ``revision`` becomes the commit it stands for. Raises :class:`JobError`
    where there is no such model.
    """
    if reference.startswith("builtin:"):
        return _builtin(reference, revision)
    folder = Path(reference).expanduser()
    if folder.is_dir():
        return _folder(folder, revision)
    if hub.is_id(reference):
        return _hub(reference, revision)
    raise JobError(
        f"expected pipeline.model to be builtin:NAME, an existing folder or a hub id (owner/name), "
        f"found '{reference}'; check the path or the name"
    )


def combined(model: str, attached: Mapping[str, str]) -> str:
    """The model digest of a pipeline with attachments: over the model's own and theirs, each under its name.

    Without attachments it is the model's own.
    """
    return canonical.digest({"model": model, **attached}) if attached else model


def locate(
    reference: str,
    revision: str | None,
    digest: str,
    hint: str | None = None,
    attached: Mapping[str, str] | None = None,
) -> Model:
    """The model of a *resolved* job: found by reference, or at ``hint``, and proven by its digest.

    A folder is recorded by its name alone, because a path belongs to one machine; ``hint`` says
    where it lies here. ``attached`` has the digests of what ``digest`` covers besides the model. Raises
    :class:`JobError` where it cannot be found and :class:`DataError` where something else is there.
    """
    if reference.startswith("folder:"):
        if hint is None or not Path(hint).is_dir():
            raise JobError(
                f"expected the model folder '{reference.removeprefix('folder:')}' (digest {digest[:12]}…), "
                f"found {'no folder at ' + repr(hint) if hint else 'no path to it'}; give it with --model PATH"
            )
        model = _folder(Path(hint), None)
    else:
        model = resolve(hint or reference, None if hint else revision)
    found = combined(model.digest, attached or {})
    if found != digest:
        raise DataError(
            f"model {reference}: expected digest {digest}, found {found}; "
            "the weights or configuration changed under this name, use those the job was made with"
        )
    return model


def is_pinned(reference: str, revision: str | None) -> bool:
    """Whether a resolved job's reference names a model or attachment without a path: none that can be followed.

    That is ``builtin:NAME``, ``folder:NAME`` and ``file:NAME`` (which are found by their digest where the user says),
    or a hub id at a commit.
    """
    if revision is not None:
        return hub.is_id(reference) and hub.is_commit(revision)
    return bool(_LOCAL.fullmatch(reference)) and "/" not in reference


def folder_of(reference: str, revision: str | None = None) -> Path:
    """The folder of a model that is on this machine, unhashed. Raises :class:`JobError` where there is none."""
    _no_revision(reference, revision)
    if reference.startswith("builtin:"):
        return _builtin_folder(reference)
    folder = Path(reference).expanduser()
    if not folder.is_dir():
        raise JobError(f"expected builtin:NAME, an existing folder or a hub id (owner/name), found '{reference}'")
    return folder


def _builtin_root() -> Path:
    return Path(str(files("reprobatch"))) / "builtin"


def _builtin(reference: str, revision: str | None) -> Model:
    folder = _builtin_folder(reference)
    _no_revision(reference, revision)
    return Model(reference, None, folder, folder_digest(folder))


def _builtin_folder(reference: str) -> Path:
    name = reference.removeprefix("builtin:")
    if name not in builtin_names():
        raise JobError(
            f"expected one of {', '.join(builtin_names())} after 'builtin:', "
            f"found '{name}'{suggestion(name, builtin_names())}"
        )
    return _builtin_root() / name


def _folder(folder: Path, revision: str | None) -> Model:
    _no_revision(str(folder), revision)
    read_index(folder)
    return Model(f"folder:{folder.resolve().name}", None, folder.resolve(), folder_digest(folder))


def _no_revision(reference: str, revision: str | None) -> None:
    if revision is not None:
        raise JobError(f"pipeline.revision belongs to hub ids, found it with '{reference}'; leave it out")


def _hub(reference: str, revision: str | None) -> Model:
    if revision is None:
        raise JobError(
            f"hub model '{reference}' needs pipeline.revision: a commit, or a branch such as 'main' "
            "(it is resolved to its commit and stored); a folder of that name was not found either"
        )
    commit = hub.commit_of(reference, revision)
    from reprobatch.loading import download

    folder = download(reference, commit)
    read_index(folder)
    return Model(reference, commit, folder, folder_digest(folder))


def _members(folder: Path) -> list[Path]:
    found = {p for p in folder.glob("*/**/*") if p.suffix in hub.SUFFIXES and p.is_file()}
    hidden = {p for p in found if any(part.startswith(".") for part in p.relative_to(folder).parts)}
    # some old pipelines are flat: a component's weights lie beside the index, not in a folder of its own
    components = [name for name, entry in read_index(folder).items() if isinstance(entry, list) and entry[0]]
    flat = any(not (folder / name).is_dir() for name in components)
    beside = {p for p in folder.iterdir() if p.name.endswith((".safetensors", "config.json"))} if flat else set()
    return sorted({folder / INDEX} | (found - hidden) | beside)


def _file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
