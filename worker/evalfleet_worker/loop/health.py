"""Whether this worker is still of use: three failures of the machine in a row, without a unit done, end it. Pure."""

from dataclasses import dataclass

from evalfleet_worker.loop.messages import FailureKind
from evalfleet_worker.protocol import BrokenWorkerError, FailureReason

IN_A_ROW = 3


@dataclass
class Health:
    """Failures since the last unit that this worker brought to an end."""

    in_a_row: int = 0

    def progressed(self) -> None:
        """A unit is committed, given up or needed no more."""
        self.in_a_row = 0

    def failed(self, kind: FailureKind, reason: FailureReason, message: str) -> None:
        """Count a failure that may be the machine's.

        Raises:
            BrokenWorkerError: it was one too many.
        """
        if kind is FailureKind.WORK:
            return
        self.in_a_row += 1
        if self.in_a_row >= IN_A_ROW:
            raise BrokenWorkerError(
                reason,
                f"this worker failed {self.in_a_row} times in a row without a unit done, so it ends; the last time: "
                f"{message}",
            )
