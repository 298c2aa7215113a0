"""What the workers of a pool compute on. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass

from evalfleet.api.scalingpolicy import Accelerator, NodePool

ANY, CPU, CUDA = "Auto", "cpu", "cuda"
"""What there is where the plan is made, and the kinds of devices as torch names them; ROCm's are `cuda` as well."""
NVIDIA = "nvidia.com/gpu"


@dataclass(frozen=True, slots=True)
class Devices:
    """What the plan must know of the devices that a run may use.

    Attributes:
        kind: Auto, `cpu`, or `cuda` as soon as one pool has GPUs: the other pools take no part then.
        products: of the GPUs, as far as the policy names them.
        per_worker: most that one worker occupies.
    """

    kind: str = ANY
    products: tuple[str, ...] = ()
    per_worker: int = 1


def accelerator_of(pool: NodePool) -> Accelerator | None:
    """What one worker of the pool occupies: one GPU where nothing is said, nothing if the pool is Local."""
    if pool.accelerator is None and pool.capacity_type == "Local":
        return None
    return pool.accelerator or Accelerator()


def resource_name(accelerator: Accelerator) -> str:
    """The extended resource that a pod asks for."""
    return accelerator.resource_name or NVIDIA


def devices_of(pools: Iterable[NodePool], simulated: bool = False) -> Devices:
    """The devices of a policy's pools; simulated GPUs are the CPU of the machine that plays them."""
    found = [accelerator for pool in pools if (accelerator := accelerator_of(pool)) is not None]
    if simulated or not found:
        return Devices(CPU)
    products = dict.fromkeys(accelerator.product for accelerator in found if accelerator.product)
    return Devices(CUDA, tuple(products), max(accelerator.count_per_worker for accelerator in found))


def computes(pool: NodePool, kind: str) -> bool:
    """Whether workers of the pool can take part in a run of that kind; one on CPUs leaves a GPU idle, but is right."""
    return kind != CUDA or accelerator_of(pool) is not None
