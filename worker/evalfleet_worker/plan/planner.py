"""The plan command: from a RunSpec to the published plan of the run."""

import hashlib
import importlib.metadata
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache as once
from pathlib import Path
from typing import Any

from evalfleet_worker.engine.resolve import ResolvedModel, resolve_model
from evalfleet_worker.harness.interface import HarnessContext, HarnessPlan
from evalfleet_worker.harness.offline import hub_access
from evalfleet_worker.harness.registry import harness_of
from evalfleet_worker.harness.sampling import is_sampled
from evalfleet_worker.harness.tokenizer import load_encoder
from evalfleet_worker.plan.identities import IDENTITIES, write_identities
from evalfleet_worker.plan.keys import KeySpace
from evalfleet_worker.plan.order import OrderedPlan, order_requests
from evalfleet_worker.plan.size import memory_bytes, row_flops, row_seconds
from evalfleet_worker.plan.units import cut_units
from evalfleet_worker.protocol import EvaluationSpec, PlanReport, RunSpec
from evalfleet_worker.store.plan_file import PlanDraft
from evalfleet_worker.store.run_store import RunStore

Progress = Callable[[str], None]
VERSIONED = ("lm_eval", "datasets", "transformers", "tokenizers")
"""Packages that decide what is asked; their versions are kept with the plan."""


def plan_run(run: RunSpec, store: RunStore, cache: Path, progress: Progress) -> PlanReport:
    """Plan a run and publish the plan; an existing plan is adopted.

    Raises:
        RunError: model, task or data are refused or unreadable, or the store is; each says what to do.
    """
    existing = store.read_plan()
    if existing is not None:
        progress("the run is planned already")
        return existing.report
    store.probe()
    return store.publish_plan(draft_plan(run, cache, progress)).report


def draft_plan(run: RunSpec, cache: Path, progress: Progress) -> PlanDraft:
    """The plan of a run, not yet published."""
    started = time.monotonic()
    progress(f"model {run.model.uri}")
    model = resolve_model(run.model, cache)
    context = HarnessContext(run, once(lambda: load_encoder(model, run.model)), progress)
    with hub_access(run):
        harness_plans = {spec.name: _plan_evaluation(spec, context) for spec in run.evaluations}
    progress("ordering requests and cutting units")
    return _draft(run, model, harness_plans, started)


def _plan_evaluation(evaluation: EvaluationSpec, context: HarnessContext) -> HarnessPlan:
    context.progress(f"{evaluation.name}: loading")
    plan = harness_of(evaluation).plan(evaluation, context)
    context.progress(f"{evaluation.name}: {plan.samples} samples, {len(plan.requests)} requests")
    return plan


def _draft(run: RunSpec, model: ResolvedModel, harness_plans: Mapping[str, HarnessPlan], started: float) -> PlanDraft:
    planned = [request for plan in harness_plans.values() for request in plan.requests]
    ordered = order_requests(planned, KeySpace(_numerics(run), model.digest), run.seed, is_sampled)
    sized = _sized(run, model, ordered, sum(plan.samples for plan in harness_plans.values()))
    documents = {
        f"{name}/{file}": content for name, plan in harness_plans.items() for file, content in plan.documents.items()
    }
    extra = {
        "evaluations": {name: {"digest": plan.digest, "samples": plan.samples} for name, plan in harness_plans.items()},
        "versions": {name: importlib.metadata.version(name) for name in VERSIONED},
        "specDigest": run.digest(),
        "planSeconds": round(time.monotonic() - started, 3),
    }
    return PlanDraft(
        report=sized.report,
        units=sized.units,
        documents={**documents, IDENTITIES: write_identities(ordered)},
        cached=(),
        extra=extra,
    )


@dataclass(frozen=True, slots=True)
class _Sized:
    report: PlanReport
    units: Any


def _sized(run: RunSpec, model: ResolvedModel, plan: OrderedPlan, samples: int) -> _Sized:
    flops = row_flops(plan.rows, model.config)
    seconds = row_seconds(plan.rows, flops)
    units = cut_units(plan.rows, seconds, run.unit_seconds)
    report = PlanReport(
        run_id=run.run_id,
        requests=len(plan.rows),
        tokens=sum(len(request.token_ids) for request in plan.rows),
        cached_requests=0,
        units=len(units),
        predicted_seconds=round(sum(seconds), 3),
        flops=float(round(sum(flops))),
        memory_bytes=memory_bytes(plan.rows, model.config),
        model_digest=model.digest,
        requests_digest=_requests_digest(plan),
        samples=samples,
    )
    return _Sized(report, units)


def _numerics(run: RunSpec) -> str:
    return f"{run.engine.numerics}/{run.model.dtype}/{run.model.quantization}"


def _requests_digest(plan: OrderedPlan) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for request in plan.rows:
        digest.update(request.key or str(request.seed).encode())
    return digest.hexdigest()
