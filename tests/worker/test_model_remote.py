"""The plan reads little of a remote model, and knows it again."""

import json

import pytest
from lm_eval_suite import choice_task, run_of, write_documents, write_model
from range_server import range_server

from evalfleet_worker.model.resolve import describe_model, resolve_model
from evalfleet_worker.plan.planner import plan_run
from evalfleet_worker.protocol import FailureReason, LmEvalSpec, ModelSpec, RunError
from evalfleet_worker.store.run_store import RunStore

pytest.importorskip("torch")
from transformers import AutoConfig

MEGABYTE = 1_000_000
LIMIT = 100 * MEGABYTE
LAYERS, HIDDEN, FORWARD, KEYS, VOCABULARY = 80, 8192, 28672, 1024, 128256


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("remote")
    return write_model(folder / "model"), write_documents(folder / "data")


@pytest.fixture
def server(monkeypatch):
    from huggingface_hub import constants

    with range_server() as running:
        monkeypatch.setattr(constants, "ENDPOINT", running.address)
        monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
        monkeypatch.delenv("TRANSFORMERS_OFFLINE", raising=False)
        for name, value in {
            "AWS_ENDPOINT": running.address, "AWS_ENDPOINT_URL": running.address, "AWS_ALLOW_HTTP": "true",
            "AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "s", "AWS_REGION": "us-east-1",
        }.items():  # fmt: skip
            monkeypatch.setenv(name, value)
        yield running


def layer(index):
    name = f"model.layers.{index}."
    return {
        f"{name}input_layernorm.weight": (HIDDEN,),
        f"{name}post_attention_layernorm.weight": (HIDDEN,),
        f"{name}self_attn.q_proj.weight": (HIDDEN, HIDDEN),
        f"{name}self_attn.k_proj.weight": (KEYS, HIDDEN),
        f"{name}self_attn.v_proj.weight": (KEYS, HIDDEN),
        f"{name}self_attn.o_proj.weight": (HIDDEN, HIDDEN),
        f"{name}mlp.gate_proj.weight": (FORWARD, HIDDEN),
        f"{name}mlp.up_proj.weight": (FORWARD, HIDDEN),
        f"{name}mlp.down_proj.weight": (HIDDEN, FORWARD),
    }


def put_70b(server, tokenizer_folder):
    """Files of the shapes of a Llama of 70B, in 20 shards of 4 layers and one of the rest."""
    shards = [
        {k: v for index in range(first, first + 4) for k, v in layer(index).items()} for first in range(0, LAYERS, 4)
    ]
    ends = {"model.embed_tokens.weight": (VOCABULARY, HIDDEN), "lm_head.weight": (VOCABULARY, HIDDEN)}
    shards.append({**ends, "model.norm.weight": (HIDDEN,)})
    names = [f"model-{number:05d}-of-{len(shards):05d}.safetensors" for number in range(1, len(shards) + 1)]
    for name, tensors in zip(names, shards, strict=True):
        server.put_weights(name, tensors)
    index = {tensor: name for name, tensors in zip(names, shards, strict=True) for tensor in tensors}
    server.small["model.safetensors.index.json"] = json.dumps({"metadata": {}, "weight_map": index}).encode()
    config = AutoConfig.for_model(
        "llama", hidden_size=HIDDEN, intermediate_size=FORWARD, num_hidden_layers=LAYERS, num_attention_heads=64,
        num_key_value_heads=8, vocab_size=VOCABULARY, max_position_embeddings=8192, architectures=["LlamaForCausalLM"],
    )  # fmt: skip
    server.small["config.json"] = config.to_json_string().encode()
    for file in tokenizer_folder.glob("tokenizer*"):
        server.small[file.name] = file.read_bytes()
    server.small["original/consolidated.00.pth"] = server.small["optimizer.pt"] = b"\0" * 1000


@pytest.mark.parametrize("uri", ["hf://org/model@main", "s3://models/model"])
def test_the_plan_of_a_model_of_70b_fetches_little_and_proves_it(server, place, tmp_path, uri):
    put_70b(server, place[0])
    run = run_of(uri, place[1], LmEvalSpec(task_config=choice_task()), tmp_path / "store")
    run_store = RunStore.open(run.store_uri, run.namespace, run.run_id)
    plan_run(run, run_store, tmp_path, lambda _: None)
    plan = run_store.read_plan()
    assert plan.report.model_shape == "llama-80x8192-70553706496"
    assert server.sent < LIMIT / 5, f"{server.sent / MEGABYTE:.1f} MB"
    assert not [path for path in server.calls if "pth" in path or "optimizer" in path]
    first = describe_model(run.model, tmp_path / "elsewhere")
    assert (first.digest, first.fingerprint) == (plan.report.model_digest, plan.extra["modelFingerprint"])
    server.revision = 1
    again = describe_model(run.model, tmp_path)
    assert again.digest != first.digest
    assert again.fingerprint != first.fingerprint


def test_a_remote_model_without_its_head_is_refused(server, place, tmp_path):
    put_70b(server, place[0])
    last = max(server.weights)
    server.put_weights(last, {"model.embed_tokens.weight": (VOCABULARY, HIDDEN), "model.norm.weight": (HIDDEN,)})
    run = run_of("hf://org/model", place[1], LmEvalSpec(task_config=choice_task()), tmp_path / "store")
    with pytest.raises(RunError, match=r"1 missing: lm_head\.weight"):
        plan_run(run, RunStore.open(run.store_uri, run.namespace, run.run_id), tmp_path, lambda _: None)


def test_a_missing_shard_of_a_remote_model_is_named(server, place, tmp_path):
    put_70b(server, place[0])
    lost = min(server.weights)
    del server.weights[lost]
    with pytest.raises(RunError, match=lost) as refused:
        describe_model(ModelSpec("hf://org/model"), tmp_path)
    assert refused.value.reason is FailureReason.MODEL_UNREADABLE


def test_planner_and_worker_see_the_same_fingerprint(server, place, tmp_path):
    for file in place[0].iterdir():
        server.small[file.name] = file.read_bytes()
    described = describe_model(ModelSpec("s3://models/model"), tmp_path / "planner")
    copied = resolve_model(ModelSpec("s3://models/model"), tmp_path / "worker")
    assert described.fingerprint == copied.fingerprint == resolve_model(ModelSpec(str(place[0])), tmp_path).fingerprint
    assert described.config == copied.config


def test_a_hub_that_does_not_answer_is_said(server, place, tmp_path, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(RunError) as refused:
        describe_model(ModelSpec("hf://org/model"), tmp_path)
    assert refused.value.reason is FailureReason.INVALID_MODEL_REF
