"""The slack ledger: how much work is guaranteed whatever spot does, and what every action takes from it.

If from now on nothing but the fallback pool (on-demand) can be obtained, a slot with `left` seconds still does

    on-demand with start-up left dl     left - dl
    ready spot                          left - c - d      lost at once, noticed c later, replaced by on-demand
    starting spot with dl               left - dl - d     lost when it would have become ready
    idle                                left - g - d      decided again in one tick

seconds of work. Slack S = sum over slots - work left - margin. S >= 0 is kept by every action, hence the guarantee.
The margin covers failing launches: the number of retries of n launches that fail with probability p is negative
binomial with mean n*p/(1-p) and deviation sqrt(n*p)/(1-p); each retry costs one tick. sqrt(n) is replaced by its
tangent at the width, so that the margin is linear in n and every action keeps one price. p is an upper confidence
bound of what was observed.
"""

from dataclasses import dataclass

import numpy as np

from evalfleet_scaling.capacity.slots import fill, first, first_by, spot_order, whole, whole_up
from evalfleet_scaling.capacity.view import EMPTY, BoolArray, CapacityPlan, CapacityView, FloatArray, IntArray

_FREE = 1e-9  # GPU-seconds: stands for an action that costs nothing
_DEAR = 0.1  # share above the cheapest pool from which on a pool is dear


@dataclass(frozen=True, slots=True)
class SlackSettings:
    """How careful the decision is.

    The reserve line is max(0, share * S0 * left/span - line_offset_startups * width * d): with slack below it an idle
    slot is given on-demand, so that slack remains for later swaps onto spot. With the load u = work / (width * span)
    and r, the most spot workers that could be had at one moment over the width,

        share = r * (reserve + reserve_by_load * u^2) + (1 - r) * reserve_scarce

    The less of its width a job needs, the more likely spot comes back in time; spot that was never there does not.
    """

    reserve: float
    reserve_by_load: float = 0.0
    reserve_scarce: float | None = None  # None: as if all the width could have been had
    line_offset_startups: float = 0.0
    dear_paces: float | None = None  # paces of spot above which only the cheapest pools are used; None: use all
    release_hysteresis_startups: float = 2.0  # per worker needed on average, before surplus on-demand is released
    loss_delay_ticks: float = 0.0  # c in ticks; 0 when losses are acted on as events
    whole_ticks: bool = False  # round start-ups up to ticks
    margin_ticks: float = 0.0  # per slot, before any launch was observed; fades as launches are
    margin_startups: float = 0.0  # of a start-up, per slot without a ready on-demand worker: start-ups vary
    margin_deviations: float = 0.0  # of the number of retries; 0: no margin for failing launches
    prior_failures: float = 0.5  # Beta prior of the launch failure probability
    prior_successes: float = 4.0
    failure_bound_deviations: float = 1.65  # upper confidence bound of that probability


@dataclass(frozen=True, slots=True)
class SlackPrices:
    """Slack that one action takes (or gives), [J] GPU-seconds each."""

    idle_to_spot: FloatArray
    idle_to_on_demand: FloatArray  # a gain
    on_demand_to_spot: FloatArray
    on_demand_to_idle: FloatArray


def decide_by_slack(view: CapacityView, settings: SlackSettings) -> CapacityPlan:
    """Fill empty slots with spot, then as few as needed with on-demand, then swap or release what slack allows."""
    slot_pool = np.where(view.usable, view.slot_pool, EMPTY)
    retries = _retry_margin(view, settings)
    prices = _prices(view, settings, retries[0])
    slack = slack_now(view, settings, retries)
    line = _reserve_line(view, settings)

    offered = _worth_their_price(view, slot_pool, slack > line, settings)
    slot_pool, slack, started_spot = _start_spot(view, slot_pool, slack, (prices, offered))
    slot_pool, slack, started_on_demand = _start_on_demand(view, slot_pool, slack, prices, line)
    slot_pool, slack = _swap_to_spot(view, slot_pool, slack, prices, ~(started_spot | started_on_demand))
    needed = np.minimum(view.work_left / np.maximum(view.left_seconds, view.tick_seconds), view.width)
    surplus = slack - line - settings.release_hysteresis_startups * needed * view.fallback_startup
    slot_pool, slack = _release(view, slot_pool, slack, prices, np.where(started_on_demand, 0.0, surplus))
    return CapacityPlan(slot_pool, slack < 0, slack)


def slack_now(
    view: CapacityView, settings: SlackSettings, retries: tuple[FloatArray, FloatArray] | None = None
) -> FloatArray:
    """[J] slack in GPU-seconds of the present workers with every other slot idle."""
    per_slot, constant = _retry_margin(view, settings) if retries is None else retries
    left, d = view.left_seconds[:, None], view.fallback_startup[:, None]
    wait = view.tick_seconds
    starting = _rounded(view.startup_left, view, settings)
    spot = np.where(view.startup_left > 0, starting, settings.loss_delay_ticks * wait) + d
    lost = np.where(view.on_demand, starting, np.where(view.on_spot, spot, wait + d))
    seconds = np.where(view.usable, np.maximum(left - lost, 0.0), 0.0)
    on_demand = view.on_demand & view.usable
    margin = constant + (view.width - on_demand.sum(axis=1)) * per_slot
    margin = margin + (view.width - (on_demand & (view.startup_left <= 0)).sum(axis=1)) * _varying(view, settings)
    margin = margin + view.width * _unknown_margin(view, settings) * wait
    result: FloatArray = seconds.sum(axis=1) * view.throughput[view.fallback] - view.work_left - margin
    return result


def _retry_margin(view: CapacityView, settings: SlackSettings) -> tuple[FloatArray, FloatArray]:
    """[J] GPU-seconds per slot that may still need a launch, and a constant part."""
    zero = np.zeros(len(view.width))
    if settings.margin_deviations <= 0:
        return zero, zero
    tries = view.fallback_launches + settings.prior_failures + settings.prior_successes
    p = (view.fallback_failures + settings.prior_failures) / tries
    p = np.minimum(p + settings.failure_bound_deviations * np.sqrt(p * (1 - p) / tries), 0.9)
    root_width = np.sqrt(np.maximum(view.width, 1))
    half_deviation = settings.margin_deviations * np.sqrt(p) / (1 - p) / 2
    per_slot = view.tick_seconds * (p / (1 - p) + half_deviation / root_width)
    return per_slot, view.tick_seconds * half_deviation * root_width


def _varying(view: CapacityView, settings: SlackSettings) -> FloatArray:
    """[J] GPU-seconds per slot without a ready on-demand worker: its start-up may take longer than planned."""
    return settings.margin_startups * view.fallback_startup


def _unknown_margin(view: CapacityView, settings: SlackSettings) -> FloatArray:
    """[J] ticks per slot for what has not been observed yet."""
    prior = settings.prior_failures + settings.prior_successes
    result: FloatArray = settings.margin_ticks * prior / (prior + view.fallback_launches)
    return result


def _prices(view: CapacityView, settings: SlackSettings, per_slot_margin: FloatArray) -> SlackPrices:
    rate = view.throughput[view.fallback]
    g, d = view.tick_seconds, view.fallback_startup
    start = _rounded(view.spot_startup, view, settings)
    from_ready = per_slot_margin + _varying(view, settings)
    return SlackPrices(
        idle_to_spot=rate * (start - g) if not settings.whole_ticks else rate * np.maximum(start - g, 0.0),
        idle_to_on_demand=np.full(len(d), rate * g) + per_slot_margin,
        on_demand_to_spot=rate * (start + d) + from_ready,
        on_demand_to_idle=rate * (d + g) + from_ready,
    )


def _reserve_line(view: CapacityView, settings: SlackSettings) -> FloatArray:
    span = view.elapsed_seconds + view.left_seconds
    most = view.width * span * view.throughput[view.fallback]
    initial = np.maximum(most - view.work_total, 0.0)
    load = np.minimum(view.work_total / np.maximum(most, _FREE), 1.0)
    kept = settings.reserve + settings.reserve_by_load * load**2
    if settings.reserve_scarce is not None:
        share = np.minimum(view.most_spot / np.maximum(view.width, 1), 1.0)
        kept = share * kept + (1 - share) * settings.reserve_scarce
    share = view.left_seconds / np.maximum(span, 1.0)
    offset = settings.line_offset_startups * view.width * view.fallback_startup
    result: FloatArray = np.maximum(kept * initial * share - offset, 0.0)
    return result


def _worth_their_price(view: CapacityView, slot_pool: IntArray, calm: BoolArray, settings: SlackSettings) -> IntArray:
    """[J, Z] spot offers; where `calm` those of dearer pools only as far as the pace needs them.

    A job above its line may finish early on dear machines or in time on cheap ones: beyond `dear_paces` times the pace
    work / time and one spare, workers on pools that cost a tenth more than the cheapest wait for a cheaper offer.
    """
    offered, spots = view.spot_offered, view.is_spot
    if settings.dear_paces is None or int(spots.sum()) <= 1:
        return offered
    seconds = np.maximum(view.left_seconds, view.tick_seconds) * view.throughput[view.fallback]
    running = (slot_pool != EMPTY).sum(axis=1)
    enough = np.ceil(settings.dear_paces * view.work_left / seconds) + 1 - running
    rows = np.flatnonzero(calm & (offered.sum(axis=1) > enough))
    if len(rows) == 0:
        return offered
    order = spot_order(view)[rows]
    cost = np.where(view.worthwhile[rows], view.price[rows] / view.throughput, np.inf)
    dear = np.take_along_axis(cost > (1 + _DEAR) * cost.min(axis=1, keepdims=True), order, axis=1)
    ordered = np.take_along_axis(offered[rows], order, axis=1)
    before = np.cumsum(ordered, axis=1) - ordered
    allowed = np.clip(enough[rows, None] - before, 0, ordered).astype(np.int64)
    limited = np.where(dear, allowed, ordered)
    result = offered.copy()
    result[rows[:, None], order] = limited
    return result


def _start_spot(
    view: CapacityView, slot_pool: IntArray, slack: FloatArray, terms: tuple[SlackPrices, IntArray]
) -> tuple[IntArray, FloatArray, BoolArray]:
    (prices, offered), empty = terms, view.empty
    price = prices.idle_to_spot
    affordable = np.where(price > 0, whole(slack / np.maximum(price, _FREE)), view.width)
    affordable = np.where(slack >= 0, affordable, 0)
    count = np.minimum(np.minimum(empty.sum(axis=1), offered.sum(axis=1)), affordable)
    slot_pool = fill(slot_pool, first(empty, count), spot_order(view), offered)
    return slot_pool, slack - count * price, count > 0


def _start_on_demand(
    view: CapacityView, slot_pool: IntArray, slack: FloatArray, prices: SlackPrices, line: FloatArray
) -> tuple[IntArray, FloatArray, BoolArray]:
    empty = view.usable & (slot_pool == EMPTY)
    need = np.where(line > slack, whole_up((line - slack) / np.maximum(prices.idle_to_on_demand, _FREE)), 0)
    count = np.minimum(need, empty.sum(axis=1))
    slot_pool = np.where(first(empty, count), view.fallback, slot_pool)
    return slot_pool, slack + count * prices.idle_to_on_demand, count > 0


def _swap_to_spot(
    view: CapacityView, slot_pool: IntArray, slack: FloatArray, prices: SlackPrices, allowed: BoolArray
) -> tuple[IntArray, FloatArray]:
    """Break before make, the worker with the most start-up left first, onto steady offers only."""
    offered, running = view.spot_steady, (view.slot_pool == view.fallback) & view.usable
    count = np.minimum(offered.sum(axis=1), whole(slack / np.maximum(prices.on_demand_to_spot, _FREE)))
    count = np.minimum(np.where(allowed, count, 0), running.sum(axis=1))
    slot_pool = fill(slot_pool, first_by(running, count, -view.startup_left), spot_order(view), offered)
    return slot_pool, slack - count * prices.on_demand_to_spot


def _release(
    view: CapacityView, slot_pool: IntArray, slack: FloatArray, prices: SlackPrices, surplus: FloatArray
) -> tuple[IntArray, FloatArray]:
    running = (slot_pool == view.fallback) & (view.slot_pool == view.fallback)
    count = np.minimum(whole(surplus / np.maximum(prices.on_demand_to_idle, _FREE)), running.sum(axis=1))
    slot_pool = np.where(first_by(running, count, -view.startup_left), EMPTY, slot_pool)
    return slot_pool, slack - count * prices.on_demand_to_idle


def _rounded(seconds: FloatArray, view: CapacityView, settings: SlackSettings) -> FloatArray:
    if not settings.whole_ticks:
        return seconds
    result: FloatArray = np.ceil(seconds / view.tick_seconds - 1e-9) * view.tick_seconds
    return result
