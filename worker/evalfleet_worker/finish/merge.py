"""The union of all committed units, checked against the plan."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from evalfleet_worker.plan.identities import Identities
from evalfleet_worker.protocol import EvaluationFailure, FailureReason, RunError
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
        damaged: rows whose answer is no number, with what it is.
        ended: evaluations that ended before all their units were scored, with reason and message.
    """

    answers: dict[int, Answer] = field(default_factory=dict)
    metadata: list[Mapping[str, str]] = field(default_factory=list)
    missing: list[Unit] = field(default_factory=list)
    failed: dict[int, str] = field(default_factory=dict)
    damaged: dict[int, str] = field(default_factory=dict)
    ended: dict[str, tuple[str, str]] = field(default_factory=dict)


def merge_units(store: RunStore, plan: Plan) -> Merged:
    """Read every unit of the plan once; a good result wins over a failure record.

    Raises:
        RunError: STORE_CORRUPT when a part does not hold exactly the rows of its unit.
    """
    ended = {name: (record.reason, record.message) for name, record in store.ended_evaluations().items()}
    merged, failures = Merged(ended=ended), store.failed_units(plan)
    parts = pooled(lambda unit: store.read_answers(plan, unit), plan.units)
    for unit, part in zip(plan.units, parts, strict=True):
        if part is not None:
            answers, metadata = part
            _check_rows(unit, answers, may_lack=bool(ended))
            merged.damaged.update((answer.row, words) for answer in answers if (words := no_number(answer)))
            merged.answers.update((answer.row, answer) for answer in answers)
            merged.metadata.append(metadata)
        elif unit.index in failures:
            merged.failed[unit.index] = str(getattr(failures[unit.index], "message", failures[unit.index]))
        else:
            merged.missing.append(unit)
    return merged


def no_number(answer: Answer) -> str | None:
    """What of an answer is no number, in words."""
    if answer.log_probability is not None and not math.isfinite(answer.log_probability):
        return f"its log-probability is {answer.log_probability}"
    if answer.vector is not None and not all(map(math.isfinite, answer.vector)):
        return "its embedding holds numbers that are none"
    return None


def rows_of(unit: Unit) -> range:
    """The plan's rows that a unit answers."""
    return range(unit.first_row, unit.first_row + unit.row_count)


def _check_rows(unit: Unit, answers: Sequence[Answer], may_lack: bool) -> None:
    """A part holds the rows of its unit, each once and in order; those of an ended evaluation may be left out."""
    expected, found = rows_of(unit), [answer.row for answer in answers]
    fits = found == [row for row in expected if row in set(found)] if may_lack else found == list(expected)
    if not fits:
        raise RunError(
            FailureReason.STORE_CORRUPT,
            f"unit {unit.index} holds {len(answers)} rows that are not rows {expected.start} to {expected.stop - 1}",
        )


def failed_evaluations(
    names: Sequence[str], identities: Identities, merged: Merged, plan: Plan
) -> dict[str, EvaluationFailure]:
    """Every evaluation that lacks answers or has answers that are no number, with the reason."""
    unit_of = {row: unit.index for unit in plan.units if unit.index in merged.failed for row in rows_of(unit)}
    failed = {}
    for name in names:
        rows = identities.rows_of(name)
        units, damaged = sorted({unit_of[row] for row in rows & unit_of.keys()}), sorted(rows & merged.damaged.keys())
        if units:
            failed[name] = EvaluationFailure(name, str(FailureReason.SAMPLES_FAILED), _units_words(name, units, merged))
        elif not rows <= merged.answers.keys():
            failed[name] = _ended(name, merged)
        elif damaged:
            failed[name] = EvaluationFailure(name, str(FailureReason.NOT_FINITE), _damage_words(name, damaged, merged))
    return failed


def _ended(name: str, merged: Merged) -> EvaluationFailure:
    if name not in merged.ended:
        raise RunError(FailureReason.STORE_CORRUPT, f"{name}: answers are missing from the units: run it anew")
    reason, message = merged.ended[name]
    return EvaluationFailure(name, reason, f"{name}: no score is published: {message.removeprefix(f'{name}: ')}")


def _units_words(name: str, units: Sequence[int], merged: Merged) -> str:
    reasons = sorted({merged.failed[unit] for unit in units})
    numbers = ", ".join(map(str, units[:8])) + (" ..." if len(units) > 8 else "")
    return f"{name}: no score is published, unit {numbers} failed for good: {'; '.join(reasons)}"


def _damage_words(name: str, rows: Sequence[int], merged: Merged) -> str:
    return (
        f"{name}: no score is published, {len(rows)} of its answers are no numbers: of row {rows[0]}, "
        f"{merged.damaged[rows[0]]}; check the model's weights and its dtype"
    )
