"""Figures of the operator on a real control plane: how long people wait, and what it costs to run.

    python benchmarks/operator_figures.py [start] [claim] [reclaim] [failover] [latency] [memory]

Each part starts a local cluster of its own, prints its figures and updates benchmarks/results/operator.{json,md}.
(The file is not called operator.py: a script of that name would hide the standard library's module from itself.)
"""

import argparse
import json
import os
import random
import signal
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / name) for name in ("operator", "scaling", "worker", "tests/support")]

from cluster_client import Client  # noqa: E402 - after the path is set
from fixtures_cluster import IMAGES, POOLS  # noqa: E402
from lifecycle import running_workers, toy_units, wait_for_workers  # noqa: E402
from operator_bench import Bench, OperatorProcess, bench, policy, running_operator, wait_until  # noqa: E402

from evalfleet.local.cluster import local_cluster  # noqa: E402
from evalfleet.local.cluster.binaries import find_binaries  # noqa: E402

Object = dict[str, Any]
Figures = dict[str, Any]
RESULTS = ROOT / "benchmarks" / "results"
SEED = 7
ACTIVE_JOBS = 100
FINISHED_JOBS = 1_000
EDITS_PER_REPEAT = 40
SETTLE_SECONDS = 45.0
IDLE_SECONDS = 300.0
"""Several times what recurs: everything is listed once a minute, watches are renewed every four."""
AT_ONCE = 4


@contextmanager
def place(name: str) -> Iterator[Bench]:
    """A namespace with a policy on a fresh local cluster."""
    with tempfile.TemporaryDirectory(prefix="evalfleet-bench-") as folder, ExitStack() as stack:
        cluster = stack.enter_context(local_cluster(POOLS, IMAGES, Path(folder) / "cluster"))
        client = Client(cluster.kubeconfig)
        yield stack.enter_context(bench(cluster, client, name, Path(folder)))


def start(repeats: int) -> Figures:
    """Seconds until `evalfleet cluster up` is ready, programs being there."""
    seconds = []
    for _ in range(repeats):
        with tempfile.TemporaryDirectory() as folder, local_cluster(POOLS, IMAGES, Path(folder)) as cluster:
            seconds.append(cluster.start_seconds)
    return {"controlPlaneStart": summary(seconds)}


def claim(repeats: int) -> Figures:
    """Apply -> plan finished -> first unit claimed, of a toy evaluation on nodes that are there."""
    planned, claimed = [], []
    with place("claim") as on, running_operator(on) as operator:
        operator.wait_for("/healthz", 200)
        for number in range(repeats):
            name = f"run-{number}"
            begun = time.monotonic()
            on.create(name, evaluations=[toy_units(4, 0.1)])
            on.wait_for(name, "Planned")
            planned.append(time.monotonic() - begun)
            first_claim(on, name, set())
            claimed.append(time.monotonic() - begun)
            on.wait_for(name, "Succeeded")
    return {"applyToPlanned": summary(planned), "applyToFirstClaim": summary(claimed)}


def reclaim(repeats: int) -> Figures:
    """A spot node is taken (notice 30 s: evicted at once) -> the replacement claims a unit; another node is there."""
    seconds = []
    with place("reclaim") as on, running_operator(on):
        for number in range(repeats):
            name = f"run-{number}"
            on.create(name, evaluations=[toy_units(400, 1.0)])
            (pod,) = wait_for_workers(on, name, 1)
            wait_until(lambda name=name: bool(claimants(on, name)), "no unit was claimed")
            before = claimants(on, name)
            begun = time.monotonic()
            taken = threading.Thread(target=on.cluster.reclaim, args=(pod["spec"]["nodeName"],))
            taken.start()
            first_claim(on, name, before)
            seconds.append(time.monotonic() - begun)
            taken.join()
            on.client.delete(on.job_path(name))
            on.wait_until_gone(name)
    return {"reclaimToReplacementClaim": summary(seconds)}


def failover(repeats: int) -> Figures:
    """SIGKILL of the leader -> the standby holds the Lease -> it has accepted an object created meanwhile."""
    held, served = [], []
    with place("failover") as on:
        for number in range(repeats):
            with ExitStack() as stack:
                pair = [stack.enter_context(running_operator(on)) for _ in range(2)]
                wait_until(lambda pair=pair: leader_of(on, pair) is not None, "nobody leads")
                leader = leader_of(on, pair)
                assert leader is not None
                (standby,) = [one for one in pair if one is not leader]
                standby.wait_for("/healthz", 200)
                leader.end(signal.SIGKILL)
                begun = time.monotonic()
                on.create(f"run-{number}", suspend=True)
                wait_until(lambda one=standby: leader_of(on, [one]) is one, "nobody takes over")
                held.append(time.monotonic() - begun)
                on.wait_for(f"run-{number}", "Accepted")
                served.append(time.monotonic() - begun)
            on.client.delete(lease_path(on))
    return {"failoverToLease": summary(held), "failoverToFirstStatus": summary(served)}


def latency(repeats: int) -> Figures:
    """An edit of maxWorkers is sent -> its worker Job is created, or its deletion begun, as a watch sees it."""
    chance = random.Random(SEED)
    with place("latency") as on:
        simulated = simulated_pool(on)
        names = [f"job-{number:03d}" for number in range(ACTIVE_JOBS)]
        in_parallel(lambda name: planned_job(on, name), names)
        with running_operator(on), JobWatch(on) as watch:
            wait_until(lambda: watch.live == ACTIVE_JOBS, "the workers of the active jobs are not there")
            created: list[float] = []
            deleted: list[float] = []
            width = dict.fromkeys(names, 1)
            time.sleep(5.0)
            for _edit in range(EDITS_PER_REPEAT * repeats):
                name = chance.choice(names)
                width[name] = 3 - width[name]
                seconds = watch.seconds_until(
                    name, width[name], lambda n=name, w=width[name]: on.patch(n, maxWorkers=w)
                )
                (created if width[name] == 2 else deleted).append(seconds)
                time.sleep(chance.uniform(0.05, 0.25))
    both = created + deleted
    conditions = {"activeJobs": ACTIVE_JOBS, "edits": EDITS_PER_REPEAT * repeats, "podsRun": simulated}
    return {"eventToJob": {**summary(both), **conditions, "created": summary(created), "deleted": summary(deleted)}}


def memory(_: int) -> Figures:
    """Resident memory and idle CPU of an operator that serves 1,000 finished EvaluationJobs."""
    with place("memory") as on:
        in_parallel(lambda number: finished_job(on, f"done-{number:04d}"), list(range(FINISHED_JOBS)))
        with running_operator(on) as operator:
            operator.wait_for("/healthz", 200)
            on.create("last", suspend=True)
            on.wait_for("last", "Accepted")
            time.sleep(SETTLE_SECONDS)
            assert operator.process is not None
            pid = operator.process.pid
            before = cpu_seconds(pid)
            time.sleep(IDLE_SECONDS)
            used = cpu_seconds(pid) - before
            return {
                "finishedJobs": FINISHED_JOBS,
                "residentMegabytes": round(memory_megabytes(pid, "VmRSS"), 1),
                "peakMegabytes": round(memory_megabytes(pid, "VmHWM"), 1),
                "idleCpuPercent": round(100 * used / IDLE_SECONDS, 2),
            }


# What the parts share


def claimants(on: Bench, name: str) -> set[str]:
    """Workers that have claimed a unit of a run."""
    uid = on.client.get(on.job_path(name))["metadata"]["uid"]
    claims = (on.folder / "runs" / on.namespace / "runs" / uid / "segments").glob("*/claims/*")
    found = set()
    for path in claims:
        try:
            found.add(str(json.loads(path.read_bytes())["worker"]))
        except (OSError, ValueError):
            continue  # being written, or given back
    return found


def first_claim(on: Bench, name: str, before: set[str]) -> None:
    """Return when a worker that is not among `before` has claimed a unit."""
    deadline = time.monotonic() + 180
    while not claimants(on, name) - before:
        if time.monotonic() > deadline:
            raise TimeoutError(f"no new worker of {name} claims: {running_workers(on, name)}")
        time.sleep(0.01)


def lease_path(on: Bench) -> str:
    """Path of the operator's Lease."""
    return f"/apis/coordination.k8s.io/v1/namespaces/{on.namespace}/leases/evalfleet-operator"


def leader_of(on: Bench, replicas: list[OperatorProcess]) -> OperatorProcess | None:
    """The replica that holds the Lease."""
    lease = on.client.find(lease_path(on)) or {"spec": {}}
    holder = str(lease["spec"].get("holderIdentity") or "")
    return next((one for one in replicas if one.process and holder.endswith(f"-{one.process.pid}")), None)


def simulated_pool(on: Bench) -> bool:
    """Point the policy to simulated nodes, if KWOK is there; else the workers' pods wait for a node."""
    available = bool(find_binaries(["kwok"]))
    if available:
        on.cluster.simulate_nodes(4)
    manifest = policy(on.folder / "runs")
    (pool,) = manifest["spec"]["pools"]
    pool |= {
        "nodeSelector": {"karpenter.sh/nodepool": "simulated"},
        "tolerations": [{"key": "kwok.x-k8s.io/node", "operator": "Exists"}],
        "maxWorkers": 4 * ACTIVE_JOBS,
    }
    on.client.patch(f"{on.job_path().replace('evaluationjobs', 'scalingpolicies')}/default", {"spec": manifest["spec"]})
    return available


def planned_job(on: Bench, name: str) -> None:
    """A job whose planning is over, with work for days: the state in which jobs spend their life."""
    on.create(name)
    stamp = "2026-01-01T00:00:00Z"
    condition = {"type": "Planned", "status": "True", "reason": "Planned", "message": "-", "lastTransitionTime": stamp}
    plan = {"units": 50_000, "requests": 5_000_000, "samples": 5_000_000, "tokens": 0, "gpuSeconds": 250_000}
    on.client.patch(f"{on.job_path(name)}/status", {"status": {"conditions": [condition], "plan": plan}})


def finished_job(on: Bench, name: str) -> None:
    """A job that has succeeded, with a status as the operator leaves it behind."""
    on.create(name)
    stamp = "2026-01-01T00:00:00Z"
    kinds = {"Ready": "True", "Reconciling": "False", "Succeeded": "True", "Accepted": "True", "Planned": "True"}
    kinds |= {"Admitted": "True", "WorkersReady": "False", "ProgressKnown": "True"}
    conditions = [
        {"type": kind, "status": status, "reason": "Succeeded", "message": "1200 of 1200 samples scored"}
        | {"lastTransitionTime": stamp, "observedGeneration": 1}
        for kind, status in kinds.items()
    ]
    result = {"value": "0.5", "standardError": "0.01", "low": "0.48", "high": "0.52", "n": 1200}
    results = [{"evaluation": "toy", "metric": f"metric_{index}", **result} for index in range(8)]
    status = {
        "conditions": conditions,
        "observedGeneration": 1,
        "startTime": stamp,
        "completionTime": stamp,
        "plan": {"units": 12, "requests": 1200, "samples": 1200, "tokens": 0, "gpuSeconds": 60},
        "progress": {"percent": 100, "unitsDone": 12, "unitsTotal": 12},
        "results": results,
        "resultsUri": f"file:///store/{name}/results",
    }
    on.client.patch(f"{on.job_path(name)}/status", {"status": status})


def in_parallel(action: Callable[[Any], None], items: list[Any]) -> None:
    """Do something for every item, a few at once."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(action, items))


class JobWatch:
    """Follows the worker Jobs of a namespace in a thread; counts those whose deletion has not begun."""

    def __init__(self, on: Bench) -> None:
        self._on = on
        self._changed = threading.Condition()
        self._alive: dict[str, str] = {}
        self._ended = threading.Event()
        self._process: Any = None

    def __enter__(self) -> "JobWatch":
        import subprocess

        command = [self._on.cluster.kubectl, f"--kubeconfig={self._on.cluster.kubeconfig}", "-n", self._on.namespace]
        path = f"/apis/batch/v1/namespaces/{self._on.namespace}/jobs?watch=true&timeoutSeconds=1200"
        selector = "labelSelector=evalfleet.io/role%3Dwork"
        self._process = subprocess.Popen([*command, "get", "--raw", f"{path}&{selector}"], stdout=subprocess.PIPE)
        threading.Thread(target=self._follow, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()

    @property
    def live(self) -> int:
        """Worker Jobs whose deletion has not begun."""
        return len(self._alive)

    def seconds_until(self, name: str, count: int, edit: Callable[[], object]) -> float:
        """Seconds from just before an edit until an EvaluationJob has so many worker Jobs."""
        begun = time.monotonic()
        edit()
        with self._changed:
            if not self._changed.wait_for(lambda: self._of(name) == count, 60):
                raise TimeoutError(f"{name}: {self._of(name)} worker Jobs, not {count}")
        return time.monotonic() - begun

    def _of(self, name: str) -> int:
        return sum(owner == name for owner in self._alive.values())

    def _follow(self) -> None:
        for line in self._process.stdout:
            event = json.loads(line)
            metadata = event["object"]["metadata"]
            with self._changed:
                if event["type"] == "DELETED" or metadata.get("deletionTimestamp"):
                    self._alive.pop(metadata["name"], None)
                else:
                    self._alive[metadata["name"]] = metadata["ownerReferences"][0]["name"]
                self._changed.notify_all()


def summary(seconds: list[float]) -> Figures:
    """Count, median, 99th percentile and extremes [s]."""
    ordered = sorted(seconds)
    return {
        "n": len(ordered),
        "p50": round(statistics.median(ordered), 3),
        "p99": round(ordered[min(len(ordered) - 1, int(0.99 * len(ordered)))], 3),
        "min": round(ordered[0], 3),
        "max": round(ordered[-1], 3),
    }


def cpu_seconds(pid: int) -> float:
    """CPU time of a process so far, user and system."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory_megabytes(pid: int, field: str) -> float:
    """A memory figure of /proc/PID/status."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1024


ROWS: tuple[tuple[str, tuple[str, ...], str], ...] = (
    ("control plane start, programs there [s]", ("start", "controlPlaneStart"), "<= 10"),
    ("apply -> planned, toy evaluation [s]", ("claim", "applyToPlanned"), ""),
    ("apply -> first unit claimed [s]", ("claim", "applyToFirstClaim"), ""),
    ("node reclaimed -> replacement claims a unit [s]", ("reclaim", "reclaimToReplacementClaim"), ""),
    ("leader SIGKILLed -> Lease held by the standby [s]", ("failover", "failoverToLease"), "< 20"),
    ("leader SIGKILLed -> first status by the standby [s]", ("failover", "failoverToFirstStatus"), ""),
    ("edit -> worker Job created or deleted, 100 active jobs [s]", ("latency", "eventToJob"), "p99 <= 0.5"),
    ("   of them created [s]", ("latency", "eventToJob", "created"), ""),
    ("   of them deleted [s]", ("latency", "eventToJob", "deleted"), ""),
    ("resident memory, 1,000 finished jobs [MB]", ("memory", "residentMegabytes"), "<= 150"),
    ("   its peak [MB]", ("memory", "peakMegabytes"), ""),
    ("idle CPU, 1,000 finished jobs [%]", ("memory", "idleCpuPercent"), "<= 1"),
)


def report(results: Figures) -> str:
    """The figures as a table for people."""
    lines = [
        "# The operator on a real control plane",
        "",
        "Made by `python benchmarks/operator_figures.py` on a local cluster (etcd, API server, controller manager,",
        "scheduler and host nodes on one machine). Every part names the machine's load before and after it.",
        "",
        "| figure | p50 | p99 | max | n | goal |",
        "|---|---|---|---|---|---|",
    ]
    for title, path, goal in ROWS:
        value: Any = results
        for key in path:
            value = value.get(key, {}) if isinstance(value, dict) else {}
        if isinstance(value, dict):
            cells = [str(value.get(key, "")) for key in ("p50", "p99", "max", "n")]
        else:
            cells = [str(value), "", "", ""]
        lines.append(f"| {title} | {' | '.join(cells)} | {goal} |")
    lines += ["", "| part | processors | load average before | after |", "|---|---|---|---|"]
    for part, figures in results.items():
        machine = figures.get("machine") or {}
        lines.append(f"| {part} | {machine.get('processors')} | {machine.get('before')} | {machine.get('after')} |")
    return "\n".join(lines) + "\n"


PARTS: dict[str, Callable[[int], Figures]] = {
    "start": start,
    "claim": claim,
    "reclaim": reclaim,
    "failover": failover,
    "latency": latency,
    "memory": memory,
}


def main() -> None:
    """Run the parts that are asked for (all by default) and write both result files after each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", default=list(PARTS), choices=[[], *PARTS], metavar="PART")
    parser.add_argument("--repeats", type=int, default=5, help="of every timing that is not an edit")
    options = parser.parse_args()
    for part in options.parts:
        before = round(os.getloadavg()[0], 2)
        figures = PARTS[part](options.repeats)
        machine = {"processors": os.cpu_count(), "before": before, "after": round(os.getloadavg()[0], 2)}
        _merge(part, {**figures, "machine": machine})


def _merge(part: str, figures: Figures) -> None:
    print(json.dumps({part: figures}), flush=True)
    RESULTS.mkdir(parents=True, exist_ok=True)
    path = RESULTS / "operator.json"
    results = {**(json.loads(path.read_text()) if path.exists() else {}), part: figures}
    path.write_text(json.dumps(results, indent=2) + "\n")
    (RESULTS / "operator.md").write_text(report(results))


if __name__ == "__main__":
    main()
