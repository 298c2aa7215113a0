"""Whose a failure is: of the work (it fails everywhere) or of the machine (it says nothing about the work). Pure."""

from collections.abc import Sequence
from enum import StrEnum

from evalfleet_worker.engine.memory import is_out_of_memory
from evalfleet_worker.loop.messages import Failed, FailureKind
from evalfleet_worker.protocol import FailureReason, RunError
from evalfleet_worker.requests import Request, RequestType

LONGEST_MESSAGE = 2_000
"""Characters of an error's own words that are kept: some quote whole documents."""

FATAL = frozenset(
    {
        FailureReason.INVALID_TASK,
        FailureReason.UNSUPPORTED_TASK,
        FailureReason.DATASET_UNREADABLE,
        FailureReason.REMOTE_CODE_FORBIDDEN,
        FailureReason.UNSAFE_CODE_FORBIDDEN,
    }
)
"""Reasons by which nobody else would succeed: the first one ends the evaluation."""

OF_THE_MACHINE = frozenset(
    {
        FailureReason.OUT_OF_MEMORY,
        FailureReason.DEVICE_FAILED,
        FailureReason.NOT_FINITE,
        FailureReason.NO_USABLE_ACCELERATOR,
    }
)
DEVICE_TYPES = frozenset({"AcceleratorError", "CudaError", "DistBackendError", "DistNetworkError"})
DEVICE_WORDS = (
    "cuda error",
    "cuda driver",
    "cuda initialization",
    "no cuda gpus are available",
    "cublas_status",
    "cudnn_status",
    "cudnn error",
    "cusolver_status",
    "cusparse_status",
    "cufft_status",
    "nccl error",
    "nccl failure",
    "hip error",
    "rocblas_status",
    "miopenstatus",
    "device-side assert",
    "illegal memory access",
    "triton error [cuda]",
)


class DeviceTrouble(StrEnum):
    """What an exception says about the device."""

    NONE = "none"
    MEMORY = "memory"
    STICKY = "sticky"
    """The context of the device is lost: every further call of this process fails."""


def failure_of(error: Exception, requests: Sequence[Request]) -> Failed:
    """Whose the failure of a unit is."""
    if isinstance(error, RunError):
        return _of_run_error(error, requests)
    match device_trouble(error):
        case DeviceTrouble.MEMORY:
            return Failed(FailureReason.OUT_OF_MEMORY, words(error), FailureKind.MACHINE)
        case DeviceTrouble.STICKY:
            return Failed(FailureReason.DEVICE_FAILED, words(error), FailureKind.MACHINE, restart=True)
    reason = FailureReason.INVALID_TASK if _is_users_code(requests) else FailureReason.INTERNAL_ERROR
    return Failed(reason, _placed(words(error), requests), FailureKind.WORK)


def device_trouble(error: BaseException) -> DeviceTrouble:
    """Whether the device failed, by the type or the words of an error of torch and the libraries below it."""
    message = str(error).lower()
    named = type(error).__name__ in DEVICE_TYPES
    if is_out_of_memory(error):
        return DeviceTrouble.MEMORY
    if named or (isinstance(error, RuntimeError | OSError) and any(said in message for said in DEVICE_WORDS)):
        return DeviceTrouble.STICKY
    return DeviceTrouble.NONE


def words(error: BaseException) -> str:
    """Type and message of an error, cut to a length."""
    return f"{type(error).__name__}: {error}"[:LONGEST_MESSAGE]


def _of_run_error(error: RunError, requests: Sequence[Request]) -> Failed:
    machine = error.reason in OF_THE_MACHINE and not (
        error.reason is FailureReason.NOT_FINITE and _is_users_code(requests)
    )
    if machine:
        restart = error.reason is FailureReason.DEVICE_FAILED
        return Failed(error.reason, error.message, FailureKind.MACHINE, restart=restart)
    return Failed(error.reason, error.message, FailureKind.WORK, fatal=error.reason in FATAL)


def _is_users_code(requests: Sequence[Request]) -> bool:
    return bool(requests) and requests[0].type is RequestType.CALL


def _placed(text: str, requests: Sequence[Request]) -> str:
    """With the evaluation in front; which of the unit's requests it was, the error alone may know."""
    return f"{requests[0].evaluation}: {text}" if requests and _is_users_code(requests) else text
