"""A run is frozen: what decides its pods is written once, and edits of policy and settings hold for later runs."""

from evalfleet.manifests.frozen import FrozenRun, run_config_map
from evalfleet.reconcile.conditions import true
from evalfleet.reconcile.decision import Create
from evalfleet.reconcile.job.pods import proposed
from evalfleet.reconcile.job.state import JobState
from evalfleet.reconcile.steps import Step


def freeze(state: JobState) -> Step:
    """Write the run once; say when a run that began now would be another one."""
    if state.run is None:
        return Step(actions=(Create(run_config_map(state.identity, proposed(state))),))
    if state.policy_gone or state.policy_problem:
        return Step()
    differing = outdated(state.run, proposed(state))
    if not differing:
        return Step()
    message = (
        f"{', '.join(differing)} changed since this run began: it keeps what it began with, later runs take the new"
    )
    return Step((true("RunOutdated", "Outdated", message),))


def outdated(run: FrozenRun, now: FrozenRun) -> tuple[str, ...]:
    """What a run that began now would have otherwise, in words."""
    parts = {
        "the store": (run.spec.store_uri, now.spec.store_uri),
        "the worker image": (run.shape.image, now.shape.image),
        "pod settings": (_settings(run), _settings(now)),
        "Secrets": (run.secret_fields, now.secret_fields),
        "claims": (run.shape.claims, now.shape.claims),
        "the cache": (run.shape.cache, now.shape.cache),
        "allowed endpoints": (run.spec.allowed_endpoints, now.spec.allowed_endpoints),
    }
    return tuple(name for name, (before, after) in parts.items() if before != after)


def _settings(run: FrozenRun) -> object:
    """Pod fields but for the image, as they are written."""
    worker = run.shape.worker
    return worker.model_dump(mode="json", exclude={"image"}, exclude_none=True) if worker is not None else {}
