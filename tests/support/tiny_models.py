"""Small models for tests: random ones of many families, and the 260K-parameter Llama of the public data."""

import os
from pathlib import Path

import pytest

SIZES = {
    "vocab_size": 512,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
}

WORDS = ["<pad>", "<s>", "</s>", *(f"w{index}" for index in range(509))]


def public_data(*parts):
    """A file of the public data; skips the test where it is absent."""
    root = Path(os.environ.get("EVALFLEET_DATA", Path(__file__).parents[2] / ".." / "shared" / "data")).resolve()
    place = root.joinpath("evals", *parts)
    if not place.exists():
        pytest.skip(f"no public data: {place.name} is not below EVALFLEET_DATA")
    return place


def random_model(config_name, model_name, **config):
    """A random transformers model with weights large enough that its answers differ clearly."""
    import torch
    import transformers

    torch.manual_seed(0)
    special = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    model = getattr(transformers, model_name)(getattr(transformers, config_name)(**{**SIZES, **special, **config}))
    for parameter in model.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.1)
    return model.eval().requires_grad_(requires_grad=False)


def write_tokenizer(folder, words=WORDS):
    """One word, one token; decoding joins words by spaces."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.WordLevel({word: index for index, word in enumerate(words)}, unk_token=words[0]))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=words[1], eos_token=words[2], pad_token=words[0]
    ).save_pretrained(folder)


def generation_requests(prompts, seeds=None, **arguments):
    """One request to generate for each prompt of token ids, with arguments as complete as the plan writes them."""
    import json

    from evalfleet_worker.requests import Request, RequestType

    seeds = seeds or [None] * len(prompts)
    arguments = {"until": [], "max_gen_toks": 256, "do_sample": False, **arguments}
    return [
        Request(row, "e", RequestType.GENERATE_UNTIL, row, token_ids=ids, arguments=json.dumps(arguments), seed=seed)
        for row, (ids, seed) in enumerate(zip(prompts, seeds, strict=True))
    ]


def plain_log_likelihood(model, tokens, count):
    """Sum of log-probabilities and greedy flag of the last `count` tokens by one plain forward pass, summed in fp64."""
    import torch

    with torch.inference_mode():
        rows = model(torch.tensor([list(tokens[:-1])]), use_cache=False).logits[0, -count:].double().log_softmax(-1)
    targets = torch.tensor(list(tokens[-count:]))
    return float(rows.gather(1, targets[:, None]).sum()), bool((rows.argmax(-1) == targets).all())


def stories260k(folder):
    """Write the 260K-parameter Llama (llama2.c legacy format, fp32, little-endian) as a safetensors model folder."""
    import numpy as np
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    raw = public_data("stories260K", "stories260K.bin").read_bytes()
    dim, hidden, layers, heads, kv_heads, vocabulary, length = np.frombuffer(raw, np.int32, 7).tolist()
    weights, offset = np.frombuffer(raw, np.float32, offset=28), 0

    def take(*shape):
        nonlocal offset
        begin, offset = offset, offset + int(np.prod(shape))
        return torch.from_numpy(weights[begin:offset].reshape(shape).copy())

    size, vocabulary_size = dim // heads, abs(vocabulary)
    state = {"model.embed_tokens.weight": take(vocabulary_size, dim)}
    names = [
        ("input_layernorm", (dim,)),
        ("self_attn.q_proj", (dim, dim)),
        ("self_attn.k_proj", (kv_heads * size, dim)),
        ("self_attn.v_proj", (kv_heads * size, dim)),
        ("self_attn.o_proj", (dim, dim)),
        ("post_attention_layernorm", (dim,)),
        ("mlp.gate_proj", (hidden, dim)),
        ("mlp.down_proj", (dim, hidden)),
        ("mlp.up_proj", (hidden, dim)),
    ]
    for name, shape in names:
        for layer, tensor in enumerate(take(layers, *shape)):
            if name.endswith(("q_proj", "k_proj")):
                tensor = _half_split(tensor, tensor.shape[0] // size)
            state[f"model.layers.{layer}.{name}.weight"] = tensor
    state["model.norm.weight"] = take(dim)
    config = LlamaConfig(
        vocab_size=vocabulary_size, hidden_size=dim, intermediate_size=hidden, num_hidden_layers=layers,
        num_attention_heads=heads, num_key_value_heads=kv_heads, max_position_embeddings=length, rms_norm_eps=1e-5,
        tie_word_embeddings=vocabulary > 0, bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert not unexpected, unexpected
    assert set(missing) <= {"lm_head.weight"}, missing
    model.tie_weights()
    model.save_pretrained(folder)
    return folder


def _half_split(weight, heads):
    """Rotary pairs (2i, 2i + 1) of llama2.c to the pairs (i, i + size / 2) of transformers."""
    rows, dim = weight.shape
    return weight.view(heads, rows // heads // 2, 2, dim).transpose(1, 2).reshape(rows, dim)
