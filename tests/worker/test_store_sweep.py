"""Reading many objects and sweeping them, on a directory and on an S3 server."""

import secrets
import threading
import time
from pathlib import Path

import pytest

from evalfleet_worker.store.objects import ObstoreObjects, open_objects
from evalfleet_worker.store.pool import pooled

COUNT = 1_100


@pytest.fixture(params=["directory", "s3"])
def objects(request: pytest.FixtureRequest, tmp_path: Path) -> ObstoreObjects:
    uri = str(tmp_path) if request.param == "directory" else request.getfixturevalue("s3_store")
    return open_objects(uri)


def test_a_thousand_objects_go_by_one_call_whether_or_not_they_are_all_there(objects: ObstoreObjects) -> None:
    folder = secrets.token_hex(4)
    paths = [f"{folder}/{index}" for index in range(COUNT)]
    assert all(pooled(lambda path: objects.create(path, b"x"), paths))
    objects.delete(paths[5])
    calls = objects.calls
    objects.delete_all([f"{folder}/{index}" for index in range(900, COUNT)])
    assert objects.calls == calls + 1
    objects.delete_all(paths)
    assert objects.list(f"{folder}/") == []


def test_results_come_in_order_and_few_are_read_ahead() -> None:
    started: list[int] = []

    def read(item: int) -> int:
        started.append(item)
        time.sleep(0.01 if item % 3 else 0.03)
        return item

    results = pooled(read, range(100), readers=4)
    assert next(results) == 0
    assert len(started) <= 9
    assert list(results) == list(range(1, 100))


def test_a_read_that_fails_is_raised_and_leaves_no_thread_behind() -> None:
    before = threading.active_count()
    with pytest.raises(ZeroDivisionError):
        list(pooled(lambda item: 1 / (item - 5), range(50), readers=4))
    assert threading.active_count() == before
