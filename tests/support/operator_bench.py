"""A real operator process on a local cluster, and evaluations that cost next to nothing, for tests of the whole."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from cluster_client import Client

from evalfleet.local.cluster import LocalCluster, launcher
from evalfleet.reconcile.conditions import find, status_of

Object = dict[str, Any]
ROOT = Path(__file__).parents[2]
API = "/apis/evalfleet.io/v1alpha1"
TOY_IMAGE = "evalfleet/toy:test"
PATIENCE_SECONDS = float(os.environ.get("EVALFLEET_TEST_PATIENCE", "180"))


@dataclass
class OperatorProcess:
    """`evalfleet operator` that can be killed and started again.

    Attributes:
        environment: settings of the operator, beside those of this process.
        log: file that its output is appended to.
        port: of /healthz, /readyz and /metrics.
    """

    environment: Mapping[str, str]
    log: Path
    port: int = field(default_factory=lambda: free_port())
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it; returns at once. It dies with this process, however that ends."""
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(str(ROOT / part) for part in ("operator", "scaling", "worker")),
            "EVALFLEET_HTTP_ADDRESS": f"127.0.0.1:{self.port}",
            **self.environment,
        }
        with self.log.open("ab") as log:
            guarded = [sys.executable, launcher.__file__, "exec", str(os.getpid()), "--"]
            command = [*guarded, sys.executable, "-m", "evalfleet.cli.main", "operator"]
            self.process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)

    def end(self, number: int = signal.SIGTERM) -> int:
        """Send a signal and wait for the end; returns the exit code."""
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(60)

    def kill(self) -> None:
        """SIGKILL if it runs."""
        if self.process is not None and self.process.poll() is None:
            self.end(signal.SIGKILL)

    def answers(self, path: str) -> int | None:
        """HTTP status of a path, None while nobody answers."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code
        except OSError:
            return None

    def wait_for(self, path: str, status: int | None, timeout: float = PATIENCE_SECONDS) -> None:
        """Return when a path answers with a status."""
        wait_until(lambda: self.answers(path) == status, f"{path} never answered {status}", timeout)


@dataclass(frozen=True)
class Bench:
    """One namespace of a cluster with a policy, and what a test does in it."""

    cluster: LocalCluster
    client: Client
    namespace: str
    folder: Path

    def kubectl(self, *arguments: str | Path, fails: bool = False) -> str:
        """Output of kubectl in the namespace; of a command that must fail, what it says."""
        command = [self.cluster.kubectl, f"--kubeconfig={self.cluster.kubeconfig}", "-n", self.namespace, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE_SECONDS)
        assert (done.returncode != 0) == fails, done.stdout + done.stderr
        return done.stderr if fails else done.stdout

    def job_path(self, name: str = "") -> str:
        """Path of an EvaluationJob, or of all."""
        return f"{API}/namespaces/{self.namespace}/evaluationjobs" + (f"/{name}" if name else "")

    def create(self, name: str, **spec: Any) -> Object:
        """Create a toy evaluation with changes of its spec."""
        return self.client.create(self.job_path(), self.manifest(name, **spec))

    def manifest(self, name: str, **spec: Any) -> Object:
        """A toy evaluation: twelve numbers, one worker, the namespace's default policy; None removes a member."""
        content = {
            "model": {"uri": "hf://none/needed"},
            "evaluations": [toy("toy")],
            "confirmRunUnsafeCode": True,
            "maxWorkers": 1,
            **spec,
        }
        return {
            "apiVersion": "evalfleet.io/v1alpha1",
            "kind": "EvaluationJob",
            "metadata": {"name": name},
            "spec": {key: value for key, value in content.items() if value is not None},
        }

    def wait(self, name: str, until: Callable[[Object], bool], timeout: float = PATIENCE_SECONDS) -> Object:
        """The EvaluationJob as soon as something holds for it; a gone one counts as `{}`."""
        return self.client.wait(self.job_path(name), until, timeout)

    def wait_for(self, name: str, kind: str, status: str = "True", reason: str | None = None) -> Object:
        """The EvaluationJob as soon as a condition has a status, and a reason if given."""
        return self.wait(name, lambda job: has(job, kind, status, reason))

    def wait_for_child(self, name: str) -> None:
        """Return when an object whose name begins so exists."""
        wait_until(lambda: bool(self.children(name)), f"nothing is called {name}...")

    def patch(self, name: str, **spec: Any) -> Object:
        """Merge-patch the spec."""
        return self.client.patch(self.job_path(name), {"spec": spec})

    def children(self, name: str = "") -> list[str]:
        """Kind and name of everything that belongs to an EvaluationJob (or to any), pods included."""
        kinds = {"pods": "/api/v1", "configmaps": "/api/v1", "jobs": "/apis/batch/v1"}
        found = []
        for plural, group in kinds.items():
            listing = self.client.get(
                f"{group}/namespaces/{self.namespace}/{plural}?labelSelector=app.kubernetes.io/managed-by=evalfleet"
            )
            found += [f"{plural}/{item['metadata']['name']}" for item in listing["items"]]
        return [child for child in found if child.split("/")[1].startswith(name)]

    def wait_until_gone(self, name: str) -> None:
        """Return when neither the EvaluationJob nor anything of it is left."""
        self.wait(name, lambda job: not job)
        wait_until(lambda: not self.children(f"{name}-"), f"left behind: {self.children(f'{name}-')}")

    def pods(self, name: str) -> list[Object]:
        """Pods of an EvaluationJob."""
        listing = self.client.get(f"/api/v1/namespaces/{self.namespace}/pods")
        return [pod for pod in listing["items"] if pod["metadata"]["name"].startswith(f"{name}-")]


def toy(name: str, **parameters: str) -> Object:
    """A toy evaluation of `toy_evaluation.py`."""
    return {"name": name, "python": {"entrypoint": "toy_evaluation:make", "parameters": parameters}}


def policy(store: Path, image: str = TOY_IMAGE, **spec: Any) -> Object:
    """The default policy of a test namespace: the spot nodes of the shared cluster, a store on this machine."""
    pool = {
        "name": "spot",
        "capacityType": "Spot",
        "nodeSelector": {"karpenter.sh/nodepool": "spot"},
        "pricePerHour": "1.00",
        "maxWorkers": 8,
    }
    content = {
        "pools": [pool],
        "store": {"uri": f"file://{store}"},
        "worker": {"image": image, "resources": {"cpu": "100m", "memory": "1Gi"}},
        "security": {"allowUnsafeCode": True},
        **spec,
    }
    return {
        "apiVersion": "evalfleet.io/v1alpha1",
        "kind": "ScalingPolicy",
        "metadata": {"name": "default"},
        "spec": content,
    }


def install_crds(cluster: LocalCluster, client: Client) -> None:
    """Apply the shipped CRDs and wait until they are served."""
    command = [cluster.kubectl, f"--kubeconfig={cluster.kubeconfig}", "apply", "--server-side", "-k", ROOT / "crds"]
    subprocess.run(command, check=True, capture_output=True)
    for plural in ("evaluationjobs", "scalingpolicies"):
        path = f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{plural}.evalfleet.io"
        client.wait(
            path, lambda crd: status_of((crd.get("status") or {}).get("conditions") or [], "Established") == "True"
        )
        wait_until(lambda plural=plural: client.find(f"{API}/{plural}") is not None, f"{plural} are not served")  # type: ignore[misc]


@contextmanager
def bench(
    cluster: LocalCluster, client: Client, namespace: str, folder: Path, labels: Mapping[str, str] | None = None
) -> Iterator[Bench]:
    """A namespace with CRDs and a default policy; deleted afterwards."""
    install_crds(cluster, client)
    client.create("/api/v1/namespaces", {"metadata": {"name": namespace, "labels": dict(labels or {})}})
    client.wait(f"/api/v1/namespaces/{namespace}/serviceaccounts/default", bool)
    client.create(f"{API}/namespaces/{namespace}/scalingpolicies", policy(folder / "runs"))
    yield Bench(cluster, client, namespace, folder)
    client.delete(f"/api/v1/namespaces/{namespace}")


@contextmanager
def running_operator(on: Bench, **environment: str) -> Iterator[OperatorProcess]:
    """An operator that serves the bench's namespace, ended afterwards."""
    settings = {
        "KUBECONFIG": str(on.cluster.kubeconfig),
        "EVALFLEET_NAMESPACE": on.namespace,
        "EVALFLEET_WATCH_NAMESPACES": on.namespace,
        "EVALFLEET_ALLOW_FILE_URIS": "true",
        "EVALFLEET_SIMULATED_GPUS": "true",
        "EVALFLEET_HOST_CACHE": str(on.folder / "cache"),
        **environment,
    }
    process = OperatorProcess(settings, on.folder / "operator.log")
    process.start()
    try:
        yield process
    finally:
        process.kill()


def has(job: Object, kind: str, status: str = "True", reason: str | None = None) -> bool:
    """Whether a condition has a status, and a reason if given."""
    condition = find((job.get("status") or {}).get("conditions") or [], kind)
    return condition is not None and condition["status"] == status and reason in (None, condition["reason"])


def condition(job: Object, kind: str) -> Object:
    """A condition that is there."""
    found = find(job["status"]["conditions"], kind)
    assert found is not None, job["status"]["conditions"]
    return dict(found)


def seconds_until(job: Object, kind: str) -> float:
    """Seconds from creation to the newest transition of a condition, by the server's and the operator's stamps."""
    created = datetime.fromisoformat(job["metadata"]["creationTimestamp"])
    return (datetime.fromisoformat(condition(job, kind)["lastTransitionTime"]) - created).total_seconds()


def terminal(job: Object) -> bool:
    """Whether the job has succeeded or failed for good."""
    return has(job, "Succeeded") or has(job, "Succeeded", "False")


def wait_until(holds: Callable[[], bool], otherwise: str, timeout: float = PATIENCE_SECONDS) -> None:
    """Poll until something holds."""
    deadline = time.monotonic() + timeout
    while not holds():
        assert time.monotonic() < deadline, otherwise
        time.sleep(0.1)


def free_port() -> int:
    """A port of this machine that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
