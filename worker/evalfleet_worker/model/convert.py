"""GGUF to safetensors and tokenizer files, once per node."""

import hashlib
import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from evalfleet_worker.model.download import exclusive
from evalfleet_worker.model.gguf_reading import parsed_once
from evalfleet_worker.model.memo import remembered
from evalfleet_worker.model.weights_report import check_report, report_of
from evalfleet_worker.protocol import FailureReason, RunError

CONVERTER_VERSION = 2
SINGLE_DIGITS = frozenset({"smollm", "starcoder", "refact", "command-r", "codeshell"})
"""Values of `tokenizer.ggml.pre` that split every digit off before the GPT-2 rule (llama.cpp, `llama-vocab.cpp`)."""


def convert_gguf(gguf: Path, cache: Path) -> Path:
    """Folder with the fp32 safetensors model and tokenizer of a GGUF file, converted if the cache has none yet.

    Safe between processes: one converts, the others wait; a killed conversion leaves nothing that is used.

    Raises:
        RunError: ModelUnreadable, when the file is damaged or its architecture is not supported.
    """
    target = cache / "models" / f"gguf-{remembered('gguf', [gguf], cache, lambda: _identity(gguf))}"
    if (target / "config.json").exists():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with exclusive(target.with_suffix(".lock")):
        if not (target / "config.json").exists():
            _say(f"converting {gguf.name} to safetensors, once for this machine")
            fresh = Path(tempfile.mkdtemp(prefix="converting-", dir=target.parent))
            try:
                _convert(gguf, fresh)
                fresh.rename(target)
            finally:
                shutil.rmtree(fresh, ignore_errors=True)
    return target


def _convert(gguf: Path, target: Path) -> None:
    import torch
    from safetensors.torch import save_model
    from transformers import AutoModelForCausalLM, AutoTokenizer

    try:
        with parsed_once():
            model, info = AutoModelForCausalLM.from_pretrained(
                gguf.parent, gguf_file=gguf.name, dtype=torch.float32, output_loading_info=True
            )
            tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
            _restore_pre_tokenizer(tokenizer, gguf)
    except Exception as error:
        raise RunError(FailureReason.MODEL_UNREADABLE, f"{gguf.name} cannot be converted: {error}") from error
    check_report(report_of(model, info, is_encoder=False), gguf.name)
    # save_pretrained refuses a model that was read from GGUF, although its weights are plain fp32 now.
    save_model(model, str(target / "model.safetensors"), metadata={"format": "pt"})
    config = model.config.to_dict() | {"architectures": [type(model).__name__]}
    config.pop("quantization_config", None)
    (target / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True, default=str), "utf-8")
    model.generation_config.save_pretrained(target)
    tokenizer.save_pretrained(target)
    _let_others_read(target)


def _let_others_read(folder: Path) -> None:
    """Fresh folders and safetensors are written for the owner alone; a node cache is shared."""
    folder.chmod(0o755)
    for file in folder.iterdir():
        file.chmod(0o644)


def _restore_pre_tokenizer(tokenizer: Any, gguf: Path) -> None:
    """Split digits where the file says so: transformers leaves that rule out, so spaces merge wrongly before one."""
    import gguf as library
    from tokenizers import pre_tokenizers

    field = library.GGUFReader(gguf).get_field("tokenizer.ggml.pre")
    if field is not None and field.contents() in SINGLE_DIGITS:
        byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
        rule = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), byte_level])
        tokenizer.backend_tokenizer.pre_tokenizer = rule


def _identity(gguf: Path) -> str:
    """Content hash of the GGUF file and the converter's version."""
    with gguf.open("rb") as stream:
        hashed = hashlib.file_digest(stream, lambda: hashlib.blake2b(digest_size=8))
    hashed.update(bytes([CONVERTER_VERSION]))
    return hashed.hexdigest()


def _say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)  # noqa: T201
