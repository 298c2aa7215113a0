"""One container of a pod through all its starts: prepare, run, judge the end, back off, start again."""

import asyncio
import contextlib
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from evalfleet.kube.client import Object
from evalfleet.local.cluster.config import HostImage
from evalfleet.local.cluster.hostnode.clock import utc_now
from evalfleet.local.cluster.hostnode.environment import (
    ContainerConfigError,
    PodFacts,
    Sources,
    container_environment,
    expand,
)
from evalfleet.local.cluster.hostnode.images import find_image, find_program, image_environment
from evalfleet.local.cluster.hostnode.memory import kill_above
from evalfleet.local.cluster.hostnode.paths import Mount, rewrite, rewrite_argument
from evalfleet.local.cluster.hostnode.process import ContainerProcess, Launch, StartError
from evalfleet.local.cluster.hostnode.states import ContainerView, Running, State, Terminated, Waiting
from evalfleet.local.cluster.hostnode.volumes import container_mounts
from evalfleet.manifests.quantities import parse_quantity

_DEFAULT_TERMINATION_PATH = "/dev/termination-log"
_TERMINATION_MESSAGE_BYTES = 4096
_TERMINATION_LOG_BYTES = 2048
_START_ERROR_CODE = 128
_BACKOFF_FIRST_SECONDS, _BACKOFF_MOST_SECONDS = 10.0, 300.0
_CONFIG_RETRY_SECONDS = 2.0


class PodStopping(Exception):  # noqa: N818 - a signal to unwind, not an error
    """The pod is being stopped; nothing of it may start any more."""


@dataclass(frozen=True)
class PodRoom:
    """What the containers of one pod share on this machine."""

    pod: Object
    folder: Path
    volumes: dict[str, Path]
    images: tuple[HostImage, ...]
    facts: PodFacts
    cluster_environment: dict[str, str]


@dataclass(frozen=True)
class Hooks:
    """How a container reaches its pod."""

    changed: Callable[[], None]
    event: Callable[[str, str, str], None]
    # Returns after the time, or raises PodStopping as soon as the pod is being stopped.
    pause: Callable[[float], Awaitable[None]]
    is_stopping: Callable[[], bool]
    sources: Callable[[], Awaitable[Sources]]


@dataclass
class Container:
    """The state of one container and its process while it runs."""

    spec: Object
    room: PodRoom
    hooks: Hooks
    view: ContainerView = field(default_factory=ContainerView)
    process: ContainerProcess | None = None

    @property
    def name(self) -> str:
        """Name in the pod."""
        return str(self.spec["name"])

    def log_file(self, restart: int) -> Path:
        """Log of the n-th start."""
        return self.room.folder / "logs" / f"{self.name}.{restart}.log"

    def terminate(self) -> None:
        """SIGTERM, if it runs."""
        if self.process is not None:
            self.process.terminate()

    def kill(self) -> None:
        """SIGKILL, if it runs."""
        if self.process is not None:
            self.process.kill()

    async def run(self, restart_policy: str) -> None:
        """Run until it ends for good under `restart_policy`."""
        backoff = 0.0
        while True:
            await self._run_once()
            ended = self.view.state
            assert isinstance(ended, Terminated)
            again = restart_policy == "Always" or (restart_policy == "OnFailure" and ended.exit_code != 0)
            if not again or self.hooks.is_stopping():
                return
            await self._back_off(ended, backoff)
            backoff = min(max(2 * backoff, _BACKOFF_FIRST_SECONDS), _BACKOFF_MOST_SECONDS)

    async def _back_off(self, ended: Terminated, seconds: float) -> None:
        if seconds:
            pod = self.room.pod["metadata"]
            where = f"container={self.name} pod={pod['name']}_{pod['namespace']}({pod['uid']})"
            message = f"back-off {seconds:.0f}s restarting failed {where}"
            self.view = replace(self.view, state=Waiting("CrashLoopBackOff", message), last=ended)
            self.hooks.changed()
            self.hooks.event(
                "Warning", "BackOff", f"Back-off restarting failed container {self.name} in pod {pod['name']}"
            )
            try:
                await self.hooks.pause(seconds)
            except PodStopping:
                self.view = replace(self.view, state=ended)
                raise
        self.view = replace(self.view, last=ended, restarts=self.view.restarts + 1)

    async def _run_once(self) -> None:
        image = await self._image()
        launch, termination_file = await self._prepare(image)
        started = utc_now()
        container_id = f"host://{uuid.uuid4().hex}"
        if self.hooks.is_stopping():
            raise PodStopping
        try:
            self.process = await ContainerProcess.start(launch)
        except StartError as error:
            self._cannot_start(f"exec: {launch.argv[0]!r}: {error}", container_id)
            return
        self._set(Running(started), container_id=container_id, image_id=f"host://{image.python}")
        self.hooks.event("Normal", "Started", f"Container started: {self.name}")
        if self.hooks.is_stopping():  # the stop came while it was starting
            self.terminate()
        code = await self._wait(self.process)
        reason = "Completed" if code == 0 else ("OOMKilled" if self.process.out_of_memory else "Error")
        message = self._termination_message(termination_file, launch.log, code)
        self.process = None
        self._set(Terminated(code, reason, started, utc_now(), message, container_id))

    async def _wait(self, process: ContainerProcess) -> int:
        limit = (self.spec.get("resources") or {}).get("limits", {}).get("memory")
        watcher = asyncio.create_task(kill_above(process, int(parse_quantity(limit)))) if limit else None
        try:
            return await process.wait()
        finally:
            if watcher is not None:
                watcher.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await watcher

    async def _image(self) -> HostImage:
        reference = self.spec["image"]
        image = find_image(reference, self.room.images)
        if image is not None:
            return image
        why = f'host nodes run no image "{reference}"; known prefixes: ' + ", ".join(i.prefix for i in self.room.images)
        if self.spec.get("imagePullPolicy") == "Never":
            self._set(Waiting("ErrImageNeverPull", why))
            await self.hooks.pause(float("inf"))
        self._set(Waiting("ErrImagePull", why))
        self.hooks.event("Warning", "Failed", f'Failed to pull image "{reference}": {why}')
        await self.hooks.pause(1.0)
        self._set(Waiting("ImagePullBackOff", f'Back-off pulling image "{reference}": ErrImagePull: {why}'))
        self.hooks.event("Normal", "BackOff", f'Back-off pulling image "{reference}"')
        await self.hooks.pause(float("inf"))
        raise PodStopping

    async def _prepare(self, image: HostImage) -> tuple[Launch, Path]:
        """Everything the process needs; retried while a ConfigMap or Secret is missing, as the kubelet does."""
        while True:
            try:
                return self._launch(image, await self.hooks.sources())
            except ContainerConfigError as error:
                self._set(Waiting("CreateContainerConfigError", str(error)))
                self.hooks.event("Warning", "Failed", f"Error: {error}")
            await self.hooks.pause(_CONFIG_RETRY_SECONDS)

    def _launch(self, image: HostImage, sources: Sources) -> tuple[Launch, Path]:
        room, restart = self.room, self.view.restarts
        home = room.folder / "containers" / self.name
        home.mkdir(parents=True, exist_ok=True)
        termination_file = room.folder / "termination" / f"{self.name}.{restart}"
        termination_file.parent.mkdir(exist_ok=True)
        termination_file.touch(mode=0o600)
        termination_path = self.spec.get("terminationMessagePath") or _DEFAULT_TERMINATION_PATH
        mounts = [*container_mounts(self.spec, room.volumes), Mount(termination_path, str(termination_file))]
        declared = container_environment(room.pod, self.spec, sources, room.facts)
        environment = {
            **image_environment(image),
            "HOME": str(home),
            "TMPDIR": str(home),
            "HOSTNAME": room.pod["metadata"]["name"],
            **room.cluster_environment,
            **{name: rewrite(value, mounts) for name, value in declared.items()},
        }
        words = [*(self.spec.get("command") or []), *(self.spec.get("args") or [])]
        argv = [rewrite_argument(expand(word, declared), mounts) for word in words]
        cwd = rewrite(self.spec["workingDir"], mounts) if self.spec.get("workingDir") else str(home)
        return Launch(
            self._with_program(argv, image, environment, cwd), environment, cwd, self._new_log()
        ), termination_file

    def _with_program(self, argv: list[str], image: HostImage, environment: dict[str, str], cwd: str) -> list[str]:
        if not self.spec.get("command"):
            return ["(no command: host nodes know no entrypoint of an image)"]
        return [find_program(argv[0], image, environment, cwd) or argv[0], *argv[1:]]

    def _new_log(self) -> Path:
        log = self.log_file(self.view.restarts)
        log.parent.mkdir(exist_ok=True)
        return log

    def _cannot_start(self, why: str, container_id: str) -> None:
        message = f"failed to start container: {why}"
        self.hooks.event("Warning", "Failed", f"Error: {message}")
        ended = Terminated(_START_ERROR_CODE, "StartError", None, utc_now(), message, container_id)
        self._set(ended, container_id=container_id)

    def _termination_message(self, file: Path, log: Path, code: int) -> str:
        message = file.read_bytes()[:_TERMINATION_MESSAGE_BYTES] if file.is_file() else b""
        if not message and code != 0 and self.spec.get("terminationMessagePolicy") == "FallbackToLogsOnError":
            message = log.read_bytes()[-_TERMINATION_LOG_BYTES:]
        return message.decode(errors="replace")

    def _set(self, state: State, container_id: str | None = None, image_id: str | None = None) -> None:
        self.view = replace(
            self.view,
            state=state,
            container_id=self.view.container_id if container_id is None else container_id,
            image_id=self.view.image_id if image_id is None else image_id,
        )
        self.hooks.changed()
