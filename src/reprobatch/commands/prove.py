"""Commands that let others check a dataset by themselves: ``prove``, ``sign``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from reprobatch.commands import complete
from reprobatch.commands.common import (
    DIFFERS,
    DONE,
    as_json,
    dir_argument,
    model_option,
    regenerator,
    show_result,
)

_FILE = click.Path(path_type=Path, dir_okay=False)
_MAKING = ("dir", "index", "extends", "to")
_CHECKING = ("root", "size", "old_root", "old_size", "item", "dataset", "model")


@click.command()
@click.argument("dir", required=False, shell_complete=complete.datasets)
@click.argument("index", type=int, required=False)
@click.option("--extends", type=int, metavar="OLD_SIZE", help="Prove that the first OLD_SIZE items are unchanged.")
@click.option("--to", type=_FILE, metavar="FILE", help="Write the proof to FILE instead of stdout.")
@click.option("--check", type=_FILE, metavar="FILE", help="Check the proof in FILE; needs no dataset.")
@click.option("--root", metavar="HEX", help="With --check: the published root.")
@click.option("--size", type=click.IntRange(1), metavar="N", help="With --check: the published number of items.")
@click.option("--old-root", metavar="HEX", help="With --check: the root published before.")
@click.option("--old-size", type=click.IntRange(1), metavar="N", help="With --check: the number of items before.")
@click.option("--item", type=_FILE, help="With --check: is this .npy, .safetensors or .png the item?")
@click.option("--dataset", metavar="DIR", help="With a .png: decode the item of DIR.")
@model_option
@as_json
def prove(json_: bool, check: Path | None, **given: Any) -> None:
    """Prove that an item is in a dataset, or that a dataset extends what it was; check such a proof.

    \b
    reprobatch prove digits 42 --to 42.json
    reprobatch prove digits --extends 1000 --to grown.json
    reprobatch prove --check 42.json --root 1772e0fc… --size 1000
    reprobatch prove --check 42.json --root 1772e0fc… --size 1000 --item 42.npy
    """
    wrong = [name for name in (_CHECKING if check is None else _MAKING) if given[name] is not None]
    if wrong:
        name = wrong[0].upper() if wrong[0] in ("dir", "index") else f"--{wrong[0].replace('_', '-')}"
        raise click.UsageError(f"{name} goes {'with' if check is None else 'without'} --check")
    if check is not None:
        _check(check, json_, **{name: given[name] for name in _CHECKING})
    else:
        _make(json_, **{name: given[name] for name in _MAKING})


def _make(json_: bool, dir: str | None, index: int | None, extends: int | None, to: Path | None) -> None:
    from reprobatch import prooffile, proving
    from reprobatch.dataset import Dataset
    from reprobatch.progress import Progress

    if dir is None or (index is None) == (extends is None):
        raise click.UsageError("expected DIR and INDEX, DIR and --extends OLD_SIZE, or --check FILE")
    if to is not None and not to.parent.is_dir():
        raise click.UsageError(f"--to: the folder of '{to}' does not exist; make it first")
    dataset = Dataset(dir)
    made: prooffile.Proof
    with Progress(dataset.plan.shards, label="footers read", quiet=1.0) as progress:
        if index is not None:
            made = proving.prove(dataset, index, progress.add)
        else:
            assert extends is not None
            made = proving.prove_extends(dataset, extends, progress.add)
    text = prooffile.text(made)
    if to is None:
        click.echo(text, nl=False)
        return
    from reprobatch.folder import replace_file

    replace_file(to, text.encode(), to.parent)
    facts = made.model_dump(exclude={"path", "format"}) | {"hashes": len(made.path), "bytes": len(text), "to": str(to)}
    show_result(facts, f"{_claim(made)}\n{len(made.path)} hashes, {len(text)} bytes in {to}", json_)


def _check(
    file: Path, json_: bool, item: Path | None, dataset: str | None, model: str | None, **published: Any
) -> None:
    from reprobatch import prooffile

    made = prooffile.read(file)
    known = {name: _lower(name, value) for name, value in published.items() if value is not None}
    checked = prooffile.check(made, known)
    facts = made.model_dump(exclude={"path", "format"}) | {"on_trust": checked.on_trust, "item": None}
    problems = list(checked.problems)
    lines = _on_trust(made, checked.on_trust)
    if item is not None:
        if not isinstance(made, prooffile.InclusionProof):
            raise click.UsageError("--item goes with an inclusion proof, and this is one of consistency")
        found, facts["item"] = _item(made, item, dataset, model)
        problems += found
        how = _how(facts["item"], dataset)
        lines.append(f"{item.name} is this item{how}")
    elif dataset is not None or model is not None:
        raise click.UsageError("--dataset and --model go with --item")
    facts["verdict"] = "not proved" if problems else "proved"
    facts["problems"] = problems
    show_result(
        facts, "\n".join([*problems, f"{facts['verdict']}: {_claim(made)}", *([] if problems else lines)]), json_
    )
    sys.exit(DIFFERS if problems else DONE)


def _how(item: dict[str, Any], dataset: str | None) -> str:
    if "pixels" not in item:
        return ""
    return f", its picture stored in {dataset}" if item["stored"] else f", decoded here by the model of {dataset}"


def _claim(made: Any) -> str:
    if made.kind == "inclusion":
        return f"item {made.index} of {made.size}\nchecksum {made.checksum}\nroot     {made.root}"
    changed = f"the first {made.old_size} of {made.size} items are unchanged"
    return f"{changed}\nold root {made.old_root}\nroot     {made.root}"


def _on_trust(made: Any, names: list[str]) -> list[str]:
    if not names:
        return []
    if names == ["size"] and made.kind == "inclusion":
        return [
            "size is the proof's own word: the checksum is in the dataset whatever it is, its index is not (--size)"
        ]
    options = ", ".join(f"--{name.replace('_', '-')}" for name in names)
    return [f"{', '.join(names)}: the proof's own word; compare with what was published, or give {options}"]


def _lower(name: str, value: str | int) -> str | int:
    from reprobatch import prooffile

    if isinstance(value, int):
        return value
    if not prooffile.is_hash(value.lower()):
        raise click.UsageError(f"--{name.replace('_', '-')}: expected 64 hexadecimal digits, found '{value[:80]}'")
    return value.lower()


def _item(made: Any, path: Path, dataset: str | None, model: str | None) -> tuple[list[str], dict[str, Any]]:
    """Whether a file is the item of a proof: what speaks against it, and facts."""
    from reprobatch import itemfile

    if path.suffix == itemfile.PICTURE:
        return _picture(made, path, dataset, model)
    output = itemfile.read(path)
    facts = {"file": str(path), "dtype": output.dtype, "shape": list(output.shape), "checksum": output.checksum}
    if output.checksum == made.checksum:
        return [], facts
    problem = f"{path.name}: expected checksum {made.checksum}, found {output.checksum}"
    if path.suffix == ".npy" and itemfile.is_rounded(output):
        problem += "; an .npy cannot hold bfloat16, if the item is that give its .safetensors"
    return [problem], facts


def _picture(made: Any, path: Path, dataset: str | None, model: str | None) -> tuple[list[str], dict[str, Any]]:
    import numpy as np

    from reprobatch import itemfile
    from reprobatch.dataset import Dataset
    from reprobatch.errors import JobError
    from reprobatch.record import DECODED

    if dataset is None:
        raise JobError(
            f"'{path.name}' holds decoded pixels of 8 bits, which have no checksum in a root; give --dataset DIR to "
            "decode the stored item and compare, or the item's .npy or .safetensors"
        )
    pixels, there = itemfile.picture(path), Dataset(dataset)
    row, _ = there.look_up(made.index)
    facts: dict[str, Any] = {"file": str(path), "shape": list(pixels.shape), "checksum": row.checksum}
    stored = DECODED in row.output.also  # which the checksum, and so the root, covers
    facts |= {"pixels": None, "stored": stored, "model_digest": there.job.pipeline.model_digest}
    if row.checksum != made.checksum:
        return [f"{dataset}: expected item {made.index} with checksum {made.checksum}, found {row.checksum}"], facts
    decoded = _decode(there, row.output, model)
    if decoded.shape != pixels.shape:
        facts["pixels"] = "different"
        return [f"{path.name}: expected {list(decoded.shape)} pixels, found {list(pixels.shape)}"], facts
    apart = int(np.abs(decoded.astype(np.int16) - pixels).max())
    facts |= {"pixels": "different" if apart else "identical", "linf": apart}
    wanted = "of the stored picture" if stored else "that the item decodes to here"
    problem = f"{path.name}: expected the pixels {wanted}, found others (up to {apart} of 255 apart)"
    return [problem] if apart else [], facts


def _decode(dataset: Any, output: Any, model: str | None) -> Any:
    from reprobatch import pictures

    def decode(latent: Any) -> Any:
        return regenerator(dataset, model).worker.decode(latent)

    return pictures.of(dataset.job, output, decode)


@click.command()
@dir_argument
@click.option("--key", type=_FILE, required=True, help="An SSH key; a public one if the SSH agent has its other half.")
@as_json
def sign(dir: str, key: Path, json_: bool) -> None:
    """Sign a dataset's manifest, and with it root and job, with an SSH key.

    \b
    reprobatch sign digits --key ~/.ssh/id_ed25519
    reprobatch verify digits --signers ~/.ssh/allowed_signers
    """
    from reprobatch import signature
    from reprobatch.dataset import Dataset

    dataset = Dataset(dir)
    fingerprint = signature.sign(dataset.store, key)
    facts = {"root": dataset.manifest["root"], "signature": signature.NAME, "key": fingerprint}
    show_result(facts, f"root {facts['root']}\nsigned with {fingerprint}: {signature.NAME}", json_)
