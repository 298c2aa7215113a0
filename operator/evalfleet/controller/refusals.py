"""Why the Job controller creates no pod: it says so in Events alone (quota, limits, pod security, service account)."""

import asyncio
import logging
import time
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from evalfleet import limits
from evalfleet.controller.controller import Controller
from evalfleet.controller.objects import owner_of, role_of, uid_of
from evalfleet.kube.client import UNREACHABLE, Kube, KubeError
from evalfleet.reconcile.children import is_over
from evalfleet.reconcile.liveness import moment

log = logging.getLogger(__name__)

Object = Mapping[str, Any]


async def follow_refusals(kube: Kube, controller: Controller) -> None:
    """Look for ever at the Events of Jobs that have no pod; without the right to, their reason stays unknown."""
    looked: dict[str, float] = {}
    while True:
        await asyncio.sleep(limits.POLICY_TICK_SECONDS)
        podless = {uid_of(job): job for job in _without_a_pod(controller)}
        looked = {uid: at for uid, at in looked.items() if uid in podless}
        known = controller.memory.refusals
        controller.memory.refusals = {uid: said for uid, said in known.items() if uid in podless}
        for uid, job in podless.items():
            if time.monotonic() - looked.get(uid, 0.0) < limits.REFUSAL_LOOK_SECONDS:
                continue
            looked[uid] = time.monotonic()
            try:
                controller.router.refusals_arrived(job, await refusals(kube, job))
            except (*UNREACHABLE, KubeError) as error:
                log.debug("events of Job %s: %s", job["metadata"]["name"], error)


async def refusals(kube: Kube, job: Object) -> tuple[str, ...]:
    """What the Job controller said of the pods that it could not create for a Job, the newest first."""
    selector = f"involvedObject.uid={uid_of(job)},reason=FailedCreate"
    found = await kube.get(f"/api/v1/namespaces/{job['metadata']['namespace']}/events", fieldSelector=selector)
    newest = sorted(found.get("items") or [], key=lambda event: str(event.get("lastTimestamp") or ""), reverse=True)
    return tuple(str(event.get("message") or "") for event in newest)


def _without_a_pod(controller: Controller) -> list[Object]:
    """Jobs of ours that should have a pod, have none, and are not so new that one may be on its way."""
    cache, now = controller.cache, controller.clock.now()
    have = {owner_of(pod) for pod in cache.of_kind("Pod")}
    return [job for job in cache.of_kind("Job") if uid_of(job) not in have and _should_have_a_pod(job, now)]


def _should_have_a_pod(job: Object, now: datetime) -> bool:
    created = moment(job["metadata"].get("creationTimestamp"))
    old = created is not None and (now - created).total_seconds() > limits.POD_CREATION_SECONDS
    held = (job.get("spec") or {}).get("suspend") or job["metadata"].get("deletionTimestamp")
    return bool(role_of(job)) and old and not held and not is_over(job)
