"""A real model, real worker processes: killed in the middle of units, all at once, in the middle of finishing."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from lm_eval_suite import choice_task, generation_task, run_of, write_documents, write_model

from evalfleet_worker.finish.finisher import finish_run
from evalfleet_worker.loop.coordinator import release_worker
from evalfleet_worker.plan.planner import plan_run
from evalfleet_worker.protocol import EvaluationSpec, LmEvalSpec, RunSpec, dumps
from evalfleet_worker.store.run_store import RunStore

LOOPS = 10
WAIT_SECONDS = 300.0


@dataclass
class Planned:
    """A planned run that can be copied, and what an undisturbed run of it publishes."""

    run: RunSpec
    folder: Path
    cache: Path
    truth: dict[str, bytes]

    def copy(self, folder: Path) -> RunSpec:
        shutil.copytree(self.folder, folder)
        return replace(self.run, store_uri=str(folder))


@pytest.fixture(scope="module")
def planned(tmp_path_factory: pytest.TempPathFactory) -> Planned:
    root = tmp_path_factory.mktemp("resume")
    model, data = write_model(root / "model"), write_documents(root / "data", count=24)
    run = run_of(model, data, LmEvalSpec(task_config=choice_task()), root / "planned")
    generate = EvaluationSpec("generation", LmEvalSpec(task_config=generation_task()))
    run = replace(run, evaluations=(*run.evaluations, generate))
    plan_run(run, store_of(run), root / "cache", lambda _: None)
    made = Planned(run, root / "planned", root / "cache", {})
    undisturbed = made.copy(root / "undisturbed")
    assert start(undisturbed, root, "alone").wait(WAIT_SECONDS) == 0
    made.truth = published(undisturbed, made.cache)
    return made


def store_of(run: RunSpec) -> RunStore:
    return RunStore.open(run.store_uri, run.namespace, run.run_id)


def published(run: RunSpec, cache: Path) -> dict[str, bytes]:
    """Finish and read the per-sample files."""
    report = finish_run(run, store_of(run), cache)
    assert report.outcome == "Complete"
    assert report.samples.scored == report.samples.planned == 48
    assert report.samples.mismatched == 0
    return {name: store_of(run).read_result(f"samples/{name}.parquet") for name in ("evaluation", "generation")}


def start(run: RunSpec, folder: Path, name: str, command: str = "work") -> subprocess.Popen[bytes]:
    spec = folder / f"{name}.spec.json"
    spec.write_text(dumps(run))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "EVALFLEET_THREADS": "1"}
    argv = [sys.executable, "-m", "evalfleet_worker", command, "--spec", str(spec), "--worker", name]
    return subprocess.Popen([*argv, "--cache", str(folder / "cache")], env=environment, stderr=subprocess.DEVNULL)


def kill_in_the_middle(
    run: RunSpec, workers: list[subprocess.Popen[bytes]], victims: int, chance: random.Random
) -> int:
    """SIGKILL `victims` workers once units are being committed; returns how many units were left."""
    store = store_of(run)
    plan = store.read_plan()
    assert plan is not None
    wanted = chance.randint(1, max(1, len(plan.units) // 2))
    deadline = time.monotonic() + WAIT_SECONDS
    while len(store.units_done(plan)) < wanted and any(worker.poll() is None for worker in workers):
        assert time.monotonic() < deadline
        time.sleep(0.005)
    for worker in chance.sample(workers, victims):
        worker.send_signal(signal.SIGKILL)
        worker.wait()
    return len(plan.units) - len(store.units_done(plan))


def test_the_samples_are_identical_after_kills_and_another_number_of_workers(planned: Planned, tmp_path: Path) -> None:
    unfinished = 0
    for loop in range(LOOPS):
        chance = random.Random(loop)
        run = planned.copy(tmp_path / f"run-{loop}")
        first = [start(run, tmp_path, f"first-{loop}-{index}") for index in range(2)]
        unfinished += kill_in_the_middle(run, first, victims=chance.choice([1, 2]), chance=chance) > 0
        for worker in first:
            worker.kill()
            worker.wait()
        release_worker(store_of(run), store_of(run).read_plan(), None)  # type: ignore[arg-type]
        assert start(run, tmp_path, f"second-{loop}").wait(WAIT_SECONDS) == 0
        assert published(run, planned.cache) == planned.truth
    assert unfinished >= LOOPS // 2, "the kills came too late to prove anything"


def test_a_killed_finisher_is_repeated_with_the_same_result(planned: Planned, tmp_path: Path) -> None:
    run = planned.copy(tmp_path / "run")
    assert start(run, tmp_path, "worker").wait(WAIT_SECONDS) == 0
    finisher = start(run, tmp_path, "finisher", command="finish")
    time.sleep(1.0)
    assert finisher.poll() is None, "the finisher was too fast to be killed"
    finisher.kill()
    finisher.wait()
    assert published(run, planned.cache) == planned.truth


def test_two_finishers_at_once_publish_one_result(planned: Planned, tmp_path: Path) -> None:
    run = planned.copy(tmp_path / "run")
    assert start(run, tmp_path, "worker").wait(WAIT_SECONDS) == 0
    finishers = [start(run, tmp_path, f"finisher-{index}", command="finish") for index in range(2)]
    assert [finisher.wait(WAIT_SECONDS) for finisher in finishers] == [0, 0]
    assert published(run, planned.cache) == planned.truth
