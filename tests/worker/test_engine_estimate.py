"""Predicted FLOPs against those that torch counts; shared prefixes counted once."""

import json

import pytest
from tiny_models import random_model

torch = pytest.importorskip("torch")

from evalfleet_worker.engine.estimate import (  # noqa: E402
    DeviceFacts,
    predicted_seconds,
    request_work,
    this_cpu,
    unit_work,
)
from evalfleet_worker.model.resolve import resolve_model  # noqa: E402
from evalfleet_worker.protocol import ModelSpec  # noqa: E402
from evalfleet_worker.requests import Request, RequestType  # noqa: E402


@pytest.fixture(scope="module")
def model_and_facts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    model = random_model("LlamaConfig", "LlamaForCausalLM", tie_word_embeddings=False)
    model.set_attn_implementation("eager")
    model.save_pretrained(folder)
    return model, resolve_model(ModelSpec(str(folder)), folder).config


def scored(ids, count=1, row=0):
    return Request(row, "e", RequestType.LOGLIKELIHOOD, row, token_ids=ids, continuation_length=count)


def test_flops_of_a_request_are_those_of_its_forward_pass(model_and_facts):
    from torch.utils.flop_counter import FlopCounterMode

    model, facts = model_and_facts
    counter = FlopCounterMode(display=False)
    with counter, torch.inference_mode():
        model(torch.ones((1, 200), dtype=torch.long), logits_to_keep=50, use_cache=False)
    work = request_work(facts, scored(list(range(201)), 50))
    # Eager attention computes the whole square of which the causal half is needed.
    square = 4.0 * facts.layers * facts.heads * facts.head_size * (200 * 200 - 200 * 201 / 2)
    assert work.flops + square == pytest.approx(counter.get_total_flops(), rel=0.01)


def test_a_unit_counts_shared_prefixes_once(model_and_facts):
    _, facts = model_and_facts
    requests = [scored([*range(100), 200 + row, 7], row=row) for row in range(5)]
    work = unit_work(facts, requests)
    assert work.tokens == 5 * 102
    assert work.computed_tokens == 101 + 4
    assert work.flops < 1.2 * request_work(facts, requests[0]).flops + 4 * 1e6


def test_generated_tokens_are_bound_by_memory_bandwidth(model_and_facts):
    _, facts = model_and_facts
    request = Request(
        0, "e", RequestType.GENERATE_UNTIL, 0, token_ids=[1, 2], arguments=json.dumps({"max_gen_toks": 64})
    )
    work = request_work(facts, request)
    slow_memory = DeviceFacts("slow memory", 1e15, 1e6, 0.0)
    assert predicted_seconds(work, facts, slow_memory) == pytest.approx(work.weight_reads * facts.parameters * 4 / 1e6)


def test_the_cpu_prior_is_a_plausible_rate():
    device = this_cpu(2)
    assert 1e8 < device.flops_per_second < 1e13
