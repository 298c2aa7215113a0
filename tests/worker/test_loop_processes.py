"""Real worker processes: killed, stopped, with crashing engines, on a local directory and on an S3 server."""

import os
import random
import resource
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from protocol_simulation import draft
from worker_processes import Bench

from evalfleet_worker.loop.coordinator import release_worker
from evalfleet_worker.protocol import ExitCode, FailureReason

WAIT_SECONDS = 120.0


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path / "run", f"file://{tmp_path / 'store'}")
    yield bench
    bench.kill_all()


def wait_until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while not holds():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def kill_loop(bench: Bench, kills: int, seed: int) -> None:
    """SIGKILL workers at random moments, replacing each, until the run is done; releases as a supervisor does."""
    chance = random.Random(seed)
    plan = bench.plan()
    store = bench.store()
    names = iter(range(10_000))
    workers = [bench.start(f"worker-{next(names)}") for _ in range(3)]
    killed = 0
    while any(process.poll() is None for process in workers):
        time.sleep(chance.uniform(0.05, 0.4))
        alive = [process for process in workers if process.poll() is None]
        if killed >= kills or not alive or len(store.units_done(plan)) >= bench.units:
            continue
        victim = chance.choice(alive)
        victim.send_signal(signal.SIGKILL)
        victim.wait()
        killed += 1
        workers.remove(victim)
        if chance.random() < 0.7:  # else the lease has to end by itself
            release_worker(store, plan, str(victim.args[victim.args.index("--worker") + 1]))
        workers.append(bench.start(f"worker-{next(names)}"))
    assert killed >= min(kills, 3)
    assert bench.merged() == bench.expected()


def test_killed_workers_lose_nothing_and_duplicate_nothing(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "run", f"file://{tmp_path / 'store'}", units=40, environment={"TOY_SECONDS": "0.3"})
    try:
        kill_loop(bench, kills=12, seed=5)
    finally:
        bench.kill_all()


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10))
def test_a_hundred_kills_lose_nothing(tmp_path: Path, seed: int) -> None:
    bench = Bench(tmp_path / "run", f"file://{tmp_path / 'store'}", units=40, environment={"TOY_SECONDS": "0.3"})
    try:
        kill_loop(bench, kills=10, seed=seed)
    finally:
        bench.kill_all()


def test_killed_workers_lose_nothing_on_an_s3_server(tmp_path: Path, s3_store: str) -> None:
    bench = Bench(tmp_path / "run", s3_store, units=20, environment={"TOY_SECONDS": "0.3"})
    try:
        bench.store().probe()
        kill_loop(bench, kills=4, seed=3)
    finally:
        bench.kill_all()


def test_a_unit_that_kills_its_engine_every_time_fails_for_good_and_the_rest_is_scored(bench: Bench) -> None:
    bench.environment["TOY_POISON_ROW"] = "4"
    plan = bench.plan()
    assert bench.start("worker").wait(WAIT_SECONDS) == ExitCode.DONE
    failed = bench.store().failed_units(plan)
    assert list(failed) == [1]
    assert failed[1].reason == FailureReason.ENGINE_CRASHED
    assert "SIGSEGV" in failed[1].message
    assert bench.merged() == [answer for answer in bench.expected() if answer.row not in (3, 4, 5)]


def test_a_stopped_worker_finishes_its_unit_gives_back_its_claims_and_exits_143(bench: Bench) -> None:
    bench.environment["TOY_SECONDS"] = "1.0"
    plan = bench.plan()
    worker = bench.start("worker")
    wait_until(lambda: len(bench.store().units_done(plan)) >= 1)
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(WAIT_SECONDS) == ExitCode.TERMINATED
    listing = bench.store().list_segment(0)
    open_claims = [unit for unit, seen in listing.claims.items() if unit not in listing.done and not seen.freed]
    assert open_claims == []
    assert bench.start("other").wait(WAIT_SECONDS) == ExitCode.DONE
    assert bench.merged() == bench.expected()


def test_a_model_that_can_never_be_loaded_is_fatal_in_words(bench: Bench) -> None:
    bench.plan()
    assert bench.start("worker", engine="refuse").wait(WAIT_SECONDS) == ExitCode.FATAL
    assert bench.error("worker").reason == FailureReason.INVALID_MODEL_REF
    assert bench.error("worker").message == "no model at this path: name another"


def test_a_model_that_changed_since_the_plan_answers_nothing(bench: Bench) -> None:
    planned = replace(draft(bench.units), extra={"modelFingerprint": "the planned one"})
    plan = bench.store().publish_plan(planned)
    bench.environment["TOY_FINGERPRINT"] = "another"
    assert bench.start("worker").wait(WAIT_SECONDS) == ExitCode.FATAL
    assert bench.error("worker").reason == FailureReason.PLAN_CHANGED
    assert bench.store().units_done(plan) == set()
    bench.environment["TOY_FINGERPRINT"] = "the planned one"
    assert bench.start("same").wait(WAIT_SECONDS) == ExitCode.DONE


def test_an_engine_that_fails_while_loading_says_why(bench: Bench) -> None:
    bench.plan()
    assert bench.start("worker", engine="fail").wait(WAIT_SECONDS) == ExitCode.ERROR
    assert bench.error("worker").reason == FailureReason.ENGINE_CRASHED
    assert bench.error("worker").message == "KeyError: 'model.layers.0.weight'"


def test_an_engine_that_dies_while_loading_is_not_tried_for_ever(bench: Bench) -> None:
    bench.plan()
    assert bench.start("worker", engine="die").wait(WAIT_SECONDS) != ExitCode.DONE
    assert bench.error("worker").reason == FailureReason.OUT_OF_MEMORY
    assert bench.store().units_done(bench.store().read_plan()) == set()  # type: ignore[arg-type]


def test_working_without_a_plan_says_what_to_do(bench: Bench) -> None:
    assert bench.start("worker").wait(WAIT_SECONDS) == ExitCode.ERROR
    assert "run the plan command first" in bench.error("worker").message


def test_a_full_store_is_named(bench: Bench) -> None:
    """A real write error: the parts of this store are larger than the process may write."""
    bench.plan()
    limited = bench.start("worker", preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (600, 600)))
    assert limited.wait(WAIT_SECONDS) == ExitCode.FATAL
    assert bench.error("worker").reason == FailureReason.STORE_FULL
    assert "is full" in bench.error("worker").message


def test_a_read_only_store_is_named(bench: Bench, tmp_path: Path) -> None:
    bench.plan()
    store = tmp_path / "store"
    if os.getuid() == 0:  # permissions do not bind root: mount the folder read-only for the worker alone
        mount = f"mount --bind {store} {store} && mount -o remount,ro,bind {store} && exec "
        prefix = ["unshare", "--mount", "sh", "-c", mount + '"$@"', "sh"]
    else:
        for path in (store, *store.rglob("*")):
            path.chmod(0o555 if path.is_dir() else 0o444)
        prefix = []
    try:
        assert bench.start("worker", prefix=prefix).wait(WAIT_SECONDS) == ExitCode.FATAL
        assert bench.error("worker").reason == FailureReason.STORE_UNWRITABLE
        assert "cannot be written" in bench.error("worker").message
    finally:
        for path in (store, *store.rglob("*")):
            path.chmod(0o755)


def test_a_torn_part_is_put_aside_and_executed_again(bench: Bench) -> None:
    plan = bench.plan()
    assert bench.start("first").wait(WAIT_SECONDS) == ExitCode.DONE
    store = bench.store()
    path = Path(bench.store_uri.removeprefix("file://")) / store.layout.part(3)
    path.write_bytes(path.read_bytes()[:40])
    assert store.read_answers(plan, plan.units[3]) is None
    release_worker(store, plan, None)
    assert bench.start("second").wait(WAIT_SECONDS) == ExitCode.DONE
    assert bench.merged() == bench.expected()
