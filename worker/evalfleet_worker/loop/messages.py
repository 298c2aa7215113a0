"""What a worker and its engine process say to each other."""

from collections.abc import Sequence
from dataclasses import dataclass

from evalfleet_worker.protocol import FailureReason
from evalfleet_worker.requests import Answer, Request


@dataclass(frozen=True, slots=True)
class Score:
    """Answer these requests."""

    requests: Sequence[Request]


@dataclass(frozen=True, slots=True)
class Loaded:
    """The engine is ready; `fingerprint` tells which model it holds and `words` how it is run, where it knows."""

    device: str
    seconds: float
    fingerprint: str = ""
    words: str = ""


@dataclass(frozen=True, slots=True)
class Refused:
    """The engine can never be loaded for this run."""

    reason: FailureReason
    message: str


@dataclass(frozen=True, slots=True)
class Answers:
    """The answers of a unit, and the seconds it took."""

    answers: list[Answer]
    seconds: float


@dataclass(frozen=True, slots=True)
class Failed:
    """The unit could not be scored; the engine lives on."""

    reason: FailureReason
    message: str


@dataclass(frozen=True, slots=True)
class Died:
    """The engine process ended; `code` as in subprocess (negative = signal)."""

    code: int
