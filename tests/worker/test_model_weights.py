"""Stored weights are compared with the model that is built from them: sound ones pass, others are refused by name."""

import json
import shutil
import subprocess
import sys

import pytest
from model_families import FAMILIES, SIZES, tiny_model

from evalfleet_worker.model.proof import WeightsProof
from evalfleet_worker.model.resolve import resolve_model
from evalfleet_worker.model.weights_header import read_headers
from evalfleet_worker.model.weights_report import check_report
from evalfleet_worker.protocol import FailureReason, ModelSpec, RunError

torch = pytest.importorskip("torch")
from safetensors.torch import load_file, save_file  # noqa: E402

from evalfleet_worker.model.meta_load import compare  # noqa: E402

EXTRA_VALUE = 1
PROOF = """
import sys
from pathlib import Path
from evalfleet_worker.harness.startup import hide_torch
from evalfleet_worker.model.proof import WeightsProof
from evalfleet_worker.model.resolve import resolve_model
from evalfleet_worker.protocol import ModelSpec, RunError

hide_torch()
folder, cache = sys.argv[1:]
with WeightsProof(resolve_model(ModelSpec(folder), Path(cache)), is_encoder=False) as proof:
    try:
        proof.check()
    except RunError as error:
        print(error.message)
assert "torch" not in sys.modules
"""


def stored(folder):
    return {header.name: [header.dtype, header.shape] for header in read_headers(folder / "model.safetensors")}


def check(folder, tensors, is_encoder=False):
    """Refuse `tensors` as the weights of the model in `folder`."""
    question = [[name, *described] for name, described in tensors.items()]
    report = compare(str(folder), question, is_encoder, trust_remote_code=False)
    check_report(report, "the model", {name: shape for name, (_, shape) in tensors.items()})


def refusal(folder, tensors, **options):
    with pytest.raises(RunError) as refused:
        check(folder, tensors, **options)
    assert refused.value.reason is FailureReason.MODEL_UNREADABLE
    return refused.value.message


@pytest.mark.parametrize("family", FAMILIES)
def test_a_saved_model_passes_and_one_without_a_tensor_or_with_a_larger_one_does_not(family, tmp_path):
    tiny_model(family).save_pretrained(tmp_path)
    tensors = stored(tmp_path)
    check(tmp_path, tensors)
    middle, last = sorted(tensors)[len(tensors) // 2], max(tensors)
    for name in {middle, last}:
        message = refusal(tmp_path, {key: value for key, value in tensors.items() if key != name})
        assert " missing: " in message
        assert name.rpartition(".")[2] in message
        kind, shape = tensors[name]
        larger = {**tensors, name: [kind, (shape[0] + EXTRA_VALUE, *shape[1:])]}
        assert "of another shape" in refusal(tmp_path, larger)


@pytest.fixture(scope="module")
def untied(tmp_path_factory):
    folder = tmp_path_factory.mktemp("untied")
    tiny_model("llama", tie_word_embeddings=False).save_pretrained(folder)
    return folder


@pytest.fixture
def copy(untied, tmp_path):
    return shutil.copytree(untied, tmp_path / "model")


def test_a_missing_head_is_named(untied):
    tensors = stored(untied)
    del tensors["lm_head.weight"]
    assert "1 missing: lm_head.weight" in refusal(untied, tensors)


def test_a_tied_head_may_be_stored_or_not_but_the_embedding_must_be(copy):
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config | {"tie_word_embeddings": True}))
    tensors = stored(copy)
    check(copy, tensors)
    without = {name: value for name, value in tensors.items() if name != "lm_head.weight"}
    check(copy, without)
    del without["model.embed_tokens.weight"]
    assert "embed_tokens" in refusal(copy, without)


def test_a_layer_that_the_config_does_not_have_is_foreign(copy):
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 1}))
    message = refusal(copy, stored(copy))
    assert "9 that the model has no place for" in message
    assert "model.layers.1." in message


@pytest.mark.parametrize(
    "name",
    ["model.layers.0.self_attn.q_proj.bias", "model.layers.0.self_attn.q_proj.lora_A.weight", "score.weight"],
    ids=["bias", "adapter", "classifier"],
)
def test_what_would_change_the_answers_is_foreign(untied, name):
    assert f"1 that the model has no place for: {name}" in refusal(untied, {**stored(untied), name: ["F32", (32,)]})


@pytest.mark.parametrize(
    "name",
    [
        "model.layers.0.self_attn.rotary_emb.inv_freq",
        "model.layers.1.self_attn.k_scale",
        "v_head.weight",
        "mtp.fc.weight",
    ],
)
def test_what_the_answers_do_not_depend_on_is_no_fault(untied, name):
    check(untied, {**stored(untied), name: ["F32", (32,)]})


def test_a_checkpoint_as_older_versions_wrote_it_passes(tmp_path):
    tiny_model("gpt2").save_pretrained(tmp_path)
    tensors = {name.removeprefix("transformer."): value for name, value in stored(tmp_path).items()}
    masks = {
        f"h.{layer}.attn.{name}": ["F32", (1, 1, 64, 64)] for layer in range(2) for name in ("bias", "masked_bias")
    }
    check(tmp_path, {**tensors, **masks})
    del tensors["h.1.mlp.c_fc.weight"]
    assert "h.1.mlp.c_fc.weight" in refusal(tmp_path, tensors)


def test_the_language_model_of_a_model_that_also_sees_passes(tmp_path):
    from transformers import AutoConfig, AutoModelForCausalLM

    vision = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1, "num_attention_heads": 4}
    config = AutoConfig.for_model(
        "gemma3", text_config={**SIZES, "head_dim": 8}, vision_config={**vision, "image_size": 28, "patch_size": 14},
        mm_tokens_per_image=4,
    )  # fmt: skip
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    tensors = stored(tmp_path)
    check(tmp_path, tensors)
    lost = next(name for name in tensors if name.endswith("layers.1.mlp.up_proj.weight") and "vision" not in name)
    assert "layers.1.mlp.up_proj.weight" in refusal(tmp_path, {k: v for k, v in tensors.items() if k != lost})


def test_one_expert_that_lacks_a_part_or_has_an_odd_one_is_named(tmp_path):
    tiny_model("qwen3_moe").save_pretrained(tmp_path)
    tensors = stored(tmp_path)
    name = "model.layers.1.mlp.experts.2.up_proj.weight"
    assert name in refusal(tmp_path, {key: value for key, value in tensors.items() if key != name})
    assert f"{name} [17, 32]" in refusal(tmp_path, {**tensors, name: ["F32", (17, 32)]})


def test_an_encoder_needs_no_pooler_and_no_head_but_its_layers(tmp_path):
    from transformers import BertConfig, BertForMaskedLM

    config = BertConfig(
        vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        max_position_embeddings=64,
    )  # fmt: skip
    BertForMaskedLM(config).save_pretrained(tmp_path)
    tensors = stored(tmp_path)
    check(tmp_path, tensors, is_encoder=True)
    del tensors["bert.encoder.layer.1.output.dense.weight"]
    assert "encoder.layer.1.output.dense.weight" in refusal(tmp_path, tensors, is_encoder=True)


def proof(folder, cache):
    return WeightsProof(resolve_model(ModelSpec(str(folder)), cache), is_encoder=False)


def test_a_proof_is_made_once(copy, tmp_path):
    with proof(copy, tmp_path) as first:
        first.check()
    assert proof(copy, tmp_path).is_known
    state = load_file(copy / "model.safetensors")
    del state["lm_head.weight"]
    save_file(state, copy / "model.safetensors", {"format": "pt"})
    with pytest.raises(RunError, match=r"lm_head\.weight"):
        proof(copy, tmp_path).check()


def test_without_torch_a_process_of_its_own_makes_the_proof(copy, tmp_path):
    state = load_file(copy / "model.safetensors")
    del state["lm_head.weight"]
    save_file(state, copy / "model.safetensors", {"format": "pt"})
    told = subprocess.run([sys.executable, "-c", PROOF, copy, tmp_path], capture_output=True, text=True, check=True)
    assert "1 missing: lm_head.weight" in told.stdout


def test_shards_are_complete_or_named(tmp_path):
    tiny_model("llama").save_pretrained(tmp_path, max_shard_size="20KB")
    shards = sorted(file.name for file in tmp_path.glob("*.safetensors"))
    assert len(shards) > 2
    resolve_model(ModelSpec(str(tmp_path)), tmp_path)
    (tmp_path / shards[1]).unlink()
    with pytest.raises(RunError, match=shards[1]):
        resolve_model(ModelSpec(str(tmp_path)), tmp_path)
    (tmp_path / "model.safetensors.index.json").unlink()
    with pytest.raises(RunError, match=r"lacks model\.safetensors\.index\.json"):
        resolve_model(ModelSpec(str(tmp_path)), tmp_path)


def stored_in_fp8(folder):
    """Write a tiny Llama's projections as fp8 with one scale each."""
    tiny_model("llama").save_pretrained(folder)
    state = load_file(folder / "model.safetensors")
    for name in [name for name in state if "_proj" in name]:
        scale = state[name].abs().max() / 448
        state[name] = (state[name] / scale).to(torch.float8_e4m3fn)
        state[f"{name}_scale_inv"] = scale.reshape(1, 1)
    method = {"quant_method": "fp8", "weight_block_size": [128, 128], "activation_scheme": "dynamic"}
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"quantization_config": method}))
    return state


def test_quantized_weights_are_checked_when_they_are_loaded(tmp_path):
    from transformers import AutoModelForCausalLM

    from evalfleet_worker.model.weights_report import report_of

    state = stored_in_fp8(tmp_path)

    def loaded():
        save_file(state, tmp_path / "model.safetensors", {"format": "pt"})
        check_report(report_of(*AutoModelForCausalLM.from_pretrained(tmp_path, output_loading_info=True), False), "m")

    loaded()
    assert proof(tmp_path, tmp_path).is_known
    del state["model.layers.0.mlp.up_proj.weight"]
    with pytest.raises(RunError, match=r"1 missing: model\.layers\.0\.mlp\.up_proj\.weight"):
        loaded()
