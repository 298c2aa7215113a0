"""Wanted workers as flat arrays, one entry each, and the few operations on them."""

from dataclasses import dataclass

import numpy as np

from evalfleet_scaling.arrays import BoolArray, IntArray
from evalfleet_scaling.fleet.tables import Fleet


@dataclass(frozen=True, slots=True)
class Slots:
    """Wanted workers of all jobs; `worker` is the row of the worker that is there already, or -1 for one to start."""

    job: IntArray
    pool: IntArray
    worker: IntArray
    must: BoolArray  # a promise depends on it now


def selected(slots: Slots, which: BoolArray | IntArray) -> Slots:
    """The chosen entries."""
    return Slots(*(getattr(slots, name)[which] for name in Slots.__slots__))


def joined(*parts: Slots) -> Slots:
    """All entries, in order."""
    if not parts:
        return new_slots(np.zeros(0, dtype=np.int64), 0)
    return Slots(*(np.concatenate([getattr(part, name) for part in parts]) for name in Slots.__slots__))


def new_slots(count: IntArray, pool: int) -> Slots:
    """`count[j]` workers to start for each job j."""
    job = np.repeat(np.arange(len(count)), count)
    return Slots(
        job=job,
        pool=np.full(len(job), pool, dtype=np.int64),
        worker=np.full(len(job), -1, dtype=np.int64),
        must=np.zeros(len(job), dtype=np.bool_),
    )


def held_slots(fleet: Fleet, workers: IntArray) -> Slots:
    """Slots of workers that are there and stay."""
    rows = fleet.workers
    return Slots(rows.job[workers], rows.pool[workers], workers, np.zeros(len(workers), dtype=np.bool_))


def unused_workers(fleet: Fleet, slots: Slots) -> IntArray:
    """Rows of workers that no slot keeps, sorted by job."""
    unused = np.ones(len(fleet.workers.job), dtype=np.bool_)
    unused[slots.worker[slots.worker >= 0]] = False
    return np.flatnonzero(unused)


def nth_of_job(job: IntArray) -> IntArray:
    """For each entry, how many earlier entries belong to the same job."""
    order = np.argsort(job, kind="stable")
    grouped = job[order]
    nth = np.empty(len(job), dtype=np.int64)
    nth[order] = np.arange(len(job)) - np.searchsorted(grouped, grouped, side="left")
    return nth
