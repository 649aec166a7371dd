"""What torchrun says about this process in environment variables; read without importing torch.

Other launchers (SLURM, MPI, accelerate) leave some of these variables too: only all of them together count.
"""

import os

ADDRESS = ("MASTER_ADDR", "MASTER_PORT")  # where the processes find each other


def is_launched() -> bool:
    """Whether torchrun, or a launcher that sets the same variables, has started this process."""
    number, count = _variable("RANK"), _variable("WORLD_SIZE")
    return 0 <= number < count and all(os.environ.get(name) for name in ADDRESS)


def rank() -> int:
    """Number of this process; 0 without torchrun."""
    return _variable("RANK") if is_launched() else 0


def world_size() -> int:
    """Number of processes; 1 without torchrun."""
    return _variable("WORLD_SIZE") if is_launched() else 1


def local_rank() -> int:
    """Number of this process among those of its machine, which is the number of its GPU; 0 without torchrun."""
    return max(0, _variable("LOCAL_RANK")) if is_launched() else 0


def _variable(name: str) -> int:
    """The number in an environment variable; -1 if there is none."""
    text = os.environ.get(name, "")
    return int(text) if text.isdecimal() and len(text) < 10 else -1
