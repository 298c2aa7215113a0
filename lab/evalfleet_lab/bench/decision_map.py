"""Where prediction pays: saving over the best tuned baseline by how much demand swings and how many jobs arrive.

Daily demand with weekends, lead time 15 min, tolerated wait 10 min, 1 % late. Beside `evalfleet`, which chooses every
night, stands what the same rule costs with the generator's true rate in place of a forecast: no forecast does better
with this rule.
"""

from typing import Any

import numpy as np

from evalfleet_lab.baselines.fixed import FIXED
from evalfleet_lab.baselines.hpa import HPA
from evalfleet_lab.baselines.knative import KNATIVE
from evalfleet_lab.bench.decision_judge import judge
from evalfleet_lab.bench.forecast_parts import Outcome, Part, Store
from evalfleet_lab.bench.forecast_trees import KeptTrees
from evalfleet_lab.synthetic.demand import diurnal, diurnal_rate
from evalfleet_lab.synthetic.known_rate import known_rate_quantiles
from evalfleet_lab.tuning.nights import Rivals, night_scenarios, run_nights
from evalfleet_lab.tuning.tune import Split, tune
from evalfleet_scaling.forecast.fluid_queue import empty_path
from evalfleet_scaling.forecast.forecaster import Forecaster
from evalfleet_scaling.forecast.grid import Grid, replay_grid
from evalfleet_scaling.forecast.interface import DEFAULT_QUANTILES, MINUTES_PER_DAY, Series
from evalfleet_scaling.forecast.models import Setup
from evalfleet_scaling.forecast.policy import Candidate
from evalfleet_scaling.forecast.self_replay import Terms
from evalfleet_scaling.forecast.workers import REACTIVE, DemandForecast, Proactive, proactive

SWINGS = (0.5, 0.85, 0.96)
"""Peak over trough of (1 + s) / (1 - s): 3, 12 and 49."""
JOBS_PER_MINUTE = (1.0, 3.0, 30.0)
TERMS = Terms(15, 10, 1.0)
KNOWN_LEVELS = (0.5, 0.7, 0.9, 0.95, 0.99, 0.995, 0.999, 0.9999)
"""Safety levels of the rule with the true rate, up to what no forecast from data could tell."""
OTHERS = (HPA, KNATIVE, FIXED)


def map_parts(seeds: tuple[int, ...], days: int) -> list[Part]:
    """One part per cell."""
    return [
        Part(f"map: swing {swing}, {jobs:g} jobs a minute", map_cell, (swing, jobs, seeds, days))
        for swing in SWINGS
        for jobs in JOBS_PER_MINUTE
    ]


def map_cell(store: Store, swing: float, jobs: float, seeds: tuple[int, ...], days: int) -> Outcome:
    """Costs of one cell over its seeds."""
    series = tuple(diurnal(days, seed, jobs, swing) for seed in seeds)
    split = Split(1, days // 2)
    trainer = KeptTrees(store)
    ours, known = proactive(forecasts_of(series, trainer)), with_known_rate(series, jobs, swing)
    grids = {name: _grid(one, series) for name, one in (("reactive", REACTIVE), ("proactive", ours), ("known", known))}
    costs = {one.name: tuned_cost(_grid(one, series), split) for one in OTHERS}
    met = {name: cost for name, cost in costs.items() if cost is not None}
    best = min(met, key=lambda name: met[name], default=None)
    cost, late = nightly_cost(series, Rivals(REACTIVE, grids["reactive"], ours, grids["proactive"]), split.judged)
    row: dict[str, Any] = {
        "map": "diurnal-weekly",
        "peakOverTrough": round((1 + swing) / (1 - swing), 1),
        "jobsPerMinute": jobs,
        "evalfleet": round(cost, 4),
        "evalfleetLatePercent": round(late, 3),
        "knownRate": tuned_cost(grids["known"], split),
        "tunedReactive": tuned_cost(grids["reactive"], split),
        "otherSystem": best,
        "otherSystemCost": None if best is None else met[best],
        "seeds": len(seeds),
        "judgedDays": days - split.judged,
    }
    return {"rows": [row], "sparedSeconds": trainer.spared_seconds}, {}


def _grid(candidate: Candidate, series: tuple[Series, ...]) -> Grid:
    return replay_grid(candidate, series, [TERMS.lead_minutes], TERMS.tolerated_minutes)


def forecasts_of(series: tuple[Series, ...], trainer: KeptTrees) -> DemandForecast:
    """Our forecasts, minute by minute from what was known."""
    setup, each = Setup((TERMS.lead_minutes,), DEFAULT_QUANTILES), []
    for one in series:
        forecaster = Forecaster(setup, one.start_minute, trainer)
        each.append(np.concatenate([part.mixed for part in forecaster.advance(one.values)]))
    return DemandForecast(setup.horizons, setup.quantiles, np.stack(each, axis=1))


def with_known_rate(series: tuple[Series, ...], jobs: float, swing: float) -> Candidate:
    """Our rule on the distribution that the arrivals were drawn from, alike for all series."""
    rate = diurnal_rate(len(series[0]) / MINUTES_PER_DAY, jobs, swing)
    quantiles = known_rate_quantiles(rate, TERMS.lead_minutes, KNOWN_LEVELS)
    repeated = np.repeat(quantiles[:, None, None], len(series), axis=1)
    known = DemandForecast((TERMS.lead_minutes,), KNOWN_LEVELS, repeated)
    return Candidate("known-rate", lambda scenarios: Proactive(scenarios, known), KNOWN_LEVELS)


def tuned_cost(grid: Grid, split: Split) -> float | None:
    """Cost on the judged days of the setting chosen before; where that missed the target, of the best in hindsight.

    None where no setting met the target.
    """
    found = tune(grid, TERMS.lead_minutes, TERMS.late_percent, split)
    best = found.judged if found.judged.met else found.hindsight
    return round(best.cost, 4) if best.met else None


def nightly_cost(series: tuple[Series, ...], rivals: Rivals, split: int) -> tuple[float, float]:
    """Cost and percent late of our own choice, night by night, on the judged days."""
    path = empty_path(night_scenarios(series, [TERMS]))
    nights = run_nights(series, {TERMS.lead_minutes: rivals}, [TERMS], path)
    found = judge(nights.totals, path, range(len(series)), split, TERMS.tolerated_minutes)
    return found.cost, found.late_percent
