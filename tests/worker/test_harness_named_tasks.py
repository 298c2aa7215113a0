"""Tasks that ship with lm-eval, on documents of our own: those that Python classes build, and those that are odd.

The hub is out of reach; `datasets.load_dataset` hands out what the tests make, to lm-eval and to the product alike.
"""

import importlib
import json
import random
import subprocess
import sys
from pathlib import Path

import pytest
from lm_eval_suite import WORDS, evaluate, lm_evals_model, loaded_engine, official, run_of, samples, write_model

from evalfleet_worker.plan.planner import plan_run
from evalfleet_worker.protocol import LmEvalSpec, RunError
from evalfleet_worker.requests import Answer
from evalfleet_worker.store.run_store import RunStore

BOOTSTRAP = 100


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A tiny model with room for lm-eval's default of 256 new tokens."""
    folder = write_model(tmp_path_factory.mktemp("named") / "model")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "max_position_embeddings": 512}))
    return folder


@pytest.fixture(scope="module")
def hflm(model):
    """lm-eval's own model."""
    return lm_evals_model(model)


@pytest.fixture(scope="module")
def engine(model, tmp_path_factory):
    """The product's engine."""
    return loaded_engine(model, Path("unused"), tmp_path_factory.mktemp("cache"))


@pytest.fixture
def hub(monkeypatch):
    """What the hub holds: splits by name of the data set; asked for anything else, it does not answer."""
    import datasets

    held: dict[str, dict[str, list[dict[str, object]]]] = {}

    def load_dataset(path, name=None, **_):
        if path not in held:
            raise FileNotFoundError(f"Couldn't find any data file at {path}")
        return datasets.DatasetDict({split: datasets.Dataset.from_list(rows) for split, rows in held[path].items()})

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    monkeypatch.setenv("DISABLE_MULTIPROC", "1")
    return held


def run_named(model, tmp_path, task, **spec):
    return run_of(model, tmp_path, LmEvalSpec(task=task, **spec), tmp_path / "store")


def plan_named(model, tmp_path, task):
    run = run_named(model, tmp_path, task)
    store = RunStore.open(run.store_uri, run.namespace, run.run_id)
    plan_run(run, store, tmp_path, lambda _: None)
    return store.read_plan()


def passages(count=3):
    draw = random.Random(7)
    return [
        {
            "text": f"  The {draw.choice(WORDS)} is near the {draw.choice(WORDS)} {i} of the",
            "value": draw.choice("aeiou"),
        }
        for i in range(count)
    ]


BUILT_BY_CLASSES = {
    "squad_completion": "hazyresearch/based-squad",
    "fda": "hazyresearch/based-fda",
    "swde": "hazyresearch/based-swde-v2",
}


@pytest.mark.parametrize("name", BUILT_BY_CLASSES)
def test_a_task_that_a_class_builds_scores_as_in_lm_eval(name, model, hub, hflm, engine, tmp_path):
    from lm_eval.evaluator import simple_evaluate

    from evalfleet_worker.harness.lm_eval.tasks import _manager

    hub[BUILT_BY_CLASSES[name]] = {"validation": passages()}
    shorter = {"max_gen_toks": 24}
    run = run_named(model, tmp_path, name, generation=shorter)
    store, report = evaluate(run, engine, tmp_path)
    manager = _manager(run.model.uri, include_defaults=True)
    options = {"task_manager": manager, "gen_kwargs": shorter, "bootstrap_iters": BOOTSTRAP}
    expected = simple_evaluate(model=hflm, tasks=[name], log_samples=True, **options)
    assert (report.outcome, report.samples.scored) == ("Complete", 3)
    assert official(store)["results"][name]["contains,none"] == expected["results"][name]["contains,none"]
    assert [sample["resps"] for sample in samples(store)] == [sample["resps"] for sample in expected["samples"][name]]


@pytest.mark.parametrize("name", ["scrolls_quality", "squadv2", "unitxt"])
def test_other_class_built_tasks_are_refused_in_the_plan_where_they_need_the_hub_to_score(name, model, hub, tmp_path):
    answers = {"text": ["river"], "answer_start": [0]}
    row = {"id": "1", "title": "t", "context": "c", "question": "q", "answers": answers}
    hub["lighteval/squad_v2"] = {"train": [row], "validation": [row]}
    with pytest.raises(RunError) as refused:
        plan_named(model, tmp_path, name)
    assert refused.value.reason in ("InvalidTask", "UnsupportedTask", "DatasetUnreadable")
    assert name in refused.value.message


def test_metrics_of_the_hub_are_downloaded_code_and_do_not_run(tmp_path, monkeypatch):
    from evalfleet_worker.harness.lm_eval.sandbox import metric_code

    package = tmp_path / "evaluate_modules"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "spy.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    monkeypatch.syspath_prepend(str(tmp_path))
    with metric_code(allowed=False), pytest.raises(RunError, match="confirmRunUnsafeCode"):
        importlib.import_module("evaluate_modules.spy")
    assert not (tmp_path / "ran").exists()
    with metric_code(allowed=True):
        importlib.import_module("evaluate_modules.spy")
    assert (tmp_path / "ran").exists(), "the payload must work where nothing stops it"


def pairs(count, odd):
    """Documents of piqa, of which the first `odd` have no label."""
    return [
        {"goal": f"reach {i}", "sol1": "the river", "sol2": "the stone", "label": -1 if i < odd else i % 2}
        for i in range(count)
    ]


def test_a_few_odd_documents_of_a_task_of_lm_eval_are_scored_and_named(model, hub, tmp_path):
    hub["baber/piqa"] = {"train": pairs(4, 0), "validation": pairs(300, 2)}
    plan = plan_named(model, tmp_path, "piqa")
    (message,) = [message for message in plan.report.messages if "piqa" in message]
    assert "2 documents cannot be answered rightly and are scored as lm-eval does" in message
    assert "document 0, doc_to_target: gold -1" in message
    assert plan.report.samples == 300


def test_many_odd_documents_of_a_task_of_lm_eval_are_a_fault(model, hub, tmp_path):
    hub["baber/piqa"] = {"train": pairs(4, 0), "validation": pairs(300, 3)}
    with pytest.raises(RunError, match=r"task 'piqa', document 0 and 2 of the other 299, doc_to_target: gold -1"):
        plan_named(model, tmp_path, "piqa")


RESTART = """
import sys
from pathlib import Path
from evalfleet_worker.harness.startup import TorchNeededError, hide_torch, let_torch_in, restart_with_torch

hide_torch()
from lm_eval.tasks._yaml_loader import load_yaml

try:
    try:
        config = load_yaml(Path({task!r}), resolve_func=True)
    except Exception as error:
        let_torch_in(error)
        raise
except TorchNeededError:
    print("again", flush=True)
    restart_with_torch()
print("loaded", "torch" in sys.modules)
"""


def test_a_task_file_that_imports_torch_starts_the_command_anew_with_it():
    import lm_eval

    task = Path(lm_eval.__file__).parent / "tasks/evalita_llm/_evalita-mp_sa_p1.yaml"
    found = subprocess.run(
        [sys.executable, "-c", RESTART.format(task=str(task))], capture_output=True, text=True, check=True
    )
    assert found.stdout.splitlines() == ["again", "loaded True"], found.stderr


def test_the_stored_documents_of_a_class_built_task_are_all_that_its_finish_needs(model, hub, tmp_path):
    hub["hazyresearch/based-fda"] = {"validation": passages(3)}
    run = run_named(model, tmp_path, "fda")
    store = RunStore.open(run.store_uri, run.namespace, run.run_id)
    plan_run(run, store, tmp_path, lambda _: None)
    hub.clear()

    class Silent:
        device = "toy"

        def score(self, requests):
            return [Answer(request.row, text="e") for request in requests]

    _, report = evaluate(run, Silent(), tmp_path)
    assert report.samples.scored == 3
    assert json.loads(samples(store)[0]["doc"])["value"] == passages(3)[0]["value"]
