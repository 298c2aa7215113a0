"""Job streams are recognised by their columns and become jobs with absolute deadlines."""

import gzip
from pathlib import Path

from evalfleet_lab.traces.jobs import discover_job_traces, read_job_trace


def test_elasticflow_columns_are_seconds_with_absolute_deadlines(tmp_path: Path) -> None:
    table = tmp_path / "a.csv"
    table.write_text("job_id,submit_time,ddl,num_gpu,duration\n1,100,900,2,300\n2,50,700,1,200\nx,?,?,?,?\n")
    trace = read_job_trace(table, width_factor=2)
    assert trace is not None
    first, second = trace.jobs
    assert (first.name, first.submitted_seconds, first.deadline_seconds) == ("job-2", 0.0, 650.0)
    assert (second.work_gpu_seconds, second.max_workers) == (600.0, 4)


def test_chronus_columns_are_minutes_relative_to_submission_also_compressed(tmp_path: Path) -> None:
    table = tmp_path / "b.csv.gz"
    with gzip.open(table, "wt") as stream:
        stream.write("job_id,user,num_gpu,submit_time,duration,expect_time_list\n7,u,4,10,5,12-20\n8,u,0,11,5,12\n")
    trace = read_job_trace(table)
    assert trace is not None
    (job,) = trace.jobs  # a job without GPUs is none
    assert (job.deadline_seconds, job.work_gpu_seconds, job.submitter) == (720.0, 1200.0, "u")


def test_other_tables_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "c.csv").write_text("date,availability\n2024-01-01,1\n")
    assert read_job_trace(tmp_path / "c.csv") is None
    assert discover_job_traces(tmp_path) == []
