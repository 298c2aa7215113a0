"""The plan refuses what no model could answer, names evaluation, task, document and member, and says what to do."""

import json
from dataclasses import replace

import pytest
from lm_eval_suite import choice_task, dataset, generation_task, metrics, run_of, score, write_model

from evalfleet_worker.finish import finish_run
from evalfleet_worker.plan.planner import plan_run
from evalfleet_worker.protocol import EvaluationSpec, LmEvalSpec, RunError
from evalfleet_worker.requests import Answer
from evalfleet_worker.store.run_store import RunStore

ROWS = [
    {"id": i, "question": f"Which river is near {i}?", "options": ["river", "stone", "cloud"], "answer": i % 3}
    for i in range(4)
]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("model"))


def plan_of(model, tmp_path, config, rows=ROWS, file="test.jsonl", **spec):
    """The planned run of a config over `rows` (JSON lines; a text is written as it is)."""
    data = tmp_path / "data"
    data.mkdir(exist_ok=True)
    text = rows if isinstance(rows, str | bytes) else "".join(json.dumps(row) + "\n" for row in rows)
    (data / file).write_bytes(text if isinstance(text, bytes) else text.encode())
    run = run_of(model, data, LmEvalSpec(task_config=config, **spec), tmp_path / "store")
    store = RunStore.open(run.store_uri, run.namespace, run.run_id)
    plan_run(run, store, tmp_path, lambda _: None)
    return store.read_plan()


def changed(index, **members):
    return [{**row, **(members if i == index else {})} for i, row in enumerate(ROWS)]


def csv_task(**changes):
    files = {"dataset_path": "csv", "dataset_kwargs": {"data_files": {"test": "test.csv"}}}
    return choice_task(**files, doc_to_choice="{{[x, y]}}", **changes)


def filtered(*steps):
    return generation_task(doc_to_target="{{options[0]}}", filter_list=[{"name": "word", "filter": list(steps)}])


def generating(**arguments):
    return generation_task(doc_to_target="{{options[0]}}", generation_kwargs={"max_gen_toks": 4, **arguments})


TAKE_FIRST = {"function": "take_first"}
AVERAGE = [{"metric": "acc", "aggregation": "avg"}]
F1 = [{"metric": "f1", "aggregation": "f1"}]
TASK, GROUP = "InvalidTask", {"group": "both", "aggregate_metric_list": [{"metric": "acc", "aggregation": "mean"}]}
DATA = "DatasetUnreadable"
REFUSED = {
    "an aggregation that does not exist": (choice_task(metric_list=AVERAGE), ROWS, TASK, ["'acc'", "'avg'", "mean"]),
    "a metric of another output type": (choice_task(metric_list=metrics("bleu")), ROWS, TASK, ["'bleu'", "acc_norm"]),
    "f1 of three choices": (choice_task(metric_list=F1), ROWS, TASK, ["metric 'f1'", "use acc or mcc"]),
    "a generation metric over choices": (
        generation_task(doc_to_target="{{options[0]}}", metric_list=metrics("acc")),
        ROWS,
        TASK,
        ["'acc'", "exact_match"],
    ),
    "a match that may not be there": (
        filtered({"function": "regex", "regex_pattern": "(a)|(b)", "group_select": 5}, TAKE_FIRST),
        ROWS,
        TASK,
        ["filter 'word'", "(a)|(b)", "group_select 5"],
    ),
    "a filter that wants other documents": (
        filtered({"function": "multi_choice_regex", "regex_pattern": "(a)"}, TAKE_FIRST),
        ROWS,
        TASK,
        ["filter 'word'", "document 0", "choices"],
    ),
    "a gold beyond the choices": (
        choice_task(),
        changed(2, answer=3),
        TASK,
        ["document 2", "row 3", "gold 3", "0 to 2"],
    ),
    "a negative gold": (choice_task(), changed(1, answer=-1), TASK, ["document 1", "gold -1"]),
    "a fraction as gold": (choice_task(), changed(3, answer=1.5), TASK, ["document 3", "1.5", "whole number"]),
    "a gold in other letters": (
        choice_task(),
        [{**row, "answer": row["options"][0].upper()} for row in ROWS],
        TASK,
        ["document 0", "'RIVER'", "differs in case"],
    ),
    "a gold that raises": (
        choice_task(doc_to_target="{{options.index(word)}}"),
        [{**row, "word": "river" if row["id"] < 2 else "missing"} for row in ROWS],
        TASK,
        ["document 2", "doc_to_target", "'missing' is not in list"],
    ),
    "a list of golds after single ones": (choice_task(), changed(2, answer=[1]), TASK, ["document 2", "a list"]),
    "an empty list of golds": (
        choice_task(),
        [{**row, "answer": [] if row["id"] == 3 else [0]} for row in ROWS],
        TASK,
        ["document 3", "empty"],
    ),
    "no choices": (choice_task(), changed(1, options=[]), TASK, ["document 1", "doc_to_choice", "at least one"]),
    "an empty choice": (
        choice_task(),
        changed(1, options=["a", ""], answer=0),
        TASK,
        ["document 1", "choice 1 is empty"],
    ),
    "truth values for choices": (
        choice_task(doc_to_choice=[False, True], doc_to_target=0),
        ROWS,
        TASK,
        ["choice 0 is False", "quote"],
    ),
    "numbers for choices": (choice_task(), changed(0, options=[1, 2, 3]), TASK, ["document 0", "choice 0 is 1"]),
    "a null among the choices": (
        choice_task(),
        changed(2, options=["a", None], answer=0),
        TASK,
        ["document 2", "None"],
    ),
    "a target column that does not exist": (choice_task(doc_to_target="gold"), ROWS, TASK, ["'gold'", "'answer'"]),
    "a text column that does not exist": (choice_task(doc_to_text="prompt"), ROWS, TASK, ["doc_to_text", "'prompt'"]),
    "a column of a branch that is not taken": (
        choice_task(doc_to_text="{% if id < 9 %}{{question}}{% else %}{{qestion}}{% endif %}"),
        ROWS,
        TASK,
        ["doc_to_text", "'qestion'"],
    ),
    "a description of a missing column": (choice_task(description="{{topic}}"), ROWS, TASK, ["description", "'topic'"]),
    "a prefix of a missing column": (generating(gen_prefix=None) | {"gen_prefix": "{{x}}"}, ROWS, TASK, ["gen_prefix"]),
    "a member that is missing within a column": (
        choice_task(doc_to_text="{{question.text}}"),
        ROWS,
        TASK,
        ["document 0", "doc_to_text", "text"],
    ),
    "a null in a used column": (choice_task(), changed(1, question=None), DATA, ["document 1", "row 2", "'question'"]),
    "a missing key": (
        choice_task(),
        [{k: v for k, v in row.items() if k != "question" or row["id"] != 3} for row in ROWS],
        DATA,
        ["row 4", "'question'"],
    ),
    "no rows": (choice_task(), "", DATA, ["test.jsonl has no rows"]),
    "a key that stands twice": (choice_task(), '{"question": "a", "question": "b"}\n', DATA, ["line 1", "twice"]),
    "no number": (choice_task(), '{"question": "a", "answer": NaN}\n', DATA, ["line 1", "NaN"]),
    "half a character": (choice_task(), '{"question": "\\ud800", "answer": 0}\n', DATA, ["line 1"]),
    "another encoding": (choice_task(), '{"question": "é"}\n'.encode("latin-1"), DATA, ["UTF-8", "encoding", "0xe9"]),
    "a file in several objects": (choice_task(), '{"a":\n 1}\n', DATA, ["test.jsonl", "field"]),
    "a merge over the boundary": (
        choice_task(doc_to_text="{{options[0]}} o", doc_to_choice=["f", "h"], target_delimiter="", doc_to_target=0),
        ROWS,
        TASK,
        ["document 0", "'river o'", "'f'", "target_delimiter"],
    ),
    "an unknown generation option": (
        generating(penalty_alpha=0.6),
        ROWS,
        TASK,
        ["document 0", "penalty_alpha", "top_k"],
    ),
    "sampling without a temperature": (generating(do_sample=True, top_p=0.9), ROWS, TASK, ["do_sample", "temperature"]),
    "a text as probability": (generating(temperature=0.5, top_p="high"), ROWS, TASK, ["top_p", "'high'", "0 to 1"]),
    "beams that are drawn": (generating(temperature=0.5, num_beams=2), ROWS, TASK, ["num_beams"]),
    "a length of nothing": (generating(max_gen_toks=0), ROWS, TASK, ["max_gen_toks", "from 1"]),
    "a number as stop string": (generating(until=[1]), ROWS, TASK, ["until"]),
    "a text of digits alone": (
        choice_task(doc_to_text="{{id}}"),
        ROWS,
        TASK,
        ["document 3", "doc_to_text", "gold 3"],
    ),
    "a number to generate from": (
        generating() | {"doc_to_text": "id"},
        ROWS,
        TASK,
        ["document 0", "no text", "{{ column }}"],
    ),
    "a number to score": (
        choice_task(output_type="loglikelihood", doc_to_choice=None, metric_list=metrics("acc")),
        ROWS,
        TASK,
        ["document 0", "doc_to_target", "no text to score"],
    ),
    "an example whose answer is no text": (
        generating() | {"doc_to_target": "answer", "num_fewshot": 1},
        ROWS,
        TASK,
        ["few-shot examples", "document 0", "doc_to_target"],
    ),
    "a text index": (
        choice_task(),
        [{**row, "answer": str(row["answer"])} for row in ROWS],
        TASK,
        ["'0' is not among the choices", "reads it as an index"],
    ),
    "no text": (choice_task(doc_to_text=None), ROWS, TASK, ["document 0", "doc_to_text", "not set"]),
    "no choices in the config": (choice_task(doc_to_choice=None), ROWS, TASK, ["document 0", "doc_to_choice"]),
    "no target": (generating() | {"doc_to_target": None}, ROWS, TASK, ["document 0", "doc_to_target", "not set"]),
    "no repeats": (generating() | {"repeats": 0}, ROWS, TASK, ["task 'generate'"]),
    "a member of the file that is not there": (
        choice_task(dataset_kwargs={"data_files": {"test": "test.jsonl"}, "field": "rows"}),
        '{"data": []}',
        DATA,
        ["test.jsonl", "no member 'rows'"],
    ),
    "a slice of a split": (
        choice_task(dataset_kwargs={"data_files": {"test": "test.jsonl"}, "split": "test[:2]"}),
        ROWS,
        "UnsupportedTask",
        ["dataset_kwargs: split", "data_files"],
    ),
    "a delimiter of two characters": (
        choice_task(dataset_path="csv", dataset_kwargs={"data_files": {"test": "test.jsonl"}, "delimiter": "||"}),
        "a||b\n",
        DATA,
        ["test.jsonl", "delimiter"],
    ),
    "nothing to generate from": (
        generating() | {"doc_to_text": "{{''}}"},
        ROWS,
        TASK,
        ["document 0", "prompt is empty"],
    ),
    "choices that are templates": (
        choice_task(doc_to_choice=["{{options[0]}}", "{{options[1]}}"], doc_to_target=0),
        ROWS,
        TASK,
        ["doc_to_choice", "'{{options[0]}}'", "one template"],
    ),
    "a method for a member": (
        choice_task(doc_to_text="{{row.items}}"),
        [{**row, "row": {"items": "x"}} for row in ROWS],
        TASK,
        ["document 0", "doc_to_text", "row['items']"],
    ),
    "a gold of another Unicode form": (
        choice_task(),
        [{**row, "options": ["caf\u00e9", "stone"], "answer": "cafe\u0301"} for row in ROWS],
        TASK,
        ["document 0", "\\u0301", "Unicode"],
    ),
    "a list of generation options": (generating() | {"generation_kwargs": []}, ROWS, TASK, ["generation_kwargs"]),
    "metrics without a list": (choice_task(metric_list={"metric": "acc"}), ROWS, TASK, ["metric_list", "list"]),
    "no metrics": (choice_task(metric_list=[]), ROWS, TASK, ["metric_list", "empty"]),
    "filters that are words": (generating() | {"filter_list": ["take_first"]}, ROWS, TASK, ["filter_list[0]", "name"]),
    "two filters of one name": (
        generating() | {"filter_list": [{"name": "f", "filter": [TAKE_FIRST]}] * 2},
        ROWS,
        TASK,
        ["filter_list", "'f'", "twice"],
    ),
    "a text as number of examples": (choice_task(num_fewshot="2"), ROWS, TASK, ["num_fewshot", "'2'"]),
    "a group of nothing": ({**GROUP, "task": []}, ROWS, TASK, ["task", "at least one"]),
    "two tasks of one name": ({**GROUP, "task": [choice_task(), choice_task()]}, ROWS, TASK, ["'choice'", "twice"]),
    "a split that no file gives": (choice_task(test_split="dev"), ROWS, TASK, ["'dev'", "it has test"]),
}


@pytest.mark.parametrize("name", REFUSED)
def test_is_refused_by_the_plan(name, model, tmp_path):
    config, rows, reason, words = REFUSED[name]
    with pytest.raises(RunError) as refused:
        plan_of(model, tmp_path, config, rows)
    assert refused.value.reason == reason
    for word in ["evaluation: ", *words]:
        assert word in refused.value.message


CSV_REFUSED = {
    "a word that may mean nothing": (
        "question,x,y,answer\nWhich?,None,stone,0\n",
        ["row 1", "'None'", "'x'", "naValues"],
    ),
    "an empty cell": ("question,x,y,answer\nWhich?,river,,0\n", ["row 1", "empty cell", "'y'", "naValues"]),
    "a short row": ("question,x,y,answer\nWhich?,river,stone,0\nWhich?,river\n", ["row 2", "has no value"]),
    "a long row": ("question,x,y,answer\nWhich, then?,river,stone,0\n", ["row 1 has 5 cells, the header 4", "quote"]),
    "a column that stands twice": ("question,x,x,answer\nWhich?,river,stone,0\n", ["'x' stands twice"]),
    "a header alone": ("question,x,y,answer\n", ["no rows"]),
}


@pytest.mark.parametrize("name", CSV_REFUSED)
def test_a_csv_file_is_refused_by_the_plan(name, model, tmp_path):
    content, words = CSV_REFUSED[name]
    with pytest.raises(RunError) as refused:
        plan_of(model, tmp_path, csv_task(), content, "test.csv")
    assert refused.value.reason == DATA
    for word in ["test.csv", *words]:
        assert word in refused.value.message


def test_few_shot_examples_are_too_few_without_the_document_itself(model, tmp_path):
    with pytest.raises(RunError, match=r"4 few-shot examples beside the document itself .* there are 4"):
        plan_of(model, tmp_path, choice_task(), num_few_shot=4)


def test_a_sample_that_is_not_there_is_refused(model, tmp_path):
    with pytest.raises(RunError, match="no document 7; it has 4"):
        plan_of(model, tmp_path, choice_task(), samples=(1, 7))


def test_a_refused_evaluation_does_not_take_the_others_with_it(model, tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    (data / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    configs = {"good": choice_task(), "bad": choice_task(metric_list=F1)}
    run = run_of(model, data, LmEvalSpec(), tmp_path / "store")
    run = replace(
        run, evaluations=tuple(EvaluationSpec(name, LmEvalSpec(task_config=c)) for name, c in configs.items())
    )
    store = RunStore.open(run.store_uri, run.namespace, run.run_id)
    lines: list[str] = []
    report = plan_run(run, store, tmp_path, lines.append)
    assert report.samples == len(ROWS)
    refused = store.read_plan().extra["refused"]
    assert refused.keys() == {"bad"}
    assert refused["bad"]["reason"] == TASK
    assert any(line.startswith("bad: InvalidTask: task 'choice', metric 'f1'") for line in lines)
    score(store, LengthEngine())
    finished = finish_run(run, store, tmp_path)
    assert finished.outcome == "SomeEvaluationsFailed"
    assert {result.evaluation for result in finished.results} == {"good"}
    assert [(failure.evaluation, failure.reason) for failure in finished.failed] == [("bad", TASK)]


class LengthEngine:
    """Answers with the negative number of tokens."""

    device = "toy"

    def score(self, requests):
        return [Answer(r.row, log_probability=-float(len(r.token_ids)), is_greedy=False) for r in requests]


def test_a_target_that_no_answer_can_match_is_warned_of(model, tmp_path):
    config = generation_task(doc_to_target="{{options[0]}} of", filter_list=None)  # " of" is a stop string
    plan = plan_of(model, tmp_path, config)
    assert "exact_match is 0 even where the answer is the target" in plan.report.messages[-1]


ASKED = {
    "if": "{% if topic %}{{topic}}: {% endif %}{{question}}",
    "or": "{{ topic or 'none' }} {{question}}",
    "default": "{{ topic | default('', true) }}{{question}}",
    "test": "{{ question if topic is none else topic }}",
}


@pytest.mark.parametrize("template", ASKED.values(), ids=ASKED)
def test_a_template_that_asks_for_a_column_decides_itself(template, model, tmp_path):
    assert plan_of(model, tmp_path, choice_task(doc_to_text=template), changed(1, topic=None))


def test_a_description_may_be_one_word(model, tmp_path):
    assert plan_of(model, tmp_path, choice_task(description="Quiz", **dataset("test")))
