"""What a model is: sizes that decide time and memory, from its config class and the weight headers. Torch-free."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from evalfleet_worker.model.architecture import what_else
from evalfleet_worker.model.files import read_json
from evalfleet_worker.model.weights_header import TensorHeader

DEFAULT_CONTEXT_LENGTH = 2048
"""lm-eval's default where neither config nor tokenizer says a length (`DEFAULT_MAX_LENGTH`)."""
TOKENIZER_INFINITY = 1000000000000000019884624838656
EXPERTS = ("num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts")
EXPERTS_PER_TOKEN = ("num_experts_per_tok", "num_experts_per_token", "moe_topk", "moe_top_k", "moe_k", "top_k_experts")
POSITIONS_BEHIND_PADDING = frozenset(
    {"roberta", "roberta-prelayernorm", "xlm-roberta", "xlm-roberta-xl", "camembert", "mpnet", "data2vec-text", "xmod"}
)


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """Sizes of a model that decide time and memory.

    Attributes:
        kind: `causal-lm` or `encoder`.
        model_type: architecture family of transformers, for example `llama`.
        parameters: number of weights.
        embedding_parameters: those of the input embedding (no arithmetic per token).
        head_size: of an attention head; where keys and values differ (MLA) the mean of both.
        weight_bytes: bytes of the stored weights.
        context_length: longest input in tokens, by lm-eval's rule; of an encoder by sentence-transformers'.
        needs_remote_code: the model brings Python code of its own.
        idle_parameters: weights of the experts that a token does not visit (no arithmetic per token).
    """

    kind: Literal["causal-lm", "encoder"]
    model_type: str
    parameters: int
    embedding_parameters: int
    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    head_size: int
    vocabulary: int
    context_length: int
    weight_bytes: int
    tied_embeddings: bool
    needs_remote_code: bool
    idle_parameters: int = 0

    @property
    def shape(self) -> str:
        """What decides speed, equal for all checkpoints of one architecture, for example `llama-30x576-134515008`."""
        return f"{self.model_type}-{self.layers}x{self.hidden}-{self.parameters}"


def facts_of(config: Any, headers: Sequence[TensorHeader], folder: Path, tokenizer_folder: Path) -> ModelFacts:
    """Facts of a model.

    Args:
        config: of transformers; its class knows defaults and the other names of what is asked here.
        headers: of all stored tensors.
        folder: of the model; that of a sentence encoder may bound the length of texts.
        tokenizer_folder: may bound the context length.
    """
    kind: Literal["causal-lm", "encoder"] = "encoder" if what_else(config) else "causal-lm"
    longest = context_length(config, tokenizer_folder)
    text = config.get_text_config(decoder=True)
    hidden, heads, vocabulary = _number(text, "hidden_size"), _heads(text), _number(text, "vocab_size")
    return ModelFacts(
        kind=kind,
        model_type=str(config.model_type),
        parameters=sum(header.values for header in headers),
        embedding_parameters=vocabulary * hidden,
        layers=_number(text, "num_hidden_layers", "num_layers"),
        hidden=hidden,
        intermediate=_number(text, "intermediate_size", "ffn_dim", "n_inner", "ffn_hidden_size", default=4 * hidden),
        heads=heads,
        kv_heads=_number(text, "num_key_value_heads", "num_kv_heads", default=heads),
        head_size=_head_size(text, hidden // max(heads, 1)),
        vocabulary=vocabulary,
        context_length=longest if kind == "causal-lm" else encoded_length(config, longest, folder, tokenizer_folder),
        weight_bytes=sum(header.end - header.begin for header in headers),
        tied_embeddings=bool(getattr(text, "tie_word_embeddings", True)),
        needs_remote_code=bool(getattr(config, "auto_map", None)),
        idle_parameters=_idle_parameters(text, headers),
    )


def context_length(config: Any, tokenizer_folder: Path) -> int:
    """Longest input in tokens by lm-eval's order of sources (`lm_eval.models.utils.resolve_max_length`)."""
    text = getattr(config, "text_config", None) or config
    for name in ("n_positions", "max_position_embeddings", "n_ctx"):
        if getattr(text, name, None) is not None:
            return int(getattr(text, name))
    return _tokenizer_length(tokenizer_folder) or DEFAULT_CONTEXT_LENGTH


def encoded_length(config: Any, positions: int, folder: Path, tokenizer_folder: Path) -> int:
    """Longest text of an encoder in tokens, by sentence-transformers' rule: what its own file says, else what fits.

    Args:
        config: of the model; RoBERTa's kin number their positions from behind that of the padding.
        positions: rows of the position embedding.
        folder: of the model, with `sentence_bert_config.json` where it is a sentence encoder.
        tokenizer_folder: its `model_max_length` counts where the model says nothing.
    """
    offset = config.pad_token_id + 1 if config.model_type in POSITIONS_BEHIND_PADDING and config.pad_token_id else 0
    fitting = positions - offset
    own = folder / "sentence_bert_config.json"
    asked = (read_json(own).get("max_seq_length") if own.exists() else None) or _tokenizer_length(tokenizer_folder)
    return min(fitting, int(asked)) if asked else fitting


def _tokenizer_length(folder: Path) -> int | None:
    file = folder / "tokenizer_config.json"
    limit = read_json(file).get("model_max_length") if file.exists() else None
    return int(limit) if limit is not None and limit != TOKENIZER_INFINITY else None


def _idle_parameters(text: Any, headers: Sequence[TensorHeader]) -> int:
    experts, used = _number(text, *EXPERTS), _number(text, *EXPERTS_PER_TOKEN)
    if not 0 < used < experts:
        return 0
    stored = sum(header.values for header in headers if _is_routed(header, experts))
    return stored * (experts - used) // experts


def _is_routed(header: TensorHeader, experts: int) -> bool:
    """A weight of one routed expert, or of all of them in one tensor."""
    fused = len(header.shape) >= 3 and header.shape[0] == experts
    return "shared_expert" not in header.name and (fused or ".experts." in header.name)


def _heads(text: Any) -> int:
    heads = getattr(text, "num_attention_heads", None)
    return max(heads, default=0) if isinstance(heads, list | tuple) else int(heads or 0)


def _head_size(text: Any, default: int) -> int:
    keys = _number(text, "qk_nope_head_dim") + _number(text, "qk_rope_head_dim")
    values = _number(text, "v_head_dim")
    return (keys + values) // 2 if keys and values else _number(text, "head_dim", default=default)


def _number(config: Any, *names: str, default: int = 0) -> int:
    """The first of these members that is a whole number (some models have one per layer: the largest)."""
    for name in names:
        value = getattr(config, name, None)
        if isinstance(value, list | tuple):
            value = max((one for one in value if isinstance(one, int)), default=None)
        if isinstance(value, int | float):
            return int(value)
    return default
