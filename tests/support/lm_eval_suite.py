"""A tiny Llama with its own tokenizer and small lm-eval tasks, for comparing with lm-eval's own HFLM offline."""

import json
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tiny_models import random_model

from evalfleet_worker.finish import finish_run
from evalfleet_worker.loop.coordinator import Claim, Coordinator, Owner
from evalfleet_worker.plan.planner import plan_run
from evalfleet_worker.protocol import EvaluationSpec, FinishReport, LmEvalSpec, ModelSpec, RunSpec
from evalfleet_worker.requests import Answer, Engine
from evalfleet_worker.store.run_store import RunStore

WORDS = (
    "river",
    "stone",
    "cloud",
    "light",
    "garden",
    "winter",
    "paper",
    "silver",
    "window",
    "mountain",
    "bread",
    "sun",
)
CHAT = (
    "{% for m in messages %}<s>{{ m['role'] }}: {{ m['content'] }}</s>\n{% endfor %}"
    "{% if add_generation_prompt %}<s>assistant:{% endif %}"
)
MAX_LENGTH = 128


def lm_evals_model(folder: Path) -> Any:
    """lm-eval's own model, one request at a time."""
    from lm_eval.models.huggingface import HFLM

    return HFLM(pretrained=str(folder), device="cpu", dtype="float32", batch_size=1)


def loaded_engine(model: Path, data: Path, cache: Path) -> Engine:
    """The product's engine."""
    from evalfleet_worker.engine.load import load_engine

    return load_engine(run_of(model, data, LmEvalSpec(task="unused"), cache), cache)


def write_model(folder: Path) -> Path:
    """A random Llama (hidden 64, 2 layers) with a byte-level BPE tokenizer trained on the tasks' words."""
    import transformers
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=512, special_tokens=["<pad>", "<s>", "</s>"], initial_alphabet=alphabet)
    tokenizer.train_from_iterator([" ".join(WORDS) + " which of the is near question answer"] * 4, trainer)
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="<pad>", chat_template=CHAT
    )
    fast.save_pretrained(folder)
    model = random_model(
        "LlamaConfig", "LlamaForCausalLM", num_hidden_layers=2, max_position_embeddings=MAX_LENGTH, vocab_size=512
    )
    model.save_pretrained(folder)
    return folder


def write_documents(folder: Path, count: int = 14, seed: int = 3) -> Path:
    """test.jsonl, train.jsonl (few-shot) and long.jsonl (texts of several windows) below `folder`."""
    draw = random.Random(seed)
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("test", "train"):
        rows = (json.dumps(_document(draw, index)) + "\n" for index in range(count))
        (folder / f"{name}.jsonl").write_text("".join(rows))
    texts = (" ".join(draw.choices(WORDS, k=length)) for length in (3, 40, 127, 128, 129, 300))
    (folder / "long.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return folder


def _document(draw: random.Random, index: int) -> dict[str, Any]:
    return {
        "id": index,
        "question": f"Which {draw.choice(WORDS)} is near the {draw.choice(WORDS)} {index}?",
        "options": draw.sample(WORDS, 4),
        "answer": draw.randrange(4),
        "word": draw.choice(WORDS),
        "topic": index % 4,
    }


def dataset(*splits: str, file: str | None = None) -> dict[str, Any]:
    """The data part of a task config: `split`.jsonl each, or `file` for all of them."""
    return {
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {split: f"{file or split}.jsonl" for split in splits}},
        "test_split": "test",
    }


def metrics(*names: str) -> list[dict[str, Any]]:
    """A metric list with lm-eval's default aggregations."""
    return [{"metric": name} for name in names]


def choice_task(name: str = "choice", **changes: Any) -> dict[str, Any]:
    """Four choices; the gold one is an index."""
    return {
        "task": name,
        **dataset("test"),
        "output_type": "multiple_choice",
        "doc_to_text": "Question: {{question}}\nAnswer:",
        "doc_to_choice": "options",
        "doc_to_target": "answer",
        "metric_list": metrics("acc", "acc_norm", "brier_score"),
        **changes,
    }


def generation_task(name: str = "generate", **changes: Any) -> dict[str, Any]:
    """Free text, filtered by regular expressions."""
    first = {"function": "take_first"}
    return {
        "task": name,
        **dataset("test"),
        "output_type": "generate_until",
        "doc_to_text": "Question: {{question}}\nAnswer:",
        "doc_to_target": "{{word}}",
        "generation_kwargs": {"until": ["\n", " of"], "max_gen_toks": 12, "do_sample": False},
        "filter_list": [
            {
                "name": "word",
                "filter": [{"function": "regex", "regex_pattern": "([a-z]+)"}, first],
            },
            {"name": "raw", "filter": [first]},
        ],
        "metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
        **changes,
    }


def run_of(model: Path, data: Path, spec: LmEvalSpec, store: Path) -> RunSpec:
    """A run of one lm-eval evaluation, cut into many small units."""
    return RunSpec(
        namespace="local",
        name="parity",
        run_id="parity-1",
        store_uri=str(store),
        model=ModelSpec(str(model)),
        evaluations=(EvaluationSpec("evaluation", spec),),
        data_uri=f"file://{data}",
        offline=True,
        unit_seconds=1e-4,
    )


def evaluate(run: RunSpec, engine: Engine, cache: Path, workers: int = 1) -> tuple[RunStore, FinishReport]:
    """Plan, let workers score in turns through the claim protocol, finish."""
    store = RunStore.open(run.store_uri, run.namespace, run.run_id)
    plan_run(run, store, cache, lambda _: None)
    score(store, engine, workers)
    return store, finish_run(run, store, cache)


def score(store: RunStore, engine: Engine, workers: int = 1) -> None:
    """Score what is left of a planned run with so many interleaved workers."""
    plan = store.read_plan()
    assert plan is not None
    coordinators = [Coordinator(store, plan, Owner(f"w{i}", f"w{i}"), lambda: 0.0) for i in range(workers)]
    while coordinators:
        claims = [(coordinator, coordinator.next()) for coordinator in coordinators]
        for coordinator, claim in claims:
            if isinstance(claim, Claim):
                requests = coordinator.ended.wanted(store.read_unit(plan, claim.unit))
                coordinator.commit(claim, engine.score(requests), 0.1, {})
        coordinators = [coordinator for coordinator, claim in claims if isinstance(claim, Claim)]


def official(store: RunStore, evaluation: str = "evaluation") -> Mapping[str, Any]:
    """lm-eval's results dict as published."""
    return json.loads(store.read_result("results.json"))[evaluation]


def samples(store: RunStore, evaluation: str = "evaluation") -> Sequence[dict[str, Any]]:
    """The per-sample rows as published, JSON columns decoded."""
    import io

    import pyarrow.parquet as pq

    rows = pq.read_table(io.BytesIO(store.read_result(f"samples/{evaluation}.parquet"))).to_pylist()
    return [
        {**row, **{key: json.loads(row[key]) for key in ("resps", "filtered_resps", "metrics", "arguments")}}
        for row in rows
    ]


class HflmEngine:
    """An engine that answers with lm-eval's HFLM, one request at a time: for comparing everything but the scoring."""

    device = "hflm"

    def __init__(self, hflm: Any) -> None:
        self._hflm = hflm

    def score(self, requests: Sequence[Any]) -> list[Answer]:
        """Answers by HFLM's own token-level scoring."""
        return [self._answer(request) for request in requests]

    def _answer(self, request: Any) -> Answer:
        ids = list(request.token_ids)
        pair = (None, ids[: -request.continuation_length], ids[-request.continuation_length :])
        ((value, greedy),) = self._hflm._loglikelihood_tokens([pair], disable_tqdm=True)
        return Answer(request.row, log_probability=value, is_greedy=greedy)


def reference(hflm: Any, data: Path, config: Mapping[str, Any], folder: Path, **options: Any) -> Mapping[str, Any]:
    """What `lm_eval.simple_evaluate` itself says, the config read from YAML files as lm-eval's users write them."""
    import yaml
    from lm_eval.evaluator import simple_evaluate
    from lm_eval.tasks import TaskManager

    folder.mkdir(parents=True, exist_ok=True)
    members = config["task"] if isinstance(config["task"], list) else [config]
    for member in members:
        files = {split: str(data / file) for split, file in member["dataset_kwargs"]["data_files"].items()}
        content = {**member, "dataset_kwargs": {"data_files": files}}
        (folder / f"{member['task']}.yaml").write_text(yaml.safe_dump(content))
    if "group" in config:
        group = {**config, "task": [member["task"] for member in members]}
        (folder / "group.yaml").write_text(yaml.safe_dump(group))
    manager = TaskManager(include_path=str(folder), include_defaults=False)
    name = config.get("group") or config["task"]
    options = {"fewshot_as_multiturn": False, **options}
    return simple_evaluate(model=hflm, tasks=[name], task_manager=manager, log_samples=True, **options)
