"""The fleet decision step by step, each a module of this package."""

import numpy as np

from evalfleet_scaling.capacity.registry import strategy_named
from evalfleet_scaling.capacity.strategy import Strategy
from evalfleet_scaling.fleet.accept import Accepted, accept_jobs
from evalfleet_scaling.fleet.enforce import enforce
from evalfleet_scaling.fleet.explain import Findings, explain_jobs, explain_limits
from evalfleet_scaling.fleet.lookahead import look_ahead
from evalfleet_scaling.fleet.minimums import minimum_slots
from evalfleet_scaling.fleet.mix import Bounds, Mix, mix_capacity
from evalfleet_scaling.fleet.money import read_money
from evalfleet_scaling.fleet.share import SpotShare, share_spot
from evalfleet_scaling.fleet.slots import joined
from evalfleet_scaling.fleet.stabilize import Stabilized, stabilize
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
    lookahead = look_ahead(fleet, accepted)
    money = read_money(fleet, lookahead)
    bounds = Bounds(share, lookahead, money)
    mix = mix_capacity(fleet, accepted, bounds, strategy or _strategy(fleet))
    kept, new = minimum_slots(fleet, accepted, mix.slots)
    stabilized = stabilize(fleet, accepted, joined(kept, mix.slots, new), mix.critical, share.reclaim)
    enforced = enforce(fleet, accepted, money, mix, stabilized.slots)
    limits = explain_limits(enforced)
    reason, message = _policy_words(fleet, accepted, limits)
    return FleetDecision(
        jobs=explain_jobs(Findings(fleet, accepted, share, mix, enforced)),
        reason=reason,
        message=message,
        next_decision_seconds=_next_decision(fleet, stabilized),
        limits_hit=limits,
        memory=_memory(fleet, accepted, mix, stabilized, share),
    )


def _strategy(fleet: Fleet) -> Strategy:
    """The strategy that the policy names; without an on-demand pool there is nothing to choose from but spot."""
    return strategy_named(fleet.snapshot.strategy if len(fleet.pools.on_demand) else StrategyName.SPOT_ONLY)


def _policy_words(fleet: Fleet, accepted: Accepted, limits: tuple[LimitHit, ...]) -> tuple[str, str]:
    active = int(accepted.active.sum())
    jobs = f"{plural(active, 'job')} of {len(fleet.jobs.jobs)} may run"
    if limits:
        return "ScalingLimited", f"{jobs}; {'; '.join(limit.message for limit in limits)}"
    return "Decided", jobs


def _next_decision(fleet: Fleet, stabilized: Stabilized) -> float:
    regular = fleet.now + fleet.tick
    return regular if stabilized.next_change_seconds is None else min(regular, stabilized.next_change_seconds)


def _memory(fleet: Fleet, accepted: Accepted, mix: Mix, stabilized: Stabilized, share: SpotShare) -> FleetMemory:
    names = [job.name for job in fleet.jobs.jobs]
    return FleetMemory(
        critical=frozenset(names[row] for row in np.flatnonzero(mix.critical).tolist()),
        surplus_since=stabilized.surplus_since,
        shortage_since=stabilized.shortage_since,
        removals_seconds=stabilized.removals_seconds,
        refused=accepted.refused,
        most_spot=dict(zip(names, share.most_spot.tolist(), strict=True)),
    )
