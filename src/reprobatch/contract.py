"""The contract: what was measured to hold for a job in one environment, and what follows from it.

Questions and answers only; :mod:`reprobatch.probes` does the measuring.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from reprobatch.errors import NotReproducible
from reprobatch.items import splitting_columns
from reprobatch.job import ResolvedJob
from reprobatch.plan import Plan
from reprobatch.record import Output

SHORT = 2  # steps of a probe and a canary: enough for noise between steps to show

QUESTIONS = {
    "repeatable": "the same call again in this process gives the same bits",
    "fresh_process": "a new process gives the same bits",
    "neighbour_free": "other items in the other slots change nothing",
    "slot_free": "an item's slot changes nothing",
    "alone": "a batch of copies of an item gives its bits",
    "batch_size_free": "a batch of another size gives the same bits",
    "stray_randomness": "nothing is drawn from the global generators",
    "generators": "each item's generator is drawn from equally, whatever its neighbours",
    "thread_free": "another number of threads gives the same bits",
}
INFORMATION = ("batch_size_free", "thread_free")  # nothing rests on these: both are the job's
REQUIRED = ("repeatable", "fresh_process", "stray_randomness")

Place = tuple[int, dict[str, Any]]  # an item's index, and its own columns
T = TypeVar("T")


@dataclass(frozen=True)
class Answer:
    """Whether something holds (``None``: not measured), by how much it fails, and what is known of why.

    ``linf`` is the largest absolute difference seen, 0.0 where it holds, ``None`` where there is none.
    """

    holds: bool | None
    linf: float | None = None
    why: str | None = None


@dataclass(frozen=True)
class Contract:
    """An answer a question, where something required fails the likely causes, and notes on how calls are made."""

    answers: dict[str, Answer]
    causes: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def __getitem__(self, name: str) -> Answer:
        return self.answers[name]

    @property
    def broken(self) -> list[str]:
        """What a run rests on and does not hold."""
        return [name for name in REQUIRED if self.answers[name].holds is False]

    @property
    def stands_alone(self) -> bool | None:
        """Whether an item comes back from its own row; ``None`` where that was not measured."""
        # where a run was insisted upon, the answers were had under equal global seeds only
        return False if self.broken else self.answers["alone"].holds

    def with_answer(self, name: str, answer: Answer) -> Contract:
        """The same contract with one answer more."""
        return replace(self, answers={**self.answers, name: answer})

    def demand(self) -> None:
        """Raise :class:`NotReproducible`, with reasons, where a run must not start."""
        if not self.broken:
            return
        reasons = [f"{name.replace('_', ' ')}: no{_measure(self.answers[name])}" for name in self.broken]
        causes = f"; likely causes: {'; '.join(self.causes)}" if self.causes else ""
        raise NotReproducible(
            f"expected a job whose items can be made again, found {'; '.join(reasons)}{causes}; mend the job (a "
            "pipeline with noise of its own: pipeline.scheduler.seeded or determinism.global_seed: batch), or insist "
            "with --accept-nondeterminism"
        )

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values, for the manifest and ``--json``."""
        answers = {
            name: {"holds": a.holds, "linf": a.linf, **({"why": a.why} if a.why else {})}
            for name, a in self.answers.items()
        }
        lists = {"causes": self.causes, "notes": self.notes}
        return {**answers, **{name: said for name, said in lists.items() if said}}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Contract:
        """Read :meth:`as_dict` back."""
        answers = {name: Answer(**value) for name, value in data.items() if name not in ("causes", "notes")}
        return cls(answers, list(data.get("causes", [])), list(data.get("notes", [])))

    def table(self) -> str:
        """For people: a line a question."""
        width = max(map(len, self.answers))
        lines = []
        for name, answer in self.answers.items():
            said = {True: "yes", False: "no", None: "not measured"}[answer.holds]
            measured = said + _measure(replace(answer, why=None))
            lines.append(f"{name:{width}}  {measured:<24}  {QUESTIONS[name]}".rstrip())
            if answer.why:  # of any length: a line of its own
                lines.append(f"{'':{width}}  {answer.why}")
        lines += [f"likely cause: {cause}" for cause in self.causes]
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes)])


@dataclass(frozen=True)
class Samples:
    """What a probe runs: the job's first batch, and as many others from all over the job."""

    first: list[Place]
    others: list[Place]


def first_batch(plan: Plan, read: Callable[[int, int], list[dict[str, Any]]]) -> list[Place]:
    """Index and columns of the items of batch 0."""
    batch = plan.batches(0)[0]
    return list(enumerate(read(batch.start, batch.stop), batch.start))


def samples(job: ResolvedJob, plan: Plan, read: Callable[[int, int], list[dict[str, Any]]]) -> Samples:
    """Items for the probes of a job.

    The others bring what may vary within a batch (prompts); what splits batches is the first's.
    """
    first = first_batch(plan, read)
    shared = {name: first[0][1][name] for name in splitting_columns(job.items)}
    size = job.batch_size
    spread = [plan.count * (2 * k + 1) // (2 * size) for k in range(size)]
    return Samples(first, [(at, {**read(at, at + 1)[0], **shared}) for at in spread])


def padded(slots: Sequence[T], size: int) -> list[T]:
    """A batch filled up with copies of its last slot."""
    return [*slots, *[slots[-1]] * (size - len(slots))]


def canary(outputs: Iterable[Output]) -> str:
    """A canary's checksum: SHA-256, hex, over those of its slots, a line each."""
    return hashlib.sha256("".join(f"{output.checksum}\n" for output in outputs).encode()).hexdigest()


def lengthened(places: Sequence[Place], columns: dict[str, str], batched: Sequence[str]) -> list[Place]:
    """Every second item's texts three times over, so that prompts of other lengths stand beside each other."""
    texts = [name for name in batched if columns[name] == "string"]

    def longer(item: dict[str, Any]) -> dict[str, Any]:
        return {k: " ".join([v] * 3) if k in texts and v else v for k, v in item.items()}

    return [(at, longer(item) if number % 2 else item) for number, (at, item) in enumerate(places)]


def _measure(answer: Answer) -> str:
    parts = [f"L_inf {answer.linf:.3g}"] if answer.holds is False and answer.linf is not None else []
    if answer.why:
        parts.append(answer.why)
    return f" ({', '.join(parts)})" if parts else ""
