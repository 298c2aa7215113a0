"""A fleet in virtual time: many jobs on shared pools, decided by the operator's own fleet decision.

Every tick spot beyond the count is reclaimed, jobs arrive, the decision is asked with exactly what an operator would
know, victims go, launches happen or fail, workers work and are billed by the second until their job is done.
Deterministic for a seed.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from math import inf

import numpy as np

from evalfleet_scaling.memory import FleetMemory
from evalfleet_scaling.model import (
    FleetDecision,
    FleetSnapshot,
    Job,
    Limits,
    Pool,
    PoolObservation,
    StrategyName,
    Worker,
    WorkerState,
)
from evalfleet_scaling.simulate.replay import seconds_until_done
from evalfleet_scaling.simulate.trace import FloatArray, IntArray
from evalfleet_scaling.spot.history import PoolHistory, became_ready, ended, launch_failed, launched
from evalfleet_scaling.spot.statistics import Offer, observe_pool

Decide = Callable[[FleetSnapshot], FleetDecision]
_DONE = 1e-6


@dataclass(frozen=True, slots=True)
class FleetFaults:
    """What the plan does not know."""

    startup_range: tuple[float, float] = (1.0, 1.0)  # of the expected start-up, uniform
    launch_failure: Mapping[str, float] = field(default_factory=dict)  # pool -> probability
    lost_unit_seconds: float = 0.0  # work lost by a preemption without notice
    rate_factor: Mapping[str, float] = field(default_factory=dict)  # job -> true rate over planned
    seed: int = 0


@dataclass(frozen=True, slots=True)
class FleetScenario:
    """Pools with their availability and prices over ticks, jobs that arrive at `submitted_seconds`, limits, faults."""

    pools: tuple[Pool, ...]
    jobs: tuple[Job, ...]
    ticks: int
    tick_seconds: float = 60.0
    counts: Mapping[str, IntArray] = field(default_factory=dict)  # pool -> [T]; absent: max_workers always
    prices: Mapping[str, FloatArray] = field(default_factory=dict)  # pool -> [T] per hour; absent: list price
    limits: Limits = field(default_factory=Limits)
    faults: FleetFaults = field(default_factory=FleetFaults)
    strategy: StrategyName = StrategyName.ELASTIC_AUTO


@dataclass(frozen=True, slots=True)
class JobOutcome:
    """How one job ended."""

    job_name: str
    admitted: bool
    best_effort: bool
    finish_seconds: float  # inf: not within the simulated time
    deadline_seconds: float | None
    cost: float
    preemptions: int
    first_ready_seconds: float  # inf: never
    reason: str  # of the last decision about it

    @property
    def met_deadline(self) -> bool:
        """Finished in time; a job without deadline has met it when finished."""
        return self.finish_seconds <= (inf if self.deadline_seconds is None else self.deadline_seconds + 1e-3) and (
            self.finish_seconds < inf
        )


@dataclass(frozen=True, slots=True)
class FleetOutcome:
    """Outcome of all jobs in the order of the scenario, and of the fleet."""

    jobs: tuple[JobOutcome, ...]
    cost: float
    largest_cost_per_hour: float
    decisions: int
    most_workers: int


@dataclass(slots=True)
class _Running:
    job: str
    slot: int
    pool: str
    true_left: float
    planned_left: float
    age: float = 0.0


@dataclass(slots=True)
class _Progress:
    job: Job
    left: float
    admitted: float | None = None
    best_effort: bool = False
    first_ready: float = inf
    last_served: float | None = None
    finish: float = inf
    cost: float = 0.0
    preemptions: int = 0
    reason: str = "NotDecided"


def simulate_fleet(scenario: FleetScenario, decide: Decide) -> FleetOutcome:
    """Run the whole scenario; `decide` is `evalfleet_scaling.fleet.decide_fleet` or a baseline of the same form."""
    world = _Fleet(scenario)
    for tick in range(scenario.ticks):
        world.begin(tick)
        if world.waiting:
            world.act(decide(world.snapshot()))
        world.work()
        if world.finished and not world.workers:
            break
    return world.outcome()


class _Fleet:
    """True state of the world."""

    def __init__(self, scenario: FleetScenario) -> None:
        self.s = scenario
        self.rng = np.random.default_rng(scenario.faults.seed)
        self.pools = {pool.name: pool for pool in scenario.pools}
        self.history = {name: PoolHistory(name) for name in self.pools}
        self.offered_since: dict[str, float] = {}
        self.workers: dict[str, _Running] = {}
        self.jobs = {job.name: _Progress(job, job.work_left_gpu_seconds) for job in scenario.jobs}
        self.memory = FleetMemory()
        self.tick, self.now, self.started, self.decisions = 0, 0.0, 0, 0
        self.previous: float | None = None
        self.largest_rate, self.most_workers = 0.0, 0

    @property
    def waiting(self) -> list[_Progress]:
        """Jobs that were submitted and are not done."""
        return [job for job in self.jobs.values() if job.left > _DONE and job.job.submitted_seconds <= self.now]

    @property
    def finished(self) -> bool:
        return all(job.left <= _DONE for job in self.jobs.values())

    def _at(self, series: Mapping[str, IntArray] | Mapping[str, FloatArray], pool: str, default: float) -> float:
        values = series.get(pool)
        return default if values is None else float(values[min(self.tick, len(values) - 1)])

    def _price(self, pool: str) -> float:
        return self._at(self.s.prices, pool, float(self.pools[pool].price_per_hour))

    def _count(self, pool: str) -> int:
        most = self.pools[pool].max_workers
        return int(min(self._at(self.s.counts, pool, most), most))

    def begin(self, tick: int) -> None:
        """Time passes; spot beyond the count is reclaimed, the youngest workers first."""
        self.tick, self.now = tick, tick * self.s.tick_seconds
        for name, pool in self.pools.items():
            count = self._count(name)
            if count > 0:
                self.offered_since.setdefault(name, self.now)
            else:
                self.offered_since.pop(name, None)
            if pool.is_spot:
                mine = sorted((w for w in self.workers.items() if w[1].pool == name), key=lambda w: -w[1].age)
                for worker, _ in mine[count:]:
                    self._preempt(worker)

    def _preempt(self, name: str) -> None:
        worker = self.workers.pop(name)
        job = self.jobs[worker.job]
        job.preemptions += 1
        if worker.true_left <= 0:
            job.left += min(self.s.faults.lost_unit_seconds, worker.age)
        self.history[worker.pool] = ended(self.history[worker.pool], self.now, worker.age, preempted=True)

    def snapshot(self) -> FleetSnapshot:
        """What the operator knows now."""
        snapshot = FleetSnapshot(
            now_seconds=self.now,
            pools=self.s.pools,
            jobs=tuple(self._job(progress) for progress in self.waiting),
            workers=tuple(self._worker(name, worker) for name, worker in self.workers.items()),
            observations=tuple(self._observation(pool) for pool in self.s.pools),
            limits=self.s.limits,
            decision_period_seconds=self.s.tick_seconds,
            previous_now_seconds=self.previous,
            strategy=self.s.strategy,
            memory=self.memory,
        )
        self.previous = self.now
        return snapshot

    def _job(self, progress: _Progress) -> Job:
        return replace(
            progress.job,
            work_left_gpu_seconds=progress.left / self._rate(progress.job.name),
            work_total_gpu_seconds=progress.job.work_left_gpu_seconds / self._rate(progress.job.name),
            admitted_seconds=progress.admitted,
            best_effort=progress.best_effort,
            first_ready_seconds=progress.first_ready if progress.first_ready < inf else None,
            last_served_seconds=progress.last_served,
            spent=Decimal(repr(round(progress.cost, 6))),
        )

    def _rate(self, job: str) -> float:
        return self.s.faults.rate_factor.get(job, 1.0)

    @staticmethod
    def _worker(name: str, worker: _Running) -> Worker:
        state = WorkerState.READY if worker.true_left <= 0 else WorkerState.STARTING
        left = 0.0 if worker.true_left <= 0 else max(worker.planned_left, 1.0)
        return Worker(name, worker.job, worker.slot, worker.pool, state, left, worker.age)

    def _observation(self, pool: Pool) -> PoolObservation:
        used = sum(worker.pool == pool.name for worker in self.workers.values())
        offer = Offer(
            workers=max(self._count(pool.name) - used, 0),
            since_seconds=self.offered_since.get(pool.name),
            price_per_hour=Decimal(repr(round(self._price(pool.name), 6))),
        )
        return observe_pool(pool, self.history[pool.name], offer)

    def act(self, decision: FleetDecision) -> None:
        """Remember the decision, delete victims, create workers."""
        self.decisions += 1
        self.memory = decision.memory
        for one in decision.jobs:
            job = self.jobs[one.job_name]
            job.reason, job.best_effort = one.reason, one.best_effort
            if one.admitted and job.admitted is None:
                job.admitted = self.now
            for victim in one.victims:
                self._leave(victim)
        for one in decision.jobs:
            for start in one.starts:
                self._launch(start.job_name, start.slot, start.pool_name)

    def _leave(self, name: str) -> None:
        worker = self.workers.pop(name)
        self.history[worker.pool] = ended(self.history[worker.pool], self.now, worker.age, preempted=False)

    def _launch(self, job: str, slot: int, pool: str) -> None:
        used = sum(worker.pool == pool for worker in self.workers.values())
        failing = self.rng.random() < self.s.faults.launch_failure.get(pool, 0.0)
        if failing or used >= self._count(pool):
            self.history[pool] = launch_failed(self.history[pool], self.now)
            return
        low, high = self.s.faults.startup_range
        expected = self.pools[pool].expected_startup_seconds
        drawn = expected * (low + (high - low) * self.rng.random())
        observed = self._observation(self.pools[pool]).startup_p95_seconds
        self.started += 1
        self.history[pool] = launched(self.history[pool], self.now)
        self.workers[f"w{self.started}"] = _Running(job, slot, pool, drawn, expected if observed is None else observed)

    def work(self) -> None:
        """One tick of work; billed until the tick ends or the job is done, whichever is first."""
        g = self.s.tick_seconds
        self.most_workers = max(self.most_workers, len(self.workers))
        self.largest_rate = max(self.largest_rate, sum(self._price(w.pool) for w in self.workers.values()))
        by_job: dict[str, list[str]] = {}
        for name, worker in self.workers.items():
            by_job.setdefault(worker.job, []).append(name)
        for job, names in by_job.items():
            self._work_on(self.jobs[job], names, g)

    def _work_on(self, job: _Progress, names: list[str], g: float) -> None:
        workers = [self.workers[name] for name in names]
        rate = self._rate(job.job.name)
        speeds = [rate * self.pools[worker.pool].relative_throughput for worker in workers]
        done = sum(max(g - w.true_left, 0.0) * v for w, v in zip(workers, speeds, strict=True))
        ending = job.left - done <= _DONE
        span = g
        if ending:
            ready = np.sort(np.array([w.true_left for w in workers]))
            # One speed for all is exact unless a job mixes unlike pools in its last tick.
            span = min(g, seconds_until_done(ready[ready < g], job.left / (sum(speeds) / len(speeds))))
            job.finish = self.now + span
        job.left = 0.0 if ending else job.left - done
        job.last_served = self.now + span
        for name, worker in zip(names, workers, strict=True):
            job.cost += self._price(worker.pool) * span / 3600.0
            self._age(job, worker, span)
            if ending:
                self.workers.pop(name)
                self.history[worker.pool] = ended(self.history[worker.pool], self.now, worker.age, preempted=False)

    def _age(self, job: _Progress, worker: _Running, span: float) -> None:
        was_starting = worker.true_left > 0
        ready_at = self.now + worker.true_left
        worker.age += span
        worker.true_left = max(worker.true_left - span, 0.0)
        worker.planned_left = max(worker.planned_left - span, 0.0)
        if was_starting and worker.true_left <= 0:
            job.first_ready = min(job.first_ready, ready_at)
            startup = worker.age - (self.now + span - ready_at)
            self.history[worker.pool] = became_ready(self.history[worker.pool], self.now, max(startup, 0.0))

    def outcome(self) -> FleetOutcome:
        """What came of it."""
        return FleetOutcome(
            jobs=tuple(
                JobOutcome(
                    name,
                    progress.admitted is not None,
                    progress.best_effort,
                    progress.finish,
                    progress.job.deadline_seconds,
                    progress.cost,
                    progress.preemptions,
                    progress.first_ready,
                    progress.reason,
                )
                for name, progress in self.jobs.items()
            ),
            cost=sum(progress.cost for progress in self.jobs.values()),
            largest_cost_per_hour=self.largest_rate,
            decisions=self.decisions,
            most_workers=self.most_workers,
        )
