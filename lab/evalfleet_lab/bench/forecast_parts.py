"""Parts of the forecast benchmarks: each is computed once, kept in a folder, and found there by the next run.

A part is kept under the digest of all that decides its result: what is computed, on which numbers, by which code and
library versions. So a run that was killed goes on where it was, both benchmarks use the same forecasts, and nothing
computed by other code is ever reused. Each part remembers when and under what load it was computed.
"""

import hashlib
import json
import os
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass, fields, is_dataclass
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

LIBRARIES = ("numpy", "scipy", "scikit-learn")
CODE = (
    "bench/forecast*.py",
    "bench/decision*.py",
    "traces/demand.py",
    "baselines/*.py",
    "synthetic/*.py",
    "tuning/*.py",
)
PAGES = "_report.py"
CORE_CODE = "forecast/**/*.py"
"""What is digested of the two packages, pages aside: a change in any of these files computes everything anew."""

Facts = dict[str, Any]
Arrays = dict[str, np.ndarray]
Outcome = tuple[Facts, Arrays]
"""What a part results in: something JSON can hold, and arrays."""
Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Store:
    """A folder of parts and of trees."""

    folder: Path

    def load(self, key: str) -> Outcome | None:
        """What is kept under a key; None where nothing is, or something damaged."""
        try:
            with np.load(self._path(key), allow_pickle=False) as packed:
                arrays = {name: packed[name] for name in packed.files}
            return json.loads(str(arrays.pop("facts")[()])), arrays
        except (OSError, ValueError, EOFError, KeyError, BadZipFile):
            return None

    def save(self, key: str, outcome: Outcome) -> None:
        """Keep it: the whole file or none of it."""
        path = self._path(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(f".{os.getpid()}.tmp")
        with unfinished.open("wb") as file:
            np.savez(file, allow_pickle=False, facts=np.array(json.dumps(outcome[0])), **outcome[1])
        unfinished.replace(path)

    def _path(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key[2:]}.npz"


@dataclass(frozen=True, slots=True)
class Part:
    """One piece of work.

    Attributes:
        name: for progress lines.
        compute: function of a module, called with the store and the arguments.
        arguments: what it depends on: numbers, names, arrays, dataclasses of these.
    """

    name: str
    compute: Callable[..., Outcome]
    arguments: tuple[Any, ...]

    @property
    def key(self) -> str:
        """Digest of work, arguments, code and versions."""
        return digest(self.compute.__qualname__, self.arguments, code_digest())


@dataclass(frozen=True, slots=True)
class Done:
    """A computed part; `reused` if an earlier run computed it."""

    facts: Facts
    arrays: Arrays
    conditions: Facts
    reused: bool


def digest(*things: Any) -> str:
    """Hexadecimal digest of numbers, texts, arrays, sequences and dataclasses of these."""
    out = hashlib.blake2b(digest_size=16)
    for thing in things:
        if isinstance(thing, bytes):
            out.update(b"bytes:%d:" % len(thing) + thing)
        elif isinstance(thing, np.ndarray):
            out.update(f"{thing.dtype}{thing.shape}".encode() + np.ascontiguousarray(thing).tobytes())
        elif is_dataclass(thing) and not isinstance(thing, type):
            out.update(digest(type(thing).__name__, *(getattr(thing, one.name) for one in fields(thing))).encode())
        elif isinstance(thing, list | tuple):
            out.update(digest(len(thing), *thing).encode())
        elif callable(thing):
            out.update(f"{thing.__module__}.{thing.__qualname__};".encode())
        else:
            out.update(f"{type(thing).__name__}:{thing!r};".encode())
    return out.hexdigest()


@cache
def code_digest() -> str:
    """Digest of the code that computes the benchmarks, and of the libraries it calls."""
    import evalfleet_lab
    import evalfleet_scaling

    lab, core = (Path(str(package.__file__)).parent for package in (evalfleet_lab, evalfleet_scaling))
    files = [path for pattern in CODE for path in lab.glob(pattern) if not path.name.endswith(PAGES)]
    files += core.glob(CORE_CODE)
    return digest(*(path.read_bytes() for path in sorted(files)), *versions().values())


def versions() -> dict[str, str]:
    """Python and libraries."""
    return {"python": platform.python_version(), **{name: version(name) for name in LIBRARIES}}


def compute(part: Part, store: Store) -> Done:
    """From the store, else computed and kept."""
    found = store.load(part.key)
    if found is not None:
        return Done(found[0]["facts"], found[1], found[0]["conditions"], True)
    load, wall, cpu = os.getloadavg()[0], time.monotonic(), time.process_time()
    facts, arrays = part.compute(store, *part.arguments)
    conditions = {
        "computedAt": datetime.now(UTC).isoformat(timespec="seconds"),
        "cpuSeconds": round(time.process_time() - cpu, 1),
        "wallSeconds": round(time.monotonic() - wall, 1),
        "load": round(load, 2),
    }
    store.save(part.key, ({"facts": facts, "conditions": conditions}, arrays))
    return Done(facts, arrays, conditions, False)


@dataclass(frozen=True, slots=True)
class Bench:
    """A run of a benchmark.

    Attributes:
        store: where parts are kept.
        processes: that compute.
        say: takes progress lines.
        started: moment of the start.
        clock: the monotonic clock then.
    """

    store: Store
    processes: int
    say: Tell
    started: datetime
    clock: float

    @staticmethod
    def start(folder: Path, processes: int = 1, say: Tell = lambda _: None) -> "Bench":
        """Begin now; 0 processes: one per core."""
        count = processes or os.cpu_count() or 1
        return Bench(Store(folder.resolve()), count, say, datetime.now(UTC), time.monotonic())

    def tell(self, what: str) -> None:
        """A progress line with the time since the start."""
        self.say(f"[{time.monotonic() - self.clock:6.1f} s] {what}")


def run(parts: Sequence[Part], bench: Bench) -> Iterator[Done]:
    """All parts in their order; those not kept yet are computed by the bench's processes."""
    store, tell = bench.store, bench.tell
    missing = [part for part in parts if bench.processes > 1 and store.load(part.key) is None]
    if len(missing) < 2:
        for part in parts:
            yield _told(part, compute(part, store), tell)
        return
    from multiprocessing import get_context

    with ProcessPoolExecutor(bench.processes, get_context("spawn"), _end_with_parent) as pool:
        futures: dict[str, Future[float]] = {}
        for part in missing:
            futures[part.name] = pool.submit(_compute_elsewhere, part, store)
            futures[part.name].add_done_callback(_teller(part, tell))
        for part in parts:
            if part.name not in futures:
                yield _told(part, compute(part, store), tell)
                continue
            futures[part.name].result()
            done = compute(part, store)
            yield Done(done.facts, done.arrays, done.conditions, False)


def _compute_elsewhere(part: Part, store: Store) -> float:
    """In a child: the result is left in the store; CPU seconds."""
    return float(compute(part, store).conditions["cpuSeconds"])


def _teller(part: Part, tell: Tell) -> Callable[[Future[float]], None]:
    def finished(future: Future[float]) -> None:
        if not future.cancelled() and future.exception() is None:
            tell(f"{part.name}: {future.result()} s of CPU")

    return finished


def _end_with_parent() -> None:
    """A child whose parent was killed ends as well."""
    from multiprocessing import parent_process
    from multiprocessing.connection import wait
    from threading import Thread

    parent = parent_process()
    if parent is not None:
        Thread(target=lambda: (wait([parent.sentinel]), os._exit(1)), daemon=True).start()


def _told(part: Part, done: Done, tell: Tell) -> Done:
    how = f"kept from {done.conditions['computedAt']}" if done.reused else f"{done.conditions['cpuSeconds']} s of CPU"
    tell(f"{part.name}: {how}")
    return done


def conditions(bench: Bench, done: Sequence[Done]) -> Facts:
    """Under what conditions the parts were computed, for the head of a result."""
    moments = [one.conditions["computedAt"] for one in done]
    loads = [one.conditions["load"] for one in done]
    return {
        **versions(),
        "code": code_digest()[:12],
        "cores": os.cpu_count(),
        "processes": bench.processes,
        "startedAt": bench.started.isoformat(timespec="seconds"),
        "wallSeconds": round(time.monotonic() - bench.clock),
        "cpuSeconds": round(sum(one.conditions["cpuSeconds"] for one in done)),
        "sparedSeconds": round(sum(one.facts.get("sparedSeconds", 0.0) for one in done)),
        "load": [min(loads, default=0.0), max(loads, default=0.0)],
        "parts": len(done),
        "partsKept": sum(one.reused for one in done),
        "computedFrom": min(moments, default=""),
        "computedTo": max(moments, default=""),
    }


def conditions_text(facts: Facts) -> str:
    """One sentence or two of `conditions`."""
    libraries = ", ".join(f"{name} {facts[name]}" for name in ("python", *LIBRARIES))
    low, high = facts["load"]
    lines = [
        f"{facts['parts']} parts, computed {facts['computedFrom']} to {facts['computedTo']} with {facts['processes']} "
        f"processes on {facts['cores']} cores at a load of {low} to {high}: {facts['cpuSeconds']} s of CPU, "
        f"this run {facts['wallSeconds']} s by the clock."
    ]
    if facts["partsKept"]:
        lines.append(f"{facts['partsKept']} of the parts were kept from an earlier run of the same code.")
    if facts["sparedSeconds"]:
        lines.append(f"Trees kept from earlier runs spared {facts['sparedSeconds']} s of training.")
    return " ".join([*lines, f"{libraries}; code {facts['code']}."])


def write(content: Facts, page: str, folder: Path | None, as_json: bool) -> str:
    """The result as one of its two texts; both are written into `folder` where one is given."""
    text = json.dumps(content, indent=1) + "\n"
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{content['benchmark']}.json").write_text(text, encoding="utf-8")
        (folder / f"{content['benchmark']}.md").write_text(page, encoding="utf-8")
    return text if as_json else page
