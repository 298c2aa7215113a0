"""Sentence embeddings: mean or CLS pooling of an encoder's last hidden state."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from evalfleet_worker.engine.resolve import resolve_model
from evalfleet_worker.engine.threads import set_threads
from evalfleet_worker.protocol import RunSpec
from evalfleet_worker.requests import Answer, Request


class Encoder:
    """A loaded encoder; see `evalfleet_worker.requests.Engine`."""

    def __init__(self, model: Any) -> None:
        self.model = model

    @property
    def device(self) -> str:
        """Product name of the device."""
        return "cpu"

    def score(self, requests: Sequence[Request]) -> list[Answer]:
        """Pooled embedding of each request's tokens; `arguments`: {"pooling": "Mean"|"CLS", "normalize": bool}."""
        return [self._embed(request) for request in requests]

    def _embed(self, request: Request) -> Answer:
        import torch

        arguments = json.loads(request.arguments or "{}")
        ids = torch.tensor([list(request.token_ids)])
        with torch.inference_mode():
            states = self.model(ids, attention_mask=torch.ones_like(ids)).last_hidden_state[0].float()
        pooled = states[0] if arguments.get("pooling") == "CLS" else states.mean(0)
        if arguments.get("normalize"):
            pooled = torch.nn.functional.normalize(pooled, dim=0)
        return Answer(request.row, vector=tuple(pooled.tolist()))


def load_encoder(run: RunSpec, cache: Path) -> Encoder:
    """Load the run's encoder."""
    set_threads()
    import torch
    from transformers import AutoModel

    resolved = resolve_model(run.model, cache)
    return Encoder(AutoModel.from_pretrained(resolved.path, dtype=torch.float32).eval())
