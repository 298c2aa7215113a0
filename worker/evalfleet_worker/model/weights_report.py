"""How the stored weights compare with the model that is built from them. Torch-free.

transformers fills a missing tensor with random numbers and ignores one that it does not know; both are warnings there.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evalfleet_worker.model.files import listed
from evalfleet_worker.protocol import FailureReason, RunError

IGNORED_BUFFERS = re.compile(
    r"(rotary_emb\.inv_freq|\bposition_ids|\bmasked_bias|(attn|attention)\.bias|\.[kv]_scale)$"
)
"""Constants that older versions stored and scales of a quantized cache: no weights."""
HEADS_OF_OTHERS = frozenset({"score", "score_head", "classifier", "classification_head", "qa_outputs"})
UNUSED_BY_ENCODERS = re.compile(r"(^|\.)pooler\.")
"""Sentence embeddings are taken from the hidden states before it."""
EXPERT = re.compile(r"^(?P<prefix>.*\.experts\.)(?P<index>\d+)(?P<suffix>\..*)$")


Shape = Sequence[int]


@dataclass(frozen=True, slots=True)
class WeightsReport:
    """What does not fit, each by the name that the model has for it.

    Attributes:
        model_class: class of transformers.
        missing: in the model but not stored (ties are no lack).
        foreign: stored, and unknown to the part of the model that it belongs to.
        mismatched: of another shape than the model wants, described.
    """

    model_class: str
    missing: Sequence[str] = ()
    foreign: Sequence[str] = ()
    mismatched: Sequence[str] = ()


def report_of(model: Any, info: Mapping[str, Any], is_encoder: bool) -> WeightsReport:
    """Judge the loading info of transformers.

    Args:
        model: the built model.
        info: `missing_keys`, `unexpected_keys`, `mismatched_keys` and, where known, `conversion_errors`.
        is_encoder: only its hidden states are used.
    """
    unmade = set(info.get("conversion_errors") or ())
    missing = {key for key in info["missing_keys"] if not (is_encoder and UNUSED_BY_ENCODERS.search(key))}
    mismatched = [
        f"{name} {list(stored)} instead of {list(wanted)}" for name, stored, wanted in info["mismatched_keys"]
    ]
    broken = [f"{name} (its parts do not fit together)" for name in unmade]
    # Beside its weights a quantized model stores what its method names as it likes.
    is_quantized = getattr(model, "hf_quantizer", None) is not None
    foreign = [] if is_quantized else _foreign(model, info["unexpected_keys"], is_encoder)
    return WeightsReport(type(model).__name__, sorted(missing - unmade), sorted(foreign), sorted(mismatched + broken))


def check_report(report: WeightsReport, uri: str, stored: Mapping[str, Shape] | None = None) -> None:
    """Refuse weights that do not make up the model.

    Args:
        report: what does not fit.
        uri: for the message.
        stored: shapes of the stored tensors, where known: experts that lack a part or have an odd one are named.

    Raises:
        RunError: ModelUnreadable, naming the tensors.
    """
    lacking, odd = odd_experts(stored) if stored and report.mismatched else ([], [])
    kinds = {
        "missing": [*report.missing, *lacking],
        "of another shape": [*odd, *report.mismatched],
        "that the model has no place for": list(report.foreign),
    }
    faults = [f"{len(names)} {kind}: {listed(names)}" for kind, names in kinds.items() if names]
    if faults:
        raise RunError(
            FailureReason.MODEL_UNREADABLE,
            f"the weights of {uri} do not make up the {report.model_class} of its config.json: tensors "
            f"{'; '.join(faults)}. Copy or download the model again, or mend its config",
        )


def odd_experts(stored: Mapping[str, Shape]) -> tuple[list[str], list[str]]:
    """Weights of single experts that are not stored, or of another shape, although those of the others are."""
    found: dict[tuple[str, str], dict[int, Shape]] = {}
    for name, shape in stored.items():
        match = EXPERT.match(name)
        if match:
            found.setdefault((match["prefix"], match["suffix"]), {})[int(match["index"])] = tuple(shape)
    everyone = set().union(*found.values())
    lacking, odd = [], []
    for (prefix, suffix), shapes in found.items():
        usual = Counter(shapes.values()).most_common(1)[0][0]
        lacking += [f"{prefix}{index}{suffix}" for index in sorted(everyone - set(shapes))]
        odd += [f"{prefix}{i}{suffix} {list(shape)}" for i, shape in shapes.items() if shape != usual]
    return lacking, odd


def _foreign(model: Any, keys: Iterable[str], is_encoder: bool) -> list[str]:
    modules = {name for name, _ in model.named_modules()}
    containers = _ancestors(_name_of(model, model.get_decoder() if not is_encoder else model))
    first_extra = getattr(model.config.get_text_config(), "num_hidden_layers", 0)
    extra = getattr(model.config.get_text_config(), "num_nextn_predict_layers", 0) or 0
    foreign = []
    for key in keys:
        layer = re.search(r"\blayers\.(\d+)\.", key)
        is_further_token_head = layer is not None and first_extra <= int(layer[1]) < first_extra + extra
        is_head = not is_encoder and key.split(".")[0] in HEADS_OF_OTHERS
        owner = next((name for name in _ancestors(key.rpartition(".")[0]) if name in modules), "")
        inside = owner not in containers and owner != ""
        if not IGNORED_BUFFERS.search(key) and not is_further_token_head and (is_head or inside):
            foreign.append(key)
    return foreign


def _name_of(model: Any, module: Any) -> str:
    return next((name for name, one in model.named_modules() if one is module), "")


def _ancestors(name: str) -> list[str]:
    """The dotted name and all that it lies in, the innermost first."""
    parts = name.split(".") if name else []
    return [".".join(parts[:count]) for count in range(len(parts), 0, -1)]
