"""The fleet decision step by step, each a module of this package."""

import numpy as np

from evalfleet_scaling.capacity.registry import strategy_named
from evalfleet_scaling.capacity.strategy import Strategy
from evalfleet_scaling.fleet.accept import Accepted, accept_jobs
from evalfleet_scaling.fleet.enforce import enforce
from evalfleet_scaling.fleet.explain import Findings, explain_jobs, explain_limits
from evalfleet_scaling.fleet.force import forced_slots
from evalfleet_scaling.fleet.guard import guard_promises
from evalfleet_scaling.fleet.mix import Bounds, Mix, mix_capacity
from evalfleet_scaling.fleet.money import read_money
from evalfleet_scaling.fleet.settle import Settled, settle_changes
from evalfleet_scaling.fleet.share import SpotShare, share_spot
from evalfleet_scaling.fleet.slots import joined
from evalfleet_scaling.fleet.tables import Fleet, read_fleet
from evalfleet_scaling.fleet.words import plural
from evalfleet_scaling.memory import FleetMemory
from evalfleet_scaling.model import FleetDecision, FleetSnapshot, LimitHit, StrategyName


def decide_fleet(snapshot: FleetSnapshot, strategy: Strategy | None = None) -> FleetDecision:
    """Which workers every job of a policy should have now, and why.

    Depends on the snapshot alone (and on `strategy`, which replaces the one that the snapshot names). Pass the
    decision's `memory` into the next snapshot.
    """
    fleet = read_fleet(snapshot)
    accepted = accept_jobs(fleet)
    share = share_spot(fleet, accepted)
    guard = guard_promises(fleet, accepted)
    money = read_money(fleet, guard)
    bounds = Bounds(share, guard, money)
    mix = mix_capacity(fleet, accepted, bounds, strategy or _strategy(fleet))
    kept, new = forced_slots(fleet, accepted, mix.slots)
    settled = settle_changes(fleet, accepted, joined(kept, mix.slots, new), mix.critical, share.reclaim)
    enforced = enforce(fleet, accepted, money, mix, settled.slots)
    limits = explain_limits(enforced)
    reason, message = _policy_words(fleet, accepted, limits)
    return FleetDecision(
        jobs=explain_jobs(Findings(fleet, accepted, share, mix, enforced)),
        reason=reason,
        message=message,
        next_decision_seconds=_next_decision(fleet, settled),
        limits_hit=limits,
        memory=_memory(fleet, accepted, mix, settled, share),
    )


def _strategy(fleet: Fleet) -> Strategy:
    """The strategy that the policy names; without a firm pool there is nothing to choose from but spot."""
    return strategy_named(fleet.snapshot.strategy if len(fleet.pools.firm) else StrategyName.SPOT_ONLY)


def _policy_words(fleet: Fleet, accepted: Accepted, limits: tuple[LimitHit, ...]) -> tuple[str, str]:
    active = int(accepted.active.sum())
    jobs = f"{plural(active, 'job')} of {len(fleet.jobs.jobs)} may run"
    if limits:
        return "ScalingLimited", f"{jobs}; {'; '.join(limit.message for limit in limits)}"
    return "Decided", jobs


def _next_decision(fleet: Fleet, settled: Settled) -> float:
    regular = fleet.now + fleet.tick
    return regular if settled.next_change_seconds is None else min(regular, settled.next_change_seconds)


def _memory(fleet: Fleet, accepted: Accepted, mix: Mix, settled: Settled, share: SpotShare) -> FleetMemory:
    names = [job.name for job in fleet.jobs.jobs]
    return FleetMemory(
        critical=frozenset(names[row] for row in np.flatnonzero(mix.critical).tolist()),
        surplus_since=settled.surplus_since,
        shortage_since=settled.shortage_since,
        removals_seconds=settled.removals_seconds,
        refused=accepted.refused,
        spot_seen=dict(zip(names, share.seen.tolist(), strict=True)),
    )
