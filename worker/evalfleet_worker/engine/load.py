"""The engine of one run: routes each request to the part that can answer it, loading that part when first needed."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from evalfleet_worker.protocol import RunSpec
from evalfleet_worker.requests import Answer, Engine, Request, RequestType

CAUSAL_LM_TYPES = (RequestType.LOGLIKELIHOOD, RequestType.LOGLIKELIHOOD_ROLLING, RequestType.GENERATE_UNTIL)


class RoutingEngine:
    """Engine of a run with any mix of evaluations; what is loaded stays loaded."""

    def __init__(self, run: RunSpec, cache: Path) -> None:
        self._run = run
        self._cache = cache
        self._parts: dict[str, Any] = {}

    @property
    def device(self) -> str:
        """Product name of the device that the loaded parts use; `cpu` before the first unit."""
        return next((part.device for part in self._parts.values()), "cpu")

    @property
    def fingerprint(self) -> str:
        """Of the run's model, as the loaded parts read it; empty when only user code is evaluated."""
        return next(filter(None, (getattr(part, "fingerprint", "") for part in self._parts.values())), "")

    @property
    def words(self) -> str:
        """Numerics class and the ways in which the loaded parts are run."""
        parts = [part for part in self._parts.values() if hasattr(part, "way")]
        return "; ".join(dict.fromkeys(text for part in parts for text in (str(part.numerics), part.way)))

    def score(self, requests: Sequence[Request]) -> list[Answer]:
        """Answer all requests of one unit, in their order."""
        answers: dict[int, Answer] = {}
        for name, members in _by_part(requests).items():
            for request, answer in zip(members, self.load(name).score(members), strict=True):
                answers[request.row] = answer
        return [answers[request.row] for request in requests]

    def load(self, name: str) -> Engine:
        """The part of that name, loaded if it is not yet."""
        if name not in self._parts:
            self._parts[name] = LOADERS[name](self._run, self._cache)
        part: Engine = self._parts[name]
        return part


def load_engine(run: RunSpec, cache: Path) -> Engine:
    """The engine of a run, with everything loaded that its evaluations need: an unreadable model is refused at once."""
    engine = RoutingEngine(run, cache)
    for name in _needed(run):
        engine.load(name)
    return engine


def _needed(run: RunSpec) -> list[str]:
    kinds = (
        "causal-lm" if evaluation.lm_eval else "encoder" if evaluation.embedding else "python"
        for evaluation in run.evaluations
    )
    return list(dict.fromkeys(kinds))


def _by_part(requests: Sequence[Request]) -> dict[str, list[Request]]:
    parts: dict[str, list[Request]] = {}
    for request in requests:
        parts.setdefault(_part_name(request.type), []).append(request)
    return parts


def _part_name(kind: RequestType) -> str:
    if kind in CAUSAL_LM_TYPES:
        return "causal-lm"
    return "encoder" if kind is RequestType.EMBED else "python"


def _load_causal_lm(run: RunSpec, cache: Path) -> Engine:
    from evalfleet_worker.engine.causal_lm import load_causal_lm

    return load_causal_lm(run, cache)


def _load_encoder(run: RunSpec, cache: Path) -> Engine:
    from evalfleet_worker.engine.encoder import load_encoder

    return load_encoder(run, cache)


def _load_python(run: RunSpec, cache: Path) -> Engine:
    import importlib

    engine: Any = importlib.import_module("evalfleet_worker.harness.python").load_engine(run)
    return engine  # type: ignore[no-any-return]


LOADERS: dict[str, Callable[[RunSpec, Path], Engine]] = {
    "causal-lm": _load_causal_lm,
    "encoder": _load_encoder,
    "python": _load_python,
}
