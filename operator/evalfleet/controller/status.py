"""Statuses to the API server: at most one write a pass, at the version that was read; a refusal is said in another."""

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from evalfleet import limits
from evalfleet.controller.cache import Cache
from evalfleet.controller.events import EventRecorder
from evalfleet.controller.metrics import Telemetry
from evalfleet.controller.objects import policy_name
from evalfleet.kube.client import CONFLICT, Kube, KubeError
from evalfleet.kube.mergepatch import merge_patched
from evalfleet.kube.resources import Key, key_of, object_path
from evalfleet.reconcile import conditions as cond
from evalfleet.reconcile.announce import Announcement, announcements, changes
from evalfleet.reconcile.conditions import Condition
from evalfleet.reconcile.decision import Decision, Observed
from evalfleet.reconcile.job.state import JobState
from evalfleet.reconcile.job.terminal import held, stamp
from evalfleet.reconcile.policy.state import PolicyState

log = logging.getLogger(__name__)

UNREADABLE = frozenset({400, 413, 422})
"""Answers that mean: this status as it is can never be written."""
Object = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Written:
    """What became of a status.

    Attributes:
        body: the object after the write, None when nothing was written.
        is_news: whether others than readers of its progress have to look at it.
        changed: conditions with another status or reason than before, to be logged and counted.
        events: what is announced of them.
        held_back: whether progress waits for the next write.
    """

    body: dict[str, Any] | None = None
    is_news: bool = False
    changed: tuple[Condition, ...] = ()
    events: tuple[Announcement, ...] = ()
    held_back: bool = False


class StatusWriter:
    """Writes statuses, and announces changed conditions by event, log and metric with the same reason and message."""

    def __init__(self, kube: Kube, cache: Cache, telemetry: Telemetry, events: EventRecorder) -> None:
        self._kube = kube
        self._cache = cache
        self._telemetry = telemetry
        self._events = events
        self._written: dict[Key, float] = {}

    def forget(self, key: Key) -> None:
        """The object is gone."""
        self._written.pop(key, None)

    async def write_job(self, key: Key, state: JobState, decision: Decision) -> Written:
        """Write what a pass states about an EvaluationJob.

        Raises:
            KubeError: it was changed meanwhile, or the API server refuses the status, which the object then says.
        """
        if not decision.conditions and not decision.status:
            return Written()
        try:
            written = await self._write(key, state, state.identity.uid, decision)
        except KubeError as error:
            if error.status in UNREADABLE:
                await self._say_refused(key, state, error)
            raise
        if written.body is not None:
            self._measure_wait(key, state.status, written.body)
        return written

    async def write_policy(self, key: Key, state: PolicyState, decision: Decision) -> None:
        """Write the status of a ScalingPolicy, if there is one."""
        if state.uid:
            await self.announce(await self._write(key, state, state.uid, decision))

    async def _write(self, key: Key, read: Observed, uid: str, decision: Decision) -> Written:
        """Merge-patch the status with what is stated, if that is worth a write."""
        before = dict(read.status)
        known = before.get("conditions") or []
        conditions = cond.merge(known, decision.conditions, read.generation, stamp(read.now))
        patch = {**decision.status, "conditions": conditions}
        after = merge_patched(before, patch)
        if not self._worth_writing(key, before, after):
            return Written(held_back=before != after)
        patched = await self._patch(key, read, uid, patch)
        changed = changes(known, decision.conditions)
        is_news = _without_progress(before) != _without_progress(after)
        return Written(patched, is_news, changed, announcements(known, changed))

    async def _patch(self, key: Key, read: Observed, uid: str, status: Mapping[str, Any]) -> dict[str, Any]:
        """Merge-patch a status at the version that it was decided on.

        The list of conditions is replaced as a whole: a leader of yesterday must not bring back what it read then.
        """
        at = {"resourceVersion": read.version, "uid": uid}
        try:
            patched = await self._kube.patch(f"{object_path(key)}/status", {"metadata": at, "status": status})
        except KubeError as error:
            if error.status == CONFLICT:
                self._cache.put(key.kind, {**await self._kube.get(object_path(key)), "kind": key.kind})
            raise
        self._telemetry.status_writes.inc()
        self._written[key] = time.monotonic()
        self._cache.put(key.kind, patched)
        return patched

    async def _say_refused(self, key: Key, state: JobState, error: KubeError) -> None:
        """The status that says why there is no status."""
        log.warning("its status is refused: %s", error, extra={"object": key})
        stated = held("StatusRefused", f"the API server refuses what is to be said about this job: {error}")
        before = state.status.get("conditions") or []
        conditions = cond.merge(before, stated, state.generation, stamp(state.now))
        if conditions != before:
            await self._patch(key, state, state.identity.uid, {"conditions": conditions})

    def _measure_wait(self, key: Key, before: Mapping[str, Any], written: Object) -> None:
        """The wait for the first admission, once."""
        waited = (written["status"].get("time") or {}).get("queueSeconds")
        if waited is not None and "queueSeconds" not in (before.get("time") or {}):
            self._telemetry.queue_seconds.labels(key.namespace, policy_name(written)).observe(waited)

    def _worth_writing(self, key: Key, before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
        """Changed conditions are written at once, bare progress at most every 10 s or 1 %."""
        if before == after:
            return False
        if _without_progress(before) != _without_progress(after):
            return True
        percent = [(status.get("progress") or {}).get("percent") for status in (before, after)]
        waited = time.monotonic() - self._written.get(key, float("-inf")) >= limits.PROGRESS_WRITE_SECONDS
        return percent[0] != percent[1] or waited

    async def announce(self, written: Written) -> None:
        """Announce the changed conditions of a written status in log, metrics and events."""
        if written.body is None:
            return
        key = key_of(str(written.body["kind"]), written.body)
        for condition in written.changed:
            what = (condition.type, condition.status, condition.reason)
            log.info("%s is %s, %s: %s", *what, condition.message, extra={"object": key})
            self._telemetry.condition_changes.labels(*what).inc()
        for event in written.events:
            await self._events.post(written.body, event.kind, event.reason, event.message)


def _without_progress(status: Mapping[str, Any]) -> dict[str, Any]:
    """The parts of a status whose change cannot wait."""
    kept = {name: value for name, value in status.items() if name not in ("progress", "cost", "state")}
    kept["conditions"] = [
        {name: value for name, value in c.items() if name != "message"} for c in status.get("conditions") or []
    ]
    return kept
