"""The random state that lm-eval's tasks see: as `simple_evaluate` seeds it, whatever is checked in between."""

import random
from collections.abc import Iterator
from contextlib import contextmanager

RANDOM_SEED = 0
OTHER_SEED = 1234
"""lm-eval's defaults (`lm_eval.defaults`): python, and numpy, torch and few-shot sampling."""


def seed_generators() -> None:
    """Seed python's and numpy's generators as `simple_evaluate` does."""
    import numpy as np

    random.seed(RANDOM_SEED)
    np.random.seed(OTHER_SEED)


@contextmanager
def kept_random_state() -> Iterator[None]:
    """Whatever draws random numbers inside, the tasks see none of it."""
    import numpy as np

    before, numpy_before = random.getstate(), np.random.get_state()
    try:
        yield
    finally:
        random.setstate(before)
        np.random.set_state(numpy_before)
