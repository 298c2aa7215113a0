"""What tests of a run's life on a cluster look at: its workers, its progress, and every sample it published."""

import io
import json
import os
import signal
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from operator_bench import Bench, toy, wait_until

Object = dict[str, Any]
QUICK_CLAIMS_IMAGE = "evalfleet/quick-claims:test"
"""The toy image whose workers take over an abandoned unit after seconds instead of half a minute."""
UNIT_EXAMPLES = 100
"""Toy examples per work unit: five predicted seconds of .05 s each."""


def toy_units(units: int, seconds_per_unit: float = 1.0, name: str = "toy") -> Object:
    """A toy evaluation of so many work units that really take so long each."""
    return toy(name, count=str(units * UNIT_EXAMPLES), seconds=f"{seconds_per_unit / UNIT_EXAMPLES:.6f}")


def done_units(job: Object) -> int:
    """Committed units as the status shows them."""
    return int(((job.get("status") or {}).get("progress") or {}).get("unitsDone") or 0)


def counted(job: Object, what: str) -> int:
    """A count of `status.workers`, 0 before it is there."""
    return int(((job.get("status") or {}).get("workers") or {}).get(what) or 0)


def is_finished(worker: Object) -> bool:
    """Whether a worker Job has ended, well or badly."""
    conditions = (worker.get("status") or {}).get("conditions") or []
    return any(c["type"] in ("Complete", "Failed") and c["status"] == "True" for c in conditions)


def worker_jobs(place: Bench, name: str) -> list[Object]:
    """Worker Jobs of an EvaluationJob that are not being deleted, by name."""
    uid = place.client.get(place.job_path(name))["metadata"]["uid"]
    selector = f"evalfleet.io/run={uid},evalfleet.io/role=work"
    found = place.client.get(f"/apis/batch/v1/namespaces/{place.namespace}/jobs?labelSelector={selector}")["items"]
    alive = (item for item in found if not item["metadata"].get("deletionTimestamp"))
    return sorted(alive, key=lambda item: str(item["metadata"]["name"]))


def running_workers(place: Bench, name: str) -> list[Object]:
    """Worker pods of an EvaluationJob that run and are not being deleted."""
    return [
        pod
        for pod in place.pods(name)
        if pod["metadata"]["labels"].get("evalfleet.io/role") == "work"
        and (pod.get("status") or {}).get("phase") == "Running"
        and not pod["metadata"].get("deletionTimestamp")
        and place.cluster.pod_pids(pod["metadata"]["name"], place.namespace)
    ]


def wait_for_workers(place: Bench, name: str, count: int) -> list[Object]:
    """The worker pods as soon as exactly so many run."""
    found: list[Object] = []

    def enough() -> bool:
        found[:] = running_workers(place, name)
        return len(found) == count

    wait_until(enough, f"{name} never had {count} running workers, last {len(found)}")
    return found


def kill_worker(place: Bench, pod: Object) -> None:
    """SIGKILL the worker process of a pod."""
    (pid,) = place.cluster.pod_pids(pod["metadata"]["name"], place.namespace).values()
    os.kill(pid, signal.SIGKILL)


def samples(job: Object) -> dict[str, bytes]:
    """The published sample files of a finished job: the same rows are the same bytes."""
    folder = Path(str(job["status"]["resultsUri"]).removeprefix("file://"))
    summary = json.loads((folder / "summary.json").read_text("utf-8"))
    names = [name for name in summary["files"] if name.startswith("samples/")]
    return {name: (folder / summary["attempt"] / name).read_bytes() for name in names}


def rows(content: bytes) -> list[Object]:
    """The rows of a sample file."""
    return list(pq.read_table(io.BytesIO(content)).to_pylist())
