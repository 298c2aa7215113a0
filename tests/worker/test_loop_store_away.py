"""A store that goes away: an S3 server that is stopped, and started again at the same address."""

import json
import secrets
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from worker_processes import QUICK_CLAIMS, Bench

from evalfleet_worker.protocol import ExitCode, FailureReason

WAIT_SECONDS = 120.0


class S3Server:
    """An S3 server whose content outlives its stops."""

    def __init__(self) -> None:
        self.port = 0
        self.start()

    def start(self) -> None:
        from moto.server import ThreadedMotoServer

        self._server = ThreadedMotoServer(ip_address="127.0.0.1", port=self.port, verbose=False)
        self._server.start()
        self.port = int(self._server.get_host_and_port()[1])

    def stop(self) -> None:
        self._server.stop()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Server]:
    import boto3

    server = S3Server()
    endpoint = f"http://127.0.0.1:{server.port}"
    keys = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_REGION": "us-east-1"}
    for name, value in {**keys, "AWS_ENDPOINT_URL": endpoint, "AWS_ALLOW_HTTP": "true"}.items():
        monkeypatch.setenv(name, value)
    boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1").create_bucket(Bucket="away")
    yield server
    server.stop()


@pytest.fixture
def bench(tmp_path: Path, server: S3Server) -> Iterator[Bench]:
    bench = Bench(tmp_path / "run", f"s3://away/{secrets.token_hex(4)}", units=4, environment={"TOY_SECONDS": "4.0"})
    yield bench
    bench.kill_all()


def wait_until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while not holds():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


def test_a_unit_that_is_scored_while_the_store_is_away_and_the_worker_is_stopped_is_not_lost(
    bench: Bench, server: S3Server
) -> None:
    bench.environment["EVALFLEET_GRACE_SECONDS"] = "60"
    plan = bench.plan()
    worker = bench.start("worker")
    wait_until(lambda: len(bench.store().units_done(plan)) == 1)  # the next is in flight
    server.stop()
    worker.send_signal(signal.SIGTERM)
    time.sleep(7.0)  # the unit is scored by now, and cannot be committed
    assert worker.poll() is None, "the worker left with a finished unit"
    server.start()
    assert worker.wait(WAIT_SECONDS) == ExitCode.TERMINATED
    assert len(bench.store().units_done(plan)) == 2


def test_a_stopped_worker_does_not_wait_for_ever_for_a_store_that_stays_away(bench: Bench, server: S3Server) -> None:
    bench.environment["EVALFLEET_GRACE_SECONDS"] = "1"
    plan = bench.plan()
    worker = bench.start("worker")
    wait_until(lambda: len(bench.store().units_done(plan)) == 1)
    server.stop()
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(WAIT_SECONDS) == ExitCode.TERMINATED
    server.start()


def test_a_worker_whose_store_stays_away_leaves_with_75_and_says_so(bench: Bench, server: S3Server) -> None:
    patience = {**QUICK_CLAIMS, "store_patience_seconds": 2.0}
    bench.environment = {"TOY_SECONDS": "0.5", "EVALFLEET_CLAIM_SETTINGS": json.dumps(patience)}
    plan = bench.plan()
    worker = bench.start("worker")
    wait_until(lambda: len(bench.store().units_done(plan)) >= 1)
    server.stop()
    assert worker.wait(WAIT_SECONDS) == ExitCode.DISRUPTED
    assert bench.error("worker").reason == FailureReason.STORE_UNAVAILABLE
    assert bench.start("late").wait(WAIT_SECONDS) == ExitCode.DISRUPTED
    assert "the store does not answer" in bench.error("late").message
    server.start()
