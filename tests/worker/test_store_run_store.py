"""The run store: plans that are published once, parts that are committed once, results that one finisher wins."""

from pathlib import Path

import pytest
from protocol_simulation import FaultyObjects, answers, draft, request

from evalfleet_worker.protocol import FailureReason, RunError
from evalfleet_worker.requests import Answer
from evalfleet_worker.store.layout import Layout
from evalfleet_worker.store.objects import open_objects
from evalfleet_worker.store.run_store import RunStore
from evalfleet_worker.tables import read_answers, write_answers


@pytest.fixture(params=["directory", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> RunStore:
    uri = f"file://{tmp_path}" if request.param == "directory" else request.getfixturevalue("s3_store")
    return RunStore.open(uri, "namespace", "run")


def test_the_first_plan_wins_and_the_loser_adopts_it(store: RunStore) -> None:
    first = store.publish_plan(draft(3))
    second = store.publish_plan(draft(4))
    assert second == first == store.read_plan()
    assert [store.read_unit(first, unit) for unit in first.units] == [
        [request(row) for row in range(unit.first_row, unit.first_row + unit.row_count)] for unit in first.units
    ]


def test_a_commit_happens_once_and_a_lost_response_is_recognised(store: RunStore) -> None:
    plan = store.publish_plan(draft(2))
    unit = plan.units[1]
    content = write_answers(answers(unit), {"owner": "mine"})
    assert store.commit(unit, "mine", content)
    assert store.commit(unit, "mine", content), "the owner's own part is a success"
    assert not store.commit(unit, "other", write_answers(answers(unit), {"owner": "other"}))
    assert store.read_answers(plan, unit) == (answers(unit), {"owner": "mine"})
    assert store.units_done(plan) == {1}


def test_a_segment_listing_tells_the_state_of_its_units(store: RunStore) -> None:
    plan = store.publish_plan(draft(4))
    layout = store.layout
    for path in (layout.claim(0, 0), layout.claim(1, 0), layout.claim(1, 1), layout.freed(1, 1), layout.backup(0)):
        assert store.objects.create(path, b"{}")
    store.commit(plan.units[2], "me", write_answers(answers(plan.units[2]), {"owner": "me"}))
    listing = store.list_segment(0)
    assert (listing.done, listing.backups) == ({2}, {0})
    assert (listing.claims[0].epoch, listing.claims[0].freed) == (0, False)
    assert (listing.claims[1].epoch, listing.claims[1].freed, listing.claims[1].losses) == (1, True, 1)


def test_one_finisher_wins_and_claims_and_units_go(store: RunStore) -> None:
    plan = store.publish_plan(draft(2))
    store.commit(plan.units[0], "me", write_answers(answers(plan.units[0]), {"owner": "me"}))
    first = store.publish_results({"results.json": b"1"}, {"outcome": "Complete"})
    second = store.publish_results({"results.json": b"2"}, {"outcome": "Complete"})
    assert second == first == store.read_summary()
    assert store.read_result("results.json") == b"1"
    assert store.units_done(plan) == set()


def test_a_damaged_document_is_refused(store: RunStore) -> None:
    planned = draft(1)
    plan = store.publish_plan(type(planned)(planned.report, planned.units, {"notes.txt": b"right"}))
    assert store.read_document(plan, "notes.txt") == b"right"
    store.objects.put(store.layout.plan_file(plan.attempt, "notes.txt"), b"wrong")
    with pytest.raises(RunError, match=r"notes\.txt of the plan is missing or damaged"):
        store.read_document(plan, "notes.txt")


def test_a_store_that_lets_two_writers_create_one_object_is_refused() -> None:
    class Lax(FaultyObjects):
        def create(self, path: str, content: bytes) -> bool:
            self.put(path, content)
            return True

    with pytest.raises(RunError, match="conditional writes") as refused:
        RunStore(Lax(), Layout("n", "r")).probe()
    assert refused.value.reason == FailureReason.STORE_NOT_EXCLUSIVE


def test_a_path_below_a_file_cannot_be_a_store(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(Exception, match="file"):
        open_objects(f"file://{tmp_path}/file/store").create("a", b"")


def test_answers_of_every_kind_survive_the_table() -> None:
    kinds = [
        Answer(0, log_probability=-1.5, is_greedy=True),
        Answer(1, text="drei Wörter\n"),
        Answer(2, vector=(0.25, -1.0)),
        Answer(3, value='{"a": 1}'),
    ]
    content = write_answers(kinds, {"owner": "me"})
    assert read_answers(content) == (kinds, {"owner": "me"})
    assert content == write_answers(kinds, {"owner": "me"}), "the same content gives the same bytes"
    with pytest.raises(ValueError, match="parquet"):
        read_answers(content[:-20])
