"""The whole path beside lm-eval's own HFLM on the same tiny Llama: requests, log-probabilities, metrics, errors.

P1 to P7 of the parity suite. Where the engine is ours, log-probabilities may differ by 1e-4; where answers are HFLM's
own, metrics, standard errors and aggregates must be exactly lm-eval's.
"""

import math
from typing import Any

import pytest
from lm_eval_suite import (
    HflmEngine,
    choice_task,
    dataset,
    evaluate,
    generation_task,
    lm_evals_model,
    loaded_engine,
    metrics,
    official,
    reference,
    run_of,
    samples,
    write_documents,
    write_model,
)

from evalfleet_worker.protocol import LmEvalSpec

BOOTSTRAP = 1000

LOG_LIKELIHOOD = {
    "task": "word",
    **dataset("test"),
    "output_type": "loglikelihood",
    "doc_to_text": "{{question}} The",
    "doc_to_target": "{{word}}",
    "metric_list": metrics("perplexity", "acc"),
}
ROLLING = {
    "task": "rolling",
    **dataset("test", file="long"),
    "output_type": "loglikelihood_rolling",
    "doc_to_text": "",
    "doc_to_target": "{{text}}",
    "metric_list": metrics("word_perplexity", "byte_perplexity", "bits_per_byte"),
}
GROUP = {
    "group": "both",
    "task": [
        choice_task("first", dataset_kwargs={"data_files": {"test": "test.jsonl"}}),
        choice_task("second", **dataset("test", file="train"), doc_to_text="{{question}} It is the"),
    ],
    "aggregate_metric_list": [
        {"metric": "acc", "aggregation": "mean", "weight_by_size": True},
        {"metric": "acc_norm", "aggregation": "mean", "weight_by_size": False},
    ],
}
FEW_SHOT = choice_task("shots", **{**dataset("test", "train"), "fewshot_split": "train", "num_fewshot": 2})
CHAT = {"apply_chat_template": True, "few_shot_as_multiturn": True, "system_instruction": "Answer with one word."}
REPEATS = generation_task("repeats", repeats=3)

CASES: dict[str, LmEvalSpec] = {
    "multiple choice": LmEvalSpec(task_config=choice_task()),
    "trailing space in the context": LmEvalSpec(task_config=choice_task("space", doc_to_text="{{question}} ")),
    "multiple choice without context": LmEvalSpec(task_config=choice_task("empty", doc_to_text="")),
    "log-likelihood": LmEvalSpec(task_config=LOG_LIKELIHOOD),
    "rolling": LmEvalSpec(task_config=ROLLING),
    "group": LmEvalSpec(task_config=GROUP),
    "mutual information": LmEvalSpec(task_config=choice_task("mutual", metric_list=metrics("acc", "acc_mutual_info"))),
    "limit": LmEvalSpec(task_config=choice_task("limited"), limit=5),
    "few-shot": LmEvalSpec(task_config=FEW_SHOT),
    "few-shot overridden": LmEvalSpec(task_config=FEW_SHOT, num_few_shot=4),
    "few-shot with chat template": LmEvalSpec(task_config=FEW_SHOT, **CHAT),
    "few-shot in one chat turn": LmEvalSpec(task_config=FEW_SHOT, **{**CHAT, "few_shot_as_multiturn": False}),
}
GENERATIONS: dict[str, LmEvalSpec] = {
    "generation with filters": LmEvalSpec(task_config=generation_task()),
    "generation overridden": LmEvalSpec(task_config=generation_task(), generation={"max_gen_toks": 4, "until": ["a"]}),
    "generation with chat template": LmEvalSpec(task_config=generation_task(), apply_chat_template=True),
    "repeats": LmEvalSpec(task_config=REPEATS),
}


@pytest.fixture(autouse=True)
def fewer_bootstraps(monkeypatch):
    """The same number on both sides, in this process."""
    monkeypatch.setattr("evalfleet_worker.stats.bootstrap.MOST_DRAWS", BOOTSTRAP)
    monkeypatch.setenv("DISABLE_MULTIPROC", "1")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Model and data on disk."""
    folder = tmp_path_factory.mktemp("parity")
    return write_model(folder / "model"), write_documents(folder / "data")


@pytest.fixture(scope="module")
def hflm(place):
    """lm-eval's own model, one request at a time."""
    return lm_evals_model(place[0])


@pytest.fixture(scope="module")
def engine(place, tmp_path_factory):
    """The product's engine."""
    return loaded_engine(*place, tmp_path_factory.mktemp("cache"))


def reference_of(spec: LmEvalSpec, hflm: Any, data: Any, folder: Any) -> Any:
    assert spec.task_config is not None
    return reference(
        hflm,
        data,
        spec.task_config,
        folder,
        limit=spec.limit,
        num_fewshot=spec.num_few_shot,
        gen_kwargs=dict(spec.generation) if spec.generation else None,
        apply_chat_template=spec.apply_chat_template,
        fewshot_as_multiturn=spec.few_shot_as_multiturn,
        system_instruction=spec.system_instruction,
        bootstrap_iters=BOOTSTRAP,
    )


def plain_name(name: str) -> str:
    """Inline members of a group are called `group::member`."""
    return name.split("::")[-1]


def numbers(results: Any) -> dict[tuple[str, str], float]:
    return {
        (plain_name(task), metric): value
        for task, values in results["results"].items()
        for metric, value in values.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }


def expected_samples(expected: Any) -> dict[tuple[str, int, str], Any]:
    return {
        (plain_name(task), sample["doc_id"], sample["filter"]): sample
        for task, members in expected["samples"].items()
        for sample in members
    }


@pytest.mark.parametrize("name", CASES)
def test_metrics_and_standard_errors_are_lm_evals_on_hflms_own_answers(name, place, hflm, tmp_path):
    model, data = place
    expected = numbers(reference_of(CASES[name], hflm, data, tmp_path / "yaml"))
    store, _ = evaluate(run_of(model, data, CASES[name], tmp_path / "store"), HflmEngine(hflm), tmp_path)
    found = numbers(official(store))
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        assert found[key] == value or (math.isnan(value) and math.isnan(found[key])) or abs(found[key] - value) <= 1e-12


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("name", CASES)
def test_log_probabilities_are_hflms_at_any_number_of_workers(name, workers, place, hflm, engine, tmp_path):
    model, data = place
    expected = expected_samples(reference_of(CASES[name], hflm, data, tmp_path / "yaml"))
    store, report = evaluate(run_of(model, data, CASES[name], tmp_path / "store"), engine, tmp_path, workers)
    found = samples(store)
    assert report.samples.planned == report.samples.scored
    assert {(plain_name(s["task"]), s["doc_id"], s["filter"]) for s in found} == expected.keys()
    for sample in found:
        wanted = expected[plain_name(sample["task"]), sample["doc_id"], sample["filter"]]
        assert sample["prompt_hash"] == wanted["prompt_hash"]
        for (answer,), (right,) in zip(sample["resps"], wanted["resps"], strict=True):
            assert_same_score(answer, right)


def assert_same_score(answer: Any, right: Any) -> None:
    if isinstance(right, float):  # rolling
        assert answer == pytest.approx(right, rel=1e-6)
        return
    assert answer[0] == pytest.approx(right[0], abs=1e-4)
    assert answer[1] == right[1]


@pytest.mark.parametrize("name", GENERATIONS)
def test_generated_texts_filters_and_scores_are_hflms(name, place, hflm, engine, tmp_path):
    model, data = place
    expected = reference_of(GENERATIONS[name], hflm, data, tmp_path / "yaml")
    store, _ = evaluate(run_of(model, data, GENERATIONS[name], tmp_path / "store"), engine, tmp_path, workers=3)
    wanted = expected_samples(expected)
    for sample in samples(store):
        right = wanted[sample["task"], sample["doc_id"], sample["filter"]]
        assert sample["resps"] == right["resps"]
        assert sample["filtered_resps"] == right["filtered_resps"]
    assert numbers(official(store)) == numbers(expected)


def test_published_results_carry_lm_evals_values_with_n_and_an_interval(place, engine, tmp_path):
    model, data = place
    store, report = evaluate(run_of(model, data, CASES["multiple choice"], tmp_path / "store"), engine, tmp_path)
    accuracy = next(result for result in report.results if result.metric == "acc")
    assert accuracy.value == official(store)["results"]["choice"]["acc,none"]
    assert accuracy.n == 14
    assert accuracy.low <= accuracy.value <= accuracy.high
    assert accuracy.method == "Clopper-Pearson"
    assert accuracy.standard_error == pytest.approx(official(store)["results"]["choice"]["acc_stderr,none"], abs=1e-12)


def test_the_same_answers_give_the_same_bytes_whatever_the_number_of_workers(place, hflm, tmp_path):
    model, data = place
    files = []
    for workers in (1, 3):
        run = run_of(model, data, CASES["multiple choice"], tmp_path / f"store{workers}")
        store, _ = evaluate(run, HflmEngine(hflm), tmp_path, workers)
        files.append([store.read_result(name) for name in ("results.json", "samples/evaluation.parquet")])
    assert files[0] == files[1]
