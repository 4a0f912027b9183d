"""A process a core by torch.multiprocessing, one thread each, every one with its stripe of the items."""

import torch.multiprocessing as mp
from generating import Task, arguments, loop


def work(rank: int, task: Task) -> None:
    import torch

    torch.set_num_threads(1)
    loop(task, range(rank, task.items, task.processes), f"part-{rank}")


if __name__ == "__main__":
    task = arguments()
    mp.spawn(work, args=(task,), nprocs=task.processes)
