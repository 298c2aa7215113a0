"""The union of all committed units, checked against the plan."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from evalfleet_worker.plan.identities import Identities
from evalfleet_worker.protocol import FailureReason, RunError
from evalfleet_worker.requests import Answer, Unit
from evalfleet_worker.store.plan_file import Plan
from evalfleet_worker.store.pool import pooled
from evalfleet_worker.store.run_store import RunStore


@dataclass(slots=True)
class Merged:
    """What the workers left.

    Attributes:
        answers: by row.
        metadata: of every merged part.
        missing: units neither committed nor failed.
        failed: units that failed for good, with the reason in words.
    """

    answers: dict[int, Answer] = field(default_factory=dict)
    metadata: list[Mapping[str, str]] = field(default_factory=list)
    missing: list[Unit] = field(default_factory=list)
    failed: dict[int, str] = field(default_factory=dict)


def merge_units(store: RunStore, plan: Plan) -> Merged:
    """Read every unit of the plan once; a good result wins over a failure record.

    Raises:
        RunError: STORE_CORRUPT when a part does not hold exactly the rows of its unit.
    """
    merged, failures = Merged(), store.failed_units(plan)
    parts = pooled(lambda unit: store.read_answers(plan, unit), plan.units)
    for unit, part in zip(plan.units, parts, strict=True):
        if part is not None:
            answers, metadata = part
            _check_rows(unit, answers)
            merged.answers.update((answer.row, answer) for answer in answers)
            merged.metadata.append(metadata)
        elif unit.index in failures:
            merged.failed[unit.index] = str(getattr(failures[unit.index], "message", failures[unit.index]))
        else:
            merged.missing.append(unit)
    return merged


def _check_rows(unit: Unit, answers: Sequence[Answer]) -> None:
    expected = range(unit.first_row, unit.first_row + unit.row_count)
    if [answer.row for answer in answers] != list(expected):
        raise RunError(
            FailureReason.STORE_CORRUPT,
            f"unit {unit.index} holds {len(answers)} rows that are not rows {expected.start} to {expected.stop - 1}",
        )


def failed_evaluations(
    names: Sequence[str], identities: Identities, merged: Merged, plan: Plan
) -> dict[str, list[int]]:
    """For every evaluation that lacks rows: the units that failed."""
    failed_rows = {
        row: unit.index
        for unit in plan.units
        if unit.index in merged.failed
        for row in range(unit.first_row, unit.first_row + unit.row_count)
    }
    concerned = {
        name: sorted({failed_rows[row] for row in identities.rows_of(name) & failed_rows.keys()}) for name in names
    }
    return {name: units for name, units in concerned.items() if units}
