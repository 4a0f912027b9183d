"""What makes a pipeline quicker is part of the job, and its contract is measured with it on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from local import probed, stable_diffusion_folder, write_job
from reprobatch import determinism
from reprobatch.contract import INFORMATION, QUESTIONS
from reprobatch.errors import JobError
from reprobatch.record import Output
from reprobatch.resolve import Resolved, load
from reprobatch.settings import Speed
from reprobatch.speed import Encoded
from reprobatch.worker import Worker

CALL = {"num_inference_steps": 2, "height": 32, "width": 32, "guidance_scale": 2.0}
HELD = [name for name in QUESTIONS if name not in (*INFORMATION, "fresh_process")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return stable_diffusion_folder(tmp_path_factory.mktemp("speed"))


def pinned(folder: Path, speed: dict[str, Any]) -> Resolved:
    spec = {"model": "model", "scheduler": "DDIMScheduler", "speed": speed}
    job = {"pipeline": spec, "call": CALL, "items": {"prompts": "prompts.txt"}}
    return load(write_job(folder / "job.yaml", **job))


def made(folder: Path, speed: dict[str, Any]) -> list[Output]:
    resolved = pinned(folder, speed)
    worker = Worker(resolved.job, resolved.model_hint)
    return worker.batch(resolved.reader.read(0, 4), [1, 2, 3, 4])


def test_a_job_without_speed_keeps_its_digest(folder: Path) -> None:
    assert pinned(folder, {}).job.digest == pinned(folder, {"encode_once": False}).job.digest
    assert '"speed"' not in pinned(folder, {}).job.canonical
    assert pinned(folder, {}).job.digest != pinned(folder, {"encode_once": True}).job.digest
    assert '"unfilled_memory"' not in pinned(folder, {"encode_once": True}).job.canonical


def test_prompts_encoded_once_give_the_bits_of_prompts_encoded_in_every_batch(folder: Path) -> None:
    assert made(folder, {"encode_once": True}) == made(folder, {})


def test_memory_left_unfilled_gives_the_bits_of_filled_memory(folder: Path) -> None:
    """Filled memory is NaN: who reads what nothing has written gives NaN, and the bits cannot be the same."""
    filled = made(folder, {})
    assert made(folder, {"unfilled_memory": True}) == filled
    assert not determinism.in_force()[determinism.FILLING]
    made(folder, {})
    assert determinism.in_force()[determinism.FILLING]


def test_a_pipeline_that_reads_unwritten_memory_is_refused_where_that_is_left_unfilled(folder: Path) -> None:
    def hook(module: Any, inputs: Any, output: Any) -> Any:
        zero = torch.zeros(10**6)
        del zero  # what the allocator hands out again, unless it is filled
        return (output[0] + 0 * torch.empty(10**6)[0],)

    found = probed(pinned(folder, {"unfilled_memory": True}), lambda pipe: pipe.unet.register_forward_hook(hook))
    assert found.broken == ["repeatable"]
    assert found.causes == ["reads memory that nothing has written; leave pipeline.speed.unfilled_memory out"]


@pytest.mark.parametrize("speed", [{"encode_once": True}, {"channels_last": True}, {"unfilled_memory": True}], ids=str)
def test_the_contract_is_measured_with_the_option_on(folder: Path, speed: dict[str, Any]) -> None:
    found = probed(pinned(folder, speed))
    assert {name: found[name].holds for name in HELD} == dict.fromkeys(HELD, True)


def test_nothing_is_compiled_anew_for_what_no_run_rests_on(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.nn.Module, "compile", lambda module, **_: None)  # which takes a minute for each shape
    resolved, sizes = pinned(folder, {"compile": ["unet"]}), set()

    def hook(module: Any, inputs: Any, output: Any) -> None:
        sizes.add(inputs[0].shape[0])

    found = probed(resolved, lambda pipe: pipe.unet.register_forward_hook(hook))
    assert {name: found[name].holds for name in HELD} == dict.fromkeys(HELD, True)
    assert [found[name].holds for name in INFORMATION] == [None, None]
    assert sizes == {2 * resolved.job.batch_size}


@pytest.mark.parametrize(
    ("speed", "said"),
    [
        ({"compile": ["unett"]}, r"has no module 'unett'.*'unet'"),
        ({"attention": "native"}, "no module whose attention backend can be set"),
        ({"attention": "flash_hub"}, "code from a hub"),
        ({"attention": "Flash; rm"}, "attention"),
        ({"encode_ones": True}, "encode_once"),
    ],
    ids=str,
)
def test_an_option_that_does_not_fit_is_named(folder: Path, speed: dict[str, Any], said: str) -> None:
    with pytest.raises(JobError, match=said):
        made(folder, speed)


def test_tf32_is_asked_of_torch(folder: Path) -> None:
    wanted = determinism.strict_settings(1, "cuda", Speed(tf32=True))
    assert wanted["matmul.allow_tf32"] and wanted["cudnn.allow_tf32"]
    assert not determinism.strict_settings(1, "cuda")["matmul.allow_tf32"]


class _Counting:
    """An encoder that says how often and with what shape it was asked."""

    def __init__(self) -> None:
        self.shapes: list[tuple[int, ...]] = []

    def __call__(self, ids: torch.Tensor, mask: torch.Tensor | None = None, deep: bool = False) -> Any:
        self.shapes.append(tuple(ids.shape))
        states = ids[..., None] * torch.ones(3)
        return (states, (states + 1, states + 2)) if deep else (states,)


def test_each_distinct_prompt_is_encoded_once_in_a_batch_of_its_copies() -> None:
    encoder = _Counting()
    once = Encoded(encoder, 4)
    ids = torch.tensor([[1, 2], [3, 4], [1, 2], [1, 2]])
    for _ in range(2):
        (states,) = once(ids)
        assert torch.equal(states, ids[..., None] * torch.ones(3))
    assert encoder.shapes == [(4, 2), (4, 2)]


def test_calls_that_differ_in_anything_but_their_rows_are_not_mixed_up() -> None:
    once = Encoded(_Counting(), 2)
    ids = torch.tensor([[1, 2], [3, 4]])
    plain, deep = once(ids), once(ids, deep=True)
    assert len(plain) == 1 and len(deep) == 2
    assert torch.equal(deep[1][1], ids[..., None] * torch.ones(3) + 2)
    assert len(once(ids.to(torch.int32))) == 1


def test_what_is_kept_has_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reprobatch.speed.KEPT", 100)
    encoder = _Counting()
    once = Encoded(encoder, 1)
    for number in (1, 2, 3, 4, 5, 4, 5, 1):  # 24 bytes each: four are kept
        once(torch.tensor([[number, 0]]))
    assert [shape for shape in encoder.shapes] == [(1, 2)] * 6
