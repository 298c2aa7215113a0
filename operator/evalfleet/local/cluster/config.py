"""What a local cluster consists of: node pools and images, as values that travel as JSON."""

import json
import re
import sys
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Literal

CapacityType = Literal["spot", "on-demand"]

CAPACITY_LABEL = "karpenter.sh/capacity-type"
POOL_LABEL = "karpenter.sh/nodepool"
GPU_RESOURCE = "nvidia.com/gpu"
_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,40}[a-z0-9])?")


class ConfigError(ValueError):
    """A pool or image definition is wrong; the message says what is expected."""


@dataclass(frozen=True)
class Pool:
    """A group of like nodes.

    `count` nodes are there from the start and are kept (an interrupted one is replaced after `startup_seconds`); up to
    `max_count` are started while a pod of theirs is Pending and removed after `idle_seconds` without a pod.
    """

    name: str
    capacity_type: CapacityType = "on-demand"
    count: int = 1
    max_count: int = 0
    gpus: int = 1
    startup_seconds: float = 0.0
    idle_seconds: float = 30.0
    cpu: str = "16"
    memory: str = "64Gi"
    labels: dict[str, str] = field(default_factory=dict)
    taints: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ConfigError(f"pool name {self.name!r}: lower-case letters, digits and '-' (at most 42)")
        if self.capacity_type not in ("spot", "on-demand"):
            raise ConfigError(f"pool {self.name}: capacity type is spot or on-demand, not {self.capacity_type!r}")
        if min(self.count, self.max_count, self.gpus, self.startup_seconds, self.idle_seconds) < 0:
            raise ConfigError(f"pool {self.name}: counts and times may not be negative")
        for taint in self.taints:
            parse_taint(taint)

    @property
    def limit(self) -> int:
        """Most nodes this pool may have."""
        return max(self.count, self.max_count)

    @property
    def node_labels(self) -> dict[str, str]:
        """Labels every node of the pool carries (without its hostname)."""
        return {
            CAPACITY_LABEL: self.capacity_type,
            POOL_LABEL: self.name,
            "kubernetes.io/os": "linux",
            "kubernetes.io/arch": "amd64",
            "node.kubernetes.io/instance-type": "host",
            **self.labels,
        }


@dataclass(frozen=True)
class HostImage:
    """Pods whose image begins with `prefix` run with the programs of one Python environment of this machine."""

    prefix: str
    python: str = sys.executable
    env: dict[str, str] = field(default_factory=dict)


DEFAULT_IMAGES = (HostImage("evalfleet/"), HostImage("ghcr.io/evalfleet/"))
DEFAULT_POOLS = (
    Pool("spot", capacity_type="spot", count=2, max_count=2),
    Pool("on-demand", count=0, max_count=1, startup_seconds=5.0),
)


@dataclass(frozen=True)
class ClusterConfig:
    """Everything `evalfleet cluster up` may be told."""

    pools: tuple[Pool, ...] = DEFAULT_POOLS
    images: tuple[HostImage, ...] = DEFAULT_IMAGES

    def __post_init__(self) -> None:
        names = [pool.name for pool in self.pools]
        if len(set(names)) != len(names):
            raise ConfigError(f"two pools have the same name: {', '.join(names)}")

    def to_json(self) -> str:
        """For the supervisor process."""
        return json.dumps(asdict(self), indent=2)

    @classmethod
    def from_json(cls, text: str) -> "ClusterConfig":
        """The inverse of `to_json`."""
        raw = json.loads(text)
        pools = tuple(Pool(**{**pool, "taints": tuple(pool["taints"])}) for pool in raw["pools"])
        return cls(pools=pools, images=tuple(HostImage(**image) for image in raw["images"]))


def parse_pool(text: str) -> Pool:
    """A pool from `name=spot,capacity=spot,count=2,max=4,gpus=1,startup=5,idle=30,cpu=16,memory=64Gi`.

    `label.KEY=VALUE` and `taint=KEY=VALUE:EFFECT` may be given as well.
    """
    pool, labels, taints = Pool("pool"), {}, []
    for part in text.split(","):
        key, separator, value = part.partition("=")
        if not separator:
            raise ConfigError(f"pool {text!r}: {part!r} is not KEY=VALUE")
        if key.startswith("label."):
            labels[key.removeprefix("label.")] = value
        elif key == "taint":
            taints.append(value)
        else:
            pool = _with(pool, text, key, value)
    if pool.name == "pool" and "name=" not in text:
        raise ConfigError(f"pool {text!r} has no name=")
    return replace(pool, labels=labels, taints=tuple(taints))


_FIELDS: dict[str, tuple[str, type]] = {
    "name": ("name", str),
    "capacity": ("capacity_type", str),
    "count": ("count", int),
    "max": ("max_count", int),
    "gpus": ("gpus", int),
    "startup": ("startup_seconds", float),
    "idle": ("idle_seconds", float),
    "cpu": ("cpu", str),
    "memory": ("memory", str),
}


def _with(pool: Pool, text: str, key: str, value: str) -> Pool:
    try:
        name, kind = _FIELDS[key]
    except KeyError:
        raise ConfigError(f"pool {text!r}: unknown key {key!r}; known: {', '.join(_FIELDS)}, label.*, taint") from None
    try:
        return replace(pool, **{name: kind(value)})
    except ValueError as error:
        raise ConfigError(f"pool {text!r}: {key}={value}: {error}") from None


def parse_image(text: str) -> HostImage:
    """An image from `PREFIX=PYTHON`, e.g. `ghcr.io/me/worker=/opt/venv/bin/python`."""
    prefix, separator, python = text.partition("=")
    if not prefix or not separator or not Path(python).is_file():
        raise ConfigError(f"image {text!r}: PREFIX=PYTHON with the path of an existing Python program is expected")
    return HostImage(prefix, python)


def parse_taint(text: str) -> dict[str, str]:
    """A taint from `KEY[=VALUE]:EFFECT`."""
    body, separator, effect = text.rpartition(":")
    key, _, value = body.partition("=")
    if not separator or not key or effect not in ("NoSchedule", "PreferNoSchedule", "NoExecute"):
        raise ConfigError(f"taint {text!r}: KEY[=VALUE]:NoSchedule|PreferNoSchedule|NoExecute is expected")
    return {"key": key, "effect": effect, **({"value": value} if value else {})}
