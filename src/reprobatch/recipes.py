"""Recipes of a dataset's items."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from typing import Any

from pydantic import ValidationError

from reprobatch.dataset import Dataset
from reprobatch.errors import DataError, JobError
from reprobatch.findings import in_a_line
from reprobatch.recipe import Neighbour, Origin, Recipe, Shape, columns_given, text
from reprobatch.record import Output, Row


class Recipes:
    """Writes the recipes of one dataset's items.

    Where the contract does not say that an item comes back alone, a recipe holds its neighbours too, unless it would
    become too large by that.
    """

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset
        self._alone = dataset.contract.stands_alone if dataset.contract else None
        self._given = columns_given(dataset.job)
        self._origin = cache(self._origin_of_shard)

    def text(self, row: Row, batch: Sequence[Row]) -> str:
        """The recipe of an item, whose whole batch is ``batch``.

        Raises :class:`DataError` where the item's bytes have another checksum than is stored, and :class:`JobError`
        where the recipe would be too large.
        """
        if row.stored not in (None, row.checksum):
            raise DataError(
                f"item {row.index}: expected bytes with checksum {row.stored}, found {row.checksum}; see "
                "'reprobatch verify'"
            )
        others = [each for each in batch if each.index != row.index]
        if self._alone is not True:
            try:
                return text(self._recipe(row, len(batch), self._neighbours(others)))
            except JobError:
                pass
        return text(self._recipe(row, len(batch), None))

    def _recipe(self, row: Row, filled: int, neighbours: list[Neighbour] | None) -> Recipe:
        try:
            return self._fitting(row, filled, neighbours)
        except ValidationError as error:
            reason = in_a_line(error, Recipe, {})
            raise JobError(f"item {row.index}: no recipe can be written ({reason}); use --no-recipe") from None

    def _fitting(self, row: Row, filled: int, neighbours: list[Neighbour] | None) -> Recipe:
        job = self._dataset.job
        return Recipe(
            job=job,
            job_digest=job.digest,
            index=row.index,
            seed=row.seed,
            batch=row.batch,
            slot=row.slot,
            filled=filled,
            item={name: value for name, value in row.item.items() if _is_json(value)},
            output=_shape(row.output),
            also={name: _shape(each) for name, each in row.output.also.items()},
            checksum=row.checksum,
            alone=self._alone,
            neighbours=neighbours,
            environment=self._origin(self._dataset.plan.shard_of(row.index)),
        )

    def _neighbours(self, rows: Sequence[Row]) -> list[Neighbour]:
        return [
            Neighbour(slot=row.slot, seed=row.seed, item={name: row.item[name] for name in self._given}) for row in rows
        ]

    def _origin_of_shard(self, shard: int) -> Origin | None:
        known = self._dataset.environments(self._dataset.plan.shard(shard).start)
        return next((Origin(canary=canary, facts=facts) for canary, facts in known.items()), None)


def _shape(output: Output) -> Shape:
    return Shape.model_validate({"dtype": output.dtype, "shape": list(output.shape)})


def _is_json(value: Any) -> bool:
    """Whether JSON can hold it: columns that are only kept may have numbers that are not finite."""
    return not isinstance(value, float) or math.isfinite(value)
