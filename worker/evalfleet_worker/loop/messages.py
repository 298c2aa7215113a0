"""What a worker and its engine process say to each other."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from evalfleet_worker.protocol import FailureReason
from evalfleet_worker.requests import Answer, Request


class FailureKind(StrEnum):
    """Whose a failure is."""

    WORK = "work"
    """Of the requests, the task or the user's code: another try somewhere else would fail too."""
    MACHINE = "machine"
    """Of the device, its memory or this host: it counts for the worker alone."""
    CRASH = "crash"
    """The process ended without a word: could be either."""


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
    """The engine cannot be loaded: never for this run, or not on this machine."""

    reason: FailureReason
    message: str
    of_machine: bool = False


@dataclass(frozen=True, slots=True)
class Answers:
    """The answers of a unit, and the seconds it took."""

    answers: list[Answer]
    seconds: float


@dataclass(frozen=True, slots=True)
class Failed:
    """The unit could not be scored.

    Attributes:
        reason: for machines.
        message: for people.
        kind: whose failure it is.
        fatal: no other worker and no second try would succeed.
        restart: the engine process is of no use any more.
    """

    reason: FailureReason
    message: str
    kind: FailureKind
    fatal: bool = False
    restart: bool = False


@dataclass(frozen=True, slots=True)
class Hung:
    """The engine process did not answer for so many seconds, and was ended."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Died:
    """The engine process ended; `code` as in subprocess (negative = signal)."""

    code: int
