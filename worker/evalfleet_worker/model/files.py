"""Which files of a model folder are its model, and JSON files of it. Torch-free."""

import json
import re
from pathlib import Path
from typing import Any

from evalfleet_worker.protocol import FailureReason, RunError

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
SHARD = re.compile(r"-\d+-of-(\d+)\.safetensors$")
SHOWN = 5


def read_json(file: Path) -> dict[str, Any]:
    """A JSON object from a file of the model; ModelUnreadable when it is missing or damaged."""
    try:
        content = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise RunError(FailureReason.MODEL_UNREADABLE, f"{file} cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise RunError(FailureReason.MODEL_UNREADABLE, f"{file} is no JSON object")
    return content


def weight_map(folder: Path) -> dict[str, str]:
    """The index of a sharded model: file by tensor name; empty where there is no index.

    Raises:
        RunError: ModelUnreadable, when the index maps no tensor to a file name of this folder.
    """
    index = folder / INDEX
    if not index.exists():
        return {}
    content = read_json(index).get("weight_map")
    sound = isinstance(content, dict) and content and all(_is_file_name(name) for name in content.values())
    if not sound:
        raise _unreadable(folder, f"{INDEX} has no weight_map of tensor names to file names")
    return content  # type: ignore[return-value]


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files that transformers loads: `model.safetensors`, else those of the index.

    Raises:
        RunError: ModelUnreadable, when a file is missing that the index or the numbers of the shards name.
    """
    here = {file.name for file in folder.glob("*.safetensors")}
    return [folder / name for name in weight_file_names(here, weight_map(folder), folder)]


def weight_file_names(here: set[str], index: dict[str, str], folder: Any) -> list[str]:
    """Names of the weight files out of the safetensors files that are there; `folder` is for messages."""
    named = sorted(set(index.values()))
    missing = sorted(set(named) - here)
    if missing:
        raise _unreadable(folder, f"lacks {listed(missing)}, which its index names; copy or download the model again")
    if SINGLE in here:
        return [SINGLE]
    if named or not here:
        return named
    shards = sorted(name for name in here if SHARD.search(name))
    if shards:
        raise _unreadable(folder, f"lacks {INDEX}, which says what lies in {listed(shards)}; copy it too")
    raise _unreadable(
        folder, f"holds {listed(sorted(here))}, but neither {SINGLE} nor {INDEX}, which transformers reads"
    )


def listed(names: list[str]) -> str:
    """The first few names and how many there are besides."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def _is_file_name(name: Any) -> bool:
    return isinstance(name, str) and name not in ("", ".", "..") and "/" not in name


def _unreadable(folder: Any, why: str) -> RunError:
    return RunError(FailureReason.MODEL_UNREADABLE, f"{folder} {why}")
