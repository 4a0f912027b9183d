"""The Hugging Face hub: which commit a name stands for, and what is fetched of it. Loads no torch."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from reprobatch.errors import JobError

SUFFIXES = (".json", ".safetensors", ".txt", ".model")  # of what a model is made of; nothing else is fetched
DTYPES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}  # as safetensors calls them
_ID = re.compile(r"[\w.-]+/[\w.-]+")
_COMMIT = re.compile(r"[0-9a-f]{40}")


def is_id(reference: str) -> bool:
    """Whether a reference has the form of a hub id, ``owner/name``."""
    return bool(_ID.fullmatch(reference)) and not reference.startswith(".")


def is_commit(revision: str) -> bool:
    """Whether a revision is a commit, which never stands for something else."""
    return bool(_COMMIT.fullmatch(revision))


def commit_of(reference: str, revision: str | None) -> str:
    """The commit that a hub id's revision stands for."""
    if revision is None:
        raise JobError(f"hub id '{reference}' needs a revision: a commit, or a branch such as 'main'")
    return revision if is_commit(revision) else _commit(reference, revision)


def download_configurations(reference: str, commit: str) -> Path:
    """What a hub model says of itself, as a local folder: its index and its components' configurations."""
    return _download(reference, commit, ["model_index.json", "*/*config.json"])


def parameters(reference: str, commit: str, wanted: Callable[[str], bool]) -> dict[str, int]:
    """Parameters by dtype of a hub model's safetensors files, those ``wanted`` by name; reads their headers alone."""
    from huggingface_hub import HfApi

    found: Counter[str] = Counter()
    try:
        for name in HfApi().list_repo_files(reference, revision=commit):
            if wanted(name):
                counts = HfApi().parse_safetensors_file_metadata(reference, name, revision=commit).parameter_count
                found.update({DTYPES.get(dtype, "float32"): count for dtype, count in counts.items()})
    except Exception as error:  # the hub client raises its own, httpx's and OSError alike
        raise JobError(f"could not read the weights' headers of '{reference}' ({type(error).__name__})") from None
    return dict(found)


def download_attached(reference: str, commit: str, file: str | None) -> Path:
    """A hub repository at a commit as a local folder: one of its files, or its safetensors and configurations."""
    return _download(reference, commit, [file, f"{file}/*"] if file else [f"*{suffix}" for suffix in SUFFIXES])


def _download(reference: str, commit: str, patterns: list[str]) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(reference, revision=commit, allow_patterns=patterns))
    except Exception as error:  # the hub client raises its own, httpx's and OSError alike
        raise JobError(f"could not download '{reference}' at {commit[:12]} ({type(error).__name__}): {error}") from None


def _commit(reference: str, revision: str) -> str:
    from huggingface_hub import HfApi

    try:
        commit = HfApi().model_info(reference, revision=revision, timeout=20).sha
    except Exception as error:  # the hub client raises its own, httpx's and OSError alike
        raise JobError(
            f"could not resolve revision '{revision}' of '{reference}' on the hub "
            f"({type(error).__name__}); check the names and the network, or give a full commit"
        ) from None
    if commit is None:
        raise JobError(f"the hub knows no commit for revision '{revision}' of '{reference}'")
    return str(commit)
