"""A loop over diffusers in one process, with torch's threads on all cores."""

from generating import arguments, loop

if __name__ == "__main__":
    task = arguments()
    loop(task, range(task.items), "all")
