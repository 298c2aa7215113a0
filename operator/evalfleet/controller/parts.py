"""What reconcilers share."""

from dataclasses import dataclass

from evalfleet.controller.act import Actor
from evalfleet.controller.cache import Cache
from evalfleet.controller.memory import Memory
from evalfleet.controller.metrics import Telemetry
from evalfleet.controller.observe import Observer
from evalfleet.controller.queue import WorkQueue
from evalfleet.controller.route import Router
from evalfleet.controller.status import StatusWriter
from evalfleet.kube.client import Kube
from evalfleet.kube.resources import Key
from evalfleet.kube.runs import RunBook


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of a running operator, each made once by the controller."""

    kube: Kube
    cache: Cache
    memory: Memory
    queue: WorkQueue[Key]
    observer: Observer
    router: Router
    actor: Actor
    statuses: StatusWriter
    telemetry: Telemetry
    runs: RunBook
