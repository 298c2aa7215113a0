"""Failures have an owner: real worker processes with sick devices, hanging engines and hopeless requests."""

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from worker_processes import Bench

from evalfleet_worker.loop.ownership import DeviceTrouble, device_trouble
from evalfleet_worker.loop.watchdog import Watchdog, WatchdogSettings
from evalfleet_worker.protocol import ExitCode, FailureReason

WAIT_SECONDS = 120.0
IMPATIENT = json.dumps({"least_seconds": 1.0, "first_seconds": 2.0, "factor": 0.1})


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path / "run", f"file://{tmp_path / 'store'}")
    yield bench
    bench.kill_all()


def test_a_sick_worker_ends_itself_and_the_healthy_one_beside_it_scores_everything(bench: Bench) -> None:
    bench.environment["TOY_SECONDS"] = "0.5"
    plan = bench.plan()
    sick, healthy = bench.start("sick", engine="sick"), bench.start("healthy")
    assert sick.wait(WAIT_SECONDS) == ExitCode.BROKEN_WORKER
    assert healthy.wait(WAIT_SECONDS) == ExitCode.DONE
    assert bench.error("sick").reason == FailureReason.DEVICE_FAILED
    assert "3 times in a row" in bench.error("sick").message
    assert "illegal memory access" in bench.error("sick").message
    assert bench.merged() == bench.expected()
    assert bench.store().failed_units(plan) == {}
    records = bench.store().all_failures()
    assert {record.worker for record in records} == {"sick"}
    assert {record.kind for record in records} == {"machine"}


def test_a_sick_worker_alone_gives_no_unit_up(bench: Bench) -> None:
    bench.units = 1
    plan = bench.plan()
    assert bench.start("sick", engine="sick").wait(WAIT_SECONDS) == ExitCode.BROKEN_WORKER
    assert bench.start("sick too", engine="sick").wait(WAIT_SECONDS) == ExitCode.BROKEN_WORKER
    assert bench.store().failed_units(plan) == {}
    assert bench.start("third", engine="sick").wait(WAIT_SECONDS) == ExitCode.DONE
    assert bench.store().failed_units(plan)[0].reason == FailureReason.DEVICE_FAILED


def test_a_device_that_is_gone_before_the_model_is_loaded_ends_the_worker_alone(bench: Bench) -> None:
    bench.plan()
    assert bench.start("worker", engine="without_device").wait(WAIT_SECONDS) == ExitCode.BROKEN_WORKER
    assert bench.error("worker").reason == FailureReason.DEVICE_FAILED
    assert "no CUDA-capable device" in bench.error("worker").message


def test_a_hung_engine_is_ended_and_its_unit_is_scored_by_the_next(bench: Bench, tmp_path: Path) -> None:
    hung = tmp_path / "hung"
    bench.environment = {"EVALFLEET_WATCHDOG": IMPATIENT, "TOY_HANG_ONCE": str(hung)}
    plan = bench.plan()
    assert bench.start("worker", engine="hang").wait(WAIT_SECONDS) == ExitCode.DONE
    assert bench.merged() == bench.expected()
    with pytest.raises(ProcessLookupError):
        os.kill(int(hung.read_text()), 0)
    assert bench.store().failed_units(plan) == {}
    assert [record.reason for record in bench.store().all_failures()] == [FailureReason.ENGINE_HUNG]


def test_one_worker_whose_engine_always_hangs_ends_with_words(bench: Bench) -> None:
    bench.environment = {"EVALFLEET_WATCHDOG": IMPATIENT}
    bench.plan()
    started = time.monotonic()
    assert bench.start("worker", engine="hang").wait(WAIT_SECONDS) == ExitCode.BROKEN_WORKER
    assert time.monotonic() - started < 60.0
    assert bench.error("worker").reason == FailureReason.ENGINE_HUNG
    assert "did not answer for 2 s and was ended" in bench.error("worker").message


def test_a_unit_that_needs_more_memory_than_the_host_has_costs_the_worker_and_no_other_unit(bench: Bench) -> None:
    bench.environment["TOY_OUT_OF_MEMORY_ROW"] = "4"
    plan = bench.plan()
    assert bench.start("worker").wait(WAIT_SECONDS) == ExitCode.BROKEN_WORKER
    assert bench.error("worker").reason == FailureReason.OUT_OF_MEMORY
    assert "killed by SIGKILL: probably out of host memory" in bench.error("worker").message
    assert bench.store().units_done(plan) == set(range(12)) - {1}, "all others first"
    assert bench.store().failed_units(plan) == {}
    del bench.environment["TOY_OUT_OF_MEMORY_ROW"]
    assert bench.start("larger").wait(WAIT_SECONDS) == ExitCode.DONE
    assert bench.merged() == bench.expected()


@pytest.mark.parametrize(
    ("fault", "reason", "words", "tries"),
    [
        ("TOY_RAISE_ROW", FailureReason.INTERNAL_ERROR, "ValueError: row 4 cannot be scored", 2),
        ("TOY_MISFIT_ROW", FailureReason.INVALID_TASK, "row 4 asks for what nobody can do", 1),
    ],
)
def test_what_fails_everywhere_ends_its_evaluation_at_once_and_no_other(
    bench: Bench, fault: str, reason: FailureReason, words: str, tries: int
) -> None:
    bench.environment[fault] = "4"
    bench.second_from = 3
    plan = bench.plan()
    assert bench.start("worker").wait(WAIT_SECONDS) == ExitCode.DONE
    store = bench.store()
    ended = store.ended_evaluations()
    assert list(ended) == ["evaluation"]
    assert (ended["evaluation"].reason, ended["evaluation"].message) == (reason, words)
    assert len({record.owner for record in store.all_failures()}) == tries, "engine processes that tried it"
    assert store.failed_units(plan) == {}
    assert store.units_done(plan) == set(range(12)), "nothing is left to do"
    assert [answer for answer in bench.merged() if answer.row >= 9] == bench.expected()[9:]
    assert not {3, 4, 5} & {answer.row for answer in bench.merged()}


@pytest.mark.parametrize(
    ("error", "trouble"),
    [
        (
            RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
            DeviceTrouble.STICKY,
        ),
        (RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"), DeviceTrouble.STICKY),
        (RuntimeError("NCCL Error 2: unhandled system error"), DeviceTrouble.STICKY),
        (RuntimeError("CUDA error: device-side assert triggered"), DeviceTrouble.STICKY),
        (type("AcceleratorError", (RuntimeError,), {})("an error of the driver"), DeviceTrouble.STICKY),
        (RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"), DeviceTrouble.MEMORY),
        (
            RuntimeError("[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate memory"),
            DeviceTrouble.MEMORY,
        ),
        (MemoryError(), DeviceTrouble.MEMORY),
        (ValueError("the option 'CUDA error' is not known"), DeviceTrouble.NONE),
        (RuntimeError("The size of tensor a (5) must match the size of tensor b (6)"), DeviceTrouble.NONE),
        (KeyError("model.layers.0"), DeviceTrouble.NONE),
    ],
)
def test_whose_an_error_is_follows_from_its_type_and_words(error: Exception, trouble: DeviceTrouble) -> None:
    assert device_trouble(error) is trouble


def test_the_watchdog_waits_ten_times_what_is_predicted_or_was_measured() -> None:
    watchdog = Watchdog(WatchdogSettings())
    assert watchdog.loading() == 7_200.0
    assert watchdog.scoring(5.0) == 900.0, "the first unit may compile"
    watchdog.measured(2.0)
    assert watchdog.scoring(5.0) == 120.0
    assert watchdog.scoring(50.0) == 500.0
    watchdog.measured(30.0)
    assert watchdog.scoring(5.0) == 300.0
    watchdog.loading()
    assert watchdog.scoring(5.0) == 900.0
