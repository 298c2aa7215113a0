"""Whether transformers can run a model the way that the evaluations need, judged by its config alone. Torch-free.

`AutoModelForCausalLM` loads much that is no causal language model: BERT attends to both sides, a classifier gets a head
of random weights, the decoder of T5 lacks its encoder. Each gives numbers, and none of them means anything.
"""

import importlib
import importlib.util
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from evalfleet_worker.model.files import read_json
from evalfleet_worker.protocol import FailureReason, RunError

HEADS_OF_OTHERS = (
    "ForSequenceClassification", "ForTokenClassification", "ForQuestionAnswering", "ForMultipleChoice",
    "ForRewardModel", "RewardModel", "ForImageClassification", "ForMaskedLM",
)  # fmt: skip
"""Ends of the names of classes whose trained head answers something else than the next token."""
QUANTIZATION_PACKAGES: Mapping[str, tuple[str, ...]] = {
    "aqlm": ("aqlm",), "auto-round": ("auto_round",), "awq": ("gptqmodel",), "bitsandbytes": ("bitsandbytes",),
    "bitnet": (), "compressed-tensors": ("compressed_tensors",), "eetq": ("kernels",), "fbgemm_fp8": ("fbgemm_gpu",),
    "fouroversix": ("fouroversix",), "fp8": (), "fp_quant": ("fp_quant",), "gptq": ("optimum", "gptqmodel"),
    "higgs": ("flute",), "hqq": ("hqq",), "mxfp4": (), "mxfp8": (), "quanto": ("optimum.quanto",), "quark": ("quark",),
    "sinq": ("sinq",), "spqr": ("spqr_quant",), "torchao": ("torchao",), "vptq": ("vptq",),
}  # fmt: skip
"""Methods of transformers and what each imports besides torch."""


def load_config(folder: Path, trust_remote_code: bool) -> Any:
    """The model's config as transformers reads it, with the defaults of its class.

    Raises:
        RunError: ModelUnreadable for a model type that this transformers does not know or a config it cannot read.
    """
    from transformers import AutoConfig

    raw = read_json(folder / "config.json")
    try:
        return AutoConfig.from_pretrained(str(folder), trust_remote_code=trust_remote_code, local_files_only=True)
    except Exception as error:  # config classes raise anything for values that do not fit
        raise RunError(FailureReason.MODEL_UNREADABLE, f"{folder / 'config.json'}: {_why(raw, error)}") from error


def _why(raw: dict[str, Any], error: Exception) -> str:
    kind = raw.get("model_type")
    if kind is None:
        return "it names no model_type, so nobody can tell how the weights are to be used; copy the original config"
    if str(kind) in _names("CONFIG_MAPPING_NAMES"):
        return f"transformers cannot read it ({type(error).__name__}: {error})".replace("\n", " ")
    version = importlib.import_module("transformers").__version__
    return (
        f"transformers {version} does not know the model type {kind}; use a worker image with a newer one, "
        "or a model of a known type"
    )


def check_causal_lm(config: Any, uri: str) -> None:
    """Refuse what cannot answer with the probability of a next token.

    Raises:
        RunError: ModelUnreadable, which says what the model is and what can be evaluated instead.
    """
    what = what_else(config)
    if what:
        raise RunError(
            FailureReason.MODEL_UNREADABLE,
            f"{uri} is {what}; lmEval evaluations need a causal (decoder-only) language model",
        )


def check_encoder(config: Any, uri: str) -> None:
    """Refuse what gives no vector per token of one text.

    Raises:
        RunError: ModelUnreadable.
    """
    what = ""
    if getattr(config, "is_encoder_decoder", False):
        what = f"an encoder-decoder ({config.model_type})"
    elif not getattr(config.get_text_config(), "vocab_size", None):
        what = f"of the type {config.model_type}, which has no vocabulary: it reads no text"
    if what:
        raise RunError(
            FailureReason.MODEL_UNREADABLE, f"{uri} is {what}; embedding evaluations need a text encoder or decoder"
        )


def what_else(config: Any) -> str:
    """What the model is instead of a causal language model, in words; empty for one."""
    kind = config.model_type
    other_heads = [name for name in config.architectures or () if name.endswith(HEADS_OF_OTHERS)]
    if getattr(config, "is_encoder_decoder", False):
        return f"an encoder-decoder ({kind})"
    if kind in _names("MODEL_FOR_MASKED_LM_MAPPING_NAMES") and not _reads_forward_only(config):
        return f"bidirectional ({kind}, is_decoder false): every token sees those after it"
    if other_heads and len(other_heads) == len(config.architectures):
        return f"a {other_heads[0]}: its trained head does not predict tokens"
    if _attends_to_both_sides(config):
        return f"bidirectional ({kind} with bidirectional attention): every token sees those after it"
    if kind not in _names("MODEL_FOR_CAUSAL_LM_MAPPING_NAMES") and not _own_class(config, "AutoModelForCausalLM"):
        return f"of the type {kind}, {_purposes(kind)}"
    return ""


def _reads_forward_only(config: Any) -> bool:
    return bool(getattr(config, "is_decoder", False) or getattr(config, "causal", False))


def _attends_to_both_sides(config: Any) -> bool:
    text = config.get_text_config()
    return getattr(text, "is_causal", None) is False or getattr(text, "use_bidirectional_attention", None) in (
        True,
        "all",
    )


def _own_class(config: Any, auto_class: str) -> bool:
    """The model brings (trusted) code for this use."""
    return auto_class in (getattr(config, "auto_map", None) or {})


def _purposes(kind: str) -> str:
    """What transformers uses models of this type for, in words."""
    mappings = vars(_modeling_auto())
    found = sorted(
        name.removeprefix("MODEL_FOR_").removesuffix("_MAPPING_NAMES").replace("_", " ").lower()
        for name, mapping in mappings.items()
        if name.startswith("MODEL_FOR_") and name.endswith("_MAPPING_NAMES") and kind in mapping
    )
    return f"which transformers uses for {', '.join(found)}" if found else "which has no language modelling head"


def check_quantization(config: Any, uri: str) -> None:
    """Refuse stored quantization whose method or package is missing, by the method's name.

    Raises:
        RunError: ModelUnreadable.
    """
    stored = getattr(config, "quantization_config", None) or getattr(
        config.get_text_config(), "quantization_config", None
    )
    if not stored:
        return
    method = str(_member(stored, "quant_method") or ("bitsandbytes" if _is_bitsandbytes(stored) else "")).lower()
    if method not in QUANTIZATION_PACKAGES:
        known = ", ".join(sorted(QUANTIZATION_PACKAGES))
        raise _refused_quantization(uri, f"{method or 'a method that it does not name'}; known are {known}")
    missing = [package for package in QUANTIZATION_PACKAGES[method] if not _installed(package)]
    if missing:
        raise _refused_quantization(uri, f"{method}, which needs the package {missing[0]} in the worker image")


def _refused_quantization(uri: str, how: str) -> RunError:
    return RunError(
        FailureReason.MODEL_UNREADABLE,
        f"{uri} is quantized (quantization_config) by {how}; without it its weights mean nothing. "
        "Add the package to the image, or evaluate the unquantized model",
    )


def is_quantized(config: Any) -> bool:
    """The weights are stored quantized."""
    return bool(
        getattr(config, "quantization_config", None) or getattr(config.get_text_config(), "quantization_config", None)
    )


def _is_bitsandbytes(stored: Any) -> bool:
    return bool(_member(stored, "load_in_8bit") or _member(stored, "load_in_4bit"))


def _member(stored: Any, name: str) -> Any:
    return stored.get(name) if isinstance(stored, Mapping) else getattr(stored, name, None)


def _installed(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except ModuleNotFoundError:  # the parent of a nested package
        return False


def _names(mapping: str) -> Mapping[str, Any]:
    if mapping == "CONFIG_MAPPING_NAMES":
        return importlib.import_module("transformers.models.auto.configuration_auto").CONFIG_MAPPING_NAMES  # type: ignore[no-any-return]
    return getattr(_modeling_auto(), mapping)  # type: ignore[no-any-return]


@cache
def _modeling_auto() -> Any:
    """The tables of transformers; the lazy module would give a stand-in where torch is hidden."""
    return importlib.import_module("transformers.models.auto.modeling_auto")
