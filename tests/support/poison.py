"""What absurd objects must not do to an operator: break a pass, spin its loop, or disturb a neighbour."""

import re
import time
import urllib.request
from typing import Any

from operator_bench import Bench, OperatorProcess, condition, has, policy

Object = dict[str, Any]
WINDOW_SECONDS = 10.0
PATIENCE_SECONDS = 420.0
"""Many objects at once share two spot nodes, and perhaps two cores."""
PASSES_PER_OBJECT_SECOND = 1.0
PASSES_OF_A_RUN_SECOND = 8.0
"""A policy with open jobs ticks once a second, a neighbour that still runs has news; a loop that never rests: 80."""
WELL_SAID = 25
"""Letters of the shortest message that can help anybody."""


def steady_pool(**fields: Any) -> Object:
    """An on-demand pool whose machines are there at once: the spot nodes of the shared cluster."""
    selector = {"karpenter.sh/nodepool": "spot"}
    priced = {"pricePerHour": "3.00", "maxWorkers": 4, "expectedStartupSeconds": 3}
    return {"name": "steady", "capacityType": "OnDemand", "nodeSelector": selector, **priced, **fields}


def use_spot_and_on_demand(place: Bench) -> None:
    """Give the default policy an on-demand pool, so that deadlines can be promised."""
    path = place.job_path().replace("evaluationjobs", "scalingpolicies/default")
    pools = [*policy(place.folder)["spec"]["pools"], steady_pool()]
    place.client.patch(path, {"spec": {"pools": pools}})


def states(job: Object, kind: str, reason: str) -> bool:
    """Whether a condition has a reason, whatever its status."""
    return any(has(job, kind, status, reason) for status in ("True", "False", "Unknown"))


def wait_until_stated(place: Bench, name: str, kind: str, reason: str) -> Object:
    """The job as soon as a condition has a reason, with a message that says something."""
    job = place.wait(name, lambda found: states(found, kind, reason), PATIENCE_SECONDS)
    assert len(condition(job, kind)["message"]) >= WELL_SAID, (name, condition(job, kind))
    return job


def assert_succeeds(place: Bench, name: str) -> Object:
    """The job when it has succeeded; a failure is told in its own words."""
    job = place.wait(name, lambda found: has(found, "Succeeded") or has(found, "Failed"), PATIENCE_SECONDS)
    assert has(job, "Succeeded"), (name, condition(job, "Failed"))
    return job


def assert_sane(operator: OperatorProcess, objects: int) -> None:
    """No pass has ended with an error of ours, and those that come back do not spin."""
    assert "Traceback" not in operator.log.read_text("utf-8"), operator.log.read_text("utf-8")[-4000:]
    before, began = _passes(operator), time.monotonic()
    time.sleep(WINDOW_SECONDS)  # a rate is what happens in a while
    rate = (sum(_passes(operator).values()) - sum(before.values())) / (time.monotonic() - began)
    assert rate <= PASSES_PER_OBJECT_SECOND * objects + PASSES_OF_A_RUN_SECOND, (rate, objects)
    assert _passes(operator).get("error", 0) == 0


def _passes(operator: OperatorProcess) -> dict[str, float]:
    """Reconciliations so far by result."""
    with urllib.request.urlopen(f"http://127.0.0.1:{operator.port}/metrics", timeout=30) as answer:
        text = answer.read().decode()
    found: dict[str, float] = {}
    for result, count in re.findall(r'^evalfleet_reconcile_total\{.*result="(\w+)"\} (\S+)$', text, re.MULTILINE):
        found[result] = found.get(result, 0.0) + float(count)
    assert found, text
    return found
