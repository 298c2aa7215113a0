"""From a model URI to a local folder with config, safetensors and tokenizer. Torch-free unless a GGUF is converted.

Schemes: a plain path or `file://PATH`; `package://DISTRIBUTION[/PATH]` (a model that an installed Python distribution
ships); `hf://ORGANISATION/NAME[@REVISION]`; `s3://`, `gs://`, `az://` (downloaded into the node cache).
Files that run code when read (pickled `.bin`, `.pt`, `.pth`) are never opened here.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from evalfleet_worker.model.architecture import load_config
from evalfleet_worker.model.digest import model_digest, model_fingerprint, read_local, weights_digest
from evalfleet_worker.model.facts import ModelFacts, facts_of
from evalfleet_worker.model.files import read_json, weight_files
from evalfleet_worker.model.locate import locate
from evalfleet_worker.model.remote import RemoteModel, open_remote
from evalfleet_worker.model.weights_header import TensorHeader, read_headers
from evalfleet_worker.numerics import checkpoint_dtype
from evalfleet_worker.protocol import FailureReason, ModelSpec, RunError

PICKLED = (".bin", ".pt", ".pth", ".ckpt")


@dataclass(frozen=True)
class ResolvedModel:
    """A model whose config and tokenizer are on this node's disk.

    Attributes:
        spec: what was asked for.
        path: folder with config.json and, unless the model is remote, *.safetensors.
        tokenizer_path: folder with the tokenizer's files; the same folder unless `tokenizerUri` is set.
        headers: of all its tensors.
        cache: node cache, where the digest is remembered.
        remote: where the weights are, if they are not in `path`.
    """

    spec: ModelSpec
    path: Path
    tokenizer_path: Path
    headers: tuple[TensorHeader, ...]
    cache: Path
    remote: RemoteModel | None = None

    @cached_property
    def transformers_config(self) -> Any:
        """The config as transformers reads it.

        Raises:
            RunError: ModelUnreadable for an unknown model type or values that do not fit.
        """
        return load_config(self.path, self.spec.trust_remote_code)

    @cached_property
    def config(self) -> ModelFacts:
        """Facts read from the config and the weight headers."""
        return facts_of(self.transformers_config, self.headers, self.path, self.tokenizer_path)

    @cached_property
    def digest(self) -> str:
        """Hex digest (16 bytes) of everything that decides an answer.

        All weights are read once per node; for remote ones it is taken from the checksums of their listing.
        """
        return model_digest(self.path, self.spec, self._weights_digest())

    def _weights_digest(self) -> str:
        if self.remote is None:
            return weights_digest(self.path, self.cache)
        return self.remote.identity(sorted({str(header.file) for header in self.headers}))

    @cached_property
    def fingerprint(self) -> str:
        """Hex digest (16 bytes) of samples of the model: workers compare it with the planner's at every start."""
        read = self.remote.read_ranges if self.remote else read_local
        return model_fingerprint(self.path, self.spec, self.headers, read)


def describe_model(model: ModelSpec, cache: Path) -> ResolvedModel:
    """The model without its weights where these are remote, for the plan and the finish; else as `resolve_model`.

    Raises:
        RunError: as `resolve_model`.
    """
    remote = open_remote(model.uri, model.revision) if model.format in ("Auto", "SafeTensors") else None
    if remote is None or not remote.is_readable_here:
        return resolve_model(model, cache)
    folder = remote.companions(cache)
    _refuse_adapter(folder)
    _check_code(folder, model)
    names = remote.weight_names(folder)
    if not names:
        raise _no_weights(model.uri, remote.sizes)
    headers = remote.headers(names)
    return ResolvedModel(model, folder, _tokenizer_folder(folder, model, cache), headers, cache, remote)


def resolve_model(model: ModelSpec, cache: Path) -> ResolvedModel:
    """Make the model available in a local folder and read the headers of its weights.

    Args:
        model: URI, revision, format; `trust_remote_code` only when both keys were given.
        cache: node cache; downloads and conversions are kept in `cache/models`.

    Raises:
        RunError: InvalidModelRef (no such place), ModelUnreadable (damaged or incomplete), RemoteCodeForbidden.
    """
    folder = _model_folder(locate(model.uri, model.revision, cache), model, cache)
    tokenizer = _tokenizer_folder(folder, model, cache)
    _check_code(folder, model)
    headers = tuple(header for file in weight_files(folder) for header in read_headers(file))
    return ResolvedModel(model, folder, tokenizer, headers, cache)


def _refuse_adapter(folder: Path) -> None:
    """Transformers would apply it where its library is installed, and say nothing where it is not."""
    if (folder / "adapter_config.json").exists():
        raise RunError(
            FailureReason.MODEL_UNREADABLE,
            f"{folder} holds an adapter (adapter_config.json), which this version does not apply: merge it into its "
            "model (merge_and_unload, save_pretrained), or move it away to evaluate the bare model",
        )


def _check_code(folder: Path, model: ModelSpec) -> None:
    if read_json(folder / "config.json").get("auto_map") and not model.trust_remote_code:
        raise RunError(
            FailureReason.REMOTE_CODE_FORBIDDEN,
            f"{model.uri} runs Python code of its own; set model.trustRemoteCode and let the policy allow remote code",
        )


def stored_dtype(model: ResolvedModel) -> str:
    """Number type of the checkpoint, see `checkpoint_dtype`."""
    return checkpoint_dtype(read_json(model.path / "config.json"), model.headers)


def _model_folder(place: Path, model: ModelSpec, cache: Path) -> Path:
    gguf = gguf_file(place, model)
    if gguf is not None:
        from evalfleet_worker.model.convert import convert_gguf

        return convert_gguf(gguf, cache)
    folder = place if place.is_dir() else place.parent
    if model.format == "TorchModule":
        raise RunError(
            FailureReason.INVALID_MODEL_REF,
            "format TorchModule is for user code that loads its own weights (python evaluations), not for this model",
        )
    _refuse_adapter(folder)
    if not (folder / "config.json").exists():
        raise RunError(FailureReason.INVALID_MODEL_REF, f"{folder} holds no config.json: is it a model folder?")
    if not weight_files(folder):
        raise _no_weights(str(folder), [file.name for file in folder.iterdir()])
    return folder


def _no_weights(folder: str, names: Iterable[str]) -> RunError:
    pickled = sorted(name for name in names if name.endswith(PICKLED))
    if pickled:
        return RunError(
            FailureReason.MODEL_UNREADABLE,
            f"{folder} holds its weights as {', '.join(pickled)}, a format that can run code when it is read; "
            "convert the model to safetensors (save_pretrained does)",
        )
    return RunError(FailureReason.MODEL_UNREADABLE, f"{folder} holds no *.safetensors and no *.gguf file")


def gguf_file(place: Path, model: ModelSpec) -> Path | None:
    """The GGUF file to convert, or None when the place holds a safetensors model."""
    if place.is_file():
        return place if place.suffix == ".gguf" else None
    files = sorted(place.glob("*.gguf"))
    if model.format == "SafeTensors" or (model.format == "Auto" and (place / "config.json").exists()):
        return None
    if not files and model.format == "GGUF":
        raise RunError(FailureReason.INVALID_MODEL_REF, f"format GGUF, but {place} holds no *.gguf file")
    if len(files) > 1:
        names = ", ".join(file.name for file in files)
        raise RunError(FailureReason.INVALID_MODEL_REF, f"{place} holds several GGUF files; name one of {names}")
    return files[0] if files else None


def _tokenizer_folder(folder: Path, model: ModelSpec, cache: Path) -> Path:
    if model.tokenizer_uri is None:
        return folder
    remote = open_remote(model.tokenizer_uri, None)
    if remote is not None and remote.sizes:
        return remote.companions(cache)
    place = locate(model.tokenizer_uri, None, cache)
    return place if place.is_dir() else place.parent
