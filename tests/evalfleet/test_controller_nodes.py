"""Which nodes count as lost, and what that means for the pods on them."""

from typing import Any

from evalfleet.controller.nodes import LostNodes, without_machine
from evalfleet.reconcile.liveness import is_disrupted


def pod(node: str, phase: str = "Running") -> dict[str, Any]:
    return {"metadata": {"name": "p"}, "spec": {"nodeName": node}, "status": {"phase": phase, "conditions": []}}


def test_a_node_is_lost_when_it_was_there_and_is_gone_and_not_when_it_is_news() -> None:
    nodes = LostNodes()
    assert nodes.listed({"a", "b"}) == set()
    assert "c" not in nodes
    assert nodes.listed({"b"}) == {"a"}
    nodes.vanished("b")
    assert "a" in nodes
    assert "b" in nodes
    nodes.appeared("a")
    assert "a" not in nodes


def test_a_pod_without_its_machine_was_taken_away_unless_it_had_ended_before() -> None:
    nodes = LostNodes()
    nodes.listed({"a", "b"})
    nodes.vanished("a")
    assert is_disrupted(without_machine(pod("a"), nodes))
    assert not is_disrupted(without_machine(pod("b"), nodes))
    assert not is_disrupted(without_machine(pod("a", "Succeeded"), nodes))
    assert not is_disrupted(without_machine({"metadata": {"name": "p"}, "spec": {}}, nodes))
