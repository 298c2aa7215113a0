"""What the shell and the workers say to each other: frozen dataclasses with a JSON form, torch-free."""

import dataclasses
import hashlib
import json
import math
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import IntEnum, StrEnum
from typing import Any, TypeVar

PROTOCOL_VERSION = 1

T = TypeVar("T")


class ExitCode(IntEnum):
    """Exit codes of the worker commands; `podFailurePolicy` is written against them."""

    DONE = 0
    """Nothing is left to do in this run."""
    ERROR = 1
    """Unexpected error: worth another try."""
    FATAL = 64
    """The run can never succeed as it is (wrong model path, refused task, ...): do not retry."""
    UNSUITABLE = 69
    """This worker cannot compute this run where it is (no usable accelerator, another number type): try elsewhere."""
    BROKEN_WORKER = 70
    """This machine fails whatever it is given (device errors, hangs, no memory): replace the worker on another node."""
    UNKNOWN_PROTOCOL = 76
    """The run or its plan is of a protocol version that this worker does not know: nothing is wrong with the run."""
    DISRUPTED = 75
    """The worker gave up its place in time (notice, store unreachable): not a failure."""
    TERMINATED = 143
    """SIGTERM: not a failure."""


class FailureReason(StrEnum):
    """Why a plan, a unit or a finish failed. The same words become condition reasons in Kubernetes."""

    INVALID_MODEL_REF = "InvalidModelRef"
    MODEL_UNREADABLE = "ModelUnreadable"
    DATASET_UNREADABLE = "DatasetUnreadable"
    INVALID_TASK = "InvalidTask"
    UNSUPPORTED_TASK = "UnsupportedTask"
    REMOTE_CODE_FORBIDDEN = "RemoteCodeForbidden"
    UNSAFE_CODE_FORBIDDEN = "UnsafeCodeForbidden"
    ENDPOINT_FORBIDDEN = "EndpointForbidden"
    PLAN_CHANGED = "PlanChanged"
    STORE_NOT_EXCLUSIVE = "StoreNotExclusive"
    STORE_UNWRITABLE = "StoreUnwritable"
    STORE_FULL = "StoreFull"
    STORE_CORRUPT = "StoreCorrupt"
    STORE_UNAVAILABLE = "StoreUnavailable"
    OUT_OF_MEMORY = "OutOfMemory"
    NOT_FINITE = "NotFinite"
    """An answer is NaN or infinite: the number type overflowed, or the weights hold such numbers."""
    NO_USABLE_ACCELERATOR = "NoUsableAccelerator"
    """A GPU was given or asked for, and torch cannot compute on it."""
    OTHER_NUMERICS = "OtherNumerics"
    """The worker would compute in another numerics class than the run: its answers must not be mixed in."""
    DEVICE_FAILED = "DeviceFailed"
    """The accelerator or a library of it (CUDA, cuBLAS, cuDNN, NCCL) failed."""
    ENGINE_HUNG = "EngineHung"
    """The engine did not answer within the watchdog's limit and was ended."""
    ENGINE_CRASHED = "EngineCrashed"
    SAMPLES_FAILED = "SamplesFailed"
    PROTOCOL_UNKNOWN = "ProtocolUnknown"
    """Another version wrote the run or its plan."""
    INCOMPLETE = "Incomplete"
    INTERNAL_ERROR = "InternalError"


class RunOutcome(StrEnum):
    """How a run ended; the same words become condition reasons in Kubernetes."""

    COMPLETE = "Complete"
    """Every evaluation has its score."""
    SAMPLES_FAILED = "SamplesFailed"
    """Units were given up: the evaluations that need them have no score, all others have theirs."""
    SOME_EVALUATIONS_FAILED = "SomeEvaluationsFailed"
    """Evaluations failed of themselves (their task, metric or data): they have no score, all others have theirs."""
    INCOMPLETE = "Incomplete"
    """Units are left: nothing is published."""


class RunError(Exception):
    """An error that a person can act on: a reason for machines and a sentence that says what to do."""

    def __init__(self, reason: FailureReason, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


class BrokenWorkerError(RunError):
    """This worker cannot go on, another one may: the reason is the machine's, not the run's."""


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """Which model, in which form. `uri` as in the API: hf://, s3://, gs://, az://, file:// or a mounted path."""

    uri: str
    revision: str | None = None
    format: str = "Auto"
    dtype: str = "Auto"
    quantization: str | None = None
    adapter_uri: str | None = None
    tokenizer_uri: str | None = None
    chat_template: str | None = None
    add_bos_token: bool | None = None
    prefix_token_id: int | None = None
    max_length: int | None = None
    """Longest input in tokens, where it is to be less than the model's own."""
    trust_remote_code: bool = False
    """Both keys (job and policy) are given; decided by the shell."""


@dataclass(frozen=True, slots=True)
class LmEvalSpec:
    """One lm-evaluation-harness task (by name) or inline task config, with the overrides of `simple_evaluate`."""

    task: str | None = None
    task_config: Mapping[str, Any] | None = None
    num_few_shot: int | None = None
    limit: int | None = None
    apply_chat_template: bool = False
    few_shot_as_multiturn: bool | None = None
    """None: as lm-eval, true with a chat template."""
    system_instruction: str | None = None
    generation: Mapping[str, Any] | None = None
    """Overrides of `generation_kwargs` (until, max_gen_toks, temperature, do_sample, ...)."""
    repeats: int | None = None
    samples: tuple[int, ...] | None = None
    """0-based indices of the documents to evaluate; None = all, or `limit`."""
    few_shot_seed: int = 1234
    predict_only: bool = False
    """Keep the answers and compute no metric."""
    chat_template_arguments: Mapping[str, Any] = field(default_factory=dict)
    enable_thinking: bool | None = None
    think_end_token: str | None = None


@dataclass(frozen=True, slots=True)
class EmbeddingSpec:
    """Sentence-pair similarity: cosine of two embedded columns, correlated with a gold score column."""

    dataset: str
    pair_columns: tuple[str, str] = ("sentence1", "sentence2")
    score_column: str = "score"
    pooling: str = "Mean"
    metric: str = "Spearman"
    limit: int | None = None


@dataclass(frozen=True, slots=True)
class PythonSpec:
    """A user's own evaluation: `module:function` that returns a `PythonEvaluation`."""

    entrypoint: str
    parameters: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class EvaluationSpec:
    """One named evaluation of a run: exactly one of the harness members is set."""

    name: str
    lm_eval: LmEvalSpec | None = None
    embedding: EmbeddingSpec | None = None
    python: PythonSpec | None = None


@dataclass(frozen=True, slots=True)
class EngineSpec:
    """Numerics class and limits of the engine. `max_tokens_per_step` None = from memory."""

    numerics: str = "Fast"
    max_tokens_per_step: int | None = None
    tensor_parallel_size: int = 1
    devices_per_worker: int = 1
    """The largest `countPerWorker` of the pools that may be used."""


@dataclass(frozen=True, slots=True)
class Numerics:
    """The class of arithmetic that a run is computed in: equal members may share answers, others must not be mixed.

    `Fast` fixes engine, dtype and kind of device; `Strict` also what decides the last bits.
    """

    engine: str = "Transformers"
    dtype: str = ""
    """Float32, BFloat16 or Float16; empty where only user code runs."""
    device_kind: str = ""
    """cpu or cuda."""
    quantization: str = ""
    strict: bool = False
    product: str = ""
    """Of the device; empty = not known to the plan. This and what follows in `Strict` only."""
    torch: str = ""
    kernels: str = ""
    step_tokens: int = 0
    """Tokens per step: every worker packs alike."""

    def __str__(self) -> str:
        """One line, for request keys and people: for example `Fast Transformers BFloat16 cuda`."""
        steps = f"{self.step_tokens} tokens" if self.step_tokens else ""
        members = (self.engine, self.dtype, self.device_kind, self.quantization, self.product, self.torch, self.kernels)
        return " ".join(filter(None, ("Strict" if self.strict else "Fast", *members, steps)))


@dataclass(frozen=True, slots=True)
class RunSpec:
    """Everything the plan, work and finish commands need to know about one run."""

    namespace: str
    name: str
    run_id: str
    store_uri: str
    model: ModelSpec
    evaluations: tuple[EvaluationSpec, ...]
    engine: EngineSpec = EngineSpec()
    data_uri: str | None = None
    na_values: str = "Refuse"
    """What words as NA mean in a column that is used: Refuse (say so, and stop) or Keep (text)."""
    offline: bool = False
    seed: int = 0
    allow_unsafe_code: bool = False
    """Both keys (`confirmRunUnsafeCode` and the policy's) are given; decided by the shell."""
    allowed_endpoints: tuple[str, ...] | None = None
    """Prefixes of what variables of its pods may name as a place to fetch from; None = anything."""
    unit_seconds: float = 5.0
    """Predicted seconds of work per unit on the slowest place it may run; 2 to 10."""
    device_kind: str = "Auto"
    """What workers compute on: cpu or cuda. Auto: the plan takes what its own machine has."""
    accelerators: tuple[str, ...] = ()
    """Products of the GPUs that workers may get, where known: they decide which number types `Auto` may take."""
    resolved: Numerics | None = None
    """The class that the plan chose, as a worker hands it to its engine; never set by who asks for a run."""
    version: int = PROTOCOL_VERSION

    def digest(self) -> str:
        """Hex digest (16 bytes) of all that decides the result: name, place, permits and unit size left out."""
        content = to_json(self)
        beside = (
            "namespace",
            "name",
            "run_id",
            "store_uri",
            "allowed_endpoints",
            "unit_seconds",
            "resolved",
            "version",
        )
        for place in beside:
            content.pop(_camel(place))
        canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
        return hashlib.blake2b(canonical.encode(), digest_size=16).hexdigest()


@dataclass(frozen=True, slots=True)
class RunIdentity:
    """Digests of what a run reads, so that a change under the same name is another run. Empty where nothing is read."""

    model: str
    data: str


@dataclass(frozen=True, slots=True)
class EvaluationFailure:
    """Why an evaluation has no score, or will have none."""

    evaluation: str
    reason: str
    """A `FailureReason`."""
    message: str


@dataclass(frozen=True, slots=True)
class PlanReport:
    """The size of a planned run, known before a GPU exists."""

    run_id: str
    requests: int
    tokens: int
    cached_requests: int
    units: int
    predicted_seconds: float
    """One worker's predicted scoring time on the reference device of the plan [s]."""
    flops: float
    """Arithmetic; a prefix that requests of one unit share is computed once."""
    memory_bytes: int
    model_digest: str
    requests_digest: str
    samples: int
    bytes_read: float = 0.0
    """Weights read for generated tokens, 4 bytes each: what generation is bound by on a GPU."""
    model_shape: str = ""
    """What of the model decides its speed: equal for all checkpoints of one architecture. Empty without a model."""
    numerics: str = ""
    """The numerics class of the run, in words."""
    messages: tuple[str, ...] = ()
    """What a person should know before the run is paid for."""
    refused: tuple[EvaluationFailure, ...] = ()
    """Evaluations that cannot be scored as they are written; the others are planned."""
    version: int = PROTOCOL_VERSION


@dataclass(frozen=True, slots=True)
class Progress:
    """One worker's answer to `GET /progress`; counts are of the whole run as far as this worker has seen it."""

    run_id: str
    worker: str
    state: str
    """Starting, LoadingModel, Scoring, Waiting, Stopping or Done."""
    units_total: int
    units_done: int
    requests_total: int
    requests_done: int
    requests_per_second: float
    """This worker's own smoothed rate."""
    tokens_per_second: float
    device: str = ""
    model_load_seconds: float = 0.0
    scoring_seconds: float = 0.0
    wasted_seconds: float = 0.0
    failures: int = 0
    units_own: int = 0
    """Units that this worker committed; the sum over all workers may be ahead of what each has seen."""
    requests_own: int = 0
    gpu_utilization_percent: float | None = None
    gpu_memory_bytes: int | None = None
    """Used memory of the worker's GPU; None where there is no GPU."""
    engine: str = ""
    """Numerics class and the way in which the model is run, in words; empty until it is loaded."""
    version: int = PROTOCOL_VERSION


@dataclass(frozen=True, slots=True)
class Result:
    """One published number, by its whole name: evaluation, task, filter and metric.

    `low` and `high` bound the 95 % interval described by `method`, which also says why there is none.
    """

    evaluation: str
    metric: str
    value: float | None
    """None where the metric is undefined, as a correlation of constants."""
    standard_error: float | None
    low: float | None
    high: float | None
    n: int
    method: str = ""
    filter: str = ""
    task: str = ""
    group: str = ""
    """The group of tasks whose number this one is part of; empty for an evaluation's own numbers."""


@dataclass(frozen=True, slots=True)
class SampleCounts:
    """The proof line of a run: what was planned, what was counted, and how double executions compared."""

    planned: int
    scored: int
    executed_twice: int = 0
    mismatched: int = 0
    failed: int = 0


@dataclass(frozen=True, slots=True)
class TimeLedger:
    """Where the worker time of a run went [s]."""

    plan_seconds: float = 0.0
    model_load_seconds: float = 0.0
    scoring_seconds: float = 0.0
    wasted_seconds: float = 0.0
    finish_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Proof:
    """What was looked at in every answer before a score was published.

    Attributes:
        units: committed units that were read.
        model: fingerprint of the model that answered all of them; empty where the engine knows none.
        finite_answers: answers with a number, every one of which is finite.
        distinct_log_probabilities: different values among the scored log-probabilities; 0 where nothing is scored.
    """

    units: int = 0
    model: str = ""
    finite_answers: int = 0
    distinct_log_probabilities: int = 0


@dataclass(frozen=True, slots=True)
class FinishReport:
    """The outcome of a run; the full results lie at `results_uri`."""

    run_id: str
    outcome: str
    """A `RunOutcome`."""
    results: tuple[Result, ...]
    samples: SampleCounts
    time: TimeLedger
    results_uri: str
    digest: str = ""
    units_left: int = 0
    truncated: int = 0
    """Results left out of a termination message for lack of room; summary.json holds all of them."""
    messages: tuple[str, ...] = ()
    """What a person should know: why evaluations have no score, and warnings about those that have one."""
    failed: tuple[EvaluationFailure, ...] = ()
    proof: Proof = Proof()
    engine: tuple[str, ...] = ()
    """Numerics class and the way in which the model was run, in words; one member unless workers differed."""
    published: str = ""
    """When somebody published it before who asks now (RFC 3339); empty = it was made just now."""
    version: int = PROTOCOL_VERSION


@dataclass(frozen=True, slots=True)
class ErrorReport:
    """The termination message of a command that failed."""

    reason: FailureReason
    message: str
    version: int = PROTOCOL_VERSION


def to_json(value: Any) -> Any:
    """JSON-ready form of a protocol dataclass: camelCase keys, tuples as lists, enums by value."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {_camel(f.name): to_json(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): to_json(member) for key, member in value.items()}
    if isinstance(value, list | tuple):
        return [to_json(member) for member in value]
    return value


def dumps(value: Any) -> str:
    """One line of JSON for a protocol dataclass.

    Raises:
        ValueError: a number in it is none (NaN, infinite).
    """
    return json.dumps(to_json(value), separators=(",", ":"), allow_nan=False)


def fitting(report: Any, limit_bytes: int) -> str:
    """The JSON of a report within a limit.

    What does not fit gives way in this order: digits and members that have their default, results that are part of a
    group's number, other results (both from the end, and counted), words.
    """
    text = dumps(report)
    if len(text.encode()) <= limit_bytes:
        return text
    results = sorted(getattr(report, "results", ()), key=lambda result: bool(result.group))
    kept = len(results)
    shown = replace(report, results=tuple(results)) if results else report
    while len((text := _compact_dumps(shown)).encode()) > limit_bytes and kept:
        kept -= 1
        shown = replace(report, results=tuple(results[:kept]), truncated=len(results) - kept)
    longest = max(map(len, _words(report)), default=0)
    while len(text.encode()) > limit_bytes and longest > 1:
        longest //= 2
        text = _compact_dumps(_with_words(shown, longest))
    return text


def _compact_dumps(report: Any) -> str:
    return json.dumps(_compact(report), separators=(",", ":"), allow_nan=False)


def _compact(value: Any) -> Any:
    """As `to_json`, without members that have their default, and with six digits of every number."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        members = ((f, getattr(value, f.name)) for f in dataclasses.fields(value))
        return {_camel(f.name): _compact(member) for f, member in members if member != f.default}
    if isinstance(value, list | tuple):
        return [_compact(member) for member in value]
    return float(f"{value:.6g}") if isinstance(value, float) else to_json(value)


def _words(report: Any) -> tuple[str, ...]:
    failed = (failure.message for failure in getattr(report, "failed", ()))
    return (getattr(report, "message", ""), *getattr(report, "messages", ()), *failed)


def _with_words(report: Any, longest: int) -> Any:
    """The report with every message cut to `longest` characters, and at most so many of them."""
    changes: dict[str, Any] = {}
    if hasattr(report, "message"):
        changes["message"] = _cut(report.message, longest)
    if hasattr(report, "messages"):
        changes["messages"] = tuple(_cut(message, longest) for message in report.messages[:longest])
    if hasattr(report, "failed"):
        failed = report.failed[:longest]
        changes["failed"] = tuple(replace(failure, message=_cut(failure.message, longest)) for failure in failed)
    return replace(report, **changes) if changes else report


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else f"{text[:longest]} ..."


def require_version(content: object, what: str) -> None:
    """Refuse what another protocol version wrote, before anything else of it is read.

    Raises:
        RunError: PROTOCOL_UNKNOWN.
    """
    version = content.get("version", PROTOCOL_VERSION) if isinstance(content, Mapping) else PROTOCOL_VERSION
    if version != PROTOCOL_VERSION:
        message = f"{what} is of protocol version {version}, this worker knows {PROTOCOL_VERSION}"
        raise RunError(FailureReason.PROTOCOL_UNKNOWN, f"{message}: its image and the run's are of different versions")


def loads(kind: type[T], text: str | bytes) -> T:
    """Read a protocol dataclass from JSON; unknown keys are ignored.

    Raises:
        ValueError: not JSON, not an object, or a required key is missing.
    """
    try:
        content = json.loads(text)
    except RecursionError as error:
        raise ValueError(f"{kind.__name__}: nested too deeply") from error
    return from_json(kind, content)


def from_json(kind: type[T], content: Mapping[str, Any]) -> T:
    """Build a protocol dataclass from its JSON form; unknown keys are ignored, missing ones take their default."""
    if not isinstance(content, Mapping):
        raise ValueError(f"{kind.__name__}: expected a JSON object, got {type(content).__name__}")  # noqa: TRY004
    hints = typing.get_type_hints(kind)
    known = {f.name: content[_camel(f.name)] for f in dataclasses.fields(kind) if _camel(f.name) in content}  # type: ignore[arg-type]
    try:
        return kind(
            **{name: _convert(hints[name], member, f"{kind.__name__}.{name}") for name, member in known.items()}
        )
    except TypeError as error:
        raise ValueError(f"{kind.__name__}: {error}") from error


def _convert(hint: Any, value: Any, where: str) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        return None if value is None else _convert(next(a for a in arguments if a is not type(None)), value, where)
    if origin is tuple and isinstance(value, list | tuple):
        return tuple(_convert(arguments[0], member, where) for member in value)
    if dataclasses.is_dataclass(hint):
        return from_json(hint, value)  # type: ignore[arg-type]
    if isinstance(hint, type) and issubclass(hint, StrEnum):
        return hint(value)
    return _scalar(hint, value, where)


def _scalar(hint: Any, value: Any, where: str) -> Any:
    """A number, text or truth value of exactly that kind; other kinds of hints take any JSON value."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if hint is float and is_number:
        return _finite(float(value), where)
    fits = hint not in (str, int, float, bool) or (
        isinstance(value, hint) and (hint is bool or not isinstance(value, bool))
    )
    if not fits or (isinstance(origin := typing.get_origin(hint), type) and not isinstance(value, origin)):
        raise ValueError(f"{where}: {type(value).__name__} is not what it should be")
    return value


def _finite(value: float, where: str) -> float:
    if not math.isfinite(value):
        raise ValueError(f"{where}: {value} is no number")
    return value


def _camel(name: str) -> str:
    head, *tail = name.split("_")
    return head + "".join(part.capitalize() for part in tail)
