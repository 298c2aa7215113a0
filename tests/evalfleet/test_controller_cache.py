"""The cache: newer versions win, deletions are found by listing, a name may be used again."""

from collections.abc import Mapping
from typing import Any

from evalfleet.controller.cache import Cache
from evalfleet.kube.resources import Key, key_of


def take(
    cache: Cache, kind: str, bodies: list[dict[str, Any]], namespace: str | None = None, version: int | None = None
) -> set[Key]:
    """Make a listing the cache's truth; what it changed or ended."""
    changed = {key_of(kind, body) for body in bodies if cache.put(kind, body)}
    return changed | cache.retain(kind, {key_of(kind, body) for body in bodies}, namespace, version)


def pod(name: str, version: int, uid: str = "u") -> dict[str, Any]:
    return {"metadata": {"namespace": "n", "name": name, "uid": uid, "resourceVersion": str(version)}}


def test_an_old_event_never_replaces_a_newer_object() -> None:
    cache = Cache()
    assert cache.put("Pod", pod("a", 5))
    assert not cache.put("Pod", pod("a", 4))
    assert cache.get(Key("Pod", "n", "a")) == pod("a", 5)


def test_a_listing_finds_what_was_deleted_unseen() -> None:
    cache = Cache()
    for name in ("a", "b", "c"):
        cache.put("Pod", pod(name, 1))
    cache.put("Job", pod("a", 1))
    changed = take(cache, "Pod", [pod("a", 1), pod("b", 2), pod("d", 3)])
    assert changed == {Key("Pod", "n", name) for name in ("b", "c", "d")}
    assert {key_of("Pod", body) for body in cache.of_kind("Pod")} == {Key("Pod", "n", name) for name in ("a", "b", "d")}
    assert cache.get(Key("Job", "n", "a")) is not None


def test_the_deletion_of_an_older_object_does_not_remove_its_successor() -> None:
    cache = Cache()
    cache.put("Pod", pod("a", 9, uid="new"))
    assert not cache.remove("Pod", pod("a", 3, uid="old"))
    assert cache.remove("Pod", pod("a", 10, uid="new"))


def test_an_object_we_delete_counts_as_going_at_once() -> None:
    cache = Cache()
    cache.put("Job", pod("a", 1))
    cache.mark_deleting(Key("Job", "n", "a"), "2026-01-01T00:00:00Z")
    body = cache.get(Key("Job", "n", "a"))
    assert body is not None
    assert body["metadata"]["deletionTimestamp"] == "2026-01-01T00:00:00Z"


def test_a_listing_that_is_older_than_an_answer_takes_nothing_away_and_brings_nothing_back() -> None:
    cache = Cache()
    cache.put("Job", pod("old", 1))
    cache.put("Job", pod("gone", 2))
    listing, version = [pod("old", 1), pod("gone", 2)], 5  # taken now, arrives later
    cache.put("Job", pod("made", 6, uid="made"))
    cache.remove("Job", pod("gone", 7))
    assert take(cache, "Job", listing, version=version) == set()
    assert {body["metadata"]["name"] for body in cache.of_kind("Job")} == {"old", "made"}
    assert not cache.put("Job", pod("gone", 3))
    assert cache.put("Job", pod("gone", 8, uid="another"))
    assert take(cache, "Job", [], version=9) == {Key("Job", "n", name) for name in ("old", "made", "gone")}


def test_the_event_of_the_version_that_we_delete_does_not_make_it_live_again() -> None:
    cache = Cache()
    cache.put("Job", pod("a", 1))
    cache.mark_deleting(Key("Job", "n", "a"), "2026-01-01T00:00:00Z")
    assert not cache.put("Job", pod("a", 1))
    body = cache.get(Key("Job", "n", "a"))
    assert body is not None
    assert body["metadata"].get("deletionTimestamp")
    assert cache.put("Job", pod("a", 2))
    body = cache.get(Key("Job", "n", "a"))
    assert body is not None
    assert not body["metadata"].get("deletionTimestamp")


def test_what_nobody_reads_is_not_kept() -> None:
    cache = Cache()
    body = pod("a", 1)
    cache.put("Pod", {"metadata": {**body["metadata"], "managedFields": [{"manager": "somebody"}]}})
    assert cache.get(Key("Pod", "n", "a")) == body
    take(cache, "Pod", [{"metadata": {**pod("a", 2)["metadata"], "managedFields": []}}])
    assert cache.get(Key("Pod", "n", "a")) == pod("a", 2)


def test_the_echo_of_an_own_write_is_no_news() -> None:
    cache = Cache()
    assert cache.put("Job", pod("a", 1))
    assert not cache.put("Job", pod("a", 1))


def colour(body: Mapping[str, Any]) -> str:
    return str(body["metadata"]["labels"]["colour"])


def painted(name: str, version: int, name_of_colour: str, namespace: str = "n") -> dict[str, Any]:
    body = pod(name, version)
    return {"metadata": {**body["metadata"], "namespace": namespace, "labels": {"colour": name_of_colour}}}


def test_objects_are_found_by_their_index_through_every_change() -> None:
    cache = Cache({"Pod": ("Pod", colour)})

    def names(value: str) -> list[str]:
        return [body["metadata"]["name"] for body in cache.indexed("Pod", "n", value)]

    for body in (painted("a", 1, "red"), painted("b", 2, "red"), painted("c", 3, "red", namespace="elsewhere")):
        cache.put("Pod", body)
    assert (names("red"), names("blue")) == (["a", "b"], [])
    cache.put("Pod", painted("a", 4, "blue"))
    assert (names("red"), names("blue")) == (["b"], ["a"])
    cache.remove("Pod", painted("b", 5, "red"))
    take(cache, "Pod", [painted("d", 6, "blue")], namespace="n", version=7)
    assert (names("red"), names("blue")) == ([], ["d"])
