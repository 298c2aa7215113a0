"""One pod on a host node from binding to its last status, in the order a kubelet does it."""

import asyncio
import contextlib
import logging
import math
import shutil
from collections.abc import Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evalfleet.kube.client import STRATEGIC, UNREACHABLE, Kube, KubeError, Object, pods_path
from evalfleet.local.cluster.config import HostImage
from evalfleet.local.cluster.files import private_folder
from evalfleet.local.cluster.hostnode.clock import utc_now
from evalfleet.local.cluster.hostnode.container import Container, Hooks, PodRoom, PodStopping
from evalfleet.local.cluster.hostnode.environment import PodFacts, Sources
from evalfleet.local.cluster.hostnode.events import EventRecorder
from evalfleet.local.cluster.hostnode.sources import fetch_sources
from evalfleet.local.cluster.hostnode.states import PodView, Terminated, Waiting, pod_status
from evalfleet.local.cluster.hostnode.volumes import VolumeError, VolumeWriter

log = logging.getLogger(__name__)

_MOUNT_RETRY_SECONDS = 1.0
_STATUS_RETRY_SECONDS = 0.5
_DEADLINE_MESSAGE = "Pod was active on the node longer than the specified deadline"


@dataclass(frozen=True)
class PodServices:
    """What a pod needs from its node."""

    kube: Kube
    images: tuple[HostImage, ...]
    events: EventRecorder
    cluster_environment: dict[str, str]


class PodRunner:
    """Runs one pod; `start` returns at once, `finished` is set after the last status was written."""

    def __init__(self, services: PodServices, pod: Object, folder: Path, facts: PodFacts) -> None:
        self.pod, self.folder, self.facts = pod, folder, facts
        self.finished = asyncio.Event()
        self._services = services
        self._stopping = asyncio.Event()
        self._dirty = asyncio.Event()
        self._silent = False
        self._deleted = False
        self._deadline_exceeded = False
        self._fault = ""
        self._start_time = utc_now()
        self._tasks: set[asyncio.Task[Any]] = set()
        room = PodRoom(pod, private_folder(folder), {}, services.images, facts, services.cluster_environment)
        hooks = Hooks(self._dirty.set, self._event, self._pause, self._stopping.is_set, self._fetch_sources)
        spec = pod["spec"]
        first = Waiting("PodInitializing" if spec.get("initContainers") else "ContainerCreating")
        self.init_containers = [Container(item, room, hooks) for item in spec.get("initContainers") or []]
        self.containers = [Container(item, room, hooks) for item in spec["containers"]]
        for container in self.containers:
            container.view = type(container.view)(state=first)

    @property
    def uid(self) -> str:
        """Identity of the pod."""
        return str(self.pod["metadata"]["uid"])

    def start(self) -> None:
        """Begin."""
        self._spawn(self._run())

    def observe(self, pod: Object) -> None:
        """Take over a newer version of the object; a deletion begins the pod's termination."""
        self.pod = pod
        if not pod["metadata"].get("deletionTimestamp"):
            return
        if self.finished.is_set():
            # The deletion came while the last status was on its way.
            self._spawn(self._delete_object())
        else:
            self.stop(float(pod["metadata"].get("deletionGracePeriodSeconds") or 0))

    def stop(self, grace_seconds: float) -> None:
        """SIGTERM to every container, SIGKILL after the grace period; a second call can only bring the end forward."""
        if not self._stopping.is_set():
            self._stopping.set()
            for container in self._running():
                self._event("Normal", "Killing", f"Stopping container {container.name}")
                container.terminate()
        asyncio.get_running_loop().call_later(grace_seconds, self._kill)

    def vanish(self) -> None:
        """The node is gone: kill everything and never report."""
        self._silent = True
        self._stopping.set()
        self._kill()

    def pids(self) -> dict[str, int]:
        """First process of every running container."""
        return {item.name: item.process.pid for item in self._running() if item.process is not None}

    def discard(self) -> None:
        """Delete volumes and logs as soon as nothing can write to them any more."""
        self._spawn(self._remove_files())

    async def _remove_files(self) -> None:
        await self.finished.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    async def _run(self) -> None:
        reporter = asyncio.create_task(self._report())
        self._dirty.set()
        timer = self._spawn(self._enforce_deadline())
        try:
            await self._run_containers()
        except PodStopping:
            pass
        except Exception as error:
            # A pod that trips the node must end with a reason, not stay Pending for ever.
            log.exception("pod %s", self.pod["metadata"]["name"])
            self._fault = f"{type(error).__name__}: {error}"
            self._kill()
        finally:
            timer.cancel()
            await self._finish(reporter)

    async def _run_containers(self) -> None:
        volumes = await self._volumes()
        policy = self.pod["spec"].get("restartPolicy", "Always")
        for container in [*self.init_containers, *self.containers]:
            container.room.volumes.update(volumes)
        for container in self.init_containers:
            await container.run("Never" if policy == "Never" else "OnFailure")
            state = container.view.state
            if isinstance(state, Terminated) and state.exit_code != 0:
                return
        for container in self.containers:
            container.view = type(container.view)()
        outcomes = await asyncio.gather(*(item.run(policy) for item in self.containers), return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome

    async def _volumes(self) -> dict[str, Path]:
        while True:
            try:
                sources = await self._fetch_sources()
                writer = VolumeWriter(self._services.kube, self.pod, self.folder / "volumes", sources, self.facts)
                return await writer.create_all()
            except (VolumeError, *UNREACHABLE) as error:
                self._event("Warning", "FailedMount", f"MountVolume.SetUp failed: {error}")
            await self._pause(_MOUNT_RETRY_SECONDS)

    async def _fetch_sources(self) -> Sources:
        while True:
            with contextlib.suppress(*UNREACHABLE, KubeError):
                return await fetch_sources(self._services.kube, self.pod)
            await self._pause(_STATUS_RETRY_SECONDS)

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), None if math.isinf(seconds) else seconds)
        if self._stopping.is_set():
            raise PodStopping

    async def _enforce_deadline(self) -> None:
        seconds = self.pod["spec"].get("activeDeadlineSeconds")
        if seconds is None:
            return
        await asyncio.sleep(seconds)
        self._deadline_exceeded = True
        self._event("Normal", "DeadlineExceeded", _DEADLINE_MESSAGE)
        self.stop(float(self.pod["spec"].get("terminationGracePeriodSeconds", 30)))

    def _running(self) -> list[Container]:
        return [item for item in (*self.init_containers, *self.containers) if item.process is not None]

    def _kill(self) -> None:
        for container in self._running():
            container.kill()

    async def _finish(self, reporter: asyncio.Task[None]) -> None:
        reporter.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await reporter
        if self._deadline_exceeded or self._stopping.is_set():
            self._end_waiting_containers()
        await self._write_status_until_done()
        if self.pod["metadata"].get("deletionTimestamp") and not self._silent:
            await self._delete_object()
        self.finished.set()

    def _end_waiting_containers(self) -> None:
        """A container that waits for its next start when the pod stops ends as it ended last."""
        for container in self.containers:
            if isinstance(container.view.state, Waiting) and container.view.last is not None:
                container.view = type(container.view)(
                    container.view.last,
                    None,
                    container.view.restarts,
                    container.view.container_id,
                    container.view.image_id,
                )

    async def _delete_object(self) -> None:
        metadata = self.pod["metadata"]
        path = pods_path(metadata["namespace"], metadata["name"])
        while not self._silent and not self._deleted:
            try:
                await self._services.kube.delete(path, grace_seconds=0, uid=self.uid)
                self._deleted = True
            except (*UNREACHABLE, KubeError) as error:
                log.debug("delete %s: %s", path, error)
                await asyncio.sleep(_STATUS_RETRY_SECONDS)

    async def _report(self) -> None:
        while True:
            await self._dirty.wait()
            self._dirty.clear()
            await self._write_status_until_done()

    async def _write_status_until_done(self) -> None:
        metadata = self.pod["metadata"]
        path = pods_path(metadata["namespace"], metadata["name"], "status")
        while not self._silent:
            # The uid guards against a pod of the same name that was created meanwhile.
            patch = {"metadata": {"uid": self.uid}, "status": pod_status(self.pod, self._view(), utc_now())}
            try:
                answer = await self._services.kube.patch(path, patch, STRATEGIC)
            except KubeError as error:
                if error.status in (404, 409, 422):
                    log.info("status of %s: %s", metadata["name"], error)
                    return
            except UNREACHABLE as error:
                log.debug("status of %s: %s", metadata["name"], error)
            else:
                self.pod = {**self.pod, "status": answer.get("status", {})}
                return
            await asyncio.sleep(_STATUS_RETRY_SECONDS)

    def _view(self) -> PodView:
        reason, message = self._own_reason()
        return PodView(
            containers={item.name: item.view for item in self.containers},
            init_containers={item.name: item.view for item in self.init_containers},
            pod_ip=self.facts.pod_ip,
            host_ip=self.facts.host_ip,
            start_time=self._start_time,
            terminating=self._stopping.is_set() and not self._deadline_exceeded,
            reason=reason,
            message=message,
        )

    def _own_reason(self) -> tuple[str, str]:
        """Why the pod as a whole failed, once nothing of it runs any more."""
        if self._fault:
            return "HostNodeFault", self._fault
        if self._deadline_exceeded and not self._running():
            return "DeadlineExceeded", _DEADLINE_MESSAGE
        return "", ""

    def _event(self, kind: str, reason: str, message: str) -> None:
        if not self._silent:
            self._spawn(self._services.events.record(self.pod, kind, reason, message))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
