"""A loop over diffusers in one process, with torch's threads on all cores."""

from generating import arguments, loop

if __name__ == "__main__":
    task = arguments()
    if task.threads:
        import torch

        torch.set_num_threads(task.threads)
    loop(task, range(task.items), "all")
