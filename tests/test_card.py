"""What lies beside the data for people and tools: the card and Croissant metadata, both from the job alone."""

from __future__ import annotations

import json
import logging
import re
from pathlib import Path
from typing import Any

import mlcroissant
import pyarrow.parquet as pq
import pytest
import yaml
from datasets import Features
from datasets.info import DatasetInfosDict
from huggingface_hub import DatasetCard
from hypothesis import given, settings
from hypothesis import strategies as st

import handmade
import reprobatch
from reprobatch import croissant, record
from reprobatch.card import dataset_card
from reprobatch.claim import claim
from reprobatch.folder import FolderStore
from reprobatch.jobitems import RESERVED_COLUMNS
from reprobatch.models import licence
from reprobatch.record import Output

KINDS = {"a": "string", "b": "int64", "c": "double", "d": "bool", "seed": "int64"}
names = st.text(min_size=1).filter(lambda name: name not in RESERVED_COLUMNS | {"seed"})
reproducibly = settings(deadline=None, derandomize=True, max_examples=40)
columns = st.dictionaries(names, st.sampled_from(["string", "int64", "double", "bool"]), max_size=4)


def front_matter(text: str) -> dict[str, Any]:
    return dict(yaml.safe_load(text.split("---\n")[1]))


def test_a_run_writes_both(digits: Path) -> None:
    job = reprobatch.open(digits).job
    assert (digits / "README.md").read_text() == dataset_card(job)
    assert (digits / "croissant.json").read_text() == croissant.metadata(job)


def test_a_resumed_run_writes_what_is_missing_and_leaves_what_somebody_edited(tmp_path: Path) -> None:
    """Datasets made before there was ``croissant.json`` get it, and a card keeps what was added to it."""
    store, job = FolderStore(tmp_path / "d"), handmade.job(KINDS, 4)
    assert claim(store, job, lambda start, stop: []) == 0
    store.replace("README.md", b"mine")
    (tmp_path / "d" / "croissant.json").unlink()
    assert claim(store, job, lambda start, stop: []) == 0
    assert (store.get("README.md"), store.get("croissant.json").decode()) == (b"mine", croissant.metadata(job))


@pytest.mark.parametrize("output", ["latent", "pixels"])
def test_front_matter_states_the_types_that_datasets_reads_from_the_files(output: Any, tmp_path: Path) -> None:
    job = handmade.job(KINDS, 4, output=output)
    (tmp_path / "README.md").write_text(dataset_card(job))
    data = DatasetCard.load(tmp_path / "README.md").data
    stated = DatasetInfosDict.from_dataset_card_data(data)["default"].features
    assert stated == Features.from_arrow_schema(record.schema(KINDS, job.column))
    named = {feature["name"]: feature.get("dtype") for feature in data.dataset_info["features"]}
    assert (named["b"], named["c"], named["d"], named[job.column]) == ("int64", "float64", "bool", "binary")
    assert data.configs == [{"config_name": "default", "data_files": "data/*.parquet"}]


@reproducibly
@given(columns)
def test_any_column_name_passes_through_the_front_matter(own: dict[str, str]) -> None:
    found = front_matter(dataset_card(handmade.job(own, 4)))["dataset_info"]["features"]
    assert [feature["name"] for feature in found] == record.schema(own, "latents").names


@reproducibly
@given(columns)
def test_any_column_name_passes_through_croissant(own: dict[str, str]) -> None:
    found = mlcroissant.Dataset(json.loads(croissant.metadata(handmade.job(own, 4)))).metadata.record_sets[0]
    assert [field.source.extract.column for field in found.fields] == record.schema(own, "latents").names
    assert len({field.id for field in found.fields}) == len(found.fields)


def test_croissant_is_valid_and_lacks_only_what_no_job_knows(digits: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        mlcroissant.Dataset(digits / "croissant.json")
    lacking = re.findall(r'Property "\S+/(\w+)" is recommended', caplog.text)
    assert lacking == ["citeAs", "datePublished", "version"]
    assert "@context" not in caplog.text


def test_more_items_are_another_card_and_another_description() -> None:
    one, more = (handmade.job(KINDS, count) for count in (40, 41))
    assert dataset_card(one) == dataset_card(handmade.job(KINDS, 40)) != dataset_card(more)
    assert croissant.metadata(one) == croissant.metadata(handmade.job(KINDS, 40)) != croissant.metadata(more)
    assert "\n41 items made by" in dataset_card(more)


@pytest.mark.parametrize(
    ("model", "stated", "said"),
    [
        ("builtin:digits", "apache-2.0", "licence of the model: `apache-2.0`"),
        ("some/model", None, "licence of the model: see <https://huggingface.co/some/model>"),
        ("folder:mine", None, "licence of the model: not recorded here"),
        ("builtin:../digits", None, "licence of the model: not recorded here"),
    ],
)
def test_licence_is_the_models_where_its_card_ships_with_the_package(model: str, stated: str | None, said: str) -> None:
    job = handmade.job(KINDS, 4, model=model)
    assert licence(model) == front_matter(dataset_card(job)).get("license") == stated
    assert json.loads(croissant.metadata(job)).get("license") == stated
    assert said in dataset_card(job)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_card_shows_how_an_output_is_read(dtype: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outputs = [Output(dtype, (2, 3), bytes(range(6 * record.ITEM_SIZE[dtype]))) for _ in range(4)]
    root = handmade.write(tmp_path / "d", handmade.job({}, 4, dtype=dtype), [{}] * 4, outputs)
    monkeypatch.chdir(root)
    (block,) = re.findall(r"```python\n(.*?)```", (root / "README.md").read_text(), re.DOTALL)
    known: dict[str, Any] = {}
    exec(block, known)
    assert known["array"].shape == (2, 3) and str(known["array"].dtype).endswith(dtype)
    expected = reprobatch.open(root)[0]
    assert known["array"].tolist() == (expected.array if dtype == "float32" else expected.tensor).tolist()
    assert pq.read_table("data").num_rows == 4


def test_card_says_how_an_item_is_made_again() -> None:
    assert "reprobatch regenerate . 0\n" in dataset_card(handmade.job({}, 4))
    assert "reprobatch regenerate . 0 --model MODEL_FOLDER\n" in dataset_card(handmade.job({}, 4, model="folder:mine"))


def test_awkward_names_stay_on_their_line() -> None:
    text = dataset_card(handmade.job({"a`b``\n# c": "string"}, 4, model="folder:x`\n<b>y"))
    assert "the item's own columns: ``` a`b`` # c ```;" in text
    assert "from `` folder:x` <b>y `` with" in text
