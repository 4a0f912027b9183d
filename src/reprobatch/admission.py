"""Which workers may take part: those whose canary gives the recorded bits. No Ray, no clock.

The dataset's manifest holds the canary of the environment that began it. In a new dataset the first
worker that is ready is the reference: it is asked to probe, and nobody gets work before the contract is
accepted. Every other worker's canary is compared with the reference's.

=========================== ============================== ==========================================
canary                      environment                    what follows
=========================== ============================== ==========================================
equal                       any                            admitted; answers *fresh process*
differs                     differs                        turned away, with what differs
differs                     the same, first other process  *fresh process* does not hold
differs                     the same, held before          turned away
any                         any, contract broken, insisted admitted: a canary says nothing there
differs                     any, ``environments: many``    admitted
=========================== ============================== ==========================================
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from reprobatch import environment
from reprobatch.contract import Answer, Contract

Decision = Literal["probe", "wait", "admit", "turn away"]


@dataclass(frozen=True)
class Arrival:
    """A worker that has loaded the pipeline: its canary's checksum and its environment's facts."""

    worker: int | None
    canary: str
    facts: dict[str, Any]


class Admission:
    """Decides for one run.

    ``recorded`` and ``contract`` are the dataset's, where it has them; ``many`` is
    ``environments: many``, ``insist`` is ``--accept-nondeterminism``.
    """

    def __init__(self, recorded: Arrival | None, contract: Contract | None, *, many: bool, insist: bool) -> None:
        self.reference = recorded
        self.contract = contract if recorded is not None else None
        self._many, self._insist = many, insist
        if self.contract is not None and not insist:
            self.contract.demand()

    def arrive(self, arrival: Arrival) -> Decision:
        """What a worker that is ready does next. Raises :class:`NotReproducible`; see the table."""
        if self.reference is None:
            self.reference = arrival
        if self.contract is None:
            return "probe" if self.reference is arrival else "wait"
        if self.contract.broken:
            return "admit"
        equal = arrival.canary == self.reference.canary
        is_open = self.contract["fresh_process"].holds is None
        if is_open and arrival is not self.reference and (equal or not self.differences(arrival)):
            self.answer_fresh(Answer(equal, 0.0 if equal else None))
        return "admit" if equal or self._many or self.contract.broken else "turn away"

    def settle(self, contract: Contract) -> None:
        """The contract was measured. Raises :class:`NotReproducible` where a run must not start."""
        if not self._insist:
            contract.demand()
        self.contract = contract

    def answer_fresh(self, answer: Answer) -> None:
        """A new process gave the reference's bits, or did not."""
        assert self.contract is not None
        self.settle(self.contract.with_answer("fresh_process", answer))

    def lose(self, worker: int) -> None:
        """A worker died; if it was to probe, the next one is the reference."""
        if self.contract is None and self.reference is not None and self.reference.worker == worker:
            self.reference = None

    def differences(self, arrival: Arrival) -> list[str]:
        """What differs between a worker's environment and the reference's."""
        assert self.reference is not None
        return environment.explain(arrival.facts, self.reference.facts)

    def reason(self, arrival: Arrival) -> str:
        """Why a worker is turned away, in a line."""
        assert self.reference is not None
        found = self.differences(arrival) or ["nothing that is recorded: the process or its hardware"]
        return (
            f"its canary is {arrival.canary[:12]}…, recorded: {self.reference.canary[:12]}…; "
            f"what differs: {'; '.join(found)}"
        )
