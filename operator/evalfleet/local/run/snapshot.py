"""What a local run looks like at one moment: numbers from the workers' progress, never decreasing."""

from collections.abc import Sequence
from dataclasses import dataclass

from evalfleet_worker.protocol import Progress


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The state of a local run for display and decisions.

    Attributes:
        requests_total: planned requests.
        requests_done: committed requests, never decreasing.
        requests_per_second: sum over live workers.
        workers: (name, state in words) of live workers.
        elapsed_seconds: since scoring began.
    """

    requests_total: int
    requests_done: int
    requests_per_second: float
    workers: tuple[tuple[str, str], ...]
    elapsed_seconds: float

    @property
    def percent(self) -> float:
        """Done share of the plan in percent."""
        return 100.0 * self.requests_done / self.requests_total if self.requests_total else 100.0

    @property
    def eta_seconds(self) -> float | None:
        """Seconds until everything is scored at the present rate; None while the rate is unknown."""
        left = self.requests_total - self.requests_done
        if left <= 0:
            return 0.0
        return left / self.requests_per_second if self.requests_per_second > 0 else None


def snapshot(before: Snapshot, live: Sequence[tuple[str, Progress | None]], elapsed_seconds: float) -> Snapshot:
    """The next snapshot from the live workers' answers; a worker without an answer is starting."""
    answers = [answer for _, answer in live if answer is not None]
    together = sum(answer.requests_own for answer in answers)  # newer than what each has seen of the others
    done = max([before.requests_done, together, *(answer.requests_done for answer in answers)])
    return Snapshot(
        requests_total=before.requests_total,
        requests_done=min(done, before.requests_total),
        requests_per_second=sum(answer.requests_per_second for answer in answers),
        workers=tuple((name, answer.state if answer else "Starting") for name, answer in live),
        elapsed_seconds=elapsed_seconds,
    )
