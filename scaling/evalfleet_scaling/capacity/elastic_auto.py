"""ElasticAuto, the default: keeps slack, and learns its margin from the launches it saw fail."""

from dataclasses import dataclass

from evalfleet_scaling.capacity.slack import SlackSettings, decide_by_slack
from evalfleet_scaling.capacity.view import CapacityPlan, CapacityView
from evalfleet_scaling.model import StrategyName

_SETTINGS = SlackSettings(
    reserve=0.15,
    reserve_by_load=0.85,
    reserve_scarce=0.8,
    dear_paces=1.5,
    line_offset_startups=0.75,
    release_hysteresis_startups=8.0,
    margin_ticks=0.5,
    margin_startups=0.3,
    margin_deviations=5.0,
)


@dataclass(frozen=True, slots=True)
class ElasticAuto:
    """Meets the deadline while on-demand is obtainable, at the least cost found on the public traces.

    The settings were searched on the traces of docs/capacity.md, which lists every idea tried with its number.
    """

    settings: SlackSettings = _SETTINGS

    @property
    def name(self) -> StrategyName:
        """ElasticAuto."""
        return StrategyName.ELASTIC_AUTO

    def decide(self, view: CapacityView) -> CapacityPlan:
        """Spot while the guarantee allows, on-demand for what it does not."""
        return decide_by_slack(view, self.settings)
