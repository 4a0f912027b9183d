"""Who may take part in a run: every row of the table in :mod:`reprobatch.admission`."""

from __future__ import annotations

import pytest

from reprobatch.admission import Admission, Arrival
from reprobatch.contract import QUESTIONS, Answer, Contract
from reprobatch.errors import NotReproducible

HOLDS = Contract({name: Answer(True, 0.0) for name in QUESTIONS})
OPEN = HOLDS.with_answer("fresh_process", Answer(None))
STRAY = HOLDS.with_answer("stray_randomness", Answer(False, 52.0, "randint"))
REFERENCE = Arrival(1, "aa" * 32, {"gpu": "H100"})
SAME = Arrival(2, "aa" * 32, {"gpu": "H100"})
SAME_BITS_ELSEWHERE = Arrival(3, "aa" * 32, {"gpu": "H200"})
OTHER = Arrival(4, "bb" * 32, {"gpu": "A100-SXM4-80GB"})
OTHER_BITS_HERE = Arrival(5, "bb" * 32, {"gpu": "H100"})


def recorded(contract: Contract = HOLDS, *, many: bool = False, insist: bool = False) -> Admission:
    return Admission(REFERENCE, contract, many=many, insist=insist)


@pytest.mark.parametrize(
    ("arrival", "many", "decision"),
    [
        (SAME, False, "admit"),
        (SAME_BITS_ELSEWHERE, False, "admit"),
        (OTHER, False, "turn away"),
        (OTHER_BITS_HERE, False, "turn away"),
        (OTHER, True, "admit"),
        (SAME, True, "admit"),
    ],
)
def test_a_worker_joins_a_dataset_by_its_canary(arrival: Arrival, many: bool, decision: str) -> None:
    assert recorded(many=many).arrive(arrival) == decision


def test_the_reason_names_what_differs() -> None:
    assert "gpu: A100-SXM4-80GB, recorded: H100" in recorded().reason(OTHER)
    assert "nothing that is recorded" in recorded().reason(OTHER_BITS_HERE)


def test_in_a_new_dataset_the_first_worker_probes_and_the_others_wait() -> None:
    admission = Admission(None, None, many=False, insist=False)
    assert admission.arrive(REFERENCE) == "probe"
    assert admission.arrive(SAME) == "wait"
    assert admission.arrive(OTHER) == "wait"
    admission.settle(OPEN)
    assert [admission.arrive(a) for a in (REFERENCE, SAME, OTHER)] == ["admit", "admit", "turn away"]
    assert admission.contract is not None and admission.contract["fresh_process"] == Answer(True, 0.0)


def test_another_worker_probes_where_the_first_died() -> None:
    admission = Admission(None, None, many=False, insist=False)
    admission.arrive(REFERENCE)
    admission.lose(1)
    assert admission.arrive(SAME) == "probe"
    admission.lose(7)  # any other may die
    assert admission.reference == SAME


def test_a_recorded_reference_cannot_be_lost() -> None:
    admission = recorded()
    admission.lose(1)
    assert admission.reference == REFERENCE


def test_other_bits_from_an_equal_environment_end_a_new_run() -> None:
    admission = Admission(None, None, many=False, insist=False)
    admission.arrive(REFERENCE)
    admission.settle(OPEN)
    with pytest.raises(NotReproducible, match="fresh process: no"):
        admission.arrive(OTHER_BITS_HERE)


def test_a_different_environment_does_not_answer_what_a_new_process_gives() -> None:
    admission = Admission(None, None, many=False, insist=False)
    admission.arrive(REFERENCE)
    admission.settle(OPEN)
    assert admission.arrive(OTHER) == "turn away"
    assert admission.contract == OPEN


def test_a_broken_contract_ends_the_run_whether_it_is_new_or_recorded() -> None:
    admission = Admission(None, None, many=False, insist=False)
    admission.arrive(REFERENCE)
    with pytest.raises(NotReproducible, match=r"stray randomness: no .*randint"):
        admission.settle(STRAY)
    with pytest.raises(NotReproducible, match="accept-nondeterminism"):
        recorded(STRAY)


@pytest.mark.parametrize("arrival", [SAME, OTHER, OTHER_BITS_HERE])
def test_who_insists_gets_every_worker_for_a_canary_says_nothing_then(arrival: Arrival) -> None:
    admission = Admission(None, None, many=False, insist=True)
    admission.arrive(REFERENCE)
    admission.settle(STRAY)
    assert admission.arrive(arrival) == "admit"
    assert recorded(STRAY, insist=True).arrive(arrival) == "admit"


def test_insisting_turns_a_nondeterministic_process_into_an_answer() -> None:
    admission = Admission(None, None, many=False, insist=True)
    admission.arrive(REFERENCE)
    admission.settle(OPEN)
    assert admission.arrive(OTHER_BITS_HERE) == "admit"
    assert admission.contract is not None and admission.contract.broken == ["fresh_process"]
