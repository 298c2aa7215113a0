"""Figures of the run store: calls per unit, collisions, overhead, random schedules, time to re-claim a lost unit.

    python benchmarks/run_store.py [calls] [collisions] [overhead] [reclaim] [finish] [schedules] [--schedules 10000]

Calls and collisions are counted on a virtual clock with the production Coordinator and obstore's in-memory store;
overhead and re-claim are wall clock on a local directory; finish is wall clock on an S3 server (moto) in a process of
its own: reading every unit, publishing and sweeping, without the metrics. Each part updates
benchmarks/results/run-store.json.
"""

import argparse
import heapq
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "worker"), str(ROOT / "tests" / "support")]

from obstore.store import MemoryStore, from_url  # noqa: E402 - after the path is set
from protocol_simulation import World, answers, draft, merged  # noqa: E402
from worker_processes import Bench  # noqa: E402

from evalfleet_worker.finish.merge import merge_units  # noqa: E402
from evalfleet_worker.loop.coordinator import Claim, Coordinator, Done, Owner, release_worker  # noqa: E402
from evalfleet_worker.loop.settings import ClaimSettings  # noqa: E402
from evalfleet_worker.requests import Unit  # noqa: E402
from evalfleet_worker.store.layout import Layout  # noqa: E402
from evalfleet_worker.store.objects import DELETE_BATCH, Entry, ObstoreObjects  # noqa: E402
from evalfleet_worker.store.pool import pooled  # noqa: E402
from evalfleet_worker.store.run_store import RunStore  # noqa: E402
from evalfleet_worker.tables import write_answers  # noqa: E402

RESULTS = ROOT / "benchmarks" / "results"
UNIT_SECONDS = 5.0
HEARTBEAT_SECONDS = ClaimSettings().heartbeat_seconds


class CountingObjects(ObstoreObjects):
    """Counts calls by kind."""

    def __init__(self, store: Any = None) -> None:
        super().__init__(store or MemoryStore(), "memory")
        self.kinds: Counter[str] = Counter()

    def create(self, path: str, content: bytes) -> bool:
        self.kinds["create"] += 1
        return super().create(path, content)

    def put(self, path: str, content: bytes) -> None:
        self.kinds["heartbeat"] += 1
        super().put(path, content)

    def get(self, path: str) -> bytes | None:
        self.kinds["get"] += 1
        return super().get(path)

    def list(self, prefix: str) -> list[Entry]:
        self.kinds["list"] += 1
        return super().list(prefix)

    def delete(self, path: str) -> None:
        self.kinds["delete"] += 1
        super().delete(path)

    def delete_all(self, paths: Sequence[str]) -> None:
        self.kinds["delete"] += -(-len(paths) // DELETE_BATCH)
        super().delete_all(paths)

    def size(self, path: str) -> int:
        self.kinds["get"] += 1
        return super().size(path)

    def get_range(self, path: str, start: int, end: int) -> bytes:
        self.kinds["get_range"] += 1
        return super().get_range(path, start, end)


@dataclass
class SimulatedWorker:
    """Scores one unit while it holds, perhaps, the next: the order of calls of the worker's loop."""

    coordinator: Coordinator
    scoring: Claim | None = None
    following: Claim | None = None
    claims: int = 0
    units: list[int] = field(default_factory=list)

    def turn(self) -> float | None:
        """Commit what is scored and start the next; seconds until the next turn, None when nothing is left."""
        if self.scoring is not None:
            self.coordinator.commit(self.scoring, answers(self.scoring.unit), UNIT_SECONDS, {})
            self.units.append(self.scoring.unit.index)
        self.scoring, self.following = self.following or self._prepare(), None
        if self.scoring is None:
            step = self.coordinator.next()
            if isinstance(step, Done):
                return None
            if not isinstance(step, Claim):
                return step.seconds
            self.scoring = self._read(step)
        if self.coordinator.units_left > 4 * max(1, self.coordinator.claimed_elsewhere + 1):
            self.following = self._prepare()
        return UNIT_SECONDS

    def _prepare(self) -> Claim | None:
        step = self.coordinator.next()
        return self._read(step) if isinstance(step, Claim) else None

    def _read(self, claim: Claim) -> Claim:
        self.coordinator.store.read_unit(self.coordinator.plan, claim.unit)
        self.claims += 1
        return claim


def simulate(units: int, workers: int) -> dict[str, Any]:
    """Undisturbed run on a virtual clock; workers start within ten seconds of each other."""
    objects = CountingObjects()
    planner = RunStore(objects, Layout("bench", "run"))
    plan = planner.publish_plan(draft(units))
    objects.kinds.clear()
    now = 0.0
    fleet = [
        SimulatedWorker(Coordinator(RunStore(objects, planner.layout), plan, Owner(f"o{i}", f"w{i}"), lambda: now))
        for i in range(workers)
    ]
    events = [(10.0 * i / workers, 0, i) for i in range(workers)]
    events += [(HEARTBEAT_SECONDS + 10.0 * i / workers, 1, i) for i in range(workers)]
    heapq.heapify(events)
    leavers: set[int] = set()
    while events:
        now, kind, index = heapq.heappop(events)
        if index in leavers:
            continue
        if kind == 1:
            fleet[index].coordinator.heartbeat()
            heapq.heappush(events, (now + HEARTBEAT_SECONDS, 1, index))
        elif (pause := fleet[index].turn()) is None:
            leavers.add(index)
        else:
            # jitter by worker keeps commits from falling into one instant, as on real machines
            heapq.heappush(events, (now + pause * (1 + 0.001 * (index % 97)), 0, index))
    executed = sum(len(worker.units) for worker in fleet)
    claims = sum(worker.claims for worker in fleet)
    collisions = sum(worker.coordinator.collisions for worker in fleet)
    calls = dict(objects.kinds)
    total = sum(calls.values())
    return {
        "units": units,
        "workers": workers,
        "executions": executed,
        "collisions": collisions,
        "collisionShare": round(collisions / (claims + collisions), 4),
        "calls": calls,
        "callsPerUnit": round(total / units, 3),
        "listsPerUnit": round(calls.get("list", 0) / units, 3),
        "heartbeatsPerUnit": round(calls.get("heartbeat", 0) / units, 3),
        "claimReadCommitPerUnit": round((total - calls.get("list", 0) - calls.get("heartbeat", 0)) / units, 3),
    }


def overhead(units: int = 300) -> dict[str, Any]:
    """Wall clock of claim, read and commit of a unit on a local directory, against a 5 s unit."""
    with tempfile.TemporaryDirectory() as folder:
        store = RunStore.open(folder, "bench", "run")
        plan = store.publish_plan(draft(units))
        coordinator = Coordinator(store, plan, Owner("o", "w"), time.monotonic)
        seconds = []
        for _ in range(units):
            started = time.perf_counter()
            claim = coordinator.next()
            assert isinstance(claim, Claim)
            store.read_unit(plan, claim.unit)
            coordinator.commit(claim, answers(claim.unit), UNIT_SECONDS, {})
            seconds.append(time.perf_counter() - started)
    mean = statistics.fmean(seconds)
    return {
        "units": units,
        "meanMilliseconds": round(1e3 * mean, 3),
        "p95Milliseconds": round(1e3 * sorted(seconds)[int(0.95 * units)], 3),
        "shareOfFiveSecondUnit": round(mean / (mean + UNIT_SECONDS), 5),
        "loadAverage": os.getloadavg()[0],
    }


def reclaim(kills: int, released: bool) -> dict[str, Any]:
    """Wall clock from SIGKILL of an owner until another worker process holds the unit, default durations."""
    settings = {} if released else {"backup_seconds": 1e6}
    environment = {"TOY_SECONDS": "600", "EVALFLEET_CLAIM_SETTINGS": json.dumps(settings)}
    seconds = []
    for _ in range(kills):
        with tempfile.TemporaryDirectory() as folder:
            bench = Bench(Path(folder) / "run", f"{folder}/store", units=1, environment=environment)
            try:
                seconds.append(_one_reclaim(bench, released))
            finally:
                bench.kill_all()
    return {"kills": kills, "released": released, "seconds": [round(value, 2) for value in seconds]}


def _one_reclaim(bench: Bench, released: bool) -> float:
    plan, store = bench.plan(), bench.store()
    owner = bench.start("owner")
    _wait_for(store, store.layout.claim(0, 0))
    bench.start("heir")
    time.sleep(10.0)  # the heir has started, seen the claim and waits
    owner.kill()
    owner.wait()
    started = time.monotonic()
    if released:
        release_worker(store, plan, "owner")
    _wait_for(store, store.layout.claim(0, 1))
    return time.monotonic() - started


def _wait_for(store: RunStore, path: str) -> None:
    deadline = time.monotonic() + 180.0
    while store.objects.get(path) is None:
        if time.monotonic() > deadline:
            raise TimeoutError(path)
        time.sleep(0.01)


def finish(units: int) -> dict[str, Any]:
    """Wall clock and store calls of merging, publishing and sweeping a run of `units` units and as many claims."""
    with s3_server() as (uri, options):
        objects = CountingObjects(from_url(uri, **options))
        store = RunStore(objects, Layout("bench", "run"))
        plan = store.publish_plan(draft(units))
        list(pooled(lambda unit: _leave_committed(store, unit), plan.units))
        objects.kinds.clear()
        started = time.monotonic()
        merged_units = merge_units(store, plan)
        read = time.monotonic()
        store.publish_results({"results.json": b"{}"}, {"outcome": "Complete"})
        ended = time.monotonic()
        assert len(merged_units.answers) == plan.report.requests, "every row was read"
        assert objects.list(f"{store.layout.root}/segments/") == [], "everything was swept"
    calls = dict(objects.kinds)
    return {
        "units": units,
        "seconds": round(ended - started, 1),
        "readSeconds": round(read - started, 1),
        "publishAndSweepSeconds": round(ended - read, 1),
        "calls": calls,
        "callsPerUnit": round(sum(calls.values()) / units, 3),
        "loadAverage": os.getloadavg()[0],
    }


def _leave_committed(store: RunStore, unit: Unit) -> None:
    store.objects.put(store.layout.claim(unit.index, 0), b"{}")
    store.objects.put(store.layout.part(unit.index), write_answers(answers(unit), {"owner": "bench"}))


@contextmanager
def s3_server() -> Iterator[tuple[str, dict[str, Any]]]:
    """URI of an empty bucket on an S3 server in another process, and the options to reach it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    keys = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}
    endpoint = f"http://127.0.0.1:{port}"
    try:
        _create_bucket(endpoint, keys)
        options = {**keys, "aws_endpoint": endpoint, "aws_region": "us-east-1", "client_options": {"allow_http": True}}
        yield "s3://bench", options
    finally:
        server.kill()
        server.wait()


def _create_bucket(endpoint: str, keys: dict[str, str]) -> None:
    import boto3
    from botocore.exceptions import BotoCoreError

    client = boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1", **keys)
    for _ in range(100):
        try:
            client.create_bucket(Bucket="bench")
        except BotoCoreError:
            time.sleep(0.2)
        else:
            return
    raise TimeoutError(endpoint)


def schedules(count: int, budget_seconds: float) -> dict[str, Any]:
    """Random schedules of crashes, pauses, zombies and store faults: lost and duplicated units over all of them."""
    lost = duplicated = crashes = survived = 0
    deadline = time.monotonic() + budget_seconds
    for seed in range(count):
        if time.monotonic() > deadline:
            break
        world = World(100_000 + seed)
        world.run()
        world.calm()
        expected = [answer for unit in world.plan.units for answer in answers(unit)]
        rows = [answer.row for answer in merged(world.store, world.plan)]
        commits = [n for path, n in world.objects.created.items() if "/units/" in path and path.endswith(".parquet")]
        lost += len({answer.row for answer in expected} - set(rows))
        duplicated += len(rows) - len(set(rows)) + sum(n - 1 for n in commits)
        crashes += world.crashes
        survived += 1
    return {
        "schedules": survived,
        "asked": count,
        "crashes": crashes,
        "lostSamples": lost,
        "duplicatedCommits": duplicated,
    }


def report(results: dict[str, Any]) -> str:
    """The figures as Markdown, each beside its goal."""
    lines = [
        "# Run store benchmark",
        "",
        "Reproduce: `python benchmarks/run_store.py`.",
        "",
        "| figure | measured | goal |",
        "|---|---|---|",
    ]
    for title, key, goal in ROWS:
        if key[0] in results:
            lines.append(f"| {title} | {_value(results[key[0]], key[1:])} | {goal} |")
    return "\n".join(lines) + "\n"


ROWS: tuple[tuple[str, tuple[str, ...], str], ...] = (
    ("few workers: units", ("calls", "units"), "10,000"),
    ("few workers: workers", ("calls", "workers"), ""),
    ("claim, read, commit calls per unit (same run)", ("calls", "claimReadCommitPerUnit"), "<= 3"),
    ("heartbeats per unit (same run)", ("calls", "heartbeatsPerUnit"), ""),
    ("listings per unit (same run)", ("calls", "listsPerUnit"), "amortised"),
    ("few workers: claims lost to a collision", ("calls", "collisionShare"), "<= 0.05"),
    ("many workers: units", ("collisions", "units"), "10,000"),
    ("many workers: workers", ("collisions", "workers"), "100"),
    ("many workers: claims lost to a collision", ("collisions", "collisionShare"), "<= 0.05"),
    ("many workers: listings per unit", ("collisions", "listsPerUnit"), "amortised"),
    ("many workers: executions", ("collisions", "executions"), "units + backups"),
    ("claim + read + commit on a local directory [ms]", ("overhead", "meanMilliseconds"), ""),
    ("share of a 5 s unit", ("overhead", "shareOfFiveSecondUnit"), "<= 0.02"),
    ("load average of the machine meanwhile", ("overhead", "loadAverage"), ""),
    ("SIGKILL -> re-claimed, owner released by its supervisor [s]", ("reclaimReleased", "seconds"), ""),
    ("SIGKILL -> re-claimed by the lease alone [s]", ("reclaimLease", "seconds"), "about 30"),
    ("finish on an S3 server: units", ("finish", "units"), "10,000"),
    ("finish: read, publish, sweep [s]", ("finish", "seconds"), "< 60"),
    ("finish: store calls per unit", ("finish", "callsPerUnit"), ""),
    ("random schedules", ("schedules", "schedules"), "10,000"),
    ("crashes in them", ("schedules", "crashes"), ""),
    ("samples lost", ("schedules", "lostSamples"), "0"),
    ("commits duplicated", ("schedules", "duplicatedCommits"), "0"),
)


def _value(figures: dict[str, Any], path: tuple[str, ...]) -> str:
    return str(figures[path[0]])


def main() -> None:
    """Run the parts that are asked for (all by default) and write both result files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "parts", nargs="*", default=["calls", "collisions", "overhead", "reclaim", "finish", "schedules"]
    )
    parser.add_argument("--units", type=int, default=10_000)
    parser.add_argument("--schedules", type=int, default=10_000)
    parser.add_argument("--budget", type=float, default=3_600.0, help="seconds for the schedules")
    options = parser.parse_args()
    parts = {
        "calls": lambda: {"calls": simulate(options.units, 10)},
        "collisions": lambda: {"collisions": simulate(options.units, 100)},
        "overhead": lambda: {"overhead": overhead()},
        "reclaim": lambda: {"reclaimReleased": reclaim(5, True), "reclaimLease": reclaim(1, False)},
        "finish": lambda: {"finish": finish(options.units)},
        "schedules": lambda: {"schedules": schedules(options.schedules, options.budget)},
    }
    for part in options.parts:
        _merge(parts[part]())


def _merge(figures: dict[str, Any]) -> None:
    print(json.dumps(figures))
    RESULTS.mkdir(parents=True, exist_ok=True)
    path = RESULTS / "run-store.json"
    results = {**(json.loads(path.read_text()) if path.exists() else {}), **figures}
    path.write_text(json.dumps(results, indent=2) + "\n")
    (RESULTS / "run-store.md").write_text(report(results))


if __name__ == "__main__":
    main()
