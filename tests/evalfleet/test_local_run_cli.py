"""`evalfleet run` as a user meets it: results, resuming after SIGKILL of everything, errors in words."""

import signal
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from cli import json_of, run_cli, start_cli
from lm_eval_suite import choice_task, write_documents, write_model

WAIT_SECONDS = 300.0


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny model, data and a manifest."""
    folder = tmp_path_factory.mktemp("workspace")
    write_model(folder / "model")
    write_documents(folder / "data", count=200)
    write_manifest(folder, "job.yaml")
    return folder


def write_manifest(folder: Path, name: str, **changes: Any) -> Path:
    spec = {
        "model": {"uri": "file://./model"},
        "data": {"uri": "file://./data", "offline": True},
        "evaluations": [{"name": "choice", "lmEval": {"taskConfig": choice_task()}}],
        **changes,
    }
    manifest = {
        "apiVersion": "evalfleet.io/v1alpha1",
        "kind": "EvaluationJob",
        "metadata": {"name": "tiny"},
        "spec": spec,
    }
    (folder / name).write_text(yaml.safe_dump(manifest))
    return folder / name


def run(workspace: Path, manifest: str, *options: str, store: str = "store") -> Any:
    arguments = ("run", manifest, "--store", store, "--cache", "cache", "-o", "json", *options)
    return run_cli(*arguments, cwd=workspace, HF_HOME=str(workspace / "hf"))


def sample_bytes(report: Any) -> bytes:
    folder = Path(report["resultsUri"].removeprefix("file://"))
    (path,) = folder.glob("*/samples/choice.parquet")
    return path.read_bytes()


def test_a_run_killed_with_all_its_workers_resumes_to_the_same_samples(workspace: Path) -> None:
    undisturbed = json_of(run(workspace, "job.yaml", "--workers", "1", store="undisturbed"))
    assert undisturbed["samples"] == {"planned": 200, "scored": 200, "executedTwice": 0, "mismatched": 0, "failed": 0}
    row = undisturbed["results"][0]
    assert {"evaluation", "metric", "value", "standardError", "low", "high", "n"} <= row.keys()
    assert row["low"] < row["value"] < row["high"]

    arguments = ("run", "job.yaml", "--workers", "2", "--store", "killed", "--cache", "cache")
    first = start_cli(*arguments, cwd=workspace, HF_HOME=str(workspace / "hf"), EVALFLEET_ENGINE="slow_engine:load")
    kill_when_half_done(first, workspace / "killed")
    resumed = json_of(run(workspace, "job.yaml", "--workers", "3", store="killed"))
    assert resumed["samples"]["scored"] == 200
    assert sample_bytes(resumed) == sample_bytes(undisturbed)
    assert resumed["results"] == undisturbed["results"]

    again = json_of(run(workspace, "job.yaml", store="killed"))
    assert (resumed["nothingRun"], resumed["published"]) == (False, "")
    assert again["nothingRun"], "a finished run is shown, not repeated"
    assert datetime.fromisoformat(again["published"])
    assert {**again, "published": "", "nothingRun": False} == resumed
    shown = run_cli("results", "job.yaml", "--store", "killed", cwd=workspace)
    assert "200 samples planned = 200 scored" in shown.stdout
    assert "nothing was run" in shown.stdout
    missing = run_cli("results", "job.yaml", "--store", "elsewhere", cwd=workspace)
    assert (missing.returncode, "no plan yet" in missing.stderr) == (3, True)


def kill_when_half_done(process: Any, store: Path) -> None:
    """SIGKILL the command and every process it started once units are committed."""
    deadline = time.monotonic() + WAIT_SECONDS
    while not list(store.glob("local/runs/*/segments/*/units/*.parquet")):
        assert time.monotonic() < deadline
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    for member in family:
        if member.is_running():
            member.send_signal(signal.SIGKILL)
    process.communicate()
    assert not list(store.glob("local/runs/*/results/summary.json")), "the kill came too late"


@pytest.mark.parametrize(
    ("changes", "code", "words"),
    [
        ({"model": {"uri": "file://./nowhere"}}, 3, "InvalidModelRef"),
        ({"data": {"uri": "file://./nowhere"}}, 3, "DatasetUnreadable"),
        ({"colour": "green"}, 2, "spec.colour: unknown field"),
        ({"sla": {"completionSeconds": 60, "deadlineTime": "2030-01-01T00:00:00Z"}}, 2, "at most one of"),
    ],
)
def test_what_cannot_run_is_said_in_words(workspace: Path, changes: dict[str, Any], code: int, words: str) -> None:
    manifest = write_manifest(workspace, "wrong.yaml", **changes)
    done = run(workspace, manifest.name, store="wrong")
    assert (done.returncode, words in done.stderr) == (code, True), done.stderr
    assert done.stdout == ""


def test_a_damaged_model_is_said_in_words_without_a_score(workspace: Path) -> None:
    write_model(workspace / "broken")
    weights = workspace / "broken" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    write_manifest(workspace, "broken.yaml", model={"uri": "file://./broken"})
    done = run(workspace, "broken.yaml", store="broken-store")
    assert done.returncode == 3
    assert "ModelUnreadable" in done.stderr
    assert done.stdout == ""
