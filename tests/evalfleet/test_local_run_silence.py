"""A hub or store that does not answer is said on the screen, with its address, while the command still waits."""

import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from cli import start_cli

from evalfleet.local.run.silence import SILENCE_SECONDS, last_line, places, refusal
from evalfleet_worker.protocol import EvaluationSpec, LmEvalSpec, ModelSpec, PythonSpec, RunSpec

PATIENCE_SECONDS = 120.0


@pytest.fixture(scope="module")
def deaf_server() -> Iterator[str]:
    """Address of a server that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        kept: list[socket.socket] = []

        def accept() -> None:
            while True:
                try:
                    kept.append(server.accept()[0])
                except OSError:
                    return

        threading.Thread(target=accept, daemon=True).start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


@pytest.mark.parametrize("silent", ["hub", "store"])
def test_who_does_not_answer_is_named_after_ten_seconds(silent: str, deaf_server: str, tmp_path: Path) -> None:
    hub = {"name": "arc", "lmEval": {"task": "arc_easy"}}
    own = {"name": "toy", "python": {"entrypoint": "toy_evaluation:make"}}
    spec = {"model": {"uri": "hf://org/name"}, "evaluations": [hub if silent == "hub" else own]}
    spec |= {"confirmRunUnsafeCode": True, "data": {"offline": silent == "store"}}
    job = {"apiVersion": "evalfleet.io/v1alpha1", "kind": "EvaluationJob", "metadata": {"name": "a"}, "spec": spec}
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(job))
    credentials = {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x", "AWS_REGION": "us-east-1"}
    environment = {
        "hub": {"HF_ENDPOINT": deaf_server, "HF_HOME": str(tmp_path / "hf"), "HF_HUB_OFFLINE": "0"},
        "store": {"AWS_ENDPOINT_URL": deaf_server, "AWS_ALLOW_HTTP": "true", **credentials},
    }[silent]
    store = "store" if silent == "hub" else "s3://bucket"
    begun = time.monotonic()
    arguments = ("run", "job.yaml", "--store", store, "--cache", "cache", "--allow-unsafe-code")
    command = start_cli(*arguments, cwd=tmp_path, **environment)
    try:
        assert command.stderr is not None
        lines = iter(command.stderr.readline, "")
        told = next(line for line in lines if "no word for" in line or time.monotonic() - begun > PATIENCE_SECONDS)
    finally:
        command.kill()
        command.communicate()
    assert f"{deaf_server} does not answer (timed out)" in told
    assert "log " in told
    assert time.monotonic() - begun >= SILENCE_SECONDS


def test_a_cluster_that_does_not_answer_is_said_after_ten_seconds(deaf_server: str, tmp_path: Path) -> None:
    named = {"clusters": [{"name": "c", "cluster": {"server": deaf_server}}], "users": [{"name": "u", "user": {}}]}
    context = {"name": "x", "context": {"cluster": "c", "user": "u"}}
    (tmp_path / "config").write_text(yaml.safe_dump({"current-context": "x", "contexts": [context], **named}))
    command = start_cli("get", cwd=tmp_path, KUBECONFIG=str(tmp_path / "config"))
    try:
        assert command.stderr is not None
        assert "the cluster has not answered for 10 s" in command.stderr.readline()
    finally:
        command.kill()
        command.communicate()


def test_only_places_that_a_run_may_wait_for_are_asked() -> None:
    task, own = EvaluationSpec("e", LmEvalSpec("arc")), EvaluationSpec("e", python=PythonSpec("a:b"))
    local = RunSpec("local", "n", "r", "file:///store", ModelSpec("file:///m"), (task,), offline=True)
    assert list(places(local, {})) == []
    remote = RunSpec("local", "n", "r", "s3://bucket", ModelSpec("hf://a/b"), (task,), data_uri="gs://data")
    assert list(places(replace(remote, evaluations=(own,), store_uri="/s", data_uri=None), {})) == []
    assert list(places(remote, {"AWS_REGION": "eu-1", "HF_ENDPOINT": "http://mirror"})) == [
        "http://mirror",
        "https://s3.eu-1.amazonaws.com",
        "https://storage.googleapis.com",
    ]


def test_an_address_that_refuses_is_no_answer_and_the_log_has_the_last_word(tmp_path: Path) -> None:
    assert "refused" in refusal("http://127.0.0.1:1")
    log = tmp_path / "plan.log"
    assert last_line(log) == "nothing"
    log.write_text("2026-01-01 10:00:00,123 INFO evalfleet_worker: model hf://a/b\n")
    assert last_line(log) == "model hf://a/b"
