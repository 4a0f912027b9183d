"""Accelerate's ``split_between_processes``, as diffusers' guide to distributed inference has it."""

import torch
from accelerate import PartialState
from generating import arguments, loop

if __name__ == "__main__":
    task = arguments()
    torch.set_num_threads(1)
    state = PartialState(cpu=True)
    with state.split_between_processes(list(range(task.items))) as mine:
        loop(task, mine, f"part-{state.process_index}")
    state.wait_for_everyone()
    state.destroy_process_group()
