"""The Lease of the leader election in the API server."""

from typing import Any

import aiohttp

from evalfleet.kube.client import CONFLICT, NOT_FOUND, Kube, KubeError


class KubeLease:
    """One Lease object, read and written at its resourceVersion."""

    def __init__(self, kube: Kube, namespace: str, name: str) -> None:
        self._kube = kube
        self._folder = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"
        self._name = name

    async def read_lease(self) -> dict[str, Any] | None:
        """The lease, or None when there is none."""
        try:
            return await self._kube.get(f"{self._folder}/{self._name}")
        except KubeError as error:
            if error.status == NOT_FOUND:
                return None
            raise
        except aiohttp.ClientError as error:
            raise ConnectionError(str(error)) from error

    async def write_lease(self, lease: dict[str, Any], create: bool) -> dict[str, Any] | None:
        """Create or replace; None when another candidate was faster."""
        try:
            if create:
                return await self._kube.create(self._folder, lease)
            return await self._kube.replace(f"{self._folder}/{self._name}", lease)
        except KubeError as error:
            if error.status == CONFLICT:
                return None
            raise
        except aiohttp.ClientError as error:
            raise ConnectionError(str(error)) from error
