"""Scoring with a causal language model: log-likelihoods of continuations."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from evalfleet_worker.engine.resolve import ResolvedModel, resolve_model
from evalfleet_worker.engine.threads import set_threads
from evalfleet_worker.protocol import RunSpec
from evalfleet_worker.requests import Answer, Request

DEFAULT_TOKENS_PER_STEP = 2048


class CausalLM:
    """A loaded causal language model; see `evalfleet_worker.requests.Engine`."""

    def __init__(self, model: Any, resolved: ResolvedModel, tokens_per_step: int) -> None:
        self.model = model
        self.resolved = resolved
        self.tokens_per_step = tokens_per_step

    @property
    def device(self) -> str:
        """Product name of the device."""
        return "cpu"

    def score(self, requests: Sequence[Request]) -> list[Answer]:
        """Log-likelihood and greedy flag of each request's continuation."""
        return [self._score_one(request) for request in requests]

    def _score_one(self, request: Request) -> Answer:
        import torch

        kept = list(request.token_ids)[-(self.resolved.config.context_length + 1) :]
        ids = torch.tensor([kept])
        rows = ids.shape[1] - 1 - request.continuation_length
        with torch.inference_mode():
            logits = self.model(ids[:, :-1]).logits[0, rows:].float()
        targets = ids[0, 1 + rows :]
        chosen = logits.gather(1, targets[:, None])[:, 0] - logits.logsumexp(1)
        greedy = bool((logits.argmax(1) == targets).all())
        return Answer(request.row, log_probability=float(chosen.double().sum()), is_greedy=greedy)


def load_causal_lm(run: RunSpec, cache: Path) -> CausalLM:
    """Load the run's model."""
    set_threads()
    import torch
    from transformers import AutoModelForCausalLM

    resolved = resolve_model(run.model, cache)
    model = AutoModelForCausalLM.from_pretrained(resolved.path, dtype=torch.float32)
    return CausalLM(model.eval(), resolved, run.engine.max_tokens_per_step or DEFAULT_TOKENS_PER_STEP)
