"""What was learnt: finished runs, newest last, bounded. Everything else is computed from them.

Keeping measurements and not statistics has three effects: the order of learning does not matter, a run learnt twice
counts once, and a better model in a later version starts with all that is known (decision 0077).
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from evalfleet_scaling.performance.interface import FinishedRun, InvalidRunError, Key, Quantity
from evalfleet_scaling.performance.roofline import expected

RUNS_PER_KEY = 32
KEYS = 256
RUNS = 2048
ABSURD = 1e4
"""No device is ten thousand times slower or faster than arithmetic says: then a unit or a number is mistaken."""


@dataclass(frozen=True, slots=True)
class History:
    """Finished runs in the order of (finished_seconds, run_id), one per run id."""

    runs: tuple[FinishedRun, ...] = ()


def learn(history: History, run: FinishedRun) -> History:
    """The history with one more run; the oldest are forgotten beyond the bounds above.

    Raises:
        InvalidRunError: a measurement is off from arithmetic by more than a factor of `ABSURD`.
    """
    return learn_all(history, (run,))


def learn_all(history: History, runs: Iterable[FinishedRun]) -> History:
    """As `learn`, with several runs at once; of two with the same id the later in the sequence counts."""
    known = {run.run_id: run for run in history.runs}
    for run in runs:
        _refuse_absurd(run)
        known[run.run_id] = run
    return History(_bounded(sorted(known.values(), key=_age)))


def _refuse_absurd(run: FinishedRun) -> None:
    for quantity in Quantity:
        value = run.measured(quantity)
        if value is None:
            continue
        usual = expected(quantity, run.work, run.key.gpu)
        if not usual / ABSURD <= value <= usual * ABSURD:
            message = f"{run.run_id}: {quantity} {value:.3g}, but arithmetic says {usual:.3g} on {run.key.gpu}"
            raise InvalidRunError(f"{message}: is the unit right, and was the whole run measured?")


def _age(run: FinishedRun) -> tuple[float, str]:
    return run.finished_seconds, run.run_id


def _bounded(runs: list[FinishedRun]) -> tuple[FinishedRun, ...]:
    """The newest runs: at most RUNS_PER_KEY of a key, KEYS keys, RUNS in all."""
    held: Counter[Key] = Counter()
    kept: list[FinishedRun] = []
    for run in reversed(runs):
        room = held[run.key] < RUNS_PER_KEY if run.key in held else len(held) < KEYS
        if room and len(kept) < RUNS:
            kept.append(run)
            held[run.key] += 1
    return tuple(reversed(kept))
