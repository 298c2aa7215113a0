"""Replay a stream of jobs on a mixed fleet with a virtual clock, driving the operator's own fleet decision.

One tick is: jobs arrive; spot workers beyond the count are taken away; the fleet is observed and decided; victims go,
launches happen or fail; ready workers work and every worker is billed until the tick or its job ends. Deterministic for
a seed.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from decimal import Decimal
from math import inf

import numpy as np

from evalfleet_scaling.arrays import FloatArray, IntArray
from evalfleet_scaling.memory import FleetMemory
from evalfleet_scaling.model import (
    Budget,
    FleetDecision,
    FleetSnapshot,
    Job,
    JobDecision,
    Limits,
    OnInfeasible,
    Pool,
    PoolObservation,
    StrategyName,
    Worker,
    WorkerState,
)
from evalfleet_scaling.spend import HOUR_MS

_DONE = 1e-6  # GPU-seconds below which nothing is left
_DAY = 86_400.0

Decide = Callable[[FleetSnapshot], FleetDecision]


@dataclass(frozen=True, slots=True)
class SubmittedJob:
    """A job of the stream; seconds from the start of the replay, GPU-seconds of one worker."""

    name: str
    submitted_seconds: float
    work_gpu_seconds: float
    max_workers: int
    deadline_seconds: float | None = None
    submitter: str = ""
    budget: Budget | None = None
    on_infeasible: OnInfeasible = OnInfeasible.REJECT
    queue_wait_seconds: float | None = None  # SLA: a worker is ready this long after submission


@dataclass(frozen=True, slots=True)
class FleetScenario:
    """A fleet, its spot counts over time (they repeat when the jobs outlast them), and what goes wrong."""

    tick_seconds: float
    pools: tuple[Pool, ...]
    counts: dict[str, IntArray]  # spot pool -> workers obtainable per `counts_tick_seconds`
    counts_tick_seconds: float
    prices: dict[str, FloatArray] = field(default_factory=dict)  # pool -> per hour, at the same ticks
    limits: Limits = field(default_factory=Limits)
    strategy: StrategyName = StrategyName.ELASTIC_AUTO
    startup_range: tuple[float, float] = (1.0, 1.0)  # true start-up as a multiple of the planned, uniform
    launch_failure: float = 0.0  # on pools that are not spot; seen a tick later
    rate_factor: float = 1.0  # true rate as a multiple of the planned; the estimate learns from what was done
    unit_seconds: float = 0.0  # work a ready worker loses when it is preempted without notice; 0: with notice
    seed: int = 0


@dataclass(slots=True)
class JobRecord:
    """What became of a job."""

    job: SubmittedJob
    work_left: float
    admitted_seconds: float | None = None
    best_effort: bool = False
    refused: bool = False
    first_ready_seconds: float | None = None
    last_served_seconds: float | None = None
    finish_seconds: float = inf
    cost: float = 0.0
    on_demand_seconds: float = 0.0
    worker_seconds: float = 0.0
    preemptions: int = 0
    workers: dict[int, "_Running"] = field(default_factory=dict)

    @property
    def missed(self) -> bool:
        """Admitted with a deadline and finished after it, or never."""
        deadline = self.job.deadline_seconds
        return self.admitted_seconds is not None and deadline is not None and self.finish_seconds > deadline + 1e-3

    @property
    def waited_seconds(self) -> float:
        """From submission to the first ready worker; inf when none ever was."""
        return inf if self.first_ready_seconds is None else self.first_ready_seconds - self.job.submitted_seconds


@dataclass(slots=True)
class _Running:
    name: str
    slot: int
    pool: Pool
    since: float
    planned_left: float
    true_left: float


@dataclass(frozen=True, slots=True)
class FleetOutcome:
    """Records of all jobs and the money that flowed."""

    records: tuple[JobRecord, ...]
    cost: float
    largest_hour_cost: float
    largest_day_cost: float
    largest_rate_per_hour: float
    most_workers: int
    most_on_demand: int
    decisions: int


def replay_fleet(scenario: FleetScenario, jobs: tuple[SubmittedJob, ...], decide: Decide) -> FleetOutcome:
    """Run until every job has finished or was refused, at most a tenth (and ten days) after the last deadline."""
    state = _State(scenario, jobs)
    last = max((job.deadline_seconds or job.submitted_seconds for job in jobs), default=0.0)
    while state.has_work and state.now < last * 1.1 + 10 * _DAY:
        state.step(decide)
    return state.outcome()


class _State:
    """State of a replay; nothing outside this module sees it."""

    def __init__(self, scenario: FleetScenario, jobs: tuple[SubmittedJob, ...]) -> None:
        self._scenario = scenario
        self._waiting = sorted(jobs, key=lambda job: job.submitted_seconds, reverse=True)
        self._records: dict[str, JobRecord] = {}
        self._active: dict[str, JobRecord] = {}
        self._random = np.random.default_rng(scenario.seed)
        self._memory = FleetMemory()
        self._pool = {pool.name: pool for pool in scenario.pools}
        self._offered_since: dict[str, float] = {}
        self._created = 0
        self._launches, self._failures = 0.0, 0.0
        self._hours: dict[int, float] = {}
        self._days: dict[int, float] = {}
        self._largest_rate, self._most_workers, self._most_on_demand, self._decisions = 0.0, 0, 0, 0
        self.now = 0.0

    @property
    def has_work(self) -> bool:
        """Whether a job runs or will come."""
        return bool(self._active or self._waiting)

    def step(self, decide: Decide) -> None:
        """One tick."""
        self._arrive()
        if not self._active and self._waiting:  # nothing to decide before the next arrival
            ticks = (self._waiting[-1].submitted_seconds - self.now) // self._scenario.tick_seconds
            self.now += max(ticks, 1.0) * self._scenario.tick_seconds
            return
        available = self._take_away()
        decision = decide(self._observe(available))
        self._memory = decision.memory
        self._decisions += 1
        for judged in decision.jobs:
            self._apply(self._active[judged.job_name], judged)
        self._measure()
        for record in list(self._active.values()):
            self._run(record)
        self._active = {
            name: record for name, record in self._active.items() if not record.refused and record.work_left > _DONE
        }
        self.now += self._scenario.tick_seconds

    def outcome(self) -> FleetOutcome:
        """What happened so far."""
        records = tuple(self._records.values())
        return FleetOutcome(
            records=records,
            cost=sum(record.cost for record in records),
            largest_hour_cost=max(self._hours.values(), default=0.0),
            largest_day_cost=max(self._days.values(), default=0.0),
            largest_rate_per_hour=self._largest_rate,
            most_workers=self._most_workers,
            most_on_demand=self._most_on_demand,
            decisions=self._decisions,
        )

    def _arrive(self) -> None:
        while self._waiting and self._waiting[-1].submitted_seconds <= self.now:
            job = self._waiting.pop()
            record = JobRecord(job, job.work_gpu_seconds)
            self._records[job.name] = self._active[job.name] = record

    def _take_away(self) -> dict[str, int]:
        """Preempt what exceeds the counts; returns how many further workers each spot pool offers."""
        scenario = self._scenario
        offered = {}
        for name, counts in scenario.counts.items():
            count = int(self._at(counts))
            mine = [
                (record, worker)
                for record in self._active.values()
                for worker in record.workers.values()
                if worker.pool.name == name
            ]
            surplus = len(mine) - count
            if surplus > 0:
                for index in self._random.permutation(len(mine))[:surplus].tolist():
                    record, worker = mine[index]
                    del record.workers[worker.slot]
                    record.preemptions += 1
                    if worker.true_left <= 0:
                        record.work_left += min(scenario.unit_seconds, self.now - worker.since)
            offered[name] = max(-surplus, 0)
            if count == 0:
                self._offered_since.pop(name, None)
            else:
                self._offered_since.setdefault(name, self.now)
        return offered

    def _observe(self, offered: dict[str, int]) -> FleetSnapshot:
        scenario = self._scenario
        observations = []
        for pool in scenario.pools:
            price = Decimal(repr(self._price(pool)))
            if pool.is_spot:
                since = self._offered_since.get(pool.name)
                observations.append(PoolObservation(pool.name, offered[pool.name], since, price))
            else:
                tries, failures = round(self._launches), round(self._failures)
                observations.append(
                    PoolObservation(
                        pool.name, price_per_hour=price, launches=tries, launch_failures=min(failures, tries)
                    )
                )
        return FleetSnapshot(
            now_seconds=self.now,
            pools=scenario.pools,
            jobs=tuple(self._job(record) for record in self._active.values()),
            workers=tuple(
                self._worker(record, worker) for record in self._active.values() for worker in record.workers.values()
            ),
            observations=tuple(observations),
            limits=self._limits(),
            decision_period_seconds=scenario.tick_seconds,
            strategy=scenario.strategy,
            memory=self._memory,
        )

    def _at(self, series: IntArray | FloatArray) -> float:
        return float(series[int(self.now // self._scenario.counts_tick_seconds) % len(series)])

    def _price(self, pool: Pool) -> float:
        series = self._scenario.prices.get(pool.name)
        return float(pool.price_per_hour) if series is None else self._at(series)

    def _limits(self) -> Limits:
        return replace(
            self._scenario.limits,
            spent_this_hour=Decimal(repr(self._hours.get(int(self.now // 3600), 0.0))),
            spent_this_day=Decimal(repr(self._days.get(int(self.now // _DAY), 0.0))),
        )

    def _job(self, record: JobRecord) -> Job:
        job = record.job
        # The plan's rate is held against what was measured; both meet as work is done.
        measured = self._scenario.rate_factor if record.worker_seconds > 0 else 1.0
        return Job(
            name=job.name,
            work_left_gpu_seconds=record.work_left / measured,
            max_workers=job.max_workers,
            submitted_seconds=job.submitted_seconds,
            work_total_gpu_seconds=job.work_gpu_seconds / measured,
            admitted_seconds=record.admitted_seconds,
            deadline_seconds=job.deadline_seconds,
            submitter=job.submitter,
            first_ready_seconds=record.first_ready_seconds,
            last_served_seconds=record.last_served_seconds,
            budget=job.budget,
            spent=Decimal(repr(record.cost)),
            on_infeasible=job.on_infeasible,
            queue_wait_seconds=job.queue_wait_seconds,
            best_effort=record.best_effort,
        )

    def _worker(self, record: JobRecord, worker: _Running) -> Worker:
        ready = worker.true_left <= 0
        return Worker(
            name=worker.name,
            job_name=record.job.name,
            slot=worker.slot,
            pool_name=worker.pool.name,
            state=WorkerState.READY if ready else WorkerState.STARTING,
            startup_left_seconds=0.0 if ready else max(worker.planned_left, 1.0),
            age_seconds=self.now - worker.since,
        )

    def _apply(self, record: JobRecord, decision: JobDecision) -> None:
        if not decision.admitted:
            record.refused = decision.reason != "WaitingForAdmission"
            return
        if record.admitted_seconds is None:
            record.admitted_seconds = self.now
            record.best_effort = decision.best_effort
        victims = set(decision.victims)
        record.workers = {slot: worker for slot, worker in record.workers.items() if worker.name not in victims}
        for start in decision.starts:
            self._launch(record, self._pool[start.pool_name], start.slot)

    def _launch(self, record: JobRecord, pool: Pool, slot: int) -> None:
        scenario = self._scenario
        if not pool.is_spot:
            # Recent launches only: what happened a hundred launches ago says little.
            self._launches = self._launches * 0.99 + 1
            self._failures *= 0.99
            if scenario.launch_failure and self._random.random() < scenario.launch_failure:
                self._failures += 1
                return
        low, high = scenario.startup_range
        factor = low if high == low else float(self._random.uniform(low, high))
        planned = pool.expected_startup_seconds
        self._created += 1
        assert slot not in record.workers, f"{record.job.name}: slot {slot} is taken"
        record.workers[slot] = _Running(f"w{self._created}", slot, pool, self.now, planned, planned * factor)

    def _measure(self) -> None:
        workers = [worker for record in self._active.values() for worker in record.workers.values()]
        rate = sum(self._price(worker.pool) for worker in workers)
        self._largest_rate = max(self._largest_rate, rate)
        self._most_workers = max(self._most_workers, len(workers))
        self._most_on_demand = max(self._most_on_demand, sum(not worker.pool.is_spot for worker in workers))

    def _run(self, record: JobRecord) -> None:
        """Let a job's workers work for a tick, or until its work is done."""
        if not record.workers:
            return
        tick = self._scenario.tick_seconds
        ready = sorted(worker.true_left for worker in record.workers.values())
        used = min(_seconds_to_finish(ready, record.work_left / self._scenario.rate_factor), tick)
        for worker in record.workers.values():
            working = max(used - worker.true_left, 0.0)
            if working > 0 and record.first_ready_seconds is None:
                record.first_ready_seconds = self.now + worker.true_left
            record.work_left -= working * self._scenario.rate_factor
            worker.true_left = max(worker.true_left - tick, 0.0)
            worker.planned_left = max(worker.planned_left - tick, 0.0)
            self._pay(record, worker, used)
        record.last_served_seconds = self.now + used
        if used < tick or record.work_left <= _DONE:
            record.work_left = 0.0
            record.finish_seconds = self.now + used
            record.workers = {}

    def _pay(self, record: JobRecord, worker: _Running, seconds: float) -> None:
        money = self._price(worker.pool) * seconds * 1000 / HOUR_MS
        record.cost += money
        record.worker_seconds += seconds
        record.on_demand_seconds += 0.0 if worker.pool.is_spot else seconds
        hour, day = int(self.now // 3600), int(self.now // _DAY)
        self._hours[hour] = self._hours.get(hour, 0.0) + money
        self._days[day] = self._days.get(day, 0.0) + money


def _seconds_to_finish(ready: list[float], work: float) -> float:
    """Seconds until `work` is done by workers that are ready at the given times, sorted."""
    done, now, workers = 0.0, 0.0, 0
    for moment in ready:
        gained = workers * (moment - now)
        if done + gained >= work:
            break
        done, now, workers = done + gained, moment, workers + 1
    return now + (work - done) / max(workers, 1)
