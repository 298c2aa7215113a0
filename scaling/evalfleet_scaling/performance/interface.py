"""What is asked of the prediction and what it answers: key, work, finished run, quantiles with their reason."""

from dataclasses import dataclass
from enum import StrEnum
from math import exp, log

from evalfleet_scaling.checks import require_count, require_number
from evalfleet_scaling.errors import ScalingInputError

LONGEST_NAME = 253
LARGEST = 1e30
Z90 = 1.2815515655446004
"""The 90 % point of the standard normal distribution: p10 to p90 is an 80 % interval."""
Z95 = 1.6448536269514722


class InvalidKeyError(ScalingInputError):
    """A name of a key is empty or too long."""


class InvalidWorkError(ScalingInputError):
    """Work is zero, negative or not a number."""


class InvalidRunError(ScalingInputError):
    """A finished run measured nothing, or something that cannot be."""


class Quantity(StrEnum):
    """What is predicted."""

    SCORING_SECONDS = "ScoringSeconds"
    """Device-seconds of scoring, summed over the workers; model already loaded."""
    MEMORY_BYTES = "MemoryBytes"
    """Peak bytes of one engine on the device (the process, on a CPU)."""
    STARTUP_SECONDS = "StartupSeconds"
    """Seconds from the start of the engine process to a loaded, probed model. Nodes and images are not in it."""


class Rung(StrEnum):
    """The most specific thing that the answer rests on, best first."""

    HISTORY = "History"
    SAME_TASK = "SameTask"
    SAME_MODEL = "SameModel"
    SAME_GPU = "SameGpu"
    OTHER_GPU = "OtherGpu"
    ROOFLINE = "Roofline"


@dataclass(frozen=True, slots=True)
class Key:
    """Runs that share a key are expected to cost the same per unit of work.

    Attributes:
        model: identity of the weights, for example the plan's model digest.
        task: identity of what is asked, without its limit; a run of several evaluations is one task of its own.
        gpu: product name of the device as the worker reports it; `cpu` for CPUs.
        engine: whatever else changes speed: engine version, numerics, number of threads.
    """

    model: str
    task: str
    gpu: str
    engine: str

    def __post_init__(self) -> None:
        for label in ("model", "task", "gpu", "engine"):
            name = getattr(self, label)
            if not isinstance(name, str) or not 0 < len(name) <= LONGEST_NAME:
                raise InvalidKeyError(f"{label}: {name!r:.80} is not a name of 1 to {LONGEST_NAME} characters")


@dataclass(frozen=True, slots=True)
class Work:
    """The size of a planned run.

    Attributes:
        flops: arithmetic of the forward passes, shared prefixes counted once.
        memory_bytes: the plan's estimate for weights (4 bytes each) and the smallest step.
        bytes_read: weights read for generated tokens, 4 bytes each.
        other_seconds: predicted seconds of what is no arithmetic (a user's own code), the same on every device.
        units: work units; each costs a little for itself.
    """

    flops: float
    memory_bytes: float
    bytes_read: float = 0.0
    other_seconds: float = 0.0
    units: int = 1

    def __post_init__(self) -> None:
        for label in ("flops", "memory_bytes", "bytes_read", "other_seconds"):
            require_number(InvalidWorkError, label, getattr(self, label))
        require_count(InvalidWorkError, "units", self.units)
        for label in ("flops", "memory_bytes", "bytes_read", "other_seconds", "units"):
            if getattr(self, label) > LARGEST:
                raise InvalidWorkError(f"{label}: no run has more than {LARGEST:.0e}: is the number right?")
        if self.flops + self.bytes_read + self.other_seconds <= 0:
            raise InvalidWorkError("flops, bytes_read and other_seconds are all 0: there is nothing to predict")


@dataclass(frozen=True, slots=True)
class FinishedRun:
    """What a complete run on one kind of device measured; None = not measured.

    Attributes:
        run_id: learning the same run again replaces what was learnt.
        finished_seconds: when, since the epoch. Runs of equal time are ordered by `run_id`.
        scoring_seconds: device-seconds of scoring, summed over workers.
        memory_bytes: peak of one engine.
        startup_seconds: of one engine; the mean where several were started.
    """

    run_id: str
    key: Key
    work: Work
    finished_seconds: float
    scoring_seconds: float | None = None
    memory_bytes: float | None = None
    startup_seconds: float | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.run_id, str) or not 0 < len(self.run_id) <= LONGEST_NAME:
            raise InvalidRunError(f"run_id: {self.run_id!r:.80} is not a name of 1 to {LONGEST_NAME} characters")
        require_number(InvalidRunError, "finished_seconds", self.finished_seconds)
        measured = {quantity: self.measured(quantity) for quantity in Quantity}
        for quantity, value in measured.items():
            if value is None:
                continue
            require_number(InvalidRunError, f"{self.run_id}: {quantity}", value)
            if value == 0:
                raise InvalidRunError(
                    f"{self.run_id}: {quantity}: 0 is no measurement; leave out what was not measured"
                )
        if all(value is None for value in measured.values()):
            raise InvalidRunError(f"{self.run_id}: neither seconds nor bytes were measured: there is nothing to learn")

    def measured(self, quantity: Quantity) -> float | None:
        """The measurement of a quantity."""
        match quantity:
            case Quantity.SCORING_SECONDS:
                return self.scoring_seconds
            case Quantity.MEMORY_BYTES:
                return self.memory_bytes
            case Quantity.STARTUP_SECONDS:
                return self.startup_seconds


@dataclass(frozen=True, slots=True)
class Prediction:
    """Quantiles in seconds or bytes, and what they rest on.

    Attributes:
        runs: earlier runs of exactly this key.
        explanation: which rung answered and how, in one sentence.
    """

    p10: float
    p50: float
    p90: float
    rung: Rung
    runs: int
    explanation: str

    @property
    def relative_error(self) -> float:
        """Standard deviation of the logarithm: what `eta.EtaInput.rate_relative_error` wants."""
        return log(self.p90 / self.p10) / (2 * Z90)

    @property
    def planned(self) -> float:
        """Upper 95 % bound: what deadlines are planned with, as `eta.EtaInput.work_left_gpu_seconds` wants it."""
        return self.p50 * exp(Z95 * self.relative_error)
