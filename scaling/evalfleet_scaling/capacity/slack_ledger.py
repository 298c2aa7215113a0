"""SlackLedger: the plain rule, without a margin for failing launches and with losses noticed one tick late."""

from dataclasses import dataclass

from evalfleet_scaling.capacity.slack import SlackSettings, decide_by_slack
from evalfleet_scaling.capacity.view import CapacityPlan, CapacityView
from evalfleet_scaling.model import StrategyName

_SETTINGS = SlackSettings(reserve=0.3, loss_delay_ticks=1.0, whole_ticks=True)


@dataclass(frozen=True, slots=True)
class SlackLedger:
    """Kept as a baseline for `ElasticAuto`; misses deadlines by minutes when on-demand launches often fail."""

    settings: SlackSettings = _SETTINGS

    @property
    def name(self) -> StrategyName:
        """SlackLedger."""
        return StrategyName.SLACK_LEDGER

    def decide(self, view: CapacityView) -> CapacityPlan:
        """Spend slack above zero; keep 30 % of what a straight line would leave."""
        return decide_by_slack(view, self.settings)
