"""Loading the tokenizer of a resolved model."""

from typing import Any, Protocol

from evalfleet_worker.harness.encode import TextEncoder
from evalfleet_worker.protocol import FailureReason, ModelSpec, RunError


class TokenizerSource(Protocol):
    """The part of a resolved model that is needed here."""

    @property
    def tokenizer_path(self) -> Any:
        """Folder with the tokenizer's files."""
        ...

    @property
    def config(self) -> Any:
        """Facts of the model, with its `context_length`."""
        ...


def load_encoder(model: TokenizerSource, spec: ModelSpec) -> TextEncoder:
    """The encoder of a model, with the job's chat template where it sets one.

    Raises:
        RunError: MODEL_UNREADABLE when the folder holds no tokenizer that transformers can read.
    """
    tokenizer = load_tokenizer(model, spec)
    if spec.chat_template is not None:
        tokenizer.chat_template = spec.chat_template
    return TextEncoder(tokenizer, model.config.context_length)


def load_tokenizer(model: TokenizerSource, spec: ModelSpec) -> Any:
    """The transformers tokenizer of a model."""
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(str(model.tokenizer_path), trust_remote_code=spec.trust_remote_code)
    except Exception as error:  # transformers raises anything for a damaged tokenizer
        raise RunError(
            FailureReason.MODEL_UNREADABLE, f"{model.tokenizer_path}: the tokenizer cannot be read: {error}"
        ) from error
