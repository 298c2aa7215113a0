"""Scoring and generating with a causal language model.

Conventions shared with the planner (those of lm-eval's HFLM): a request holds the ids of context and continuation;
an empty context is the planner's matter (it puts the prefix token there). Of n ids the model sees the last
`context_length + 1` without the very last one, so what is too long is cut on the left.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from evalfleet_worker.engine.device import Placement, budget_of, dtype_name, load_weights, make_deterministic, place
from evalfleet_worker.engine.finite import check_finite
from evalfleet_worker.engine.memory import Steps, check_fits, run_steps
from evalfleet_worker.engine.pack import Scored
from evalfleet_worker.engine.probe import choose_forward
from evalfleet_worker.engine.score import Score
from evalfleet_worker.engine.threads import set_threads
from evalfleet_worker.model.check import check_supported
from evalfleet_worker.model.resolve import ResolvedModel, resolve_model, stored_dtype
from evalfleet_worker.protocol import FailureReason, RunError, RunSpec
from evalfleet_worker.requests import Answer, Request, RequestType


class CausalLM:
    """A loaded causal language model; see `evalfleet_worker.requests.Engine`.

    Attributes:
        way: how the model is run and why, in words.
        numerics: the class of arithmetic that its answers have.
    """

    def __init__(self, model: Any, resolved: ResolvedModel, placement: Placement, run: RunSpec) -> None:
        self.model = model
        self.context_length = resolved.config.context_length
        self.forward, self.way = choose_forward(model)
        self.budget = budget_of(resolved.config, placement, run.engine.max_tokens_per_step)
        self.numerics = placement.numerics
        self._placement = placement
        self._strict = run.engine.numerics == "Strict"
        self._resolved = resolved
        self._generator: Any = None

    @property
    def device(self) -> str:
        """Product name of the device."""
        return self._placement.name

    @property
    def fingerprint(self) -> str:
        """The model's, see `ResolvedModel`."""
        return self._resolved.fingerprint

    def score(self, requests: Sequence[Request]) -> list[Answer]:
        """Answer all requests of one unit, in their order."""
        generated = [request for request in requests if request.type is RequestType.GENERATE_UNTIL]
        scored = [request for request in requests if request.type is not RequestType.GENERATE_UNTIL]
        log_likelihoods = self._log_likelihoods(scored)
        check_finite(
            scored, log_likelihoods, dtype_name(self._placement.dtype), lambda one: self._log_likelihoods([one])[0]
        )
        answers = {answer.row: answer for answer in self._generate(generated) + log_likelihoods}
        return [answers[request.row] for request in requests]

    def _generate(self, requests: list[Request]) -> list[Answer]:
        """The generator and what it imports are loaded by the first unit that generates."""
        if not requests:
            return []
        if self._generator is None:
            from evalfleet_worker.engine.generate import Generator

            self._generator = Generator(self.model, self._resolved, shrink=not self._strict)
        answers: list[Answer] = self._generator.generate(requests)
        return answers

    def _log_likelihoods(self, requests: list[Request]) -> list[Answer]:
        """Equal requests are scored once."""
        wanted = [scored_sequence(request, self.context_length) for request in requests]
        scores = self.score_sequences(sorted(set(wanted), key=lambda one: (one.tokens, one.targets)))
        return [
            Answer(request.row, log_probability=scores[one].log_probability, is_greedy=scores[one].is_greedy)
            for request, one in zip(requests, wanted, strict=True)
        ]

    def score_sequences(self, sequences: list[Scored]) -> dict[Scored, Score]:
        """Scores of distinct sequences."""
        scores: dict[Scored, Score] = {}

        def run(chosen: list[int], step: Any) -> None:
            scores.update(zip((sequences[i] for i in chosen), self.forward.run(step), strict=True))

        steps = Steps(lambda chosen, budget: self.forward.cut([sequences[i] for i in chosen], budget), run)
        run_steps(list(range(len(sequences))), self.budget, steps, shrink=not self._strict)
        return scores


def scored_sequence(request: Request, context_length: int) -> Scored:
    """What the model sees of a request and what is scored of it.

    Raises:
        RunError: InternalError, when there is no token before the continuation or the continuation is too long.
    """
    kept = tuple(request.token_ids)[-(context_length + 1) :]
    count = request.continuation_length
    if not 1 <= count < len(request.token_ids) or count > context_length:
        raise RunError(
            FailureReason.INTERNAL_ERROR,
            f"row {request.row}: {count} scored tokens of {len(request.token_ids)} cannot be scored with "
            f"context length {context_length}; at least one token must come before them",
        )
    return Scored(kept[:-1], kept[-count:])


def load_causal_lm(run: RunSpec, cache: Path) -> CausalLM:
    """Resolve and load the run's model onto this worker's device.

    Raises:
        RunError: see `resolve_model` and `place`; OutOfMemory before loading; InvalidModelRef for what is missing here.
    """
    check_supported(run)
    set_threads()
    make_deterministic(run.engine.numerics == "Strict")
    resolved = resolve_model(run.model, cache)
    placement = place(run, stored_dtype(resolved))
    check_fits(resolved.config, placement.free_bytes(), placement.value_bytes, placement.name)
    return CausalLM(_load(resolved, placement), resolved, placement, run)


def _load(resolved: ResolvedModel, placement: Placement) -> Any:
    from transformers import AutoModelForCausalLM

    try:
        return load_weights(AutoModelForCausalLM, str(resolved.path), placement, resolved.spec.trust_remote_code)
    except (ValueError, OSError, KeyError, RuntimeError, ImportError) as error:
        raise RunError(
            FailureReason.MODEL_UNREADABLE, f"{resolved.spec.uri} cannot be loaded as a causal language model: {error}"
        ) from error
