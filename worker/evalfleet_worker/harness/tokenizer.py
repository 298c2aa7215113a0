"""Loading the tokenizer of a resolved model."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

from evalfleet_worker.harness.encode import EncodingOptions, TextEncoder
from evalfleet_worker.protocol import FailureReason, ModelSpec, RunError

VOCABULARIES = ("tokenizer.json", "*.model", "*.tiktoken", "tekken.json", "vocab.*")
NO_TOKENIZER = (
    "it holds no tokenizer (tokenizer.json, or what its class reads): save the tokenizer beside the model, or name the "
    "folder of one as model.tokenizerUri"
)

TOKENIZER_FILES = ("tokenizer*", "special_tokens_map.json", "added_tokens.json", "vocab.*", "merges.txt", "*.model")


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
            when `maxLength` is more than the model's own, or `chatTemplate` is none.
    """
    tokenizer = load_tokenizer(model, spec)
    if spec.chat_template is not None:
        tokenizer.chat_template = _chat_template(tokenizer.chat_template, spec.chat_template)
    longest = model.config.context_length
    if spec.max_length is not None and spec.max_length > longest:
        raise RunError(
            FailureReason.INVALID_MODEL_REF,
            f"model.maxLength {spec.max_length} is more than the {longest} tokens that the model was made for",
        )
    return TextEncoder(tokenizer, spec.max_length or longest, EncodingOptions(spec.add_bos_token, spec.prefix_token_id))


def _chat_template(own: Any, wanted: str) -> str:
    """The template itself, or the tokenizer's of that name, as `--apply_chat_template NAME` of lm-eval means it."""
    named: Mapping[str, str] = own if isinstance(own, dict) else {}
    if wanted in named:
        return named[wanted]
    if "messages" in wanted:
        return wanted
    known = f", or one of the tokenizer's names: {', '.join(sorted(named))}" if named else ""
    raise RunError(
        FailureReason.INVALID_MODEL_REF,
        f"model.chatTemplate {wanted[:60]!r} never reads `messages`, so that every prompt would be its own text: "
        f"write the template itself{known}",
    )


def generation_config(model: TokenizerSource) -> Mapping[str, Any]:
    """What the model recommends for generation, with the ids of its end tokens as `eos_token_id`."""
    found = _json(model.path / "generation_config.json")
    return {"eos_token_id": _json(model.path / "config.json").get("eos_token_id"), **found}


def tokenizer_digest(folder: Path) -> str:
    """Hex digest (16 bytes) of the tokenizer's files: they decide what text generated tokens are."""
    digest = hashlib.blake2b(digest_size=16)
    for file in sorted(file for pattern in TOKENIZER_FILES for file in folder.glob(pattern)):
        digest.update(f"{file.name}\0{file.stat().st_size}\0".encode())
        digest.update(file.read_bytes())
    return digest.hexdigest()


def _json(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text("utf-8")) if file.exists() else {}
    except ValueError as error:
        raise RunError(FailureReason.MODEL_UNREADABLE, f"{file} is no JSON: {error}") from error
    return content if isinstance(content, dict) else {}


def load_tokenizer(model: TokenizerSource, spec: ModelSpec) -> Any:
    """The transformers tokenizer of a model."""
    from transformers import AutoTokenizer

    folder = Path(model.tokenizer_path)
    try:
        tokenizer = AutoTokenizer.from_pretrained(str(folder), trust_remote_code=spec.trust_remote_code)
    except Exception as error:  # transformers raises anything for a damaged tokenizer
        why = f"the tokenizer cannot be read: {error}" if _has_vocabulary(folder, ()) else NO_TOKENIZER
        raise RunError(FailureReason.MODEL_UNREADABLE, f"{folder}: {why}") from error
    names = set(getattr(tokenizer, "vocab_files_names", {}).values())
    if names and not _has_vocabulary(folder, names):  # transformers makes an empty one then
        raise RunError(FailureReason.MODEL_UNREADABLE, f"{folder}: {NO_TOKENIZER}")
    return tokenizer


def _has_vocabulary(folder: Path, names: Iterable[str]) -> bool:
    """Whether the folder holds a file out of which a vocabulary is read."""
    patterns = (*VOCABULARIES, *names)
    return any(True for pattern in patterns for _ in folder.glob(pattern))
