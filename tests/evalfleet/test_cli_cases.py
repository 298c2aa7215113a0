"""Situations that people really have, through the command line: the right value, or the reason and its place."""

import json
import os
import pty
import shutil
import struct
import subprocess
import sys
import termios
from collections.abc import Mapping
from fcntl import ioctl
from pathlib import Path
from typing import Any

import pytest
import yaml
from cli import run_cli
from lm_eval_suite import choice_task, dataset, generation_task, metrics, write_documents, write_model

DOCUMENTS = 6


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny model and data."""
    folder = tmp_path_factory.mktemp("cases")
    write_model(folder / "model")
    write_documents(folder / "data", count=DOCUMENTS)
    (folder / "data" / "empty.jsonl").write_text("")
    (folder / "data" / "labels.jsonl").write_text(
        "".join(
            json.dumps({"q": f"case {i}", "label": ["yes", "no", "maybe"][i % 3], "n": i % 3}) + "\n" for i in range(6)
        )
    )
    return folder


def manifest(folder: Path, name: str, evaluations: Mapping[str, Any], model: str = "model") -> Path:
    """A job of inline configs by name."""
    spec = {
        "model": {"uri": f"file://./{model}"},
        "data": {"uri": "file://./data", "offline": True},
        "evaluations": [{"name": key, "lmEval": {"taskConfig": config}} for key, config in evaluations.items()],
    }
    job = {"apiVersion": "evalfleet.io/v1alpha1", "kind": "EvaluationJob", "metadata": {"name": name}, "spec": spec}
    (folder / f"{name}.yaml").write_text(yaml.safe_dump(job, sort_keys=False))
    return folder / f"{name}.yaml"


def call(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The command, with cache and data sets of the test's own."""
    return run_cli(*arguments, "--cache", "cache", cwd=folder, HF_HOME=str(folder / "hf"))


def labels(**changes: Any) -> dict[str, Any]:
    """A choice among two of the three labels that the data have."""
    config = {
        "task": "labels",
        **dataset("test", file="labels"),
        "output_type": "multiple_choice",
        "doc_to_text": "{{q}}:",
        "doc_to_choice": ["yes", "no", "maybe"],
        "doc_to_target": "label",
        "metric_list": metrics("acc"),
    }
    return {**config, **changes}


def test_a_plan_names_every_evaluation_that_cannot_be_scored_and_its_place(place: Path) -> None:
    """Gold answers that are no choice, a misspelt column, an aggregation that does not exist, a split without rows."""
    wrong = {
        "gold": labels(doc_to_choice=["yes", "no"]),
        "column": labels(doc_to_target="labl"),
        "aggregation": labels(metric_list=[{"metric": "acc", "aggregation": "maen", "higher_is_better": True}]),
        "empty": labels(**dataset("test", file="empty")),
        "regex": generation_task(
            filter_list=[
                {
                    "name": "group",
                    "filter": [{"function": "regex", "regex_pattern": "([a-z]+)", "group_select": 3}],
                }
            ]
        ),
        "good": choice_task(),
    }
    job = manifest(place, "mistakes", wrong)
    told = call(place, "plan", job.name, "-q")
    assert told.returncode == 3, told.stderr
    assert "cannot have a full score: 5 of its evaluations" in told.stdout
    lines = {
        line.split("Refused: ")[1].partition(":")[0]: line for line in told.stdout.splitlines() if "Refused" in line
    }
    assert set(lines) == set(wrong) - {"good"}
    for name, words in {"gold": "maybe", "column": "labl", "aggregation": "maen", "empty": "empty.jsonl"}.items():
        assert words in lines[name]
    content = json.loads(call(place, "plan", job.name, "-q", "-o", "json").stdout)
    assert (content["canSucceed"], len(content["refused"]), content["samples"]) == (False, 5, DOCUMENTS)


def test_a_plan_refuses_a_model_that_would_score_from_random_weights(place: Path) -> None:
    from safetensors.torch import load_file, save_file

    shutil.copytree(place / "model", place / "headless")
    weights = load_file(place / "headless" / "model.safetensors")
    head = next(name for name in weights if "lm_head" in name)
    save_file(
        {k: v for k, v in weights.items() if k != head}, place / "headless" / "model.safetensors", {"format": "pt"}
    )
    job = manifest(place, "headless", {"choice": choice_task()}, model="headless")
    told = call(place, "plan", job.name, "-q", "-o", "json")
    assert told.returncode == 3
    content = json.loads(told.stdout)
    assert (content["canSucceed"], content["reason"]) == (False, "ModelUnreadable")
    assert head in content["message"]
    assert Path(content["log"]).is_file()
    assert f"log: {content['log']}" in told.stderr


def test_what_fails_alone_fails_alone_and_the_command_says_why(place: Path) -> None:
    evaluations = {"good": choice_task(metric_list=metrics("acc")), "bad": labels(doc_to_choice=["yes", "no"])}
    job = manifest(place, "partly", evaluations)
    done = call(place, "run", job.name, "--store", "partly", "-q")
    assert done.returncode == 1, done.stderr
    assert "good" in done.stdout
    assert "Failed: bad: " in done.stdout
    again = call(place, "results", job.name, "--store", "partly", "-o", "json")
    assert again.returncode == 1
    content = json.loads(again.stdout, parse_constant=pytest.fail)
    assert (content["outcome"], content["nothingRun"]) == ("SomeEvaluationsFailed", True)
    assert [result["evaluation"] for result in content["results"]] == ["good"]
    assert [failure["evaluation"] for failure in content["failed"]] == ["bad"]


def test_what_was_replaced_in_place_is_evaluated_anew(place: Path) -> None:
    """The same command and store: other weights, one row less, and nothing changed; labels may be dates."""
    shutil.copytree(place / "model", place / "checkpoint")
    config = choice_task(
        metric_list=metrics("acc"), metadata={"version": "VERSION"}, **dataset("test", file="changing")
    )
    shutil.copy(place / "data" / "test.jsonl", place / "data" / "changing.jsonl")
    job = manifest(place, "changing", {"choice": config}, model="checkpoint")
    job.write_text(job.read_text().replace("VERSION", "2024-01-01"))

    def numbers() -> Any:
        done = call(place, "run", job.name, "--store", "changing", "-q", "-o", "json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    first, again = numbers(), numbers()
    assert (first["nothingRun"], again["nothingRun"]) == (False, True)
    assert again["results"] == first["results"]

    replace_weights(place / "checkpoint")
    stale = call(place, "results", job.name, "--store", "changing")
    assert stale.returncode == 0
    assert "the model or the data changed since this was run" in stale.stdout
    retrained = numbers()
    assert not retrained["nothingRun"]
    assert retrained["proof"]["model"] != first["proof"]["model"]

    rows = (place / "data" / "changing.jsonl").read_text().splitlines(keepends=True)
    (place / "data" / "changing.jsonl").write_text("".join(rows[:-1]))
    fewer = numbers()
    assert (fewer["nothingRun"], fewer["results"][0]["n"]) == (False, DOCUMENTS - 1)
    for width in (40, 60, 80):
        screen = on_a_terminal(width, "results", job.name, "--store", "changing", "--cache", "cache", folder=place)
        table = screen.split("result of")[0]
        assert max(map(len, screen.splitlines())) <= width
        assert f"{fewer['results'][0]['value']:.4f}" in table.split()
        assert str(DOCUMENTS - 1) in table.split()


def replace_weights(model: Path) -> None:
    """Another checkpoint under the same name: same files, same sizes."""
    from safetensors.torch import load_file, save_file

    weights = load_file(model / "model.safetensors")
    changed = {name: tensor.flip(0).contiguous() for name, tensor in weights.items()}
    save_file(changed, model / "model.safetensors", {"format": "pt"})


def on_a_terminal(width: int, *arguments: str, folder: Path) -> str:
    """What the command shows on a terminal of that width."""
    keyboard, screen = pty.openpty()
    ioctl(screen, termios.TIOCSWINSZ, struct.pack("HHHH", 50, width, 0, 0))
    environment = {key: value for key, value in os.environ.items() if key != "COLUMNS"}
    environment["PYTHONPATH"] = os.pathsep.join(sys.path)
    argv = [sys.executable, "-m", "evalfleet.cli.main", *arguments]
    process = subprocess.Popen(argv, stdout=screen, stderr=subprocess.DEVNULL, cwd=folder, env=environment)
    os.close(screen)
    shown = b""
    while True:
        try:
            part = os.read(keyboard, 65536)
        except OSError:  # the terminal is gone with its last process
            part = b""
        if not part:
            break
        shown += part
    os.close(keyboard)
    assert process.wait() == 0
    return shown.decode().replace("\r\n", "\n")
