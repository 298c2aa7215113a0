"""The tables of the demand forecast: members, ensemble and baselines, minute by minute, on every series.

Prequential: each forecast is made from what was known at its minute and scored when its window has passed. Real traces
come from EVALFLEET_DATA; synthetic families run with five seeds, whose days are bootstrapped together. The forecasts of
the mix are kept for the decision replay, which needs one more lead time and one more level than is scored here.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from evalfleet_lab.baselines import FACTORIES
from evalfleet_lab.bench.forecast_parts import Outcome, Part, Store
from evalfleet_lab.bench.forecast_trees import KeptTrees
from evalfleet_lab.synthetic.demand import FAMILIES
from evalfleet_scaling.forecast.forecaster import MEMBERS, Forecaster
from evalfleet_scaling.forecast.interface import (
    DEFAULT_QUANTILES,
    MINUTES_PER_DAY,
    FloatArray,
    Series,
    replay,
)
from evalfleet_scaling.forecast.models import Setup
from evalfleet_scaling.forecast.score import Sample, sample, score, scored_from

LEADS = (2, 5, 15)
"""Lead times that are forecast; the first serves the decision replay alone."""
HORIZONS = (5, 15)
LEVELS = (0.5, 0.9, 0.99)
SEEDS = (0, 1, 2, 3, 4)
ENSEMBLE = "ensemble"
Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Size:
    """How much is replayed: seeds and days of synthetic series, most days of a trace (None: all)."""

    seeds: tuple[int, ...]
    days: float
    trace_days: float | None


FULL = Size(SEEDS, 14, None)
QUICK = Size(SEEDS[:1], 8, 9)


@dataclass(frozen=True, slots=True)
class Run:
    """Forecasts of all models on one series: name -> shape (minutes, horizons, levels); CPU seconds each."""

    series: Series
    forecasts: dict[str, FloatArray]
    cpu_seconds: dict[str, float]


def forecast_parts(folder: Path | None, size: Size, only: frozenset[str] = frozenset()) -> list[Part]:
    """One part per series: real traces below `folder` first, then the synthetic families.

    Args:
        folder: where traces are; None: synthetic families alone.
        size: how much is replayed.
        only: names of the series wanted; empty: all.
    """
    return [part_of(name, group) for name, group in series_groups(folder, size) if not only or name in only]


def part_of(name: str, group: tuple[Series, ...]) -> Part:
    """Forecast and score series together."""
    days = sum(len(series) for series in group) / MINUTES_PER_DAY
    return Part(f"{name} ({len(group)} series, {days:.1f} days)", forecast_and_score, (name, group))


def series_groups(folder: Path | None, size: Size) -> Iterator[tuple[str, tuple[Series, ...]]]:
    """Series that are scored together: a trace alone, a family with all seeds."""
    if folder is not None:
        from evalfleet_lab.traces.demand import discover_demand

        for trace in discover_demand(folder):
            yield trace.series.name, (_first_days(trace.series, size.trace_days),)
    for name, family in FAMILIES.items():
        yield name, tuple(family(size.days, seed) for seed in size.seeds)


def _first_days(series: Series, days: float | None) -> Series:
    stop = len(series) if days is None else round(days * MINUTES_PER_DAY)
    return Series(series.values[:stop], series.start_minute, series.name)


def forecast_and_score(store: Store, name: str, group: tuple[Series, ...]) -> Outcome:
    """Rows of all models, and as array `mixed<index>` the forecasts of the mix, shape (minutes, leads, quantiles)."""
    trainer = KeptTrees(store)
    runs, arrays = [], {}
    for index, series in enumerate(group):
        run, arrays[f"mixed{index}"] = replay_all(series, trainer)
        runs.append(run)
    cpu = sum(run.cpu_seconds[ENSEMBLE] for run in runs)
    return {"rows": score_rows(name, runs), "cpuSeconds": cpu, "sparedSeconds": trainer.spared_seconds}, arrays


def replay_all(series: Series, trainer: KeptTrees) -> tuple[Run, FloatArray]:
    """Our members and mix in one pass, then each baseline; and the mix with all lead times and quantiles."""
    spared = trainer.spared_seconds
    began = time.process_time()
    forecaster = Forecaster(Setup(LEADS, DEFAULT_QUANTILES), series.start_minute, trainer)
    parts = forecaster.advance(series.values)
    cpu = {ENSEMBLE: time.process_time() - began + trainer.spared_seconds - spared}
    mixed = np.concatenate([part.mixed for part in parts])
    forecasts = {ENSEMBLE: _scored(mixed)}
    for index, name in enumerate(MEMBERS):
        forecasts[name] = np.concatenate([_scored(part.members[:, index]) for part in parts])
    for name, factory in FACTORIES.items():
        began = time.process_time()
        forecasts[name] = replay(factory, series, HORIZONS, LEVELS)
        cpu[name] = time.process_time() - began
    return Run(series, forecasts, cpu), mixed


def _scored(forecasts: FloatArray) -> FloatArray:
    """Of shape (minutes, leads, quantiles) the horizons and levels that are scored."""
    some = forecasts[:, [LEADS.index(lead) for lead in HORIZONS]]
    return some[:, :, [DEFAULT_QUANTILES.index(level) for level in LEVELS]]


def score_rows(name: str, runs: list[Run]) -> list[Row]:
    """One row per model, horizon and level over all runs (seeds) of a series."""
    rows = []
    days = round(sum(len(run.series) for run in runs) / MINUTES_PER_DAY, 1)
    for model in runs[0].forecasts:
        for column, horizon in enumerate(HORIZONS):
            for index, level in enumerate(LEVELS):
                samples = [_sample(run, model, (column, horizon), index) for run in runs]
                row = _row(samples, level)
                if row is not None:
                    cpu = sum(run.cpu_seconds.get(model, 0.0) for run in runs)
                    head = {"series": name, "horizonSeconds": 60 * horizon, "model": model, "quantile": level}
                    rows.append({**head, **row, "cpuSeconds": round(cpu, 3), "seeds": len(runs), "days": days})
    return rows


def _sample(run: Run, model: str, horizon: tuple[int, int], index: int) -> Sample:
    column, minutes = horizon
    values = run.series.values
    return sample(values, minutes, run.forecasts[model][:, column, index], scored_from(len(values)))


def _row(samples: list[Sample], level: float) -> Row | None:
    figures = score(samples, level)
    if figures is None:
        return None
    return {
        "wql": round(figures.wql, 4),
        "wqlLow": round(figures.wql_low, 4),
        "wqlHigh": round(figures.wql_high, 4),
        "coverage": round(figures.coverage, 4),
        "worstDayCoverage": round(figures.worst_day_coverage, 4),
        "sharpness": round(figures.sharpness, 4),
        "mase": round(figures.mase, 4) if level == 0.5 else None,
        "n": figures.n,
    }
