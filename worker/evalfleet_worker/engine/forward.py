"""Two ways to run a causal language model over sequences: packed, and padded for models that cannot be packed.

Which one a model gets is not looked up but tried: a packed way must reproduce plain forward passes on a probe.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch

from evalfleet_worker.engine.attention import PackedAttention, UnsupportedAttention, packed
from evalfleet_worker.engine.pack import Budget, Scored, Step, pack
from evalfleet_worker.engine.score import ROWS_PER_CHUNK, Score, score_chunks

TOLERANCE = {torch.float32: 1e-3}
"""Largest accepted difference per log-probability between packed and plain; half precision gets 0.5."""
PROBE_BUDGET = Budget(1024, 1024)
"""One step for the whole probe: each pass reads all weights, which is what the probe costs."""


class Forward(Protocol):
    """Cuts sequences into steps and scores one step."""

    def cut(self, sequences: Sequence[Scored], budget: Budget) -> Iterator[Any]:
        """Steps with `members`, the indices of their sequences."""
        ...

    def run(self, step: Any) -> list[Score]:
        """Scores of the step's members, in their order."""
        ...


class PackedForward:
    """No padding, shared prefixes once, logits of scored rows only."""

    def __init__(self, model: Any, split_head: bool) -> None:
        self._model = model
        self._split_head = split_head
        self._device = next(model.parameters()).device

    def cut(self, sequences: Sequence[Scored], budget: Budget) -> Iterator[Step]:
        """Packed steps within the budget."""
        return pack(sequences, budget)

    def run(self, step: Step) -> list[Score]:
        """Scores of the step's members, in their order."""
        return self.observe(step)[0]

    def observe(self, step: Step) -> tuple[list[Score], list[int | None]]:
        """The scores, and the sliding window that each attention layer asked for."""
        attention = PackedAttention(step, self._device)
        with torch.inference_mode(), packed(self._model, attention):
            inputs = {
                "input_ids": torch.from_numpy(step.ids).to(self._device)[None],
                "position_ids": torch.from_numpy(step.positions).to(self._device)[None],
                "use_cache": False,
            }
            chunks = self._logits(inputs, torch.from_numpy(step.rows).to(self._device))
            return score_chunks(chunks, step.scored_rows, step.targets, step.offsets), attention.windows_seen

    def _logits(self, inputs: dict[str, Any], rows: torch.Tensor) -> Iterator[torch.Tensor]:
        """Logits of the rows in chunks; without a split head the model projects all of them at once."""
        if not self._split_head:
            yield from self._model(**inputs, logits_to_keep=rows).logits[0].split(ROWS_PER_CHUNK)
            return
        hidden = self._model.base_model(**inputs).last_hidden_state[0, rows]
        head = self._model.get_output_embeddings()
        for chunk in hidden.split(ROWS_PER_CHUNK):
            yield head(chunk)


@dataclass(frozen=True, slots=True)
class PaddedStep:
    """Sequences of similar length, padded on the right; `last` is the length of the longest."""

    sequences: tuple[Scored, ...]
    members: tuple[int, ...]
    last: int


class PaddedForward:
    """Batches sorted by length, padded on the right without a mask, as lm-eval's HFLM does; for any causal model."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self._device = next(model.parameters()).device

    def cut(self, sequences: Sequence[Scored], budget: Budget) -> Iterator[PaddedStep]:
        """Steps whose padded size and scored rows are within the budget."""
        order = sorted(range(len(sequences)), key=lambda i: (len(sequences[i].tokens), sequences[i].tokens))
        batch: list[int] = []
        for index in reversed(order):
            longest = len(sequences[(batch or [index])[0]].tokens)
            rows = sum(len(sequences[member].targets) for member in [*batch, index])
            if batch and ((len(batch) + 1) * longest > budget.tokens or rows > budget.rows):
                yield _padded_step(batch, sequences)
                batch = []
            batch.append(index)
        if batch:
            yield _padded_step(batch, sequences)

    def run(self, step: PaddedStep) -> list[Score]:
        """Scores of the step's members, in their order."""
        ids = torch.zeros((len(step.members), step.last), dtype=torch.long)
        keep = torch.zeros_like(ids, dtype=torch.bool)
        for row, sequence in enumerate(step.sequences):
            length = len(sequence.tokens)
            ids[row, :length] = torch.tensor(sequence.tokens)
            keep[row, length - len(sequence.targets) : length] = True
        with torch.inference_mode():
            logits = self._model(ids.to(self._device), use_cache=False).logits[keep.to(self._device)]
        counts = [len(sequence.targets) for sequence in step.sequences]
        targets = np.concatenate([np.asarray(sequence.targets, np.int64) for sequence in step.sequences])
        offsets = np.concatenate([[0], np.cumsum(counts)])
        return score_chunks(logits.split(ROWS_PER_CHUNK), np.arange(len(targets)), targets, offsets)


def choose_forward(model: Any) -> Forward:
    """The fastest way that reproduces plain forward passes of this model on a probe with a shared prefix."""
    padded = PaddedForward(model)
    if not _may_be_packed(model):
        return padded
    probe = _probe(model.config.get_text_config().vocab_size)
    step = next(padded.cut(probe, PROBE_BUDGET))
    expected = dict(zip(step.members, padded.run(step), strict=True))
    forward = PackedForward(model, _head_can_be_split(model, probe[0]))
    return forward if _reproduces(forward, probe, expected, model) else padded


def _may_be_packed(model: Any) -> bool:
    """Whether the model takes an attention function and its mask is causal, within sliding windows at most."""
    config = model.config.get_text_config()
    layers = set(getattr(config, "layer_types", None) or ["full_attention"])
    return (
        bool(getattr(model, "_supports_attention_backend", False))
        and layers <= {"full_attention", "sliding_attention"}
        and getattr(config, "attention_chunk_size", None) is None
    )


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


def _reproduces(forward: PackedForward, probe: list[Scored], expected: dict[int, Score], model: Any) -> bool:
    step = next(forward.cut(probe, PROBE_BUDGET))
    try:
        scores, windows = forward.observe(step)
    except (UnsupportedAttention, TypeError, AttributeError, ValueError, IndexError, RuntimeError):
        return False
    tolerance = TOLERANCE.get(model.dtype, 0.5)
    close = all(
        abs(score.log_probability - expected[member].log_probability) <= tolerance * len(probe[member].targets)
        for score, member in zip(scores, step.members, strict=True)
    )
    return close and _windows_agree(windows, model.config.get_text_config())


def _windows_agree(windows: list[int | None], config: Any) -> bool:
    """Whether every layer that the config calls sliding told its window: a short probe cannot see the difference."""
    types = getattr(config, "layer_types", None)
    if types is None:
        window = getattr(config, "sliding_window", None)
        expected = config.num_hidden_layers if window and getattr(config, "use_sliding_window", True) else 0
    else:
        expected = list(types).count("sliding_attention")
    return len([window for window in windows if window is not None]) == expected


def _probe(vocabulary: int) -> list[Scored]:
    """Two sequences with a shared prefix, one of them with two continuations, and one alone."""
    generator = np.random.default_rng(0)
    prefix, first, second, alone = (tuple(generator.integers(0, vocabulary, size).tolist()) for size in (7, 5, 9, 6))
    return [
        Scored(prefix + first, (*first[1:], 1)),
        Scored(prefix + second, (*second[3:], 2)),
        Scored(prefix, (first[0],)),
        Scored(alone, (*alone[1:], 3)),
    ]


def _padded_step(batch: list[int], sequences: Sequence[Scored]) -> PaddedStep:
    chosen = tuple(sequences[index] for index in batch)
    return PaddedStep(chosen, tuple(batch), max(len(sequence.tokens) for sequence in chosen))
