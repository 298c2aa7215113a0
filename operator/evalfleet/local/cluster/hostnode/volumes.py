"""The volumes of one pod as folders below its own folder."""

from collections.abc import Mapping
from pathlib import Path

from evalfleet.kube.client import Kube, Object
from evalfleet.local.cluster.files import private_folder
from evalfleet.local.cluster.hostnode.environment import PodFacts, Sources, field_value
from evalfleet.local.cluster.hostnode.paths import Mount
from evalfleet.local.cluster.hostnode.sources import claimed_host_path, service_account_token

_HOST_PATH_TYPES = ("", "Directory", "DirectoryOrCreate")


class VolumeError(Exception):
    """A volume cannot be provided (yet); the message is what the kubelet reports as FailedMount."""


class VolumeWriter:
    """Creates the volumes of one pod below `folder`."""

    def __init__(self, kube: Kube, pod: Object, folder: Path, sources: Sources, facts: PodFacts) -> None:
        self._kube, self._pod, self._folder = kube, pod, folder
        self._sources, self._facts = sources, facts

    async def create_all(self) -> dict[str, Path]:
        """Folder of every volume by name.

        Raises:
            VolumeError: an object is missing, a claim is not bound or the kind is not provided.
        """
        private_folder(self._folder)
        return {volume["name"]: await self._create(volume) for volume in self._pod["spec"].get("volumes") or []}

    async def _create(self, volume: Object) -> Path:
        target = self._folder / str(volume["name"])
        if "hostPath" in volume:
            return _host_path(volume["name"], volume["hostPath"])
        if "persistentVolumeClaim" in volume:
            return await self._claimed(volume)
        private_folder(target)
        if "emptyDir" in volume:
            return target
        for name, content in (await self._files(volume, volume)).items():
            _write(target / name, content)
        return target

    async def _claimed(self, volume: Object) -> Path:
        claim = volume["persistentVolumeClaim"]["claimName"]
        path = await claimed_host_path(self._kube, self._pod["metadata"]["namespace"], claim)
        if path is None:
            raise VolumeError(f'claim "{claim}" is not bound to a volume with a host path')
        return _host_path(volume["name"], {"path": path, "type": "DirectoryOrCreate"})

    async def _files(self, volume: Object, part: Object) -> dict[str, str]:
        if "configMap" in part:
            return _selected("configmap", part["configMap"], part["configMap"]["name"], self._sources.config_maps)
        if "secret" in part:
            reference = part["secret"]
            name = reference.get("secretName") or reference["name"]
            return _selected("secret", reference, name, self._sources.secrets)
        if "downwardAPI" in part:
            return self._downward(part["downwardAPI"])
        if "serviceAccountToken" in part:
            projection = part["serviceAccountToken"]
            return {projection["path"]: await service_account_token(self._kube, self._pod, projection)}
        if "projected" in part:
            files: dict[str, str] = {}
            for source in part["projected"].get("sources") or []:
                files.update(await self._files(volume, source))
            return files
        kinds = ", ".join(key for key in part if key != "name")
        raise VolumeError(f'volume "{volume["name"]}": host nodes provide no volumes of kind {kinds}')

    def _downward(self, source: Object) -> dict[str, str]:
        items = source.get("items") or []
        return {
            item["path"]: field_value(item["fieldRef"]["fieldPath"], self._pod, self._facts)
            for item in items
            if "fieldRef" in item
        }


def container_mounts(container: Object, volumes: Mapping[str, Path]) -> list[Mount]:
    """Where the mount paths of a container are on this machine."""
    mounts = []
    for mount in container.get("volumeMounts") or []:
        host = volumes[mount["name"]] / mount.get("subPath", "")
        if mount.get("subPath") and not host.exists():
            host.mkdir(parents=True)
        mounts.append(Mount(mount["mountPath"], str(host)))
    return mounts


def _host_path(name: str, source: Object) -> Path:
    path, kind = Path(source["path"]), source.get("type", "")
    if kind not in _HOST_PATH_TYPES:
        raise VolumeError(f'volume "{name}": hostPath type {kind} is not provided')
    if kind == "DirectoryOrCreate":
        path.mkdir(parents=True, exist_ok=True)
    if kind and not path.is_dir():
        raise VolumeError(f'volume "{name}": hostPath type check failed: {path} is not a directory')
    return path


def _selected(kind: str, reference: Object, name: str, objects: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    content = objects.get(name)
    if content is None:
        if reference.get("optional"):
            return {}
        raise VolumeError(f'{kind} "{name}" not found')
    items = reference.get("items")
    if not items:
        return dict(content)
    missing = [item["key"] for item in items if item["key"] not in content]
    if missing and not reference.get("optional"):
        raise VolumeError(f"references non-existent config key: {missing[0]}")
    return {item["path"]: content[item["key"]] for item in items if item["key"] in content}


def _write(path: Path, content: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode(errors="surrogateescape"))
    path.chmod(0o600)
