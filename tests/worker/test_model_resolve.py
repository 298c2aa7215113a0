"""Models are found, converted, fingerprinted, or refused with a sentence that says what to do."""

import json
import shutil
import threading

import pytest
from tiny_models import random_model

from evalfleet_worker.engine.load import load_engine
from evalfleet_worker.model.resolve import resolve_model
from evalfleet_worker.protocol import (
    EngineSpec,
    EvaluationSpec,
    FailureReason,
    LmEvalSpec,
    ModelSpec,
    RunError,
    RunSpec,
)
from evalfleet_worker.requests import Request, RequestType

torch = pytest.importorskip("torch")


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    random_model("LlamaConfig", "LlamaForCausalLM").save_pretrained(folder)
    return folder


@pytest.fixture
def copy(model_folder, tmp_path):
    return shutil.copytree(model_folder, tmp_path / "copy")


def refusal(uri, cache, **fields):
    with pytest.raises(RunError) as refused:
        resolve_model(ModelSpec(str(uri), **fields), cache)
    return refused.value


def test_facts_come_from_config_and_headers(model_folder, tmp_path):
    facts = resolve_model(ModelSpec(f"file://{model_folder}"), tmp_path).config
    assert (facts.kind, facts.layers, facts.hidden, facts.heads, facts.kv_heads) == ("causal-lm", 3, 64, 4, 2)
    assert (facts.vocabulary, facts.context_length, facts.weight_bytes) == (512, 256, facts.parameters * 4)


def test_a_truncated_weight_file_is_refused(copy, tmp_path):
    weights = copy / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    error = refusal(copy, tmp_path)
    assert error.reason is FailureReason.MODEL_UNREADABLE
    assert "1000 bytes of its data are missing" in error.message


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"", "0 bytes"), (b"\xff" * 64, "its header claims"), (b"\x08" + b"\0" * 7 + b"not JSON", "no JSON")],
    ids=["empty", "absurd length", "no JSON"],
)
def test_a_damaged_header_is_refused(copy, tmp_path, content, words):
    (copy / "model.safetensors").write_bytes(content)
    error = refusal(copy, tmp_path)
    assert error.reason is FailureReason.MODEL_UNREADABLE
    assert words in error.message


def test_a_tensor_of_the_wrong_size_is_refused_when_loaded(copy, tmp_path):
    from safetensors.torch import load_file, save_file

    state = load_file(copy / "model.safetensors")
    state["model.norm.weight"] = torch.ones(7)
    save_file(state, copy / "model.safetensors", {"format": "pt"})
    run = RunSpec("local", "t", "r", "memory://", ModelSpec(str(copy)), (EvaluationSpec("e", LmEvalSpec("t")),))
    with pytest.raises(RunError) as refused:
        load_engine(run, tmp_path)
    assert refused.value.reason is FailureReason.MODEL_UNREADABLE


def test_a_missing_shard_is_named(copy, tmp_path):
    (copy / "model.safetensors.index.json").write_text('{"weight_map": {"a": "model-00001-of-00002.safetensors"}}')
    assert "model-00001-of-00002.safetensors" in refusal(copy, tmp_path).message


def test_pickled_weights_are_not_read(copy, tmp_path):
    (copy / "model.safetensors").rename(copy / "pytorch_model.bin")
    error = refusal(copy, tmp_path)
    assert error.reason is FailureReason.MODEL_UNREADABLE
    assert "can run code" in error.message


def test_remote_code_needs_both_keys(copy, tmp_path):
    config = (copy / "config.json").read_text()
    (copy / "config.json").write_text(config.replace("{", '{"auto_map": {"AutoModelForCausalLM": "evil.Model"},', 1))
    assert refusal(copy, tmp_path).reason is FailureReason.REMOTE_CODE_FORBIDDEN
    assert resolve_model(ModelSpec(str(copy), trust_remote_code=True), tmp_path).config.needs_remote_code


@pytest.mark.parametrize(
    ("uri", "words"),
    [
        ("/no/such/model", "no file or folder"),
        ("package://no-such-distribution", "not installed"),
        ("package://pytest", "no GGUF or safetensors"),
        ("ftp://host/model", "not ftp://"),
    ],
)
def test_a_place_that_holds_no_model_is_refused(uri, words, tmp_path):
    error = refusal(uri, tmp_path)
    assert error.reason is FailureReason.INVALID_MODEL_REF
    assert words in error.message


def test_offline_a_hub_model_that_is_not_cached_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    error = refusal("hf://organisation/model@main", tmp_path)
    assert error.reason is FailureReason.INVALID_MODEL_REF
    assert "file://" in error.message


@pytest.mark.parametrize("option", [{"quantization": "int8"}, {"adapter_uri": "file:///adapter"}])
def test_what_the_engine_cannot_do_is_refused_not_ignored(model_folder, tmp_path, option):
    model = ModelSpec(str(model_folder), **option)
    run = RunSpec("local", "t", "r", "memory://", model, (EvaluationSpec("e", LmEvalSpec("t")),))
    with pytest.raises(RunError, match="not supported"):
        load_engine(run, tmp_path)


def test_a_missing_tokenizer_is_named_when_text_is_generated(model_folder, tmp_path):
    run = RunSpec("local", "t", "r", "memory://", ModelSpec(str(model_folder)), (), EngineSpec())
    arguments = '{"max_gen_toks": 2, "until": [], "do_sample": false}'
    request = Request(0, "e", RequestType.GENERATE_UNTIL, 0, token_ids=[1, 2], arguments=arguments)
    with pytest.raises(RunError, match="tokenizer") as refused:
        load_engine(run, tmp_path).score([request])
    assert refused.value.reason is FailureReason.MODEL_UNREADABLE


def test_the_digest_knows_content_not_names_or_shards(model_folder, copy, tmp_path):
    model = random_model("LlamaConfig", "LlamaForCausalLM")
    sharded = tmp_path / "sharded"
    model.save_pretrained(sharded, max_shard_size="100KB")
    assert len(list(sharded.glob("*.safetensors"))) > 1
    original = resolve_model(ModelSpec(str(model_folder)), tmp_path).digest
    assert resolve_model(ModelSpec(str(copy)), tmp_path).digest == original
    assert resolve_model(ModelSpec(str(sharded)), tmp_path).digest == original
    assert resolve_model(ModelSpec(str(copy), dtype="BFloat16"), tmp_path).digest != original
    with torch.no_grad():
        model.model.norm.weight[0] += 1e-3
    model.save_pretrained(copy)
    assert resolve_model(ModelSpec(str(copy)), tmp_path).digest != original


def test_the_digest_sees_a_changed_config(copy, tmp_path):
    original = resolve_model(ModelSpec(str(copy)), tmp_path).digest
    config = copy / "config.json"
    config.write_text(config.read_text().replace('"rms_norm_eps": 1e-06', '"rms_norm_eps": 1e-05'))
    assert resolve_model(ModelSpec(str(copy)), tmp_path).digest != original


def test_a_model_in_an_object_store_is_copied_once(model_folder, tmp_path, monkeypatch):
    moto_server = pytest.importorskip("moto.server")
    import obstore
    from obstore.store import from_url

    server = moto_server.ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    try:
        host, port = server.get_host_and_port()
        for name, value in {
            "AWS_ENDPOINT": f"http://{host}:{port}", "AWS_ALLOW_HTTP": "true", "AWS_ACCESS_KEY_ID": "k",
            "AWS_SECRET_ACCESS_KEY": "s", "AWS_REGION": "us-east-1",
        }.items():  # fmt: skip
            monkeypatch.setenv(name, value)
        _create_bucket(host, port)
        store = from_url("s3://models/llama")
        for file in model_folder.iterdir():
            obstore.put(store, file.name, file.read_bytes())
        resolved = resolve_model(ModelSpec("s3://models/llama"), tmp_path)
        assert "no object below" in refusal("s3://models/nothing", tmp_path).message
    finally:
        server.stop()
    again = resolve_model(ModelSpec("s3://models/llama"), tmp_path)
    local = resolve_model(ModelSpec(str(model_folder)), tmp_path)
    assert again.digest == resolved.digest == local.digest


def _create_bucket(host, port):
    import http.client

    connection = http.client.HTTPConnection(host, port)
    connection.request("PUT", "/models")
    assert connection.getresponse().status == 200


def tiny_gguf(file, without=()):
    """A Llama of one layer in a GGUF file, with a byte-level tokenizer of 260 entries."""
    import numpy as np
    from gguf import GGUFWriter

    draw = np.random.default_rng(0)
    writer = GGUFWriter(file, "llama")
    writer.add_context_length(128)
    writer.add_embedding_length(32)
    writer.add_block_count(1)
    writer.add_feed_forward_length(64)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(260)
    words = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "Ġ", "w", "1", "w1", *(f"x{index}" for index in range(253))]
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(words)
    writer.add_token_types([3, 3, 3] + [1] * 257)
    writer.add_token_merges(["w 1"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    shapes = {
        "token_embd": (260, 32), "output_norm": (32,), "blk.0.attn_norm": (32,), "blk.0.ffn_norm": (32,),
        "blk.0.attn_q": (32, 32), "blk.0.attn_k": (16, 32), "blk.0.attn_v": (16, 32), "blk.0.attn_output": (32, 32),
        "blk.0.ffn_gate": (64, 32), "blk.0.ffn_up": (64, 32), "blk.0.ffn_down": (32, 64),
    }  # fmt: skip
    for name, shape in shapes.items():
        if name in without:
            continue
        writer.add_tensor(f"{name}.weight", draw.normal(0, 0.1, shape).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


def test_a_gguf_is_converted_once_by_whoever_comes_first(tmp_path, capfd):
    file = tiny_gguf(tmp_path / "tiny.gguf")
    found = []
    threads = [
        threading.Thread(target=lambda: found.append(resolve_model(ModelSpec(str(file)), tmp_path / "cache")))
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({model.path for model in found}) == 1
    assert found[0].config.layers == 1
    assert capfd.readouterr().err.count("converting") == 1
    assert not list((tmp_path / "cache" / "models").glob("converting-*"))


def test_a_damaged_gguf_is_refused_and_leaves_nothing(tmp_path):
    file = tmp_path / "broken.gguf"
    file.write_bytes(b"GGUF" + b"\0" * 100)
    error = refusal(file, tmp_path / "cache")
    assert error.reason is FailureReason.MODEL_UNREADABLE
    assert "broken.gguf" in error.message
    assert not [place for place in (tmp_path / "cache" / "models").iterdir() if place.is_dir()]


def test_a_gguf_without_a_tensor_is_refused_by_its_name(tmp_path):
    file = tiny_gguf(tmp_path / "tiny.gguf", without=["blk.0.ffn_up"])
    message = refusal(file, tmp_path / "cache").message
    assert "1 missing: model.layers.0.mlp.up_proj.weight" in message
    assert not list((tmp_path / "cache").glob("models/gguf-*/config.json"))


@pytest.mark.parametrize("has_config", [True, False])
def test_an_adapter_is_neither_applied_nor_ignored(copy, tmp_path, has_config):
    (copy / "adapter_config.json").write_text("{}")
    if not has_config:
        (copy / "config.json").unlink()
    assert "merge it into its model" in refusal(copy, tmp_path).message


def test_bytes_behind_the_weights_are_a_damage(copy, tmp_path):
    with (copy / "model.safetensors").open("ab") as stream:
        stream.write(b"more")
    assert "4 bytes follow its data" in refusal(copy, tmp_path).message


def test_weights_that_overlap_are_a_damage(copy, tmp_path):
    weights = copy / "model.safetensors"
    content = weights.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    norms = [entry for name, entry in header.items() if name.endswith("layernorm.weight")]
    norms[1]["data_offsets"] = norms[0]["data_offsets"]
    changed = json.dumps(header).encode()
    weights.write_bytes(len(changed).to_bytes(8, "little") + changed + content[8 + length :])
    assert "begins at byte" in refusal(copy, tmp_path).message


def test_weights_that_are_a_pointer_a_folder_or_a_lost_link_are_refused(copy, tmp_path):
    weights = copy / "model.safetensors"
    weights.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    assert "git lfs pull" in refusal(copy, tmp_path).message
    weights.unlink()
    weights.symlink_to(tmp_path / "lost")
    assert "No such file" in refusal(copy, tmp_path).message
    weights.unlink()
    weights.mkdir()
    assert "Is a directory" in refusal(copy, tmp_path).message
