"""What a model is, read from config.json and the weight headers. Torch-free."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from evalfleet_worker.model.weights_header import TensorHeader, read_headers
from evalfleet_worker.protocol import FailureReason, RunError

DEFAULT_CONTEXT_LENGTH = 2048
"""lm-eval's default where neither config nor tokenizer says a length (`DEFAULT_MAX_LENGTH`)."""
TOKENIZER_INFINITY = 1000000000000000019884624838656
ENCODER_ARCHITECTURES = ("Model", "ForMaskedLM", "ForSequenceClassification")


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """Sizes of a model that decide time and memory.

    Attributes:
        kind: `causal-lm` or `encoder`.
        model_type: architecture family of transformers, for example `llama`.
        parameters: number of weights.
        embedding_parameters: those of the input embedding (no arithmetic per token).
        weight_bytes: bytes of the stored weights.
        context_length: longest input in tokens, by lm-eval's rule.
        needs_remote_code: the model brings Python code of its own.
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

    @property
    def shape(self) -> str:
        """What decides speed, equal for all checkpoints of one architecture, for example `llama-30x576-134515008`."""
        return f"{self.model_type}-{self.layers}x{self.hidden}-{self.parameters}"


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a model folder, those of the index where there is one.

    Raises:
        RunError: ModelUnreadable, when a file of the index is missing.
    """
    index = folder / "model.safetensors.index.json"
    if not index.exists():
        return sorted(folder.glob("*.safetensors"))
    files = [folder / name for name in sorted(set(read_json(index).get("weight_map", {}).values()))]
    missing = [file.name for file in files if not file.exists()]
    if missing:
        raise RunError(FailureReason.MODEL_UNREADABLE, f"{folder} lacks {', '.join(missing)}, which its index names")
    return files


def read_facts(folder: Path, tokenizer_folder: Path | None = None) -> ModelFacts:
    """Facts of the safetensors model in `folder`.

    Raises:
        RunError: ModelUnreadable, when config.json or the weights cannot be read.
    """
    headers = [header for file in weight_files(folder) for header in read_headers(file)]
    return _facts(read_json(folder / "config.json"), headers, tokenizer_folder or folder)


def read_json(file: Path) -> dict[str, Any]:
    """A JSON object from a file of the model; ModelUnreadable when it is missing or damaged."""
    try:
        content = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise RunError(FailureReason.MODEL_UNREADABLE, f"{file} cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise RunError(FailureReason.MODEL_UNREADABLE, f"{file} is no JSON object")
    return content


def _facts(config: dict[str, Any], headers: list[TensorHeader], tokenizer_folder: Path) -> ModelFacts:
    text = config.get("text_config") or config
    hidden = _first(text, "hidden_size", "n_embd", "d_model", "dim")
    heads = _first(text, "num_attention_heads", "n_head", "num_heads")
    vocabulary = _first(text, "vocab_size")
    return ModelFacts(
        kind=_kind(config),
        model_type=str(config.get("model_type", "")),
        parameters=sum(header.values for header in headers),
        embedding_parameters=vocabulary * hidden,
        layers=_first(text, "num_hidden_layers", "n_layer", "num_layers"),
        hidden=hidden,
        intermediate=_first(text, "intermediate_size", "n_inner", "ffn_dim", default=4 * hidden),
        heads=heads,
        kv_heads=_first(text, "num_key_value_heads", "num_kv_heads", default=heads),
        head_size=_first(text, "head_dim", default=hidden // max(heads, 1)),
        vocabulary=vocabulary,
        context_length=context_length(config, tokenizer_folder),
        weight_bytes=sum(header.end - header.begin for header in headers),
        tied_embeddings=bool(text.get("tie_word_embeddings", config.get("tie_word_embeddings", True))),
        needs_remote_code=bool(config.get("auto_map")),
    )


def context_length(config: dict[str, Any], tokenizer_folder: Path) -> int:
    """Longest input in tokens by lm-eval's order of sources (`lm_eval.models.utils.resolve_max_length`)."""
    text = config.get("text_config") or config
    configured = _first(text, "n_positions", "max_position_embeddings", "n_ctx")
    if configured:
        return configured
    tokenizer_config = tokenizer_folder / "tokenizer_config.json"
    limit = read_json(tokenizer_config).get("model_max_length") if tokenizer_config.exists() else None
    return int(limit) if limit is not None and limit != TOKENIZER_INFINITY else DEFAULT_CONTEXT_LENGTH


def _kind(config: dict[str, Any]) -> Literal["causal-lm", "encoder"]:
    architectures = config.get("architectures") or []
    if any(name.endswith(("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")) for name in architectures):
        return "causal-lm"
    return "encoder" if any(name.endswith(ENCODER_ARCHITECTURES) for name in architectures) else "causal-lm"


def _first(config: dict[str, Any], *names: str, default: int = 0) -> int:
    return next((int(config[name]) for name in names if config.get(name) is not None), default)
