"""An informer-style cache: objects by kind and key, newer versions win, a full listing ends what it does not name."""

import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Container, Iterator, Mapping
from typing import Any

from evalfleet.kube.resources import Key, key_of

Object = Mapping[str, Any]
Index = tuple[str, Callable[[Object], str]]
"""A kind, and what its objects are also found by."""
Arrived = Callable[[str, Object], None]
"""Called with the kind and the object."""
SHARED_LENGTH = 40


class Cache:
    """What the API server holds, as far as it has said; never written to by anything but its answers.

    Watch events, answers to own writes and full listings arrive in any order: versions decide, and a deletion is
    remembered until a listing that began after it has come.

    Attributes:
        visited: objects handed out so far by sweeps: work follows what is active, not what exists.

    Args:
        indices: by name, the kind and what its objects are also found by.
        arrived: called with every version that is kept, wherever it comes from.
    """

    def __init__(self, indices: Mapping[str, Index] | None = None, arrived: Arrived = lambda *_: None) -> None:
        self._arrived = arrived
        self._objects: dict[Key, Object] = {}
        self._places: defaultdict[tuple[str, str], dict[Key, None]] = defaultdict(dict)
        self._deleted: dict[Key, tuple[str, int]] = {}
        self._indices = indices or {}
        self._indexed: defaultdict[tuple[str, str, str], dict[Key, None]] = defaultdict(dict)
        self._changes: Counter[tuple[str, str]] = Counter()
        self.visited = 0

    def get(self, key: Key) -> Object | None:
        """An object, or None."""
        return self._objects.get(key)

    def of_kind(self, kind: str, namespace: str | None = None) -> Iterator[Object]:
        """All objects of a kind, in one namespace or everywhere."""
        for key in self._keys(kind, namespace):
            self.visited += 1
            yield self._objects[key]

    def indexed(self, name: str, namespace: str, value: str) -> Iterator[Object]:
        """The objects in a namespace that an index has under a value."""
        for key in list(self._indexed.get((name, namespace, value), ())):
            self.visited += 1
            yield self._objects[key]

    def membership(self, kind: str, namespace: str) -> int:
        """A number that changes whenever an object of a kind comes to a namespace or goes."""
        return self._changes[kind, namespace]

    def put(self, kind: str, body: Object) -> bool:
        """Keep a version; False when it, a newer one or its deletion is known already."""
        key = key_of(kind, body)
        known = self._objects.get(key)
        if self._is_buried(key, body) or (known is not None and _version(known) >= _version(body)):
            return False
        self._keep(key, body)
        self._arrived(kind, body)
        return True

    def remove(self, kind: str, body: Object) -> bool:
        """Forget an object that was deleted; False when another object has its name by now."""
        key = key_of(kind, body)
        known = self._objects.get(key)
        if known is not None and _uid(known) != _uid(body):
            return False
        self._deleted[key] = (_uid(body), _version(body))
        if known is not None:
            self._drop(key)
        return known is not None

    def mark_deleting(self, key: Key, now: str) -> None:
        """Remember that deletion was asked for, until the API server says so itself."""
        known = self.get(key)
        if known is not None and not known["metadata"].get("deletionTimestamp"):
            metadata = {**known["metadata"], "deletionTimestamp": now}
            self._objects[key] = {**known, "metadata": metadata}

    def retain(
        self, kind: str, listed: Container[Key], namespace: str | None = None, version: int | None = None
    ) -> set[Key]:
        """Forget what a full listing does not name; returns what went.

        Args:
            kind: of all objects listed.
            listed: their keys; the objects themselves were `put`.
            namespace: where it was taken, None = everywhere.
            version: of the listing itself; what is newer than it stays. None = newer than everything.
        """
        gone = {
            key
            for key in self._keys(kind, namespace)
            if key not in listed and (version is None or _version(self._objects[key]) <= version)
        }
        for key in gone:
            self._drop(key)
        self._forget_deletions(kind, namespace, version)
        return gone

    def _keys(self, kind: str, namespace: str | None) -> list[Key]:
        if namespace is not None:
            return list(self._places.get((kind, namespace), ()))
        return [key for place, keys in self._places.items() if place[0] == kind for key in keys]

    def _keep(self, key: Key, body: Object) -> None:
        before, self._objects[key] = self._objects.get(key), _slim(body)
        if before is None:
            self._places[key.kind, key.namespace][key] = None
            self._changes[key.kind, key.namespace] += 1
        for name, (kind, value_of) in self._indices.items():
            if kind == key.kind and (before is None or value_of(before) != value_of(body)):
                self._unindex(name, key, before)
                self._indexed[name, key.namespace, value_of(body)][key] = None

    def _drop(self, key: Key) -> None:
        body = self._objects.pop(key)
        for name, (kind, _) in self._indices.items():
            if kind == key.kind:
                self._unindex(name, key, body)
        place = (key.kind, key.namespace)
        del self._places[place][key]
        self._changes[place] += 1
        if not self._places[place]:
            del self._places[place]

    def _unindex(self, name: str, key: Key, body: Object | None) -> None:
        if body is None:
            return
        place = (name, key.namespace, self._indices[name][1](body))
        del self._indexed[place][key]
        if not self._indexed[place]:
            del self._indexed[place]

    def _is_buried(self, key: Key, body: Object) -> bool:
        uid, version = self._deleted.get(key, ("", 0))
        return uid == _uid(body) and _version(body) <= version

    def _forget_deletions(self, kind: str, namespace: str | None, version: int | None) -> None:
        """A listing that is newer than a deletion does not bring the object back, and neither do older events."""
        self._deleted = {
            key: (uid, at)
            for key, (uid, at) in self._deleted.items()
            if key.kind != kind or namespace not in (None, key.namespace) or (version is not None and at > version)
        }


def _slim(body: Object) -> Object:
    """Without the record of who wrote which field (half of an object, and nobody here reads it); strings are shared."""
    metadata = {name: value for name, value in body["metadata"].items() if name != "managedFields"}
    return _shared({**body, "metadata": metadata})  # type: ignore[no-any-return]


def _shared(value: Any) -> Any:
    """The same JSON value; field names and short strings exist once, however many objects use them."""
    if isinstance(value, str):
        return sys.intern(value) if len(value) <= SHARED_LENGTH else value
    if isinstance(value, dict):
        return {sys.intern(name): _shared(member) for name, member in value.items()}
    return [_shared(member) for member in value] if isinstance(value, list) else value


def _uid(body: Object) -> str:
    return str(body["metadata"].get("uid") or "")


def _version(body: Object) -> int:
    """Resource versions are comparable integers (KEP-5504)."""
    return int(body["metadata"].get("resourceVersion") or 0)
