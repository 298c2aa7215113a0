"""A user's own evaluation through plan, score and finish."""

import pytest
from lm_eval_suite import evaluate

from evalfleet_worker.harness.python import load_engine
from evalfleet_worker.protocol import EvaluationSpec, FailureReason, ModelSpec, PythonSpec, RunError, RunSpec

CODE = '''
"""Digits that are even."""


class Even:
    loaded = 0

    def __init__(self, count):
        self.count = int(count)

    def examples(self):
        return [{"digit": digit} for digit in range(self.count)]

    def load(self):
        Even.loaded += 1

    def score(self, example):
        assert Even.loaded == 1, "load() comes first, once"
        return {"even": float(example["digit"] % 2 == 0), "size": example["digit"] / 2}


def make(count="10"):
    return Even(count)


def incomplete():
    return object()
'''


@pytest.fixture
def module(tmp_path, monkeypatch):
    (tmp_path / "my_evaluation.py").write_text(CODE)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(__import__("sys").modules, "my_evaluation", raising=False)
    return "my_evaluation"


def run_of(tmp_path, entrypoint, allowed=True, **parameters):
    evaluation = EvaluationSpec("own", python=PythonSpec(entrypoint, parameters))
    return RunSpec(
        "local", "p", "p-1", str(tmp_path / "store"), ModelSpec("none"), (evaluation,), allow_unsafe_code=allowed
    )


def test_every_metric_is_the_mean_over_the_examples(module, tmp_path):
    run = run_of(tmp_path, f"{module}:make", count="20")
    _, report = evaluate(run, load_engine(run), tmp_path)
    found = {result.metric: (result.value, result.n, result.method) for result in report.results}
    assert found == {"even": (0.5, 20, "Clopper-Pearson"), "size": (4.75, 20, "CLT mean")}
    assert report.samples.scored == 20


@pytest.mark.parametrize(
    ("entrypoint", "words"),
    [
        ("no_such_module:make", "no_such_module"),
        ("my_evaluation:absent", "absent"),
        ("my_evaluation:incomplete", "examples"),
    ],
)
def test_an_entrypoint_that_does_not_fit_is_said_so(entrypoint, words, module, tmp_path):
    run = run_of(tmp_path, entrypoint)
    with pytest.raises(RunError, match=words) as caught:
        evaluate(run, load_engine(run), tmp_path)
    assert caught.value.reason is FailureReason.INVALID_TASK


def test_without_both_keys_no_code_is_imported(module, tmp_path):
    import sys

    run = run_of(tmp_path, f"{module}:make", allowed=False)
    with pytest.raises(RunError, match="confirmRunUnsafeCode") as caught:
        evaluate(run, load_engine(run), tmp_path)
    assert caught.value.reason is FailureReason.UNSAFE_CODE_FORBIDDEN
    assert module not in sys.modules


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("float('nan')", FailureReason.NOT_FINITE),
        ("float('inf')", FailureReason.NOT_FINITE),
        ("'high'", FailureReason.INVALID_TASK),
    ],
)
def test_a_score_that_is_no_number_names_example_and_metric(module, tmp_path, value, reason):
    code = tmp_path / "my_evaluation.py"
    code.write_text(code.read_text().replace('example["digit"] / 2}', f'{value} if example["digit"] == 3 else 1.0}}'))
    run = run_of(tmp_path, f"{module}:make")
    with pytest.raises(RunError) as refused:
        evaluate(run, load_engine(run), tmp_path)
    assert refused.value.reason is reason
    assert "own: example 3: metric 'size'" in refused.value.message
