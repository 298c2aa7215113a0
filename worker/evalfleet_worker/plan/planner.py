"""The plan command: from a RunSpec to the published plan of the run."""

import hashlib
import importlib.metadata
import os
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import cache as once
from pathlib import Path
from typing import Any

from evalfleet_worker.engine.visible import machine_of
from evalfleet_worker.harness.data import with_local_data
from evalfleet_worker.harness.interface import HarnessContext
from evalfleet_worker.harness.offline import hub_access
from evalfleet_worker.harness.sampling import is_sampled
from evalfleet_worker.harness.startup import hide_torch
from evalfleet_worker.harness.tokenizer import generation_config, load_encoder, tokenizer_digest
from evalfleet_worker.model.check import check_model
from evalfleet_worker.model.resolve import ResolvedModel, describe_model, stored_dtype
from evalfleet_worker.numerics import resolve_numerics
from evalfleet_worker.plan.evaluations import PlannedEvaluations, plan_evaluations
from evalfleet_worker.plan.identities import IDENTITIES, write_identities
from evalfleet_worker.plan.keys import KeySpace
from evalfleet_worker.plan.order import OrderedPlan, order_requests
from evalfleet_worker.plan.size import plan_size, size_as_cut
from evalfleet_worker.plan.token_ids import check_token_ids
from evalfleet_worker.plan.units import cut_units
from evalfleet_worker.protocol import Numerics, PlanReport, RunSpec, to_json
from evalfleet_worker.store.plan_file import PlanDraft
from evalfleet_worker.store.run_store import RunStore

Progress = Callable[[str], None]
VERSIONED = ("lm_eval", "datasets", "transformers", "tokenizers")
"""Packages that decide what is asked; their versions are kept with the plan."""


def plan_run(run: RunSpec, store: RunStore, cache: Path, progress: Progress, own_process: bool = False) -> PlanReport:
    """Plan a run and publish the plan; an existing plan is adopted.

    Args:
        run: what to plan.
        store: where the plan is published.
        cache: node cache with models.
        progress: takes one line about what is being done.
        own_process: nothing else happens in this process, so it may go without torch (starts in a third of the time).

    Raises:
        RunError: model, task or data are refused or unreadable, or the store is; each says what to do.
    """
    existing = store.read_plan()
    if existing is not None:
        progress("the run is planned already")
        return existing.report
    store.probe()
    started = time.monotonic()
    model = _model(run, cache, progress)  # converting a GGUF needs torch
    local = with_local_data(run, cache)
    if own_process:
        hide_torch()
    report = store.publish_plan(draft_plan(run, local, model, progress, started)).report
    for message in report.messages:
        progress(message)
    return report


def draft_plan(
    run: RunSpec, local: RunSpec, model: ResolvedModel | None, progress: Progress, started: float
) -> PlanDraft:
    """The plan of a run, not yet published; `local` has its data on this machine, `started` is monotonic."""
    context = HarnessContext(
        local,
        once(lambda: load_encoder(_required(model), run.model)),
        progress,
        lambda: generation_config(_required(model)),
    )
    with ExitStack() as stack:
        proofs = [stack.enter_context(proof) for proof in check_model(model, run)] if model else []
        with hub_access(run):
            planned = plan_evaluations(run, context)
        if model:
            check_token_ids(planned.plans, model.config.vocabulary, context.encoder)
        progress("ordering requests and cutting units")
        draft = _draft(run, model, planned, started)
        progress("comparing the weights with the model")
        for proof in proofs:
            proof.check()
        return draft


def _model(run: RunSpec, cache: Path, progress: Progress) -> ResolvedModel | None:
    """The run's model; None when only user code is evaluated, which loads what it likes."""
    if all(evaluation.python is not None for evaluation in run.evaluations):
        return None
    progress(f"model {run.model.uri}")
    return describe_model(run.model, cache)


def _required(model: ResolvedModel | None) -> ResolvedModel:
    assert model is not None
    return model


def _draft(run: RunSpec, model: ResolvedModel | None, evaluations: PlannedEvaluations, started: float) -> PlanDraft:
    harness_plans = evaluations.plans
    planned = [request for plan in harness_plans.values() for request in plan.requests]
    digest = model.digest if model else ""
    numerics, messages = _numerics(run, model)
    answering = f"{digest}/{tokenizer_digest(model.tokenizer_path)}" if model else ""
    ordered = order_requests(planned, KeySpace(str(numerics), answering), run.seed, is_sampled)
    facts = model.config if model else None
    together = plan_size(ordered.rows, facts)
    units = cut_units(ordered.rows, together.seconds, run.unit_seconds)
    size = size_as_cut(together, ordered.rows, [unit for unit, _ in units], facts)
    report = PlanReport(
        run_id=run.run_id,
        requests=len(ordered.rows),
        tokens=sum(len(request.token_ids) for request in ordered.rows),
        cached_requests=0,
        units=len(units),
        predicted_seconds=round(sum(size.seconds), 3),
        flops=float(round(sum(size.flops))),
        bytes_read=float(round(sum(size.bytes_read))),
        model_shape=facts.shape if facts else "",
        memory_bytes=size.memory_bytes,
        model_digest=digest,
        requests_digest=_requests_digest(ordered),
        samples=sum(plan.samples for plan in harness_plans.values()),
        numerics=str(numerics),
        messages=(*messages, *evaluations.warnings),
        refused=evaluations.failures,
    )
    documents = {
        f"{name}/{file}": content for name, plan in harness_plans.items() for file, content in plan.documents.items()
    }
    documents[IDENTITIES] = write_identities(ordered)
    extra = _extra(run, evaluations, started) | {
        "modelFingerprint": model.fingerprint if model else "",
        "numerics": to_json(numerics),
    }
    return PlanDraft(report, units, documents, (), extra)


def _extra(run: RunSpec, evaluations: PlannedEvaluations, started: float) -> dict[str, Any]:
    """Facts that the finisher needs, and what the plan was made with."""
    plans = evaluations.plans
    return {
        "evaluations": {name: {"digest": plan.digest, "samples": plan.samples} for name, plan in plans.items()},
        "refused": {name: to_json(report) for name, report in evaluations.refused.items()},
        "versions": {name: importlib.metadata.version(name) for name in VERSIONED},
        "specDigest": run.digest(),
        "planSeconds": round(time.monotonic() - started, 3),
    }


def _numerics(run: RunSpec, model: ResolvedModel | None) -> tuple[Numerics, list[str]]:
    """The class of the run; user code alone computes in whatever it likes."""
    if model is None:
        return Numerics(engine="Python"), []
    return resolve_numerics(run, stored_dtype(model), machine_of(os.environ))


def _requests_digest(plan: OrderedPlan) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for request in plan.rows:
        digest.update(request.key or f"{request.seed}{request.arguments}".encode())
    return digest.hexdigest()
