"""How long workers waited for nodes: each binding is counted once, though pods go and passes are lost."""

from datetime import timedelta
from typing import Any

from operator_states import NOW, job_state, planned

from evalfleet.kube.mergepatch import merge_patched
from evalfleet.reconcile.job.decide import decide
from evalfleet.reconcile.job.waits import bindings_of


def pod(created: int, bound: int | None) -> dict[str, Any]:
    """A pod by seconds after NOW."""

    def at(seconds: int) -> str:
        return (NOW + timedelta(seconds=seconds)).isoformat().replace("+00:00", "Z")

    scheduled = {"type": "PodScheduled", "status": "False" if bound is None else "True"}
    scheduled["lastTransitionTime"] = at(created if bound is None else bound)
    return {"metadata": {"creationTimestamp": at(created)}, "status": {"conditions": [scheduled]}}


def seen(status: dict[str, Any], pods: list[dict[str, Any]], after: int) -> dict[str, Any]:
    """The status after a pass that sees these pods some seconds after NOW."""
    now = NOW + timedelta(seconds=after)
    made = job_state({**planned(), "status": status, "now": now, "bindings": bindings_of(pods)})
    return merge_patched(status, decide(made).status)


def test_each_binding_is_counted_once_whichever_passes_and_pods_are_lost() -> None:
    first, second, third, waiting = pod(0, 40), pod(0, 41), pod(5, 50), pod(50, None)
    start = planned()["status"]
    status = seen(start, [first, waiting], after=44)
    assert status["time"]["provisioningSeconds"] == 40
    status = seen(status, [first, second], after=45)  # the same pod again, and one of the next second
    assert status["time"]["provisioningSeconds"] == 81
    status = seen(status, [third], after=60)  # the others are gone
    assert status["time"]["provisioningSeconds"] == 126
    assert seen(status, [first, second, third, waiting], after=70)["time"] == status["time"]


def test_a_moment_that_somebody_wrote_and_nobody_can_read_holds_nothing_up() -> None:
    for absurd in ("2026-01-01T00:00:00", "soon", 7):
        status = {**planned()["status"], "time": {"provisionedUntil": absurd}}
        assert seen(status, [pod(0, 40)], after=44)["time"]["provisioningSeconds"] == 40


def test_of_two_bindings_of_one_second_none_is_forgotten() -> None:
    start = planned()["status"]
    early = seen(start, [pod(0, 40)], after=41)
    assert "provisioningSeconds" not in early["time"]
    assert seen(early, [pod(0, 40), pod(10, 40)], after=44)["time"]["provisioningSeconds"] == 70
