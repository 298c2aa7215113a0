"""ScalingPolicy: node pools, prices, limits and behaviour for the evaluations of one namespace."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, StringConstraints, field_validator

from evalfleet.api.evaluationjob import LabelMap, ObjectMeta, ShortText, Store, Toleration, Worker
from evalfleet.api.status import ScalingPolicyStatus
from evalfleet.api.wire import (
    API_VERSION,
    Money,
    Name,
    NonNegativeInt,
    PositiveInt,
    Rule,
    WireModel,
    distinct_names,
)

WorkerCount = Annotated[int, Field(ge=0, le=1000)]
Prefix = Annotated[str, StringConstraints(min_length=1, max_length=512)]


class Accelerator(WireModel):
    """What one worker of the pool occupies."""

    resource_name: Annotated[str, StringConstraints(pattern=r"^[a-z0-9.-]+/[a-z0-9.-]+$", max_length=253)] | None = None
    """resourceName of the extended resource, for example nvidia.com/gpu. Unset: nvidia.com/gpu, or none if Local."""
    count_per_worker: Annotated[int, Field(ge=1, le=16)] = 1
    """countPerWorker of the resource. Default 1."""
    product: ShortText | None = None
    """product name shown to people (nodeSelector decides), for example NVIDIA-H100-80GB-HBM3. Unset: unknown."""


class NodePool(WireModel):
    """One kind of node that workers may run on."""

    name: Name
    """name of the pool, shown in status, events and metrics."""
    capacity_type: Literal["Spot", "OnDemand", "Reserved", "Local"]
    """capacityType: Spot may be reclaimed at any time; OnDemand, Reserved and Local stay."""
    node_selector: LabelMap
    """nodeSelector that picks the pool's nodes."""
    price_per_hour: Money
    """pricePerHour of one worker, a decimal string such as "3.20"; "0" where it is paid already."""
    max_workers: WorkerCount
    """maxWorkers of the pool at a time: its quota."""
    tolerations: Annotated[list[Toleration], Field(max_length=16)] | None = None
    """tolerations of the pool's taints. Unset: none."""
    zone: ShortText | None = None
    """zone of the pool, shown to people; nodeSelector decides. Unset: unknown."""
    accelerator: Accelerator | None = None
    """accelerator one worker occupies. Unset: one nvidia.com/gpu, or nothing if Local."""
    expected_startup_seconds: Annotated[int, Field(ge=1, le=7200)] = 300
    """expectedStartupSeconds from creation to the first batch, until it is measured. Default 300."""
    priority: Annotated[int, Field(ge=-1000, le=1000)] = 0
    """priority among pools of equal price, higher first. Default 0."""


class Limits(WireModel):
    """What all evaluations of the policy may use together."""

    max_workers: WorkerCount | None = None
    """maxWorkers of all jobs at a time. Unset: the sum over the pools."""
    max_cost_per_hour: Money | None = None
    """maxCostPerHour in currency. Unset: no limit."""
    max_cost_per_day: Money | None = None
    """maxCostPerDay in currency, UTC days. Unset: no limit."""
    max_cost_per_month: Money | None = None
    """maxCostPerMonth in currency, UTC months. Unset: no limit."""


class PolicySla(WireModel):
    """Defaults for jobs that do not say otherwise."""

    default_completion_seconds: PositiveInt | None = None
    """defaultCompletionSeconds from creation to results. Unset: no deadline."""
    default_queue_wait_seconds: NonNegativeInt | None = None
    """defaultQueueWaitSeconds to the first ready worker. Unset: no promise."""
    on_infeasible: Literal["Reject", "RunAnyway"] = "Reject"
    """onInfeasible: what to do when a deadline cannot be met. Default Reject."""
    confidence_percent: Annotated[int, Field(ge=50, le=99)] = 90
    """confidencePercent: from this probability on a job's OnTime is True; below 50 it is False. Default 90."""


class ScaleUp(WireModel):
    """How fast workers are added."""

    max_workers_per_minute: Annotated[int, Field(ge=1, le=10000)] = 600
    """maxWorkersPerMinute started by the policy. Default 600."""


class ScaleDown(WireModel):
    """How slowly workers are removed."""

    stabilization_window_seconds: Annotated[int, Field(ge=0, le=3600)] = 60
    """stabilizationWindowSeconds a lower number must hold before workers go. Default 60."""


class Security(WireModel):
    """What jobs of this namespace may do; each key needs the job's own as well."""

    allow_remote_code: bool = False
    """allowRemoteCode: permit code shipped with models. Default false."""
    allow_unsafe_code: bool = False
    """allowUnsafeCode: permit python evaluations and metrics that execute model output. Default false."""
    allowed_images: Annotated[list[Prefix], Field(max_length=64)] | None = None
    """allowedImages of workers: registry, part of a repository's path, tag or digest. Unset: any."""
    allowed_model_uri_prefixes: Annotated[list[Prefix], Field(max_length=64)] | None = None
    """allowedModelUriPrefixes of model.uri and tokenizerUri; each ends at a separator. Unset: any."""
    allowed_data_uri_prefixes: Annotated[list[Prefix], Field(max_length=64)] | None = None
    """allowedDataUriPrefixes of data.uri. Unset: allowedModelUriPrefixes."""
    allowed_store_uri_prefixes: Annotated[list[Prefix], Field(max_length=64)] | None = None
    """allowedStoreUriPrefixes of store.uri beside the policy's own. Unset: allowedModelUriPrefixes."""
    allowed_endpoints: Annotated[list[Prefix], Field(max_length=64)] | None = None
    """allowedEndpoints that variables of jobs name, as HF_ENDPOINT. Unset: none where models are listed, else any."""


class ScalingPolicySpec(WireModel):
    """Where evaluations run, what they may cost, and how capacity follows demand."""

    pools: Annotated[list[NodePool], Field(min_length=1, max_length=32)] = Field(
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]}
    )
    """pools of nodes, 1 to 32, by name."""
    strategy: Literal["ElasticAuto", "UniformProgress", "Utility", "OnDemandOnly", "SpotOnly"] = "ElasticAuto"
    """strategy of the spot and on-demand mix. Default ElasticAuto: spot while the deadline allows, then on-demand."""
    currency: Annotated[str, StringConstraints(pattern=r"^[A-Z]{3}$", max_length=3)] = "USD"
    """currency of all prices and limits. Default USD."""
    limits: Limits | None = None
    """limits of all jobs together. Unset: the pools' own."""
    sla: PolicySla | None = None
    """sla defaults for the jobs. Unset: none."""
    scale_up: ScaleUp | None = None
    """scaleUp behaviour. Unset: defaults."""
    scale_down: ScaleDown | None = None
    """scaleDown behaviour. Unset: defaults."""
    store: Store | None = None
    """store default for the jobs. Unset: each job names its own."""
    worker: Worker | None = None
    """worker defaults for the jobs. Unset: the operator's."""
    queue_name: Name | None = None
    """queueName of a Kueue LocalQueue that the workers are submitted to. Unset: none."""
    security: Security | None = None
    """security: what jobs may do. Unset: the safe defaults."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            cel="self.strategy != 'OnDemandOnly' || self.pools.exists(p, p.capacityType != 'Spot')",
            message="strategy OnDemandOnly needs a pool that is not Spot",
            holds=lambda spec: spec.strategy != "OnDemandOnly" or any(p.capacity_type != "Spot" for p in spec.pools),
        ),
        Rule(
            cel="self.strategy != 'SpotOnly' || self.pools.exists(p, p.capacityType == 'Spot')",
            message="strategy SpotOnly needs a Spot pool",
            holds=lambda spec: spec.strategy != "SpotOnly" or any(p.capacity_type == "Spot" for p in spec.pools),
        ),
    )

    @field_validator("pools")
    @classmethod
    def _distinct(cls, pools: list[NodePool]) -> list[NodePool]:
        distinct_names(pools, "pools")
        return pools


class ScalingPolicy(WireModel):
    """Node pools, prices, limits and behaviour for the evaluations of its namespace."""

    api_version: Literal["evalfleet.io/v1alpha1"] = API_VERSION
    kind: Literal["ScalingPolicy"] = "ScalingPolicy"
    metadata: ObjectMeta
    spec: ScalingPolicySpec
    status: ScalingPolicyStatus | None = None
