"""The diffusers guide on reproducible pipelines, block by block, on tiny models with random weights.

The guide's own models lie on a hub: ``tests/test_catalogue.py`` has the number that its first block prints.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import diffusers.pipelines
import numpy as np
import pytest
import torch
from diffusers import DDIMPipeline, DDIMScheduler, StableDiffusionPipeline, UnCLIPPipeline
from diffusers.utils.torch_utils import randn_tensor

import reprobatch
import tiny
from reprobatch import determinism
from reprobatch.settings import Determinism

DIGITS = Path(reprobatch.__file__).parent / "builtin" / "digits"
BEAR = "A bear is playing a guitar on Times Square"

FRESH_PROCESS = """
import json, os, sys
from reprobatch import determinism
from reprobatch.settings import Determinism

assert "CUBLAS_WORKSPACE_CONFIG" not in os.environ
wanted = determinism.variables(Determinism(), 1)
determinism.prepare(Determinism(), 1)
early = "torch" not in sys.modules and "ray" not in sys.modules
device = sys.argv[1]
determinism.fix(Determinism(), 1, device)
import torch

square = torch.rand(256, 256, generator=torch.Generator("cpu").manual_seed(0)).to(device)
assert torch.equal(square @ square, square @ square)  # cuBLAS starts, and torch finds its workspace set
assert determinism.in_force().items() >= determinism.strict_settings(1, device).items()
print(json.dumps({
    "wanted": wanted["CUBLAS_WORKSPACE_CONFIG"],
    "set": os.environ["CUBLAS_WORKSPACE_CONFIG"],
    "set before torch": early,
    "cudnn.benchmark": torch.backends.cudnn.benchmark,
    "deterministic": torch.are_deterministic_algorithms_enabled(),
    "ray": "ray" in sys.modules,
}))
"""

WITHOUT_RAY = """
import sys

sys.modules["ray"] = None  # an import of it raises ImportError
import reprobatch.contract, reprobatch.determinism, reprobatch.fresh, reprobatch.pipeline, reprobatch.probes
import reprobatch.resolve, reprobatch.worker
import conftest, test_guide
"""

no_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no GPU here")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ``DDIMPipeline`` that stands for google/ddpm-cifar10-32."""
    return tiny.ddim(tmp_path_factory.mktemp("ddim"))


@pytest.fixture
def strict() -> Iterator[None]:
    """The deterministic settings, and everything as it was afterwards."""
    environ, switches = dict(os.environ), determinism.in_force()
    determinism.prepare(Determinism(), 1)
    determinism.apply(determinism.strict_settings(1, "cuda" if torch.cuda.is_available() else "cpu"))
    yield
    determinism.apply(switches)
    os.environ.clear()
    os.environ.update(environ)


def two_steps(folder: Path, generator: torch.Generator | None = None, device: str = "cpu") -> np.ndarray:
    """The guide's block: load the model and its scheduler, run two steps, return numpy."""
    ddim = DDIMPipeline.from_pretrained(folder).to(device)
    ddim.set_progress_bar_config(disable=True)
    images: np.ndarray = ddim(num_inference_steps=2, output_type="np", generator=generator).images
    return images


def test_without_a_generator_two_runs_differ(folder: Path) -> None:
    assert np.abs(two_steps(folder) - two_steps(folder)).max() > 0.1


def test_with_a_cpu_generator_of_seed_zero_two_runs_are_equal(folder: Path, strict: None) -> None:
    runs = [two_steps(folder, torch.Generator(device="cpu").manual_seed(0)) for _ in range(2)]
    assert np.array_equal(*runs)
    assert np.abs(runs[0]).sum() == np.abs(runs[1]).sum() > 0


def test_another_seed_gives_another_picture(folder: Path) -> None:
    runs = [two_steps(folder, torch.Generator(device="cpu").manual_seed(seed)) for seed in (0, 1)]
    assert np.abs(runs[0] - runs[1]).max() > 0.1


def test_a_generator_that_goes_on_is_a_state_and_gives_another_picture(folder: Path) -> None:
    generator = torch.Generator(device="cpu").manual_seed(0)
    assert np.abs(two_steps(folder, generator) - two_steps(folder, generator)).max() > 0.1


def test_the_global_generator_that_manual_seed_returns_is_a_cpu_generator(folder: Path, strict: None) -> None:
    with torch.random.fork_rng(devices=[]):
        made = two_steps(folder, torch.manual_seed(0))
    assert np.array_equal(made, two_steps(folder, torch.Generator(device="cpu").manual_seed(0)))


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=[pytest.mark.cuda, no_gpu])])
def test_settings_are_the_guides_in_a_fresh_process(device: str) -> None:
    environ = {k: v for k, v in os.environ.items() if k != "CUBLAS_WORKSPACE_CONFIG"}
    done = subprocess.run(
        [sys.executable, "-c", FRESH_PROCESS, device], env=environ, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "wanted": ":16:8",
        "set": ":16:8",
        "set before torch": True,
        "cudnn.benchmark": False,
        "deterministic": True,
        "ray": False,
    }


def test_an_operation_without_a_deterministic_form_is_refused(strict: None) -> None:
    with pytest.raises(RuntimeError, match="does not have a deterministic implementation"):
        torch.zeros(4).put_(torch.tensor([0, 0]), torch.tensor([1.0, 2.0]))


@pytest.mark.parametrize(("model", "prompt"), [("tiny", BEAR), ("digits", "a handwritten seven")])
def test_the_same_pipeline_run_twice_has_l_inf_zero(
    model: str, prompt: str, tmp_path: Path, strict: None, capsys: pytest.CaptureFixture[str]
) -> None:
    """The guide's last block, with its prints; the generator is on the CPU, as the guide advises."""
    pipe = StableDiffusionPipeline.from_pretrained(tiny.stable_diffusion(tmp_path) if model == "tiny" else DIGITS)
    pipe.set_progress_bar_config(disable=True)
    pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config)
    g = torch.Generator(device="cpu")

    g.manual_seed(0)
    result1 = pipe(prompt=prompt, num_inference_steps=50, generator=g, output_type="latent").images
    g.manual_seed(0)
    result2 = pipe(prompt=prompt, num_inference_steps=50, generator=g, output_type="latent").images

    assert result1.std() > 0.1 and torch.isfinite(result1).all()
    capsys.readouterr()
    print("L_inf dist =", abs(result1 - result2).max())
    assert capsys.readouterr().out == "L_inf dist = tensor(0.)\n"


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=[pytest.mark.cuda, no_gpu])])
def test_unclip_repeats_itself_in_one_environment(
    device: str, tmp_path: Path, strict: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All that the guide promises for it; between batch sizes alone it differs by more than the others."""
    moved = importlib.import_module("diffusers.pipelines.deprecated.unclip")
    monkeypatch.setattr(diffusers.pipelines, "unclip", moved, raising=False)  # where its model_index.json looks
    pipe = UnCLIPPipeline.from_pretrained(tiny.unclip(tmp_path)).to(device)
    pipe.set_progress_bar_config(disable=True)
    steps = {f"{part}_num_inference_steps": 2 for part in ("prior", "decoder", "super_res")}

    def run() -> np.ndarray:
        generators = [torch.Generator(device="cpu").manual_seed(seed) for seed in range(4)]
        images: np.ndarray = pipe([BEAR] * 4, generator=generators, output_type="np", **steps).images
        return images

    first = run()
    assert first.shape == (4, 32, 32, 3)
    assert np.array_equal(first, run())
    assert all(np.abs(first[0] - other).max() > 0.1 for other in first[1:])


def test_none_of_this_needs_ray() -> None:
    """A machine with a GPU and without Ray can run the tests marked ``cuda``: ``benchmarks/gpu`` does."""
    paths = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_RAY],
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.cuda
@no_gpu
def test_a_cuda_generator_draws_other_noise_than_a_cpu_generator() -> None:
    cpu, cuda = (
        randn_tensor((1, 3, 32, 32), generator=torch.Generator(device=d).manual_seed(0), device=torch.device("cuda"))
        for d in ("cpu", "cuda")
    )
    assert cpu.device == cuda.device
    assert (cpu - cuda).abs().mean() > 0.5


@pytest.mark.cuda
@no_gpu
def test_a_cuda_generator_cannot_serve_a_pipeline_on_the_cpu(folder: Path) -> None:
    with pytest.raises(ValueError, match="from a generator of type cuda"):
        two_steps(folder, torch.Generator(device="cuda").manual_seed(0))


@pytest.mark.cuda
@no_gpu
def test_on_a_gpu_without_a_generator_two_runs_differ(folder: Path, strict: None) -> None:
    assert np.abs(two_steps(folder, device="cuda") - two_steps(folder, device="cuda")).max() > 0.1


@pytest.mark.cuda
@no_gpu
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_on_a_gpu_a_generator_of_either_kind_with_seed_zero_gives_equal_runs(
    device: str, folder: Path, strict: None
) -> None:
    runs = [two_steps(folder, torch.Generator(device=device).manual_seed(0), "cuda") for _ in range(2)]
    assert np.array_equal(*runs)


@pytest.mark.cuda
@no_gpu
def test_on_a_gpu_the_generator_that_manual_seed_returns_is_still_a_cpu_generator(folder: Path, strict: None) -> None:
    """The guide's block as it stands: ``torch.manual_seed(0)``, "careful not to put it on the GPU"."""
    with torch.random.fork_rng():
        generator = torch.manual_seed(0)
        made = two_steps(folder, generator, "cuda")
    assert generator.device.type == "cpu"
    assert np.array_equal(made, two_steps(folder, torch.Generator(device="cpu").manual_seed(0), "cuda"))


@pytest.mark.cuda
@no_gpu
def test_on_a_gpu_a_cpu_generator_comes_close_to_the_cpus_picture_and_a_cuda_generator_does_not(
    folder: Path, strict: None
) -> None:
    on_cpu = two_steps(folder, torch.Generator(device="cpu").manual_seed(0))
    close = two_steps(folder, torch.Generator(device="cpu").manual_seed(0), "cuda")
    other = two_steps(folder, torch.Generator(device="cuda").manual_seed(0), "cuda")
    assert np.abs(on_cpu - close).max() < 1e-2
    assert np.abs(on_cpu - other).mean() > 0.1


@pytest.mark.cuda
@no_gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("device", ["cuda", "cpu"])
def test_on_a_gpu_the_same_pipeline_run_twice_has_l_inf_zero(
    device: str, dtype: torch.dtype, tmp_path: Path, strict: None
) -> None:
    """The guide's last block as it stands there, pipeline and generator on the GPU; and with a CPU generator."""
    pipe = StableDiffusionPipeline.from_pretrained(tiny.stable_diffusion(tmp_path)).to("cuda", dtype)
    pipe.set_progress_bar_config(disable=True)
    pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config)
    g = torch.Generator(device=device)
    results = [
        pipe(prompt=BEAR, num_inference_steps=50, generator=g.manual_seed(0), output_type="latent").images
        for _ in range(2)
    ]
    assert results[0].std() > 0.1 and torch.isfinite(results[0]).all()
    assert abs(results[0] - results[1]).max() == 0
    if dtype == torch.float32:  # else the guide's line also names the dtype
        assert str(abs(results[0] - results[1]).max()) == "tensor(0., device='cuda:0')"
