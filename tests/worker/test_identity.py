"""Whoever changes a model or its data in place has another run; who changes nothing has the same, and it is cheap."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from lm_eval_suite import choice_task, run_of, write_documents
from tiny_models import random_model

from evalfleet_worker.identity import run_identity
from evalfleet_worker.model import digest, memo
from evalfleet_worker.protocol import (
    EmbeddingSpec,
    EvaluationSpec,
    LmEvalSpec,
    ModelSpec,
    PythonSpec,
    RunIdentity,
    dumps,
    loads,
)


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    folder = tmp_path_factory.mktemp("identity")
    random_model("LlamaConfig", "LlamaForCausalLM").save_pretrained(folder / "model")
    (folder / "model" / "tokenizer.json").write_text("{}")
    write_documents(folder / "data")
    return folder


@pytest.fixture
def run(built, tmp_path):
    place = shutil.copytree(built, tmp_path / "place")
    return run_of(place / "model", place / "data", LmEvalSpec(task_config=choice_task()), tmp_path / "store")


def model_of(run):
    return Path(run.model.uri)


def data_of(run):
    return Path(run.data_uri.removeprefix("file://"))


def test_the_same_files_are_the_same_run_wherever_they_lie(run, built, tmp_path):
    first = run_identity(run, tmp_path)
    assert run_identity(run, tmp_path) == first
    other = replace(run, model=ModelSpec(str(built / "model")), data_uri=f"file://{built / 'data'}")
    assert run_identity(other, tmp_path / "other") == first


def test_weights_replaced_in_place_with_the_same_size_and_time_are_another_run(run, tmp_path):
    from safetensors.torch import load_file, save_file

    first = run_identity(run, tmp_path)
    weights = model_of(run) / "model.safetensors"
    before = weights.stat()
    state = load_file(weights)
    state["model.norm.weight"] = state["model.norm.weight"] * 1.001
    save_file(state, weights, {"format": "pt"})
    os.utime(weights, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert weights.stat().st_size == before.st_size
    second = run_identity(run, tmp_path)
    assert second.model != first.model
    assert second.data == first.data


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "generation_config.json"])
def test_another_config_tokenizer_or_default_of_generation_is_another_run(run, tmp_path, name):
    first = run_identity(run, tmp_path)
    file = model_of(run) / name
    file.write_text(json.dumps({**json.loads(file.read_text()), "temperature": 0.5}))
    assert run_identity(run, tmp_path).model != first.model


def test_a_removed_row_is_another_run_and_a_file_that_no_task_names_is_not(run, tmp_path):
    first = run_identity(run, tmp_path)
    (used,) = (file for file in data_of(run).iterdir() if file.name in json.dumps(choice_task()))
    (data_of(run) / "unrelated.jsonl").write_text("{}\n")
    assert run_identity(run, tmp_path) == first
    used.write_text("".join(used.read_text().splitlines(keepends=True)[:-1]))
    assert run_identity(run, tmp_path).data != first.data


def test_the_files_of_groups_patterns_and_embeddings_count(run, tmp_path):
    for name in ("part-1.jsonl", "part-2.jsonl", "pairs[1].csv"):
        (data_of(run) / name).write_text("{}\n")
    group = {"group": "g", "task": [choice_task(dataset_kwargs={"data_files": {"test": ["part-*.jsonl"]}})]}
    evaluations = (
        EvaluationSpec("group", LmEvalSpec(task_config=group)),
        EvaluationSpec("pairs", embedding=EmbeddingSpec("pairs[1].csv")),
    )
    asked = replace(run, evaluations=evaluations)
    found = {run_identity(asked, tmp_path).data}
    for name in ("part-2.jsonl", "pairs[1].csv"):
        (data_of(run) / name).write_text("{}\n{}\n")
        found.add(run_identity(asked, tmp_path).data)
    assert len(found) == 3


def test_the_users_own_code_counts_and_is_not_run(run, tmp_path, monkeypatch):
    module = tmp_path / "own_evaluation.py"
    module.write_text("raise SystemExit('run')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    asked = replace(run, evaluations=(EvaluationSpec("own", python=PythonSpec("own_evaluation:make")),))
    first = run_identity(asked, tmp_path)
    assert first.model == ""
    module.write_text("raise SystemExit('run again')\n")
    assert run_identity(asked, tmp_path).data != first.data


def test_what_did_not_change_is_not_read_again(run, tmp_path, monkeypatch):
    first = run_identity(run, tmp_path)
    for module, name in ((digest, "_hash_tensors"), (memo, "_hash")):
        monkeypatch.setattr(module, name, lambda *_: pytest.fail("read again"))
    assert run_identity(run, tmp_path) == first


COMMAND = """
import sys
from evalfleet_worker.__main__ import main

code = main(sys.argv[1:])
heavy = {"torch", "transformers", "lm_eval", "datasets"} & set(sys.modules)
sys.exit(code or len(heavy))
"""


def test_the_command_prints_it_without_torch_or_transformers(run, tmp_path):
    spec = tmp_path / "spec.json"
    spec.write_text(dumps(run))
    argv = [sys.executable, "-c", COMMAND, "identity", "--spec", spec, "--cache", tmp_path / "cache"]
    told = subprocess.run(argv, capture_output=True, text=True, check=True)
    assert loads(RunIdentity, told.stdout) == run_identity(run, tmp_path)
