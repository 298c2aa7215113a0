"""The what-if behind `evalfleet simulate`: one job, one trace, several strategies, a table and a picture."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from evalfleet_lab.bounds.linear import BoundJob, BoundMarket, linear_bound
from evalfleet_lab.simulate.replay import replay
from evalfleet_lab.simulate.scenario import Faults, JobShape, Scenario, region_scenario
from evalfleet_lab.simulate.trace import SpotTrace
from evalfleet_lab.synthetic.capacity import SyntheticPool, synthetic_trace
from evalfleet_lab.traces.capacity import load_trace_file
from evalfleet_scaling.capacity.registry import STRATEGIES
from evalfleet_scaling.capacity.strategy import Strategy
from evalfleet_scaling.capacity.view import CapacityPlan, CapacityView
from evalfleet_scaling.model import StrategyName

_PICTURES = (".png", ".svg")


@dataclass(frozen=True, slots=True)
class Prices:
    """Per worker and hour; the spot price is used where the trace has none."""

    spot: float
    on_demand: float


def chosen_strategies(names: Sequence[str] | None) -> list[Strategy]:
    """Strategies by name, all of them without names; ValueError lists the known ones."""
    if not names:
        return list(STRATEGIES.values())
    known = {str(name): strategy for name, strategy in STRATEGIES.items()}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ValueError(f"unknown strategy {', '.join(unknown)}; known are {', '.join(known)}")
    return [known[name] for name in names]


def build_scenario(path: Path | None, job: JobShape, prices: Prices, *, starts: int, seed: int) -> Scenario:
    """Windows over all pools of the user's trace together, or over one synthetic pool of two weeks."""
    if path is None:
        pool = SyntheticPool(workers=job.gpus, price=prices.spot)
        traces = [synthetic_trace(pool, ticks=4032, tick_seconds=300.0, seed=seed)]
    else:
        traces = load_trace_file(path)
    if any(trace.tick_seconds != traces[0].tick_seconds for trace in traces):
        raise ValueError(f"{path}: the pools have different ticks")
    priced = [trace if trace.prices is not None else _with_price(trace, prices.spot) for trace in traces]
    return region_scenario(priced, job, starts, on_demand_price=prices.on_demand)


def _with_price(trace: SpotTrace, price: float) -> SpotTrace:
    return replace(trace, prices=np.full(len(trace.counts), price))


def compare(scenario: Scenario, strategies: Sequence[Strategy], faults: Faults) -> list[dict[str, Any]]:
    """One row per strategy, cheapest in time first; the bound of a planner that knows the future last."""
    bound = float(np.mean([_bound(scenario, run) for run in range(scenario.counts.shape[1])]))
    rows = [_row(scenario, strategy, faults, bound) for strategy in strategies]
    rows.sort(key=lambda row: (row["missed"], row["cost"]))
    on_demand = float((scenario.work / 3600.0 * scenario.on_demand_price).mean())
    least: dict[str, Any] = dict.fromkeys(rows[0])
    least["strategy"] = "bound"
    if np.isfinite(bound):
        least |= {"cost": round(bound, 2), "costOverOnDemand": round(bound / on_demand, 3)}
    return [*rows, least]


def _row(scenario: Scenario, strategy: Strategy, faults: Faults, bound: float) -> dict[str, Any]:
    outcome = replay(scenario, strategy, faults)
    cost, on_demand = float(outcome.cost.mean()), float(outcome.on_demand_cost.mean())
    finished = outcome.finish_seconds[np.isfinite(outcome.finish_seconds)]
    saving = (on_demand - cost) / (on_demand - bound) if np.isfinite(bound) and on_demand > bound else float("nan")
    return {
        "strategy": str(strategy.name),
        "cost": round(cost, 2),
        "costOverOnDemand": round(cost / on_demand, 3),
        "attainedSaving": round(saving, 3) if np.isfinite(saving) else None,
        "missed": int(outcome.missed.sum()),
        "medianFinishHours": round(float(np.median(finished)) / 3600.0, 2) if len(finished) else None,
        "preemptions": round(float(outcome.preemptions.mean()), 1),
    }


def _bound(scenario: Scenario, run: int) -> float:
    one = BoundMarket(
        scenario.counts[:, run],
        scenario.spot_price[:, run],
        scenario.on_demand_price,
        scenario.tick_seconds,
        scenario.startup_seconds,
    )
    return linear_bound(one, [BoundJob(float(scenario.work[run]), scenario.width, 0, scenario.deadline_ticks)])


class _Recording:
    """A strategy that remembers what it saw of the first run."""

    def __init__(self, strategy: Strategy) -> None:
        self.strategy = strategy
        self.rows: list[tuple[float, int, int, float]] = []

    @property
    def name(self) -> StrategyName:
        return self.strategy.name

    def decide(self, view: CapacityView) -> CapacityPlan:
        plan = self.strategy.decide(view)
        slots = plan.slot_pool[0]
        spot = int(view.is_spot[slots[slots >= 0]].sum())
        done = 1.0 - float(view.work_left[0] / view.work_total[0])
        self.rows.append((float(view.elapsed_seconds[0]) / 3600.0, spot, int((slots >= 0).sum()) - spot, done))
        return plan


def check_picture(path: Path) -> None:
    """ValueError unless a picture can be written there; asked before a long replay, not after it."""
    if path.suffix not in _PICTURES:
        raise ValueError(f"{path}: the picture must end in {' or '.join(_PICTURES)}")
    if not path.parent.is_dir():
        raise ValueError(f"{path}: there is no folder {path.parent}")


def draw(scenario: Scenario, strategy: Strategy, faults: Faults, path: Path) -> None:
    """Write a picture of the first window: what was offered, what ran, and progress against the deadline."""
    check_picture(path)
    import matplotlib as mpl

    mpl.use("Agg")
    mpl.rcParams["svg.hashsalt"] = "evalfleet"  # equal pictures for equal input
    mpl.rcParams["svg.fonttype"] = "none"
    import matplotlib.pyplot as plt

    recording = _Recording(strategy)
    one = replace(
        scenario,
        counts=scenario.counts[:, :1],
        steady=scenario.steady[:, :1],
        spot_price=scenario.spot_price[:, :1],
        work=scenario.work[:1],
    )
    replay(one, recording, faults)
    hours, spot, on_demand, done = (np.array(column) for column in zip(*recording.rows, strict=True))
    offered = np.minimum(one.counts[:, 0].sum(axis=1), scenario.width)
    figure, (upper, lower) = plt.subplots(2, 1, sharex=True, figsize=(9, 5), height_ratios=(3, 2))
    upper.fill_between(np.arange(len(offered)) * scenario.tick_seconds / 3600, offered, step="post", color="0.9")
    upper.stackplot(hours, spot, on_demand, labels=("spot", "on-demand"), colors=("#4c9f70", "#d1603d"), step="post")
    upper.set(ylabel="workers (grey: spot offered)", title=f"{strategy.name}, first window")
    upper.legend(loc="upper right")
    deadline = scenario.deadline_ticks * scenario.tick_seconds / 3600
    lower.plot(hours, done, color="#30638e")
    lower.plot([0, deadline], [0, 1], color="0.6", linestyle=":")
    lower.axvline(deadline, color="black", linewidth=1)
    lower.set(xlabel="hours since submission", ylabel="work done")
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
    plt.close(figure)
