"""Metrics: documented, named as Prometheus wants it, bounded in their labels, and true of the last pass."""

import re
from collections.abc import Iterable
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import aiohttp
from operator_states import NOW, disrupted_pod, job_state, manifest, planned, policy, pool, progress, worker
from prometheus_client import Metric, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from small_api_server import small_server

from evalfleet.controller.controller import Controller
from evalfleet.controller.http import serve
from evalfleet.controller.metrics import Telemetry
from evalfleet.controller.settings import Settings
from evalfleet.kube.resources import Key
from evalfleet.reconcile.children import Phase
from evalfleet.reconcile.job.state import JobState
from evalfleet.reconcile.policy.figures import Transitions, figures, transitions
from evalfleet.reconcile.policy.pool_history import PoolHistories, follow
from evalfleet.reconcile.policy.pools import core_pool
from evalfleet.reconcile.policy.state import PolicyState
from evalfleet_scaling.fleet import decide_fleet
from evalfleet_scaling.spend import HOUR_MS, SpendLedger, Total

PAGE = Path(__file__).parents[2] / "docs" / "operator.md"
KEY = Key("ScalingPolicy", "ns", "default")
POLICY = policy(pool("spot"), pool("steady", "OnDemand"), currency="EUR")
BOUNDED = {
    *("namespace", "policy", "pool", "state", "period", "currency", "controller", "result", "kind"),
    *("type", "status", "reason", "version", "le"),
}


def shown(telemetry: Telemetry) -> dict[str, Metric]:
    """What a scraper reads."""
    return {
        family.name: family for family in text_string_to_metric_families(generate_latest(telemetry.registry).decode())
    }


def value(telemetry: Telemetry, name: str, **labels: str) -> float | None:
    place = {"namespace": "ns", "policy": "default"}
    return telemetry.registry.get_sample_value(f"evalfleet_{name}", {**place, **labels})


def gpu(percent: float | None, memory: int | None, **changes: Any) -> Any:
    return replace(progress(1, rate=5.0), gpu_utilization_percent=percent, gpu_memory_bytes=memory, **changes)


def told(*jobs: JobState, **changes: Any) -> Telemetry:
    """Telemetry after a pass over jobs of the policy."""
    telemetry = Telemetry("1")
    named = {f"uid-{number}": job for number, job in enumerate(jobs)}
    telemetry.policies.figures[KEY] = figures(PolicyState(NOW, POLICY, named, **changes))
    return telemetry


def test_every_metric_is_documented_and_every_documented_one_exists() -> None:
    telemetry = told(job_state(planned(workers=(worker(progress=gpu(50.0, 2**30)),))))
    telemetry.count(KEY, Transitions((("spot", 1.0),), (("spot", 1.0),), ("spot",)))
    exported = {name + ("_total" if family.type == "counter" else "") for name, family in shown(telemetry).items()}
    documented = set(re.findall(r"^\| `((?:evalfleet|process)_\w+)`", PAGE.read_text("utf-8"), re.MULTILINE))
    assert {name for name in exported if name.startswith("evalfleet_")} == {
        name for name in documented if name.startswith("evalfleet_")
    }


def test_the_documented_labels_are_the_exported_ones() -> None:
    telemetry = told(job_state(planned(workers=(worker(progress=gpu(50.0, 2**30)),))))
    rows = re.findall(r"^\| `(evalfleet_\w+)` \| ([^|]*) \|", PAGE.read_text("utf-8"), re.MULTILINE)
    documented = {name: set(re.findall(r"`(\w+)`", labels)) for name, labels in rows}
    for family in shown(telemetry).values():
        for sample in family.samples:
            if sample.name in documented:
                assert set(sample.labels) == documented[sample.name], sample.name


def test_names_have_base_units_and_labels_are_bounded() -> None:
    telemetry = told(job_state(planned(workers=(worker(progress=gpu(50.0, 2**30)),))))
    for name, family in shown(telemetry).items():
        assert re.fullmatch(r"(evalfleet|process)_[a-z_]+", name)
        assert not re.search(r"(percent|milli|minutes|hours|_kb|_mb|_gb)", name)
        assert family.documentation
        assert family.type in ("counter", "gauge", "histogram")
        assert set[str]().union(*(sample.labels for sample in family.samples)) <= BOUNDED


def test_gpus_of_a_pool_are_told_as_mean_and_sum() -> None:
    workers = (
        worker(0, progress=gpu(90.0, 10)),
        worker(1, progress=gpu(30.0, 20)),
        worker(2, pool_name="steady", progress=gpu(None, None)),
    )
    telemetry = told(job_state(planned(workers=workers)))
    assert value(telemetry, "gpu_utilization_ratio", pool="spot") == 0.6
    assert value(telemetry, "gpu_memory_used_bytes", pool="spot") == 30
    assert value(telemetry, "gpu_workers", pool="spot") == 2
    assert value(telemetry, "gpu_workers", pool="steady") == 0
    assert value(telemetry, "gpu_utilization_ratio", pool="steady") is None  # nobody knows: not zero
    assert value(telemetry, "requests_per_second") == 15


def test_what_a_worker_reports_is_bounded() -> None:
    absurd = gpu(-5e300, 10**400, tokens_per_second=1e308, requests_per_second=-1.0)
    telemetry = told(job_state(planned(workers=(worker(0, progress=absurd), worker(1, progress=absurd)))))
    assert value(telemetry, "gpu_utilization_ratio", pool="spot") == 0
    assert value(telemetry, "gpu_memory_used_bytes", pool="spot") == 2.0**54
    assert (value(telemetry, "tokens_per_second"), value(telemetry, "requests_per_second")) == (2.0**54, 0)


def test_jobs_workers_and_money_of_a_policy() -> None:
    risky = planned(workers=(worker(0), worker(1, phase=Phase.WAITING)))
    risky["status"]["conditions"].append({"type": "OnTime", "status": "False", "reason": "R", "message": ""})
    ledger = SpendLedger(months={"2026-01": Total(Decimal("2.5") * HOUR_MS, Decimal(5) * HOUR_MS)})
    telemetry = told(job_state(risky), job_state(), ledger=ledger)
    assert [value(telemetry, "jobs", state=state) for state in ("queued", "admitted", "running")] == [1, 0, 1]
    assert [value(telemetry, "workers", pool="spot", state=state) for state in ("starting", "ready")] == [1, 1]
    assert value(telemetry, "jobs_at_risk") == 1
    assert value(telemetry, "spent", currency="EUR", period="month") == 2.5


def test_waits_for_nodes_and_for_the_first_batch_are_observed_once_and_a_lost_machine_is_counted() -> None:
    later = NOW + timedelta(seconds=40)
    bound = {"metadata": {"name": "p", "uid": "p"}, "spec": {"nodeName": "n"}, "status": {}}
    scores = progress(1)
    stages: Iterable[Any] = (
        (worker(0, phase=Phase.WAITING), Transitions()),
        (worker(0, phase=Phase.WAITING, pod=bound), Transitions(provisioned=(("spot", 40.0),))),
        (worker(0, pod=bound, progress=scores), Transitions(started=(("spot", 40.0),))),
        (worker(0, pod=bound, progress=scores), Transitions()),
        (
            worker(0, pod={**disrupted_pod(), "spec": {"nodeName": "n"}}),
            Transitions(preempted=("spot",)),
        ),
    )
    seen = PoolHistories()
    for view, expected in stages:
        now = PolicyState(later, POLICY, {"uid-1": job_state(planned(workers=(view,)))}, pool_histories=seen)
        seen = follow(seen, tuple(map(core_pool, now.pools)), now.jobs, later)
        assert transitions(now, seen) == expected


async def test_a_pass_of_a_policy_sets_its_metrics_and_one_that_is_gone_leaves_none() -> None:
    async with small_server() as (server, kube):
        controller = Controller(kube, Settings(), Telemetry("test"), decide_fleet)
        body = server.put("/apis/evalfleet.io/v1alpha1/namespaces/ns/evaluationjobs", manifest())
        controller.router.deliver("EvaluationJob", "ADDED", body)
        await controller.reconcile(KEY)
        assert value(controller.telemetry, "jobs", state="queued") == 1
        controller.router.deliver("EvaluationJob", "DELETED", body)
        await controller.reconcile(KEY)
        assert value(controller.telemetry, "jobs", state="queued") is None


async def test_the_endpoint_answers_in_the_format_that_scrapers_know() -> None:
    telemetry = told()
    http = await serve("127.0.0.1:0", telemetry.registry, lambda: "", lambda: "")
    host, port = http.addresses[0][:2]
    async with aiohttp.ClientSession() as session, session.get(f"http://{host}:{port}/metrics") as answer:
        text = await answer.text()
        assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    await http.cleanup()
    assert "evalfleet_leader 0.0" in text
    assert "process_resident_memory_bytes" in text
