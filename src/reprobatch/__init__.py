"""reprobatch: batch generation whose every item can be made again, bit for bit.

>>> import reprobatch
>>> dataset = reprobatch.open("digits")          # doctest: +SKIP
>>> dataset[42].latents                          # doctest: +SKIP
>>> dataset.regenerate(42).comparison.verdict    # doctest: +SKIP
'identical'

Importing this loads neither torch nor ray; names are loaded when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from reprobatch.dataset import Dataset, Record
    from reprobatch.dataset import open_dataset as open
    from reprobatch.errors import DataError, EnvironmentDiffers, JobError, ReprobatchError, RunFailed
    from reprobatch.job import Job, ResolvedJob
    from reprobatch.record import checksum
    from reprobatch.regenerate import Regenerated, Regenerator
    from reprobatch.resolve import load
    from reprobatch.runner import Outcome, run
    from reprobatch.seeds import derive
    from reprobatch.torch_data import ShardSampler, TorchDataset
    from reprobatch.verification import Report, verify

__version__ = version("reprobatch")

_HOMES = {
    "Dataset": "dataset",
    "Record": "dataset",
    "open": "dataset:open_dataset",
    "DataError": "errors",
    "EnvironmentDiffers": "errors",
    "JobError": "errors",
    "ReprobatchError": "errors",
    "RunFailed": "errors",
    "Job": "job",
    "ResolvedJob": "job",
    "Regenerated": "regenerate",
    "Regenerator": "regenerate",
    "load": "resolve",
    "Outcome": "runner",
    "run": "runner",
    "checksum": "record",
    "derive": "seeds",
    "ShardSampler": "torch_data",
    "TorchDataset": "torch_data",
    "Report": "verification",
    "verify": "verification",
}
__all__ = [
    "DataError",
    "Dataset",
    "EnvironmentDiffers",
    "Job",
    "JobError",
    "Outcome",
    "Record",
    "Regenerated",
    "Regenerator",
    "Report",
    "ReprobatchError",
    "ResolvedJob",
    "RunFailed",
    "ShardSampler",
    "TorchDataset",
    "checksum",
    "derive",
    "load",
    "open",
    "run",
    "verify",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'reprobatch' has no attribute '{name}'")
    module, _, attribute = _HOMES[name].partition(":")
    return getattr(import_module(f"reprobatch.{module}"), attribute or name)
