"""The decision replay's figures and tables."""

from pathlib import Path

import numpy as np
import pytest

from evalfleet_lab.bench import decision_map
from evalfleet_lab.bench import forecast as tables
from evalfleet_lab.bench.decision_judge import Judged, judge
from evalfleet_lab.bench.decision_map import map_cell
from evalfleet_lab.bench.decision_report import markdown
from evalfleet_lab.bench.forecast import LEADS
from evalfleet_lab.bench.forecast_decision import (
    TARGETS,
    Group,
    Row,
    Size,
    all_rows,
    groups,
    online_rows,
    self_replay_row,
    tuned_rows,
)
from evalfleet_lab.bench.forecast_parts import Bench, Store, conditions
from evalfleet_lab.synthetic.demand import stationary
from evalfleet_scaling.forecast.fluid_queue import Replay, empty_path
from evalfleet_scaling.forecast.grid import replay_grid
from evalfleet_scaling.forecast.interface import DEFAULT_QUANTILES, FloatArray, Series
from evalfleet_scaling.forecast.policy import Observation, Scenarios, Setting, scenarios_of
from evalfleet_scaling.forecast.self_replay import SelfReplay, SelfReplayDecision
from evalfleet_scaling.forecast.workers import REACTIVE, DemandForecast, proactive, vetoing

WANTED = {
    "series",
    "leadTimeSeconds",
    "policy",
    "lateTargetPercent",
    "gpuSecondsOverWork",
    "latePercent",
    "p99WaitSeconds",
    "underProvisionedPercent",
    "overProvisionedPercent",
    "cpuSeconds",
}


class Two:
    def __init__(self, scenarios: Scenarios) -> None:
        self.count = len(scenarios)

    def wanted(self, _: Observation) -> FloatArray:
        return np.full(self.count, 2.0)


def test_figures_of_a_replay_that_fits_on_paper() -> None:
    # Two workers from minute 2 on; minute 6 brings 720 GPU-seconds = 6 minutes of both, the rest nothing.
    demand = np.zeros(20)
    demand[6] = 720.0
    scenarios = scenarios_of([Series(demand)], [1], 2, [Setting(1.0, 1.0, 0.0)])
    path = empty_path(scenarios)
    found = judge(Replay(Two, scenarios, 5).advance(path=path), path, [0], 1, 2)
    # 120 a minute: served in minutes 6 to 11, waits 0 to 5 minutes; what waits 3 or more is late.
    assert found.late_percent == pytest.approx(50.0)
    assert found.p99_wait_seconds == 300.0
    assert found.cost == pytest.approx(15 * 120 / 720)
    # After minute 6 to 8 are 600, 480, 360 left, more than 2 minutes x 120; from minute 12 on both idle, and 5 before.
    assert found.under_percent == pytest.approx(100 * 3 / 15)
    assert found.over_percent == pytest.approx(100 * 9 / 15)


def test_the_interval_is_over_days_and_holds_the_cost() -> None:
    days = np.array([[100.0, 1.0, 150.0], [100.0, 0.0, 110.0], [200.0, 5.0, 250.0]])
    found = Judged(days, np.zeros(1), np.ones(1), np.ones(3))
    assert found.cost == pytest.approx(510 / 400)
    assert found.cost_low < found.cost < found.cost_high
    both = Judged.together([found, found])
    assert both.cost == pytest.approx(found.cost)
    assert both.late_percent == pytest.approx(100 * 6 / 400)
    assert Judged(np.zeros((2, 3)), np.zeros(0), np.zeros(0), np.zeros(3)).cost == float("inf")


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    series = stationary(3, 0)
    mean = np.array(LEADS)[:, None] * float(series.values.mean()) * np.array([1.0, 2.0, 2.5, 3.5])
    forecast = DemandForecast(LEADS, DEFAULT_QUANTILES, np.broadcast_to(mean, (len(series), 1, *mean.shape)))
    group = Group((("steady", slice(0, 1)),), (series,), forecast, 0.5, 2)
    found: list[Row] = []
    grids = {}
    for candidate in (REACTIVE, vetoing(forecast), proactive(forecast)):
        grids[candidate.name] = replay_grid(candidate, group.series, LEADS, 10)
        found += tuned_rows(group, candidate, grids[candidate.name], 0.1)
    return found + online_rows(group, grids)


def test_every_policy_has_a_row_per_lead_time_and_target_with_all_figures(rows: list[Row]) -> None:
    policies = [row for row in rows if "policy" in row]
    assert len(policies) == 4 * len(LEADS) * len(TARGETS)
    assert all(set(row) >= WANTED for row in policies)
    assert all(row["low"] <= row["gpuSecondsOverWork"] <= row["high"] for row in policies)
    assert all(row["gpuSecondsOverWork"] > 1 for row in policies)


def test_the_grid_and_the_run_with_the_chosen_setting_agree(rows: list[Row]) -> None:
    for row in rows:
        if row.get("hindsight") is not None and row["latePercent"] <= row["lateTargetPercent"]:
            assert row["hindsight"] <= row["gpuSecondsOverWork"] + 1e-3


def page_of(rows: list[Row]) -> str:
    bench = Bench.start(Path("unused"))
    return markdown({"quick": True, "seeds": [0], "conditions": conditions(bench, []), "rows": rows})


def test_the_page_names_the_cheapest_that_met_the_target_and_marks_late_work(rows: list[Row]) -> None:
    one = next(row for row in rows if row.get("policy") == "reactive" and row["leadTimeSeconds"] == 900)
    late = {**one, "policy": "knative", "gpuSecondsOverWork": 1.001, "latePercent": 9.0}
    dear = {**one, "policy": "hpa-keda", "gpuSecondsOverWork": 2.5, "latePercent": 0.5}
    off = SelfReplay(SelfReplayDecision.OFF, "LeadTimeWithinTolerance", "No", 1.1, None, 2.0)
    page = page_of([*rows, late, dear, self_replay_row("steady", 2, off)])
    line = next(line for line in page.splitlines() if line.startswith("| steady | 15 min | 1 %"))
    assert "hpa-keda 2.500" in line
    assert "knative" not in line
    assert "of 4 cells. Misses:" in page
    alone = page_of([*rows, late])
    assert "knative 1.001 ! 9.0 %" in alone
    assert "| steady | 2 min | Off | LeadTimeWithinTolerance | 1.10 | - | 2.00 |" in page


def test_a_cell_of_the_map_has_a_bound_beside_the_saving(tmp_path: Path) -> None:
    facts, _ = map_cell(Store(tmp_path), 0.85, 1.0, (0,), 4)
    (row,) = facts["rows"]
    assert (row["peakOverTrough"], row["jobsPerMinute"], row["judgedDays"]) == (12.3, 1.0, 2)
    assert 1.0 < row["knownRate"] < row["otherSystemCost"]
    assert row["knownRate"] < row["evalfleet"]
    page = page_of([row, {**row, "otherSystem": None, "otherSystemCost": None, "knownRate": None}])
    saving = f"{1 - row['knownRate'] / row['otherSystemCost']:.0%}"
    lines = [line for line in page.splitlines() if line.startswith("| 12.3 | 1 |")]
    assert f"| {row['knownRate']:.3f} | {saving} |" in lines[0]
    assert "| - | - |" in lines[1]


@pytest.mark.slow
def test_all_parts_together_make_the_page_and_a_second_run_computes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decision_map, "SWINGS", (0.85,))
    monkeypatch.setattr(decision_map, "JOBS_PER_MINUTE", (1.0,))
    size = Size(tables.Size((0,), 4, 4), ("diurnal-weekly",), 4, (0,))
    (tmp_path / "short").mkdir()
    (tmp_path / "short" / "r.csv").write_text("timestamp_ms,input_length,output_length\n0,4000,10\n")
    said: list[str] = []
    pages = []
    for _ in range(2):
        bench = Bench.start(tmp_path / "kept", say=said.append)
        found, done = all_rows(list(groups(tmp_path, size, bench.tell)), size, bench)
        policies = {row["policy"] for row in found if "policy" in row}
        assert {"evalfleet", "reactive", "reactive-veto", "proactive", "hpa-keda", "proactive-dynamo-arima"} <= policies
        assert {row["gate"] for row in found if "gate" in row} <= {"Active", "Off"}
        pages.append(markdown({"quick": True, "seeds": [0], "conditions": conditions(bench, done), "rows": found}))
    assert all(one.reused for one in done)
    assert any("too few to tune" in line for line in said)
    lines = [[line for line in page.splitlines() if line.startswith("| diurnal-weekly")] for page in pages]
    assert lines[0] == lines[1]
    assert len(lines[0]) == 6 + 3 + 6 * len(policies)
    assert "| 12.3 | 1 |" in pages[0]


def test_the_page_compares_with_the_goals(rows: list[Row]) -> None:
    key = ("leadTimeSeconds", "lateTargetPercent")
    costs = {(row["policy"], *(row[name] for name in key)): 1.0 for row in rows}
    costs["evalfleet", 120, 1.0] = 1.04
    level = [
        {**row, "gpuSecondsOverWork": costs[row["policy"], *(row[name] for name in key)], "latePercent": 0.0}
        for row in rows
    ]
    page = page_of(level)
    assert "1.000 to 1.040; at most 1.03 in 3 of 4 cells" in page
    assert "- steady, 2 min, 1 %: 1.040" in page
    daily = [{**row, "series": "diurnal-weekly", "latePercent": 0.0} for row in rows]
    one = next(row for row in daily if row["policy"] == "evalfleet" and row["leadTimeSeconds"] == 900)
    page = page_of([*daily, {**one, "policy": "hpa-keda", "gpuSecondsOverWork": 2 * one["gpuSecondsOverWork"]}])
    assert "50% below hpa-keda (goal 20 %)." in page
    assert "| hpa-keda | " in page
