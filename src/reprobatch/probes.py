"""The probes: a few two-step calls that measure a job's contract on this machine.

About fifteen calls of two steps: less than one batch of fifty. Each call but one runs under the same
seeds of the global generators, so that a pipeline that draws from these is seen by *that* probe and
does not fail all the others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

import torch

from reprobatch import determinism, randomness, verdict
from reprobatch.contract import QUESTIONS, Answer, Contract, Samples, lengthened, padded
from reprobatch.errors import JobError
from reprobatch.pipeline import Pipeline
from reprobatch.record import Output

# nothing rests on these answers, and each would cost a compilation: minutes
ANEW = Answer(None, why="it would be compiled anew for that")
Seeded = tuple[int, dict[str, Any]]  # a seed, and an item's own columns
_Made = tuple[list[Output], list[bytes]]  # what each slot got, and its generator's state afterwards


def probe(
    pipeline: Pipeline,
    samples: Samples,
    seed: Callable[[int, dict[str, Any]], int],
    fresh: Callable[[], list[Output]] | None,
) -> Contract:
    """Measure a job's contract.

    ``seed`` gives an item's seed; ``fresh`` makes the first batch in a new process, and where it is
    ``None`` that answer is left open.
    """
    return _Probe(pipeline, samples, seed).contract(fresh)


class _Probe:
    def __init__(self, pipeline: Pipeline, samples: Samples, seed: Callable[[int, dict[str, Any]], int]) -> None:
        self._pipeline = pipeline
        self._size = pipeline.job.batch_size
        self._first = [(seed(at, item), item) for at, item in padded(samples.first, self._size)]
        # another seed than its own: in a small job the others are the first batch's items again
        self._others = [(seed(at, item) ^ 1, item) for at, item in samples.others]
        items = pipeline.job.items
        changed = lengthened(samples.others, items.columns, items.batched)
        self._longer = [(seed, item) for (seed, _), (_, item) in zip(self._others, changed, strict=True)]

    def contract(self, fresh: Callable[[], list[Output]] | None) -> Contract:
        before = randomness.snapshot()
        with randomness.seeded(0):
            torch_before = randomness.snapshot()
            base = self._run(self._first)
            touched = [name for name in randomness.changed(torch_before) if name not in ("numpy", "python")]
        again = self._call(self._first)
        repeatable = self._unfilled(base, same(base[0], again[0]))
        mixed, neighbours = self._neighbours(base)
        slots = self._slots(mixed)
        alone, states = self._alone(mixed)
        answers = {
            "repeatable": repeatable,
            "fresh_process": _guarded(lambda: same(base[0], fresh())) if fresh else Answer(None),
            "neighbour_free": neighbours,
            "slot_free": slots,
            "alone": alone,
            "batch_size_free": self._batch_sizes(base),
            "stray_randomness": self._stray(again, touched, repeatable),
            "generators": states,
            "thread_free": self._threads(base),
        }
        assert answers.keys() == QUESTIONS.keys() and not randomness.changed(before)
        contract = Contract(answers, notes=list(self._pipeline.notes))
        return replace(contract, causes=self._causes(contract, again)) if contract.broken else contract

    def _unfilled(self, base: _Made, repeatable: Answer) -> Answer:
        """Where memory is left unfilled: whether a call with filled memory, which is NaN, gives the same bits."""
        if not self._pipeline.job.pipeline.speed.unfilled_memory or not repeatable.holds:
            return repeatable
        with determinism.filled_memory():
            filled = same(base[0], self._call(self._first)[0])
        why = "reads memory that nothing has written; leave pipeline.speed.unfilled_memory out"
        return filled if filled.holds else replace(filled, why=why)

    def _run(self, slots: Sequence[Seeded]) -> _Made:
        outputs, generators = self._pipeline.call([item for _, item in slots], [seed for seed, _ in slots], short=True)
        return outputs, [generator.get_state().numpy().tobytes() for generator in generators]

    def _call(self, slots: Sequence[Seeded], global_seed: int = 0) -> _Made:
        with randomness.seeded(global_seed):
            return self._run(slots)

    def _neighbours(self, base: _Made) -> tuple[tuple[list[Seeded], _Made], Answer]:
        """A mixed batch and its result; and whether items keep their bits beside others."""
        made: list[tuple[list[Seeded], _Made]] = []
        answers = []
        for parity in (0, 1):
            try:
                batch, result = self._mixed(self._longer, parity)
            except (ValueError, RuntimeError):  # a text too long for this pipeline: as it stands in the job, then
                batch, result = self._mixed(self._others, parity)
            kept = range(parity, self._size, 2)
            made.append((batch, result))
            answers.append(same([base[0][k] for k in kept], [result[0][k] for k in kept]))
        return made[0], _all(answers)

    def _mixed(self, others: list[Seeded], parity: int) -> tuple[list[Seeded], _Made]:
        batch = [self._first[k] if k % 2 == parity else others[k] for k in range(self._size)]
        return batch, self._call(batch)

    def _slots(self, mixed: tuple[list[Seeded], _Made]) -> Answer:
        batch, (expected, _) = mixed
        turned = self._call(batch[::-1])[0][::-1]
        moved = self._call([*batch[1:], batch[0]])[0]
        return _all([same(expected, turned), same(expected, [moved[-1], *moved[:-1]])])

    def _alone(self, mixed: tuple[list[Seeded], _Made]) -> tuple[Answer, Answer]:
        """Whether copies of an item, at three slots, give its bits and leave its generator in the same state."""
        batch, (expected, states) = mixed
        answers, equal = [], True
        for slot in sorted({0, self._size // 2, self._size - 1}):
            outputs, after = self._call([batch[slot]] * self._size)
            answers.append(same([expected[slot]], [outputs[slot]]))
            equal = equal and after[slot] == states[slot]
        return _all(answers), Answer(equal, 0.0 if equal else None)

    def _batch_sizes(self, base: _Made) -> Answer:
        if self._pipeline.job.pipeline.speed.compile:
            return ANEW
        sizes = sorted({1, 2, self._size - 1} - {0, self._size})
        batch = [*self._first, *self._others]

        def answer(size: int) -> Answer:
            common = min(size, self._size)
            return same(base[0][:common], self._call(batch[:size])[0][:common])

        return _all([_guarded(lambda size=size: answer(size), f"size {size}: ") for size in sizes])  # type: ignore[misc]

    def _threads(self, base: _Made) -> Answer:
        if self._pipeline.job.device != "cpu":
            return Answer(None)
        if self._pipeline.job.pipeline.speed.compile:
            return ANEW
        mine = torch.get_num_threads()
        torch.set_num_threads(2 if mine == 1 else 1)
        try:
            return same(base[0], self._call(self._first)[0])
        finally:
            torch.set_num_threads(mine)

    def _stray(self, again: _Made, touched: list[str], repeatable: Answer) -> Answer:
        other = same(again[0], self._call(self._first, global_seed=1)[0])
        if other.holds and not touched:
            return other
        if not touched and not repeatable.holds:  # its results change anyway: that says nothing of these generators
            return Answer(None)
        with randomness.seeded(0):
            draws = randomness.who_draws(lambda: self._run(self._first))
        return Answer(False, other.linf, draws or f"global {', '.join(touched)} generator moved")

    def _causes(self, contract: Contract, again: _Made) -> list[str]:
        causes = []
        if contract["stray_randomness"].why:
            causes.append(f"random numbers from {contract['stray_randomness'].why}")
        if contract["repeatable"].why:
            return [*causes, contract["repeatable"].why]
        training = [n for n, c in self._pipeline.pipe.components.items() if getattr(c, "training", False)]
        causes += [f"component '{name}' is in training mode (dropout)" for name in training]
        if not contract["repeatable"].holds:
            if same(again[0], self._call(self._first)[0]).holds:
                causes.append("the first call differs and the later ones agree: the pipeline keeps state between calls")
            job = self._pipeline.job
            wanted = determinism.strict_settings(job.workers.threads, job.device, job.pipeline.speed)
            found = determinism.in_force()
            causes += [
                f"{k} is {found[k]}, {job.determinism.profile} sets {v}" for k, v in wanted.items() if found[k] != v
            ]
        return causes or ["none that is known; a kernel without a deterministic form, or the hardware"]


def same(expected: Sequence[Output], found: Sequence[Output]) -> Answer:
    """Whether two lists of outputs are bit for bit the same, and by how much not."""
    if len(expected) != len(found):
        return Answer(False, None, f"expected {len(expected)} outputs, found {len(found)}")
    compared = [verdict.compare(a, b) for a, b in zip(expected, found, strict=True)]
    differing = [c.linf for c in compared if c.verdict != "identical"]
    return Answer(False, _largest(differing)) if differing else Answer(True, 0.0)


def _all(answers: Iterable[Answer]) -> Answer:
    """One answer for several: it holds where all do; the largest difference."""
    failed = [answer for answer in answers if not answer.holds]
    return Answer(False, _largest([a.linf for a in failed]), failed[0].why) if failed else Answer(True, 0.0)


def _largest(linfs: Sequence[float | None]) -> float | None:
    """The largest difference, ``None`` where one of them is not known."""
    known = [linf for linf in linfs if linf is not None]
    return max(known) if len(known) == len(linfs) else None


def _guarded(answer: Callable[[], Answer], where: str = "") -> Answer:
    """An answer, or that the call was refused: some pipelines take one size only."""
    try:
        return answer()
    except (JobError, ValueError, RuntimeError, TypeError, IndexError, AssertionError, NotImplementedError) as error:
        text = " ".join(str(error).split())[:120]
        return Answer(False, None, f"{where}{type(error).__name__}: {text}")
