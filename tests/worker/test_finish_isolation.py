"""What fails at the finish fails alone: every other evaluation is published with lm-eval's values."""

import io
import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from lm_eval_suite import (
    HflmEngine,
    choice_task,
    dataset,
    lm_evals_model,
    metrics,
    official,
    reference,
    run_of,
    score,
    write_documents,
    write_model,
)

from evalfleet_worker.finish import finish_run
from evalfleet_worker.loop.coordinator import Claim, Coordinator, Owner
from evalfleet_worker.plan.planner import plan_run
from evalfleet_worker.protocol import (
    EvaluationSpec,
    FailureReason,
    FinishReport,
    LmEvalSpec,
    RunError,
    RunOutcome,
    RunSpec,
    dumps,
    loads,
)
from evalfleet_worker.requests import Answer
from evalfleet_worker.store.run_store import FailureRecord, RunStore

BINARY = {"doc_to_choice": ["river", "stone"], "doc_to_target": "{{answer % 2}}"}
WORD = {
    "task": "word",
    **dataset("test"),
    "output_type": "loglikelihood",
    "doc_to_text": "{{question}} The",
    "doc_to_target": "{{word}}",
    "metric_list": metrics("perplexity", "acc"),
}
GOOD = {
    "choice": choice_task("choice"),
    "word": WORD,
    "binary": choice_task("binary", **BINARY, metric_list=metrics("acc", "mcc")),
}
BAD = choice_task("bad", **BINARY, metric_list=metrics("f1"))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("isolation")
    return write_model(folder / "model"), write_documents(folder / "data")


@pytest.fixture(scope="module")
def hflm(place: tuple[Path, Path]) -> Any:
    return lm_evals_model(place[0])


def refuse_f1(monkeypatch: pytest.MonkeyPatch) -> None:
    """F1 as in a release of its library that refuses what it is given: nothing that a plan could have known."""

    def refuse(*_: Any, **__: Any) -> float:
        raise ValueError("Target is multiclass but average='binary'")

    monkeypatch.setattr("sklearn.metrics.f1_score", refuse)


def planned(place: tuple[Path, Path], store: Path, tasks: dict[str, Any]) -> tuple[RunSpec, RunStore]:
    run = run_of(*place, LmEvalSpec(task_config=BAD), store)
    members = tuple(EvaluationSpec(name, LmEvalSpec(task_config=task)) for name, task in tasks.items())
    run = replace(run, evaluations=members)
    opened = RunStore.open(run.store_uri, run.namespace, run.run_id)
    plan_run(run, opened, store / "cache", lambda _: None)
    return run, opened


class Uniform:
    """An engine that gives every request the same log-probability, or the one that a test sets for a row."""

    device = "toy"

    def __init__(self, **by_row: float) -> None:
        self.scored = 0
        self._by_row = {int(row.removeprefix("row_")): value for row, value in by_row.items()}

    def score(self, requests: Sequence[Any]) -> list[Answer]:
        self.scored += len(requests)
        return [Answer(r.row, log_probability=self._by_row.get(r.row, -1.5), is_greedy=False) for r in requests]


def strict_json(content: bytes) -> Any:
    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is no JSON")

    return json.loads(content, parse_constant=refuse)


def test_one_evaluation_that_fails_beside_three_good_ones_costs_none_of_them(place, hflm, tmp_path, monkeypatch):
    tasks = {"choice": GOOD["choice"], "bad": BAD, "word": GOOD["word"], "binary": GOOD["binary"]}
    run, store = planned(place, tmp_path / "store", tasks)
    score(store, HflmEngine(hflm))
    refuse_f1(monkeypatch)
    told: list[str] = []
    report = finish_run(run, store, tmp_path, progress=told.append)
    assert report.outcome == RunOutcome.SOME_EVALUATIONS_FAILED
    (failure,) = report.failed
    assert (failure.evaluation, failure.reason) == ("bad", FailureReason.INVALID_TASK)
    assert "ValueError: Target is multiclass" in failure.message
    assert failure.message in report.messages
    assert (report.samples.planned, report.samples.scored, report.samples.failed) == (56, 42, 14)
    assert "choice: computing metrics" in told
    for name, task in GOOD.items():
        expected = reference(hflm, place[1], task, tmp_path / name, bootstrap_iters=0)["results"][name]
        found = official(store, name)["results"][name]
        values = {key: value for key, value in expected.items() if isinstance(value, float) and "stderr" not in key}
        assert values
        assert {key: found[key] for key in values} == pytest.approx(values, abs=1e-12)
    kept = pq.read_table(io.BytesIO(store.read_result("answers/bad.parquet"))).to_pylist()
    assert len(kept) == 28
    assert all(row["log_probability"] < 0 for row in kept)
    assert loads(FinishReport, dumps(report)) == report
    assert finish_run(run, store, tmp_path) == report, "what is published stays"


def test_where_nothing_can_be_published_the_answers_stay_for_a_mended_version(place, tmp_path, monkeypatch):
    run, store = planned(place, tmp_path / "store", {"bad": BAD})
    score(store, Uniform())
    with monkeypatch.context() as broken:
        refuse_f1(broken)
        with pytest.raises(RunError, match=r"bad: .*ValueError: Target is multiclass") as caught:
            finish_run(run, store, tmp_path)
    assert caught.value.reason is FailureReason.INVALID_TASK
    assert store.read_summary() is None
    assert finish_run(run, store, tmp_path).outcome == RunOutcome.COMPLETE


def test_memory_or_a_store_that_ends_is_no_fault_of_the_evaluation(place, tmp_path, monkeypatch):
    run, store = planned(place, tmp_path / "store", {"bad": BAD, "binary": GOOD["binary"]})
    score(store, Uniform())
    for error in (MemoryError(), OSError(28, "No space left on device")):
        with monkeypatch.context() as broken:
            broken.setattr("evalfleet_worker.harness.lm_eval.harness._evaluate", _raising(error))
            with pytest.raises(type(error)):
                finish_run(run, store, tmp_path)
    assert finish_run(run, store, tmp_path).outcome == RunOutcome.COMPLETE


def _raising(error: Exception) -> Any:
    def evaluate(*_: Any) -> None:
        raise error

    return evaluate


def test_an_answer_that_is_no_number_costs_its_evaluation_and_is_named(place, tmp_path):
    run, store = planned(place, tmp_path / "store", {"word": GOOD["word"], "binary": GOOD["binary"]})
    score(store, Uniform(row_3=math.nan))
    report = finish_run(run, store, tmp_path)
    (failure,) = report.failed
    assert (failure.evaluation, failure.reason) == ("word", FailureReason.NOT_FINITE)
    assert "row 3, its log-probability is nan" in failure.message
    assert {result.evaluation for result in report.results} == {"binary"}
    assert report.proof.finite_answers == 41


def test_an_evaluation_that_ended_while_it_was_scored_costs_none_that_shares_its_requests(place, tmp_path):
    run, store = planned(place, tmp_path / "store", {"bad": BAD, "choice": GOOD["choice"], "binary": GOOD["binary"]})
    words = "bad: ValueError: row 7 cannot be scored"
    store.end_evaluation(FailureRecord(1, "w-1", "w", "InvalidTask", words, "work", "bad"))
    engine = Uniform()
    score(store, engine)
    report = finish_run(run, store, tmp_path)
    assert report.outcome == RunOutcome.COMPLETE, "every request of `bad` is one of `binary` too"
    assert engine.scored == store.read_summary()["proof"]["finiteAnswers"] > 0, "nothing was left out"


def test_an_evaluation_that_ended_while_it_was_scored_has_no_score_and_its_reason(place, tmp_path):
    run, store = planned(place, tmp_path / "store", {"bad": BAD, "word": GOOD["word"]})
    words = "bad: ValueError: row 7 cannot be scored"
    store.end_evaluation(FailureRecord(1, "w-1", "w", "InvalidTask", words, "work", "bad"))
    engine = Uniform()
    score(store, engine)
    assert engine.scored == 14, "nothing is scored for it any more"
    report = finish_run(run, store, tmp_path)
    assert report.outcome == RunOutcome.SOME_EVALUATIONS_FAILED
    (failure,) = report.failed
    assert failure.reason == "InvalidTask"
    assert failure.message == "bad: no score is published: ValueError: row 7 cannot be scored"
    assert {result.evaluation for result in report.results} == {"word"}
    assert (report.samples.planned, report.samples.scored, report.samples.failed) == (28, 14, 14)


def test_equal_answers_and_the_same_choice_everywhere_are_told(place, tmp_path):
    run, store = planned(place, tmp_path / "store", {"binary": GOOD["binary"]})
    score(store, Uniform())
    report = finish_run(run, store, tmp_path)
    assert report.outcome == RunOutcome.COMPLETE
    assert "binary: the model gives the same choice (number 0) for all 14 documents" in report.messages
    assert any("all 28 log-probabilities are equal" in message for message in report.messages)
    assert (report.proof.finite_answers, report.proof.distinct_log_probabilities) == (28, 1)
    mcc = next(result for result in report.results if result.metric == "mcc")
    assert (mcc.value, mcc.low, mcc.high) == (0.0, None, None)
    assert "every draw gives the same value" in mcc.method


def test_results_carry_their_whole_name_and_groups_come_first(place, tmp_path):
    members = [choice_task("first", metric_list=metrics("acc")), choice_task("second", metric_list=metrics("acc"))]
    aggregate = [{"metric": "acc", "aggregation": "mean", "weight_by_size": True}]
    group = {"group": "both", "task": members, "aggregate_metric_list": aggregate}
    run, store = planned(place, tmp_path / "store", {"e": group})
    score(store, Uniform())
    results = finish_run(run, store, tmp_path).results
    names = [(r.evaluation, r.task, r.filter, r.metric, r.group, r.n) for r in results]
    assert names == [
        ("e", "both", "none", "acc", "", 28),
        ("e", "both::first", "none", "acc", "both", 14),
        ("e", "both::second", "none", "acc", "both", 14),
    ]
    assert all(result.method for result in results)


def test_no_score_is_published_when_two_models_answered(place, tmp_path):
    run, store = planned(place, tmp_path / "store", {"binary": GOOD["binary"]})
    plan = store.read_plan()
    coordinator, engine = Coordinator(store, plan, Owner("w", "w"), lambda: 0.0), Uniform()
    while isinstance(claim := coordinator.next(), Claim):
        model = {"modelFingerprint": "one" if claim.unit.index else "another"}
        coordinator.commit(claim, engine.score(store.read_unit(plan, claim.unit)), 0.1, model)
    with pytest.raises(RunError, match="more than one model answered the units") as caught:
        finish_run(run, store, tmp_path)
    assert caught.value.reason is FailureReason.PLAN_CHANGED
    assert store.read_summary() is None


def test_published_files_are_json_without_numbers_that_are_none(place, tmp_path):
    run, store = planned(place, tmp_path / "store", {"word": GOOD["word"]})
    score(store, Uniform(**{f"row_{row}": -600.0 - 200.0 * (row % 2) for row in range(14)}))
    report = finish_run(run, store, tmp_path)  # some draws of the bootstrap are larger than a number can be
    published = strict_json(store.read_result("results.json"))["word"]
    strict_json(json.dumps(store.read_summary()).encode())
    assert published["results"]["word"]["perplexity_stderr,none"] is None
    assert published["undefined"] == {"results/word/perplexity_stderr,none": "nan"}
    perplexity = next(result for result in report.results if result.metric == "perplexity")
    assert perplexity.value == pytest.approx(math.exp(700.0))
