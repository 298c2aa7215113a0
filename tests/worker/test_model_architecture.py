"""What a model is decides in the plan whether it can be evaluated; facts follow transformers and lm-eval."""

import json
import shutil
from dataclasses import replace

import pytest
from lm_eval_suite import choice_task, generation_task, run_of, write_documents, write_model
from model_families import SIZES, tiny_model

from evalfleet_worker.model.architecture import check_causal_lm, check_encoder, check_quantization, load_config
from evalfleet_worker.model.facts import context_length, facts_of
from evalfleet_worker.model.resolve import resolve_model
from evalfleet_worker.plan.planner import plan_run
from evalfleet_worker.protocol import EngineSpec, FailureReason, LmEvalSpec, ModelSpec, RunError
from evalfleet_worker.store.run_store import RunStore

torch = pytest.importorskip("torch")
from lm_eval.models.utils import resolve_max_length  # noqa: E402
from transformers import AutoConfig  # noqa: E402


def config_of(folder, kind, **members):
    AutoConfig.for_model(kind).save_pretrained(folder)
    return changed(folder, **members)


def changed(folder, **members):
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | members))
    return load_config(folder, trust_remote_code=False)


def refused(check, *arguments):
    with pytest.raises(RunError) as error:
        check(*arguments)
    assert error.value.reason is FailureReason.MODEL_UNREADABLE
    return error.value.message


@pytest.mark.parametrize(
    ("kind", "members", "words"),
    [
        ("t5", {}, "encoder-decoder"),
        ("bart", {}, "encoder-decoder"),
        ("whisper", {}, "encoder-decoder"),
        ("bert", {"is_decoder": False}, "bidirectional"),
        ("roberta", {}, "bidirectional"),
        ("modernbert", {}, "bidirectional"),
        ("llama", {"is_causal": False}, "bidirectional"),
        ("gemma3_text", {"use_bidirectional_attention": True}, "bidirectional"),
        ("llama", {"architectures": ["LlamaForSequenceClassification"]}, "LlamaForSequenceClassification"),
        ("qwen2", {"architectures": ["Qwen2ForRewardModel"]}, "Qwen2ForRewardModel"),
        ("vit", {}, "image classification"),
        ("wav2vec2", {}, "ctc"),
        ("clip", {}, "zero shot image classification"),
        ("llava", {}, "image text to text"),
    ],
)
def test_what_predicts_no_next_token_is_refused_with_what_it_is(kind, members, words, tmp_path):
    message = refused(check_causal_lm, config_of(tmp_path, kind, **members), "m")
    assert words in message
    assert "causal" in message


@pytest.mark.parametrize(
    ("kind", "members"),
    [
        ("bert", {"is_decoder": True}),
        ("bart", {"is_encoder_decoder": False, "is_decoder": True, "architectures": ["BartForCausalLM"]}),
        ("gemma3", {}),
        ("gemma3_text", {}),
        ("llama", {"architectures": ["LlamaModel"]}),
        ("mamba", {}),
        ("deepseek_v3", {"architectures": ["DeepseekV3ForCausalLM"]}),
    ],
)
def test_what_predicts_the_next_token_passes(kind, members, tmp_path):
    config = config_of(tmp_path, kind, **members)
    check_causal_lm(config, "m")
    (tmp_path / "tokenizer_config.json").write_text('{"model_max_length": 7}')  # lm-eval asks the model first
    facts = facts_of(config, (), tmp_path, tmp_path)
    assert facts.kind == "causal-lm"
    assert facts.context_length == resolve_max_length(config, AutoLength)


class AutoLength:
    """A tokenizer, as far as its length goes."""

    model_max_length = 7


def test_embeddings_need_a_text_encoder(tmp_path):
    check_encoder(config_of(tmp_path, "bert"), "m")
    check_encoder(config_of(tmp_path, "qwen3"), "m")
    assert "encoder-decoder" in refused(check_encoder, config_of(tmp_path, "t5"), "m")
    assert "no vocabulary" in refused(check_encoder, config_of(tmp_path, "vit"), "m")


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ({"model_type": "no_such_type"}, "does not know the model type no_such_type"),
        ({"model_type": None}, "names no model_type"),
        ({"model_type": ["llama"]}, "does not know the model type ['llama']"),
        ({"hidden_size": "wide"}, "cannot read it"),
    ],
)
def test_a_config_that_transformers_cannot_read_is_refused(members, words, tmp_path):
    AutoConfig.for_model("llama").save_pretrained(tmp_path)
    content = json.loads((tmp_path / "config.json").read_text()) | members
    kept = {name: value for name, value in content.items() if value is not None}
    (tmp_path / "config.json").write_text(json.dumps(kept))
    assert words in refused(load_config, tmp_path, False)


@pytest.mark.parametrize(
    ("stored", "words"),
    [
        ({"quant_method": "gptq", "bits": 4}, "gptq, which needs the package optimum"),
        ({"quant_method": "awq", "bits": 4}, "awq, which needs the package gptqmodel"),
        ({"load_in_4bit": True}, "bitsandbytes, which needs"),
        ({"quant_method": "compressed-tensors", "format": "pack-quantized"}, "compressed-tensors, which needs"),
        ({"quant_method": "nonsense"}, "nonsense; known are aqlm"),
        ({"bits": 4}, "does not name"),
    ],
)
def test_quantized_weights_without_their_package_are_refused_by_the_methods_name(stored, words, tmp_path):
    config = config_of(tmp_path, "llama", quantization_config=stored)
    assert words in refused(check_quantization, config, "m")


@pytest.mark.parametrize("stored", [{"quant_method": "fp8"}, {"quant_method": "mxfp4"}, None])
def test_quantized_weights_that_transformers_reads_alone_pass(stored, tmp_path):
    check_quantization(config_of(tmp_path, "llama", quantization_config=stored), "m")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("architecture")
    return write_model(folder / "model"), write_documents(folder / "data")


def planned(model, data, tmp_path, task=None, **changes):
    run = run_of(model, data, LmEvalSpec(task_config=task or choice_task()), tmp_path / "store")
    run = replace(run, **changes)
    return plan_run(run, RunStore.open(run.store_uri, run.namespace, run.run_id), tmp_path, lambda _: None)


def test_the_plan_refuses_a_model_without_its_head(place, tmp_path):
    from safetensors.torch import load_file, save_file

    model = shutil.copytree(place[0], tmp_path / "model")
    changed(model, tie_word_embeddings=False)
    state = load_file(model / "model.safetensors")
    state.pop("lm_head.weight", None)
    save_file(state, model / "model.safetensors", {"format": "pt"})
    message = refused(planned, model, place[1], tmp_path)
    assert "1 missing: lm_head.weight" in message


def test_several_devices_are_refused_with_the_sizes(place, tmp_path):
    for engine in (EngineSpec(tensor_parallel_size=2), EngineSpec(devices_per_worker=2)):
        with pytest.raises(RunError, match=r"GiB in bfloat16 .* GiB in float32"):
            planned(*place, tmp_path, engine=engine)


def test_tokens_beyond_the_vocabulary_are_named(place, tmp_path):
    model = tmp_path / "small"
    tiny_model("llama", vocab_size=8).save_pretrained(model)
    for file in place[0].glob("tokenizer*"):
        shutil.copy(file, model)
    message = refused(planned, model, place[1], tmp_path)
    assert "holds the token" in message
    assert "vocabulary ends at 7" in message


def test_a_folder_without_tokenizer_is_refused_not_given_an_empty_one(place, tmp_path):
    tiny_model("qwen2").save_pretrained(tmp_path / "model")
    assert "model.tokenizerUri" in refused(planned, tmp_path / "model", place[1], tmp_path)


def test_a_generation_needs_an_end_of_text(place, tmp_path):
    model = shutil.copytree(place[0], tmp_path / "model")
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        if (model / name).exists():
            content = json.loads((model / name).read_text())
            content.pop("eos_token", None)
            (model / name).write_text(json.dumps(content))
    assert "no EOS token" in refused(planned, model, place[1], tmp_path, generation_task())


def nested(folder, **text):
    config = AutoConfig.for_model("gemma3", text_config={**SIZES, "head_dim": 8, **text})
    config.save_pretrained(folder)
    return load_config(folder, trust_remote_code=False)


def test_the_context_of_a_nested_config_is_that_of_its_text_model(tmp_path):
    sparse = {"model_type": "gemma3", "text_config": {"model_type": "gemma3_text", "hidden_size": 64}}
    (tmp_path / "config.json").write_text(json.dumps(sparse))  # as published: the length is its class's default
    config = load_config(tmp_path, trust_remote_code=False)
    assert context_length(config, tmp_path) == resolve_max_length(config) == 131_072
    (tmp_path / "mamba").mkdir()
    endless = config_of(tmp_path / "mamba", "mamba")
    assert context_length(endless, tmp_path) == resolve_max_length(endless) == 2048
    (tmp_path / "tokenizer_config.json").write_text('{"model_max_length": 77}')
    assert context_length(endless, tmp_path) == 77


@pytest.mark.parametrize(
    ("family", "idle_share"), [("mixtral", 1 / 2), ("qwen3_moe", 1 / 2), ("gpt_oss", 1 / 2), ("granitemoe", 1 / 2)]
)
def test_only_the_experts_that_a_token_visits_count(family, idle_share, tmp_path):
    model = tiny_model(family)
    model.save_pretrained(tmp_path)
    facts = resolve_model(ModelSpec(str(tmp_path)), tmp_path).config
    experts = sum(p.numel() for name, p in model.named_parameters() if ".experts." in name)
    assert facts.idle_parameters == experts * idle_share


def test_latent_attention_counts_the_mean_of_key_and_value_size(tmp_path):
    tiny_model("deepseek_v3").save_pretrained(tmp_path)
    facts = resolve_model(ModelSpec(str(tmp_path)), tmp_path).config
    assert facts.head_size == (16 + 8) // 2


@pytest.mark.parametrize(
    ("kind", "files", "expected"),
    [
        ("bert", {}, 64),
        ("roberta", {}, 62),
        ("mpnet", {"tokenizer_config.json": {"model_max_length": 60}}, 60),
        ("bert", {"tokenizer_config.json": {"model_max_length": 512}}, 64),
        (
            "bert",
            {"sentence_bert_config.json": {"max_seq_length": 32}, "tokenizer_config.json": {"model_max_length": 60}},
            32,
        ),
    ],
)
def test_an_encoder_reads_as_many_tokens_as_sentence_transformers_gives_it(kind, files, expected, tmp_path):
    from transformers import AutoModel

    sizes = {name: SIZES[name] for name in SIZES if not name.endswith("_id") and "key_value" not in name}
    config = AutoConfig.for_model(kind, **{**sizes, "pad_token_id": 1})
    model = AutoModel.from_config(config)
    model.save_pretrained(tmp_path)
    for name, content in files.items():
        (tmp_path / name).write_text(json.dumps(content))
    longest = resolve_model(ModelSpec(str(tmp_path)), tmp_path).config.context_length
    assert longest == expected
    model(input_ids=torch.full((1, longest), 5))


def test_integers_without_a_method_and_broken_defaults_are_refused(place, tmp_path):
    from safetensors.torch import load_file, save_file

    model = shutil.copytree(place[0], tmp_path / "model")
    (model / "generation_config.json").write_text("{")
    assert "generation_config.json cannot be read" in refused(planned, model, place[1], tmp_path)
    (model / "generation_config.json").unlink()
    state = load_file(model / "model.safetensors")
    name = "model.layers.0.mlp.up_proj.weight"
    save_file({**state, name: state[name].to(torch.int8)}, model / "model.safetensors", {"format": "pt"})
    assert f"stores {name} as integers" in refused(planned, model, place[1], tmp_path)
