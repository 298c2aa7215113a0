"""Data files that are nearly right: odd line ends, a byte-order mark, holes."""

from dataclasses import replace
from pathlib import Path

import pytest

from evalfleet_worker.harness.tables import read_columns
from evalfleet_worker.protocol import FailureReason, ModelSpec, RunError, RunSpec


def columns(folder: Path, name: str, content: str) -> object:
    (folder / name).write_text(content, "utf-8")
    run = RunSpec("n", "n", "r", "s", ModelSpec("m"), (), data_uri=f"file://{folder}")
    return read_columns(run, name, ["a", "b"])


def test_a_text_may_hold_any_line_end_but_the_newline(tmp_path: Path) -> None:
    found = columns(tmp_path, "x.jsonl", '{"a": "one\u2028two\x85three", "b": 1}\r\n{"a": "four", "b": 2}\n')
    assert found == {"a": ["one\u2028two\x85three", "four"], "b": [1, 2]}


@pytest.mark.parametrize(("name", "content"), [("x.csv", "a,b\n1,2\n"), ("x.jsonl", '{"a": "1", "b": "2"}\n')])
def test_a_byte_order_mark_is_no_part_of_the_first_column(tmp_path: Path, name: str, content: str) -> None:
    assert columns(tmp_path, name, "\ufeff" + content) == {"a": ["1"], "b": ["2"]}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("x.csv", "a,b\n1,2\n3\n"),
        ("x.jsonl", '{"a": 1, "b": 2}\n{"a": 3, "b": null}\n'),
        ("x.jsonl", '{"a": 1, "b": 2}\n{"a": 3}\n'),
    ],
)
def test_a_hole_in_a_column_is_named_and_never_becomes_the_text_none(tmp_path: Path, name: str, content: str) -> None:
    with pytest.raises(RunError, match=r"row 2 has no value in column 'b'") as refused:
        columns(tmp_path, name, content)
    assert refused.value.reason == FailureReason.DATASET_UNREADABLE


def test_a_line_that_is_no_object_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="must be a JSON object"):
        columns(tmp_path, "x.jsonl", "[1, 2]\n")


def test_an_empty_cell_is_refused_until_the_job_says_that_it_is_text(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("a,b\none,two\nthree,\n", "utf-8")
    run = RunSpec("n", "n", "r", "s", ModelSpec("m"), (), data_uri=f"file://{tmp_path}")
    with pytest.raises(RunError, match=r"x\.csv: row 2 has an empty cell in column 'b'.*naValues: Keep"):
        read_columns(run, "x.csv", ["a", "b"])
    assert read_columns(replace(run, na_values="Keep"), "x.csv", ["a", "b"]) == {
        "a": ["one", "three"],
        "b": ["two", ""],
    }
