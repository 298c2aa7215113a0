"""What one pool showed so far: launches, start-ups, lives. Pure transitions; the shell keeps the value."""

from dataclasses import dataclass, replace

from evalfleet_scaling.errors import ClockWentBackwardsError, InvalidObservationError

_KEEP = 200  # newest entries of every kind; older ones say little about the pool of today


@dataclass(frozen=True, slots=True)
class Life:
    """How long a ready or starting worker of a pool lived; `preempted` is False when it left for another reason."""

    seconds: float
    preempted: bool


@dataclass(frozen=True, slots=True)
class PoolHistory:
    """Newest launches, start-ups and lives of one pool, oldest first."""

    pool_name: str
    launches: tuple[bool, ...] = ()  # True: obtained, False: failed or timed out
    startups_seconds: tuple[float, ...] = ()  # schedulable -> first batch
    lives: tuple[Life, ...] = ()
    last_event_seconds: float | None = None
    consecutive_failures: int = 0
    cool_down_until_seconds: float | None = None

    def _at(self, now_seconds: float) -> None:
        if self.last_event_seconds is not None and now_seconds < self.last_event_seconds:
            raise ClockWentBackwardsError(
                f"pool {self.pool_name}: event at {now_seconds} after one at {self.last_event_seconds}"
            )


def launched(history: PoolHistory, now_seconds: float) -> PoolHistory:
    """A machine was obtained: the circuit closes again."""
    history._at(now_seconds)
    return replace(
        history,
        launches=(*history.launches, True)[-_KEEP:],
        consecutive_failures=0,
        cool_down_until_seconds=None,
        last_event_seconds=now_seconds,
    )


def launch_failed(
    history: PoolHistory, now_seconds: float, *, first_cool_down_seconds: float = 60.0, longest_seconds: float = 1800.0
) -> PoolHistory:
    """No machine was obtained: the pool cools down, twice as long after every further failure (circuit breaker)."""
    history._at(now_seconds)
    failures = history.consecutive_failures + 1
    pause = min(first_cool_down_seconds * 2.0 ** (failures - 1), longest_seconds)
    return replace(
        history,
        launches=(*history.launches, False)[-_KEEP:],
        consecutive_failures=failures,
        cool_down_until_seconds=now_seconds + pause,
        last_event_seconds=now_seconds,
    )


def became_ready(history: PoolHistory, now_seconds: float, startup_seconds: float) -> PoolHistory:
    """A worker scored its first batch this long after it could be scheduled."""
    history._at(now_seconds)
    _require_duration(history.pool_name, startup_seconds)
    startups = (*history.startups_seconds, startup_seconds)[-_KEEP:]
    return replace(history, startups_seconds=startups, last_event_seconds=now_seconds)


def ended(history: PoolHistory, now_seconds: float, lived_seconds: float, *, preempted: bool) -> PoolHistory:
    """A worker left the pool after `lived_seconds`."""
    history._at(now_seconds)
    _require_duration(history.pool_name, lived_seconds)
    lives = (*history.lives, Life(lived_seconds, preempted))[-_KEEP:]
    return replace(history, lives=lives, last_event_seconds=now_seconds)


def _require_duration(pool_name: str, seconds: float) -> None:
    if not 0.0 <= seconds < float("inf"):
        raise InvalidObservationError(f"pool {pool_name}: {seconds} is no duration")
