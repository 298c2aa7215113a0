"""Data are what the files say, options what lm-eval makes of them; scores are compared with lm-eval's HFLM."""

import gzip
import json
from dataclasses import replace

import pytest
from lm_eval_suite import (
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
from transformers import AutoTokenizer

from evalfleet_worker.plan.planner import plan_run
from evalfleet_worker.protocol import LmEvalSpec, RunError
from evalfleet_worker.requests import Answer
from evalfleet_worker.store.run_store import RunStore

BOOTSTRAP = 100


@pytest.fixture(autouse=True)
def one_process(monkeypatch):
    monkeypatch.setenv("DISABLE_MULTIPROC", "1")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Model and data on disk."""
    folder = tmp_path_factory.mktemp("as-written")
    return write_model(folder / "model"), write_documents(folder / "data", count=6)


@pytest.fixture(scope="module")
def hflm(place):
    """lm-eval's own model."""
    return lm_evals_model(place[0])


@pytest.fixture(scope="module")
def engine(place, tmp_path_factory):
    """The product's engine."""
    return loaded_engine(*place, tmp_path_factory.mktemp("cache"))


class Echo:
    """An engine that writes one text for every prompt and prefers the longest choice."""

    device = "toy"

    def __init__(self, text="x"):
        self._text = text

    def score(self, requests):
        return [
            Answer(r.row, log_probability=float(len(r.token_ids)), is_greedy=False, text=self._text) for r in requests
        ]


def planned(run, tmp_path):
    store = RunStore.open(run.store_uri, run.namespace, run.run_id)
    plan_run(run, store, tmp_path, lambda _: None)
    plan = store.read_plan()
    return plan, [request for unit in plan.units for request in store.read_unit(plan, unit)]


def prompts(store):
    return [sample["arguments"][0][0] for sample in samples(store)]


def own_run(place, tmp_path, config, content, file="test.jsonl", **spec):
    """A run of `config` over one file of its own."""
    data = tmp_path / "data"
    data.mkdir()
    (data / file).write_bytes(content if isinstance(content, bytes) else content.encode())
    return run_of(place[0], data, LmEvalSpec(task_config=config, **spec), tmp_path / "store")


CSV = {"dataset_path": "csv", "dataset_kwargs": {"data_files": {"test": "test.csv"}}}
WORDS = 'question,x,y,answer\n"Which gas is missing?",None,Oxygen,0\n"Which code is NA?",null,NA,1\n'


def test_words_of_a_csv_file_are_text_where_the_job_says_so(place, tmp_path):
    run = own_run(place, tmp_path, choice_task(**CSV, doc_to_choice="{{[x, y]}}"), WORDS, "test.csv")
    store, _ = evaluate(replace(run, na_values="Keep"), Echo(), tmp_path)
    asked = [[choice for _, choice in sample["arguments"]] for sample in samples(store)]
    assert asked == [[" None", " Oxygen"], [" null", " NA"]]
    assert prompts(store) == ["Question: Which gas is missing?\nAnswer:", "Question: Which code is NA?\nAnswer:"]


DATES = [
    {"event": "x", "day": "2021-03-04", "nested": {"at": "2021-03-04T05:06:07"}},
    {"event": "y", "day": "1999-12-31"},
]
DATED = generation_task(
    doc_to_text="When was {{event}}?", doc_to_target="{{day}}", filter_list=None, metric_list=metrics("exact_match")
)


def test_what_looks_like_a_date_stays_the_text_that_it_is(place, tmp_path):
    run = own_run(place, tmp_path, DATED, "".join(json.dumps(row) + "\n" for row in DATES))
    store, report = evaluate(run, Echo("2021-03-04"), tmp_path)
    assert [result.value for result in report.results] == [0.5]
    assert [json.loads(sample["target"]) for sample in samples(store)] == ["2021-03-04", "1999-12-31"]


NUMBERS = "question,x,y,answer,code,share\nWhich?,river,stone,0,007,1.50\nWhich?,river,stone,1,012,2.25\n"


def test_numbers_of_a_csv_file_are_indices_and_written_as_they_stand(place, tmp_path):
    config = choice_task(**CSV, doc_to_choice="{{[x, y]}}", doc_to_text="{{code}} {{share}}:")
    store, _ = evaluate(own_run(place, tmp_path, config, NUMBERS, "test.csv"), Echo(), tmp_path)
    assert prompts(store) == ["007 1.50:", "012 2.25:"]


ROW = '{"question": "Which?", "options": ["river", "stone"], "answer": 1}'
FILES = {
    "a name that looks like a pattern": ("my data[v1].jsonl", "my data[v1].jsonl", ROW),
    "a pattern": ("part-*.jsonl", "part-1.jsonl", ROW),
    "a byte-order mark": ("test.jsonl", "test.jsonl", b"\xef\xbb\xbf" + ROW.encode()),
    "a packed file": ("test.jsonl.gz", "test.jsonl.gz", gzip.compress(ROW.encode())),
    "a list": ("test.json", "test.json", f"[\n{ROW}\n]"),
    "columns": ("test.json", "test.json", '{"question": ["Which?"],\n "options": [["river", "stone"]], "answer": [1]}'),
    "another encoding": ("test.jsonl", "test.jsonl", ROW.replace("river", "Fl\u00fc\u00dfe").encode("latin-1")),
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_is_read_as_it_is(name, place, tmp_path):
    given, file, content = FILES[name]
    kwargs = {"data_files": {"test": given}} | ({"encoding": "latin-1"} if name == "another encoding" else {})
    run = own_run(place, tmp_path, choice_task(dataset_kwargs=kwargs), content, file)
    store, report = evaluate(run, Echo(), tmp_path)
    assert report.samples.scored == 1
    assert prompts(store) == ["Question: Which?\nAnswer:"]


def test_no_document_is_a_demonstration_of_itself(place, hflm, engine, tmp_path):
    store, _ = evaluate(
        run_of(*place, LmEvalSpec(task_config=choice_task(), num_few_shot=2), tmp_path / "store"), engine, tmp_path
    )
    for sample in samples(store):
        assert sample["arguments"][0][0].count(json.loads(sample["doc"])["question"]) == 1
    config = choice_task(fewshot_split="test")  # says to lm-eval what it does not see by itself
    expected = reference(hflm, place[1], config, tmp_path / "yaml", num_fewshot=2, bootstrap_iters=BOOTSTRAP)
    assert_same_answers(samples(store), expected["samples"]["choice"])


INPUTS = choice_task(
    doc_to_text="{{answer}}",  # the index of the right context
    doc_to_choice="{{options}}",
    doc_to_target="{{ 'is near the river' }}",
    metric_list=metrics("acc"),
)


def test_choices_may_be_the_contexts(place, hflm, engine, tmp_path):
    store, _ = evaluate(run_of(*place, LmEvalSpec(task_config=INPUTS), tmp_path / "store"), engine, tmp_path)
    expected = reference(hflm, place[1], INPUTS, tmp_path / "yaml", bootstrap_iters=BOOTSTRAP)
    assert_same_answers(samples(store), expected["samples"]["choice"])
    assert official(store)["results"]["choice"]["acc,none"] == expected["results"]["choice"]["acc,none"]


def test_a_list_of_golds_shows_the_text_of_the_first(place, tmp_path):
    config = choice_task(**dataset("test", "train"), training_split="train", doc_to_target="{{[answer]}}")
    store, _ = evaluate(
        run_of(*place, LmEvalSpec(task_config=config, num_few_shot=1), tmp_path / "store"), Echo(), tmp_path
    )
    shots = [json.loads(line) for line in (place[1] / "train.jsonl").read_text().splitlines()]
    for prompt in prompts(store):
        shot = next(row for row in shots if row["question"] in prompt)
        assert f"Answer: {shot['options'][shot['answer']]}\n\n" in prompt


GENERATED = {
    "no temperature": {"until": ["\n"], "max_gen_toks": 6, "temperature": None, "do_sample": False},
    "an empty stop string": {"until": [""], "max_gen_toks": 6},
    "no stop strings": {"until": None, "max_gen_toks": 6},
    "beams": {"until": ["\n"], "max_gen_toks": 6, "num_beams": 2},
    "a penalty": {"until": ["\n"], "max_gen_toks": 6, "repetition_penalty": 1.3},
    "the end of the reasoning": {"until": ["\n"], "max_gen_toks": 8, "think_end_token": "e"},
}


@pytest.mark.parametrize("name", GENERATED)
def test_texts_are_hflms_for(name, place, hflm, engine, tmp_path, monkeypatch):
    config = generation_task(generation_kwargs=GENERATED[name], filter_list=None)
    store, _ = evaluate(run_of(*place, LmEvalSpec(task_config=config), tmp_path / "store"), engine, tmp_path)
    theirs = {k: v for k, v in GENERATED[name].items() if v is not None}
    theirs["until"] = [stop for stop in theirs.get("until", ()) if stop]  # HFLM stops at once at "", and fails at null
    monkeypatch.setattr(hflm, "think_end_token", theirs.pop("think_end_token", None))
    expected = reference(
        hflm, place[1], {**config, "generation_kwargs": theirs}, tmp_path / "yaml", bootstrap_iters=BOOTSTRAP
    )
    wanted = [sample["resps"] for sample in expected["samples"]["generate"]]
    assert [sample["resps"] for sample in samples(store)] == wanted
    assert (
        official(store)["results"]["generate"]["exact_match,none"]
        == expected["results"]["generate"]["exact_match,none"]
    )


RECOMMENDED = {"max_new_tokens": 3, "num_beams": 3, "repetition_penalty": 1.2, "temperature": 0.6, "top_p": 0.9}


def test_what_a_model_recommends_is_written_into_the_request_and_the_tasks_length_holds(place, tmp_path):
    model = write_model(tmp_path / "model")
    config = json.loads((model / "generation_config.json").read_text())
    (model / "generation_config.json").write_text(json.dumps({**config, **RECOMMENDED, "eos_token_id": [2, 0]}))
    run = run_of(model, place[1], LmEvalSpec(task_config=generation_task()), tmp_path / "store")
    _, rows = planned(run, tmp_path)
    assert json.loads(rows[0].arguments) == {
        "until": ["\n", " of", "</s>"],
        "max_gen_toks": 12,
        "do_sample": False,
        "temperature": 0.0,
        "num_beams": 3,
        "repetition_penalty": 1.2,
        "eos_token_id": [2, 0],
    }


def test_a_special_token_ends_the_reasoning_by_its_id(place, tmp_path):
    spec = LmEvalSpec(task_config=generation_task(), think_end_token="<pad>")
    _, rows = planned(run_of(*place, spec, tmp_path / "store"), tmp_path)
    assert json.loads(rows[0].arguments)["think_end_token"] == 0


CHATTY = "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}{% endfor %}{{ tone }}{{ enable_thinking }}:"
DEAF = (
    "{% for m in messages %}{% if m['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}"
    "{{ m['content'] }}{% endfor %}"
)


def test_variables_of_the_chat_template_reach_it(place, tmp_path):
    spec = LmEvalSpec(
        task_config=choice_task(),
        apply_chat_template=True,
        chat_template_arguments={"tone": "kind"},
        enable_thinking=False,
    )
    run = run_of(*place, spec, tmp_path / "store")
    store, _ = evaluate(replace(run, model=replace(run.model, chat_template=CHATTY)), Echo(), tmp_path)
    assert all(prompt.endswith("kindFalse:") for prompt in prompts(store))


def test_a_chat_template_is_a_text_that_reads_messages_or_the_name_of_one(place, tmp_path):
    spec = LmEvalSpec(task_config=choice_task(), apply_chat_template=True)
    run = run_of(*place, spec, tmp_path / "store")
    with pytest.raises(RunError, match="chatTemplate 'default' never reads `messages`"):
        evaluate(replace(run, model=replace(run.model, chat_template="default")), Echo(), tmp_path)
    named = AutoTokenizer.from_pretrained(place[0])
    named.chat_template = {"default": "{{ messages }}", "quiet": CHATTY}
    named.save_pretrained(tmp_path / "named")
    model = replace(run.model, tokenizer_uri=f"file://{tmp_path / 'named'}", chat_template="quiet")
    store, _ = evaluate(replace(run, model=model), Echo(), tmp_path)
    assert all(prompt.startswith("<user>") for prompt in prompts(store))


def test_a_system_instruction_that_the_template_drops_is_said(place, tmp_path):
    spec = LmEvalSpec(task_config=choice_task(), apply_chat_template=True, system_instruction="Answer briefly.")
    run = run_of(*place, spec, tmp_path / "store")
    store, report = evaluate(replace(run, model=replace(run.model, chat_template=DEAF)), Echo(), tmp_path)
    assert any("leaves out the system message of 6 prompts" in message for message in report.messages)
    assert not any("briefly" in prompt for prompt in prompts(store))


def test_chosen_documents_alone_are_scored(place, hflm, engine, tmp_path):
    spec = LmEvalSpec(task_config=choice_task(), samples=(4, 1))
    store, report = evaluate(run_of(*place, spec, tmp_path / "store"), engine, tmp_path)
    expected = reference(
        hflm, place[1], choice_task(), tmp_path / "yaml", samples={"choice": [1, 4]}, bootstrap_iters=BOOTSTRAP
    )
    assert report.samples.scored == 2
    assert [sample["doc_id"] for sample in samples(store)] == [1, 4]
    assert_same_answers(samples(store), expected["samples"]["choice"])


def test_answers_alone_are_kept_where_no_metric_is_wanted(place, tmp_path):
    spec = LmEvalSpec(task_config=generation_task(), predict_only=True)
    store, report = evaluate(run_of(*place, spec, tmp_path / "store"), Echo("stone"), tmp_path)
    assert (report.outcome, report.results) == ("Complete", ())
    assert {sample["resps"][0][0] for sample in samples(store)} == {"stone"}


@pytest.mark.parametrize("chat", [False, True], ids=["plain", "chat"])
def test_with_nothing_set_the_numbers_are_those_of_lm_eval_with_nothing_set(chat, place, hflm, engine, tmp_path):
    from lm_eval.config.evaluate_config import EvaluatorConfig

    config = choice_task(**dataset("test", "train"), fewshot_split="train", num_fewshot=2, metric_list=None)
    spec = LmEvalSpec(task_config=config, apply_chat_template=chat)
    store, _ = evaluate(run_of(*place, spec, tmp_path / "store"), engine, tmp_path)
    theirs = EvaluatorConfig(tasks=["choice"], apply_chat_template=chat)._configure()  # as `lm_eval run` makes it
    members = ("num_fewshot", "limit", "samples", "system_instruction", "apply_chat_template", "fewshot_as_multiturn")
    seeds = ("random_seed", "numpy_random_seed", "torch_random_seed", "fewshot_random_seed")
    options = {name: getattr(theirs, name) for name in members} | dict(zip(seeds, theirs.seed, strict=True))
    expected = reference(hflm, place[1], config, tmp_path / "yaml", bootstrap_iters=BOOTSTRAP, **options)
    assert_same_answers(samples(store), expected["samples"]["choice"])
    for metric in ("acc,none", "acc_norm,none"):
        assert official(store)["results"]["choice"][metric] == expected["results"]["choice"][metric]


def assert_same_answers(found, expected):
    assert [sample["prompt_hash"] for sample in found] == [sample["prompt_hash"] for sample in expected]
    for sample, right in zip(found, expected, strict=True):
        for (answer,), (wanted,) in zip(sample["resps"], right["resps"], strict=True):
            assert answer[0] == pytest.approx(wanted[0], abs=1e-4)
            assert answer[1] == wanted[1]
