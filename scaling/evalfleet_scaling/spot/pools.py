"""Which spot pools to use now: active and probation lists, order by price per sample, spread over pools.

A pool goes on probation when it preempted a worker or failed a launch, and is tried again when the probation expires or
when no other pool is left. Pools whose workers are not expected to live long enough to pay are skipped.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil

from evalfleet_scaling.model import Pool, PoolObservation
from evalfleet_scaling.spot.lifetime import pays_to_start


@dataclass(frozen=True, slots=True)
class PoolLists:
    """Pools on probation and until when; every other pool is active."""

    probation_until_seconds: Mapping[str, float]

    def is_active(self, pool_name: str, now_seconds: float) -> bool:
        """Whether the pool is not on probation, or its probation has expired."""
        return self.probation_until_seconds.get(pool_name, -float("inf")) <= now_seconds


def put_on_probation(lists: PoolLists, pool_name: str, now_seconds: float, seconds: float) -> PoolLists:
    """The lists with one pool on probation; an earlier, longer probation stays."""
    until = max(now_seconds + seconds, lists.probation_until_seconds.get(pool_name, now_seconds))
    alive = {name: end for name, end in lists.probation_until_seconds.items() if end > now_seconds}
    return PoolLists({**alive, pool_name: until})


def price_per_work(pool: Pool, observation: PoolObservation | None) -> float:
    """Price of one hour of reference work: c / mu."""
    known = observation.price_per_hour if observation is not None else None
    return float(pool.price_per_hour if known is None else known) / pool.relative_throughput


def usable_spot_pools(
    pools: Sequence[Pool],
    observations: Mapping[str, PoolObservation],
    lists: PoolLists,
    now_seconds: float,
    on_demand_price_per_work: float,
) -> tuple[Pool, ...]:
    """Spot pools worth a start now, best first: active before probation, priority, then price per work, then name."""
    ranked = []
    for pool in pools:
        observation = observations.get(pool.name)
        if not pool.is_spot or _cooling(observation, now_seconds):
            continue
        price = price_per_work(pool, observation)
        ratio = on_demand_price_per_work / price if price > 0 else 1e9
        life = observation.expected_lifetime_seconds if observation is not None else None
        startup = _startup(pool, observation)
        if pays_to_start(life, startup, ratio):
            ranked.append((not lists.is_active(pool.name, now_seconds), -pool.priority, price, pool.name, pool))
    active = [entry for entry in ranked if not entry[0]]
    return tuple(entry[-1] for entry in sorted(active or ranked, key=lambda entry: entry[:-1]))


def spread(workers: int, offered: Sequence[int]) -> tuple[int, ...]:
    """Distribute workers over pools in order, at most ceil(workers/2) in one while a second has room.

    What the spread leaves over goes to the first pools with room, so that it never costs workers.
    """
    most = ceil(workers / 2)
    taken: list[int] = []
    left = workers
    for room in offered:
        take = min(left, room, most)
        taken.append(take)
        left -= take
    for index, room in enumerate(offered):
        more = min(left, room - taken[index])
        taken[index] += more
        left -= more
    return tuple(taken)


def _cooling(observation: PoolObservation | None, now_seconds: float) -> bool:
    until = observation.cool_down_until_seconds if observation is not None else None
    return until is not None and until > now_seconds


def _startup(pool: Pool, observation: PoolObservation | None) -> float:
    known = observation.startup_p95_seconds if observation is not None else None
    return pool.expected_startup_seconds if known is None else known
