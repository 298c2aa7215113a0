"""An informer-style cache: objects by kind and key, newer versions win, a full listing ends what it does not name."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

Object = Mapping[str, Any]


@dataclass(frozen=True, slots=True, order=True)
class Key:
    """One object: kind, namespace, name."""

    kind: str
    namespace: str
    name: str


def key_of(kind: str, body: Object) -> Key:
    """The key of an object."""
    metadata = body["metadata"]
    return Key(kind, str(metadata.get("namespace") or ""), str(metadata["name"]))


class Cache:
    """What the API server holds, as far as it has told; never written to by anything but its answers."""

    def __init__(self) -> None:
        self._objects: dict[Key, Object] = {}

    def get(self, key: Key) -> Object | None:
        """An object, or None."""
        return self._objects.get(key)

    def of_kind(self, kind: str, namespace: str | None = None) -> Iterator[Object]:
        """All objects of a kind, in one namespace or everywhere."""
        for key, body in list(self._objects.items()):
            if key.kind == kind and namespace in (None, key.namespace):
                yield body

    def put(self, kind: str, body: Object) -> bool:
        """Keep a version; False when a newer one is known already."""
        key = key_of(kind, body)
        known = self._objects.get(key)
        if known is not None and _version(known) > _version(body):
            return False
        self._objects[key] = body
        return True

    def remove(self, kind: str, body: Object) -> bool:
        """Forget an object that was deleted; False when another object has its name by now."""
        key = key_of(kind, body)
        known = self._objects.get(key)
        if known is None or known["metadata"].get("uid") != body["metadata"].get("uid"):
            return False
        del self._objects[key]
        return True

    def mark_deleting(self, key: Key, now: str) -> None:
        """Remember that deletion was asked for, until the API server says so itself."""
        known = self._objects.get(key)
        if known is not None and not known["metadata"].get("deletionTimestamp"):
            self._objects[key] = {**known, "metadata": {**known["metadata"], "deletionTimestamp": now}}

    def replace(self, kind: str, listing: Iterable[Object], namespace: str | None = None) -> set[Key]:
        """Make a full listing the truth; returns the keys that changed or went."""
        listed = {key_of(kind, body): body for body in listing}
        changed = {key for key, body in listed.items() if _differs(self._objects.get(key), body)}
        gone = {
            key
            for key in self._objects
            if key.kind == kind and namespace in (None, key.namespace) and key not in listed
        }
        for key in changed:
            self._objects[key] = listed[key]
        for key in gone:
            del self._objects[key]
        return changed | gone


def _differs(known: Object | None, body: Object) -> bool:
    return (
        known is None or _version(body) > _version(known) or known["metadata"].get("uid") != body["metadata"].get("uid")
    )


def _version(body: Object) -> int:
    """Resource versions are comparable integers (KEP-5504)."""
    return int(body["metadata"].get("resourceVersion") or 0)
