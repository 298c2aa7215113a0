"""Any causal language model of transformers: packed where that is exact, padded where it is not, equal scores."""

import random

import pytest
from tiny_models import plain_log_likelihood, random_model

torch = pytest.importorskip("torch")

from evalfleet_worker.engine.forward import PackedForward, PaddedForward  # noqa: E402
from evalfleet_worker.engine.pack import Budget, Scored  # noqa: E402
from evalfleet_worker.engine.probe import choose_forward  # noqa: E402

SLIDING = {"sliding_window": 8, "head_dim": 16}
GPT2 = {"n_embd": 64, "n_layer": 3, "n_head": 4, "n_positions": 256}
MLA = {
    "num_key_value_heads": 4, "kv_lora_rank": 16, "q_lora_rank": 24, "qk_rope_head_dim": 8, "qk_nope_head_dim": 16,
    "v_head_dim": 12, "head_dim": 8, "n_routed_experts": 4, "num_experts_per_tok": 2, "n_group": 2, "topk_group": 1,
    "n_shared_experts": 1, "moe_intermediate_size": 32, "first_k_dense_replace": 1,
}  # fmt: skip
FAMILIES = {
    "grouped queries": ("LlamaConfig", "LlamaForCausalLM", {}, PackedForward),
    "learned positions": ("GPT2Config", "GPT2LMHeadModel", GPT2, PackedForward),
    "query bias": ("Qwen2Config", "Qwen2ForCausalLM", {}, PackedForward),
    "sliding window in every layer": ("MistralConfig", "MistralForCausalLM", {"sliding_window": 8}, PackedForward),
    "windows in some layers, soft-cap": ("Gemma2Config", "Gemma2ForCausalLM", SLIDING, PackedForward),
    "scaled logits": ("GraniteConfig", "GraniteForCausalLM", {"logits_scaling": 3.0}, PackedForward),
    "mixture of experts": ("MixtralConfig", "MixtralForCausalLM", {"num_local_experts": 4}, PackedForward),
    "latent attention, values of another size": ("DeepseekV3Config", "DeepseekV3ForCausalLM", MLA, PackedForward),
    "latent attention of the generation before": (
        "DeepseekV2Config", "DeepseekV2ForCausalLM", MLA | {"topk_method": "greedy"}, PackedForward,
    ),
    "linear position bias": ("BloomConfig", "BloomForCausalLM", {"n_layer": 3, "n_head": 4}, PaddedForward),
    "no attention at all": ("MambaConfig", "MambaForCausalLM", {}, PaddedForward),
    "attention sinks": ("GptOssConfig", "GptOssForCausalLM", SLIDING | {"num_local_experts": 4}, PaddedForward),
    "convolutions between attention": (
        "Lfm2Config", "Lfm2ForCausalLM", {"layer_types": ["conv", "full_attention", "conv"]}, PaddedForward,
    ),
}  # fmt: skip


def sequences():
    """Sequences longer than the windows, most of them branches of one context."""
    draw = random.Random(0)
    context = [draw.randrange(512) for _ in range(30)]
    found = []
    for _ in range(20):
        tokens = context[: draw.randrange(30)] + [draw.randrange(512) for _ in range(draw.randrange(2, 25))]
        count = draw.randrange(1, len(tokens))
        found.append(Scored(tuple(tokens[:-1]), tuple(tokens[-count:])))
    return found


@pytest.mark.parametrize("family", FAMILIES)
def test_scores_equal_plain_forward_passes(family):
    config, name, options, expected_way = FAMILIES[family]
    model = random_model(config, name, **options)
    forward, words = choose_forward(model)
    assert isinstance(forward, expected_way), words
    assert words.startswith("packed (probe: " if expected_way is PackedForward else "padded, because ")
    asked = sequences()
    for step in forward.cut(asked, Budget(200, 200)):
        for member, score in zip(step.members, forward.run(step), strict=True):
            tokens = (*asked[member].tokens, asked[member].targets[-1])
            total, greedy = plain_log_likelihood(model, tokens, len(asked[member].targets))
            assert score.log_probability == pytest.approx(total, abs=1e-4)
            assert score.is_greedy == greedy
