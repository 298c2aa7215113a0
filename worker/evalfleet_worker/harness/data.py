"""Where the data files of a run lie on this machine."""

from pathlib import Path

from evalfleet_worker.protocol import FailureReason, RunError, RunSpec


def data_folder(run: RunSpec) -> Path | None:
    """The local folder of the run's data; None when no `data.uri` is set.

    Raises:
        RunError: DATASET_UNREADABLE when `data.uri` is no folder on this machine.
    """
    if run.data_uri is None:
        return None
    if "://" in run.data_uri and not run.data_uri.startswith("file://"):
        raise RunError(FailureReason.DATASET_UNREADABLE, f"data.uri {run.data_uri!r}: only file:// is read yet")
    folder = Path(run.data_uri.removeprefix("file://"))
    if not folder.is_dir():
        raise RunError(FailureReason.DATASET_UNREADABLE, f"data.uri {run.data_uri!r} is not a folder")
    return folder
