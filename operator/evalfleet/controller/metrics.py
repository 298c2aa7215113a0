"""Metrics of one operator process, listed in docs/operator.md: of policies and pools, never of one job."""

from collections.abc import Iterable, Mapping
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, disable_created_metrics
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from evalfleet.kube.resources import Key
from evalfleet.reconcile.policy.figures import PolicyFigures, PoolFigures, Transitions

LATENCY_BUCKETS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
WAIT_BUCKETS = (1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1200.0, 1800.0, 3600.0)
POLICY = ("namespace", "policy")
POOL = (*POLICY, "pool")


class Telemetry:
    """All metrics of one operator process, and their registry."""

    def __init__(self, version: str) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series for every counter, of no use here
        self.registry = CollectorRegistry()
        self.reconciles = self._counter("reconcile", "Reconciliations by result.", "controller", "result")
        self.reconcile_seconds = self._histogram(
            "reconcile_duration_seconds", "Seconds of one reconciliation.", LATENCY_BUCKETS, "controller"
        )
        self.queue_depth = self._gauge("workqueue_depth", "Keys that wait.")
        self.watch_events = self._counter("watch_events", "Events received from the API server.", "kind")
        self.status_writes = self._counter("status_writes", "Status patches written.")
        self.condition_changes = self._counter(
            "condition_changes", "Conditions that changed.", "type", "status", "reason"
        )
        self.worker_starts = self._counter("worker_starts", "Worker Jobs created.", *POOL)
        self.child_deletions = self._counter("child_deletions", "Jobs of plan, workers and finish deleted.")
        self.preemptions = self._counter("worker_preemptions", "Workers whose machine was taken away.", *POOL)
        self.clocks_ahead = self._counter(
            "node_clock_ahead", "Worker pods whose node wrote times after the API server's.", *POLICY
        )
        self.queue_seconds = self._histogram(
            "job_queue_seconds",
            "Seconds from creation of an EvaluationJob to its first admission.",
            WAIT_BUCKETS,
            *POLICY,
        )
        self.provisioning_seconds = self._histogram(
            "worker_provisioning_seconds", "Seconds from creation of a worker to a node.", WAIT_BUCKETS, *POOL
        )
        self.startup_seconds = self._histogram(
            "worker_startup_seconds", "Seconds from creation of a worker to its first scoring.", WAIT_BUCKETS, *POOL
        )
        self.forbidden_namespaces = self._gauge(
            "forbidden_namespace", "1 for a namespace to be served that the API server does not permit.", "namespace"
        )
        self.leader = self._gauge("leader", "1 while this process leads.")
        self._gauge("build_info", "Version of the operator.", "version").labels(version).set(1)
        self.policies = PolicyMetrics()
        self.registry.register(self.policies)
        ProcessCollector(registry=self.registry)

    def count(self, policy: Key, changes: Transitions) -> None:
        """Count what happened to workers of a policy."""
        place = (policy.namespace, policy.name)
        for pool, seconds in changes.provisioned:
            self.provisioning_seconds.labels(*place, pool).observe(seconds)
        for pool, seconds in changes.started:
            self.startup_seconds.labels(*place, pool).observe(seconds)
        for pool in changes.preempted:
            self.preemptions.labels(*place, pool).inc()

    def _counter(self, name: str, documentation: str, *labels: str) -> Counter:
        return Counter(f"evalfleet_{name}", documentation, labels, registry=self.registry)

    def _gauge(self, name: str, documentation: str, *labels: str) -> Gauge:
        return Gauge(f"evalfleet_{name}", documentation, labels, registry=self.registry)

    def _histogram(self, name: str, documentation: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
        return Histogram(f"evalfleet_{name}", documentation, labels, buckets=buckets, registry=self.registry)


class PolicyMetrics(Collector):
    """Gauges of all policies from the figures of their last passes: a pool that is gone leaves no value behind."""

    def __init__(self) -> None:
        self.figures: dict[Key, PolicyFigures] = {}

    def collect(self) -> Iterable[GaugeMetricFamily]:
        """One family a figure."""
        policies = [((key.namespace, key.name), found) for key, found in list(self.figures.items())]
        pools = [((*place, name), pool) for place, found in policies for name, pool in found.pools.items()]
        jobs = {(*place, state): n for place, found in policies for state, n in found.jobs.items()}
        money = {
            (*place, found.currency, period): float(amount)
            for place, found in policies
            for period, amount in found.spent.items()
        }
        yield _family("jobs", "EvaluationJobs that have not ended.", (*POLICY, "state"), jobs)
        at_risk = {place: found.at_risk for place, found in policies}
        yield _family("jobs_at_risk", "EvaluationJobs whose deadline is in danger or missed.", POLICY, at_risk)
        requests = {place: found.requests_per_second for place, found in policies}
        yield _family("requests_per_second", "Requests scored, as workers report.", POLICY, requests)
        tokens = {place: found.tokens_per_second for place, found in policies}
        yield _family("tokens_per_second", "Tokens scored, as workers report.", POLICY, tokens)
        yield _family("spent", "Money of the running UTC period.", (*POLICY, "currency", "period"), money)
        yield from _of_pools(pools)


def _of_pools(pools: list[tuple[tuple[str, str, str], PoolFigures]]) -> Iterable[GaugeMetricFamily]:
    states = {(*place, "starting"): pool.starting for place, pool in pools}
    states |= {(*place, "ready"): pool.ready for place, pool in pools}
    yield _family("workers", "Live workers.", (*POOL, "state"), states)
    reporting = {place: pool.gpu_workers for place, pool in pools}
    yield _family("gpu_workers", "Workers that report a GPU.", POOL, reporting)
    used = {place: pool.gpu_utilization for place, pool in pools if pool.gpu_utilization is not None}
    yield _family("gpu_utilization_ratio", "Mean utilization of the workers' GPUs, 0 to 1.", POOL, used)
    memory = {place: pool.gpu_memory_bytes for place, pool in pools if pool.gpu_workers}
    yield _family("gpu_memory_used_bytes", "Memory in use on the workers' GPUs, summed.", POOL, memory)


def _family(name: str, documentation: str, labels: Iterable[str], values: Mapping[Any, float]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(f"evalfleet_{name}", documentation, labels=tuple(labels))
    for label_values, value in values.items():
        family.add_metric(label_values, value)
    return family
