"""The contract is what is measured: each thing that can spoil an item's bits is seen, and named."""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from ruamel.yaml import YAML

import local
import tiny
from conftest import DIGITS, reprobatch
from reprobatch import randomness
from reprobatch.cli import cli
from reprobatch.contract import (
    INFORMATION,
    QUESTIONS,
    REQUIRED,
    Answer,
    Contract,
    first_batch,
    lengthened,
    padded,
)
from reprobatch.dataset import Dataset
from reprobatch.errors import NotReproducible
from reprobatch.regenerate import Regenerator
from reprobatch.resolve import load
from reprobatch.worker import Worker

PROMPTS = ["a dog", "a small blue square on a green square", "the cat", "A bear is playing a guitar on Times Square"]
SDE: dict[str, Any] = {"name": "DPMSolverSDEScheduler"}
HOLDS = dict.fromkeys((name for name in QUESTIONS if name not in INFORMATION), True)
ALL_HOLD = {name: True for name in HOLDS if name != "fresh_process"}  # in one process
CALLS = {"qwen_image": {"num_inference_steps": 3, "height": 16, "width": 16}}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the tiny pipelines and prompts of different lengths."""
    folder = tmp_path_factory.mktemp("models")
    for make in (tiny.stable_diffusion, tiny.stable_diffusion_3, tiny.qwen_image):
        make(folder / make.__name__)
    (folder / "prompts.txt").write_text("\n".join(PROMPTS) + "\n")
    return folder


def write_job(models: Path, model: str, scheduler: dict[str, Any] | None = None, **parts: Any) -> Path:
    """A job file: batches of 4 of a tiny pipeline, at 3 steps."""
    job = {
        "name": model,
        "master_seed": 20261123,
        "pipeline": {"model": model, "scheduler": scheduler},
        "call": CALLS.get(model, {"num_inference_steps": 3}),
        "items": {"prompts": "prompts.txt"},
        "batch_size": 4,
        "shard_size": 4,
        **parts,
    }
    path = models / f"{model}-{len(list(models.glob('*.yaml')))}.yaml"
    with path.open("w") as file:
        YAML(typ="safe").dump(job, file)
    return path


def measure(path: Path, spoil: Callable[[Any], None] = lambda pipe: None) -> Contract:
    """Probe a job in this process, after ``spoil`` has had its way with the diffusers pipeline."""
    return local.probed(load(path), spoil)


def holds(contract: Contract) -> dict[str, bool | None]:
    return {name: contract[name].holds for name in ALL_HOLD}


# What the command says


def test_digits_hold_everything_but_another_batch_size() -> None:
    done = reprobatch("probe", DIGITS, "--json")
    facts = json.loads(done.stdout)
    found = facts["contract"]
    assert facts["accepted"] and found.keys() == QUESTIONS.keys()
    assert {name: found[name]["holds"] for name in HOLDS} == HOLDS
    assert {found[name]["linf"] for name in HOLDS} == {0.0}
    assert not found["batch_size_free"]["holds"] and 0 < found["batch_size_free"]["linf"] < 1e-3


def test_a_job_that_draws_stray_numbers_is_refused_with_the_call_that_draws(models: Path) -> None:
    done = CliRunner().invoke(cli, ["probe", str(write_job(models, "stable_diffusion", SDE)), "--json"])
    facts = json.loads(done.stdout)
    stray = facts["contract"]["stray_randomness"]
    assert done.exit_code == 1 and not facts["accepted"]
    assert not stray["holds"] and stray["linf"] > 1e-3
    assert "randint" in stray["why"] and "diffusers/schedulers/scheduling_dpmsolver_sde.py line " in stray["why"]
    assert not facts["contract"]["fresh_process"]["holds"]
    assert any("scheduling_dpmsolver_sde.py" in cause for cause in facts["contract"]["causes"])


# What a run does about it


def test_a_run_of_it_says_so_in_one_line_and_writes_no_data(models: Path, tmp_path: Path) -> None:
    done = reprobatch("run", write_job(models, "stable_diffusion", SDE), "--out", tmp_path / "d", check=False)
    assert done.returncode == 1
    said = [line for line in done.stderr.splitlines() if line.startswith("reprobatch: ")]
    assert len(said) == 1 and "stray randomness: no" in said[0] and "scheduling_dpmsolver_sde.py" in said[0]
    assert "--accept-nondeterminism" in said[0] and "Traceback" not in done.stderr
    assert list((tmp_path / "d" / "data").iterdir()) == []
    assert "root" not in Dataset(tmp_path / "d").manifest


def test_prompts_padded_to_the_longest_replay_but_do_not_come_back_alone(models: Path, tmp_path: Path) -> None:
    out = tmp_path / "d"
    dataset = local.made(write_job(models, "qwen_image", items={"prompts": "prompts.txt", "repeat": 2}), out)
    measured = Contract.from_dict(dataset.manifest["contract"])
    assert (measured["alone"].holds, measured["neighbour_free"].holds) == (False, False)
    assert not measured.broken and measured["alone"].linf > 0
    regenerator = Regenerator(dataset)
    made = [again for start in (0, 4) for again in regenerator.batch(dataset.look_up(start)[1])]
    assert [(again.index, again.comparison.verdict) for again in made] == [(at, "identical") for at in range(8)]
    done = reprobatch("regenerate", out, 2, "--alone", "--json")
    facts = json.loads(done.stdout)
    assert (facts["method"], facts["verdict"]) == ("replay", "identical")
    assert "alone" in done.stderr and "replay" in done.stderr


def test_with_the_batchs_global_seed_a_stray_job_runs_and_its_items_replay(models: Path, tmp_path: Path) -> None:
    job = write_job(models, "stable_diffusion", SDE, determinism={"global_seed": "batch"})
    dataset = local.made(job, tmp_path / "d", fresh=True)
    measured = Contract.from_dict(dataset.manifest["contract"])
    assert measured["stray_randomness"].holds and measured["fresh_process"].holds and not measured["alone"].holds
    made = Regenerator(dataset).batch(dataset.look_up(0)[1])
    assert [again.comparison.verdict for again in made] == ["identical"] * 4


# What the probe finds


def test_noise_of_its_own_that_is_seeded_by_item_comes_back_alone(models: Path) -> None:
    found = measure(write_job(models, "stable_diffusion", {**SDE, "seeded": "noise_sampler_seed"}))
    assert holds(found) == ALL_HOLD and not found.broken and not found.causes


def test_a_flow_matching_transformer_holds_everything_but_another_batch_size(models: Path) -> None:
    found = measure(write_job(models, "stable_diffusion_3"))
    assert holds(found) == ALL_HOLD and not found["batch_size_free"].holds


def test_noise_drawn_without_the_generator_is_named_by_the_schedulers_line(models: Path) -> None:
    scheduler = {"name": "FlowMatchEulerDiscreteScheduler", "config": {"stochastic_sampling": True}}
    found = measure(write_job(models, "stable_diffusion_3", scheduler))
    assert found.broken == ["stray_randomness"]
    assert "diffusers/schedulers/scheduling_flow_match_euler_discrete.py line " in str(found["stray_randomness"].why)


def test_padding_is_found_although_the_first_prompts_are_of_one_length(models: Path) -> None:
    (models / "alike.txt").write_text("\n".join(["a dog", "the cat"] * 4) + "\n")
    found = measure(write_job(models, "qwen_image", items={"prompts": "alike.txt"}))
    assert not found["alone"].holds and not found["neighbour_free"].holds and found["repeatable"].holds


def test_dropout_in_training_mode_is_named(models: Path) -> None:
    def train(pipe: Any) -> None:
        pipe.unet.train()
        for module in pipe.unet.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.5

    found = measure(write_job(models, "stable_diffusion"), train)
    assert "stray_randomness" in found.broken
    assert "dropout (global torch generator), called in diffusers/models/" in str(found["stray_randomness"].why)
    assert "component 'unet' is in training mode (dropout)" in found.causes


def test_state_kept_from_the_first_call_is_named(models: Path) -> None:
    calls = []

    def warm_up(pipe: Any) -> None:
        def hook(module: Any, inputs: Any, output: Any) -> Any:
            calls.append(1)
            return (output[0] + 1.0,) if len(calls) == 1 else output

        pipe.unet.register_forward_hook(hook)

    found = measure(write_job(models, "stable_diffusion"), warm_up)
    assert found.broken == ["repeatable"] and found["repeatable"].linf > 1e-3
    assert found.causes == [
        "the first call differs and the later ones agree: the pipeline keeps state between calls",
    ]


def test_a_setting_that_is_not_in_force_is_named(models: Path) -> None:
    calls = []

    def drift(pipe: Any) -> None:
        def hook(module: Any, inputs: Any, output: Any) -> Any:
            calls.append(1)
            return (output[0] + 1e-3 * len(calls),)

        torch.use_deterministic_algorithms(False)
        pipe.unet.register_forward_hook(hook)

    try:
        found = measure(write_job(models, "stable_diffusion"), drift)
    finally:
        torch.use_deterministic_algorithms(True)
    assert found.broken == ["repeatable"] and found["stray_randomness"].holds is None
    assert found.causes == ["deterministic_algorithms is False, strict sets True"]


def test_a_scheduler_that_cannot_do_with_two_steps_is_probed_at_all_of_the_jobs(models: Path) -> None:
    kutta = {"name": "PNDMScheduler", "config": {"skip_prk_steps": False}}
    path = write_job(models, "stable_diffusion", kutta, call={"num_inference_steps": 5})
    assert holds(measure(path)) == ALL_HOLD
    resolved = load(path)
    worker, first = Worker(resolved.job, resolved.model_hint), local.chosen(resolved).first
    whole = worker.batch([item for _, item in first], [worker.seed(at, item) for at, item in first])
    assert worker.canary(first) == whole


def test_a_job_of_one_item_is_measured_too(models: Path) -> None:
    (models / "one.txt").write_text("a dog\n")
    assert holds(measure(write_job(models, "stable_diffusion", items={"prompts": "one.txt"}))) == ALL_HOLD


@pytest.mark.parametrize("scheduler", [None, SDE])
def test_the_probe_leaves_the_global_generators_as_they_were(models: Path, scheduler: dict[str, Any] | None) -> None:
    path = write_job(models, "stable_diffusion", scheduler)
    torch.manual_seed(5)
    np.random.seed(6)
    random.seed(7)
    np.random.normal()  # leaves a second number behind, for the next call
    before = randomness.snapshot()
    measure(path)
    assert randomness.changed(before) == []


def test_a_pipeline_that_fails_leaves_the_global_generators_as_they_were(models: Path) -> None:
    def fail(pipe: Any) -> None:
        def hook(module: Any, inputs: Any) -> None:
            torch.rand(1)
            raise RuntimeError("out of order")

        pipe.unet.register_forward_pre_hook(hook)

    before = randomness.snapshot()
    with pytest.raises(RuntimeError, match="out of order"):
        measure(write_job(models, "stable_diffusion"), fail)
    assert randomness.changed(before) == []


# Who draws


def _torch() -> None:
    torch.rand(3)


def _torch_in_place() -> None:
    torch.empty(3).normal_()


def _torch_module() -> None:
    torch.nn.functional.dropout(torch.ones(3))


def _numpy() -> None:
    np.random.rand(3)


def _numpy_choice() -> None:
    np.random.choice([1, 2, 3])


def _python() -> None:
    random.random()


def _python_shuffle() -> None:
    random.shuffle([1, 2, 3])


@pytest.mark.parametrize(
    "draw, generator",
    [
        (_torch, "torch"),
        (_torch_in_place, "torch"),
        (_torch_module, "torch"),
        (_numpy, "numpy"),
        (_numpy_choice, "numpy"),
        (_python, "python"),
        (_python_shuffle, "python"),
    ],
)
def test_who_draws_is_named_with_file_line_and_generator(draw: Callable[[], None], generator: str) -> None:
    def call() -> None:
        len("nothing is drawn here")
        draw()
        len("nor here")

    line = draw.__code__.co_firstlineno + 1
    where = "by line" if generator == "numpy" else "line"  # Python's profiler does not see numpy's functions
    said = str(randomness.who_draws(call))
    assert said.endswith(f"(global {generator} generator), called in test_probe.py {where} {line} ({draw.__name__})")


def test_a_library_is_named_from_its_package_on_wherever_the_environment_lies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(torch.__file__).parents[2]))  # holds the folder that torch is found in
    drawn = randomness.who_draws(lambda: torch.nn.functional.dropout(torch.ones(4)))
    assert drawn is not None and "called in test_probe.py line" in drawn


def test_no_innocent_function_is_named_where_the_profiler_cannot_see_who_draws() -> None:
    def call() -> None:
        np.random.rand(3)
        len("innocent")

    assert str(randomness.who_draws(call)).startswith("something (global numpy generator), called in test_probe.py")


def test_generators_of_ones_own_are_not_stray() -> None:
    def call() -> None:
        torch.rand(3, generator=torch.Generator().manual_seed(1))
        np.random.default_rng(1).random()
        random.Random(1).random()

    assert randomness.who_draws(call) is None


def test_the_first_to_draw_is_named() -> None:
    def call() -> None:
        _python()
        _torch()

    assert "(_python)" in str(randomness.who_draws(call))


def test_an_error_while_looking_is_passed_on_and_looking_ends() -> None:
    def call() -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        randomness.who_draws(call)
    assert sys.getprofile() is None


@given(seed=st.integers(0, 2**64 - 1), draws=st.lists(st.sampled_from([_torch, _numpy, _python]), max_size=5))
def test_seeded_gives_the_same_numbers_and_then_puts_everything_back(
    seed: int, draws: list[Callable[[], None]]
) -> None:
    for draw in draws:
        draw()
    before = randomness.snapshot()
    drawn = []
    for _ in range(2):
        with randomness.seeded(seed):
            drawn.append((torch.rand(2).tolist(), np.random.rand(2).tolist(), random.random()))
    assert drawn[0] == drawn[1]
    assert randomness.changed(before) == []


@given(draws=st.lists(st.sampled_from([_torch, _numpy, _python]), max_size=4))
def test_changed_names_the_generators_that_moved(draws: list[Callable[[], None]]) -> None:
    before = randomness.snapshot()
    for draw in draws:
        draw()
    assert set(randomness.changed(before)) == {draw.__name__.strip("_") for draw in draws}


# What a contract says

ANSWERS = st.builds(
    Answer,
    holds=st.sampled_from([True, False, None]),
    linf=st.none() | st.floats(0, allow_nan=False, allow_infinity=False),
    why=st.none() | st.text(min_size=1),
)
CONTRACTS = st.builds(
    Contract,
    st.fixed_dictionaries(dict.fromkeys(QUESTIONS, ANSWERS)),
    st.lists(st.text(min_size=1), max_size=3),
    st.lists(st.text(min_size=1), max_size=3),
)


@given(CONTRACTS)
def test_a_contract_survives_json(contract: Contract) -> None:
    assert Contract.from_dict(json.loads(json.dumps(contract.as_dict()))) == contract


@given(CONTRACTS)
def test_only_what_is_required_and_measured_to_fail_stops_a_run(contract: Contract) -> None:
    broken = [name for name in REQUIRED if contract[name].holds is False]
    assert contract.broken == broken
    if not broken:
        contract.demand()
    else:
        with pytest.raises(NotReproducible):
            contract.demand()


def _contract(**answers: Answer) -> Contract:
    return Contract({**dict.fromkeys(QUESTIONS, Answer(True, 0.0)), **answers}, ["random numbers from torch.rand"])


def test_a_refusal_is_one_line_with_reason_cause_and_way_out() -> None:
    broken = _contract(stray_randomness=Answer(False, 1.25, "torch.rand"), fresh_process=Answer(False, None))
    with pytest.raises(NotReproducible) as refused:
        broken.demand()
    said = str(refused.value)
    assert "\n" not in said and "fresh process: no; stray randomness: no (L_inf 1.25, torch.rand)" in said
    assert "likely causes: random numbers from torch.rand" in said and "--accept-nondeterminism" in said


def test_the_table_is_aligned_whatever_is_known_of_why() -> None:
    why = "randint (global torch generator), called in diffusers/schedulers/scheduling_dpmsolver_sde.py line 65"
    lines = _contract(stray_randomness=Answer(False, 1.25e-06, why), thread_free=Answer(None)).table().splitlines()
    said = {line.split()[0]: line for line in lines if line.split()[0] in QUESTIONS}
    assert said.keys() == QUESTIONS.keys()
    assert len({said[name].index(question) for name, question in QUESTIONS.items()}) == 1
    assert sum(why in line for line in lines) == 1
    assert lines[-1] == "likely cause: random numbers from torch.rand"


# What is run for it


def test_samples_are_the_first_batch_and_others_from_all_over_the_job(models: Path) -> None:
    (models / "many.txt").write_text("".join(f"a dog {n}\n" for n in range(40)))
    found = local.chosen(load(write_job(models, "stable_diffusion", items={"prompts": "many.txt"})))
    assert [index for index, _ in found.first] == [0, 1, 2, 3]
    assert [index for index, _ in found.others] == [5, 15, 25, 35]
    assert [item["prompt"] for _, item in found.others] == [f"a dog {n}" for n in (5, 15, 25, 35)]


def test_what_splits_batches_is_the_same_for_the_others(models: Path) -> None:
    items = {"prompts": "prompts.txt", "grid": {"guidance_scale": [1.0, 7.5]}}
    found = local.chosen(load(write_job(models, "stable_diffusion", items=items)))
    assert {item["guidance_scale"] for _, item in [*found.first, *found.others]} == {1.0}
    assert len({item["prompt"] for _, item in found.others}) > 1


def test_a_short_first_batch_is_filled_with_its_last_item(models: Path) -> None:
    items = {"prompts": "prompts.txt", "grid": {"guidance_scale": [1.0, 7.5]}}
    resolved = load(write_job(models, "stable_diffusion", items=items, batch_size=8, shard_size=8))
    first = first_batch(resolved.plan, resolved.reader.read)
    assert [index for index, _ in first] == [0, 1, 2, 3]
    assert [index for index, _ in padded(first, 8)] == [0, 1, 2, 3, 3, 3, 3, 3]
    assert len(local.chosen(resolved).others) == 8


def test_every_second_text_is_lengthened_and_an_empty_one_stays_empty() -> None:
    columns = {"prompt": "string", "negative_prompt": "string", "class_labels": "int64", "style": "string"}
    item = {"prompt": "a dog", "negative_prompt": "", "class_labels": 3, "style": "oil"}
    made = lengthened([(7, item), (8, item), (9, item)], columns, ["prompt", "negative_prompt", "class_labels"])
    assert made == [(7, item), (8, {**item, "prompt": "a dog a dog a dog"}), (9, item)]
