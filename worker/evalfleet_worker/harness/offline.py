"""`data.offline`: no data set, tokenizer or metric may reach the hub."""

from collections.abc import Iterator
from contextlib import contextmanager

from evalfleet_worker.protocol import RunSpec
from evalfleet_worker.waiting import tell_of_slow_hub

OFFLINE_SWITCHES = (("huggingface_hub.constants", "HF_HUB_OFFLINE"), ("datasets.config", "HF_HUB_OFFLINE"))


@contextmanager
def hub_access(run: RunSpec) -> Iterator[None]:
    """While active and the run is offline, the Hugging Face libraries make no request."""
    if not run.offline:
        tell_of_slow_hub()
        yield
        return
    import importlib
    import os

    before = os.environ.get("HF_HUB_OFFLINE")
    os.environ["HF_HUB_OFFLINE"] = "1"
    modules = [(importlib.import_module(module), name) for module, name in OFFLINE_SWITCHES]
    values = [getattr(module, name) for module, name in modules]
    for module, name in modules:
        setattr(module, name, True)
    try:
        yield
    finally:
        for (module, name), value in zip(modules, values, strict=True):
            setattr(module, name, value)
        if before is None:
            os.environ.pop("HF_HUB_OFFLINE")
        else:
            os.environ["HF_HUB_OFFLINE"] = before
