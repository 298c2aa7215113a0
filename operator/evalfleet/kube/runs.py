"""The frozen runs in the ConfigMaps of EvaluationJobs: read once, then kept; the API server lets nobody change them."""

import asyncio
from collections.abc import Container, Iterable, Mapping
from typing import Any

from evalfleet import limits
from evalfleet.kube.client import CONFLICT, NOT_FOUND, Kube, KubeError
from evalfleet.kube.resources import Key, object_path
from evalfleet.manifests.frozen import FrozenRun, FrozenUnreadableError, frozen_run
from evalfleet.manifests.names import Identity

Known = tuple[FrozenRun | None, str]
"""The run, None when nothing is frozen yet; or why it cannot be read."""


class RunBook:
    """What was frozen, by uid of the EvaluationJob."""

    def __init__(self, kube: Kube) -> None:
        self._kube = kube
        self._known: dict[str, Known] = {}

    def of(self, uid: str) -> Known:
        """The run of an EvaluationJob, as far as it was loaded."""
        return self._known.get(uid, (None, ""))

    async def load(self, owners: Iterable[Identity]) -> None:
        """Read the runs that were not read yet.

        Raises:
            KubeError: the API server refuses one; nothing is decided without it.
        """
        missing = [owner for owner in owners if owner.uid not in self._known]
        for start in range(0, len(missing), limits.QUEUE_WORKERS):
            await asyncio.gather(*map(self._load, missing[start : start + limits.QUEUE_WORKERS]))

    def created(self, uid: str, wanted: Mapping[str, Any], found: Mapping[str, Any]) -> None:
        """A ConfigMap is there, ours or one of an earlier pass, whose word counts.

        Raises:
            KubeError: it is another run than `wanted`: nothing else may be made of that.
        """
        known, ours = _read(found), _read(wanted)
        self._known[uid] = ours if known == (None, "") else known  # a version that froze nothing wrote it
        if self._known[uid] != ours:
            raise KubeError(CONFLICT, "the run was frozen before: it is looked at again")

    def forget(self, uid: str) -> None:
        """Forget a run that has ended."""
        self._known.pop(uid, None)

    def retain(self, uids: Container[str]) -> None:
        """Forget all runs but these."""
        self._known = {uid: known for uid, known in self._known.items() if uid in uids}

    async def _load(self, owner: Identity) -> None:
        key = Key("ConfigMap", owner.namespace, owner.child("run"))
        try:
            body = await self._kube.get(object_path(key))
        except KubeError as error:
            if error.status != NOT_FOUND:
                raise
            self._known[owner.uid] = (None, "")
        else:
            self._known[owner.uid] = _read(body) if _is_of(owner, body) else (None, "")


def _is_of(owner: Identity, body: Mapping[str, Any]) -> bool:
    """Whether it belongs to this EvaluationJob: a predecessor's, or a stranger's, is no word about it."""
    return any(entry.get("uid") == owner.uid for entry in body["metadata"].get("ownerReferences") or [])


def _read(body: Mapping[str, Any]) -> Known:
    try:
        return frozen_run(body), ""
    except FrozenUnreadableError as error:
        return None, str(error)
