"""The gate of a pool: a worker that has loaded is probed, admitted or turned away before it gets work."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Literal, Protocol

from reprobatch.admission import Admission, Arrival
from reprobatch.contract import Samples

Event = dict[str, Any]
Task = Literal["up", "load", "probe", "fresh"]  # what an actor is asked besides shards


class Member(Protocol):
    """What the gate knows of a worker."""

    name: int
    handle: Any
    ready: bool
    arrival: Arrival | None


class Gate:
    """Asks the members what :class:`Admission` wants to know and carries out what it decides.

    ``ask`` is told what a member was asked, with the reference of its answer; ``dismiss`` ends a member.
    """

    def __init__(
        self,
        admission: Admission,
        samples: Samples,
        tell: Callable[[Event], None],
        ask: Callable[[Any, Task, Any], None],
        dismiss: Callable[[Any], None],
    ) -> None:
        self.admission, self.samples = admission, samples
        self.turned_away: list[str] = []
        self._tell, self._ask, self._dismiss = tell, ask, dismiss
        self._asked_fresh = False

    def answered(self, member: Member, task: Task, result: Any, members: Iterable[Member], *, only: bool) -> None:
        """Take a member's answer; ``only`` says that no other member is on its way.

        Raises :class:`NotReproducible` where the contract does not hold.
        """
        if task == "load":
            member.arrival = Arrival(member.name, result["canary"], result["environment"])
            self._tell({"event": "ready", "worker": member.name, **result})
            self.admit([member], only=only)
        elif task == "probe":
            self.admission.settle(result)
            self._tell_contract()
            self.admit(members, only=only)
        else:
            self.admission.answer_fresh(result)
            self._tell_contract()

    def admit(self, members: Iterable[Member], *, only: bool) -> None:
        """Decide on those that have loaded and are not at work yet."""
        known = self.admission.contract
        for member in [m for m in members if m.arrival is not None and not m.ready]:
            assert member.arrival is not None
            decision = self.admission.arrive(member.arrival)
            if decision == "probe":
                self._tell({"event": "probing", "worker": member.name})
                # with others on the way, the first of them answers what a new process gives
                self._ask(member, "probe", member.handle.probe.remote(self.samples, only))
            elif decision == "turn away":
                self._turn_away(member, member.arrival)
            elif decision == "admit":
                member.ready = True
                self._tell_differences(member.arrival)
        if known is not None and known != self.admission.contract:
            self._tell_contract()

    def still_asking(self, members: Iterable[Member]) -> bool:
        """Whether *fresh process* is still open: no second worker came, so a new process is started."""
        contract = self.admission.contract
        if contract is None or contract["fresh_process"].holds is not None:
            return False
        member = next((m for m in members if m.ready), None)
        if member is not None and not self._asked_fresh:
            self._asked_fresh = True
            self._ask(member, "fresh", member.handle.fresh.remote(self.samples))
        return member is not None

    def lost(self, member: Member, members: Iterable[Member], *, only: bool) -> None:
        """A member died; if it was to probe, another does."""
        self._asked_fresh = False
        self.admission.lose(member.name)
        if self.admission.contract is None:
            self.admit(members, only=only)

    def _turn_away(self, member: Member, arrival: Arrival) -> None:
        reason = self.admission.reason(arrival)
        self.turned_away.append(reason)
        self._dismiss(member)
        self._tell({"event": "turned_away", "worker": member.name, "reason": reason})

    def _tell_contract(self) -> None:
        contract, reference = self.admission.contract, self.admission.reference
        assert contract is not None and reference is not None
        event = {"event": "contract", "contract": contract.as_dict(), "canary": reference.canary}
        self._tell({**event, "environment": reference.facts})

    def _tell_differences(self, arrival: Arrival) -> None:
        assert self.admission.reference is not None
        differs = self.admission.differences(arrival)
        if differs or arrival.canary != self.admission.reference.canary:
            event = {"event": "environment", "worker": arrival.worker, "canary": arrival.canary, "differs": differs}
            self._tell({**event, "environment": arrival.facts})
