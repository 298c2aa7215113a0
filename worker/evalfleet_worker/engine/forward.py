"""Two ways to run a causal language model over sequences: packed, and padded for models that cannot be packed."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch

from evalfleet_worker.engine.attention import PackedAttention, packed
from evalfleet_worker.engine.pack import Budget, Scored, Step, pack
from evalfleet_worker.engine.rope import CallRope, cut_by_side
from evalfleet_worker.engine.score import ROWS_PER_CHUNK, Score, score_chunks


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

    def __init__(self, model: Any, split_head: bool, rope: CallRope, first_position: int = 0) -> None:
        self._model = model
        self._split_head = split_head
        self._rope = rope
        self._first_position = first_position
        self._device = next(model.parameters()).device

    def cut(self, sequences: Sequence[Scored], budget: Budget) -> Iterator[Step]:
        """Packed steps within the budget."""
        return cut_by_side(sequences, self._rope, lambda side: pack(side, budget))

    def run(self, step: Step) -> list[Score]:
        """Scores of the step's members, in their order."""
        return self.observe(step)[0]

    def observe(self, step: Step) -> tuple[list[Score], list[int | None]]:
        """The scores, and the sliding window that each attention layer asked for."""
        attention = PackedAttention(step, self._device)
        self._rope.forget()
        with torch.inference_mode(), packed(self._model, attention):
            inputs = {
                "input_ids": torch.from_numpy(step.ids).to(self._device)[None],
                "position_ids": torch.from_numpy(step.positions + self._first_position).to(self._device)[None],
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

    def __init__(self, model: Any, rope: CallRope) -> None:
        self._model = model
        self._rope = rope
        self._device = next(model.parameters()).device

    def cut(self, sequences: Sequence[Scored], budget: Budget) -> Iterator[PaddedStep]:
        """Steps whose padded size and scored rows are within the budget."""
        return cut_by_side(sequences, self._rope, lambda side: _padded_steps(side, budget))

    def run(self, step: PaddedStep) -> list[Score]:
        """Scores of the step's members, in their order."""
        ids = torch.zeros((len(step.members), step.last), dtype=torch.long)
        keep = torch.zeros_like(ids, dtype=torch.bool)
        for row, sequence in enumerate(step.sequences):
            length = len(sequence.tokens)
            ids[row, :length] = torch.tensor(sequence.tokens)
            keep[row, length - len(sequence.targets) : length] = True
        self._rope.forget()
        with torch.inference_mode():
            logits = self._model(ids.to(self._device), use_cache=False).logits[keep.to(self._device)]
        counts = [len(sequence.targets) for sequence in step.sequences]
        targets = np.concatenate([np.asarray(sequence.targets, np.int64) for sequence in step.sequences])
        offsets = np.concatenate([[0], np.cumsum(counts)])
        return score_chunks(logits.split(ROWS_PER_CHUNK), np.arange(len(targets)), targets, offsets)


def _padded_steps(sequences: Sequence[Scored], budget: Budget) -> Iterator[PaddedStep]:
    """Neighbours by length, the longest first."""
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


def _padded_step(batch: list[int], sequences: Sequence[Scored]) -> PaddedStep:
    chosen = tuple(sequences[index] for index in batch)
    return PaddedStep(chosen, tuple(batch), max(len(sequence.tokens) for sequence in chosen))
