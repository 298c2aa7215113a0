"""Job streams with deadlines, found below a folder by the columns of their tables, never by their names.

Understood columns:

* ``submit_time, ddl, num_gpu, duration``: seconds, absolute deadline (ElasticFlow);
* ``submit_time, num_gpu, duration, expect_time_list``: minutes, deadline relative to submission (Chronus).

A job is `num_gpu x duration` of work that can be sharded; `width_factor` says how far beyond `num_gpu`.
"""

import csv
import gzip
import io
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from evalfleet_lab.simulate.fleet_replay import SubmittedJob

_LARGEST_FILE_BYTES = 64 * 1024 * 1024
_ELASTICFLOW = {"submit_time", "ddl", "num_gpu", "duration"}
_CHRONUS = {"submit_time", "num_gpu", "duration", "expect_time_list"}
_MINUTE = 60.0
_FEWEST_JOBS = 50  # a table with fewer rows is a demonstration


@dataclass(frozen=True, slots=True)
class JobTrace:
    """A stream of jobs in order of submission, from second zero."""

    name: str
    jobs: tuple[SubmittedJob, ...]

    @property
    def mean_load_workers(self) -> float:
        """Workers that would be busy on average."""
        span = max(job.submitted_seconds for job in self.jobs) or 1.0
        return sum(job.work_gpu_seconds for job in self.jobs) / span


def discover_job_traces(folder: Path, width_factor: int = 2) -> list[JobTrace]:
    """All job streams with deadlines below `folder`, sorted by path."""
    found = []
    for path in sorted(folder.rglob("*.csv")) + sorted(folder.rglob("*.csv.gz")):
        if path.stat().st_size > _LARGEST_FILE_BYTES:
            continue
        trace = read_job_trace(path, width_factor)
        if trace is not None and len(trace.jobs) >= _FEWEST_JOBS:
            found.append(trace)
    return found


def read_job_trace(path: Path, width_factor: int = 2) -> JobTrace | None:
    """The jobs of one file; None when its columns are not those of a job stream."""
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rb") as stream, io.TextIOWrapper(stream, encoding="utf-8", errors="replace") as text:
        reader = csv.DictReader(text)
        columns = set(reader.fieldnames or ())
        if columns >= _ELASTICFLOW:
            rows = [_elasticflow(row) for row in reader]
        elif columns >= _CHRONUS:
            rows = [_chronus(row) for row in reader]
        else:
            return None
    name = f"{path.parent.name}/{path.name.split('.')[0]}"
    return JobTrace(name, _jobs((row for row in rows if row is not None), width_factor))


@dataclass(frozen=True, slots=True)
class _Row:
    name: str
    submitter: str
    submitted: float
    seconds: float
    workers: int
    deadline: float


def _elasticflow(row: dict[str, str]) -> _Row | None:
    try:
        submitted, deadline = float(row["submit_time"]), float(row["ddl"])
        return _Row(row["job_id"], "", submitted, float(row["duration"]), int(row["num_gpu"]), deadline)
    except (KeyError, ValueError):
        return None


def _chronus(row: dict[str, str]) -> _Row | None:
    """Several expected times mean a value that falls in steps; the first one is the deadline."""
    if row.get("best_effort") == "1":
        return None
    try:
        submitted = float(row["submit_time"]) * _MINUTE
        within = float(row["expect_time_list"].split("-")[0]) * _MINUTE
        seconds = float(row["duration"]) * _MINUTE
        return _Row(row["job_id"], row["user"], submitted, seconds, int(row["num_gpu"]), submitted + within)
    except (KeyError, ValueError):
        return None


def _jobs(rows: Iterable[_Row], width_factor: int) -> tuple[SubmittedJob, ...]:
    usable = sorted((row for row in rows if row.workers > 0 and row.seconds > 0), key=lambda row: row.submitted)
    begin = usable[0].submitted if usable else 0.0
    return tuple(
        SubmittedJob(
            name=f"job-{row.name}",
            submitted_seconds=row.submitted - begin,
            work_gpu_seconds=row.workers * row.seconds,
            max_workers=row.workers * width_factor,
            deadline_seconds=row.deadline - begin,
            submitter=row.submitter,
        )
        for row in usable
    )
