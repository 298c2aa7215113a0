"""Sentence embeddings: mean or CLS pooling of an encoder's last hidden state, by sentence-transformers' conventions."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional

from evalfleet_worker.engine.device import Placement, budget_of, dtype_name, load_weights, make_deterministic, place
from evalfleet_worker.engine.finite import check_finite
from evalfleet_worker.engine.memory import Batch, Steps, check_fits, run_steps
from evalfleet_worker.engine.pack import Budget
from evalfleet_worker.engine.rope import call_rope
from evalfleet_worker.engine.threads import set_threads
from evalfleet_worker.model.resolve import resolve_model, stored_dtype
from evalfleet_worker.protocol import FailureReason, RunError, RunSpec
from evalfleet_worker.requests import Answer, Request

POOLINGS = ("Mean", "CLS")
WAY = "equal lengths, without padding"


class Encoder:
    """A loaded encoder; see `evalfleet_worker.requests.Engine`."""

    def __init__(
        self, model: Any, placement: Placement, context_length: int, budget: Budget, fingerprint: str = ""
    ) -> None:
        self.model = model
        self.numerics, self.way = placement.numerics, WAY
        self._placement = placement
        self._rope = call_rope(model)
        self._context_length = context_length
        self._budget = budget
        self.fingerprint = fingerprint

    @property
    def device(self) -> str:
        """Product name of the device."""
        return self._placement.name

    def score(self, requests: Sequence[Request]) -> list[Answer]:
        """Pooled embeddings; `arguments`: {"pooling": "Mean" | "CLS", "normalize": false}. Equal requests once.

        Raises:
            RunError: NotFinite.
        """
        answers = self._embed(requests)
        check_finite(requests, answers, dtype_name(self._placement.dtype), lambda one: self._embed([one])[0])
        return answers

    def _embed(self, requests: Sequence[Request]) -> list[Answer]:
        distinct = sorted({(len(r.token_ids), tuple(r.token_ids), r.arguments) for r in requests})
        vectors: dict[tuple[Any, ...], tuple[float, ...]] = {}

        def run(chosen: list[int], _step: Batch) -> None:
            states = self._states([distinct[index][1] for index in chosen])
            for index, state in zip(chosen, states, strict=True):
                vectors[distinct[index]] = tuple(pool(state, distinct[index][2]).tolist())

        steps = Steps(lambda chosen, budget: _equal_lengths([distinct[i][0] for i in chosen], budget), run)
        run_steps(list(range(len(distinct))), self._budget, steps)
        return [Answer(r.row, vector=vectors[len(r.token_ids), tuple(r.token_ids), r.arguments]) for r in requests]

    def _states(self, sequences: list[tuple[int, ...]]) -> torch.Tensor:
        """Last hidden states [sequences, length, hidden] in fp32; too long sequences are cut on the right."""
        kept = [sequence[: self._context_length] for sequence in sequences]
        ids = torch.tensor(kept, device=self._placement.device)
        self._rope.forget()
        with torch.inference_mode():
            states: torch.Tensor = self.model(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state
        return states.float()


def pool(states: torch.Tensor, arguments: str) -> torch.Tensor:
    """One vector of hidden states [length, hidden] of a sequence without padding.

    Raises:
        RunError: InvalidTask, for an unknown pooling.
    """
    options = json.loads(arguments or "{}")
    pooling = options.get("pooling", "Mean")
    if pooling not in POOLINGS:
        raise RunError(FailureReason.INVALID_TASK, f"pooling {pooling} is not one of {', '.join(POOLINGS)}")
    pooled = states[0] if pooling == "CLS" else states.mean(0)
    return functional.normalize(pooled, dim=0) if options.get("normalize") else pooled


def load_encoder(run: RunSpec, cache: Path) -> Encoder:
    """Resolve and load the run's encoder onto this worker's device.

    Raises:
        RunError: see `resolve_model` and `place`; OutOfMemory before loading.
    """
    set_threads()
    make_deterministic(run.engine.numerics == "Strict")
    resolved = resolve_model(run.model, cache)
    placement = place(run, stored_dtype(resolved))
    check_fits(resolved.config, placement.free_bytes(), placement.value_bytes, placement.name)
    model = _load(str(resolved.path), placement, run)
    budget = budget_of(resolved.config, placement, run.engine.max_tokens_per_step)
    return Encoder(model, placement, resolved.config.context_length, budget, resolved.fingerprint)


def _load(folder: str, placement: Placement, run: RunSpec) -> Any:
    from transformers import AutoModel

    try:
        return load_weights(AutoModel, folder, placement, run.model.trust_remote_code)
    except (ValueError, OSError, KeyError, RuntimeError, ImportError) as error:
        raise RunError(
            FailureReason.MODEL_UNREADABLE, f"{run.model.uri} cannot be loaded as an encoder: {error}"
        ) from error


def _equal_lengths(lengths: list[int], budget: Budget) -> Iterator[Batch]:
    """Batches of equal length: no padding, so no sequence's answer depends on the others' lengths."""
    batch: list[int] = []
    for index, length in enumerate(lengths):
        if batch and (length != lengths[batch[0]] or (len(batch) + 1) * length > budget.tokens):
            yield Batch(tuple(batch))
            batch = []
        batch.append(index)
    if batch:
        yield Batch(tuple(batch))
