"""The decision replay: what every worker policy would have cost on the same arrivals at the same late-work target.

Every policy is replayed with its whole grid of settings in the same fluid queue (start-up paid), side by side. The
first half of a series chooses the setting, the second half judges it, and the best setting in hindsight is given beside
it. `evalfleet` alone is not tuned: every night it chooses rule, level and drain target from its own past.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from evalfleet.bench.decision_judge import Judged, judge
from evalfleet_scaling.forecast.baselines.policies import CANDIDATES
from evalfleet_scaling.forecast.fluid_queue import Replay, empty_path
from evalfleet_scaling.forecast.forecaster import Forecaster
from evalfleet_scaling.forecast.gate import Gate, Terms, self_replay
from evalfleet_scaling.forecast.interface import DEFAULT_QUANTILES, MINUTES_PER_DAY, Series
from evalfleet_scaling.forecast.models import Setup
from evalfleet_scaling.forecast.online import Rivals, night_lanes, run_nights, share_predicting
from evalfleet_scaling.forecast.policy import Candidate
from evalfleet_scaling.forecast.synthetic import FAMILIES
from evalfleet_scaling.forecast.tune import Grid, Split, Tuned, replay_grid, tune, with_settings
from evalfleet_scaling.forecast.workers import REACTIVE, DemandForecast, proactive, vetoing

LEADS = (2, 5, 15)
TOLERATED_MINUTES = 10
TARGETS = (1.0, 5.0)
ONLINE = "evalfleet"
FEWEST_DAYS = 4
Tell = Callable[[str], None]
Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Size:
    """How much is replayed."""

    seeds: tuple[int, ...]
    days: int
    families: tuple[str, ...]
    trace_days: int | None


FULL = Size((0, 1, 2, 3, 4), 14, tuple(FAMILIES), 28)
QUICK = Size((0,), 6, ("diurnal-weekly", "bursty-sweeps"), 6)


@dataclass(frozen=True, slots=True)
class Group:
    """Series of one length that are replayed side by side, and our forecasts of them.

    Attributes:
        parts: name, and which series are tuned and judged together under it (the seeds of a family).
        series: all series.
        forecast: our forecasts of them.
        forecast_cpu: CPU seconds of a series' forecasts.
        split: first judged day.
    """

    parts: tuple[tuple[str, slice], ...]
    series: tuple[Series, ...]
    forecast: DemandForecast
    forecast_cpu: float
    split: int

    def alone(self, index: int) -> DemandForecast:
        """The forecasts of one series."""
        return replace(self.forecast, quantiles=self.forecast.quantiles[:, index : index + 1])

    def members(self, part: slice) -> range:
        """Places of the series of a part."""
        return range(*part.indices(len(self.series)))


def rows(quick: bool, folder: Path | None = None, tell: Tell = lambda _: None) -> list[Row]:
    """All rows: one per series, lead time, policy and target; then the gate's verdict per series and lead time."""
    size = QUICK if quick else FULL
    return [row for more in rows_by_group(folder, size, tell) for row in more]


def rows_by_group(folder: Path | None, size: Size, tell: Tell) -> Iterator[list[Row]]:
    """The same, trace by trace and then all families side by side."""
    for names, series in groups(folder, size, tell):
        yield group_rows(forecast_group(names, series, tell), tell)


def groups(folder: Path | None, size: Size, tell: Tell) -> Iterator[tuple[tuple[str, ...], tuple[Series, ...]]]:
    """Names and series: traces of at least four days alone, then every family, its seeds beside each other."""
    from evalfleet.traces.capacity import data_folder
    from evalfleet.traces.demand import discover_demand

    source = folder or data_folder()
    for trace in discover_demand(source) if source is not None else []:
        whole = trace.series
        days = min(len(whole) // MINUTES_PER_DAY, size.trace_days or len(whole))
        if days < FEWEST_DAYS:
            tell(f"{whole.name}: {len(whole)} minutes are too few to tune and to judge on; left out")
        elif not whole.name.endswith("-uncapped"):
            first = Series(whole.values[: days * MINUTES_PER_DAY], whole.start_minute, whole.name)
            yield (whole.name,), (first,)
    families = tuple(FAMILIES[name](size.days, seed) for name in size.families for seed in size.seeds)
    yield size.families, families


def forecast_group(names: tuple[str, ...], series: tuple[Series, ...], tell: Tell) -> Group:
    """Forecast every minute of every series from what was known then; as many series for every name."""
    began = time.process_time()
    each = []
    for one in series:
        forecaster = Forecaster(Setup(LEADS, DEFAULT_QUANTILES), one.start_minute)
        each.append(np.concatenate([part.mixed for part in forecaster.advance(one.values)]))
        tell(f"forecasts of {one.name}")
    forecast = DemandForecast(LEADS, DEFAULT_QUANTILES, np.stack(each, axis=1))
    return group_of(names, series, forecast, (time.process_time() - began) / len(series))


def group_of(names: tuple[str, ...], series: tuple[Series, ...], forecast: DemandForecast, cpu: float) -> Group:
    """Series in equal shares under the names; the first half of the days trains."""
    share = len(series) // len(names)
    parts = tuple((name, slice(index * share, (index + 1) * share)) for index, name in enumerate(names))
    return Group(parts, series, forecast, cpu, len(series[0]) // MINUTES_PER_DAY // 2)


def group_rows(group: Group, tell: Tell) -> list[Row]:
    """Rows of one group."""
    out: list[Row] = []
    grids: dict[str, Grid] = {}
    names = ", ".join(name for name, _ in group.parts)
    for candidate in (REACTIVE, vetoing(group.forecast), proactive(group.forecast), *CANDIDATES):
        began = time.process_time()
        grid = grids[candidate.name] = replay_grid(candidate, group.series, LEADS, TOLERATED_MINUTES)
        cpu = (time.process_time() - began) / len(grid.settings) / len(group.series)
        out += tuned_rows(group, candidate, grid, cpu)
        tell(f"{names}: {candidate.name}")
    return out + online_rows(group, grids) + gate_rows(group)


def tuned_rows(group: Group, candidate: Candidate, grid: Grid, cpu: float) -> list[Row]:
    """The chosen setting of each part, lead time and target, run again with every minute kept."""
    keys = [(lead, target) for lead in LEADS for target in TARGETS]
    tuned = {
        name: [tune(grid, lead, target, Split(1, group.split, part)) for lead, target in keys]
        for name, part in group.parts
    }
    settings = [one.chosen.setting for name, part in group.parts for _ in group.members(part) for one in tuned[name]]
    path = empty_path(lanes := with_settings(night_lanes(group.series, _terms()), settings))
    ledger = Replay(candidate.factory, lanes).advance(path=path)
    out = []
    for name, part in group.parts:
        for index, key in enumerate(keys):
            found = judge(ledger, path, _lanes(group, part, index), group.split, TOLERATED_MINUTES)
            row = {**_head(name, candidate.name, *key), **_figures(found), **_tuning(tuned[name][index])}
            out.append({**row, **_cost(group, part, cpu)})
    return out


def _terms() -> list[Terms]:
    return [Terms(lead, TOLERATED_MINUTES, target) for lead in LEADS for target in TARGETS]


def _lanes(group: Group, part: slice, index: int) -> list[int]:
    """Lanes of a part with the lead time and target number `index`."""
    return [index + series * len(LEADS) * len(TARGETS) for series in group.members(part)]


def online_rows(group: Group, grids: dict[str, Grid]) -> list[Row]:
    """Our own choice, night by night."""
    began, terms = time.process_time(), _terms()
    path = empty_path(night_lanes(group.series, terms))
    nights = run_nights(group.series, _rivals(group, grids), terms, path)
    cpu = (time.process_time() - began) / len(terms) / len(group.series) + group.forecast_cpu
    out = []
    for name, part in group.parts:
        for index, one in enumerate(terms):
            mine = _lanes(group, part, index)
            found = judge(nights.ledger, path, mine, group.split, TOLERATED_MINUTES)
            share = float(np.mean([share_predicting(nights, group.split, lane) for lane in mine]))
            row = {**_head(name, ONLINE, one.lead_minutes, one.late_percent), **_figures(found)}
            out.append({**row, "predictingShare": round(share, 3), **_cost(group, part, cpu)})
    return out


def _rivals(group: Group, grids: dict[str, Grid]) -> dict[int, Rivals]:
    prediction, veto = proactive(group.forecast), vetoing(group.forecast)
    reactions = {lead: veto if lead <= TOLERATED_MINUTES else REACTIVE for lead in LEADS}
    return {
        lead: Rivals(reaction, grids[reaction.name], prediction, grids[prediction.name])
        for lead, reaction in reactions.items()
    }


def gate_rows(group: Group) -> list[Row]:
    """The verdict of the self-replay on the last seven days of the first series of every part, at the first target."""
    out = []
    for name, part in group.parts:
        first = group.members(part)[0]
        for lead in LEADS:
            terms = Terms(lead, TOLERATED_MINUTES, TARGETS[0])
            out.append(gate_row(name, lead, self_replay(group.series[first], group.alone(first), terms)))
    return out


def gate_row(series: str, lead: int, gate: Gate) -> Row:
    """One verdict."""
    return {
        "series": series,
        "leadTimeSeconds": 60 * lead,
        "lateTargetPercent": TARGETS[0],
        "gate": gate.decision.value,
        "reason": gate.reason,
        "reactiveCost": _rounded(gate.reactive_cost),
        "proactiveCost": _rounded(gate.proactive_cost),
        "staticCost": _rounded(gate.static_cost),
        "message": gate.message,
    }


def _head(series: str, policy: str, lead: int, target: float) -> Row:
    return {"series": series, "leadTimeSeconds": 60 * lead, "policy": policy, "lateTargetPercent": target}


def _figures(found: Judged) -> Row:
    return {
        "gpuSecondsOverWork": round(found.cost, 4),
        "low": round(found.cost_low, 4),
        "high": round(found.cost_high, 4),
        "latePercent": round(found.late_percent, 3),
        "p99WaitSeconds": round(found.p99_wait_seconds),
        "underProvisionedPercent": round(found.under_percent, 2),
        "overProvisionedPercent": round(found.over_percent, 2),
    }


def _tuning(tuned: Tuned) -> Row:
    setting, hindsight = tuned.chosen.setting, tuned.hindsight
    return {
        "safety": round(setting.safety, 3),
        "drainMinutes": round(setting.drain_minutes, 3),
        "keepShare": setting.keep_share,
        "metInTraining": tuned.chosen.met,
        "hindsight": round(hindsight.cost, 4) if hindsight.met else None,
        "hindsightLatePercent": round(hindsight.late_percent, 3),
    }


def _cost(group: Group, part: slice, cpu: float) -> Row:
    """`cpuSeconds` of one series with one setting; ours include the forecasts of three lead times."""
    days = len(group.series[0]) // MINUTES_PER_DAY - group.split
    return {"cpuSeconds": round(cpu, 3), "seeds": len(group.members(part)), "judgedDays": days}


def _rounded(cost: float | None) -> float | None:
    return None if cost is None else round(cost, 4)
