"""Train `builtin:digits`, the text-to-image model that ships with reprobatch.

    python jobs/train_digits.py --out DIR          # under an hour on 2 CPU cores

The result is an unmodified diffusers ``StableDiffusionPipeline``: word-level tokenizer,
``CLIPTextModel``, ``AutoencoderKL``, ``UNet2DConditionModel`` and ``DDIMScheduler``, trained from
scratch on the handwritten digits that scikit-learn ships (UCI ML hand-written digits, CC BY 4.0).
Pictures are 3x32x32, latents 4x8x8. Every random draw comes from one seed and the thread count is
fixed, so that training twice in one environment gives the same model digest.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from sklearn.datasets import load_digits
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import CLIPTextConfig, CLIPTextModel, PreTrainedTokenizerFast

from reprobatch.models import folder_digest

WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
TEMPLATES = (
    "a handwritten {}",
    "a handwritten {}",
    "handwritten {}",
    "{}",
    "a {}",
    "the digit {}",
    "the handwritten digit {}",
    "a drawing of a {}",
)
CONTEXT = 12  # tokens a prompt is padded to; the longest caption has 7 with its two markers
LIBRARIES = ("torch", "diffusers", "transformers", "tokenizers", "safetensors", "numpy", "scikit-learn")

CARD = """\
---
license: apache-2.0
library_name: diffusers
pipeline_tag: text-to-image
tags: [stable-diffusion, digits, reproducibility]
---

# digits

A text-to-image model that draws handwritten digits, small enough to ship in a package and to run on a
CPU: "a handwritten seven" becomes a grey picture of 32x32 pixels. It is an unmodified diffusers
`StableDiffusionPipeline`, and the built-in model of reprobatch (`builtin:digits`).

    from diffusers import StableDiffusionPipeline

    pipeline = StableDiffusionPipeline.from_pretrained("path/of/this/folder")
    picture = pipeline("a handwritten seven", num_inference_steps=20, guidance_scale=4.0).images[0]
    picture.save("seven.png")

Digest (`reprobatch.models.folder_digest`, over `model_index.json` and the component folders):

    {digest}

## What it is made of

| component | class | parameters |
|---|---|---|
{components}

Latents are 4x8x8. A prompt is split into words; the model knows {words} of them (the digits as words and
as numerals, and the words of the captions below), takes every other word as `<unk>` and pads to
{context} tokens. The folder has {size:.1f} MB, in float32.

## Training

    {command}

From scratch, with every random draw from seed {seed} and {threads} threads: the autoencoder for
{vae_steps:,} steps of {vae_batch} pictures, then the UNet and the text encoder together for {unet_steps:,}
steps of {unet_batch}, of which a moving average is kept. One caption in {dropped:.0f} is left empty, for
guidance. Captions: {captions}.

Training twice in one environment gives the same digest; another library version or another kind of CPU
may not. This one: {environment}. `training.json` has all the settings.

## Data and licence

The 1,797 pictures of `sklearn.datasets.load_digits`, 8x8 pixels, enlarged to 32x32. They are the test
part of the UCI data set and licensed CC BY 4.0:

> Alpaydin, E. & Kaynak, C. (1998). Optical Recognition of Handwritten Digits. UCI Machine Learning
> Repository. https://doi.org/10.24432/C50P49

The weights are licensed Apache-2.0.

## Measured quality

Not measured yet: `python jobs/measure_digits.py --model DIR`.

## Limits

It draws the ten digits and nothing else. It has seen few pictures, and may come close to one of them.
"""


@dataclass(frozen=True)
class Recipe:
    """What decides the weights' bits, beside the environment."""

    seed: int = 20261123
    threads: int = 2
    vae_steps: int = 1200
    vae_batch: int = 64
    vae_rate: float = 2e-3
    kl_weight: float = 1e-4
    unet_steps: int = 6000
    unet_batch: int = 64
    unet_rate: float = 1e-3
    ema: float = 0.995
    drop_caption: float = 0.1


OPTIONS = ("vae_steps", "unet_steps", "threads", "seed")  # of the recipe, on the command line


def pictures() -> tuple[torch.Tensor, torch.Tensor]:
    """The 1 797 digits as float32 (n, 3, 32, 32) in [-1, 1], and their labels (n,) int64."""
    digits = load_digits()
    small = torch.from_numpy(digits.images / 16.0).float()[:, None]
    large = F.interpolate(small, size=(32, 32), mode="bicubic", align_corners=False).clamp(0, 1)
    return (large * 2 - 1).repeat(1, 3, 1, 1), torch.from_numpy(digits.target).long()


def make_tokenizer() -> PreTrainedTokenizerFast:
    """One token a word; words it does not know become ``<unk>``."""
    words = ["<pad>", "<start>", "<end>", "<unk>"]
    for text in (*TEMPLATES, *WORDS, *(str(d) for d in range(10))):
        words += [w for w in text.replace("{}", " ").split() if w not in words]
    vocabulary = {word: number for number, word in enumerate(words)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<start> $A <end>", special_tokens=[("<start>", 1), ("<end>", 2)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        bos_token="<start>",
        eos_token="<end>",
        unk_token="<unk>",
        model_max_length=CONTEXT,
    )


def make_text_encoder(vocabulary: int) -> CLIPTextModel:
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=vocabulary,
            hidden_size=64,
            intermediate_size=128,
            projection_dim=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=CONTEXT,
            pad_token_id=0,
            bos_token_id=1,
            eos_token_id=2,
        )
    )


def make_vae() -> AutoencoderKL:
    return AutoencoderKL(
        in_channels=3,
        out_channels=3,
        latent_channels=4,
        block_out_channels=(16, 32, 32),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        layers_per_block=1,
        norm_num_groups=8,
        sample_size=32,
    )


def make_unet() -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=8,
        in_channels=4,
        out_channels=4,
        block_out_channels=(32, 96),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        cross_attention_dim=64,
        attention_head_dim=4,
        norm_num_groups=16,
    )


def make_scheduler() -> DDIMScheduler:
    return DDIMScheduler(
        num_train_timesteps=1000,
        beta_schedule="scaled_linear",
        beta_start=0.00085,
        beta_end=0.012,
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    )


class Progress:
    """A line a hundred steps: step, loss, seconds left."""

    def __init__(self, name: str, steps: int) -> None:
        self.name, self.steps, self.start = name, steps, time.monotonic()

    def __call__(self, step: int, loss: torch.Tensor) -> None:
        if (step + 1) % 100 and step + 1 != self.steps:
            return
        passed = time.monotonic() - self.start
        left = passed / (step + 1) * (self.steps - step - 1)
        print(f"{self.name} {step + 1}/{self.steps} loss {loss.item():.4f} {left:.0f} s left", flush=True)


def shift(batch: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Move the whole batch by up to two pixels, ink never leaves the frame by more than that."""
    dy, dx = torch.randint(-2, 3, (2,), generator=generator).tolist()
    padded = F.pad(batch, (2, 2, 2, 2), value=-1.0)
    return padded[:, :, 2 + dy : 34 + dy, 2 + dx : 34 + dx]


def train_vae(recipe: Recipe, images: torch.Tensor) -> AutoencoderKL:
    torch.manual_seed(recipe.seed)
    generator = torch.Generator().manual_seed(recipe.seed + 1)
    vae = make_vae().train()
    optimiser = torch.optim.AdamW(vae.parameters(), lr=recipe.vae_rate)
    rate = torch.optim.lr_scheduler.OneCycleLR(optimiser, recipe.vae_rate, total_steps=recipe.vae_steps)
    report = Progress("vae", recipe.vae_steps)
    for step in range(recipe.vae_steps):
        chosen = torch.randint(len(images), (recipe.vae_batch,), generator=generator)
        batch = shift(images[chosen], generator)
        posterior = vae.encode(batch).latent_dist
        decoded = vae.decode(posterior.sample(generator)).sample
        loss = F.mse_loss(decoded, batch) + recipe.kl_weight * posterior.kl().mean() / batch[0].numel()
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        optimiser.step()
        rate.step()
        report(step, loss)
    vae.eval()
    with torch.no_grad():
        latents = vae.encode(images).latent_dist.mean
    vae.register_to_config(scaling_factor=float(f"{1 / latents.std().item():.6f}"))
    return vae


def caption_ids(tokenizer: PreTrainedTokenizerFast) -> torch.Tensor:
    """Token ids (10 digits, captions, CONTEXT) of every caption, and of the empty one at [:, -1]."""
    rows = []
    for digit, word in enumerate(WORDS):
        captions = [t.format(name) for t in TEMPLATES for name in (word, str(digit))] + [""]
        tokens = tokenizer(captions, padding="max_length", max_length=CONTEXT, return_tensors="pt")
        rows.append(tokens.input_ids)
    return torch.stack(rows)


def update_average(average: list[torch.Tensor], current: list[torch.Tensor], keep: float) -> None:
    torch._foreach_mul_(average, keep)
    torch._foreach_add_(average, current, alpha=1 - keep)


def train_unet(
    recipe: Recipe, images: torch.Tensor, labels: torch.Tensor, vae: AutoencoderKL
) -> tuple[UNet2DConditionModel, CLIPTextModel, PreTrainedTokenizerFast]:
    torch.manual_seed(recipe.seed + 2)
    generator = torch.Generator().manual_seed(recipe.seed + 3)
    tokenizer = make_tokenizer()
    ids = caption_ids(tokenizer)
    text, unet = make_text_encoder(len(tokenizer)).train(), make_unet().train()
    parameters = [*unet.parameters(), *text.parameters()]
    average = [p.detach().clone() for p in parameters]
    optimiser = torch.optim.AdamW(parameters, lr=recipe.unet_rate, weight_decay=1e-4)
    rate = torch.optim.lr_scheduler.OneCycleLR(optimiser, recipe.unet_rate, total_steps=recipe.unet_steps)
    with torch.no_grad():
        posterior = vae.encode(images).latent_dist
    signal = make_scheduler().alphas_cumprod
    report = Progress("unet", recipe.unet_steps)
    size = recipe.unet_batch
    for step in range(recipe.unet_steps):
        chosen = torch.randint(len(images), (size,), generator=generator)
        wording = torch.randint(ids.shape[1] - 1, (size,), generator=generator)
        dropped = torch.rand(size, generator=generator) < recipe.drop_caption
        wording[dropped] = ids.shape[1] - 1
        spread = torch.randn(posterior.mean[chosen].shape, generator=generator)
        latents = (posterior.mean[chosen] + posterior.std[chosen] * spread) * vae.config.scaling_factor
        times = torch.randint(len(signal), (size,), generator=generator)
        noise = torch.randn(latents.shape, generator=generator)
        kept = signal[times].view(-1, 1, 1, 1)
        noisy = kept.sqrt() * latents + (1 - kept).sqrt() * noise
        embedded = text(ids[labels[chosen], wording])[0]
        loss = F.mse_loss(unet(noisy, times, embedded).sample, noise)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        rate.step()
        with torch.no_grad():
            update_average(average, parameters, min(recipe.ema, (step + 1) / (step + 10)))
        report(step, loss)
    with torch.no_grad():
        for parameter, value in zip(parameters, average, strict=True):
            parameter.copy_(value)
    return unet.eval(), text.eval(), tokenizer


def train(recipe: Recipe) -> StableDiffusionPipeline:
    torch.set_num_threads(recipe.threads)
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # a check, and a tenth of the time
    images, labels = pictures()
    vae = train_vae(recipe, images)
    unet, text, tokenizer = train_unet(recipe, images, labels, vae)
    return StableDiffusionPipeline(
        vae=vae,
        text_encoder=text,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=make_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def training_facts(recipe: Recipe) -> dict[str, Any]:
    """The settings, and what of the environment may change the bits; nothing about time or place."""
    return {
        "recipe": asdict(recipe),
        "versions": {"python": platform.python_version()} | {name: version(name) for name in LIBRARIES},
        "cpu": {
            "architecture": platform.machine(),
            "capability": torch.backends.cpu.get_cpu_capability(),
        },
    }


def save(pipeline: StableDiffusionPipeline, recipe: Recipe, out: Path) -> None:
    """Write the folder, and beside the weights ``training.json`` and the model card."""
    pipeline.save_pretrained(out, safe_serialization=True)
    for file in (out / "model_index.json", out / "tokenizer" / "tokenizer_config.json"):
        # transformers 5 renamed the class and kept the old name, which version 4 knows too
        file.write_text(file.read_text().replace("TokenizersBackend", "PreTrainedTokenizerFast"))
    facts = training_facts(recipe)
    (out / "training.json").write_text(json.dumps(facts, indent=2, sort_keys=True) + "\n")
    (out / "README.md").write_text(card(pipeline, facts, out))
    for file in filter(Path.is_file, out.rglob("*")):
        file.chmod(0o644)  # safetensors writes files that only their owner may read


def folder_megabytes(folder: Path) -> float:
    return sum(f.stat().st_size for f in folder.rglob("*") if f.is_file()) / 1e6


def card(pipeline: StableDiffusionPipeline, facts: dict[str, Any], out: Path) -> str:
    """The model card of the folder that ``out`` has become."""
    recipe, cpu = facts["recipe"], facts["cpu"]
    rows = [
        f"| `{name}` | `{type(part).__name__}` | {sum(p.numel() for p in part.parameters()):,} |"
        for name, part in sorted(pipeline.components.items())
        if isinstance(part, torch.nn.Module)
    ]
    versions = ", ".join(f"{name} {number}" for name, number in facts["versions"].items())
    return CARD.format(
        **recipe,
        digest=folder_digest(out),
        components="\n".join(rows),
        words=len(pipeline.tokenizer) - len(set(pipeline.tokenizer.all_special_tokens)),
        context=CONTEXT,
        size=folder_megabytes(out),
        command=command(recipe),
        dropped=1 / recipe["drop_caption"],
        captions=", ".join(f'"{t.format("…")}"' for t in dict.fromkeys(TEMPLATES)),
        environment=f"{versions}, on {cpu['architecture']} with {cpu['capability']}",
    )


def command(recipe: dict[str, Any]) -> str:
    """The command line that trains by this recipe."""
    changed = {name: recipe[name] for name in OPTIONS if recipe[name] != getattr(Recipe, name)}
    options = "".join(f" --{name.replace('_', '-')} {value}" for name, value in changed.items())
    return f"python jobs/train_digits.py --out DIR{options}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder to write the model into")
    for name in OPTIONS:
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=getattr(Recipe, name))
    arguments = parser.parse_args()
    out = arguments.out
    settings = {k: v for k, v in vars(arguments).items() if k != "out"}
    recipe = Recipe(**settings)
    start = time.monotonic()
    pipeline = train(recipe)
    save(pipeline, recipe, out)
    print(f"{folder_megabytes(out):.1f} MB, {time.monotonic() - start:.0f} s")
    print(f"digest {folder_digest(out)}")


if __name__ == "__main__":
    main()
