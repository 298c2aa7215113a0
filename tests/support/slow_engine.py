"""The real engine with a pause after every unit, so that a test can interrupt it."""

import time
from collections.abc import Sequence
from pathlib import Path

from evalfleet_worker.engine.load import load_engine
from evalfleet_worker.protocol import RunSpec
from evalfleet_worker.requests import Answer, Engine, Request

PAUSE_SECONDS = 3.0


class SlowEngine:
    """Scores as the real engine does, but takes its time."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.device = engine.device

    def score(self, requests: Sequence[Request]) -> list[Answer]:
        answers = self._engine.score(requests)
        time.sleep(PAUSE_SECONDS)
        return answers


def load(run: RunSpec, cache: Path) -> SlowEngine:
    """Engine factory."""
    return SlowEngine(load_engine(run, cache))
