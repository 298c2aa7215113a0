"""A user's own evaluation that needs no model: quick, deterministic, and wicked on demand (by its parameters)."""

import time
from collections.abc import Iterable, Mapping


class ToyEvaluation:
    """Scores numbers; may take its time, and may take memory."""

    def __init__(
        self, count: str = "6", seconds: str = "0.01", megabytes: str = "0", plan_megabytes: str = "0"
    ) -> None:
        self._count, self._seconds = int(count), float(seconds)
        self._megabytes, self._plan_megabytes = int(megabytes), int(plan_megabytes)
        self._held: list[bytes] = []

    def examples(self) -> Iterable[int]:
        """The numbers from nought; called by the plan."""
        self._take(self._plan_megabytes)
        return range(self._count)

    def load(self) -> None:
        """Nothing is loaded; called by every worker."""
        self._take(self._megabytes)

    def score(self, example: int) -> Mapping[str, float]:
        """Whether a number is even, after a pause."""
        time.sleep(self._seconds)
        return {"even": float(example % 2 == 0)}

    def _take(self, megabytes: int) -> None:
        """Memory that is really there, held for longer than a host node needs to see it."""
        if megabytes:
            self._held.append(b"x" * (megabytes * 2**20))
            time.sleep(60.0)


def make(**parameters: str) -> ToyEvaluation:
    """The entrypoint `toy_evaluation:make`."""
    return ToyEvaluation(**parameters)
