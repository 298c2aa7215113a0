"""Replay many independent runs in lockstep over spot traces, driving a strategy of the capacity core.

One tick is: spot beyond the count is taken away; the strategy sees the state and decides; launches happen or fail; the
workers run, ready ones do work, all are billed for the whole tick. Deterministic for a seed.
"""

from dataclasses import dataclass

import numpy as np

from evalfleet_lab.simulate.scenario import Faults, Scenario
from evalfleet_scaling.capacity.rate import rate_lower_bound
from evalfleet_scaling.capacity.strategy import Strategy, within_offers
from evalfleet_scaling.capacity.view import EMPTY, BoolArray, CapacityView, FloatArray, IntArray

_DONE = 1e-6  # GPU-seconds below which nothing is left


@dataclass(frozen=True, slots=True)
class Outcome:
    """What every run cost and when it ended; [J] each, money in currency units."""

    cost: FloatArray
    finish_seconds: FloatArray  # inf: not within the simulated time
    deadline_seconds: float
    on_demand_cost: FloatArray  # of the work alone, without start-ups
    on_demand_seconds: FloatArray  # worker-seconds on the on-demand pool
    spot_seconds: FloatArray  # worker-seconds on spot pools
    startup_seconds: FloatArray  # worker-seconds paid without work
    preemptions: IntArray
    launches: IntArray
    failed_launches: IntArray

    @property
    def lateness_seconds(self) -> FloatArray:
        """[J] seconds after the deadline, 0 when in time."""
        return np.maximum(self.finish_seconds - self.deadline_seconds, 0.0)

    @property
    def missed(self) -> BoolArray:
        """[J] finished after the deadline, or never."""
        result: BoolArray = self.lateness_seconds > 1e-3
        return result


def replay(scenario: Scenario, strategy: Strategy, faults: Faults | None = None, extra_ticks: int = 60) -> Outcome:
    """Run every window of the scenario with the strategy until its work is done, at most `extra_ticks` too late."""
    state = _State(scenario, faults or Faults())
    for tick in range(scenario.deadline_ticks + extra_ticks):
        if not state.active.any():
            break
        state.take_away(tick)
        view = state.view(tick)
        plan = within_offers(view, strategy.decide(view))
        state.was_critical = plan.critical
        state.apply(plan.slot_pool)
        state.run(tick)
    return state.outcome()


class _State:
    """True state of all runs; the last pool is the on-demand one."""

    def __init__(self, scenario: Scenario, faults: Faults) -> None:
        self.s, self.f = scenario, faults
        runs, spots = scenario.counts.shape[1:]
        slots = scenario.width
        self.spots, self.on_demand = spots, spots
        self.rng = np.random.default_rng(faults.seed)
        self.slot_pool: IntArray = np.full((runs, slots), EMPTY)
        self.true_left = np.zeros((runs, slots))  # start-up still to come, as nature drew it
        self.planned_left = np.zeros((runs, slots))  # as the operator expects it
        self.units_left = scenario.work.astype(np.float64).copy()  # work in planned GPU-seconds
        self.was_critical = np.zeros(runs, dtype=np.bool_)
        self.measured_seconds = np.zeros(runs)
        self.launches = np.zeros(runs, dtype=np.int64)
        self.failed = np.zeros(runs, dtype=np.int64)
        self.known_launches = np.full(runs, float(faults.launches_before))
        self.known_failures = np.asarray(
            self.rng.binomial(faults.launches_before, faults.launch_failure, runs), dtype=np.float64
        )
        self.cost, self.startup_paid = np.zeros(runs), np.zeros(runs)
        self.on_demand_seconds, self.spot_seconds = np.zeros(runs), np.zeros(runs)
        self.preemptions = np.zeros(runs, dtype=np.int64)
        self.finish = np.full(runs, np.inf)
        self._most_spot = np.maximum.accumulate(np.minimum(scenario.counts.sum(axis=2), slots), axis=0)
        self._fixed = (
            np.full((runs, spots + 1), scenario.startup_seconds),
            np.full((runs, spots + 1), np.inf),
            np.ones(spots + 1),
            np.arange(spots + 1) < spots,
            np.full(runs, slots),
            np.full((runs, 1), scenario.on_demand_price),
        )

    @property
    def active(self) -> BoolArray:
        result: BoolArray = self.units_left > _DONE
        return result

    def _at(self, tick: int) -> int:
        return min(tick, len(self.s.counts) - 1)

    def take_away(self, tick: int) -> None:
        """Spot workers beyond what the trace offers are gone; the highest slots of a pool go first."""
        counts = self.s.counts[self._at(tick)]
        for pool in range(self.spots):
            mine = self.slot_pool == pool
            lost = mine & (np.cumsum(mine, axis=1) > counts[:, pool : pool + 1])
            self.preemptions += lost.sum(axis=1)
            self.slot_pool = np.where(lost, EMPTY, self.slot_pool)

    def view(self, tick: int) -> CapacityView:
        """What an operator would know now."""
        s, runs = self.s, len(self.cost)
        startup, lifetime, throughput, is_spot, width, on_demand_price = self._fixed
        at = self._at(tick)
        running = np.stack([(self.slot_pool == pool).sum(axis=1) for pool in range(self.spots)], axis=1)
        on_demand = np.full((runs, 1), s.width)
        scale = self._planning_scale()
        return CapacityView(
            tick_seconds=s.tick_seconds,
            elapsed_seconds=np.full(runs, tick * s.tick_seconds),
            left_seconds=np.full(runs, (s.deadline_ticks - tick) * s.tick_seconds),
            work_left=self.units_left * scale,
            work_total=s.work * scale,
            width=width,
            slot_pool=self.slot_pool,
            startup_left=np.where(self.slot_pool >= 0, self.planned_left, 0.0),
            offered=np.concatenate([np.maximum(s.counts[at] - running, 0), on_demand], axis=1),
            steady=np.concatenate([np.maximum(s.steady[at] - running, 0), on_demand], axis=1),
            price=np.concatenate([s.spot_price[at], on_demand_price], axis=1),
            startup=startup,
            lifetime=lifetime,
            throughput=throughput,
            is_spot=is_spot,
            fallback=self.on_demand,
            fallback_launches=self.known_launches,
            fallback_failures=self.known_failures,
            was_critical=self.was_critical,
            most_spot=self._most_spot[at],
        )

    def _planning_scale(self) -> FloatArray | float:
        """GPU-seconds to plan per unit left: 1 / lower bound of the rate measured so far."""
        if not self.f.rate_unknown:
            return 1.0 / self.f.rate_factor
        work = self.measured_seconds * self.f.rate_factor
        return 1.0 / rate_lower_bound(1.0, self.measured_seconds, work)

    def apply(self, wanted: IntArray) -> None:
        """Stop and start workers; on-demand launches may fail, start-up times are drawn."""
        wanted = np.where(self.active[:, None], wanted, EMPTY)
        starting = (wanted != self.slot_pool) & (wanted >= 0)
        self.launches += starting.sum(axis=1)
        trying = starting & (wanted == self.on_demand)
        if self.f.launch_failure > 0:
            failing = trying & (self.rng.random(wanted.shape) < self.f.launch_failure)
            wanted = np.where(failing, EMPTY, wanted)
            starting &= ~failing
            self.failed += failing.sum(axis=1)
            self.known_failures = self.known_failures + failing.sum(axis=1)
        self.known_launches = self.known_launches + trying.sum(axis=1)
        staying: BoolArray = (wanted == self.slot_pool) & (wanted >= 0)
        low, high = self.f.startup_range
        spread = self.rng.random(wanted.shape) if high > low else 0.0
        drawn = self.s.startup_seconds * (low + (high - low) * spread)
        self.true_left = np.where(starting, drawn, np.where(staying, self.true_left, 0.0))
        self.planned_left = np.where(starting, self.s.startup_seconds, np.where(staying, self.planned_left, 0.0))
        self.slot_pool = wanted

    def run(self, tick: int) -> None:
        """One tick of work and billing."""
        g, busy = self.s.tick_seconds, self.slot_pool >= 0
        on_demand_price = np.full((len(self.cost), 1), self.s.on_demand_price)
        price = np.concatenate([self.s.spot_price[self._at(tick)], on_demand_price], axis=1)
        rate = np.take_along_axis(price, np.maximum(self.slot_pool, 0), axis=1)
        self.cost += np.where(busy, rate, 0.0).sum(axis=1) * g / 3600.0
        self.on_demand_seconds += (self.slot_pool == self.on_demand).sum(axis=1) * g
        self.spot_seconds += (busy & (self.slot_pool != self.on_demand)).sum(axis=1) * g
        seconds = np.where(busy, np.maximum(g - self.true_left, 0.0), 0.0)
        self.startup_paid += (busy * g - seconds).sum(axis=1)
        done = seconds.sum(axis=1)
        ending = self.active & (self.units_left - done * self.f.rate_factor <= _DONE)
        for run in np.flatnonzero(ending):
            ready = np.sort(self.true_left[run][busy[run]])
            need = float(self.units_left[run]) / self.f.rate_factor
            self.finish[run] = tick * g + seconds_until_done(ready[ready < g], need)
        self.measured_seconds += done
        self.units_left = np.where(ending, 0.0, np.where(self.active, self.units_left - done * self.f.rate_factor, 0.0))
        self.true_left = np.maximum(self.true_left - g, 0.0)
        # A worker that is later than planned is expected at any moment; a ready one is seen to be ready.
        self.planned_left = np.where(self.true_left > 0, np.maximum(self.planned_left - g, 1.0), 0.0)

    def outcome(self) -> Outcome:
        return Outcome(
            cost=self.cost,
            finish_seconds=self.finish,
            deadline_seconds=self.s.deadline_ticks * self.s.tick_seconds,
            on_demand_cost=self.s.work / self.f.rate_factor / 3600.0 * self.s.on_demand_price,
            on_demand_seconds=self.on_demand_seconds,
            spot_seconds=self.spot_seconds,
            startup_seconds=self.startup_paid,
            preemptions=self.preemptions,
            launches=self.launches,
            failed_launches=self.failed,
        )


def seconds_until_done(ready: FloatArray, work: float) -> float:
    """Seconds until workers that become ready at the (sorted) times have done `work` worker-seconds together."""
    workers, now, done = 0, 0.0, 0.0
    for moment in ready:
        step = workers * (float(moment) - now)
        if workers and done + step >= work:
            break
        done, now, workers = done + step, float(moment), workers + 1
    return now + (work - done) / max(workers, 1)
