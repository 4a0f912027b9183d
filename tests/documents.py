"""The fenced blocks of a Markdown page, and commands with what they print."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_HEADING = re.compile(r"^#+ (.*)$", re.MULTILINE)
_PROGRESS = re.compile(r"\d+/\d+ .*, .* left.*|\d+/\d+ .*no rate yet.*")
_SEPARATOR = "\x1e"


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, its text, and the heading that it stands under."""

    language: str
    text: str
    heading: str

    @property
    def is_transcript(self) -> bool:
        return self.text.startswith("$ ")

    def steps(self) -> list[tuple[str, list[str]]]:
        """A transcript's commands, each with the lines that it prints."""
        steps: list[tuple[str, list[str]]] = []
        for line in self.text.splitlines():
            if line.startswith("$ "):
                steps.append((line.removeprefix("$ "), []))
            elif steps[-1][0].endswith("\\"):
                steps[-1] = (f"{steps[-1][0]}\n{line}", steps[-1][1])
            else:
                steps[-1][1].append(line)
        return steps


def blocks(page: str) -> list[Block]:
    """All fenced blocks of a page, in order."""
    return [Block(found[1], found[2], _HEADING.findall(page, 0, found.start())[-1]) for found in _BLOCK.finditer(page)]


def printed(commands: Iterable[str], folder: Path, variables: Mapping[str, str]) -> Iterator[list[str]]:
    """What each command prints, on stdout and stderr, in one shell. A command that fails is an error."""
    script = "set -e\n" + "".join(f"{command}\nprintf '{_SEPARATOR}'\n" for command in commands)
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=folder,
        env=dict(variables),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout
    yield from (part.splitlines() for part in done.stdout.split(_SEPARATOR)[:-1])


def stable(lines: Iterable[str]) -> list[str]:
    """What is the same on every machine and for any number of items: no progress, no hashes, no numbers."""
    kept = [line.partition("  #")[0] for line in lines if line.strip() and not _PROGRESS.fullmatch(line)]
    hashed = [re.sub(r"\b[0-9a-f]{40,}\b", "<hash>", line) for line in kept]
    return [
        re.sub(r"(<number>,? ?)+", "<number> ", re.sub(r"\d+(\.\d+)?", "<number>", line)).strip() for line in hashed
    ]
