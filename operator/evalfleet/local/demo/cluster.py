"""The demonstration on a local cluster: a spot node is reclaimed in the middle, the evaluation finishes anyway."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import typer
import yaml

from evalfleet.api.crd import evaluation_job_crd, scaling_policy_crd
from evalfleet.api.wire import API_VERSION
from evalfleet.cli.cluster_results import report_of
from evalfleet.cli.exits import Exit
from evalfleet.cli.output import Format, fail, print_data
from evalfleet.cli.text import condition, money, saved_percent
from evalfleet.local.cluster import LocalCluster, Pool, local_cluster
from evalfleet.local.demo.workspace import write_workspace
from evalfleet.local.run.report import print_report

POOLS = (
    Pool("spot", capacity_type="spot", count=2, max_count=2, startup_seconds=3.0),
    Pool("on-demand", capacity_type="on-demand", count=0, max_count=1, startup_seconds=3.0),
)
RECLAIM_AT_PERCENT = 20
NOTICE_SECONDS = 2.0
STARTUP_SECONDS = 20
"""Of a node and of a worker that loads the model, on two cores that others use as well."""
DEADLINE_SECONDS = 240
"""What on-demand alone can keep, with so much to spare that it is only called when spot does not come back."""
PATIENCE_SECONDS = 900.0
JOB = "grammar"


def run_cluster_demo(folder: Path, output: Format) -> None:
    """Control plane, operator, spot nodes, one of them reclaimed, results."""
    folder = folder.resolve()
    shutil.rmtree(folder, ignore_errors=True)
    begun = time.monotonic()

    def say(message: str) -> None:
        typer.echo(f"[{time.monotonic() - begun:6.1f}s] {message}", err=True)

    manifests = _manifests(folder)
    with local_cluster(pools=POOLS, folder=folder / "cluster", report=say) as cluster:
        _kubectl(cluster, "apply", "--server-side", "-f", "-", text=_yaml(evaluation_job_crd(), scaling_policy_crd()))
        _kubectl(cluster, "wait", "--for=condition=Established", "crd/evaluationjobs.evalfleet.io", "--timeout=60s")
        _kubectl(cluster, "create", "namespace", "evalfleet-system")
        with _operator(cluster, folder):
            say("the operator is running; kubectl apply -f policy.yaml -f grammar.yaml")
            _kubectl(cluster, "apply", "-f", str(manifests))
            status = _watch(cluster, say)
    _show(status, output)


def _manifests(folder: Path) -> Path:
    """The job of the local demonstration with absolute places, and a policy with the cluster's pools."""
    job = yaml.safe_load(write_workspace(folder / "data").read_text("utf-8"))
    job["spec"]["data"]["uri"] = f"file://{folder / 'data'}"
    job["spec"]["sla"] = {"completionSeconds": DEADLINE_SECONDS, "onInfeasible": "RunAnyway"}
    prices = {"spot": ("Spot", "1.00"), "on-demand": ("OnDemand", "3.20")}
    pools = [
        {
            "name": pool.name,
            "capacityType": prices[pool.name][0],
            "nodeSelector": {"karpenter.sh/nodepool": pool.name},
            "pricePerHour": prices[pool.name][1],
            "maxWorkers": pool.limit,
            "expectedStartupSeconds": STARTUP_SECONDS,
        }
        for pool in POOLS
    ]
    spec = {"pools": pools, "store": {"uri": f"file://{folder / 'store'}"}}
    policy = {"apiVersion": API_VERSION, "kind": "ScalingPolicy", "metadata": {"name": "default"}, "spec": spec}
    path = folder / "manifests.yaml"
    path.write_text(_yaml(policy, job), "utf-8")
    return path


@contextmanager
def _operator(cluster: LocalCluster, folder: Path) -> Iterator[None]:
    environment = {
        **os.environ,
        "KUBECONFIG": str(cluster.kubeconfig),
        "EVALFLEET_ALLOW_FILE_URIS": "true",
        "EVALFLEET_SIMULATED_GPUS": "true",
        "EVALFLEET_HOST_CACHE": str(Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "evalfleet"),
        "EVALFLEET_HTTP_ADDRESS": "127.0.0.1:0",
    }
    with (folder / "operator.log").open("wb") as log:
        argv = [sys.executable, "-m", "evalfleet.cli.main", "operator"]
        process = subprocess.Popen(argv, env=environment, stdout=log, stderr=log)
        try:
            yield
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()


def _watch(cluster: LocalCluster, say: Any) -> dict[str, Any]:
    """Tell what the status says until the job ends; reclaim the node of a scoring spot worker on the way."""
    shown, reclaimed, deadline = "", False, time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        status: dict[str, Any] = json.loads(_kubectl(cluster, "get", "evj", JOB, "-o", "json")).get("status") or {}
        conditions = {c["type"]: c for c in status.get("conditions") or []}
        message = str(conditions.get("Ready", {}).get("message", ""))
        if message and message != shown:
            shown = message
            say(message)
        if conditions.get("Succeeded", {}).get("status") in ("True", "False"):
            return status
        percent = (status.get("progress") or {}).get("percent", 0)
        if not reclaimed and percent >= RECLAIM_AT_PERCENT and (node := _spot_node(cluster)):
            reclaimed = True
            say(f"demonstration: the provider reclaims {node} with {NOTICE_SECONDS:.0f} s notice")
            cluster.reclaim(node, notice_seconds=NOTICE_SECONDS)
        time.sleep(0.5)
    return fail(f"the demonstration did not end within {PATIENCE_SECONDS:.0f} s: {shown}", Exit.CANNOT_SUCCEED)


def _spot_node(cluster: LocalCluster) -> str | None:
    """A spot node with a running worker."""
    selector = "evalfleet.io/role=work,evalfleet.io/capacity-type=Spot"
    pods = json.loads(_kubectl(cluster, "get", "pods", "-l", selector, "-o", "json"))["items"]
    running = [pod["spec"]["nodeName"] for pod in pods if pod["status"].get("phase") == "Running"]
    return running[0] if running else None


def _show(status: dict[str, Any], output: Format) -> None:
    if not status.get("results"):
        fail("; ".join(c["message"] for c in status["conditions"] if c["type"] == "Failed"), Exit.CANNOT_SUCCEED)
    if output.for_people:
        print_report(report_of(JOB, status, condition({"status": status}, "Succeeded")), output)
        workers = status.get("workers") or {}
        typer.echo(f"reclaimed workers: {workers.get('preemptions', 0)}; none of them was a failure")
        typer.echo(cost_line(status))
    else:
        print_data(status, output)


def cost_line(status: dict[str, Any]) -> str:
    """What the workers cost, and how much less that is than on demand."""
    cost = status.get("cost") or {}
    spent, on_demand = cost.get("spent"), cost.get("onDemandEquivalent")
    saved = saved_percent(spent, on_demand)
    compared = "" if saved is None else f", {saved} % less than the same seconds on demand"
    return f"cost of the workers: {money(spent, cost.get('currency'))}{compared}"


def _kubectl(cluster: LocalCluster, *arguments: str, text: str | None = None) -> str:
    argv = [str(cluster.kubectl), "--kubeconfig", str(cluster.kubeconfig), *arguments]
    done = subprocess.run(argv, input=text, capture_output=True, text=True, check=False)
    if done.returncode:
        fail(f"kubectl {' '.join(arguments)}: {done.stderr.strip()}", Exit.CANNOT_SUCCEED)
    return done.stdout


def _yaml(*documents: Any) -> str:
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": list(documents)})
