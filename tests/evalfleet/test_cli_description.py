from datetime import UTC, datetime
from typing import Any

from evalfleet.cli.description import View, describe_job, describe_policy
from evalfleet.cli.job_table import COLUMNS, NAMESPACE, job_rows, job_table

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
DEADLINE = [column.heading for column in COLUMNS].index("DEADLINE")


def body(name: str = "arc", **status: Any) -> dict[str, Any]:
    spec = {"model": {"uri": "hf://org/model"}, "evaluations": [{"name": "arc"}, {"name": "piqa"}]}
    metadata = {"name": name, "namespace": "team", "creationTimestamp": "2026-03-01T11:50:00Z"}
    return {"metadata": metadata, "spec": spec, "status": status}


def condition(kind: str, status: str, reason: str, message: str) -> dict[str, str]:
    since = "2026-03-01T11:58:00Z"
    return {"type": kind, "status": status, "reason": reason, "message": message, "lastTransitionTime": since}


RUNNING = {
    "conditions": [condition("Ready", "False", "Running", "3 workers score")],
    "progress": {
        "percent": 40,
        "unitsDone": 4,
        "unitsTotal": 10,
        "estimatedCompletionTime": "2026-03-01T12:10:00Z",
        "estimatedLow": "2026-03-01T12:08:00Z",
        "estimatedHigh": "2026-03-01T12:15:00Z",
    },
    "workers": {"desired": 3, "ready": 2, "spot": 2, "onDemand": 1, "preemptions": 1},
    "cost": {"spent": "0.25", "projected": "0.60", "onDemandEquivalent": "1.00", "currency": "USD"},
    "time": {"queueSeconds": 12, "scoringSeconds": 700},
}


def test_a_running_job_is_told_in_words() -> None:
    events = [{"type": "Normal", "reason": "Admitted", "message": "room for 3", "count": 2, "lastTimestamp": None}]
    decision = {"time": "2026-03-01T11:59:00Z", "reason": "Scaled", "message": "spot holds, 3 workers"}
    text = describe_job(body(**RUNNING), {"status": {"lastDecision": decision}}, events, View(NOW))
    for expected in (
        "EvaluationJob team/arc: Running",
        "asks for   arc, piqa",
        "40 % done (4 of 10 units)",
        "expected to end in 10m, 80 % sure between in 8m and in 15m",
        "2 ready of 3 wanted (2 spot, 1 on demand)",
        "1 taken away by the provider",
        "0.2500 USD spent, 0.6000 USD expected in the end",
        "1.00 USD for the same time on demand: 75 % saved",
        "12s in the queue, 11m scoring (summed over workers)",
        "Scaled, 60s ago: spot holds, 3 workers",
        "- (x2)   Normal   Admitted   room for 3",
    ):
        assert expected in text


def test_a_job_that_nobody_has_seen_says_so_and_hides_empty_sections() -> None:
    text = describe_job(body(), None, [], View(NOW))
    assert "NotSeenYet" in text
    assert "no operator has looked at it" in text
    for title in ("Progress", "Workers", "Cost", "Time", "Results", "Last decision", "Events"):
        assert title not in text


def test_a_finished_job_shows_results_with_intervals() -> None:
    result = {"evaluation": "arc", "metric": "acc", "value": "0.51", "low": "0.48", "high": "0.54", "n": 2376}
    text = describe_job(body(results=[result], resultsUri="s3://b/r"), None, [], View(NOW))
    assert "arc          acc       0.51    0.48 to 0.54   2376" in text
    assert "all of them: s3://b/r" in text


def test_a_pool_shows_the_machine_that_the_policy_names() -> None:
    pool: dict[str, Any] = {"name": "p", "capacityType": "Spot", "pricePerHour": "1", "maxWorkers": 8, "zone": "eu-1"}
    pool["accelerator"] = {"product": "NVIDIA-H100", "countPerWorker": 2}
    policy = {"metadata": {"name": "default", "namespace": "team"}, "spec": {"pools": [pool]}}
    assert "2 x NVIDIA-H100 in eu-1" in describe_policy(policy, [], View(NOW))


def test_a_policy_shows_its_pools_and_what_was_saved() -> None:
    pools = [{"name": "spot", "capacityType": "Spot", "pricePerHour": "1.20", "maxWorkers": 8}]
    seen = [{"name": "spot", "workers": 3, "ready": 2, "interruptions": 4, "startupSecondsP50": 95}]
    cost = {"spentHour": "1.00", "spentDay": "4.00", "spentMonth": "40.00", "savedVersusOnDemand": "80.00"}
    metadata = {"name": "default", "namespace": "team"}
    status = {"pools": seen, "cost": cost}
    text = describe_policy({"metadata": metadata, "spec": {"pools": pools}, "status": status}, [], View(NOW))
    assert "spot   Spot          1.20         3       2     8               4        95s" in text
    assert "1.00 USD this hour, 4.00 USD this day, 40.00 USD this month (UTC)" in text
    assert "80.00 USD saved this month" in text


def test_the_table_is_ordered_by_age_and_an_ended_job_has_no_workers_any_more() -> None:
    old = body("old", **RUNNING, completionTime="2026-03-01T11:59:00Z")
    old["metadata"]["creationTimestamp"] = "2026-02-01T00:00:00Z"
    headings = [column.heading for column in (NAMESPACE, *COLUMNS)]
    first, second = job_rows([body("new", **RUNNING), old], NOW, namespaces=True)
    assert [first[1], second[1]] == ["old", "new"]
    assert dict(zip(headings, first, strict=True))["WORKERS"] == "-"
    row = dict(zip(headings, second, strict=True))
    assert (row["DONE"], row["WORKERS"], row["ETA"], row["STATE"]) == ("40%", "2/3", "in 10m", "Running")


def test_what_a_pod_wrote_cannot_move_the_cursor_of_a_terminal() -> None:
    hostile = "\x1b[2J\x1b]0;owned\x07all is well\r\nnext\u202e"
    found = body(**{**RUNNING, "conditions": [condition("Ready", "False", "Failed", hostile)]})
    shown = describe_job(found, None, (), View(NOW)) + job_table([found], NOW, namespaces=False)
    assert "all is well" in shown
    assert not set(shown) & set("\x1b\x07\r\u202e")


def test_the_deadline_that_holds_is_shown_before_the_one_that_was_declared() -> None:
    moved = body("moved", deadlineTime="2026-03-01T13:00:00Z")
    moved["spec"]["sla"] = {"completionSeconds": 60}
    (first,) = job_rows([moved], NOW, namespaces=False)
    assert first[DEADLINE] == "in 1h"


def test_a_deadline_is_shown_however_it_was_declared() -> None:
    counted, absolute = body(), body()
    counted["spec"]["sla"] = {"completionSeconds": 3600}
    absolute["spec"]["sla"] = {"deadlineTime": "2026-03-01T11:30:00Z"}
    first, second = job_rows([counted, absolute], NOW, namespaces=False)
    assert [first[DEADLINE], second[DEADLINE]] == ["in 50m", "30m ago"]
