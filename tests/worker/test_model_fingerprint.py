"""Which model is loaded, told from samples of every tensor."""

import json
from pathlib import Path

from safetensors.torch import load_file, save_file
from tiny_models import random_model

from evalfleet_worker.model.resolve import resolve_model
from evalfleet_worker.protocol import ModelSpec


def model_fingerprint(folder: Path) -> str:
    return resolve_model(ModelSpec(str(folder)), folder).fingerprint


def test_one_more_training_step_is_another_model_and_another_name_is_not(tmp_path: Path) -> None:
    model = random_model("LlamaConfig", "LlamaForCausalLM")
    for name in ("first", "copy", "trained"):
        model.save_pretrained(tmp_path / name)
    weights = load_file(tmp_path / "trained" / "model.safetensors")
    save_file({name: 1.001 * tensor for name, tensor in weights.items()}, tmp_path / "trained" / "model.safetensors")
    first, copy, trained = (model_fingerprint(tmp_path / name) for name in ("first", "copy", "trained"))
    assert first == copy != trained


def test_another_config_is_another_model(tmp_path: Path) -> None:
    random_model("LlamaConfig", "LlamaForCausalLM").save_pretrained(tmp_path)
    before = model_fingerprint(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "rms_norm_eps": 0.1}))
    assert model_fingerprint(tmp_path) != before
