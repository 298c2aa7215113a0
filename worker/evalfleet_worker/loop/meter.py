"""What a worker measures about itself, and the Progress it reports."""

import time
from dataclasses import dataclass, field

from evalfleet_worker.loop.coordinator import Coordinator
from evalfleet_worker.loop.gpu import gpu_use
from evalfleet_worker.protocol import Progress
from evalfleet_worker.requests import Unit

SMOOTHING = 0.3


@dataclass
class Meter:
    """Rates and times of one worker."""

    worker: str
    state: str = "Starting"
    device: str = ""
    engine: str = ""
    model_load_seconds: float = 0.0
    scoring_seconds: float = 0.0
    wasted_seconds: float = 0.0
    failures: int = 0
    requests_per_second: float = 0.0
    tokens_per_second: float = 0.0
    started: float = field(default_factory=time.monotonic)

    def scored(self, unit: Unit, seconds: float, first: bool) -> None:
        """Count a scored unit; a second execution is wasted time."""
        self.scoring_seconds += seconds
        self.wasted_seconds += 0.0 if first else seconds
        self.requests_per_second = _smooth(self.requests_per_second, unit.row_count / max(seconds, 1e-9))
        self.tokens_per_second = _smooth(self.tokens_per_second, unit.tokens / max(seconds, 1e-9))

    def progress(self, coordinator: Coordinator) -> Progress:
        """The answer to GET /progress."""
        plan = coordinator.plan
        gpu = gpu_use()
        done, own = set(coordinator.done), set(coordinator.committed)
        return Progress(
            run_id=plan.report.run_id,
            worker=self.worker,
            state=self.state,
            units_total=len(plan.units),
            units_done=len(done),
            requests_total=plan.report.requests,
            requests_done=sum(plan.units[index].row_count for index in done),
            units_own=len(own),
            requests_own=sum(plan.units[index].row_count for index in own),
            requests_per_second=round(self.requests_per_second, 3),
            tokens_per_second=round(self.tokens_per_second, 1),
            device=self.device,
            engine=self.engine,
            model_load_seconds=round(self.model_load_seconds, 3),
            scoring_seconds=round(self.scoring_seconds, 3),
            wasted_seconds=round(self.wasted_seconds, 3),
            failures=self.failures,
            gpu_utilization_percent=gpu.utilization_percent,
            gpu_memory_bytes=gpu.memory_bytes,
        )


def _smooth(before: float, value: float) -> float:
    return value if before == 0.0 else (1 - SMOOTHING) * before + SMOOTHING * value
