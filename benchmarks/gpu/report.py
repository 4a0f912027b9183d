"""What a section finds, a JSON line at a time, so that a section cut short loses nothing; and all as Markdown."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TextIO

Found = dict[str, Any]  # a section: name, title, status, reasons, seconds, tables, notes


class Findings:
    """Takes a section's rows, notes and problems, and writes each down at once."""

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def table(self, title: str, columns: Iterable[str]) -> None:
        """Begin a table; rows go to the last one begun."""
        self._write("table", {"title": title, "columns": list(columns), "rows": []})

    def row(self, *cells: Any) -> None:
        self._write("row", list(cells))

    def note(self, text: str) -> None:
        """Something to know of the tables above."""
        self._write("note", text)

    def problem(self, text: str) -> None:
        """Something that makes the section a failed one."""
        self._write("problem", " ".join(text.split()))

    def _write(self, kind: str, value: Any) -> None:
        self._file.write(json.dumps([kind, value]) + "\n")
        self._file.flush()


def read(path: Path) -> tuple[list[dict[str, Any]], list[str], list[str]]:
    """Tables, notes and problems of a findings file; a last line cut short by a kill is left out."""
    tables: list[dict[str, Any]] = []
    lists: dict[str, list[str]] = {"note": [], "problem": []}
    for line in path.read_text().splitlines():
        try:
            kind, value = json.loads(line)
        except ValueError:
            continue
        if kind == "table":
            tables.append(value)
        elif kind == "row":
            tables[-1]["rows"].append(value)
        else:
            lists[kind].append(value)
    return tables, lists["note"], lists["problem"]


def section(found: Found) -> str:
    """One section as Markdown."""
    parts = [f"## {found['title']}"]
    if found["status"] != "ok":
        parts.append("\n".join(f"**FAILED**: {reason}" for reason in found["reasons"]))
    for table in found["tables"]:
        parts.append(f"{table['title']}\n\n{_table(table['columns'], table['rows'])}")
    parts += found["notes"]
    return "\n\n".join(parts) + "\n"


def summary(sections: Iterable[Found]) -> str:
    """A line a section, failed ones with their reasons."""
    rows = [[f["name"], f["status"], f"{f['seconds']:.0f}", "; ".join(f["reasons"])] for f in sections]
    return f"## Sections\n\n{_table(['section', 'status', 'seconds', 'reason'], rows)}\n"


def _table(columns: list[str], rows: list[list[Any]]) -> str:
    def line(cells: Iterable[Any]) -> str:
        return f"| {' | '.join(_cell(c) for c in cells)} |"

    return "\n".join([line(columns), line(["---"] * len(columns)), *map(line, rows)])


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    return " ".join(str(value).replace("|", "\\|").split())
