"""An item regenerated alone equals the item that was generated in a batch, by another process."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from conftest import data, reprobatch
from reprobatch.dataset import Dataset
from reprobatch.regenerate import Regenerator
from reprobatch.store import shard_name


@pytest.fixture(scope="module")
def regenerator(digits: Path) -> Regenerator:
    return Regenerator(Dataset(digits))


def test_every_item_by_replay_equals_what_is_stored(regenerator: Regenerator) -> None:
    dataset = regenerator.dataset
    seen = []
    index = 0
    while index < len(dataset):
        _, batch = dataset.look_up(index)
        made = regenerator.batch(batch)
        seen += [m.index for m in made if m.comparison.verdict == "identical"]
        index += len(batch)
    assert seen == list(range(70))


def test_item_alone_equals_item_in_batch(regenerator: Regenerator) -> None:
    for index in (0, 7, 8, 15, 16, 37, 64, 69):  # first and last slots, shard borders, the padded tail
        made = regenerator(index, alone=True)
        assert made.comparison.verdict == "identical", index
        assert made.comparison.computed == regenerator.dataset[index].checksum


def test_a_batch_of_one_gives_other_bits_which_is_why_batches_are_filled(regenerator: Regenerator) -> None:
    row, _ = regenerator.dataset.look_up(3)
    pipe = regenerator.worker._pipeline
    full = pipe.generate([row.item] * 8, [row.seed] * 8)[row.slot]
    assert full.checksum == row.checksum
    import torch

    single = pipe.pipe(
        prompt=[row.item["prompt"]],
        generator=[torch.Generator("cpu").manual_seed(row.seed)],
        output_type="latent",
        **regenerator.dataset.job.call,
    ).images.numpy()[0]
    distance = float(np.abs(single - row.output.numpy()).max())
    assert 0 < distance < 1e-2


def test_command_prints_both_checksums_and_the_verdict(digits: Path, tmp_path: Path) -> None:
    done = reprobatch("regenerate", digits, 42, "--json", "--to", tmp_path / "42.safetensors")
    facts = json.loads(done.stdout)
    assert facts["stored"] == facts["computed"] == Dataset(digits)[42].checksum
    assert (facts["verdict"], facts["linf"], facts["method"], facts["index"]) == ("identical", 0.0, "replay", 42)
    assert np.array_equal(load_file(tmp_path / "42.safetensors")["output"], Dataset(digits)[42].latents)
    assert "Traceback" not in done.stderr


def test_an_item_that_differs_exits_one_and_says_by_how_much(digits: Path, tmp_path: Path) -> None:
    copy = tmp_path / "other"
    shutil.copytree(digits, copy)
    job = json.loads((copy / "job.json").read_text())
    job["call"]["guidance_scale"] = 4.5  # the stored rows were made with 4.0
    (copy / "job.json").write_text(json.dumps(job))
    done = reprobatch("regenerate", copy, 42, "--alone", "--json", check=False)
    facts = json.loads(done.stdout)
    assert done.returncode == 1 and facts["verdict"] == "different" and facts["linf"] > 1e-3


def test_regenerate_needs_no_ray_and_reads_one_row_group(digits: Path) -> None:
    script = f"""
import sys, pyarrow.parquet as pq
from reprobatch.dataset import Dataset
reads, opened = [], []
real = pq.ParquetFile.read_row_group
pq.ParquetFile.read_row_group = lambda self, i, *a, **k: (reads.append(i), real(self, i, *a, **k))[1]
made = Dataset({str(digits)!r}).regenerate(42)
assert made.comparison.verdict == "identical"
assert len(reads) == 1, reads
assert not any(name == "ray" or name.startswith("ray.") for name in sys.modules)
"""
    import subprocess

    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def test_a_changed_model_is_refused_with_both_digests(digits: Path, tmp_path: Path) -> None:
    copy = tmp_path / "d"
    shutil.copytree(digits, copy)
    job = json.loads((copy / "job.json").read_text())
    recorded = job["pipeline"]["model_digest"]
    job["pipeline"]["model_digest"] = "0" * 64
    (copy / "job.json").write_text(json.dumps(job))
    done = reprobatch("regenerate", copy, 1, check=False)
    assert done.returncode == 1
    assert "0" * 64 in done.stderr and recorded in done.stderr and done.stderr.count("\n") == 1


@pytest.mark.parametrize("name", ["x.png", "x.npy", "x.safetensors"])
def test_items_are_written_as_files_people_open(regenerator: Regenerator, tmp_path: Path, name: str) -> None:
    from PIL import Image

    from reprobatch.export import save

    output = regenerator(21).output
    save(output, tmp_path / name, regenerator.worker.decode)
    if name.endswith(".png"):
        picture = np.asarray(Image.open(tmp_path / name))
        assert picture.shape == (32, 32, 3) and picture.max() > 200 > 60 > picture.min()
    elif name.endswith(".npy"):
        assert np.array_equal(np.load(tmp_path / name), output.numpy())
    else:
        assert np.array_equal(load_file(tmp_path / name)["output"], output.numpy())
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_written_file_is_proved_to_be_the_item(
    digits: Path,
    regenerator: Regenerator,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Latents by their checksum; a picture by decoding the stored item once more, with the model."""
    from reprobatch import cli, proving
    from reprobatch.commands import prove
    from reprobatch.export import save
    from reprobatch.prooffile import text

    dataset = regenerator.dataset
    monkeypatch.setattr(prove, "regenerator", lambda *_: regenerator)
    monkeypatch.setattr(cli.signal, "signal", lambda *_: None)
    (tmp_path / "21.json").write_text(text(proving.prove(dataset, 21)))
    for name in ("x.npy", "x.safetensors", "x.png"):
        for index, expected in ((21, 0), (22, 1)):
            save(dataset[index].output, tmp_path / name, regenerator.worker.decode)
            options = ["--dataset", str(digits)] if name == "x.png" else []
            with pytest.raises(SystemExit) as ended:
                cli.main(["prove", "--check", str(tmp_path / "21.json"), "--item", str(tmp_path / name), *options])
            assert ended.value.code == expected
            assert ("x.png is this item, decoded here" in capsys.readouterr().out) == (name == "x.png" and index == 21)


def test_exported_pictures_are_those_plain_diffusers_decodes(digits: Path, tmp_path: Path) -> None:
    import torch
    from diffusers import StableDiffusionPipeline
    from PIL import Image

    from reprobatch import models

    facts = json.loads(reprobatch("export", digits, "--to", tmp_path / "png", "--json").stdout)
    assert facts["items"] == 70 and len(list((tmp_path / "png").iterdir())) == 70
    pipe = StableDiffusionPipeline.from_pretrained(models.resolve("builtin:digits").folder)
    latents = torch.from_numpy(Dataset(digits)[13].latents.copy())[None]
    with torch.no_grad():
        decoded = pipe.vae.decode(latents / pipe.vae.config.scaling_factor).sample
    expected = np.asarray(pipe.image_processor.postprocess(decoded)[0])
    assert np.abs(np.asarray(Image.open(tmp_path / "png" / "13.png")).astype(int) - expected).max() <= 1


def test_a_missing_shard_is_said_in_one_line(digits: Path, tmp_path: Path) -> None:
    copy = tmp_path / "d"
    shutil.copytree(digits, copy)
    (copy / shard_name(2)).unlink()
    done = reprobatch("regenerate", copy, 40, check=False)
    assert done.returncode == 1 and "shard-000002.parquet" in done.stderr and done.stderr.count("\n") == 1
    assert len(data(copy)) == 4
