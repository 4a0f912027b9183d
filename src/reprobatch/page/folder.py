"""A report's folder: made beside its place under another name, and put there when it is whole."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from reprobatch.errors import JobError

FORMAT = "reprobatch-report/1"
MARK = "report.json"
ASSETS = ("style.css", "core.js", "charts.js", "snippet.js", "grid.js", "item.js", "tabs.js", "main.js")
_OURS = {"index.html", MARK, "assets", "data", "sheets", "pictures", "apart"}


class Folder:
    """A folder that is being filled; counts what it holds."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self.files = self.bytes = 0

    def put(self, name: str, data: bytes) -> None:
        """Write a file; its name is made of constants and numbers."""
        path = self._root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        self.files, self.bytes = self.files + 1, self.bytes + len(data)

    def put_page(self, facts: dict[str, Any]) -> None:
        """Write the page itself: ``index.html`` of its template, and its scripts and style."""
        loader = PackageLoader("reprobatch", "page")
        template = Environment(loader=loader, autoescape=True, undefined=StrictUndefined).get_template("index.html")
        scripts = [name for name in ASSETS if name.endswith(".js")]
        self.put("index.html", template.render(**facts, scripts=scripts).encode())
        for name in ASSETS:
            self.put(f"assets/{name}", files("reprobatch").joinpath("page", name).read_bytes())


def check_free(out: Path) -> None:
    """Raise :class:`JobError` where ``out`` is no place for a report: a file, or a folder of something else."""
    if out.is_dir():
        there = {path.name for path in out.iterdir()}
        if there and (not _is_report(out) or there - _OURS):
            strange = sorted(there - _OURS) or sorted(there)
            raise JobError(
                f"--out: expected a new folder, an empty one or an earlier report, found '{strange[0]}' in '{out}'; "
                "choose another folder"
            )
    elif out.exists() or out.is_symlink():
        raise JobError(f"--out: expected a folder, found a file at '{out}'; choose another place")
    elif not out.absolute().parent.is_dir():
        raise JobError(f"--out: the folder of '{out}' does not exist; make it first")


@contextmanager
def replacing(out: Path) -> Iterator[Folder]:
    """A folder to be filled, that takes the place of ``out`` in the end; nothing is left of it where that fails."""
    check_free(out)
    place = out.resolve()
    try:
        beside = Path(tempfile.mkdtemp(prefix=f".{place.name}-", dir=place.parent))
    except OSError as error:
        raise JobError(f"--out: cannot make a folder in '{out.parent}': {error.strerror}") from None
    made, old = beside / "new", beside / "old"
    try:
        made.mkdir()
        yield Folder(made)
        if place.exists():
            check_free(out)  # it may have become something else meanwhile
            os.rename(place, old)
        os.rename(made, place)
    finally:
        if old.exists() and not place.exists():
            os.rename(old, place)
        shutil.rmtree(beside, ignore_errors=True)


def _is_report(folder: Path) -> bool:
    try:
        found = json.loads((folder / MARK).read_text())
    except (OSError, ValueError):
        return False
    return isinstance(found, dict) and str(found.get("format", "")).startswith("reprobatch-report/")
