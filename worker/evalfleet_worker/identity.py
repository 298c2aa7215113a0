"""What a run would read now: digests of its model and of its data. Free of torch, transformers and lm_eval.

Local files are hashed once per state of them (name, size, times, inode); remote ones by the checksums of their listing.
"""

import importlib.util
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from evalfleet_worker.harness.data import data_folder
from evalfleet_worker.model.digest import hashed, model_digest, weights_digest
from evalfleet_worker.model.locate import OBJECT_STORES, locate
from evalfleet_worker.model.memo import content_digest
from evalfleet_worker.model.remote import belongs_to_model, open_remote
from evalfleet_worker.model.resolve import gguf_file
from evalfleet_worker.protocol import EvaluationSpec, ModelSpec, RunIdentity, RunSpec


def run_identity(run: RunSpec, cache: Path) -> RunIdentity:
    """Digests of the model and the data of a run.

    Raises:
        RunError: InvalidModelRef, ModelUnreadable or DatasetUnreadable, when one of them cannot be found.
    """
    needs_model = any(evaluation.python is None for evaluation in run.evaluations)
    return RunIdentity(model_identity(run.model, cache) if needs_model else "", data_identity(run, cache))


def model_identity(model: ModelSpec, cache: Path) -> str:
    """Digest of a model's weights, config, tokenizer and generation defaults."""
    parts = [_place_identity(model.uri, model, cache)]
    if model.tokenizer_uri is not None:
        parts.append(_place_identity(model.tokenizer_uri, ModelSpec(model.tokenizer_uri), cache))
    return hashed(parts)


def _place_identity(uri: str, model: ModelSpec, cache: Path) -> str:
    remote = open_remote(uri, model.revision)
    if remote is not None and remote.sizes:
        return remote.identity()
    place = locate(uri, model.revision, cache)
    gguf = gguf_file(place, model)
    if gguf is not None:
        return content_digest(gguf, cache)
    folder = place if place.is_dir() else place.parent
    others = sorted(file for file in folder.iterdir() if file.is_file() and belongs_to_model(file.name))
    small = {file.name: content_digest(file, cache) for file in others if file.suffix != ".safetensors"}
    has_weights = any(file.suffix == ".safetensors" for file in others)
    weights = model_digest(folder, model, weights_digest(folder, cache)) if has_weights else ""
    return hashed([weights, small])


def data_identity(run: RunSpec, cache: Path) -> str:
    """Digest of the files below `data.uri` that the evaluations name, and of the user's own code."""
    code = [_code_identity(spec.python.entrypoint, cache) for spec in run.evaluations if spec.python is not None]
    if run.data_uri is None:
        return hashed(code) if code else ""
    if run.data_uri.partition("://")[0] in OBJECT_STORES:
        remote = open_remote(run.data_uri, None)
        return hashed([remote.identity(list(remote.sizes)) if remote else run.data_uri, code])
    folder = data_folder(run)
    assert folder is not None
    wanted = {path for evaluation in run.evaluations for path in _data_paths(evaluation)}
    files = sorted({file for path in wanted for file in _files(folder, path)})
    return hashed([[(str(file.relative_to(folder)), content_digest(file, cache)) for file in files], code])


def _data_paths(evaluation: EvaluationSpec) -> Iterator[str]:
    if evaluation.embedding is not None:
        yield evaluation.embedding.dataset
    if evaluation.lm_eval is not None and evaluation.lm_eval.task_config is not None:
        yield from _data_files(evaluation.lm_eval.task_config)


def _data_files(config: Any) -> Iterator[str]:
    """Every path under a `data_files` anywhere in a task config, groups included."""
    if isinstance(config, Mapping):
        for key, value in config.items():
            yield from _texts(value) if key == "data_files" else _data_files(value)
    elif isinstance(config, list | tuple):
        for member in config:
            yield from _data_files(member)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        yield from (text for member in value.values() for text in _texts(member))
    elif isinstance(value, list | tuple):
        yield from (text for member in value for text in _texts(member))


def _files(folder: Path, path: str) -> Iterable[Path]:
    """The file of that name, else what it matches as a pattern; the plan says what is wrong with others."""
    if (folder / path).is_file():
        return [folder / path]
    if Path(path).is_absolute() or ".." in Path(path).parts:
        return []
    return [file for file in folder.glob(path) if file.is_file()]


def _code_identity(entrypoint: str, cache: Path) -> str:
    """Digest of the top module or package that an entrypoint lies in; nothing of it is run."""
    spec = importlib.util.find_spec(entrypoint.partition(":")[0].partition(".")[0])
    if spec is None or spec.origin is None:
        return ""
    origin = Path(spec.origin)
    files = sorted(origin.parent.rglob("*.py")) if spec.submodule_search_locations else [origin]
    return hashed([content_digest(file, cache) for file in files])
