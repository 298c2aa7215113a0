"""The class that the plan chose is in the plan, in request keys and in unit results; other workers do not join."""

import json
import os
import subprocess
import sys
from dataclasses import replace

import pytest
from lm_eval_suite import choice_task, run_of, write_documents, write_model

from evalfleet_worker.finish import finish_run
from evalfleet_worker.loop.coordinator import Coordinator, Owner
from evalfleet_worker.loop.meter import Meter
from evalfleet_worker.plan.planner import plan_run
from evalfleet_worker.protocol import (
    EngineSpec,
    ErrorReport,
    ExitCode,
    FailureReason,
    LmEvalSpec,
    ModelSpec,
    dumps,
    loads,
)
from evalfleet_worker.store.run_store import RunStore


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("numerics")
    return write_model(folder / "model"), write_documents(folder / "data")


def planned(place, tmp_path, **changes):
    """A run of one small task, and its plan."""
    run = replace(run_of(*place, LmEvalSpec(task_config=choice_task(), limit=4), tmp_path / "store"), **changes)
    store = RunStore.open(run.store_uri, run.namespace, run.run_id)
    plan_run(run, store, tmp_path, lambda _: None)
    return run, store, store.read_plan()


def work(run, tmp_path, *arguments, **environment):
    """A real worker process; returns its exit code and last words."""
    (tmp_path / "spec.json").write_text(dumps(run))
    last_words = tmp_path / "termination.json"
    last_words.unlink(missing_ok=True)
    argv = [sys.executable, "-m", "evalfleet_worker", "work", "--spec", str(tmp_path / "spec.json"), *arguments]
    argv += ["--cache", str(tmp_path), "--termination-log", str(last_words)]
    done = subprocess.run(argv, env={**os.environ, **environment}, capture_output=True, text=True, check=False)
    return done, loads(ErrorReport, last_words.read_bytes()) if last_words.exists() else None


def first_key(store, plan):
    return store.read_unit(plan, plan.units[0])[0].key


def test_auto_is_resolved_and_its_keys_are_those_of_the_type_by_name(place, tmp_path):
    _, store, auto = planned(place, tmp_path / "auto")
    assert auto.numerics.dtype == "Float32"
    assert auto.numerics.device_kind == "cpu"
    assert auto.report.numerics == "Fast Transformers Float32 cpu"
    model = ModelSpec(str(place[0]), dtype="BFloat16")
    _, other_store, half = planned(place, tmp_path / "half", model=model)
    assert half.numerics.dtype == "BFloat16"
    assert first_key(store, auto) != first_key(other_store, half)
    assert auto.report.messages == ()


def test_a_half_precision_checkpoint_on_a_cpu_is_said(place, tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    for file in place[0].iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    config = json.loads((folder / "config.json").read_text())
    config.pop("torch_dtype", None)
    (folder / "config.json").write_text(json.dumps(config | {"dtype": "float16"}))
    _, _, plan = planned(place, tmp_path, model=ModelSpec(str(folder)))
    assert plan.numerics.dtype == "Float32"
    assert plan.report.messages == ("Float32 on a CPU; the checkpoint is Float16",)


def test_units_tell_the_class_and_the_way_in_which_the_model_was_run(place, tmp_path):
    run, store, plan = planned(place, tmp_path)
    done, error = work(run, tmp_path)
    assert (done.returncode, error) == (ExitCode.DONE, None), done.stderr
    for unit in plan.units:
        told = store.read_answers(plan, unit)[1]["engine"]
        assert told.startswith("Fast Transformers Float32 cpu; packed (probe: ")
        assert told in done.stderr
    meter = Meter("worker", engine=told)
    assert meter.progress(Coordinator(store, plan, Owner("o", "worker"), lambda: 0.0)).engine == told
    assert finish_run(run, store, tmp_path).engine == (told,)


def test_a_worker_with_a_gpu_that_torch_cannot_use_fails_in_words(place, tmp_path):
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("this machine's GPU is usable")
    run, store, plan = planned(place, tmp_path, device_kind="cuda", accelerators=("NVIDIA-H100",))
    done, error = work(run, tmp_path, EVALFLEET_ACCELERATOR="NVIDIA-H100")
    assert done.returncode == ExitCode.UNSUITABLE
    assert error.reason is FailureReason.NO_USABLE_ACCELERATOR
    assert "NVIDIA-H100" in error.message
    assert torch.__version__ in error.message
    assert store.units_done(plan) == set()


@pytest.mark.parametrize(
    ("kind", "arguments", "environment"),
    [("cpu", (), {"EVALFLEET_ACCELERATOR": "NVIDIA-H100"}), ("cuda", ("--device", "cpu"), {})],
)
def test_a_worker_of_another_class_does_not_join(place, tmp_path, kind, arguments, environment):
    run, store, plan = planned(place, tmp_path, device_kind=kind)
    done, error = work(run, tmp_path, *arguments, **environment)
    assert done.returncode == ExitCode.UNSUITABLE
    assert error.reason is FailureReason.OTHER_NUMERICS
    assert store.units_done(plan) == set()
    assert all(claim.freed for claim in store.list_segment(0).claims.values())


def test_a_strict_run_packs_by_the_plan_s_budget_on_every_worker(place, tmp_path):
    from evalfleet_worker.engine.causal_lm import load_causal_lm

    run, _, plan = planned(place, tmp_path, engine=EngineSpec("Strict", 300))
    assert plan.numerics.step_tokens == 300
    assert plan.numerics.strict
    engine = load_causal_lm(replace(run, resolved=plan.numerics), tmp_path)
    assert engine.budget.tokens == 300
    _, _, default = planned(place, tmp_path / "default", engine=EngineSpec("Strict"))
    engine = load_causal_lm(replace(run, resolved=default.numerics), tmp_path)
    assert engine.budget.tokens == default.numerics.step_tokens == 2048
    import torch

    torch.use_deterministic_algorithms(mode=False)
