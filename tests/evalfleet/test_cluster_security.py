"""A whole job under exactly the shipped roles, in a namespace that admits restricted pods only."""

import re
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from cluster_client import ApiError, Client
from host_pods import pod, python
from operator_bench import Bench, bench, running_operator, terminal, toy

from evalfleet.local.cluster import LocalCluster

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

Object = dict[str, Any]
BASE = Path(__file__).parents[2] / "k8s" / "base"
HOME = "evalfleet-system"
RESTRICTED = {"pod-security.kubernetes.io/enforce": "restricted"}


@pytest.fixture(scope="module")
def place(
    shared_cluster: LocalCluster, cluster_client: Client, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Bench]:
    folder = tmp_path_factory.mktemp("security")
    with bench(shared_cluster, cluster_client, "restricted", folder, RESTRICTED) as made:
        yield made


@pytest.fixture(scope="module")
def account(place: Bench) -> Path:
    """A kubeconfig of the shipped service account, with the shipped roles and nothing else."""
    rendered = yaml.safe_load_all(place.kubectl("kustomize", BASE))
    shipped = yaml.safe_dump_all(body for body in rendered if body["kind"] != "Deployment")
    apply = [place.cluster.kubectl, f"--kubeconfig={place.cluster.kubeconfig}", "apply", "--server-side", "-f", "-"]
    subprocess.run(apply, input=shipped, text=True, check=True, capture_output=True)
    token = place.kubectl("create", "token", "evalfleet-operator", "-n", HOME, "--duration=1h").strip()
    config = yaml.safe_load(place.cluster.kubeconfig.read_text("utf-8"))
    for user in config["users"]:
        user["user"] = {"token": token}
    path = place.folder / "kubeconfig"
    path.write_text(yaml.safe_dump(config), "utf-8")
    path.chmod(0o600)
    return path


def test_the_shipped_roles_are_enough_for_a_whole_life_and_nothing_is_ever_forbidden(
    place: Bench, account: Path, cluster_client: Client
) -> None:
    pods: dict[str, Object] = {}
    environment = {"KUBECONFIG": str(account), "EVALFLEET_NAMESPACE": HOME, "EVALFLEET_WATCH_NAMESPACES": ""}
    with running_operator(place, **environment) as operator:
        place.create("whole", evaluations=[toy("t", count="300")], maxWorkers=2, ttlSecondsAfterFinished=5)
        place.create("broken", worker={"image": "evalfleet/no-python:1"}, ttlSecondsAfterFinished=0)
        job = place.wait("whole", lambda found: bool(pods.update(_seen(place)) or terminal(found)))  # type: ignore[func-returns-value]
        assert job["status"]["samples"]["scored"] == 300
        place.wait("broken", lambda found: not found)
        place.wait("whole", lambda found: not found)
        place.wait_until_gone("whole")
    log = operator.log.read_text()
    assert [line for line in log.splitlines() if re.search(r"\b403\b|forbidden", line, re.IGNORECASE)] == []
    reasons = {event["reason"] for event in cluster_client.get(f"/api/v1/namespaces/{place.namespace}/events")["items"]}
    assert {"Accepted", "Planned", "Complete", "InvalidImage"} <= reasons
    assert {item["metadata"]["labels"]["evalfleet.io/role"] for item in pods.values()} == {"plan", "work", "finish"}
    for found in pods.values():
        assert_holds_no_token(found)


def test_a_forbidden_namespace_harms_itself_alone_and_is_served_once_it_is_permitted(
    place: Bench, account: Path, cluster_client: Client
) -> None:
    """An account with the shipped rights in one namespace of the two that it is told to serve."""
    with bench(place.cluster, cluster_client, "closed", place.folder / "closed") as closed:
        narrow = grant_narrowly(place, account)
        settings = {
            "KUBECONFIG": str(narrow),
            "EVALFLEET_LEADER_ELECTION": "false",
            "EVALFLEET_WATCH_NAMESPACES": f"{closed.namespace},{place.namespace}",
        }
        with running_operator(place, **settings) as operator:
            place.create("served", evaluations=[toy("t", count="100")])
            closed.create("waits", evaluations=[toy("t", count="100")])
            assert place.wait_for("served", "Succeeded")["status"]["samples"]["scored"] == 100
            assert "Accepted" not in str(cluster_client.get(closed.job_path("waits")))
            shown = f'evalfleet_forbidden_namespace{{namespace="{closed.namespace}"}} 1.0'
            with urllib.request.urlopen(f"http://127.0.0.1:{operator.port}/metrics", timeout=10) as answer:
                assert shown in answer.read().decode()
            assert f"namespace {closed.namespace} is not served" in operator.log.read_text()
            bind(closed, "operator", "clusterrole=evalfleet-operator")
            assert operator.process is not None
            assert operator.process.wait(60) == 1  # a fresh process, with watches of its own
            operator.start()
            assert closed.wait_for("waits", "Succeeded")["status"]["samples"]["scored"] == 100


def grant_narrowly(place: Bench, account: Path) -> Path:
    """A kubeconfig of an account that has the shipped rights in the bench's namespace alone."""
    place.kubectl("create", "serviceaccount", "narrow", "-n", HOME)
    bind(place, "operator", "clusterrole=evalfleet-operator")
    place.kubectl("create", "role", "ledgers", "--verb=get,create,update", "--resource=configmaps")
    bind(place, "ledgers", "role=ledgers")
    token = place.kubectl("create", "token", "narrow", "-n", HOME, "--duration=1h").strip()
    config = yaml.safe_load(account.read_text("utf-8"))
    for user in config["users"]:
        user["user"] = {"token": token}
    path = place.folder / "narrow.kubeconfig"
    path.write_text(yaml.safe_dump(config), "utf-8")
    path.chmod(0o600)
    return path


def bind(place: Bench, name: str, role: str) -> None:
    place.kubectl("create", "rolebinding", f"narrow-{name}", f"--{role}", f"--serviceaccount={HOME}:narrow")


def test_the_account_may_not_read_secrets_nor_make_pods(place: Bench, account: Path) -> None:
    client = Client(account)
    for forbidden in (f"/api/v1/namespaces/{HOME}/secrets", f"/api/v1/namespaces/{place.namespace}/secrets"):
        with pytest.raises(ApiError, match="403"):
            client.get(forbidden)
    with pytest.raises(ApiError, match="403"):
        client.create(f"/api/v1/namespaces/{place.namespace}/pods", pod("own", python("pass")))


def test_the_namespace_refuses_a_pod_that_is_not_restricted(place: Bench, cluster_client: Client) -> None:
    with pytest.raises(ApiError, match="violates PodSecurity"):
        cluster_client.create(f"/api/v1/namespaces/{place.namespace}/pods", pod("plain", python("pass")))


def _seen(place: Bench) -> dict[str, Object]:
    listing = place.client.get(f"/api/v1/namespaces/{place.namespace}/pods?labelSelector=evalfleet.io/role")
    return {item["metadata"]["name"]: item for item in listing["items"]}


def assert_holds_no_token(found: Object) -> None:
    spec = found["spec"]
    assert spec["automountServiceAccountToken"] is False
    assert [volume for volume in spec["volumes"] if "projected" in volume or "secret" in volume] == []
    for container in spec["containers"]:
        assert not any("serviceaccount" in mount["mountPath"] for mount in container["volumeMounts"])
