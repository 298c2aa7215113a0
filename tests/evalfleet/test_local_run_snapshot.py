"""The progress of a local run as it is shown."""

from evalfleet.local.run.snapshot import Snapshot, snapshot
from evalfleet_worker.protocol import Progress


def answer(seen: int, own: int) -> Progress:
    return Progress("r", "w", "Scoring", 10, seen // 10, 100, seen, 2.0, 20.0, units_own=own // 10, requests_own=own)


def test_what_workers_did_counts_before_the_others_have_seen_it() -> None:
    before = Snapshot(100, 10, 0.0, (), 0.0)
    assert snapshot(before, [("a", answer(30, 30)), ("b", answer(20, 20))], 5.0).requests_done == 50
    assert snapshot(before, [("a", answer(70, 30)), ("b", None)], 5.0).requests_done == 70
    assert snapshot(before, [("a", None)], 5.0).requests_done == 10
