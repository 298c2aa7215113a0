"""Spot traces are recognised by their shape, wherever they lie, and everything else is left alone."""

import json

import numpy as np
import pytest

from evalfleet_lab.traces.capacity import data_folder, discover_spot_traces, load_trace_file
from evalfleet_scaling.errors import InvalidObservationError


@pytest.fixture
def folder(tmp_path):
    counts = tmp_path / "cloud" / "counts"
    counts.mkdir(parents=True)
    (counts / "zone-a.json").write_text(json.dumps({"metadata": {"gap_seconds": 300}, "data": [0, 4, 16]}))
    single = tmp_path / "single" / "availability"
    single.mkdir(parents=True)
    rows = "".join(f"2024-01-01 00:{minute:02d}:00,{minute % 2}\n" for minute in range(0, 50, 5))
    (single / "zone-b.csv").write_text("date,availability\n" + rows)
    (tmp_path / "single" / "prices.json").write_text(json.dumps({"zone-b": [0.5] * 12, "zone-x": [1.0]}))
    region = tmp_path / "region"
    (region / "prices").mkdir(parents=True)
    lines = "".join(f"2024-01-01T0{hour}:00:00Z,{hour},3\n" for hour in range(6))
    (region / "machines.csv").write_text("scheduled_at_utc,us-a1-x,eu-b2-y\n" + lines)
    price = {"region": "us-a1", "machine_type": "big", "price": 2.5}
    (region / "prices" / "us.json").write_text(json.dumps(price))
    (tmp_path / "jobs.csv").write_text("timestamp,duration\n1,2\n5,6\n6,7\n")
    (tmp_path / "broken.json").write_text("{")
    (tmp_path / "notes.txt").write_text("date,availability\n")
    return tmp_path


def test_pools_are_found_with_their_ticks_counts_and_prices(folder):
    found = {trace.name: trace for trace in discover_spot_traces(folder)}
    assert set(found) == {"zone-a", "zone-b", "us-a1-x", "eu-b2-y"}
    assert (found["zone-a"].tick_seconds, found["zone-a"].counts.tolist()) == (300.0, [0, 4, 16])
    assert found["zone-a"].group == "cloud/counts"
    assert found["zone-b"].tick_seconds == 300.0
    assert set(found["zone-b"].prices) == {0.5}
    assert found["us-a1-x"].tick_seconds == 3600.0
    assert set(found["us-a1-x"].prices) == {2.5}
    assert found["eu-b2-y"].prices is None


def test_a_log_of_arrivals_is_no_trace(tmp_path):
    rng = np.random.default_rng(0)
    seconds = np.cumsum(rng.exponential(0.1, 50))
    lines = "".join(f"2024-01-01 00:00:{second:09.6f},5,7\n" for second in seconds)
    (tmp_path / "arrivals.csv").write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n" + lines)
    assert discover_spot_traces(tmp_path) == []


@pytest.mark.parametrize("name", ["jobs.csv", "broken.json"])
def test_a_file_of_another_shape_is_refused_in_words(folder, name):
    with pytest.raises(ValueError, match="date,availability"):
        load_trace_file(folder / name)


def test_a_users_table_may_count_seconds_and_carry_prices(tmp_path):
    path = tmp_path / "mine.csv"
    path.write_text("seconds,a,a_price,b\n0,3,1.5,0\n600,4,1.25,2\n1200,0,1.5,1\n")
    first, second = load_trace_file(path)
    assert (first.name, first.tick_seconds, first.counts.tolist()) == ("a", 600.0, [3, 4, 0])
    assert first.prices.tolist() == [1.5, 1.25, 1.5]
    assert (second.name, second.counts.tolist(), second.prices) == ("b", [0, 2, 1], None)


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ("seconds,z\n0,1\n600,x\n", "line 3: could not convert"),
        ("seconds,z\n0,1\n600,2,3\n", "line 3 has 3 columns, the header 2"),
        ("seconds,z\n0,1\n600,2\n601,2\n700,2\n", "one step"),
        ("seconds,z\n0,1.5\n600,2\n", "whole numbers"),
        ("seconds,z\n0,nan\n600,2\n", "whole numbers"),
        ("seconds,z\n0,-1\n600,2\n", "negative"),
        ("date,z\nyesterday,1\n", "line 2: Invalid isoformat"),
    ],
)
def test_a_users_table_that_cannot_be_read_is_refused_with_its_line(tmp_path, table, words):
    path = tmp_path / "mine.csv"
    path.write_text(table)
    with pytest.raises((ValueError, InvalidObservationError), match=words):
        load_trace_file(path)


def test_the_data_folder_comes_from_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("EVALFLEET_DATA", str(tmp_path))
    assert data_folder() == tmp_path
    monkeypatch.setenv("EVALFLEET_DATA", str(tmp_path / "absent"))
    assert data_folder() is None


def test_the_public_traces_are_discovered():
    folder = data_folder()
    if folder is None:
        pytest.skip("EVALFLEET_DATA is not set and the default folder is absent")
    traces = discover_spot_traces(folder)
    if not traces:
        pytest.skip(f"no spot traces below {folder}")
    assert all(trace.tick_seconds >= 60 for trace in traces)
    assert all(0 < (trace.counts > 0).mean() <= 1 for trace in traces)
