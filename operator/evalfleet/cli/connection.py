"""Reading a cluster for the commands that look at it: one connection, errors explained."""

import asyncio
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from evalfleet.cli.exits import Exit
from evalfleet.cli.output import fail

SILENCE_SECONDS = 10.0
"""After which it is said that a cluster does not answer."""

T = TypeVar("T")
Object = dict[str, Any]

Namespace = Annotated[
    str | None, typer.Option("--namespace", "-n", help="Namespace. Default: the one of the kubeconfig's context.")
]
Context = Annotated[str | None, typer.Option(help="Context of the kubeconfig. Default: the current one.")]


@dataclass(frozen=True, slots=True)
class Place:
    """A cluster and a namespace in it; `None` is the kubeconfig's own choice."""

    namespace: str | None = None
    context: str | None = None


class Reader:
    """Reads of one cluster; `namespace` is the one asked for or the context's."""

    def __init__(self, kube: Any, namespace: str) -> None:
        self._kube = kube
        self.namespace = namespace

    async def get(self, kind: str, name: str) -> Object:
        """One object of the namespace."""
        from evalfleet.kube.resources import Key, object_path

        found: Object = await self._kube.get(object_path(Key(kind, self.namespace, name)))
        return found

    async def find(self, kind: str, name: str) -> Object | None:
        """One object of the namespace, or None."""
        from evalfleet.kube.client import NOT_FOUND, KubeError

        try:
            return await self.get(kind, name)
        except KubeError as error:
            if error.status == NOT_FOUND:
                return None
            raise

    async def list_all(self, kind: str, *, everywhere: bool = False) -> list[Object]:
        """All objects of a kind in the namespace, or in all of them."""
        from evalfleet.kube.resources import collection_path

        path = collection_path(kind, None if everywhere else self.namespace)
        return [item async for page in self._kube.pages(path) for item in page.objects]

    async def events_of(self, uid: str) -> list[Object]:
        """Events about an object, oldest first."""
        path = f"/api/v1/namespaces/{self.namespace}/events"
        listing = await self._kube.get(path, fieldSelector=f"involvedObject.uid={uid}")
        return sorted(listing.get("items") or [], key=lambda event: str(event.get("lastTimestamp") or ""))


def read(place: Place, what: str, question: Callable[[Reader], Awaitable[T]]) -> T:
    """The answer of a cluster to `question`; ends the command with a message when there is none."""
    from aiohttp import ClientError

    from evalfleet.kube.client import KubeconfigError, KubeError

    if not _configured():
        fail(
            "no cluster to ask: no kubeconfig. Set KUBECONFIG, or start a cluster: `evalfleet cluster up`",
            Exit.CANNOT_SUCCEED,
        )
    try:
        return asyncio.run(_ask(place, question))
    except KubeconfigError as error:
        fail(f"the kubeconfig cannot be used: {error}", Exit.CANNOT_SUCCEED)
    except KubeError as error:
        fail(f"{what}: {_explained(error.status, str(error))}", Exit.CANNOT_SUCCEED)
    except (ClientError, OSError, TimeoutError) as error:
        fail(f"the cluster does not answer: {error}", Exit.CANNOT_SUCCEED)


def _configured() -> bool:
    """Whether there is a kubeconfig or a pod's service account; the client would only print that there is none."""
    files = os.environ.get("KUBECONFIG") or str(Path.home() / ".kube" / "config")
    return "KUBERNETES_SERVICE_HOST" in os.environ or any(Path(name).is_file() for name in files.split(os.pathsep))


async def _ask(place: Place, question: Callable[[Reader], Awaitable[T]]) -> T:
    from evalfleet.kube.client import Kube, context_namespace

    kube = await Kube.connect_default(place.context)
    asked = asyncio.ensure_future(question(Reader(kube, place.namespace or context_namespace(place.context))))
    try:
        while not (await asyncio.wait({asked}, timeout=SILENCE_SECONDS))[0]:
            typer.echo(f"the cluster has not answered for {SILENCE_SECONDS:.0f} s; still waiting", err=True)
        return await asked
    finally:
        asked.cancel()
        await kube.close()


def _explained(status: int, message: str) -> str:
    if status == 404 and any(text in message for text in ("page not found", "could not find the requested resource")):
        return (
            "the cluster does not know evalfleet's API; install it: `evalfleet crds | kubectl apply --server-side -f -`"
        )
    return message
