"""The proof that the stored weights make up the model: made once per node and model, beside other work. Torch-free.

A process of its own has torch build the model without memory (`meta_load`), so that who asks starts and stays light.
"""

import hashlib
import importlib.metadata
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from evalfleet_worker.model.architecture import is_quantized
from evalfleet_worker.model.files import read_json
from evalfleet_worker.model.resolve import ResolvedModel
from evalfleet_worker.model.weights_report import WeightsReport, check_report
from evalfleet_worker.protocol import FailureReason, RunError

DECIDING = ("torch", "transformers")
"""Packages whose versions a proof holds for."""
LAST_WORDS = 300


class WeightsProof:
    """A comparison of weights and model that may be under way; leave the context and it ends.

    Args:
        model: the model.
        is_encoder: compare with the bare model, of which sentence embeddings take the hidden states.
    """

    def __init__(self, model: ResolvedModel, is_encoder: bool) -> None:
        self._model = model
        self._question = {
            "folder": str(model.path),
            "tensors": [[header.name, header.dtype, header.shape] for header in model.headers],
            "is_encoder": is_encoder,
            "trust_remote_code": model.spec.trust_remote_code,
        }
        self._memo = model.cache / "proofs" / _key(self._question, model.path)
        # The names of quantized weights are their method's matter; the engine checks them when it has loaded them.
        self.is_known = self._memo.exists() or is_quantized(model.transformers_config)
        has_torch = "torch" in sys.modules
        self._process = None if self.is_known or has_torch else _start(self._question)

    def __enter__(self) -> "WeightsProof":
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.communicate()

    def check(self) -> None:
        """Wait for the comparison.

        Raises:
            RunError: ModelUnreadable, naming the tensors that are missing, of another shape or foreign.
        """
        if self.is_known:
            return
        try:
            report = _report_here(self._question) if self._process is None else _answer(self._process)
        except Exception as error:  # whatever the model's class raises while it is built
            message = f"{self._model.spec.uri} cannot be built by transformers: {_last(str(error))}"
            raise RunError(FailureReason.MODEL_UNREADABLE, message) from error
        check_report(report, self._model.spec.uri, {header.name: header.shape for header in self._model.headers})
        self._memo.parent.mkdir(parents=True, exist_ok=True)
        self._memo.touch()


def _report_here(question: dict[str, Any]) -> WeightsReport:
    """The report, made in this process, which has loaded torch anyway."""
    from evalfleet_worker.model.meta_load import compare

    return compare(**question)


def _answer(process: "subprocess.Popen[str]") -> WeightsReport:
    answer, words = process.communicate()
    if process.returncode:
        raise RuntimeError(words)
    return WeightsReport(**json.loads(answer))


def _start(question: dict[str, Any]) -> "subprocess.Popen[str]":
    with tempfile.TemporaryFile("w+") as stream:
        json.dump(question, stream)
        stream.flush()
        stream.seek(0)
        return subprocess.Popen(
            [sys.executable, "-m", "evalfleet_worker.model.meta_load"],
            stdin=stream,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )


def _key(question: dict[str, Any], folder: Path) -> str:
    """Hash of all that decides the comparison; the folder counts by its config."""
    content = {**question, "folder": "", "config": read_json(folder / "config.json")}
    content["versions"] = [importlib.metadata.version(package) for package in DECIDING]
    return hashlib.blake2b(json.dumps(content, sort_keys=True).encode(), digest_size=16).hexdigest()


def _last(words: str) -> str:
    lines = [line for line in words.splitlines() if line.strip()]
    return (lines[-1] if lines else "it ended without a word")[:LAST_WORDS]
