"""Events on pods, as the kubelet posts them: repeated ones count up instead of piling up."""

import logging
import uuid
from dataclasses import dataclass

from evalfleet.kube.client import UNREACHABLE, Kube, KubeError, Object
from evalfleet.local.cluster.hostnode.clock import utc_now

log = logging.getLogger(__name__)


@dataclass
class _Series:
    path: str
    count: int


class EventRecorder:
    """Posts events in the name of one node; a lost event is logged and never fails a pod."""

    def __init__(self, kube: Kube, node: str) -> None:
        self._kube, self._node = kube, node
        self._series: dict[tuple[str, str, str], _Series] = {}

    async def record(self, pod: Object, kind: str, reason: str, message: str) -> None:
        """Post `Normal` or `Warning` with a reason and a sentence."""
        key = (pod["metadata"]["uid"], reason, message)
        try:
            series = self._series.get(key)
            if series is None:
                self._series[key] = await self._post(pod, kind, reason, message)
            else:
                series.count += 1
                await self._kube.patch(series.path, {"count": series.count, "lastTimestamp": utc_now()})
        except (*UNREACHABLE, KubeError) as error:
            log.debug("event %s on %s: %s", reason, pod["metadata"]["name"], error)

    def forget(self, pod_uid: str) -> None:
        """Drop what is remembered of a pod that is gone."""
        for key in [key for key in self._series if key[0] == pod_uid]:
            del self._series[key]

    async def _post(self, pod: Object, kind: str, reason: str, message: str) -> _Series:
        metadata, now = pod["metadata"], utc_now()
        name = f"{metadata['name']}.{uuid.uuid4().hex[:16]}"
        path = f"/api/v1/namespaces/{metadata['namespace']}/events"
        await self._kube.create(
            path,
            {
                "apiVersion": "v1",
                "kind": "Event",
                "metadata": {"name": name, "namespace": metadata["namespace"]},
                "involvedObject": {
                    "apiVersion": "v1",
                    "kind": "Pod",
                    "name": metadata["name"],
                    "namespace": metadata["namespace"],
                    "uid": metadata["uid"],
                },
                "type": kind,
                "reason": reason,
                "message": message,
                "count": 1,
                "firstTimestamp": now,
                "lastTimestamp": now,
                "source": {"component": "kubelet", "host": self._node},
                "reportingComponent": "kubelet",
                "reportingInstance": self._node,
            },
        )
        return _Series(f"{path}/{name}", 1)
