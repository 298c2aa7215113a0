"""Rotary frequencies that depend on the longest sequence of a call, and which sequences may share one.

Two kinds of transformers' rotary embeddings choose their frequencies anew in every call: `longrope` takes another set
once the longest sequence exceeds the original context, `dynamic` (NTK) stretches them by the longest length beyond it
and remembers the longest that it ever saw. Sequences that share a call then change each other's scores. So a call
holds sequences of one side only and begins without memory: each gets what a plain call of it alone would give.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from evalfleet_worker.engine.pack import Scored

LONGROPE = ("longrope", "su")
"""`su` is the name of early checkpoints of Phi-3."""
Side = tuple[int, ...]
T = TypeVar("T")


@dataclass(frozen=True)
class CallRope:
    """What of a model's rotary embedding depends on the call; nothing for most models.

    Attributes:
        long_thresholds: lengths beyond which another set of frequencies is taken.
        dynamic_thresholds: lengths beyond which the frequencies follow the exact length.
        modules: rotary embeddings that remember earlier calls.
    """

    long_thresholds: tuple[int, ...] = ()
    dynamic_thresholds: tuple[int, ...] = ()
    modules: tuple[Any, ...] = ()

    @property
    def thresholds(self) -> tuple[int, ...]:
        """All lengths at which the frequencies change."""
        return (*self.long_thresholds, *self.dynamic_thresholds)

    def side(self, length: int) -> Side:
        """Equal for lengths of which each may be the longest of a call without a change for the others."""
        return (
            *(int(length > threshold) for threshold in self.long_thresholds),
            *(length if length > threshold else 0 for threshold in self.dynamic_thresholds),
        )

    def growing_side(self, length: int, longest: int) -> Side:
        """The same for texts that grow to at most `longest`: those that cross a threshold have one length."""
        crosses = (length <= threshold < longest for threshold in self.thresholds)
        beyond = (longest > threshold for threshold in self.dynamic_thresholds)
        return (*self.side(length), length if any((*crosses, *beyond)) else 0)

    def shifted(self, offset: int) -> "CallRope":
        """The same for sequences whose positions begin at `offset`."""
        long, dynamic = ([t - offset for t in group] for group in (self.long_thresholds, self.dynamic_thresholds))
        return replace(self, long_thresholds=tuple(long), dynamic_thresholds=tuple(dynamic))

    def forget(self) -> None:
        """Put the frequencies of short sequences back, as in a model that was just loaded."""
        for module in self.modules:
            _forget(module)


def call_rope(model: Any) -> CallRope:
    """What the model's config says, in its present or in its older form."""
    config = model.config.get_text_config()
    parameters = getattr(config, "rope_parameters", None) or getattr(config, "rope_scaling", None) or {}
    members = [member for member in parameters.values() if isinstance(member, dict)] or [parameters]
    kinds = [(str(member.get("rope_type") or member.get("type")), member) for member in members]
    context = int(getattr(config, "max_position_embeddings", 0) or 0)
    original = getattr(config, "original_max_position_embeddings", None) or context
    long = {int(m.get("original_max_position_embeddings") or original) for kind, m in kinds if kind in LONGROPE}
    dynamic = {context for kind, _ in kinds if "dynamic" in kind}
    modules = [module for module in model.modules() if hasattr(module, "original_max_seq_len")] if dynamic else []
    return CallRope(tuple(sorted(long)), tuple(dynamic), tuple(modules))


def cut_by_side(sequences: Sequence[Scored], rope: CallRope, cut: Callable[[list[Scored]], Iterator[T]]) -> Iterator[T]:
    """Steps of sequences of one side each; `cut` makes the steps of one side, whose members are counted within it."""
    sides: dict[Side, list[int]] = {}
    for index, sequence in enumerate(sequences):
        sides.setdefault(rope.side(len(sequence.tokens)), []).append(index)
    for _, members in sorted(sides.items()):
        for step in cut([sequences[index] for index in members]):
            chosen: Any = step
            yield replace(chosen, members=tuple(members[member] for member in chosen.members))


def _forget(module: Any) -> None:
    """Transformers keeps the frequencies of each layer type under a prefix of its own."""
    suffix = "original_inv_freq"
    for name in [name for name in dir(module) if name.endswith(suffix)]:
        prefix = name.removesuffix(suffix)
        setattr(module, f"{prefix}inv_freq", getattr(module, name).clone())
        if hasattr(module, f"{prefix}max_seq_len_cached"):
            setattr(module, f"{prefix}max_seq_len_cached", module.original_max_seq_len)
