"""Metrics, liveness and readiness of the operator on one small HTTP server."""

from collections.abc import Callable

from aiohttp import web
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

LATENCY_BUCKETS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Telemetry:
    """All metrics of one operator process; names as controller-runtime has them where it has any."""

    def __init__(self, version: str) -> None:
        self.registry = CollectorRegistry()
        labels = ["controller"]
        self.reconciles = Counter(
            "evalfleet_reconcile", "Reconciliations by result.", [*labels, "result"], registry=self.registry
        )
        self.reconcile_seconds = Histogram(
            "evalfleet_reconcile_duration_seconds",
            "Seconds of one reconciliation.",
            labels,
            buckets=LATENCY_BUCKETS,
            registry=self.registry,
        )
        self.queue_depth = Gauge("evalfleet_workqueue_depth", "Keys that wait.", registry=self.registry)
        self.workers = Gauge("evalfleet_workers", "Live workers.", ["namespace", "policy"], registry=self.registry)
        self.jobs = Gauge(
            "evalfleet_jobs", "EvaluationJobs that are not terminal.", ["namespace"], registry=self.registry
        )
        self.worker_starts = Counter(
            "evalfleet_worker_starts", "Worker Jobs created.", ["pool"], registry=self.registry
        )
        self.worker_stops = Counter("evalfleet_worker_stops", "Worker Jobs deleted.", registry=self.registry)
        self.watch_events = Counter(
            "evalfleet_watch_events", "Events received from the API server.", ["kind"], registry=self.registry
        )
        self.status_writes = Counter("evalfleet_status_writes", "Status patches written.", registry=self.registry)
        self.condition_changes = Counter(
            "evalfleet_condition_changes",
            "Conditions of EvaluationJobs that changed.",
            ["type", "status", "reason"],
            registry=self.registry,
        )
        self.leader = Gauge("evalfleet_leader", "1 while this process leads.", registry=self.registry)
        Gauge("evalfleet_build_info", "Version of the operator.", ["version"], registry=self.registry).labels(
            version
        ).set(1)


async def serve(
    address: str, telemetry: Telemetry, why_not_alive: Callable[[], str], why_not_ready: Callable[[], str]
) -> web.AppRunner:
    """Serve /metrics, /healthz and /readyz on HOST:PORT until `cleanup()` of the returned runner.

    The two functions say what is wrong, and nothing when all is well.
    """

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(body=generate_latest(telemetry.registry), content_type="text/plain", charset="utf-8")

    async def health(_: web.Request) -> web.Response:
        return _verdict(why_not_alive())

    async def readiness(_: web.Request) -> web.Response:
        return _verdict(why_not_ready())

    app = web.Application()
    app.add_routes([web.get("/metrics", metrics), web.get("/healthz", health), web.get("/readyz", readiness)])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    host, _, port = address.rpartition(":")
    await web.TCPSite(runner, host, int(port)).start()
    return runner


def _verdict(problem: str) -> web.Response:
    return web.Response(text=problem or "ok", status=503 if problem else 200)
