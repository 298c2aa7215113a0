"""The decision replay: what every worker policy would have cost on the same arrivals at the same late-work target.

Every policy is replayed with its whole grid of settings in the same fluid queue (start-up paid), side by side. The
first half of a series chooses the setting, the second half judges it, and the best setting in hindsight is given beside
it. `evalfleet` alone is not tuned: every night it chooses rule, level and drain target from its own past.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from evalfleet_lab.baselines.policies import CANDIDATES
from evalfleet_lab.bench import forecast as tables
from evalfleet_lab.bench.decision_judge import Judged, judge
from evalfleet_lab.bench.decision_map import map_parts
from evalfleet_lab.bench.forecast import LEADS
from evalfleet_lab.bench.forecast_parts import Bench, Done, Outcome, Part, Store, Tell, compute, run
from evalfleet_lab.synthetic.demand import FAMILIES
from evalfleet_lab.tuning.nights import Rivals, night_scenarios, run_nights, share_predicting
from evalfleet_lab.tuning.tune import Split, Tuned, tune, with_settings
from evalfleet_scaling.forecast.fluid_queue import Replay, empty_path
from evalfleet_scaling.forecast.grid import Grid, replay_grid
from evalfleet_scaling.forecast.interface import DEFAULT_QUANTILES, MINUTES_PER_DAY, Series
from evalfleet_scaling.forecast.policy import Candidate, settings_of
from evalfleet_scaling.forecast.self_replay import SelfReplay, Terms, self_replay
from evalfleet_scaling.forecast.workers import REACTIVE, DemandForecast, proactive, vetoing

TOLERATED_MINUTES = 10
TARGETS = (1.0, 5.0)
ONLINE = "evalfleet"
FEWEST_DAYS = 4
Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Size:
    """How much is replayed.

    Attributes:
        forecast: series as in the forecast benchmark, whose forecasts are used.
        families: which of its families.
        trace_days: only the first days of a trace.
        map_seeds: of the map of where prediction pays.
    """

    forecast: tables.Size
    families: tuple[str, ...]
    trace_days: int
    map_seeds: tuple[int, ...]


FULL = Size(tables.FULL, tuple(FAMILIES), 28, (0, 1))
QUICK = Size(tables.QUICK, ("diurnal-weekly", "bursty-sweeps"), 8, (0,))


@dataclass(frozen=True, slots=True)
class Asked:
    """Series that are replayed side by side.

    Attributes:
        names: each of as many series (the seeds of a family).
        series: all of one length.
        forecasts: for each name the part of the forecast benchmark that holds the forecasts.
    """

    names: tuple[str, ...]
    series: tuple[Series, ...]
    forecasts: tuple[Part, ...]


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


def groups(folder: Path | None, size: Size, tell: Tell) -> Iterator[Asked]:
    """Traces of at least four days alone, then all families with their seeds beside each other."""
    families: list[tuple[str, tuple[Series, ...]]] = []
    for name, series in tables.series_groups(folder, size.forecast):
        days = min(len(series[0]) // MINUTES_PER_DAY, size.trace_days)
        if name in FAMILIES:
            families += [(name, series)] if name in size.families else []
        elif days < FEWEST_DAYS:
            tell(f"{name}: {len(series[0])} minutes are too few to tune and to judge on; left out")
        elif not name.endswith("-uncapped"):
            yield Asked((name,), tuple(_first(one, days) for one in series), (tables.part_of(name, series),))
    yield Asked(
        tuple(name for name, _ in families),
        tuple(one for _, series in families for one in series),
        tuple(tables.part_of(name, series) for name, series in families),
    )


def _first(series: Series, days: int) -> Series:
    return Series(series.values[: days * MINUTES_PER_DAY], series.start_minute, series.name)


def all_rows(asked: Sequence[Asked], size: Size, bench: Bench) -> tuple[list[Row], list[Done]]:
    """All rows: one per series, lead time, policy and target; the self-replays; the map of where prediction pays."""
    forecasts = [part for one in asked for part in one.forecasts]
    done = list(run(forecasts, bench))
    names = (*OWN_RULES, *(candidate.name for candidate in CANDIDATES))
    done += (replays := list(run([grid_part(one, name) for one in asked for name in names], bench)))
    last = [Part(f"{name}: {one.names[0]}..", work, (one,)) for one in asked for name, work in LAST.items()]
    done += (last_done := list(run([*last, *map_parts(size.map_seeds, round(size.forecast.days))], bench)))
    return [row for one in (*replays, *last_done) for row in one.facts["rows"]], done


def group_of(asked: Asked, store: Store) -> Group:
    """Series in equal shares under the names, with their forecasts; the first half of the days trains."""
    minutes, share = len(asked.series[0]), len(asked.series) // len(asked.names)
    held = [compute(part, store) for part in asked.forecasts]
    each = [one.arrays[f"mixed{index}"][:minutes] for one in held for index in range(share)]
    whole = sum(len(series) for part in asked.forecasts for series in part.arguments[1])
    cpu = sum(one.facts["cpuSeconds"] for one in held) * minutes / whole
    parts = tuple((name, slice(index * share, (index + 1) * share)) for index, name in enumerate(asked.names))
    forecast = DemandForecast(LEADS, DEFAULT_QUANTILES, np.stack(each, axis=1))
    return Group(parts, asked.series, forecast, cpu, minutes // MINUTES_PER_DAY // 2)


def candidate_of(name: str, forecast: DemandForecast) -> Candidate:
    """A policy by its name."""
    ours = {one.name: one for one in (REACTIVE, vetoing(forecast), proactive(forecast))}
    return ours.get(name) or next(one for one in CANDIDATES if one.name == name)


def grid_part(asked: Asked, name: str) -> Part:
    """Replay one policy with all settings."""
    return Part(f"{name} on {', '.join(asked.names)}", replay_candidate, (asked, name))


def replay_candidate(store: Store, asked: Asked, name: str) -> Outcome:
    """Rows of one policy, and as arrays the sums of its grid."""
    group, began = group_of(asked, store), time.process_time()
    candidate = candidate_of(name, group.forecast)
    grid = replay_grid(candidate, group.series, LEADS, TOLERATED_MINUTES)
    cpu = (time.process_time() - began) / len(grid.settings) / len(group.series)
    arrays = {"work": grid.work, "late": grid.late, "paid": grid.paid}
    return {"rows": tuned_rows(group, candidate, grid, cpu)}, arrays


def kept_grid(asked: Asked, candidate: Candidate, store: Store) -> Grid:
    """The grid of a policy as `replay_candidate` left it."""
    arrays = compute(grid_part(asked, candidate.name), store).arrays
    sums = (arrays[name] for name in ("work", "late", "paid"))
    return Grid(settings_of(candidate), LEADS, MINUTES_PER_DAY, *sums)


def choose_nightly(store: Store, asked: Asked) -> Outcome:
    """Rows of our own choice, night by night."""
    group = group_of(asked, store)
    ours = [candidate_of(name, group.forecast) for name in OWN_RULES]
    return {"rows": online_rows(group, {one.name: kept_grid(asked, one, store) for one in ours})}, {}


def ask_self_replay(store: Store, asked: Asked) -> Outcome:
    """Rows of the self-replay."""
    return {"rows": self_replay_rows(group_of(asked, store))}, {}


OWN_RULES = ("reactive", "reactive-veto", "proactive")
LAST = {"nightly choice": choose_nightly, "gate": ask_self_replay}


def tuned_rows(group: Group, candidate: Candidate, grid: Grid, cpu: float) -> list[Row]:
    """The chosen setting of each part, lead time and target, run again with every minute kept."""
    keys = [(lead, target) for lead in LEADS for target in TARGETS]
    tuned = {
        name: [tune(grid, lead, target, Split(1, group.split, part)) for lead, target in keys]
        for name, part in group.parts
    }
    settings = [one.chosen.setting for name, part in group.parts for _ in group.members(part) for one in tuned[name]]
    path = empty_path(scenarios := with_settings(night_scenarios(group.series, _terms()), settings))
    totals = Replay(candidate.factory, scenarios).advance(path=path)
    out = []
    for name, part in group.parts:
        for index, key in enumerate(keys):
            found = judge(totals, path, _scenarios(group, part, index), group.split, TOLERATED_MINUTES)
            row = {**_head(name, candidate.name, *key), **_figures(found), **_tuning(tuned[name][index])}
            out.append({**row, **_cost(group, part, cpu)})
    return out


def _terms() -> list[Terms]:
    return [Terms(lead, TOLERATED_MINUTES, target) for lead in LEADS for target in TARGETS]


def _scenarios(group: Group, part: slice, index: int) -> list[int]:
    """Scenarios of a part with the lead time and target number `index`."""
    return [index + series * len(LEADS) * len(TARGETS) for series in group.members(part)]


def online_rows(group: Group, grids: dict[str, Grid]) -> list[Row]:
    """Our own choice, night by night."""
    began, terms = time.process_time(), _terms()
    path = empty_path(night_scenarios(group.series, terms))
    nights = run_nights(group.series, _rivals(group, grids), terms, path)
    cpu = (time.process_time() - began) / len(terms) / len(group.series) + group.forecast_cpu
    out = []
    for name, part in group.parts:
        for index, one in enumerate(terms):
            mine = _scenarios(group, part, index)
            found = judge(nights.totals, path, mine, group.split, TOLERATED_MINUTES)
            share = float(np.mean([share_predicting(nights, group.split, scenario) for scenario in mine]))
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


def self_replay_rows(group: Group) -> list[Row]:
    """What the self-replay says of the last seven days of the first series of every part, at the first target."""
    out = []
    for name, part in group.parts:
        first = group.members(part)[0]
        for lead in LEADS:
            terms = Terms(lead, TOLERATED_MINUTES, TARGETS[0])
            out.append(self_replay_row(name, lead, self_replay(group.series[first], group.alone(first), terms)))
    return out


def self_replay_row(series: str, lead: int, answer: SelfReplay) -> Row:
    """One answer."""
    return {
        "series": series,
        "leadTimeSeconds": 60 * lead,
        "lateTargetPercent": TARGETS[0],
        "gate": answer.decision.value,
        "reason": answer.reason,
        "reactiveCost": _rounded(answer.reactive_cost),
        "proactiveCost": _rounded(answer.proactive_cost),
        "staticCost": _rounded(answer.static_cost),
        "message": answer.message,
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
