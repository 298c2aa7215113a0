"""Where a generation ends, what is refused on the way, how a token is drawn: per row, whatever its neighbours do."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from transformers.generation.logits_process import (
    LogitsProcessor,
    MinPLogitsWarper,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)
from transformers.generation.stopping_criteria import StoppingCriteria

from evalfleet_worker.engine.arguments import Generation
from evalfleet_worker.engine.finite import not_finite
from evalfleet_worker.requests import Request

DEFAULT_TOP_K = 50
"""transformers' default when it samples."""
LOOK_BACK_TOKENS = 2
"""HFLM decodes this many tokens more than a stop string takes, for other tokenizations of the same string."""


class StopStrings(StoppingCriteria):  # type: ignore[misc]
    """Stops each row when one of the strings appears in its last tokens.

    Attributes:
        done: whether each row is finished.
        lengths: tokens of each row up to there.
    """

    def __init__(self, tokenizer: Any, until: Sequence[str], prompt_length: int, rows: int) -> None:
        self._tokenizer = tokenizer
        self._until = [(s, len(tokenizer.encode(s, add_special_tokens=False)) + LOOK_BACK_TOKENS) for s in until if s]
        self._prompt_length = prompt_length
        self.done = [False] * rows
        self.lengths = [0] * rows

    def __call__(self, input_ids: torch.Tensor, scores: Any, **kwargs: Any) -> torch.Tensor:
        """[rows] whether the row is finished; all beams are when the first, which is the best, is."""
        for row, tokens in enumerate(input_ids[: len(self.done), self._prompt_length :].tolist()):
            if not self.done[row]:
                self.lengths[row] = len(tokens)
                self.done[row] = any(s in self._tokenizer.decode(tokens[-back:]) for s, back in self._until)
        return torch.tensor(self.done, device=input_ids.device).expand(len(input_ids))


class FiniteLogits(LogitsProcessor):  # type: ignore[misc]
    """Refuses logits that give no distribution, in rows that are not finished; their arg-max would be token 0."""

    def __init__(self, requests: Sequence[Request], stop: StopStrings, dtype: str) -> None:
        self._requests = requests
        self._stop = stop
        self._dtype = dtype

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """The scores as they are.

        Raises:
            RunError: NotFinite.
        """
        beams = len(scores) // len(self._requests)
        for row, finite in enumerate(scores.float().logsumexp(-1).isfinite().tolist()):
            if not finite and not self._stop.done[row // beams]:
                raise not_finite(self._requests[row // beams], self._dtype, "the logits are no finite numbers")
        return scores


class SeededChoice(LogitsProcessor):  # type: ignore[misc]
    """Draws each row's token with the row's own generator and leaves nothing else to choose."""

    def __init__(self, seeds: Sequence[int | None]) -> None:
        self._generators = [torch.Generator().manual_seed((seed or 0) % 2**63) for seed in seeds]

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Scores [rows, vocabulary] that are -inf but for the drawn tokens."""
        probabilities = scores.float().softmax(-1).cpu()
        drawn = [
            torch.multinomial(row, 1, generator=generator)
            for row, generator in zip(probabilities, self._generators, strict=True)
        ]
        chosen = torch.full_like(scores, float("-inf"))
        return chosen.scatter_(1, torch.stack(drawn).to(scores.device), 0.0)


def sampler(requests: Sequence[Request], generation: Generation) -> list[LogitsProcessor]:
    """Temperature, top-k, top-p, min-p in transformers' order, then each row's own draw; nothing where greedy."""
    if not generation.do_sample:
        return []
    return [*_warpers(generation.options), SeededChoice([request.seed for request in requests])]


def _warpers(options: Mapping[str, float]) -> list[LogitsProcessor]:
    """Warpers of transformers in its order: temperature, top-k, top-p, min-p."""
    temperature, top_k = options.get("temperature"), options.get("top_k")
    top_k = DEFAULT_TOP_K if top_k is None else top_k
    warpers: list[LogitsProcessor] = []
    if temperature not in (None, 1.0):
        warpers.append(TemperatureLogitsWarper(temperature))
    if top_k:
        warpers.append(TopKLogitsWarper(top_k=int(top_k)))
    if (top_p := options.get("top_p")) is not None and top_p < 1.0:
        warpers.append(TopPLogitsWarper(top_p=top_p))
    if (min_p := options.get("min_p")) is not None:
        warpers.append(MinPLogitsWarper(min_p=min_p))
    return warpers
