"""Tables in Markdown: a column for every member, nothing where there is none."""

from evalfleet_lab.markdown import table_of


def test_rows_with_other_members_share_a_table() -> None:
    assert table_of([{"a": 1, "b": None}, {"a": 2.5, "c": "x"}]) == [
        "| a | b | c |",
        "|---|---|---|",
        "| 1 |  |  |",
        "| 2.5 |  | x |",
    ]
