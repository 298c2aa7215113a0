"""A process that says nothing for long: who of those it may wait for does not answer."""

import os
import re
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path

from evalfleet_worker.protocol import RunSpec

SILENCE_SECONDS = 10.0
ANSWER_SECONDS = 3.0
HUB = "https://huggingface.co"
PREFIX = re.compile(r"^[-0-9]+ [:,0-9]+ [A-Z]+ [\w.]+: ")
"""Time, level and logger before a line of the workers' logs."""


def heard(log: Path) -> int:
    """How much a process has said; changes with every word."""
    try:
        return log.stat().st_size
    except OSError:
        return 0


def silence_words(name: str, seconds: float, spec: RunSpec, log: Path) -> str:
    """What is told about a silent process: hubs and stores that do not answer, else its last line."""
    silent = [f"{place} does not answer ({why})" for place in places(spec, os.environ) if (why := refusal(place))]
    told = "; ".join(silent) if silent else f"last: {last_line(log)}"
    return f"{name}: no word for {seconds:.0f} s; {told}; log {log}"


def places(spec: RunSpec, environment: Mapping[str, str]) -> Iterator[str]:
    """Addresses that a run may wait for."""
    needs_model = any(evaluation.python is None for evaluation in spec.evaluations)
    models = (spec.model.uri, spec.model.tokenizer_uri) if needs_model else ()
    uris = [uri for uri in (*models, spec.data_uri, spec.store_uri) if uri]
    if (needs_model and not spec.offline) or any(uri.startswith("hf://") for uri in uris):
        yield environment.get("HF_ENDPOINT") or HUB
    if any(uri.startswith("s3://") for uri in uris):
        region = environment.get("AWS_REGION") or environment.get("AWS_DEFAULT_REGION") or "us-east-1"
        yield environment.get("AWS_ENDPOINT_URL") or f"https://s3.{region}.amazonaws.com"
    if any(uri.startswith("gs://") for uri in uris):
        yield "https://storage.googleapis.com"


def refusal(address: str) -> str:
    """Why an address does not answer a request; empty where it does, whatever the answer says."""
    try:
        request = urllib.request.Request(address, method="HEAD")  # noqa: S310 - the environment's own address
        with urllib.request.urlopen(request, timeout=ANSWER_SECONDS):  # noqa: S310 - as above
            return ""
    except urllib.error.HTTPError:
        return ""
    except (OSError, ValueError) as error:
        return str(getattr(error, "reason", error)) or type(error).__name__


def last_line(log: Path) -> str:
    """The last thing that a process said."""
    try:
        lines = log.read_text("utf-8", errors="replace").splitlines()
    except OSError:
        return "nothing"
    return PREFIX.sub("", lines[-1])[:200] if lines else "nothing"
