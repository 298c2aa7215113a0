"""Which way a model is run is not looked up but tried: the packed way must reproduce plain passes on a probe."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from evalfleet_worker.engine.attention import UnsupportedAttention
from evalfleet_worker.engine.device import dtype_name
from evalfleet_worker.engine.forward import Forward, PackedForward, PaddedForward
from evalfleet_worker.engine.pack import Budget, Scored
from evalfleet_worker.engine.rope import CallRope, call_rope
from evalfleet_worker.engine.score import Score, score_chunks

TOLERANCE = {torch.float32: 1e-3}
"""Largest accepted difference per log-probability between packed and plain; half precision gets 0.5."""
BUDGET = Budget(1024, 1024)
"""One step for the whole probe: each pass reads all weights, which is what the probe costs."""
PREFIX, FIRST, SECOND, ALONE = 7, 5, 9, 6
"""Tokens of the probe's parts."""
CANNOT = (UnsupportedAttention, TypeError, AttributeError, ValueError, IndexError, RuntimeError)
"""What models raise that do not take what a packed pass hands them."""


class NotPackable(Exception):  # noqa: N818 - says what was found
    """Why a model cannot be run packed, in words that follow "because"."""


def choose_forward(model: Any) -> tuple[Forward, str]:
    """The fastest way that reproduces plain forward passes of this model, and in words which it is and why."""
    rope = call_rope(model)
    try:
        _check_config(model)
        split_head = _head_can_be_split(model, probe_of(model)[0])
        worst = _largest_difference(model, split_head, rope)
    except NotPackable as reason:
        return PaddedForward(model, rope), f"padded, because {reason}"
    return PackedForward(model, split_head, rope), f"packed (probe: {worst:.0e} nats)"


def probe_of(model: Any) -> list[Scored]:
    """Two sequences with a shared prefix, a third that is this prefix, and one alone."""
    generator = np.random.default_rng(0)
    vocabulary = model.config.get_text_config().vocab_size
    prefix, first, second, alone = (
        tuple(generator.integers(0, vocabulary, size).tolist()) for size in (PREFIX, FIRST, SECOND, ALONE)
    )
    return [
        Scored(prefix + first, (*first[1:], 1)),
        Scored(prefix + second, (*second[3:], 2)),
        Scored(prefix, (first[0],)),
        Scored(alone, (*alone[1:], 3)),
    ]


def _check_config(model: Any) -> None:
    """Refuse models that mix tokens in other ways than by causal attention, within sliding windows at most."""
    config = model.config.get_text_config()
    others = set(getattr(config, "layer_types", None) or ()) - {"full_attention", "sliding_attention"}
    if others:
        raise NotPackable(f"its layers mix tokens in other ways than attention: {', '.join(sorted(others))}")
    if getattr(config, "attention_chunk_size", None) is not None:
        raise NotPackable("it attends within chunks")
    if not getattr(model, "_supports_attention_backend", False):
        raise NotPackable(f"{type(model).__name__} takes no attention function of the caller's")


def _head_can_be_split(model: Any, probe: Scored) -> bool:
    """Whether the logits are the output layer of the last hidden state and nothing more, to the bit.

    A soft-cap or a scale behind the output layer can be too small to see on a probe in any other way.
    """
    ids = torch.tensor([probe.tokens], device=model.device)
    try:
        with torch.inference_mode():
            hidden = model.base_model(input_ids=ids, use_cache=False).last_hidden_state
            return torch.equal(model.get_output_embeddings()(hidden), model(input_ids=ids, use_cache=False).logits)
    except (TypeError, AttributeError, RuntimeError):
        return False


def _largest_difference(model: Any, split_head: bool, rope: CallRope) -> float:
    """Largest difference per token [nats] between packed and plain, also around lengths where frequencies change."""
    probe = probe_of(model)
    padded = PaddedForward(model, rope)
    differences = [_difference(PackedForward(model, split_head, rope), probe, _run(padded, probe), model)]
    for threshold in rope.thresholds:
        first = max(threshold - PREFIX - FIRST, 0)
        packed = PackedForward(model, split_head, rope.shifted(first), first)
        plain = {index: _plain(model, rope, sequence, first) for index, sequence in enumerate(probe)}
        differences.append(_difference(packed, probe, plain, model))
    return max(differences)


def _difference(packed: PackedForward, probe: Sequence[Scored], plain: dict[int, Score], model: Any) -> float:
    worst = 0.0
    for step in packed.cut(probe, BUDGET):
        try:
            scores, windows = packed.observe(step)
        except CANNOT as error:
            raise NotPackable(f"a packed pass is refused: {error}"[:300]) from error
        _check_windows(windows, model.config.get_text_config())
        for score, member in zip(scores, step.members, strict=True):
            difference = abs(score.log_probability - plain[member].log_probability) / len(probe[member].targets)
            if not math.isfinite(difference):
                raise NotPackable(f"its log-probabilities on the probe are no numbers in {dtype_name(model.dtype)}")
            worst = max(worst, difference)
    if worst > TOLERANCE.get(model.dtype, 0.5):
        raise NotPackable(f"a packed pass is off by {worst:.2g} nats per token on the probe")
    return worst


def _check_windows(windows: Sequence[int | None], config: Any) -> None:
    """Every layer that the config calls sliding must tell its window: a short probe cannot see the difference."""
    types = getattr(config, "layer_types", None)
    if types is None:
        window = getattr(config, "sliding_window", None)
        expected = config.num_hidden_layers if window and getattr(config, "use_sliding_window", True) else 0
    else:
        expected = list(types).count("sliding_attention")
    told = len([window for window in windows if window is not None])
    if told != expected:
        raise NotPackable(f"{told} layers told a sliding window, {expected} have one")


def _run(forward: PaddedForward, sequences: Sequence[Scored]) -> dict[int, Score]:
    return {
        member: score
        for step in forward.cut(sequences, BUDGET)
        for member, score in zip(step.members, forward.run(step), strict=True)
    }


def _plain(model: Any, rope: CallRope, sequence: Scored, first_position: int) -> Score:
    """One sequence in a call of its own, its positions counted from `first_position`."""
    rope.forget()
    ids = torch.tensor([sequence.tokens], device=model.device)
    positions = torch.arange(first_position, first_position + ids.shape[1], device=model.device)[None]
    count = len(sequence.targets)
    with torch.inference_mode():
        logits = model(input_ids=ids, position_ids=positions, use_cache=False).logits[0, -count:]
    return score_chunks([logits], np.arange(count), np.asarray(sequence.targets), np.asarray([0, count]))[0]
