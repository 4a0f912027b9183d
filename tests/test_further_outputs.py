"""More than one output of an item in a row: the picture beside its latents, and the fields that a pipeline gives."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

import local
import tiny
from conftest import DIGITS, reprobatch
from making import make, resolved
from reprobatch import record
from reprobatch.compare import compare
from reprobatch.dataset import Dataset
from reprobatch.errors import JobError
from reprobatch.record import Output
from reprobatch.regenerate import Regenerator
from reprobatch.resolve import load
from reprobatch.store import shard_name
from reprobatch.verdict import compare as apart
from reprobatch.verification import verify

FEW = ("items.repeat=1", "shard_size=8", "call.num_inference_steps=3")


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Ten digits, latents and pictures."""
    return make(resolved(*FEW, "also=[decoded]"), tmp_path_factory.mktemp("both") / "d")


@pytest.fixture
def copy(both: Dataset, tmp_path: Path) -> Path:
    return Path(shutil.copytree(str(both.store), tmp_path / "d"))


def test_a_row_holds_latents_and_the_picture_they_decode_to(both: Dataset) -> None:
    again = Regenerator(both)
    for index in (0, 9):
        item = both[index]
        assert (item.latents.shape, item.decoded.shape, item.decoded.dtype) == ((4, 8, 8), (32, 32, 3), np.uint8)
        assert (item.decoded == again.worker.decode(item.output)).all()
    assert verify(both).verdict == "intact"


def test_the_latents_are_those_of_a_job_without_pictures(both: Dataset, tmp_path: Path) -> None:
    alone = make(resolved(*FEW), tmp_path / "d")
    assert [item.latents.tobytes() for item in alone] == [item.latents.tobytes() for item in both]
    assert "also" not in alone.job.canonical and '"also":["decoded"]' in both.job.canonical
    assert alone.footer(0).job != both.footer(0).job


def test_a_checksum_covers_every_output(both: Dataset) -> None:
    row = both[3].row
    own = record.checksum("float32", (4, 8, 8), row.output.data)
    picture = row.output.also["decoded"]
    lines = f"{own}\ndecoded {record.checksum('uint8', picture.shape, picture.data)}\n"
    assert row.stored == row.checksum == hashlib.sha256(lines.encode()).hexdigest()


def test_an_item_comes_back_with_all_its_outputs(both: Dataset) -> None:
    again = Regenerator(both)
    assert {again(index).comparison.verdict for index in (0, 9)} == {"identical"}
    assert again(9, alone=True).comparison.verdict == "identical"
    assert again(9).output.also["decoded"].data == both[9].output.also["decoded"].data


def test_shards_of_several_outputs_have_a_format_of_their_own(both: Dataset) -> None:
    file = pq.ParquetFile(Path(str(both.store)) / shard_name(0))
    assert file.metadata.metadata[b"reprobatch.format"] == b"reprobatch-shard/2"
    further = ["decoded_dtype", "decoded_shape", "decoded"]
    assert file.schema_arrow.names[-6:] == ["shape", "latents", *further, "checksum"]


def test_a_picture_that_was_changed_is_found(copy: Path) -> None:
    path = copy / shard_name(0)
    file = pq.ParquetFile(path)
    table, at = file.read(), file.schema_arrow.get_field_index("decoded")
    pictures = table["decoded"].to_pylist()
    pictures[5] = bytes(len(pictures[5]))
    footer = {k.decode(): v.decode() for k, v in file.metadata.metadata.items() if k != b"ARROW:schema"}
    with pq.ParquetWriter(path, table.schema.remove_metadata()) as writer:
        changed = table.set_column(at, "decoded", pa.array(pictures, pa.binary()))
        writer.write_table(changed.replace_schema_metadata(None))
        writer.add_key_value_metadata(footer)
    found = [problem for problem in verify(Dataset(copy)).problems if problem.kind == "checksum"]
    assert [problem.index for problem in found] == [5]


def test_pictures_are_exported_without_a_model(both: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = reprobatch("export", both.store, "--to", tmp_path / "pics", "--model", tmp_path / "nowhere", "--json")
    assert json.loads(done.stdout)["items"] == 10
    with Image.open(tmp_path / "pics" / "4.png") as picture:
        assert (np.asarray(picture).reshape(both[4].decoded.shape) == both[4].decoded).all()


def test_torch_gets_every_output_as_a_tensor(both: Dataset) -> None:
    from reprobatch import TorchDataset

    row = TorchDataset(str(both.store))[7]
    assert torch.equal(row["decoded"], torch.from_numpy(both[7].decoded.copy()))
    assert row["latents"].shape == (4, 8, 8) and "decoded_dtype" not in row


def test_datasets_with_further_outputs_are_compared_by_all_of_them(both: Dataset, copy: Path) -> None:
    assert compare(both, Dataset(copy)).passed


@pytest.mark.parametrize(
    ("picture", "atol", "verdict", "linf"),
    [([1, 2], 0.0, "identical", 0.0), ([1, 4], 0.0, "different", 2.0), ([1, 4], 2.0, "within", 2.0)],
)
def test_the_farthest_output_decides(picture: list[int], atol: float, verdict: str, linf: float) -> None:
    def output(values: list[int]) -> Output:
        return Output("uint8", (1,), b"\1", {"decoded": Output("uint8", (2,), bytes(values))})

    found = apart(output([1, 2]), output(picture), atol)
    assert (found.verdict, found.linf) == (verdict, linf)


@pytest.mark.parametrize(
    ("also", "output", "said"),
    [
        ("[decoded, decoded]", "latent", "also: expected further outputs, each once, found 'decoded'"),
        ("[latents]", "latent", "found 'latents'"),
        ("[checksum]", "latent", "found 'checksum'"),
        ("[decoded]", "pixels", "also: decoded is of latents, found output: pixels"),
        ("decoded", "latent", "also: expected a list"),
    ],
)
def test_further_outputs_that_cannot_be_are_refused(also: str, output: str, said: str) -> None:
    with pytest.raises(JobError) as error:
        load(DIGITS, [f"also={also}", f"output={output}"])
    assert said in str(error.value)


def test_a_column_of_the_items_may_not_be_called_as_one_of_an_output(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text(json.dumps({"prompt": "a one", "decoded_dtype": "mine"}) + "\n")
    with pytest.raises(JobError, match=r"'decoded_dtype' is a column of a further output"):
        load(DIGITS, [f"items.prompts={tmp_path / 'rows.jsonl'}", "items.metadata=[decoded_dtype]", "also=[decoded]"])


def test_shard_bytes_counts_the_pictures_too() -> None:
    assert resolved("shard_bytes=64KiB").job.shard_size == 64  # latents of 1 KiB
    assert resolved("shard_bytes=64KiB", "also=[decoded]").job.shard_size == 16  # 4 KiB with a picture's 3


def test_fields_of_a_pipelines_own_output_class_stand_beside_each_other(tmp_path: Path) -> None:
    tiny.kandinsky_emb2emb(tmp_path / "model")
    job: dict[str, Any] = {
        "pipeline": {"model": "model", "class_name": "KandinskyV22PriorPipeline"},
        "call": {"num_inference_steps": 2},
        "items": {"prompts": "prompts.txt"},
        "output": "image_embeds",
        "also": ["negative_image_embeds"],
        "batch_size": 2,
    }
    (tmp_path / "prompts.txt").write_text("a dog\nthe cat\n")
    dataset = local.made(local.write_job(tmp_path / "job.yaml", **job), tmp_path / "d")
    assert dataset[1].negative_image_embeds.shape == dataset[1].array.shape == (32,)
    assert verify(dataset).verdict == "intact"
    again = Regenerator(dataset)
    assert again(1).comparison.verdict == "identical"
