"""A deterministic world for the claim protocol: seeded schedule, virtual clock, in-memory store that fails.

Workers crash in the middle of any store call, pause longer than the lease and come back as zombies, lose responses of
calls that took effect, join and leave; some are sick and fail everything, some units fail everywhere. The code under
test is the production Coordinator.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache

from evalfleet_worker.loop.coordinator import Claim, Coordinator, Done, Owner
from evalfleet_worker.loop.health import Health
from evalfleet_worker.loop.messages import Failed, FailureKind
from evalfleet_worker.loop.settings import ClaimSettings
from evalfleet_worker.loop.verdict import Verdict
from evalfleet_worker.protocol import BrokenWorkerError, FailureReason, PlanReport
from evalfleet_worker.requests import Answer, Request, RequestType, Unit
from evalfleet_worker.store.layout import Layout
from evalfleet_worker.store.objects import Entry, StoreUnavailableError
from evalfleet_worker.store.run_store import Plan, PlanDraft, RunStore

ROWS_PER_UNIT = 3


class CrashError(Exception):
    """The process is gone in the middle of a call."""


class FaultyObjects:
    """Objects in memory; every call may fail before or after it took effect, or kill its caller."""

    def __init__(self) -> None:
        self.content: dict[str, bytes] = {}
        self.version: dict[str, int] = {}
        self.created: dict[str, int] = {}
        self.chaos: random.Random | None = None
        self.crash_rate = 0.0
        self.error_rate = 0.0
        self.calls = 0

    def create(self, path: str, content: bytes) -> bool:
        self._before()
        created = path not in self.content
        if created:
            self.created[path] = self.created.get(path, 0) + 1
            self._write(path, content)
        self._after()
        return created

    def put(self, path: str, content: bytes) -> None:
        self._before()
        self._write(path, content)
        self._after()

    def get(self, path: str) -> bytes | None:
        self._before()
        return self.content.get(path)

    def list(self, prefix: str) -> list[Entry]:
        self._before()
        return [Entry(path, str(self.version[path])) for path in sorted(self.content) if path.startswith(prefix)]

    def delete(self, path: str) -> None:
        self._before()
        self.content.pop(path, None)

    def delete_all(self, paths: Sequence[str]) -> None:
        for path in paths:
            self.delete(path)

    def size(self, path: str) -> int:
        return len(self.content[path])

    def modified(self, path: str) -> str:
        return "2026-01-01T00:00:00+00:00" if path in self.content else ""

    def get_range(self, path: str, start: int, end: int) -> bytes:
        return self.content[path][start:end]

    def _write(self, path: str, content: bytes) -> None:
        self.content[path] = content
        self.version[path] = self.version.get(path, 0) + 1

    def _before(self) -> None:
        self.calls += 1
        self._fault()

    def _after(self) -> None:
        self._fault()

    def _fault(self) -> None:
        if self.chaos is None:
            return
        draw = self.chaos.random()
        if draw < self.crash_rate:
            raise CrashError
        if draw < self.crash_rate + self.error_rate:
            raise StoreUnavailableError("simulated")


@dataclass
class SimWorker:
    """One worker process as the schedule sees it."""

    coordinator: Coordinator
    free_at: float = 0.0
    claim: Claim | None = None
    executions: int = 0
    finished: bool = False
    sick: bool = False
    """Its device fails whatever it is given."""
    health: Health = field(default_factory=Health)


@dataclass
class World:
    """One schedule: a store, a plan, workers and a seeded chaos."""

    seed: int
    units: int = 12
    poison: frozenset[int] = frozenset()
    hopeless: frozenset[int] = frozenset()
    """Units whose requests fail everywhere with the same words."""
    second_from: int | None = None
    """First unit of a second evaluation."""
    sick_workers: int = 0
    """So many of the first workers are sick."""
    crash_rate: float = 0.004
    error_rate: float = 0.02
    settings: ClaimSettings = field(default_factory=ClaimSettings)

    def __post_init__(self) -> None:
        self.chance = random.Random(self.seed)
        self.objects = planned_objects(self.units, self.second_from)
        self.now = 0.0
        self.born = 0
        self.crashes = 0
        self.broken = 0
        self.store = RunStore(self.objects, Layout("sim", "run"))
        plan = self.store.read_plan()
        assert plan is not None
        self.plan = plan
        self.objects.chaos, self.objects.crash_rate, self.objects.error_rate = (
            self.chance,
            self.crash_rate,
            self.error_rate,
        )
        self.workers = [self.spawn() for _ in range(self.chance.randint(1, 5))]
        self.commits: dict[int, int] = {}

    def spawn(self) -> SimWorker:
        """A new worker process."""
        self.born += 1
        owner = Owner(f"owner-{self.seed}-{self.born}", f"worker-{self.born}")
        coordinator = Coordinator(self.store, self.plan, owner, lambda: self.now, self.settings)
        return SimWorker(coordinator, self.now, sick=self.born <= self.sick_workers)

    def run(self, max_steps: int = 20_000) -> None:
        """Run until a worker finds nothing left; joins and leaves on the way."""
        for _ in range(max_steps):
            if not self.workers or (len(self.workers) < 6 and self.chance.random() < 0.002):
                self.workers.append(self.spawn())
            self.now += self.chance.expovariate(1.0)
            worker = self.chance.choice(self.workers)
            self._step(worker)
            if worker.finished:
                return
        raise AssertionError(f"seed {self.seed}: no progress after {max_steps} steps")

    def _step(self, worker: SimWorker) -> None:
        if worker.free_at > self.now:
            if worker.claim is not None and self.chance.random() < 0.5:
                self._guarded(worker, worker.coordinator.heartbeat)
            return
        if self.chance.random() < 0.01:
            worker.free_at = self.now + self.chance.uniform(20.0, 200.0)  # paused, maybe beyond its lease
            return
        self._guarded(worker, lambda: self._work(worker))

    def _work(self, worker: SimWorker) -> None:
        if worker.claim is None:
            step = worker.coordinator.next()
            if isinstance(step, Claim):
                worker.claim = step
                worker.free_at = self.now + self.chance.uniform(1.0, 12.0)
            elif isinstance(step, Done):
                worker.finished = True
            else:
                worker.free_at = self.now + step.seconds
            return
        self._execute(worker, worker.claim)

    def _execute(self, worker: SimWorker, claim: Claim) -> None:
        """The decisions of the worker's loop about one unit."""
        worker.executions += 1
        coordinator, unit = worker.coordinator, claim.unit
        requests = coordinator.ended.wanted([request(row, self.second_from) for row in unit_rows(unit)])
        failure = self._failure(worker, unit) if requests else None
        if failure is None:
            coordinator.commit(claim, [answer for answer in answers(unit) if requests], 5.0, {})
            worker.health.progressed()
            worker.claim = None
            return
        found = coordinator.record_failure(claim, failure, worker.executions, requests[0].evaluation)
        worker.claim = claim if found is Verdict.TRY_HERE else None
        if found is Verdict.TRY_ELSEWHERE:
            worker.health.failed(failure.kind, failure.reason, failure.message)
        elif found is not Verdict.TRY_HERE:
            worker.health.progressed()

    def _failure(self, worker: SimWorker, unit: Unit) -> Failed | None:
        if worker.sick:
            return Failed(FailureReason.DEVICE_FAILED, "CUDA error: out of luck", FailureKind.MACHINE, restart=True)
        if unit.index in self.hopeless:
            return Failed(FailureReason.INTERNAL_ERROR, f"ValueError: unit {unit.index}", FailureKind.WORK)
        if unit.index in self.poison:
            return Failed(FailureReason.ENGINE_CRASHED, "poison", FailureKind.CRASH)
        return None

    def _guarded(self, worker: SimWorker, action: object) -> None:
        try:
            action()  # type: ignore[operator]
        except BrokenWorkerError:
            self.broken += 1
            self.workers.remove(worker)
        except StoreUnavailableError:
            return  # the worker tries the same again at its next turn
        except CrashError:
            self.crashes += 1
            self.workers.remove(worker)

    def calm(self) -> None:
        """End the chaos, to look at what is left."""
        self.objects.chaos = None


def planned_objects(units: int, second_from: int | None = None) -> FaultyObjects:
    """A store that holds a plan of `units` units and nothing else."""
    objects = FaultyObjects()
    objects.content = dict(_planned_content(units, second_from))
    objects.version = dict.fromkeys(objects.content, 1)
    return objects


@cache
def _planned_content(units: int, second_from: int | None) -> dict[str, bytes]:
    """Written once per process: a schedule costs as much as writing its plan."""
    objects = FaultyObjects()
    RunStore(objects, Layout("sim", "run")).publish_plan(draft(units, second_from))
    return objects.content


def draft(units: int, second_from: int | None = None) -> PlanDraft:
    """A plan of `units` units with three rows each; from unit `second_from` on they are of a second evaluation."""
    members = [Unit(index, index * ROWS_PER_UNIT, ROWS_PER_UNIT, 30, 5.0) for index in range(units)]
    rows = units * ROWS_PER_UNIT
    report = PlanReport("run", rows, rows * 3, 0, units, 5.0 * units, 1.0, 1, "model", "requests", rows)
    return PlanDraft(report, [(unit, [request(row, second_from) for row in unit_rows(unit)]) for unit in members])


def unit_rows(unit: Unit) -> range:
    """Rows of a unit."""
    return range(unit.first_row, unit.first_row + unit.row_count)


def request(row: int, second_from: int | None = None) -> Request:
    """The request of a row."""
    is_second = second_from is not None and row >= second_from * ROWS_PER_UNIT
    name = "second" if is_second else "evaluation"
    return Request(row, name, RequestType.LOGLIKELIHOOD, row, token_ids=(1, 2, row), continuation_length=1)


def answers(unit: Unit) -> list[Answer]:
    """The answers of a unit, the same from every worker."""
    return [Answer(row, log_probability=-float(row), is_greedy=row % 2 == 0) for row in unit_rows(unit)]


def merged(store: RunStore, plan: Plan) -> list[Answer]:
    """All committed answers in row order."""
    parts = (store.read_answers(plan, unit) for unit in plan.units)
    return [answer for part in parts if part is not None for answer in part[0]]
