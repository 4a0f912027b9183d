"""Ray Data: ``map_batches`` with a pool of actors, ``write_parquet``.

The actors ask for half a CPU each: where they leave less than one of the cluster free, no task can read the
input and nothing would ever begin.
"""

from typing import Any

import numpy as np
import ray
from generating import Task, arguments, load, make

BLOCK = 64  # items


class Generate:
    def __init__(self, task: Task) -> None:
        import torch

        torch.set_num_threads(1)
        self.task, self.pipe = task, load(task.model)

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, list[Any]]:
        rows = make(self.pipe, self.task, [int(index) for index in batch["id"]])
        return {name: [row[name] for row in rows] for name in rows[0]}


if __name__ == "__main__":
    task = arguments()
    ray.init(address="local", include_dashboard=False, log_to_driver=False)
    ray.data.DataContext.get_current().enable_progress_bars = False
    items = ray.data.range(task.items, override_num_blocks=max(task.processes, task.items // BLOCK))
    made = items.map_batches(
        Generate,
        fn_constructor_args=(task,),
        batch_size=task.batch,
        num_cpus=0.5,
        compute=ray.data.ActorPoolStrategy(size=task.processes),
    )
    made.write_parquet(str(task.out))
