"""Where the data files of a run lie on this machine."""

from dataclasses import replace
from pathlib import Path

from evalfleet_worker.model.locate import OBJECT_STORES
from evalfleet_worker.protocol import FailureReason, RunError, RunSpec


def with_local_data(run: RunSpec, cache: Path) -> RunSpec:
    """The run with its data in a local folder: those of an object store are copied into the node cache.

    Raises:
        RunError: DATASET_UNREADABLE when they cannot be copied.
    """
    if run.data_uri is None or run.data_uri.partition("://")[0] not in OBJECT_STORES:
        return run
    from evalfleet_worker.model.download import object_store_copy

    try:
        return replace(run, data_uri=f"file://{object_store_copy(run.data_uri, cache)}")
    except RunError as error:
        raise RunError(FailureReason.DATASET_UNREADABLE, f"data.uri: {error.message}") from error


def data_folder(run: RunSpec) -> Path | None:
    """The local folder of the run's data; None when no `data.uri` is set.

    Raises:
        RunError: DATASET_UNREADABLE when `data.uri` is no folder on this machine.
    """
    if run.data_uri is None:
        return None
    if "://" in run.data_uri and not run.data_uri.startswith("file://"):
        raise RunError(
            FailureReason.DATASET_UNREADABLE,
            f"data.uri {run.data_uri!r}: file://, s3://, gs:// and az:// are read; "
            "a data set of the hub is named in the task, without data.uri",
        )
    folder = Path(run.data_uri.removeprefix("file://"))
    if not folder.is_dir():
        raise RunError(FailureReason.DATASET_UNREADABLE, f"data.uri {run.data_uri!r} is not a folder")
    return folder
