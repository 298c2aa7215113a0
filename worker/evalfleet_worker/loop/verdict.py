"""What the failure records of a unit mean. Pure."""

from collections.abc import Sequence
from enum import StrEnum

from evalfleet_worker.loop.messages import FailureKind
from evalfleet_worker.protocol import FailureReason
from evalfleet_worker.store.run_store import FailureRecord


class Verdict(StrEnum):
    """What follows from a failure."""

    TRY_HERE = "try here"
    """Again, at once, in another engine process of this worker: is it of the work?"""
    TRY_ELSEWHERE = "try elsewhere"
    """Later, by whoever claims the unit."""
    GIVE_UP_UNIT = "give up the unit"
    END_EVALUATION = "end the evaluation"


def verdict(mine: FailureRecord, of_unit: Sequence[FailureRecord], distinct: int) -> Verdict:
    """What follows from the newest record of a unit, `mine`, beside all of them.

    Failures of the work count by engine process, those of the machine by worker: a sick machine fails everything, any
    number of times, and proves nothing. `distinct` of either give the unit up.
    """
    work = [record for record in of_unit if record.kind == FailureKind.WORK]
    other = [record for record in of_unit if record.kind != FailureKind.WORK]
    same = {record.owner for record in work if (record.reason, record.message) == (mine.reason, mine.message)}
    if any(record.fatal for record in of_unit) or (mine.kind == FailureKind.WORK and len(same) > 1):
        return Verdict.END_EVALUATION
    if max(len({record.owner for record in work}), len({_counted_owner(record) for record in other})) >= distinct:
        return Verdict.GIVE_UP_UNIT
    return Verdict.TRY_HERE if mine.kind == FailureKind.WORK and len(work) == 1 else Verdict.TRY_ELSEWHERE


def is_of_the_model(evaluation: str, records: Sequence[FailureRecord]) -> bool:
    """Whether two workers found numbers that are none in an evaluation: then it is not one sick machine."""
    workers = {
        _process(record)
        for record in records
        if record.evaluation == evaluation and record.reason == FailureReason.NOT_FINITE
    }
    return len(workers) > 1


def _counted_owner(record: FailureRecord) -> str:
    return _process(record) if record.kind == FailureKind.MACHINE else record.owner


def _process(record: FailureRecord) -> str:
    return record.owner.rpartition("-")[0] or record.owner
