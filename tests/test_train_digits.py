"""The shipped model: that its training can be repeated, what its folder holds, and what it draws."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from diffusers import StableDiffusionPipeline

import reprobatch
from reprobatch.models import folder_digest

JOBS = Path(__file__).parents[1] / "jobs"
SHIPPED = Path(reprobatch.__file__).parent / "builtin" / "digits"
MEGABYTES = 14


@pytest.fixture(scope="module")
def measure() -> Iterator[ModuleType]:
    """``jobs/measure_digits.py`` as a module; it imports its neighbour, as a script would."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(JOBS)
        spec = importlib.util.spec_from_file_location("measure_digits", JOBS / "measure_digits.py")
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        yield module


def train_briefly(out: Path) -> str:
    """Train a few steps in a process of its own; returns the digest that the script prints."""
    steps = ["--vae-steps", "2", "--unet-steps", "2"]
    script = [sys.executable, str(JOBS / "train_digits.py"), "--out", str(out)]
    done = subprocess.run([*script, *steps], capture_output=True, text=True, check=True, timeout=300)
    return done.stdout.split()[-1]


def strings(value: Any) -> Iterator[str]:
    """Every string in a JSON value, keys too."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield key
            yield from strings(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from strings(inner)


def shipped_files() -> list[Path]:
    return [file for file in SHIPPED.rglob("*") if file.is_file()]


def test_training_twice_gives_the_same_digest(tmp_path: Path) -> None:
    first, second = (train_briefly(tmp_path / name) for name in ("first", "second"))
    assert first == second == folder_digest(tmp_path / "first")

    pipeline = StableDiffusionPipeline.from_pretrained(tmp_path / "second")
    picture = pipeline("a handwritten three", num_inference_steps=2, output_type="np").images[0]
    assert picture.shape == (32, 32, 3)
    assert np.isfinite(picture).all()


def test_card_states_the_digest() -> None:
    stated = re.findall(r"\b[0-9a-f]{64}\b", (SHIPPED / "README.md").read_text())
    assert stated == [folder_digest(SHIPPED)]


def test_card_credits_the_data_and_states_a_measured_quality() -> None:
    card = (SHIPPED / "README.md").read_text()
    assert "CC BY 4.0" in card
    assert "https://doi.org/10.24432/C50P49" in card
    assert "Not measured yet" not in card


def test_shipped_model_is_what_the_script_trains(measure: ModuleType) -> None:
    from train_digits import Recipe  # found beside the script, which the fixture has loaded

    recipe = json.loads((SHIPPED / "training.json").read_text())["recipe"]
    assert Recipe(**recipe) == Recipe()


def test_shipped_folder_is_small() -> None:
    assert sum(file.stat().st_size for file in shipped_files()) <= MEGABYTES * 1_000_000


def test_shipped_folder_holds_only_safetensors_and_text() -> None:
    assert {file.suffix for file in shipped_files()} == {".json", ".safetensors", ".md", ".txt", ".yaml"}


def test_shipped_json_holds_no_absolute_path() -> None:
    for file in SHIPPED.rglob("*.json"):
        for text in strings(json.loads(file.read_text())):
            assert not PurePosixPath(text).is_absolute(), (file.name, text)
            assert not PureWindowsPath(text).is_absolute(), (file.name, text)


def test_shipped_model_draws_the_digit_asked_for(measure: ModuleType) -> None:
    judge, accuracy = measure.train_judge()
    assert accuracy >= measure.JUDGE_NEEDS

    pictures = np.concatenate(list(measure.generate(measure.load(SHIPPED), 30)))
    assert measure.recognised(judge, pictures).mean() >= 0.9


def test_judge_fails_a_model_that_draws_other_digits(measure: ModuleType) -> None:
    judge, _ = measure.train_judge()
    blank = np.zeros((20, 32, 32, 3))
    assert measure.recognised(judge, blank).mean() <= 0.1
