"""Data of a run in an object store: copied to the node, anew when they have changed."""

from pathlib import Path

import obstore
import pytest
from obstore.store import from_url

from evalfleet_worker.harness.data import data_folder, with_local_data
from evalfleet_worker.harness.tables import read_columns
from evalfleet_worker.protocol import FailureReason, ModelSpec, RunError, RunSpec


def run_with(data_uri: str) -> RunSpec:
    return RunSpec("n", "n", "r", "s", ModelSpec("m"), (), data_uri=data_uri)


def test_data_in_an_object_store_are_read_and_read_anew_when_they_change(s3_store: str, tmp_path: Path) -> None:
    for text in ("first", "second"):
        obstore.put(from_url(f"{s3_store}/data"), "sets/x.jsonl", f'{{"a": "{text}"}}\n'.encode())
        local = with_local_data(run_with(f"{s3_store}/data"), tmp_path)
        assert read_columns(local, "sets/x.jsonl", ["a"]) == {"a": [text]}


def test_data_that_are_not_there_are_named(s3_store: str, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=f"no object below {s3_store}/nothing") as refused:
        with_local_data(run_with(f"{s3_store}/nothing"), tmp_path)
    assert refused.value.reason == FailureReason.DATASET_UNREADABLE


def test_a_local_folder_stays_where_it_is(tmp_path: Path) -> None:
    run = run_with(f"file://{tmp_path}")
    assert with_local_data(run, tmp_path / "cache") == run
    assert data_folder(run) == tmp_path


def test_a_scheme_that_is_not_read_says_what_is(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="s3://, gs:// and az:// are read") as refused:
        data_folder(with_local_data(run_with("hf://org/data"), tmp_path))
    assert refused.value.reason == FailureReason.DATASET_UNREADABLE
