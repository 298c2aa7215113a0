"""How a local run ends, each by a real one: exit codes, sick workers, interruptions, a time limit."""

import json
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from cli import run_cli, start_cli

from evalfleet.cli.exits import Exit
from evalfleet.local.run.limit import seconds_of
from evalfleet.local.run.reactions import WorkerExit, react
from evalfleet_worker.protocol import ErrorReport, ExitCode, FailureReason

PATIENCE_SECONDS = 120.0


@pytest.fixture
def job(tmp_path: Path) -> Path:
    """A job of somebody's own code, which needs no model."""
    evaluation = {"name": "toy", "python": {"entrypoint": "toy_evaluation:make", "parameters": {"count": "40"}}}
    spec = {"model": {"uri": "file:///none"}, "evaluations": [evaluation], "confirmRunUnsafeCode": True}
    body = {"apiVersion": "evalfleet.io/v1alpha1", "kind": "EvaluationJob", "metadata": {"name": "toy"}, "spec": spec}
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(body))
    return tmp_path


def arguments(*more: str) -> tuple[str, ...]:
    return ("run", "job.yaml", "--store", "store", "--cache", "cache", "--allow-unsafe-code", *more)


def run(job: Path, *more: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return run_cli(*arguments(*more), cwd=job, **environment)


def test_a_time_limit_stops_in_good_order_and_the_same_command_goes_on(job: Path) -> None:
    slow = {"EVALFLEET_ENGINE": "toy_engine:make", "TOY_SECONDS": "600"}
    stopped = run(job, "--workers", "1", "--timeout", "8s", **slow)
    assert stopped.returncode == Exit.TIMEOUT, stopped.stderr
    assert "--timeout is over" in stopped.stderr
    done = run(job, "--workers", "1", "-o", "json")
    assert done.returncode == Exit.SUCCESS, done.stderr
    assert json.loads(done.stdout)["samples"]["scored"] == 40


def test_results_may_be_asked_for_while_a_run_goes_on_and_without_its_options(job: Path) -> None:
    slow = (job / "job.yaml").read_text().replace("count: '40'", "count: '40'\n        seconds: '0.2'")
    (job / "job.yaml").write_text(slow)
    command = start_cli(*arguments("--workers", "1", "-q", "--device", "cpu"), cwd=job)
    show = ("results", "job.yaml", "--store", "store", "--cache", "cache")
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not list((job / "store").glob("local/runs/*/plan.json")):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    early = run_cli(*show, cwd=job)
    assert (early.returncode, "no results yet" in early.stderr) == (Exit.CANNOT_SUCCEED, True), early.stderr
    command.communicate(timeout=PATIENCE_SECONDS)
    assert command.returncode == Exit.SUCCESS
    late = run_cli(*show, cwd=job)
    assert late.returncode == Exit.SUCCESS, late.stderr
    assert "40 samples planned = 40 scored" in late.stdout
    assert "changed since" not in late.stdout


def test_ctrl_c_ends_with_130_and_leaves_no_process(job: Path) -> None:
    slow = {"EVALFLEET_ENGINE": "toy_engine:make", "TOY_SECONDS": "600"}
    command = start_cli(*arguments("--workers", "1"), cwd=job, **slow)
    assert command.stderr is not None
    deadline = time.monotonic() + PATIENCE_SECONDS
    while "worker-1 started" not in command.stderr.readline():
        assert time.monotonic() < deadline
    family = psutil.Process(command.pid).children(recursive=True)
    command.send_signal(signal.SIGINT)
    _, errors = command.communicate(timeout=PATIENCE_SECONDS)
    assert command.returncode == Exit.INTERRUPTED
    assert "interrupted: what is done is kept" in errors
    assert family
    assert psutil.wait_procs(family, timeout=PATIENCE_SECONDS)[1] == []


def test_one_other_worker_is_tried_where_one_broke_and_the_reason_is_told_with_its_log(job: Path) -> None:
    sick = run(job, "--workers", "1", EVALFLEET_ENGINE="toy_engine:sick")
    assert sick.returncode == Exit.CANNOT_SUCCEED, sick.stderr
    assert "starting one other in its place" in sick.stderr
    assert "no worker is left" in sick.stderr
    last = sick.stderr.splitlines()
    assert any("DeviceFailed" in line and "illegal memory access" in line for line in last[-3:])
    assert Path(last[-1].removeprefix("log: ")).is_file()
    assert run(job, "--workers", "1").returncode == Exit.SUCCESS, "nothing was given up"


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (("--timeout", "soon"), "expected a time such as 90s, 30m or 2h"),
        (("--timeout", "0"), "expected a time such as"),
        (("--device", "gpu"), "expected auto, cpu, cuda or cuda:N"),
        (("--workers", "0"), "greater than or equal to 1"),
        (("--nonsense",), "No such option"),
    ],
)
def test_wrong_options_end_with_2_before_anything_starts(job: Path, more: tuple[str, ...], words: str) -> None:
    done = run(job, *more)
    assert (done.returncode, words in done.stderr) == (Exit.USAGE, True), done.stderr
    assert not (job / "cache").exists()


def test_a_gpu_that_cannot_be_used_is_missed_in_words(job: Path) -> None:
    done = run(job, "--device", "cuda:99")
    assert done.returncode == Exit.CANNOT_SUCCEED
    assert "NoUsableAccelerator: --device cuda:99, but" in done.stderr
    assert "to compute on the CPU say --device cpu" in done.stderr


@pytest.mark.parametrize(("text", "seconds"), [("90", 90), ("1.5m", 90), ("2h", 7200), ("8s", 8)])
def test_times_are_read_as_people_write_them(text: str, seconds: float) -> None:
    assert seconds_of(text) == seconds


BROKEN = ErrorReport(FailureReason.DEVICE_FAILED, "CUDA error")


@pytest.mark.parametrize(
    ("ended", "replace", "give_up"),
    [
        (WorkerExit("w", ExitCode.BROKEN_WORKER, BROKEN), True, False),
        (WorkerExit("w", ExitCode.BROKEN_WORKER, BROKEN, alone=False), True, False),
        (WorkerExit("w", ExitCode.BROKEN_WORKER, BROKEN, broken_before=True), False, True),
        (WorkerExit("w", ExitCode.BROKEN_WORKER, BROKEN, broken_before=True, alone=False), False, False),
        (WorkerExit("w", ExitCode.UNSUITABLE, BROKEN), False, True),
        (WorkerExit("w", ExitCode.UNSUITABLE, BROKEN, alone=False), False, False),
        (WorkerExit("w", ExitCode.FATAL, BROKEN, alone=False), False, True),
        (WorkerExit("w", ExitCode.DONE), False, False),
        (WorkerExit("w", -9), True, False),
        (WorkerExit("w", ExitCode.DISRUPTED), True, False),
        (WorkerExit("w", ExitCode.ERROR), True, False),
        (WorkerExit("w", ExitCode.TERMINATED, stopped=True), False, False),
    ],
)
def test_what_follows_when_a_worker_ends(ended: WorkerExit, replace: bool, give_up: bool) -> None:
    reaction: Any = react(ended, crashes=0)
    assert (reaction.replace, reaction.give_up) == (replace, give_up)
