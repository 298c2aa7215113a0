"""The evaluations of a run, each scored apart: what fails alone fails alone."""

import errno
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache as once
from pathlib import Path

from evalfleet_worker.finish.merge import Merged, failed_evaluations
from evalfleet_worker.harness.interface import HarnessContext, HarnessResult, Replay
from evalfleet_worker.harness.offline import hub_access
from evalfleet_worker.harness.registry import harness_of
from evalfleet_worker.harness.startup import TorchNeededError
from evalfleet_worker.harness.tokenizer import load_encoder
from evalfleet_worker.model.resolve import describe_model
from evalfleet_worker.plan.identities import IDENTITIES, Identities, read_identities
from evalfleet_worker.protocol import EvaluationFailure, EvaluationSpec, FailureReason, RunError, RunSpec
from evalfleet_worker.store.errors import StoreUnavailableError
from evalfleet_worker.store.plan_file import Plan
from evalfleet_worker.store.run_store import RunStore

log = logging.getLogger(__name__)

OF_THE_PLACE = frozenset(
    {
        FailureReason.STORE_NOT_EXCLUSIVE,
        FailureReason.STORE_UNWRITABLE,
        FailureReason.STORE_FULL,
        FailureReason.STORE_CORRUPT,
        FailureReason.STORE_UNAVAILABLE,
        FailureReason.MODEL_UNREADABLE,
        FailureReason.INVALID_MODEL_REF,
        FailureReason.OUT_OF_MEMORY,
    }
)
"""Reasons that say nothing about the evaluation that met them: finishing elsewhere or later may succeed."""
EXHAUSTED = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EIO})
WORDS_LIMIT = 2_000
"""Characters of an error's own words that are kept: some quote whole documents."""


@dataclass(frozen=True, slots=True)
class Committed:
    """What there is to finish: the run, its plan and everything that its workers committed."""

    run: RunSpec
    store: RunStore
    plan: Plan
    merged: Merged
    identities: Identities

    @classmethod
    def of(cls, run: RunSpec, store: RunStore, plan: Plan, merged: Merged) -> "Committed":
        """With the identities that the plan keeps."""
        return cls(run, store, plan, merged, read_identities(store.read_document(plan, IDENTITIES)))


@dataclass(frozen=True, slots=True)
class Scores:
    """Results by evaluation, and why the other evaluations have none, in the order of the run's spec."""

    results: Mapping[str, HarnessResult]
    failed: Mapping[str, EvaluationFailure]


def score_evaluations(committed: Committed, cache: Path, progress: Callable[[str], None]) -> Scores:
    """Replay every evaluation that has all its answers; one that fails costs no other its score.

    Raises:
        RunError: of the place, not of an evaluation; or nothing at all can be published.
    """
    run = committed.run
    names = [spec.name for spec in run.evaluations]
    failed = failed_evaluations(names, committed.identities, committed.merged, committed.plan) | _refused(committed)
    results: dict[str, HarnessResult] = {}
    encoder = once(lambda: load_encoder(describe_model(run.model, cache), run.model))
    context = HarnessContext(run, encoder, progress)
    with hub_access(replace(run, offline=True)):
        for spec in (spec for spec in run.evaluations if spec.name not in failed):
            progress(f"{spec.name}: computing metrics")
            result = _score(spec, context, committed)
            if isinstance(result, EvaluationFailure):
                failed[spec.name] = result
            else:
                results[spec.name] = result
    _check_any(results, failed)
    return Scores(results, {name: failed[name] for name in names if name in failed})


def _refused(committed: Committed) -> dict[str, EvaluationFailure]:
    """Evaluations that the plan refused, and why."""
    refused: Mapping[str, Mapping[str, str]] = committed.plan.extra.get("refused", {})
    return {name: EvaluationFailure(name, report["reason"], report["message"]) for name, report in refused.items()}


def _check_any(results: Mapping[str, HarnessResult], failed: Mapping[str, EvaluationFailure]) -> None:
    """Where no evaluation has a score, the reason is the run's, and the units stay for a mended version."""
    own = [failure for failure in failed.values() if failure.reason != FailureReason.SAMPLES_FAILED]
    if not results and own:
        raise RunError(FailureReason(own[0].reason), "; ".join(failure.message for failure in failed.values()))


def _score(spec: EvaluationSpec, context: HarnessContext, committed: Committed) -> HarnessResult | EvaluationFailure:
    try:
        return harness_of(spec).finish(spec, context, _replay(spec, committed))
    except (StoreUnavailableError, MemoryError, TorchNeededError):
        raise
    except RunError as error:
        if error.reason in OF_THE_PLACE:
            raise
        return EvaluationFailure(spec.name, str(error.reason), named(spec.name, error.message))
    except Exception as error:  # metrics, filters and aggregations are anybody's code and raise what they like
        if isinstance(error, OSError) and error.errno in EXHAUSTED:
            raise
        log.exception("%s: its metrics cannot be computed", spec.name)
        words = f"{type(error).__name__}: {error}"[:WORDS_LIMIT]
        message = f"{spec.name}: its metrics cannot be computed from the model's answers: {words}"
        return EvaluationFailure(spec.name, str(FailureReason.INVALID_TASK), message)


def named(name: str, message: str) -> str:
    """The message with the evaluation's name before it, once."""
    return message if message.startswith(f"{name}:") else f"{name}: {message}"


def _replay(spec: EvaluationSpec, committed: Committed) -> Replay:
    prefix, plan, answers = f"{spec.name}/", committed.plan, committed.merged.answers
    documents = {
        name.removeprefix(prefix): committed.store.read_document(plan, name)
        for name in plan.documents
        if name.startswith(prefix)
    }
    calls = committed.identities.rows.get(spec.name, {})
    by_call = {call: [answers[row] for row in rows] for call, rows in calls.items()}
    return Replay(plan.extra["evaluations"][spec.name]["digest"], documents, by_call)
