"""Events: posted once, counted afterwards, whatever an earlier process or the API server's clean-up did."""

import logging
from datetime import UTC, datetime
from typing import Any

import pytest

from evalfleet.controller.events import EventRecorder
from evalfleet.kube.client import KubeError

ABOUT: dict[str, Any] = {
    "apiVersion": "evalfleet.io/v1alpha1",
    "kind": "EvaluationJob",
    "metadata": {"name": "job", "namespace": "ns", "uid": "uid"},
}


class Shelf:
    """Events of a namespace as an API server keeps them: one a name, none patched that is not there."""

    def __init__(self) -> None:
        self.events: dict[str, dict[str, Any]] = {}

    async def create(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        name = f"{path}/{body['metadata']['name']}"
        if name in self.events:
            raise KubeError(409, "already exists")
        self.events[name] = body
        return body

    async def patch(self, path: str, body: Any) -> dict[str, Any]:
        if path not in self.events:
            raise KubeError(404, "not found")
        self.events[path] |= body
        return self.events[path]

    @property
    def counts(self) -> list[int]:
        return [event["count"] for event in self.events.values()]


def recorder_of(shelf: Shelf, instance: str) -> EventRecorder:
    return EventRecorder(shelf, "evalfleet", instance, lambda: datetime(2026, 1, 1, tzinfo=UTC))


async def post(recorder: EventRecorder, times: int = 1, name: str = "job") -> None:
    about = {**ABOUT, "metadata": {**ABOUT["metadata"], "name": name}}
    for _ in range(times):
        await recorder.post(about, "Normal", "Planned", "12 samples")


@pytest.fixture(autouse=True)
def nothing_is_warned_of(caplog: pytest.LogCaptureFixture) -> Any:
    yield
    assert [record.message for record in caplog.get_records("call") if record.levelno >= logging.WARNING] == []


async def test_the_same_words_are_one_event_that_counts() -> None:
    shelf = Shelf()
    await post(recorder_of(shelf, "a"), 3)
    assert shelf.counts == [3]


async def test_words_that_come_again_with_other_numbers_are_one_series_with_the_newest() -> None:
    shelf = Shelf()
    recorder = recorder_of(shelf, "a")
    for minute in range(30):
        for status in ("late", "in time"):
            await recorder.post(ABOUT, "Normal", "OnTime", f"{status}: expected at 12:{minute:02d}:00Z")
    assert shelf.counts == [30, 30]
    assert {event["message"] for event in shelf.events.values()} == {
        "late: expected at 12:29:00Z",
        "in time: expected at 12:29:00Z",
    }
    assert {event["firstTimestamp"] for event in shelf.events.values()} == {"2026-01-01T00:00:00Z"}


async def test_a_restarted_process_counts_on_where_the_last_one_was() -> None:
    shelf = Shelf()
    await post(recorder_of(shelf, "a"), 3)
    await post(recorder_of(shelf, "b"), 2)
    assert shelf.counts == [5]


async def test_an_event_that_has_expired_is_posted_anew() -> None:
    shelf = Shelf()
    recorder = recorder_of(shelf, "a")
    await post(recorder, 3)
    shelf.events.clear()
    await post(recorder, 2)
    assert shelf.counts == [2]


@pytest.mark.parametrize("end", [".", "-", "-.-"])
async def test_the_name_of_an_event_is_one_wherever_the_name_of_its_object_is_cut(end: str) -> None:
    shelf = Shelf()
    name = "a" * (200 - len(end)) + end + "b" * 53
    await post(recorder_of(shelf, "a"), name=name)
    (path,) = shelf.events
    head, digest = path.rsplit("/", 1)[1].rsplit(".", 1)
    assert head == "a" * (200 - len(end))
    assert len(digest) == 16
