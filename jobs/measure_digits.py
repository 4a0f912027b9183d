"""Measure how often a digits model draws the digit it was asked for.

    python jobs/measure_digits.py --model DIR --sheet sheet.png      # minutes on 2 CPU cores

The judge is a support vector machine that has only seen real digits: it is trained on two thirds of
scikit-learn's digits and has to recognise at least 97 % of the other third before it may judge. The
pictures come from plain diffusers, one CPU generator a picture, so that no code of reprobatch has a
part in the figure. The exit status is 0 at 95 % of the pictures recognised, 1 below.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from diffusers import StableDiffusionPipeline
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.svm import SVC

from train_digits import WORDS

STEPS = 20  # these two are those of the job that ships with the model
GUIDANCE = 4.0
JUDGE_NEEDS = 0.97
MODEL_NEEDS = 0.95
BATCH = len(WORDS)  # a batch holds each digit once


def train_judge() -> tuple[SVC, float]:
    """A classifier of 8x8 digits, and its accuracy on the third of the real digits it never saw."""
    digits = load_digits()
    seen, unseen, seen_labels, unseen_labels = train_test_split(
        digits.data, digits.target, test_size=1 / 3, random_state=0
    )
    judge = SVC(kernel="rbf", C=10.0).fit(seen, seen_labels)
    return judge, float(judge.score(unseen, unseen_labels))


def load(model: Path) -> StableDiffusionPipeline:
    """The model as plain diffusers loads it, from the folder alone."""
    pipeline = StableDiffusionPipeline.from_pretrained(model)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def generate(
    pipeline: StableDiffusionPipeline, count: int, guidance: float = GUIDANCE, steps: int = STEPS
) -> Iterator[np.ndarray]:
    """``count`` pictures in batches (10, 32, 32, 3) of [0, 1]; picture n has seed n and asks for n % 10."""
    prompts = [f"a handwritten {word}" for word in WORDS]
    for first in range(0, count, BATCH):
        yield pipeline(
            prompts,
            num_inference_steps=steps,
            guidance_scale=guidance,
            generator=[torch.Generator("cpu").manual_seed(first + n) for n in range(BATCH)],
            output_type="np",
        ).images


def generate_all(pipeline: StableDiffusionPipeline, count: int, guidance: float, steps: int) -> np.ndarray:
    """All the pictures of :func:`generate` in one array, with a line of progress now and then."""
    start, batches = time.monotonic(), []
    for batch in generate(pipeline, count, guidance, steps):
        batches.append(batch)
        done = len(batches) * BATCH
        if done % 50 == 0 or done == count:
            left = (time.monotonic() - start) / done * (count - done)
            print(f"pictures {done}/{count}, {left:.0f} s left", flush=True)
    return np.concatenate(batches)


def as_real(pictures: np.ndarray) -> np.ndarray:
    """Pictures (n, 32, 32, 3) of [0, 1] as rows like the real ones: 64 area means of [0, 16]."""
    grey = pictures.mean(axis=-1).reshape(-1, 8, 4, 8, 4)
    return grey.mean(axis=(2, 4)).reshape(-1, 64) * 16


def recognised(judge: SVC, pictures: np.ndarray) -> np.ndarray:
    """Share of the pictures read as the digit they were asked for, by digit, (10,)."""
    right = judge.predict(as_real(pictures)) == np.arange(len(pictures)) % len(WORDS)
    return right.reshape(-1, len(WORDS)).mean(axis=0)


def write_sheet(pictures: np.ndarray, file: Path) -> None:
    """A contact sheet: one row a digit, one column a batch, a thin grey line around each picture."""
    framed = np.pad(pictures, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=0.5)
    _, high, wide, channels = framed.shape
    grid = framed.reshape(-1, len(WORDS), high, wide, channels).transpose(1, 2, 0, 3, 4)
    sheet = grid.reshape(len(WORDS) * high, -1, channels)
    Image.fromarray((sheet * 255).round().astype(np.uint8)).save(file)


def parse() -> argparse.Namespace:
    """The command line; the number of pictures has to fill its batches."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="folder of the model")
    parser.add_argument("--pictures", type=int, default=500, help="how many, a multiple of 10")
    parser.add_argument("--sheet", type=Path, help="PNG file to write a contact sheet to")
    parser.add_argument("--guidance", type=float, default=GUIDANCE)
    parser.add_argument("--steps", type=int, default=STEPS)
    arguments = parser.parse_args()
    if arguments.pictures < BATCH or arguments.pictures % BATCH:
        parser.error(f"--pictures has to be a positive multiple of {BATCH}")
    return arguments


def main() -> int:
    """Judge the judge, then the model; returns the exit status."""
    arguments = parse()
    judge, accuracy = train_judge()
    print(f"judge: {accuracy:.2%} of the held-out real digits", flush=True)
    if accuracy < JUDGE_NEEDS:
        print(f"the judge needs {JUDGE_NEEDS:.0%}: not judging")
        return 1
    pictures = generate_all(load(arguments.model), arguments.pictures, arguments.guidance, arguments.steps)
    if arguments.sheet:
        write_sheet(pictures, arguments.sheet)
    shares = recognised(judge, pictures)
    for word, share in zip(WORDS, shares, strict=True):
        print(f"{word:>6}: {share:.1%}")
    share = shares.mean()
    print(
        f"recognised: {share:.1%} of {len(pictures)} pictures"
        f" at guidance {arguments.guidance:g} and {arguments.steps} steps"
    )
    return 0 if share >= MODEL_NEEDS else 1


if __name__ == "__main__":
    raise SystemExit(main())
