"""The shipped base, read as files: what it grants, what it lets through, and how its pods are kept."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from evalfleet.controller.settings import Settings

K8S = Path(__file__).parents[2] / "k8s"
Object = dict[str, Any]


def shipped(folder: str = "base") -> list[Object]:
    """All objects of a folder."""
    texts = [path.read_text("utf-8") for path in sorted((K8S / folder).glob("*.yaml"))]
    return [body for text in texts for body in yaml.safe_load_all(text) if body["kind"] != "Kustomization"]


def named(kind: str, name: str, folder: str = "base") -> Object:
    return next(b for b in shipped(folder) if (b["kind"], b["metadata"]["name"]) == (kind, name))


def granted(kind: str, name: str) -> dict[tuple[str, str], set[str]]:
    """Verbs by API group and resource."""
    rules = named(kind, name)["rules"]
    return {
        (group, resource): set(rule["verbs"])
        for rule in rules
        for group in rule["apiGroups"]
        for resource in rule["resources"]
    }


def test_the_operator_may_do_what_it_does_and_nothing_else() -> None:
    assert granted("ClusterRole", "evalfleet-operator") == {
        ("evalfleet.io", "evaluationjobs"): {"get", "list", "watch", "delete"},  # get: after a conflict; delete: TTL
        ("evalfleet.io", "scalingpolicies"): {"get", "list", "watch"},
        ("evalfleet.io", "evaluationjobs/status"): {"patch"},
        ("evalfleet.io", "scalingpolicies/status"): {"patch"},
        ("batch", "jobs"): {"get", "list", "watch", "create", "delete"},
        ("", "pods"): {"list", "watch"},
        ("", "nodes"): {"list", "watch"},
        ("", "configmaps"): {"get", "create"},
        ("", "events"): {"create", "list", "patch"},
        ("", "namespaces"): {"get"},  # before the ledger of one that is gone is removed
    }


def test_who_may_edit_a_namespace_may_edit_its_jobs_and_only_its_admin_the_policy_that_binds_them() -> None:
    edit, admin = (granted("ClusterRole", f"evalfleet-{name}") for name in ("edit", "admin"))
    assert set(edit) == {("evalfleet.io", "evaluationjobs")}
    assert set(admin) == {("evalfleet.io", "evaluationjobs"), ("evalfleet.io", "scalingpolicies")}
    for role in (edit, admin):
        assert not any(resource.endswith("/status") for _, resource in role)  # the operator's alone
    labels = named("ClusterRole", "evalfleet-edit")["metadata"]["labels"]
    assert labels == {"rbac.authorization.k8s.io/aggregate-to-edit": "true"}


def test_no_role_has_a_wildcard_or_reads_secrets() -> None:
    for body in shipped():
        for rule in body.get("rules") or []:
            words = [*rule["apiGroups"], *rule["resources"], *rule["verbs"]]
            assert "*" not in words
            assert not {"secrets", "pods/exec", "pods/log"} & set(words)


def test_the_operators_pods_are_restricted() -> None:
    spec = named("Deployment", "evalfleet-operator")["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert set(container["resources"]) == {"requests", "limits"}


def test_the_worker_image_can_be_seen_and_changed_and_is_the_default() -> None:
    (container,) = named("Deployment", "evalfleet-operator")["spec"]["template"]["spec"]["containers"]
    environment = {entry["name"]: entry.get("value") for entry in container["env"]}
    assert environment["EVALFLEET_WORKER_IMAGE"] == Settings().worker_image


def test_the_service_finds_the_port_of_the_metrics() -> None:
    service = named("Service", "evalfleet-operator")["spec"]
    template = named("Deployment", "evalfleet-operator")["spec"]["template"]
    (port,) = template["spec"]["containers"][0]["ports"]
    assert service["selector"] == template["metadata"]["labels"]
    assert service["ports"][0]["targetPort"] == port["name"]


@pytest.mark.parametrize("probe", ["startupProbe", "livenessProbe", "readinessProbe"])
def test_a_busy_second_of_the_loop_is_no_failed_probe(probe: str) -> None:
    (container,) = named("Deployment", "evalfleet-operator")["spec"]["template"]["spec"]["containers"]
    assert container[probe]["timeoutSeconds"] >= 5
    assert container[probe]["periodSeconds"] >= container[probe]["timeoutSeconds"]


def test_broken_replicas_never_hold_up_a_drain() -> None:
    budget = named("PodDisruptionBudget", "evalfleet-operator")["spec"]
    assert (budget["maxUnavailable"], budget["unhealthyPodEvictionPolicy"]) == (1, "AlwaysAllow")


@pytest.mark.parametrize(("folder", "name"), [("base", "evalfleet-operator"), ("namespace", "evalfleet-workers")])
def test_both_families_of_addresses_may_leave_and_no_metadata_server_is_reached(folder: str, name: str) -> None:
    rules = named("NetworkPolicy", name, folder)["spec"]["egress"]
    blocks = [peer["ipBlock"] for rule in rules for peer in rule["to"] if "ipBlock" in peer]
    assert {block["cidr"]: block["except"] for block in blocks if block["cidr"].endswith("/0")} == {
        "0.0.0.0/0": ["169.254.169.254/32"],
        "::/0": ["fd00:ec2::254/128"],
    }


def test_only_the_operator_asks_workers_for_their_progress() -> None:
    (rule,) = named("NetworkPolicy", "evalfleet-workers", "namespace")["spec"]["ingress"]
    (peer,) = rule["from"]
    operator = named("Deployment", "evalfleet-operator")["spec"]["template"]["metadata"]["labels"]
    assert peer["podSelector"]["matchLabels"] == operator
    assert peer["namespaceSelector"]["matchLabels"] == {"kubernetes.io/metadata.name": "evalfleet-system"}
    assert rule["ports"] == [{"port": 9464}]
