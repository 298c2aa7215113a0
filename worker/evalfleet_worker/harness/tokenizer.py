"""Loading the tokenizer of a resolved model."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from evalfleet_worker.harness.encode import EncodingOptions, TextEncoder
from evalfleet_worker.protocol import FailureReason, ModelSpec, RunError


class TokenizerSource(Protocol):
    """The part of a resolved model that is needed here."""

    @property
    def tokenizer_path(self) -> Any:
        """Folder with the tokenizer's files."""
        ...

    @property
    def path(self) -> Path:
        """Folder with the model's files."""
        ...

    @property
    def config(self) -> Any:
        """Facts of the model, with its `context_length`."""
        ...


def load_encoder(model: TokenizerSource, spec: ModelSpec) -> TextEncoder:
    """The encoder of a model, with the job's chat template where it sets one.

    Raises:
        RunError: MODEL_UNREADABLE when the folder holds no tokenizer that transformers can read; INVALID_MODEL_REF
            when `maxLength` is more than the model's own.
    """
    tokenizer = load_tokenizer(model, spec)
    if spec.chat_template is not None:
        tokenizer.chat_template = spec.chat_template
    longest = model.config.context_length
    if spec.max_length is not None and spec.max_length > longest:
        raise RunError(
            FailureReason.INVALID_MODEL_REF,
            f"model.maxLength {spec.max_length} is more than the {longest} tokens that the model was made for",
        )
    return TextEncoder(tokenizer, spec.max_length or longest, EncodingOptions(spec.add_bos_token, spec.prefix_token_id))


def generation_config(model: TokenizerSource) -> Mapping[str, Any]:
    """What the model recommends for generation, with the ids of its end tokens as `eos_token_id`."""
    found = _json(model.path / "generation_config.json")
    return {"eos_token_id": _json(model.path / "config.json").get("eos_token_id"), **found}


def _json(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text("utf-8")) if file.exists() else {}
    except ValueError as error:
        raise RunError(FailureReason.MODEL_UNREADABLE, f"{file} is no JSON: {error}") from error
    return content if isinstance(content, dict) else {}


def load_tokenizer(model: TokenizerSource, spec: ModelSpec) -> Any:
    """The transformers tokenizer of a model."""
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(str(model.tokenizer_path), trust_remote_code=spec.trust_remote_code)
    except Exception as error:  # transformers raises anything for a damaged tokenizer
        raise RunError(
            FailureReason.MODEL_UNREADABLE, f"{model.tokenizer_path}: the tokenizer cannot be read: {error}"
        ) from error
