"""Tiny configs of many families of causal language models."""

SIZES = {
    "vocab_size": 64, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 64, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0,
}  # fmt: skip
LATENT_ATTENTION = {
    "kv_lora_rank": 16, "q_lora_rank": 16, "qk_rope_head_dim": 8, "qk_nope_head_dim": 8, "v_head_dim": 8,
    "n_group": 1, "topk_group": 1, "first_k_dense_replace": 1, "n_routed_experts": 4, "num_experts_per_tok": 2,
    "moe_intermediate_size": 16,
}  # fmt: skip
LOCAL_EXPERTS = {"num_local_experts": 4, "num_experts_per_tok": 2}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
FAMILIES = {
    "apertus": {}, "bloom": {}, "codegen": {}, "cohere": {}, "cohere2": {}, "deepseek_v2": LATENT_ATTENTION,
    "deepseek_v3": LATENT_ATTENTION, "exaone4": {}, "falcon": {}, "gemma": {"head_dim": 8}, "gemma2": {"head_dim": 8},
    "gemma3_text": {"head_dim": 8}, "glm4": {"head_dim": 8}, "glm4_moe": {**LATENT_ATTENTION, "head_dim": 8},
    "gpt2": {}, "gpt_neo": {"attention_types": [[["global", "local"], 1]], "num_layers": 2}, "gpt_neox": {},
    "gpt_oss": {**LOCAL_EXPERTS, "head_dim": 8}, "gptj": {"rotary_dim": 4}, "granite": {}, "granitemoe": LOCAL_EXPERTS,
    "llama": {}, "llama4_text": {**LOCAL_EXPERTS, "num_experts_per_tok": 1, "intermediate_size_mlp": 32, "head_dim": 8},
    "mamba": {"state_size": 8}, "ministral3": {}, "mistral": {}, "mixtral": LOCAL_EXPERTS, "mpt": {}, "nemotron": {},
    "olmo": {}, "olmo2": {}, "olmoe": EXPERTS, "opt": {"word_embed_proj_dim": 32, "ffn_dim": 48}, "phi": {}, "phi3": {},
    "phimoe": LOCAL_EXPERTS, "qwen2": {},
    "qwen2_moe": {**EXPERTS, "shared_expert_intermediate_size": 16}, "qwen3": {"head_dim": 8},
    "qwen3_moe": {**EXPERTS, "head_dim": 8}, "seed_oss": {"head_dim": 8}, "smollm3": {}, "stablelm": {},
    "starcoder2": {}, "xglm": {"d_model": 32, "attention_heads": 4, "ffn_dim": 48, "num_layers": 2},
}  # fmt: skip


def tiny_model(family, **changes):
    """A random model of the family, two layers deep."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(
        AutoConfig.for_model(family, **{**SIZES, **FAMILIES[family], **changes})
    ).float()
