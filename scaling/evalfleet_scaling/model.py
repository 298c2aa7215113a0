"""The nouns of the capacity core: jobs, pools, workers, what was observed of them, limits, decisions.

Times are seconds on one clock of the caller's choice (the operator uses Unix time, the simulator starts at zero).
Work is GPU-seconds: seconds of one worker of a pool with `relative_throughput` 1. Money is `Decimal` in the currency
of the policy. Everything is immutable; construction refuses impossible values with a typed error, so that deciders
need no defence.
"""

from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum
from math import inf

from evalfleet_scaling.checks import require_count, require_money, require_name, require_number
from evalfleet_scaling.errors import (
    ClockWentBackwardsError,
    EmptyPoolsError,
    InvalidJobError,
    InvalidLimitsError,
    InvalidObservationError,
    InvalidPoolError,
    InvalidWorkerError,
    ScalingInputError,
)
from evalfleet_scaling.memory import FleetMemory


class CapacityType(StrEnum):
    """How a pool's machines are bought."""

    SPOT = "Spot"
    ON_DEMAND = "OnDemand"
    RESERVED = "Reserved"
    LOCAL = "Local"

    @property
    def is_preemptible(self) -> bool:
        """Whether the provider may take a machine back."""
        return self is CapacityType.SPOT


class WorkerState(StrEnum):
    """A worker that costs money: starting until its first batch, then ready."""

    STARTING = "Starting"
    READY = "Ready"


class StrategyName(StrEnum):
    """Names of the strategies, as in `ScalingPolicy.spec.strategy` and the benchmarks."""

    ELASTIC_AUTO = "ElasticAuto"
    SLACK_LEDGER = "SlackLedger"
    ELASTIC_RULE = "ElasticRule"
    UNIFORM_PROGRESS = "UniformProgress"
    UTILITY = "Utility"
    ON_DEMAND_ONLY = "OnDemandOnly"
    SPOT_ONLY = "SpotOnly"
    GREEDY = "Greedy"
    TIME_SLICED = "TimeSliced"
    STATIC_MIX = "StaticMix"
    SPOT_HEDGE = "SpotHedge"


class OnInfeasible(StrEnum):
    """What to do with a deadline that cannot be guaranteed at admission."""

    REJECT = "Reject"
    RUN_ANYWAY = "RunAnyway"


class OnConflict(StrEnum):
    """Which promise yields when deadline and budget cannot both be kept."""

    DEADLINE = "Deadline"
    BUDGET = "Budget"


@dataclass(frozen=True, slots=True)
class Budget:
    """Money a job may cost in total, and what yields when the deadline needs more."""

    max_cost: Decimal
    on_conflict: OnConflict = OnConflict.DEADLINE

    def __post_init__(self) -> None:
        require_money(InvalidJobError, "budget.max_cost", self.max_cost)


@dataclass(frozen=True, slots=True)
class Job:
    """One evaluation as the core sees it.

    `work_left_gpu_seconds` is computed with the *lower* confidence bound of the measured rate. `deadline_seconds` is
    when the last worker must be done: the user's deadline less the finish step and one unit. None: no deadline.
    """

    name: str
    work_left_gpu_seconds: float
    max_workers: int
    submitted_seconds: float = 0.0
    work_total_gpu_seconds: float | None = None  # at admission; None: the work left now
    admitted_seconds: float | None = None  # None: not admitted yet
    deadline_seconds: float | None = None
    min_workers: int = 0
    priority: int = 0
    submitter: str = ""
    queue_wait_seconds: float | None = None  # SLA: a worker is ready this long after submission
    first_ready_seconds: float | None = None  # when its first worker was ready; None: never yet
    last_served_seconds: float | None = None  # when it last had a worker, for aging
    budget: Budget | None = None
    spent: Decimal = Decimal(0)
    on_infeasible: OnInfeasible = OnInfeasible.REJECT
    suspended: bool = False
    best_effort: bool = False  # admitted although the deadline cannot be guaranteed: displaces no guaranteed job
    allowed_pools: frozenset[str] | None = None  # None: every pool of the policy
    rate_relative_error: float = 0.05  # one standard deviation of log(rate), for the ETA only

    def __post_init__(self) -> None:
        require_name(InvalidJobError, "job", self.name)
        require_number(InvalidJobError, f"job {self.name}: work_left_gpu_seconds", self.work_left_gpu_seconds)
        if self.work_total_gpu_seconds is not None:
            require_number(InvalidJobError, f"job {self.name}: work_total_gpu_seconds", self.work_total_gpu_seconds)
        require_count(InvalidJobError, f"job {self.name}: max_workers", self.max_workers, at_least=1)
        require_count(InvalidJobError, f"job {self.name}: min_workers", self.min_workers)
        if self.min_workers > self.max_workers:
            raise InvalidJobError(
                f"job {self.name}: min_workers {self.min_workers} exceeds max_workers {self.max_workers}"
            )
        for label, value in (
            ("submitted_seconds", self.submitted_seconds),
            ("admitted_seconds", self.admitted_seconds),
            ("deadline_seconds", self.deadline_seconds),
        ):
            if value is not None:
                require_number(InvalidJobError, f"job {self.name}: {label}", value, at_least=-inf)
        if self.queue_wait_seconds is not None:
            require_number(InvalidJobError, f"job {self.name}: queue_wait_seconds", self.queue_wait_seconds)
        require_number(InvalidJobError, f"job {self.name}: rate_relative_error", self.rate_relative_error)
        require_money(InvalidJobError, f"job {self.name}: spent", self.spent)

    @property
    def total_work_gpu_seconds(self) -> float:
        """Work at admission, never below what is left."""
        total = self.work_total_gpu_seconds
        return self.work_left_gpu_seconds if total is None else max(total, self.work_left_gpu_seconds)


@dataclass(frozen=True, slots=True)
class Pool:
    """A set of equal machines of one price and place; `price_per_hour` is per worker."""

    name: str
    capacity_type: CapacityType
    price_per_hour: Decimal
    max_workers: int
    zone: str = ""
    expected_startup_seconds: float = 600.0  # prior for schedulable -> first batch, until measured
    priority: int = 0  # larger is preferred before price
    relative_throughput: float = 1.0  # rate of one worker against the reference pool

    def __post_init__(self) -> None:
        require_name(InvalidPoolError, "pool", self.name)
        require_money(InvalidPoolError, f"pool {self.name}: price_per_hour", self.price_per_hour)
        require_count(InvalidPoolError, f"pool {self.name}: max_workers", self.max_workers)
        require_number(InvalidPoolError, f"pool {self.name}: expected_startup_seconds", self.expected_startup_seconds)
        require_number(InvalidPoolError, f"pool {self.name}: relative_throughput", self.relative_throughput)
        if self.relative_throughput == 0:
            raise InvalidPoolError(f"pool {self.name}: relative_throughput is 0, its workers would never finish")

    @property
    def is_spot(self) -> bool:
        """Whether machines of the pool can be taken back."""
        return self.capacity_type.is_preemptible


@dataclass(frozen=True, slots=True)
class PoolObservation:
    """What was seen of one pool up to now; every field defaults to "nothing known".

    `offered_workers` counts *additional* workers the pool would start now (None: not known: treated as available up to
    `max_workers` for on-demand, and as one probing worker for spot); `offered_since_seconds` is when that offer began.
    """

    pool_name: str
    offered_workers: int | None = None
    offered_since_seconds: float | None = None
    price_per_hour: Decimal | None = None  # None: the pool's list price
    startup_p50_seconds: float | None = None
    startup_p95_seconds: float | None = None  # the d of the guarantee
    startup_p99_seconds: float | None = None
    launches: int = 0  # recent attempts, decayed
    launch_failures: int = 0  # of those
    cool_down_until_seconds: float | None = None
    expected_lifetime_seconds: float | None = None  # predicted life of a worker started now
    interruptions_per_hour: float = 0.0  # per running worker

    def __post_init__(self) -> None:
        name = f"observation of pool {self.pool_name}"
        if self.offered_workers is not None:
            require_count(InvalidObservationError, f"{name}: offered_workers", self.offered_workers)
        if self.price_per_hour is not None:
            require_money(InvalidObservationError, f"{name}: price_per_hour", self.price_per_hour)
        for label, value in (
            ("startup_p50_seconds", self.startup_p50_seconds),
            ("startup_p95_seconds", self.startup_p95_seconds),
            ("startup_p99_seconds", self.startup_p99_seconds),
            ("interruptions_per_hour", self.interruptions_per_hour),
        ):
            if value is not None:
                require_number(InvalidObservationError, f"{name}: {label}", value)
        require_count(InvalidObservationError, f"{name}: launches", self.launches)
        require_count(InvalidObservationError, f"{name}: launch_failures", self.launch_failures)
        if self.launch_failures > self.launches:
            raise InvalidObservationError(f"{name}: {self.launch_failures} launch failures of {self.launches} launches")

    @property
    def launch_failure_rate(self) -> float:
        """Probability that a launch fails, with a Beta(1/2, 9 1/2) prior so that one failure is no certainty."""
        return (self.launch_failures + 0.5) / (self.launches + 10.0)


@dataclass(frozen=True, slots=True)
class Worker:
    """A worker that is being paid for; lost workers are simply absent."""

    name: str
    job_name: str
    slot: int
    pool_name: str
    state: WorkerState = WorkerState.READY
    startup_left_seconds: float = 0.0  # planned (p95) start-up still to come; 0 when ready
    age_seconds: float = 0.0  # since creation
    price_per_hour: Decimal | None = None  # that it was started at; None: its pool's now

    def __post_init__(self) -> None:
        require_name(InvalidWorkerError, "worker", self.name)
        if self.price_per_hour is not None:
            require_money(InvalidWorkerError, f"worker {self.name}: price_per_hour", self.price_per_hour)
        require_count(InvalidWorkerError, f"worker {self.name}: slot", self.slot)
        require_number(InvalidWorkerError, f"worker {self.name}: startup_left_seconds", self.startup_left_seconds)
        require_number(InvalidWorkerError, f"worker {self.name}: age_seconds", self.age_seconds)


@dataclass(frozen=True, slots=True)
class Limits:
    """What the policy allows in total; None means unlimited. Money spent so far comes from the spend ledger."""

    max_workers: int | None = None
    on_demand_quota_workers: int | None = None
    max_cost_per_hour: Decimal | None = None
    max_cost_per_day: Decimal | None = None
    max_cost_per_month: Decimal | None = None
    spent_this_hour: Decimal = Decimal(0)
    spent_this_day: Decimal = Decimal(0)
    spent_this_month: Decimal = Decimal(0)
    scale_up_workers_per_minute: int | None = None
    scale_up_stabilization_seconds: float = 0.0
    scale_down_workers_per_minute: int | None = None
    scale_down_stabilization_seconds: float = 0.0

    def __post_init__(self) -> None:
        for label, count in (
            ("max_workers", self.max_workers),
            ("on_demand_quota_workers", self.on_demand_quota_workers),
            ("scale_up_workers_per_minute", self.scale_up_workers_per_minute),
            ("scale_down_workers_per_minute", self.scale_down_workers_per_minute),
        ):
            if count is not None:
                require_count(InvalidLimitsError, label, count)
        for label, money in (
            ("max_cost_per_hour", self.max_cost_per_hour),
            ("max_cost_per_day", self.max_cost_per_day),
            ("max_cost_per_month", self.max_cost_per_month),
        ):
            if money is not None:
                require_money(InvalidLimitsError, label, money)
        require_number(InvalidLimitsError, "scale_up_stabilization_seconds", self.scale_up_stabilization_seconds)
        require_number(InvalidLimitsError, "scale_down_stabilization_seconds", self.scale_down_stabilization_seconds)


@dataclass(frozen=True, slots=True)
class FleetSnapshot:
    """Everything a decision depends on, observed at one moment.

    `decision_period_seconds` is the longest time until the next decision (g); the caller also decides on events.
    """

    now_seconds: float
    pools: tuple[Pool, ...]
    jobs: tuple[Job, ...] = ()
    workers: tuple[Worker, ...] = ()
    observations: tuple[PoolObservation, ...] = ()
    limits: Limits = field(default_factory=Limits)
    decision_period_seconds: float = 60.0
    previous_now_seconds: float | None = None  # of the previous decision, to notice a clock that went back
    strategy: StrategyName = StrategyName.ELASTIC_AUTO
    memory: FleetMemory = field(default_factory=FleetMemory)  # of the previous decision

    def __post_init__(self) -> None:
        require_number(ScalingInputError, "now_seconds", self.now_seconds, at_least=-inf)
        require_number(ScalingInputError, "decision_period_seconds", self.decision_period_seconds)
        if self.previous_now_seconds is not None and self.now_seconds < self.previous_now_seconds:
            raise ClockWentBackwardsError(
                f"now {self.now_seconds} lies before the previous decision at {self.previous_now_seconds}"
            )
        if not self.pools:
            raise EmptyPoolsError("the policy has no pool: add at least one entry under spec.pools")
        self._require_consistent_names()

    def _require_consistent_names(self) -> None:
        pools = {pool.name for pool in self.pools}
        jobs = {job.name for job in self.jobs}
        if len(pools) != len(self.pools):
            raise InvalidPoolError("two pools have the same name")
        if len(jobs) != len(self.jobs):
            raise InvalidJobError("two jobs have the same name")
        for observation in self.observations:
            if observation.pool_name not in pools:
                raise InvalidObservationError(f"observation of unknown pool {observation.pool_name}")
        taken: set[tuple[str, int]] = set()
        for worker in self.workers:
            if worker.job_name not in jobs or worker.pool_name not in pools:
                raise InvalidWorkerError(f"worker {worker.name}: unknown job {worker.job_name} or {worker.pool_name}")
            if (worker.job_name, worker.slot) in taken:
                raise InvalidWorkerError(f"worker {worker.name}: slot {worker.slot} of {worker.job_name} is taken")
            taken.add((worker.job_name, worker.slot))


@dataclass(frozen=True, slots=True)
class PoolCount:
    """A number of workers of one pool."""

    pool_name: str
    workers: int


@dataclass(frozen=True, slots=True)
class Start:
    """A worker to create: which slot of the job, on which pool."""

    job_name: str
    slot: int
    pool_name: str


@dataclass(frozen=True, slots=True)
class JobDecision:
    """What one job should have now, and why.

    `desired` counts the workers after the decision (running ones that stay plus `starts`); `victims` are names of
    workers to delete, before `starts` are created. `slack_gpu_seconds`: guaranteed work beyond the work left.
    """

    job_name: str
    reason: str
    message: str
    admitted: bool = True
    desired: tuple[PoolCount, ...] = ()
    starts: tuple[Start, ...] = ()
    victims: tuple[str, ...] = ()
    critical: bool = False
    slack_gpu_seconds: float | None = None
    earliest_feasible_deadline_seconds: float | None = None  # named in a refusal
    best_effort: bool = False  # admitted without a guarantee for its deadline: pass it on in `Job.best_effort`

    @property
    def desired_workers(self) -> int:
        """Workers over all pools after the decision."""
        return sum(count.workers for count in self.desired)


@dataclass(frozen=True, slots=True)
class LimitHit:
    """A limit of the policy that held back workers in this decision."""

    limit: str  # field name, as in `Limits`
    workers_held_back: int
    message: str


@dataclass(frozen=True, slots=True)
class FleetDecision:
    """Decisions for all jobs of one policy, in the order of the snapshot's jobs."""

    jobs: tuple[JobDecision, ...]
    reason: str
    message: str
    next_decision_seconds: float | None = None  # decide again at the latest then, event or not
    limits_hit: tuple[LimitHit, ...] = ()
    memory: FleetMemory = field(default_factory=FleetMemory)  # for the next snapshot

    def of(self, job_name: str) -> JobDecision:
        """The decision about one job; KeyError when the job was not part of the snapshot."""
        for decision in self.jobs:
            if decision.job_name == job_name:
                return decision
        raise KeyError(job_name)
