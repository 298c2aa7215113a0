"""A store and a hub that take the call and do not answer are said in the log."""

import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from evalfleet_worker import waiting
from evalfleet_worker.store.objects import StoreUnavailableError, open_objects
from evalfleet_worker.waiting import tell_of_slow_hub, waiting_for


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "AFTER_SECONDS", 0.5)
    monkeypatch.setattr(waiting, "_waits", waiting._Waits())


@pytest.fixture
def deaf() -> Iterator[str]:
    """HOST:PORT of a server that accepts connections and says nothing."""
    server = socket.create_server(("127.0.0.1", 0))
    yield f"127.0.0.1:{server.getsockname()[1]}"
    server.close()


def said(caplog: pytest.LogCaptureFixture, words: str, times: int = 1) -> bool:
    deadline = time.monotonic() + 20.0
    while time.monotonic() < deadline:
        if sum(words in record.getMessage() for record in caplog.records) >= times:
            return True
        time.sleep(0.05)
    return False


def ignoring(kind: type[Exception], action: Callable[[], object]) -> Callable[[], None]:
    def run() -> None:
        try:
            action()
        except kind:
            return

    return run


@pytest.mark.usefixtures("impatient")
def test_a_store_that_does_not_answer_is_said(
    deaf: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    keys = {"AWS_ACCESS_KEY_ID": "t", "AWS_SECRET_ACCESS_KEY": "t", "AWS_REGION": "us-east-1"}
    for name, value in {**keys, "AWS_ENDPOINT_URL": f"http://{deaf}", "AWS_ALLOW_HTTP": "true"}.items():
        monkeypatch.setenv(name, value)
    objects = open_objects("s3://deaf/place", quick_to_fail=True)
    threading.Thread(target=ignoring(StoreUnavailableError, lambda: objects.get("plan.json")), daemon=True).start()
    with caplog.at_level(logging.WARNING):
        assert said(caplog, "waiting for the store s3://deaf/place since ")


@pytest.mark.usefixtures("impatient")
def test_a_hub_that_does_not_answer_is_said(deaf: str, caplog: pytest.LogCaptureFixture) -> None:
    from huggingface_hub import get_session

    tell_of_slow_hub()
    tell_of_slow_hub()  # once is enough
    request = lambda: get_session().get(f"http://{deaf}/api/models/a/b", timeout=5.0)  # noqa: E731
    threading.Thread(target=ignoring(Exception, request), daemon=True).start()
    with caplog.at_level(logging.WARNING):
        assert said(caplog, f"waiting for {deaf} since ")


@pytest.mark.usefixtures("impatient")
def test_what_answers_in_time_is_not_mentioned_and_what_does_not_is_said_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.WARNING):
        with waiting_for("the quick"):
            pass
        with waiting_for("the slow"):
            assert said(caplog, "waiting for the slow since ", times=2)
    assert not any("the quick" in record.getMessage() for record in caplog.records)
