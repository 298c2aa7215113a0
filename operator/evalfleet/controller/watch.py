"""The kopf shell: watches only. Every event goes, unjudged, to one callback in the operator's own loop."""

import asyncio
import threading
from collections.abc import Callable, Mapping
from typing import Any

import kopf

from evalfleet import limits
from evalfleet.api.crd import GROUP, VERSION
from evalfleet.manifests.names import MANAGED

Deliver = Callable[[str, str | None, Mapping[str, Any]], None]
"""Called with kind, event type (None = part of a listing) and object, in the loop it was given with."""

OWN = {"EvaluationJob": (GROUP, VERSION, "evaluationjobs"), "ScalingPolicy": (GROUP, VERSION, "scalingpolicies")}
CHILDREN = {"Job": ("batch", "v1", "jobs"), "Pod": ("", "v1", "pods")}


class Watcher:
    """Runs kopf in a thread with a loop of its own: it cancels every task of its loop when it ends."""

    def __init__(self, namespaces: tuple[str, ...], loop: asyncio.AbstractEventLoop, deliver: Deliver) -> None:
        self._namespaces = namespaces
        self._loop = loop
        self._deliver = deliver
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="kopf", daemon=True)
        self.error: BaseException | None = None

    def start(self) -> None:
        """Begin to watch."""
        self._thread.start()

    def stop(self) -> None:
        """End watching; returns when the thread has ended or after ten seconds."""
        self._stop.set()
        self._thread.join(10.0)

    @property
    def alive(self) -> bool:
        """Whether the watches run."""
        return self._thread.is_alive()

    def _run(self) -> None:
        try:
            asyncio.run(self._watch())
        except BaseException as error:  # noqa: BLE001 - whatever ends the watches ends the operator, which says it
            self.error = error

    async def _watch(self) -> None:
        try:
            await kopf.operator(
                registry=self._registry(),
                settings=_settings(),
                standalone=True,
                clusterwide=not self._namespaces,
                namespaces=self._namespaces,
                stop_flag=self._stop,
            )
        finally:
            # kopf waits for the flag in a thread of the loop's executor, and the loop's end waits for that thread:
            # without this a watch that failed would leave a process that leads, looks alive and sees nothing.
            self._stop.set()

    def _registry(self) -> kopf.OperatorRegistry:
        registry = kopf.OperatorRegistry()
        kopf.on.login(registry=registry)(_login)
        for kind, resource in {**OWN, **CHILDREN}.items():
            kopf.on.event(*resource, registry=registry, id=f"watch-{kind}")(self._handler(kind))
        return registry

    def _handler(self, kind: str) -> Callable[..., Any]:
        async def handle(event: Mapping[str, Any], **_: object) -> None:
            self._loop.call_soon_threadsafe(self._deliver, kind, event.get("type"), dict(event["object"]))

        return handle


def _login(**kwargs: Any) -> Any:
    return kopf.login_with_service_account(**kwargs) or kopf.login_with_kubeconfig(**kwargs)


def _settings() -> kopf.OperatorSettings:
    settings = kopf.OperatorSettings()
    settings.posting.enabled = False
    settings.scanning.disabled = True
    settings.watching.server_timeout = limits.WATCH_SECONDS
    settings.watching.client_timeout = limits.WATCH_SECONDS + 10
    settings.watching.inactivity_timeout = limits.WATCH_SILENCE_SECONDS
    # At the server: `labels=` of a handler would fetch every pod of the cluster first and look at its labels here.
    for resource in CHILDREN.values():
        settings.watching.label_selectors[resource] = ",".join(f"{name}={value}" for name, value in MANAGED.items())
    settings.process.ultimate_exiting_timeout = None
    return settings
