"""A picture alone brings its item back, bit for bit; where it cannot, it says what is needed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from conftest import DIGITS
from making import make, resolved
from reprobatch import export, pictures, pngfile, recipe, replay
from reprobatch.contract import QUESTIONS, Answer, Contract
from reprobatch.dataset import Dataset
from reprobatch.job import ResolvedJob
from reprobatch.recipes import Recipes
from reprobatch.remake import Remaker
from reprobatch.store import shard_name
from reprobatch.worker import Worker
from synthetic import Command
from test_recipe import with_digest

FEW = ("items.repeat=1", "batch_size=4", "shard_size=8", "call.num_inference_steps=3")
# noise between steps is drawn from the global generator, which the batch's first item seeds: replay only
SHARED = (*FEW, "pipeline.scheduler=DPMSolverSDEScheduler", "determinism.global_seed=batch")


def with_contract(dataset: Dataset, *, alone: bool) -> Dataset:
    """The dataset with a contract in its manifest in which all holds, but for *alone* perhaps."""
    contract = Contract({name: Answer(alone if name == "alone" else True) for name in QUESTIONS})
    manifest = {**dataset.manifest, "contract": contract.as_dict()}
    (Path(dataset.store.address) / "manifest.json").write_text(json.dumps(manifest))
    return Dataset(dataset.store.address)


@pytest.fixture(scope="module")
def lonely(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Ten digits that come back alone, latents and pictures."""
    return with_contract(make(resolved(*FEW, "also=[decoded]"), tmp_path_factory.mktemp("lonely") / "d"), alone=True)


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Ten digits whose noise depends on the first of their batch."""
    return with_contract(make(resolved(*SHARED), tmp_path_factory.mktemp("together") / "d"), alone=False)


@pytest.fixture(scope="module")
def workers(lonely: Dataset, together: Dataset) -> dict[str, Worker]:
    """A loaded worker for each job, by digest: what is made by them is made once more, the loading is not."""
    return {dataset.job.digest: Worker(dataset.job) for dataset in (lonely, together)}


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str], workers: dict[str, Worker], monkeypatch: pytest.MonkeyPatch) -> Command:
    monkeypatch.setattr(replay, "Worker", lambda job, places: workers.get(job.digest) or Worker(job, places))
    return Command(capsys)


def exported(dataset: Dataset, index: int, path: Path, worker: Worker) -> Path:
    row, batch = dataset.look_up(index)
    picture = pictures.of(dataset.job, row.output, worker.decode)
    path.write_bytes(pngfile.encode(picture, Recipes(dataset).text(row, batch)))
    return path


@pytest.fixture
def four(lonely: Dataset, tmp_path: Path, workers: dict[str, Worker]) -> Path:
    """The picture of item 4 of the dataset whose items come back alone."""
    return exported(lonely, 4, tmp_path / "4.png", workers[lonely.job.digest])


@pytest.fixture
def six(together: Dataset, tmp_path: Path, workers: dict[str, Worker]) -> Path:
    """The picture of item 6, slot 2, of the dataset whose items need their neighbours."""
    return exported(together, 6, tmp_path / "6.png", workers[together.job.digest])


def changed(path: Path, **changes: Any) -> Path:
    """The same picture with another recipe, whose own digest is right."""
    data = json.loads(pngfile.read_text(path)) | changes
    info = PngImagePlugin.PngInfo()
    info.add_itxt("reprobatch", with_digest(data))
    with Image.open(path) as picture:
        picture.load()
        picture.save(path, pnginfo=info)
    return path


def test_a_picture_alone_brings_its_item_back(four: Path, lonely: Dataset, command: Command) -> None:
    code, printed, said = command("regenerate", four, "--json")
    facts = json.loads(printed)
    assert code == 0
    assert facts["stored"] == facts["computed"] == lonely[4].checksum
    assert (facts["verdict"], facts["method"], facts["linf"], facts["index"]) == ("identical", "alone", 0.0, 4)
    assert facts["pixels"] == {"verdict": "identical", "linf": 0, "why": None}
    assert "canary unknown" in said


def test_neighbours_come_along_where_an_item_does_not_come_back_alone(
    six: Path, together: Dataset, command: Command
) -> None:
    for options in ([], ["--alone"]):
        code, printed, said = command("regenerate", six, "--json", *options)
        facts = json.loads(printed)
        assert (code, facts["verdict"], facts["method"]) == (0, "identical", "replay")
        assert facts["computed"] == together[6].checksum
        assert ("alone does not hold" in said) == bool(options)


def test_without_its_neighbours_such_an_item_would_be_another(together: Dataset, workers: dict[str, Worker]) -> None:
    row, _ = together.look_up(6)
    alone = workers[together.job.digest].batch([row.item] * 4, [row.seed] * 4)[row.slot]
    assert alone.checksum != row.checksum


def test_a_recipe_without_neighbours_needs_the_job(six: Path, command: Command) -> None:
    changed(six, neighbours=None)
    said = command.refuses("regenerate", six)
    assert "expected the 3 other items of its batch" in said and "--job FILE" in said
    options = [part for change in SHARED for part in ("-s", change)]
    code, printed, said = command("regenerate", six, "--job", DIGITS, *options)
    assert code == 0 and "by replay" in printed and "identical; the picture's own pixels are those" in printed
    assert "canary agrees" in said


def test_another_job_is_refused_with_what_differs(six: Path, command: Command) -> None:
    options = [part for change in (*SHARED, "call.guidance_scale=5.0") for part in ("-s", change)]
    said = command.refuses("regenerate", six, "--job", DIGITS, *options)
    assert "--job: expected the job with digest" in said and "call.guidance_scale: 5.0 here, 4.0 there" in said


def test_the_last_batch_is_filled_up_as_it_was(lonely: Dataset, tmp_path: Path, workers: dict[str, Worker]) -> None:
    path = exported(lonely, 9, tmp_path / "9.png", workers[lonely.job.digest])
    read = recipe.parse(pngfile.read_text(path))
    assert (read.slot, read.filled) == (1, 2)
    again = Remaker(read, {}, resolved(*FEW, "also=[decoded]"))
    assert again.method() == "replay" and [each.index for each in again.batch or []] == [8, 9]
    assert again(again.load(), "replay").checksum == lonely[9].checksum


def test_regenerating_writes_the_same_picture_again(
    four: Path, lonely: Dataset, command: Command, tmp_path: Path
) -> None:
    code, _, said = command("regenerate", four, "--to", tmp_path / "again.png")
    assert code == 0 and (tmp_path / "again.png").read_bytes() == four.read_bytes()
    code, _, _ = command("regenerate", lonely.store, 4, "--to", tmp_path / "stored.png")
    assert code == 0 and (tmp_path / "stored.png").read_bytes() == four.read_bytes()
    assert "carries no recipe" not in said


def test_a_picture_that_was_saved_anew_still_comes_back_and_says_that_it_is_another(
    four: Path, command: Command
) -> None:
    with Image.open(four) as picture:
        info = PngImagePlugin.PngInfo()
        info.add_text("reprobatch", picture.text["reprobatch"])
        pixels = np.array(picture)
    pixels[0, 0, 0] ^= 8
    Image.fromarray(pixels).save(four, pnginfo=info)
    code, printed, _ = command("regenerate", four)
    assert code == 0 and "identical; the picture's own pixels are others (up to 8 of 255 apart)" in printed
    Image.fromarray(pixels).resize((16, 16)).save(four, pnginfo=info)
    code, printed, _ = command("regenerate", four)
    assert code == 0 and "the picture's own pixels are others (16x16, not 32x32)" in printed
    Image.fromarray(pixels).convert("P").save(four, pnginfo=info)
    code, printed, _ = command("regenerate", four, "--json")
    assert code == 0 and json.loads(printed)["pixels"]["verdict"] is None


def test_another_prompt_in_the_recipe_gives_other_bits(four: Path, command: Command, tmp_path: Path) -> None:
    changed(four, item={"prompt": "a handwritten nine"})
    code, printed, said = command("regenerate", four, "--to", tmp_path / "x.png")
    assert code == 1 and "different; the picture's own pixels are others" in printed
    assert "x.png carries no recipe: these are not the recorded bits" in said
    assert b"reprobatch" not in (tmp_path / "x.png").read_bytes()


def test_another_prompt_in_the_recipe_is_found_by_the_job(four: Path) -> None:
    changed(four, item={"prompt": "a handwritten nine"})
    with pytest.raises(Exception, match="expected the recipe's item to be that of the job's items, found another"):
        Remaker(recipe.parse(pngfile.read_text(four)), {}, resolved(*FEW, "also=[decoded]"))


def test_a_flipped_bit_of_the_seed_is_refused(four: Path, command: Command) -> None:
    seed = json.loads(pngfile.read_text(four))["seed"]
    changed(four, seed=seed ^ 1)
    assert f"expected seed {seed} of item 4, found {seed ^ 1}" in command.refuses("regenerate", four)
    content = four.read_bytes()
    four.write_bytes(content.replace(b'"index":4', b'"index":5').replace(b'"index": 4', b'"index": 5'))
    assert "found a damaged one" in command.refuses("regenerate", four)


def _of_another_model(path: Path, **pipeline: Any) -> Path:
    data = json.loads(pngfile.read_text(path))
    data["job"]["pipeline"] |= pipeline
    return changed(path, job=data["job"], job_digest=ResolvedJob.from_json(json.dumps(data["job"])).digest)


def test_another_model_is_refused_with_both_digests(four: Path, command: Command) -> None:
    code, printed, said = command("regenerate", _of_another_model(four, model_digest="0" * 64))
    assert (code, printed) == (1, "") and "expected digest " + "0" * 64 in said and said.count("\n") == 1


def test_a_folder_model_is_found_where_the_user_says_and_nowhere_else(
    four: Path, command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(shutil.copytree(Path(export.__file__).parent / "builtin", tmp_path / "models"))
    _of_another_model(four, model="folder:digits")
    assert "expected the model folder 'digits'" in command.refuses("regenerate", four)
    assert "--model PATH" in command.refuses("regenerate", four)
    code, printed, _ = command("regenerate", four, "--model", "digits")
    assert code == 0 and "identical" in printed


def test_nothing_is_downloaded_because_a_picture_names_it(
    four: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reprobatch.loading.download", lambda *_: pytest.fail("was downloaded"))
    _of_another_model(four, model="nobody/nothing", revision="0" * 40)
    said = command.refuses("regenerate", four)
    assert "expected model nobody/nothing at 000000000000 on this machine" in said and "--model PATH" in said


def test_pictures_and_tensors_of_items_are_needed_from_where_the_user_says(four: Path, command: Command) -> None:
    data = json.loads(pngfile.read_text(four))
    data["job"]["items"]["columns"]["image"] = "image"
    digest = ResolvedJob.from_json(json.dumps(data["job"])).digest
    changed(four, job=data["job"], job_digest=digest, item={**data["item"], "image": "0" * 64})
    said = command.refuses("regenerate", four)
    assert "expected the items' image, of which the recipe has the digests only" in said
    assert "--job FILE, or --place items=PATH" in said


@pytest.mark.parametrize("name", ["--help.png", "a b\n.png", "x.PNG", "ü.png"])
def test_pictures_of_any_name_are_read(four: Path, name: str, tmp_path: Path) -> None:
    path = four.rename(tmp_path / name)
    assert recipe.parse(pngfile.read_text(path)).index == 4


def test_a_shard_that_is_gone_is_not_missed(four: Path, lonely: Dataset, command: Command, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(lonely.store.address, tmp_path / "copy"))
    (copy / shard_name(0)).unlink()
    assert command("regenerate", copy, 4)[0] == 1
    assert command("regenerate", four)[0] == 0


def test_prove_takes_the_stored_picture_where_there_is_one(
    four: Path, lonely: Dataset, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from reprobatch import proving
    from reprobatch.commands import prove
    from reprobatch.prooffile import text

    monkeypatch.setattr(prove, "regenerator", lambda *_: pytest.fail("a model was loaded"))
    for index, expected in ((4, 0), (5, 1)):
        (tmp_path / "proof.json").write_text(text(proving.prove(lonely, index)))
        check = ["prove", "--check", tmp_path / "proof.json", "--item", four, "--dataset", lonely.store]
        code, printed, _ = command(*check)
        assert code == expected
        assert ("its picture stored in" in printed) == (index == 4)
        assert ("expected the pixels of the stored picture, found others" in printed) == (index == 5)
