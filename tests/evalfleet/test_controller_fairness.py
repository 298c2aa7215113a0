"""The operator's loop stays open for others (the Lease, health, watches), however many keys wait."""

import asyncio
from types import SimpleNamespace
from typing import Any, cast

from evalfleet.controller.controller import Controller
from evalfleet.controller.metrics import Telemetry
from evalfleet.controller.settings import Settings
from evalfleet.kube.client import Kube
from evalfleet.kube.resources import Key
from evalfleet.kube.serverclock import ServerClock
from evalfleet_scaling.fleet import decide_fleet


def test_passes_without_io_in_a_row_let_others_have_their_turn() -> None:
    async def scenario() -> int:
        kube = cast("Kube", SimpleNamespace(clock=ServerClock()))
        controller = Controller(kube, Settings(), Telemetry("test"), decide_fleet)
        for number in range(1000):
            controller.queue.add(Key("EvaluationJob", "ns", f"gone-{number}"))
        worker: asyncio.Task[Any] = asyncio.create_task(controller.work())
        for _ in range(3):
            await asyncio.sleep(0)
        left = len(controller.queue)
        worker.cancel()
        return left

    assert asyncio.run(scenario()) > 900
