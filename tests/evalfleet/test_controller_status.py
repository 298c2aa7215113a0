"""Statuses at the API server: decided on what was read, said in words where they are refused, told once."""

import logging
from typing import Any

import pytest
from aiohttp import web
from operator_states import manifest
from small_api_server import SmallServer, error, small_server

from evalfleet.controller.controller import Controller
from evalfleet.controller.metrics import Telemetry
from evalfleet.controller.settings import Settings
from evalfleet.kube.client import Kube
from evalfleet.kube.resources import Key
from evalfleet.reconcile.conditions import find
from evalfleet_scaling.fleet import decide_fleet

JOBS = "/apis/evalfleet.io/v1alpha1/namespaces/ns/evaluationjobs"
KEY = Key("EvaluationJob", "ns", "job")


def controller(server: SmallServer, kube: Kube, **spec: Any) -> Controller:
    """A controller that has seen one new job."""
    made = Controller(kube, Settings(), Telemetry("test"), decide_fleet)
    made.router.deliver("EvaluationJob", "ADDED", server.put(JOBS, manifest(**spec)))
    return made


def conditions(server: SmallServer) -> list[dict[str, Any]]:
    return list(server.objects[f"{JOBS}/job"].get("status", {}).get("conditions") or [])


async def test_what_was_decided_on_an_older_version_is_not_written_but_decided_again() -> None:
    async with small_server() as (server, kube):
        yesterday = controller(server, kube)
        done = {"type": "Succeeded", "status": "True", "reason": "Complete", "message": "m", "observedGeneration": 1}
        body = {
            **server.objects[f"{JOBS}/job"],
            "status": {"conditions": [{**done, "lastTransitionTime": "2026-01-01T00:00:00Z"}]},
        }
        server.put(JOBS, body)  # the new leader has finished it
        with pytest.raises(RuntimeError, match="409"):
            await yesterday.reconcile(KEY)
        assert [c["type"] for c in conditions(server)] == ["Succeeded"]
        await yesterday.reconcile(KEY)  # now it has read what is true
        assert find(conditions(server), "Succeeded") is not None


async def test_a_status_that_the_api_server_refuses_says_so_in_one_that_it_takes() -> None:
    def refuse(method: str, path: str, body: Any) -> web.Response | None:
        return error(422, "status.startTime: too odd") if "startTime" in body.get("status", {}) else None

    async with small_server() as (server, kube):
        made = controller(server, kube)
        server.refuse = refuse
        with pytest.raises(RuntimeError, match="422"):
            await made.reconcile(KEY)
        stalled = find(conditions(server), "Stalled")
        assert stalled is not None
        assert (stalled["reason"], "too odd" in stalled["message"]) == ("StatusRefused", True)
        server.refuse = lambda *_: None
        await made.reconcile(KEY)
        assert find(conditions(server), "Stalled") is None


async def test_the_words_of_a_decision_are_in_the_condition_the_event_the_log_and_the_metric(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with small_server() as (server, kube):
        made = controller(server, kube, store=None)
        with caplog.at_level(logging.INFO, logger="evalfleet"):
            await made.reconcile(KEY)
            await made.reconcile(KEY)
        accepted = find(conditions(server), "Accepted")
        events = [body for path, body in server.objects.items() if "/events/" in path]
        assert accepted is not None
        assert [(event["reason"], event["message"]) for event in events] == [(accepted["reason"], accepted["message"])]
        (said,) = [record for record in caplog.records if accepted["message"] in record.getMessage()]
        assert said.__dict__["object"] == KEY
        labels = {"type": "Accepted", "status": "False", "reason": "StoreMissing"}
        assert made.telemetry.registry.get_sample_value("evalfleet_condition_changes_total", labels) == 1
