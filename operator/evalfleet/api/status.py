"""Status of both kinds: every field optional and rebuildable, conditions first."""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from evalfleet.api.wire import WireModel

Text = Annotated[str, StringConstraints(max_length=1024)]
Time = Annotated[str, StringConstraints(max_length=64), Field(json_schema_extra={"format": "date-time"})]
Decimal = Annotated[str, StringConstraints(max_length=32)]
Count = Annotated[int, Field(ge=0, le=9_007_199_254_740_991)]

ObservedGeneration = Annotated[int, Field(ge=-1, le=9_007_199_254_740_991)]
"""-1 until the operator has seen the object, so that kstatus does not take a fresh object for a finished one."""


class Condition(WireModel):
    """A condition as in metav1.Condition."""

    type: Annotated[str, StringConstraints(max_length=316)]
    """type of the condition in CamelCase."""
    status: Literal["True", "False", "Unknown"]
    """status of the condition."""
    reason: Annotated[str, StringConstraints(min_length=1, max_length=1024)]
    """reason in CamelCase for machines."""
    message: Annotated[str, StringConstraints(max_length=32768)]
    """message for people."""
    last_transition_time: Time
    """lastTransitionTime: when status last changed."""
    observed_generation: Count | None = None
    """observedGeneration that the condition speaks of."""


Conditions = Annotated[
    list[Condition],
    Field(
        max_length=16,
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
    ),
]


class PlanStatus(WireModel):
    """The size of the evaluation, known before a GPU exists."""

    requests: Count | None = None
    """requests to score."""
    tokens: Count | None = None
    """tokens in all requests."""
    cached_requests: Count | None = None
    """cachedRequests answered without a GPU."""
    units: Count | None = None
    """units of work."""
    samples: Count | None = None
    """samples (documents) planned."""
    gpu_seconds: Count | None = None
    """gpuSeconds predicted."""
    gpu_memory_bytes: Count | None = None
    """gpuMemoryBytes predicted for one worker."""
    model_digest: Text | None = None
    """modelDigest of weights and configuration."""
    image: Text | None = None
    """image that planned the run, by its digest: later pods use it. Unset: the runtime named no digest."""


class ProgressStatus(WireModel):
    """How far the evaluation is."""

    percent: Annotated[int, Field(ge=0, le=100)] | None = None
    """percent of requests scored."""
    units_total: Count | None = None
    """unitsTotal planned."""
    units_done: Count | None = None
    """unitsDone committed."""
    requests_per_second: Decimal | None = None
    """requestsPerSecond of all workers, measured."""
    estimated_completion_time: Time | None = None
    """estimatedCompletionTime, median."""
    estimated_low: Time | None = None
    """estimatedLow: 10 % quantile of the completion time."""
    estimated_high: Time | None = None
    """estimatedHigh: 90 % quantile of the completion time."""


class WorkersStatus(WireModel):
    """Workers now."""

    desired: Count | None = None
    """desired by the plan."""
    ready: Count | None = None
    """ready and scoring."""
    spot: Count | None = None
    """spot workers among them."""
    on_demand: Count | None = None
    """onDemand workers among them."""
    preemptions: Count | None = None
    """preemptions seen: reclaimed workers, never failures."""


class FailedWorker(WireModel):
    """A worker Job whose failures are in the count."""

    uid: Annotated[str, StringConstraints(max_length=64)]
    """uid of the Job."""
    count: Count
    """count of its failed pods so far."""


class JobWorkersStatus(WorkersStatus):
    """Workers of one job."""

    failures: Count | None = None
    """failures of workers so far, compared with backoffLimit; also of workers that are gone."""
    preempted: Annotated[list[Annotated[str, StringConstraints(max_length=8)]], Field(max_length=1024)] | None = None
    """preempted: the operator's own bookkeeping, of pods by the first eight digits of their uid; see preemptions."""
    failed: Annotated[list[FailedWorker], Field(max_length=128)] | None = None
    """failed: the operator's own bookkeeping, of worker Jobs that still exist; see failures."""


class CostStatus(WireModel):
    """Money."""

    spent: Decimal | None = None
    """spent so far."""
    projected: Decimal | None = None
    """projected at completion."""
    on_demand_equivalent: Decimal | None = None
    """onDemandEquivalent: the scored worker time at on-demand price."""
    currency: Decimal | None = None
    """currency of the amounts."""


class TimeStatus(WireModel):
    """Where the time went."""

    queue_seconds: Count | None = None
    """queueSeconds from creation to admission."""
    suspended_seconds: Count | None = None
    """suspendedSeconds up to the last resumption."""
    provisioning_seconds: Count | None = None
    """provisioningSeconds that workers waited for nodes, summed."""
    provisioned_until: Time | None = None
    """provisionedUntil: the operator's own bookkeeping; bindings to nodes up to it are in provisioningSeconds."""
    model_load_seconds: Count | None = None
    """modelLoadSeconds, summed over workers."""
    scoring_seconds: Count | None = None
    """scoringSeconds, summed over workers."""
    wasted_gpu_seconds: Count | None = None
    """wastedGpuSeconds: work that was lost or done twice."""


class ResultStatus(WireModel):
    """One published number with its uncertainty."""

    evaluation: Text
    """evaluation the number belongs to."""
    task: Text | None = None
    """task or group of the evaluation."""
    metric: Text
    """metric name as the harness gives it."""
    filter: Text | None = None
    """filter of the answers that the metric was computed of."""
    value: Decimal
    """value as a decimal string."""
    standard_error: Decimal | None = None
    """standardError of the value."""
    low: Decimal | None = None
    """low end of the 95 % interval."""
    high: Decimal | None = None
    """high end of the 95 % interval."""
    n: Count | None = None
    """n samples."""
    method: Text | None = None
    """method of the interval."""


class SamplesStatus(WireModel):
    """The proof: what was planned and what was counted."""

    planned: Count | None = None
    """planned samples."""
    scored: Count | None = None
    """scored samples."""
    executed_twice: Count | None = None
    """executedTwice requests, compared with each other."""
    mismatched: Count | None = None
    """mismatched among them."""


class EvaluationJobStatus(WireModel):
    """What the operator has observed; every field can be rebuilt."""

    state: Annotated[str, StringConstraints(max_length=64)] | None = None
    """state in a word or two, for people: what is done or waited for; programs read conditions."""
    conditions: Conditions | None = None
    """conditions by type; Succeeded True or False is terminal."""
    observed_generation: ObservedGeneration | None = None
    """observedGeneration of the spec that the status speaks of; -1 before the operator has seen it."""
    policy_gone_time: Time | None = None
    """policyGoneTime: since when the run misses the policy that it began under; what runs goes on for ten minutes."""
    start_time: Time | None = None
    """startTime: when the job was accepted."""
    deadline_time: Time | None = None
    """deadlineTime that holds: the job's, or counted from creation without suspended time."""
    plan: PlanStatus | None = None
    """plan: the size of the evaluation."""
    progress: ProgressStatus | None = None
    """progress of the run."""
    workers: JobWorkersStatus | None = None
    """workers now."""
    cost: CostStatus | None = None
    """cost so far and projected."""
    time: TimeStatus | None = None
    """where the time of the run went."""
    samples: SamplesStatus | None = None
    """samples planned and scored."""
    results: Annotated[list[ResultStatus], Field(max_length=64)] | None = None
    """results, groups first, up to 64; all of them lie at resultsUri."""
    results_truncated: Count | None = None
    """resultsTruncated: how many results are not shown here."""
    results_uri: Text | None = None
    """resultsUri of the full results."""
    completion_time: Time | None = None
    """completionTime of the job."""


class PolicyJobsStatus(WireModel):
    """Jobs of the policy by state."""

    queued: Count | None = None
    """queued jobs: planned or planning, not admitted."""
    admitted: Count | None = None
    """admitted jobs."""
    running: Count | None = None
    """running jobs."""


class PoolStatus(WireModel):
    """What was observed of a pool."""

    name: Text
    """name of the pool."""
    workers: Count | None = None
    """workers on it now."""
    ready: Count | None = None
    """ready workers on it now."""
    interruptions: Count | None = None
    """interruptions seen since the operator started."""
    startup_seconds_p50: Count | None = None
    """startupSecondsP50 measured."""
    cool_down_until: Time | None = None
    """coolDownUntil after failed launches."""


class PolicyCostStatus(WireModel):
    """Money of the policy."""

    spent_hour: Decimal | None = None
    """spentHour: in the running UTC hour."""
    spent_day: Decimal | None = None
    """spentDay: in the running UTC day."""
    spent_month: Decimal | None = None
    """spentMonth: in the running UTC month."""
    saved_versus_on_demand: Decimal | None = None
    """savedVersusOnDemand in the running UTC month."""


class LastDecision(WireModel):
    """The last change of the fleet, explained."""

    time: Time | None = None
    """time of the decision."""
    reason: Text | None = None
    """reason in CamelCase."""
    message: Text | None = None
    """message for people."""


class ScalingPolicyStatus(WireModel):
    """What the operator has observed of a policy; every field can be rebuilt."""

    state: Annotated[str, StringConstraints(max_length=64)] | None = None
    """state in a word or two, for people: what is done or waited for; programs read conditions."""
    conditions: Conditions | None = None
    """conditions by type: Ready, ScalingActive, AbleToScale, ScalingLimited."""
    observed_generation: ObservedGeneration | None = None
    """observedGeneration of the spec that the status speaks of; -1 before the operator has seen it."""
    jobs: PolicyJobsStatus | None = None
    """jobs of the policy by state."""
    workers: WorkersStatus | None = None
    """workers of all jobs now."""
    pools: Annotated[list[PoolStatus], Field(max_length=32)] | None = None
    """pools as observed."""
    cost: PolicyCostStatus | None = None
    """cost of the policy."""
    last_decision: LastDecision | None = None
    """lastDecision with its reason."""
