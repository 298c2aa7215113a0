"""What goes wrong while planning is said in words, with its reason; and what a plan keeps."""

import json
import os
import subprocess
import sys
from dataclasses import replace

import pytest
from lm_eval_suite import choice_task, generation_task, run_of, score, write_documents, write_model

from evalfleet_worker.finish import finish_run
from evalfleet_worker.plan.planner import plan_run
from evalfleet_worker.protocol import EvaluationSpec, FailureReason, LmEvalSpec, ModelSpec, PythonSpec, RunError
from evalfleet_worker.requests import Answer
from evalfleet_worker.store.run_store import FailureRecord, RunStore


class LengthEngine:
    """Answers with the negative number of tokens: cheap and deterministic."""

    device = "toy"

    def score(self, requests):
        return [Answer(r.row, log_probability=-float(len(r.token_ids)), is_greedy=False, text="x") for r in requests]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("plan")
    return write_model(folder / "model"), write_documents(folder / "data")


def run_with(place, tmp_path, config=None, **spec):
    return run_of(*place, LmEvalSpec(task_config=config, **spec), tmp_path / "store")


def planned(run, tmp_path):
    store = RunStore.open(run.store_uri, run.namespace, run.run_id)
    return store, plan_run(run, store, tmp_path, lambda _: None)


ACC = {"metric": "acc"}
PAYLOAD = "{{ cycler.__init__.__globals__.os.popen('id').read() }}"
TOO_LONG = {"until": [], "max_gen_toks": 500}
SAMPLING = {"until": [], "do_sample": True, "temperature": 0.8, "max_gen_toks": 4}
EMPTY = choice_task(output_type="loglikelihood", doc_to_choice=None, doc_to_target="{{''}}", metric_list=[ACC])
FAULTS = [
    (
        "a missing file",
        choice_task(dataset_kwargs={"data_files": {"test": "nowhere.jsonl"}}),
        "DatasetUnreadable",
        "nowhere",
    ),
    (
        "a broken file",
        choice_task(dataset_kwargs={"data_files": {"test": "broken.jsonl"}}),
        "DatasetUnreadable",
        "broken|JSON",
    ),
    ("a wrong column", choice_task(doc_to_text="{{questoin}}"), "InvalidTask", "questoin"),
    ("a wrong choice column", choice_task(doc_to_choice="{{optoins}}"), "InvalidTask", "optoins"),
    ("a missing split", choice_task(test_split="validation"), "InvalidTask", "validation"),
    ("an unknown metric", choice_task(metric_list=[{"metric": "accuracyy"}]), "UnsupportedTask", "accuracyy"),
    ("a key lm-eval does not know", choice_task(doc_to_texts="x"), "InvalidTask", "doc_to_texts"),
    (
        "the payload",
        choice_task(doc_to_text=PAYLOAD),
        "InvalidTask",
        "unsafe|Security",
    ),
    (
        "too long a generation",
        generation_task(generation_kwargs=TOO_LONG),
        "InvalidTask",
        "max_gen_toks",
    ),
    ("an empty continuation", EMPTY, "InvalidTask", "empty continuation"),
]


@pytest.mark.parametrize(("config", "reason", "words"), [f[1:] for f in FAULTS], ids=[f[0] for f in FAULTS])
def test_planning_says_what_is_wrong_with(config, reason, words, place, tmp_path):
    (place[1] / "broken.jsonl").write_text('{"question": "a"\n{{{{\n')
    with pytest.raises(RunError, match=words) as caught:
        planned(run_with(place, tmp_path, config), tmp_path)
    assert caught.value.reason == reason


@pytest.mark.slow
def test_an_unknown_task_name_is_said_so(place, tmp_path):
    run = run_of(*place, LmEvalSpec(task="no_such_task_at_all"), tmp_path / "store")
    with pytest.raises(RunError, match="no_such_task_at_all") as caught:
        planned(run, tmp_path)
    assert caught.value.reason is FailureReason.INVALID_TASK


def test_a_wrong_model_path_is_said_so(place, tmp_path):
    run = replace(run_with(place, tmp_path, choice_task()), model=ModelSpec("/no/such/model"))
    with pytest.raises(RunError, match="/no/such/model") as caught:
        planned(run, tmp_path)
    assert caught.value.reason is FailureReason.INVALID_MODEL_REF


def test_a_chat_template_that_is_not_there_is_said_so(place, tmp_path):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(place[0])
    tokenizer.chat_template = None
    tokenizer.save_pretrained(tmp_path / "tokenizer")
    run = run_with(place, tmp_path, choice_task(), apply_chat_template=True)
    run = replace(run, model=replace(run.model, tokenizer_uri=str(tmp_path / "tokenizer")))
    with pytest.raises(RunError, match="chat template") as caught:
        planned(run, tmp_path)
    assert caught.value.reason is FailureReason.INVALID_TASK


def test_a_tokenizer_without_files_is_said_so(place, tmp_path):
    (tmp_path / "empty").mkdir()
    run = run_with(place, tmp_path, choice_task())
    run = replace(run, model=replace(run.model, tokenizer_uri=str(tmp_path / "empty")))
    with pytest.raises(RunError, match="tokenizer") as caught:
        planned(run, tmp_path)
    assert caught.value.reason is FailureReason.MODEL_UNREADABLE


def test_user_code_needs_both_keys(place, tmp_path):
    run = replace(
        run_with(place, tmp_path, choice_task()), evaluations=(EvaluationSpec("own", python=PythonSpec("json:loads")),)
    )
    with pytest.raises(RunError, match="allowUnsafeCode") as caught:
        planned(run, tmp_path)
    assert caught.value.reason is FailureReason.UNSAFE_CODE_FORBIDDEN


def test_planning_again_adopts_the_plan(place, tmp_path):
    run = run_with(place, tmp_path, choice_task())
    store, report = planned(run, tmp_path)
    attempt = store.read_plan().attempt
    assert planned(run, tmp_path)[1] == report
    assert store.read_plan().attempt == attempt


def test_the_report_says_the_size(place, tmp_path):
    store, report = planned(run_with(place, tmp_path, choice_task()), tmp_path)
    assert (report.samples, report.requests, report.cached_requests) == (14, 56, 0)
    plan = store.read_plan()
    rows = [request for unit in plan.units for request in store.read_unit(plan, unit)]
    assert report.tokens == sum(len(row.token_ids) for row in rows)
    assert report.units == len(plan.units) > 3
    assert report.flops > 0


def test_unconditional_choices_of_mutual_information_are_asked_once(place, tmp_path):
    config = choice_task(metric_list=[{"metric": "acc_mutual_info"}])
    _, report = planned(run_with(place, tmp_path, config), tmp_path)
    assert report.requests <= 14 * 4 + 12, "12 words exist: their unconditional requests are shared"


def test_sampled_repeats_are_planned_with_their_own_seeds(place, tmp_path):
    config = generation_task(
        repeats=4, generation_kwargs={"until": [], "do_sample": True, "temperature": 0.8, "max_gen_toks": 4}
    )
    store, report = planned(run_with(place, tmp_path, config), tmp_path)
    plan = store.read_plan()
    seeds = [request.seed for unit in plan.units for request in store.read_unit(plan, unit)]
    assert len(set(seeds)) == len(seeds) == report.requests == 14 * 4


def test_finishing_needs_neither_the_data_nor_the_model(place, tmp_path):
    model, data = write_model(tmp_path / "m"), write_documents(tmp_path / "d")
    run = run_of(model, data, LmEvalSpec(task_config=choice_task()), tmp_path / "store")
    store, _ = planned(run, tmp_path)
    score(store, LengthEngine())
    for file in [*data.iterdir(), *model.iterdir()]:
        file.unlink()
    report = finish_run(run, store, tmp_path)
    assert (report.outcome, report.samples.scored) == ("Complete", 14)


def test_another_request_set_at_the_finish_is_refused(place, tmp_path):
    run = run_with(place, tmp_path, choice_task())
    store, _ = planned(run, tmp_path)
    score(store, LengthEngine())
    spec = replace(run.evaluations[0].lm_eval, task_config=choice_task(doc_to_text="{{question}} Say:"))
    with pytest.raises(RunError, match="other requests than were planned") as caught:
        finish_run(replace(run, evaluations=(EvaluationSpec("evaluation", spec),)), store, tmp_path)
    assert caught.value.reason is FailureReason.PLAN_CHANGED
    assert store.read_summary() is None


def test_an_unfinished_run_says_how_many_units_are_left(place, tmp_path):
    run = run_with(place, tmp_path, choice_task())
    store, report = planned(run, tmp_path)
    found = finish_run(run, store, tmp_path)
    assert (found.outcome, found.units_left, found.results) == ("Incomplete", report.units, ())
    assert store.read_summary() is None


def test_a_run_without_a_plan_says_what_to_do(place, tmp_path):
    run = run_with(place, tmp_path, choice_task())
    with pytest.raises(RunError, match="run the plan command first"):
        finish_run(run, RunStore.open(run.store_uri, run.namespace, run.run_id), tmp_path)


def test_a_failed_unit_withholds_the_scores_of_its_evaluation_alone(place, tmp_path):
    good, bad = (
        LmEvalSpec(task_config=choice_task("good")),
        LmEvalSpec(task_config=choice_task("bad", doc_to_text="{{question}}")),
    )
    run = replace(run_with(place, tmp_path), evaluations=(EvaluationSpec("good", good), EvaluationSpec("bad", bad)))
    store, _ = planned(run, tmp_path)
    plan = store.read_plan()
    broken = next(unit for unit in plan.units if store.read_unit(plan, unit)[0].evaluation == "bad")
    store.give_up(FailureRecord(broken.index, "o", "w", "EngineCrashed", "the engine died three times"))
    score(store, LengthEngine())
    report = finish_run(run, store, tmp_path)
    assert report.outcome == "SamplesFailed"
    assert {result.evaluation for result in report.results} == {"good"}
    assert (report.samples.planned, report.samples.scored, report.samples.failed) == (28, 14, 14)
    assert "the engine died three times" in report.messages[0]
    with pytest.raises(RunError):
        store.read_result("samples/bad.parquet")


def test_finishing_twice_returns_the_published_report(place, tmp_path):
    run = run_with(place, tmp_path, choice_task())
    store, _ = planned(run, tmp_path)
    score(store, LengthEngine())
    assert finish_run(run, store, tmp_path) == finish_run(run, store, tmp_path)


def test_samples_that_share_a_source_get_the_clustered_standard_error(place, tmp_path):
    run = run_with(place, tmp_path, choice_task(metadata={"cluster": "topic"}))
    store, _ = planned(run, tmp_path)
    score(store, LengthEngine())
    report = finish_run(run, store, tmp_path)
    accuracy = next(result for result in report.results if result.metric == "acc")
    assert "4 clusters" in accuracy.method


def test_workers_import_neither_lm_eval_nor_datasets():
    modules = ("loop.work", "loop.child", "engine.load", "engine.causal_lm", "engine.encoder")
    imports = "; ".join(f"import evalfleet_worker.{module}" for module in modules)
    code = f"import json, sys; {imports}; print(json.dumps([m for m in ('lm_eval', 'datasets') if m in sys.modules]))"
    paths = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=paths)
    assert json.loads(found.stdout) == []
