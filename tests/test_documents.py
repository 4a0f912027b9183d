"""The README's and the tutorial's commands run as they stand, and print what the pages say; the reference is current.

Two rules, and no other exception: the README's *Install* is what CI itself does, so it is compared with ``.ci/run``
instead; and the job makes less: of the first prompt alone, a hundred items instead of a thousand, in 4 steps, not 20.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

import reprobatch
from conftest import ROOT
from documents import Block, blocks, printed, stable

README, TUTORIAL = ((ROOT / name).read_text() for name in ("README.md", "docs/tutorial.md"))
INSTALL = "Install"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the commands are given: a folder with the repository's job, which makes less."""
    folder = tmp_path_factory.mktemp("clone")
    (folder / "jobs" / "prompts").mkdir(parents=True)
    for name in ("jobs/digits.yaml", "jobs/prompts/digits.txt"):
        (folder / name).write_text((ROOT / name).read_text())
    prompts, job = folder / "jobs" / "prompts" / "digits.txt", folder / "jobs" / "digits.yaml"
    prompts.write_text(prompts.read_text().splitlines()[0] + "\n")
    job.write_text(job.read_text().replace("num_inference_steps: 20", "num_inference_steps: 4"))
    return folder


@pytest.fixture(scope="module")
def variables() -> Mapping[str, str]:
    return {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}


@pytest.fixture(scope="module")
def readme(folder: Path, variables: Mapping[str, str]) -> list[tuple[Block, list[list[str]]]]:
    """The README's transcripts, each with what its commands printed just now."""
    return [(block, run(block, folder, variables)) for block in blocks(README) if block.is_transcript]


def run(block: Block, folder: Path, variables: Mapping[str, str]) -> list[list[str]]:
    return list(printed((command for command, _ in block.steps()), folder, variables))


def compare(block: Block, found: list[list[str]]) -> None:
    for (command, said), now in zip(block.steps(), found, strict=True):
        assert stable(now) == stable(said), command


def test_the_readmes_transcripts_are_what_its_commands_print(readme: list[tuple[Block, list[list[str]]]]) -> None:
    assert len(readme) == 1
    for block, found in readme:
        compare(block, found)
    _, again = found
    assert again[1].startswith("item 42 (seed 1529789850)")  # that of the whole dataset
    assert [line.split()[0] for line in again[2:]] == ["stored", "computed", "identical"]
    assert again[2].split()[1] == again[3].split()[1]


def test_the_readmes_first_commands_are_those_of_its_transcript() -> None:
    opening, transcript = blocks(README)[:2]
    assert opening.text.splitlines() == [command for command, _ in transcript.steps()]


def test_the_readmes_python_says_what_its_comments_say(
    readme: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    (code,) = (block.text for block in blocks(README) if block.language == "python")
    names: dict[str, Any] = {}
    exec(compile(code, "README.md", "exec"), names)
    (said,) = (re.fullmatch(r"(.*?)  # ('.*')", line) for line in code.splitlines() if line.endswith("'"))
    assert said is not None and repr(eval(said[1], names)) == said[2]
    assert names["dataset"][42].latents.shape == (4, 8, 8)


def test_the_readmes_install_is_what_ci_does() -> None:
    found = [block for block in blocks(README) if block.heading == INSTALL]
    lines = [part.strip() for block in found for line in block.text.splitlines() for part in line.split("&&")]
    steps = [line.replace("pip install -q", "pip install") for line in (ROOT / ".ci" / "run").read_text().splitlines()]
    assert len(lines) == 5
    assert all(any(step == line or step.startswith(f"{line} -") for step in steps) for line in lines), lines


def test_no_block_of_the_readme_is_left_out() -> None:
    others = [block for block in blocks(README) if block.heading != INSTALL and block.language != "python"]
    assert [block.is_transcript for block in others] == [False, True]


def test_the_tutorials_commands_print_what_it_says(readme: Any, folder: Path, variables: Mapping[str, str]) -> None:
    steps = [step for block in blocks(TUTORIAL) for step in block.steps()]
    assert all(block.language == "console" for block in blocks(TUTORIAL)) and len(steps) > 10
    for (command, said), now in zip(steps, printed((each for each, _ in steps), folder, variables), strict=True):
        # the README's run measured, and made the shards: here they are there already
        apart = {"measuring what is reproducible here", "<number> of <number> shards are there already"}
        assert [x for x in stable(now) if x not in apart] == [x for x in stable(said) if x not in apart], command
    assert {"plan", "run", "status", "show", "regenerate", "verify", "prove", "export", "init"} <= verbs(steps)
    assert len(list((folder / "pictures").glob("*.png"))) == 100


def verbs(steps: list[tuple[str, list[str]]]) -> set[str]:
    return {command.split()[1] for command, _ in steps if command.startswith("reprobatch ")}


@pytest.mark.parametrize("found", [["identical"], ["item 42", "different"], []])
def test_a_transcript_that_differs_is_noticed(found: list[str]) -> None:
    block = Block("console", "$ reprobatch regenerate digits 42\nitem 42\nidentical\n", "")
    with pytest.raises(AssertionError):
        compare(block, [found])


def test_a_command_that_fails_is_noticed(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="so it was"):
        list(printed(["echo so it was", "false", "true"], tmp_path, os.environ))


@pytest.fixture
def reference(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.syspath_prepend(ROOT / "docs")
    import make_reference

    yield make_reference
    sys.modules.pop("make_reference")


def test_the_reference_is_what_the_code_makes_of_it(reference: Any) -> None:
    assert (ROOT / "docs" / "reference.md").read_text() == reference.page(), f"run '{reference.COMMAND}'"


def test_every_key_of_a_job_and_every_public_name_is_explained(reference: Any) -> None:
    page = reference.page()
    job = page[page.index("## Job") : page.index("## Row")]
    for section in job.split("\n### ")[1:]:
        prose, _, table = section.partition("| key |")
        keys = re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)
        assert keys and not [key for key in keys if f"`{key}`" not in prose and f"`{key}: " not in prose], section
    for name in reprobatch.__all__:
        told = page.partition(f"### reprobatch.{name}\n")[2].partition("\n### ")[0]
        assert len(told.partition("\n\n")[2].strip()) > 20, name


@pytest.mark.parametrize(
    "page", [*sorted((ROOT / "docs").glob("*.md")), ROOT / "README.md"], ids=lambda page: page.name
)
def test_links_within_the_repository_lead_somewhere(page: Path) -> None:
    for target, anchor in re.findall(r"\]\(([^)#:]*)(?:#([^)]*))?\)", page.read_text()):
        path = (page.parent / target).resolve() if target else page
        assert path.exists(), target
        headings = re.findall(r"^#+ (.*)$", path.read_text(), re.MULTILINE) if path.suffix == ".md" else []
        slugs = {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
        assert not anchor or anchor in slugs, f"{target}#{anchor}"
