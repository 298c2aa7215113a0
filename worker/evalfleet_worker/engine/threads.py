"""How many threads the arithmetic may use; set before torch is imported."""

import os

VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")


def thread_count() -> int:
    """Threads of this process: EVALFLEET_THREADS, else OMP_NUM_THREADS, else the cores it may run on."""
    for name in ("EVALFLEET_THREADS", "OMP_NUM_THREADS"):
        value = os.environ.get(name, "")
        if value.isdigit() and int(value) > 0:
            return int(value)
    return len(os.sched_getaffinity(0))


def set_threads() -> int:
    """Fix the thread count of OpenMP, MKL and torch in this process; returns it.

    Several libraries that each take every core slow one another down, and another thread count is another
    order of summation: results are bitwise equal only between equal counts.
    """
    count = thread_count()
    for name in VARIABLES:
        os.environ[name] = str(count)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

    import torch

    torch.set_num_threads(count)
    return count
