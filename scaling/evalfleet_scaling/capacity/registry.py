"""All strategies by name, with their default settings."""

from evalfleet_scaling.capacity.elastic_auto import ElasticAuto
from evalfleet_scaling.capacity.elastic_rule import ElasticRule
from evalfleet_scaling.capacity.greedy import Greedy
from evalfleet_scaling.capacity.on_demand_only import OnDemandOnly
from evalfleet_scaling.capacity.slack_ledger import SlackLedger
from evalfleet_scaling.capacity.spot_hedge import SpotHedge
from evalfleet_scaling.capacity.spot_only import SpotOnly
from evalfleet_scaling.capacity.static_mix import StaticMix
from evalfleet_scaling.capacity.strategy import Strategy
from evalfleet_scaling.capacity.time_sliced import TimeSliced
from evalfleet_scaling.capacity.uniform_progress import UniformProgress
from evalfleet_scaling.capacity.utility import Utility
from evalfleet_scaling.model import StrategyName

_ALL: tuple[Strategy, ...] = (
    ElasticAuto(),
    SlackLedger(),
    ElasticRule(),
    UniformProgress(),
    Utility(),
    OnDemandOnly(),
    SpotOnly(),
    Greedy(),
    TimeSliced(),
    StaticMix(),
    SpotHedge(),
)
STRATEGIES: dict[StrategyName, Strategy] = {strategy.name: strategy for strategy in _ALL}


def strategy_named(name: StrategyName) -> Strategy:
    """The strategy of that name with default settings."""
    return STRATEGIES[name]
