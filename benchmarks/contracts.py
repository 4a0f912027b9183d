"""Measures the contract of many tiny pipelines and schedulers, and writes the matrix to ``docs/contracts.md``.

    python benchmarks/contracts.py                  # about five minutes on 2 busy cores
    python benchmarks/contracts.py --fresh          # a new process for each case, not for a few: ten minutes
    python benchmarks/contracts.py --only SDE       # print the cases whose names have SDE, write nothing

Beside each case stands what is expected not to hold. Exits 1 if an answer contradicts that, if a scheduler
class of diffusers is in neither list, or if one that cannot work does. The text is the same each time on one
machine: it names the libraries and the CPU, and no times, hosts or paths.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from reprobatch import contract, determinism, environment
from reprobatch.contract import INFORMATION, QUESTIONS, REQUIRED, Contract
from reprobatch.job import Job
from reprobatch.resolve import load, resolve
from reprobatch.settings import Determinism

determinism.prepare(Determinism(), threads=1)  # before torch is imported

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests"))
PAGE = ROOT / "docs" / "contracts.md"
PROMPTS = (
    "a dog",
    "a small blue square on a green square",
    "A bear is playing a guitar on Times Square",
    "the cat",
    "a red circle",
    "handwritten digit three",
    "horse riding",
    "a large circle with a small circle in the square",
)
PIPELINES = {
    "stable_diffusion": "StableDiffusionPipeline",
    "stable_diffusion_3": "StableDiffusion3Pipeline",
    "qwen_image": "QwenImagePipeline",
    "ddim": "DDIMPipeline",
    "unclip": "UnCLIPPipeline",
    "digits": "builtin:digits",
}
PIXELS = ("ddim", "unclip")
CALLS: dict[str, dict[str, Any]] = {
    "unclip": dict.fromkeys(
        ("prior_num_inference_steps", "decoder_num_inference_steps", "super_res_num_inference_steps"), 5
    ),
    "stable_diffusion_3": {"num_inference_steps": 5, "max_sequence_length": 32},
    "qwen_image": {"num_inference_steps": 5, "height": 16, "width": 16},
}

KEPT = frozenset({"batch_size_free"})  # what even the best do not hold
PADDED = KEPT | {"neighbour_free", "alone"}
# every call of a probe but one is made with the global generators seeded alike, so each slot gets the same noise
# each time: neighbours change nothing, another slot does
STRAY = KEPT | {"stray_randomness", "slot_free", "fresh_process"}
FROM_FIRST = PADDED | {"slot_free"}  # noise from generators that are seeded by the batch's first item
EXPECTED = tuple(name for name in QUESTIONS if name != "thread_free")  # tiny tensors need not be split up
MARKS = {name: name.replace("_", " ") for name in QUESTIONS}


@dataclass(frozen=True)
class Case:
    """A pipeline and its settings, and what is expected not to hold for them."""

    pipeline: str
    scheduler: str | None = None
    config: dict[str, Any] = field(default_factory=dict)
    seeded: str | None = None
    call: dict[str, Any] = field(default_factory=dict)
    global_seed: str = "none"
    fails: frozenset[str] = KEPT
    fresh: bool = False

    @property
    def name(self) -> str:
        """As the matrix shows it."""
        settings = {**self.config, **self.call}
        if self.seeded:
            settings["seeded"] = self.seeded
        if self.global_seed != "none":
            settings["global_seed"] = self.global_seed
        said = ", ".join(f"{key}: {str(value).lower()}" for key, value in settings.items())
        of = [self.scheduler.removesuffix("Scheduler")] if self.scheduler else ["as it comes"]
        return f"{PIPELINES[self.pipeline].removesuffix('Pipeline')} · {' · '.join([*of, *([said] if said else [])])}"


def _sd(scheduler: str, **config: Any) -> Case:
    return Case("stable_diffusion", f"{scheduler}Scheduler", config)


FLOW = {"prediction_type": "flow_prediction", "use_flow_sigmas": True}
SDE, FLOW_EULER = "DPMSolverSDEScheduler", "FlowMatchEulerDiscreteScheduler"
CASES = (
    Case("digits", fresh=True),
    Case("stable_diffusion", "PNDMScheduler", fresh=True),
    _sd("CMStochasticIterative"),
    _sd("CogVideoXDDIM"),
    _sd("CosineDPMSolverMultistep"),
    _sd("DDIM"),
    Case("stable_diffusion", "DDIMScheduler", call={"eta": 1.0}),
    _sd("DDIMInverse"),
    _sd("DDIMParallel"),
    _sd("DDPM"),
    _sd("DDPMParallel"),
    _sd("DEISMultistep"),
    _sd("DPMSolverMultistep"),
    _sd("DPMSolverMultistep", algorithm_type="dpmsolver++", solver_order=3, use_karras_sigmas=True),
    _sd("DPMSolverMultistep", algorithm_type="sde-dpmsolver", final_sigmas_type="sigma_min"),
    Case("stable_diffusion", "DPMSolverMultistepScheduler", {"algorithm_type": "sde-dpmsolver++"}, fresh=True),
    _sd("DPMSolverMultistepInverse"),
    _sd("DPMSolverSinglestep"),
    _sd("DPMSolverSinglestep", algorithm_type="sde-dpmsolver++", final_sigmas_type="zero"),
    _sd("EDMDPMSolverMultistep"),
    _sd("EDMEuler"),
    _sd("EulerAncestralDiscrete"),
    _sd("EulerDiscrete"),
    _sd("EulerDiscrete", use_karras_sigmas=True),
    _sd("HeunDiscrete"),
    _sd("IPNDM"),
    _sd("KDPM2AncestralDiscrete"),
    _sd("KDPM2Discrete"),
    _sd("LCM"),
    _sd("LMSDiscrete"),
    _sd("SASolver"),
    _sd("TCD"),
    Case("stable_diffusion", "TCDScheduler", call={"eta": 1.0}),
    _sd("UniPCMultistep"),
    Case("stable_diffusion", SDE, fails=STRAY, fresh=True),
    Case("stable_diffusion", SDE, seeded="noise_sampler_seed", fresh=True),
    Case("stable_diffusion", SDE, global_seed="batch", fails=FROM_FIRST, fresh=True),
    Case("stable_diffusion_3", FLOW_EULER, fresh=True),
    Case("stable_diffusion_3", FLOW_EULER, {"stochastic_sampling": True}, fails=STRAY),
    Case("stable_diffusion_3", FLOW_EULER, {"stochastic_sampling": True}, global_seed="batch", fails=FROM_FIRST),
    Case("stable_diffusion_3", "FlowMapEulerDiscreteScheduler"),
    Case("stable_diffusion_3", "FlowMatchHeunDiscreteScheduler"),
    Case("stable_diffusion_3", "FlowMatchLCMScheduler", fails=STRAY),
    Case("stable_diffusion_3", "LTXEulerAncestralRFScheduler", fails=STRAY),
    Case("stable_diffusion_3", "MiniMaxH3Scheduler"),
    Case("stable_diffusion_3", "UniPCMultistepScheduler", FLOW),
    Case(
        "stable_diffusion_3", "DPMSolverMultistepScheduler", {**FLOW, "algorithm_type": "sde-dpmsolver++"}, fails=STRAY
    ),
    Case("qwen_image", fails=PADDED, fresh=True),
    Case("ddim", "DDIMScheduler"),
    Case("ddim", "DDIMScheduler", call={"eta": 1.0}),
    Case("unclip", fresh=True),
)

CANNOT = {
    "AmusedScheduler": "unmasks tokens; there is no noise to take away",
    "BlockRefinementScheduler": "refines blocks of tokens",
    "CogVideoXDPMScheduler": "its step wants the last step's prediction too, which CogVideoX' pipelines keep",
    "DDPMWuerstchenScheduler": "has its own call protocol, Würstchen's",
    "DiscreteDDIMScheduler": "denoises tokens",
    "EntropyBoundScheduler": "denoises tokens",
    "HeliosDMDScheduler": "flow matching in stages, for Helios' own pipelines",
    "HeliosScheduler": "flow matching in stages, for Helios' own pipelines",
    "KarrasVeScheduler": "its step wants the sample before noise was added too: a pipeline of its own, since removed",
    "PiflowScheduler": "wants a model that predicts whole policies (ten times the channels)",
    "RFD4ProteinaScheduler": "for proteins",
    "RePaintScheduler": "its step wants a picture and a mask",
    "SCMScheduler": "for Sana Sprint's TrigFlow models, whose pipeline sets the timesteps itself",
    "ScoreSdeVeScheduler": "has two steps, step_pred and step_correct, for a pipeline of its own",
    "UnCLIPScheduler": "has no order and scales nothing: for UnCLIPPipeline, see there",
    "VQDiffusionScheduler": "denoises tokens",
}


class Folder:
    """The tiny pipelines and the prompts, in a temporary folder."""

    def __init__(self, path: Path) -> None:
        self._path = path
        (path / "prompts.txt").write_text("\n".join(PROMPTS) + "\n")

    def probe(self, case: Case, *, fresh: bool) -> Contract:
        """Measure a case in this process."""
        from reprobatch.worker import Worker

        resolved = load(ROOT / "jobs" / "digits.yaml") if case.pipeline == "digits" else self._resolved(case)
        worker = Worker(resolved.job, resolved.model_hint)
        return worker.probe(contract.samples(resolved.job, resolved.plan, resolved.reader.read), fresh=fresh)

    def _resolved(self, case: Case) -> Any:
        import tiny

        model = self._path / case.pipeline
        if not model.exists():
            getattr(tiny, case.pipeline)(model)
        scheduler = {"name": case.scheduler, "config": case.config, "seeded": case.seeded} if case.scheduler else None
        job = {
            "name": case.pipeline,
            "master_seed": 20261123,
            "pipeline": {"model": case.pipeline, "scheduler": scheduler},
            "call": {**CALLS.get(case.pipeline, {"num_inference_steps": 5}), **case.call},
            "items": {"count": len(PROMPTS)} if case.pipeline == "ddim" else {"prompts": "prompts.txt"},
            "output": "pixels" if case.pipeline in PIXELS else "latent",
            "batch_size": 4,
            "shard_size": 8,
            "determinism": {"global_seed": case.global_seed},
        }
        return resolve(Job.parse(job), self._path / "job.yaml")


def contradictions(case: Case, found: Contract) -> list[str]:
    """Where the answers are not those expected."""
    wrong = []
    for name in EXPECTED:
        holds, expected = found[name].holds, name not in case.fails
        if holds is not None and holds is not expected:
            wrong.append(f"{case.name}: {MARKS[name]}: expected {_yes(expected)}, found {_yes(holds)}")
    return wrong


def why_not(folder: Folder, name: str) -> str | None:
    """What a scheduler that cannot work says; ``None`` if it does work."""
    for case in (Case("stable_diffusion", name), Case("stable_diffusion_3", name)):
        try:
            folder.probe(case, fresh=False)
        except Exception as error:  # whatever diffusers raises is the answer
            said = f"{type(error).__name__}: {' '.join(str(error).split())}"
        else:
            return None
    return said


def unlisted() -> list[str]:
    """Scheduler classes of this diffusers that are in neither list."""
    import diffusers

    known = {case.scheduler for case in CASES} | CANNOT.keys()
    return sorted(name for name in dir(diffusers) if name.endswith("Scheduler") and name not in known)


def page(found: Sequence[tuple[Case, Contract]]) -> str:
    """The whole page."""
    stray = [(case, c["stray_randomness"].why) for case, c in found if c["stray_randomness"].why]
    plain = [(case, c) for case, c in found if case.pipeline == "stable_diffusion"]
    libraries = ", ".join(f"{name} {version(name)}" for name in ("torch", "diffusers", "transformers", "numpy"))
    return "\n".join(
        [
            "# Contracts, measured",
            "",
            "Written by `python benchmarks/contracts.py`; do not edit. What `reprobatch probe` answers for tiny",
            "pipelines with random weights: real classes of diffusers, batches of 4 prompts of different lengths,",
            "float32, one thread. A *no* shows the largest difference seen (L_inf).",
            "",
            f"Measured with {libraries} on {environment.cpu()[0]}.",
            "",
            f"{len({case.scheduler for case, _ in plain})} scheduler classes ran with StableDiffusionPipeline, in",
            f"{len(plain)} settings. An item can be made again alone in {_count(plain, 'alone')} of these, and in a",
            f"batch of another size in {_count(plain, 'batch_size_free')}.",
            "",
            *_matrix(found),
            "",
            "—: not measured, which takes a process for each (`--fresh`). A run rests on",
            f"{', '.join(f'*{MARKS[name]}*' for name in REQUIRED)} and",
            "refuses a job where one is *no*; *alone* decides whether `regenerate --alone` is possible, and on",
            f"{' and '.join(f'*{MARKS[name]}*' for name in INFORMATION)} nothing rests.",
            "Two steps a call. In one process all calls but one start with the global generators seeded alike: where",
            "*stray randomness* is *no*, a *yes* elsewhere holds only under that condition.",
            "",
            *(f"- *{MARKS[name]}*: {question}" for name, question in QUESTIONS.items()),
            "",
            "## Stray randomness: who draws",
            "",
            *(f"- {case.name}: {why}" for case, why in stray),
            "",
        ]
    )


def cannot_page(reasons: dict[str, str]) -> str:
    """The page's end: what cannot work, why, and what diffusers says."""
    lines = [f"| {name.removesuffix('Scheduler')} | {CANNOT[name]} | {said} |" for name, said in reasons.items()]
    return "\n".join(
        [
            "## Schedulers that cannot work with these pipelines",
            "",
            "With neither StableDiffusionPipeline nor StableDiffusion3Pipeline; what diffusers says to the latter:",
            "",
            "| scheduler | reason | said |",
            "|---|---|---|",
            *lines,
            "",
            "`PNDMScheduler` with `skip_prk_steps: false` is not in the matrix: it needs four steps, probes take two.",
            "",
        ]
    )


def _count(found: Sequence[tuple[Case, Contract]], name: str) -> int:
    """In how many cases something holds, of those that a run takes."""
    return sum(bool(c[name].holds) for _, c in found if not c.broken)


def _matrix(found: Sequence[tuple[Case, Contract]]) -> list[str]:
    names = list(QUESTIONS)
    rows = [["case", *(MARKS[name] for name in names)]]
    rows += [[case.name, *(_cell(answers, name) for name in names)] for case, answers in found]
    widths = [max(len(row[column]) for row in rows) for column in range(len(names) + 1)]
    lines = ["| " + " | ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)) + " |" for row in rows]
    return [lines[0], "|" + "|".join("-" * (w + 2) for w in widths) + "|", *lines[1:]]


def _cell(answers: Contract, name: str) -> str:
    answer = answers[name]
    if answer.holds is None:
        return "—"
    by_chance = name == "fresh_process" and "stray_randomness" in answers.broken  # another number each time
    measured = not answer.holds and answer.linf is not None and not by_chance
    return _yes(answer.holds) + (f" {answer.linf:.1e}" if measured else "")


def _yes(holds: bool) -> str:
    return "yes" if holds else "no"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fresh", action="store_true", help="Ask a new process in each case.")
    parser.add_argument("--only", default="", metavar="TEXT", help="Only cases whose names have TEXT; writes nothing.")
    arguments = parser.parse_args()
    found: list[tuple[Case, Contract]] = []
    reasons: dict[str, str] = {}
    wrong = [f"{name}: in no list of this script" for name in unlisted()]
    with tempfile.TemporaryDirectory() as path:
        folder = Folder(Path(path))
        for case in CASES:
            if arguments.only in case.name:
                answers = folder.probe(case, fresh=case.fresh or arguments.fresh)
                found.append((case, answers))
                wrong += contradictions(case, answers)
        for name in () if arguments.only else CANNOT:
            said = why_not(folder, name)
            reasons[name] = said or ""
            wrong += [f"{name}: expected not to work, and it does"] if said is None else []
    text = page(found) + "\n" + cannot_page(reasons)
    print(text)
    if not arguments.only:
        PAGE.write_text(text)
    for line in wrong:
        print(line, file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
