"""What workers and shell say to each other survives hostile and oversized content."""

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from evalfleet_worker.__main__ import main
from evalfleet_worker.protocol import (
    PROTOCOL_VERSION,
    ErrorReport,
    EvaluationFailure,
    ExitCode,
    FailureReason,
    FinishReport,
    ModelSpec,
    Progress,
    Result,
    RunSpec,
    SampleCounts,
    TimeLedger,
    dumps,
    fitting,
    loads,
)
from evalfleet_worker.store.run_store import RunStore

LIMIT = 4_000


def progress(**changes: object) -> str:
    content = json.loads(dumps(Progress("run", "w", "Scoring", 10, 5, 100, 50, 1.5, 20.0)))
    return json.dumps({**content, **changes})


def test_progress_survives_its_json_form() -> None:
    assert loads(Progress, progress()) == Progress("run", "w", "Scoring", 10, 5, 100, 50, 1.5, 20.0)
    assert loads(Progress, progress(requestsPerSecond=2)).requests_per_second == 2.0


@pytest.mark.parametrize(
    "text",
    [
        progress(unitsDone="many"),
        progress(unitsDone=True),
        progress(requestsPerSecond=None),
        progress(unitsDone=1.5),
        progress(worker={"name": "w"}),
        progress().replace("1.5", "NaN"),
        progress().replace("1.5", "1e999"),
        "[" * 60_000,
        "[]",
        "{",
    ],
)
def test_what_is_no_progress_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - any sentence will do
        loads(Progress, text)


def test_a_nested_message_of_the_wrong_kind_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="ModelSpec"):
        loads(RunSpec, '{"namespace":"n","name":"n","runId":"r","storeUri":"s","model":5,"evaluations":[]}')


def report(results: int, message: str) -> FinishReport:
    members = tuple(Result("evaluation", f"metric-{index}", 0.5, 0.1, 0.4, 0.6, 100) for index in range(results))
    return FinishReport(
        "r", "SamplesFailed", members, SampleCounts(9, 9), TimeLedger(), "s3://x", messages=(message,) * 8
    )


@pytest.mark.parametrize("message", ["short", "ü" * 900, '"\\' * 2_000])
def test_a_termination_message_is_json_within_its_limit(message: str) -> None:
    text = fitting(report(64, message), LIMIT)
    assert len(text.encode()) <= LIMIT
    read = loads(FinishReport, text)
    assert read.outcome == "SamplesFailed"
    assert read.truncated == 64 - len(read.results)


def test_groups_come_first_and_carry_their_whole_name_and_what_is_left_out_is_counted() -> None:
    parts = [
        Result("mmlu", "acc", 1 / 3, 0.0123456789, 0.1, 0.4, 100, "Clopper-Pearson", "none", f"mmlu_{i}", "mmlu")
        for i in range(57)
    ]
    groups = [
        Result(name, "acc", 2 / 3, 0.01, 0.6, 0.7, 5700, "lm-eval group aggregate, normal", "none", name)
        for name in ("mmlu", "arc")
    ]
    members = (*parts, *groups)
    told = FinishReport("r", "Complete", members, SampleCounts(9, 9), TimeLedger(), "s3://x")
    read = loads(FinishReport, fitting(told, LIMIT))
    assert [result.task for result in read.results[:3]] == ["mmlu", "arc", "mmlu_0"]
    assert (read.results[0].method, read.results[0].n) == ("lm-eval group aggregate, normal", 5700)
    assert (read.results[2].filter, read.results[2].group) == ("none", "mmlu")
    assert len(read.results) > 15
    assert read.truncated == 59 - len(read.results)
    assert loads(FinishReport, fitting(told, 10**6)) == told


def test_many_failures_fit_too() -> None:
    failed = tuple(EvaluationFailure(f"evaluation-{i}", "InvalidTask", "words " * 90) for i in range(60))
    told = replace(report(9, "short"), failed=failed, messages=tuple(failure.message for failure in failed))
    text = fitting(told, LIMIT)
    assert len(text.encode()) <= LIMIT
    read = loads(FinishReport, text)
    assert read.failed[0].evaluation == "evaluation-0"
    assert read.failed[0].message.startswith("words")


def test_last_words_of_any_length_are_readable(tmp_path: Path) -> None:
    spec = RunSpec("n", "n", "r", f"file://{tmp_path}/store", ModelSpec("file:///nowhere/" + "ü" * 5_000), ())
    (tmp_path / "spec.json").write_text(dumps(spec), "utf-8")
    log = tmp_path / "termination"
    code = main(["fetch", "--spec", str(tmp_path / "spec.json"), "--termination-log", str(log)])
    assert code in (ExitCode.FATAL, ExitCode.ERROR)
    assert len(log.read_bytes()) <= LIMIT
    assert loads(ErrorReport, log.read_bytes()).reason in (
        FailureReason.INVALID_MODEL_REF,
        FailureReason.INTERNAL_ERROR,
    )


@pytest.mark.parametrize(
    ("allowed", "brought", "reason"),
    [
        ((), {"HF_ENDPOINT": "https://evil.com"}, FailureReason.ENDPOINT_FORBIDDEN),
        ((), {"https_proxy": "evil.com:8080"}, FailureReason.ENDPOINT_FORBIDDEN),
        (("https://hf.acme.com",), {"HF_ENDPOINT": "https://hf.acme.com.evil.com"}, FailureReason.ENDPOINT_FORBIDDEN),
        (("https://hf.acme.com",), {"HF_ENDPOINT": "https://hf.acme.com/"}, FailureReason.INVALID_MODEL_REF),
        ((), {"HF_TOKEN": "x", "HF_HOME": "/cache", "NO_PROXY": "*"}, FailureReason.INVALID_MODEL_REF),
        (None, {"HF_ENDPOINT": "https://anywhere.com"}, FailureReason.INVALID_MODEL_REF),
    ],
)
def test_a_secret_brings_no_endpoint_that_the_policy_does_not_list(
    allowed: tuple[str, ...] | None,
    brought: dict[str, str],
    reason: FailureReason,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in [name for name in os.environ if name.upper().endswith("_PROXY")]:
        monkeypatch.delenv(name)
    for name, value in brought.items():
        monkeypatch.setenv(name, value)
    model = ModelSpec("file:///nowhere/at/all")
    spec = RunSpec("n", "n", "r", f"file://{tmp_path}/store", model, (), allowed_endpoints=allowed)
    (tmp_path / "spec.json").write_text(dumps(spec), "utf-8")
    log = tmp_path / "termination"
    assert main(["fetch", "--spec", str(tmp_path / "spec.json"), "--termination-log", str(log)]) == ExitCode.FATAL
    assert loads(ErrorReport, log.read_bytes()).reason == reason


@pytest.mark.parametrize("command", ["plan", "work", "finish"])
def test_a_run_or_plan_of_another_protocol_version_is_not_touched(command: str, tmp_path: Path) -> None:
    spec = RunSpec("n", "n", "r", f"file://{tmp_path}/store", ModelSpec("file:///nowhere"), ())
    arguments = [command, "--spec", str(tmp_path / "spec.json"), "--termination-log", str(tmp_path / "log")]
    newer = {**json.loads(dumps(spec)), "version": PROTOCOL_VERSION + 1}
    (tmp_path / "spec.json").write_text(json.dumps(newer), "utf-8")
    assert main(arguments) == ExitCode.UNKNOWN_PROTOCOL
    assert loads(ErrorReport, (tmp_path / "log").read_bytes()).reason == FailureReason.PROTOCOL_UNKNOWN
    assert not (tmp_path / "store").exists()
    (tmp_path / "spec.json").write_text(dumps(spec), "utf-8")
    store = RunStore.open(spec.store_uri, spec.namespace, spec.run_id)
    plan = {"report": {"version": PROTOCOL_VERSION + 1}, "tomorrow": []}
    store.objects.put(store.layout.plan, json.dumps(plan).encode())
    assert main(arguments) == ExitCode.UNKNOWN_PROTOCOL
    assert "the plan is of protocol version" in loads(ErrorReport, (tmp_path / "log").read_bytes()).message
