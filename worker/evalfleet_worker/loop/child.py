"""The engine's process: holds the model, answers units, dies with its parent and never outlives it."""

import ctypes
import importlib
import os
import signal
import sys
import time
from multiprocessing.connection import Connection
from pathlib import Path

from evalfleet_worker.loop.messages import Answers, Failed, Loaded, Refused, Score
from evalfleet_worker.loop.ownership import DeviceTrouble, device_trouble, failure_of, words
from evalfleet_worker.protocol import FailureReason, RunError, RunSpec, loads
from evalfleet_worker.requests import Engine

_PR_SET_PDEATHSIG = 1


def main(arguments: list[str]) -> None:
    """`child FD ENGINE CACHE`; the RunSpec comes as the first message."""
    descriptor, factory, cache = arguments
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the parent decides when to stop
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with Connection(int(descriptor)) as parent:
        try:
            serve(parent, factory, Path(cache))
        except (EOFError, BrokenPipeError, ConnectionResetError):
            os._exit(0)  # the parent is gone: nothing to say, nobody to say it to


def serve(parent: Connection, factory: str, cache: Path) -> None:
    """Load the engine, then answer units until the parent hangs up."""
    run = loads(RunSpec, parent.recv())
    started = time.monotonic()
    try:
        engine = load(factory, run, cache)
        told = (getattr(engine, name, "") for name in ("fingerprint", "words"))
        parent.send(Loaded(engine.device, time.monotonic() - started, *told))
    except RunError as error:
        parent.send(Refused(error.reason, error.message, error.reason is FailureReason.DEVICE_FAILED))
        return
    except Exception as error:  # noqa: BLE001 - whatever loading raises is told in words; another try may succeed
        parent.send(_refusal(error))
        return
    while True:
        request = parent.recv()
        parent.send(_score(engine, request))


def load(factory: str, run: RunSpec, cache: Path) -> Engine:
    """The engine that `module:function` makes."""
    module, function = factory.split(":")
    engine: Engine = getattr(importlib.import_module(module), function)(run, cache)
    return engine


def _score(engine: Engine, request: Score) -> Answers | Failed:
    started = time.monotonic()
    try:
        answers = engine.score(request.requests)
    except Exception as error:  # noqa: BLE001 - whatever a model raises is recorded against its owner, never fatal
        return failure_of(error, request.requests)
    return Answers(answers, time.monotonic() - started)


def _refusal(error: Exception) -> Refused:
    match device_trouble(error):
        case DeviceTrouble.STICKY:
            return Refused(FailureReason.DEVICE_FAILED, words(error), of_machine=True)
        case DeviceTrouble.MEMORY:
            return Refused(FailureReason.OUT_OF_MEMORY, words(error))
    return Refused(FailureReason.ENGINE_CRASHED, words(error))


if __name__ == "__main__":
    main(sys.argv[1:])
