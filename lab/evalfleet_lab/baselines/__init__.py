"""Forecasters of other systems, as published and tuned; each file names its source.

They are written out here in numpy, and not called from their libraries: core and laboratory depend on numpy, scipy and
scikit-learn alone, and a forecast at every minute of weeks needs them vectorised. Tests compare each with statsmodels.
"""

from evalfleet_lab.baselines.arima import ARIMA
from evalfleet_lab.baselines.constant import CONSTANT
from evalfleet_lab.baselines.histogram import HISTOGRAM
from evalfleet_lab.baselines.holt_winters import HOLT_WINTERS
from evalfleet_lab.baselines.kalman import KALMAN
from evalfleet_lab.baselines.linear import LINEAR
from evalfleet_lab.baselines.rule import Baseline, LevelRule, Rule
from evalfleet_lab.baselines.same_hour import SAME_HOUR
from evalfleet_lab.baselines.static import STATIC
from evalfleet_scaling.forecast.interface import MemberFactory, Series

RULES: tuple[Rule | LevelRule, ...] = (
    CONSTANT,
    KALMAN,
    ARIMA,
    LINEAR,
    HOLT_WINTERS,
    HISTOGRAM,
    SAME_HOUR,
    STATIC,
)


def factory(rule: Rule | LevelRule, tuned: bool) -> MemberFactory:
    """Builds the member of a rule."""

    def build(series: Series) -> Baseline:
        return Baseline(rule, series.start_minute, tuned)

    return build


FACTORIES: dict[str, MemberFactory] = {
    rule.name + ("-tuned" if tuned else ""): factory(rule, tuned) for rule in RULES for tuned in (False, True)
}
