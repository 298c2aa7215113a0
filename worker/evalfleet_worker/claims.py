"""Addresses of PersistentVolumeClaims (pvc://claim/path) as the folders where this pod has them mounted, and back.

The pod is told by two variables for each claim: EVALFLEET_CLAIM_<n> is its name, EVALFLEET_CLAIM_<n>_PATH the folder. A
path in a variable is right everywhere, also on host nodes, which have no mount namespaces and rewrite variables only.
"""

from collections.abc import Mapping
from dataclasses import replace

from evalfleet_worker.protocol import FailureReason, RunError, RunSpec

SCHEME = "pvc://"
VARIABLE = "EVALFLEET_CLAIM_"


def mounted_folders(environment: Mapping[str, str]) -> dict[str, str]:
    """Folder by claim name."""
    names = {key: value for key, value in environment.items() if key.removeprefix(VARIABLE).isdigit()}
    return {name: environment[f"{key}_PATH"] for key, name in names.items() if f"{key}_PATH" in environment}


def with_folders(run: RunSpec, folders: Mapping[str, str]) -> RunSpec:
    """The run with every pvc:// address as a file:// address.

    Raises:
        RunError: INVALID_MODEL_REF or STORE_UNWRITABLE for a claim that is not mounted.
    """
    model = replace(
        run.model,
        uri=_folder(run.model.uri, folders, FailureReason.INVALID_MODEL_REF),
        tokenizer_uri=_optional(run.model.tokenizer_uri, folders, FailureReason.INVALID_MODEL_REF),
    )
    return replace(
        run,
        model=model,
        store_uri=_folder(run.store_uri, folders, FailureReason.STORE_UNWRITABLE),
        data_uri=_optional(run.data_uri, folders, FailureReason.DATASET_UNREADABLE),
    )


def as_claim(uri: str, folders: Mapping[str, str]) -> str:
    """A file:// address below a mounted claim as people know it: pvc://claim/path."""
    for name, folder in folders.items():
        head = f"file://{folder.rstrip('/')}"
        if uri == head or uri.startswith(f"{head}/"):
            return f"{SCHEME}{name}{uri[len(head) :]}"
    return uri


def _optional(uri: str | None, folders: Mapping[str, str], reason: FailureReason) -> str | None:
    return None if uri is None else _folder(uri, folders, reason)


def _folder(uri: str, folders: Mapping[str, str], reason: FailureReason) -> str:
    if not uri.startswith(SCHEME):
        return uri
    name, _, path = uri.removeprefix(SCHEME).partition("/")
    if name not in folders:
        raise RunError(reason, f"{uri}: claim {name} is not mounted here: pvc:// works in pods of the operator only")
    return f"file://{folders[name].rstrip('/')}/{path}".rstrip("/")
