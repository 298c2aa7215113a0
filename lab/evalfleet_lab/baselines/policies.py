"""Worker policies of other systems for the decision replay; each file names its source."""

from evalfleet_lab.baselines import RULES
from evalfleet_lab.baselines.fixed import FIXED
from evalfleet_lab.baselines.forecasting import candidate
from evalfleet_lab.baselines.hpa import HPA
from evalfleet_lab.baselines.knative import KNATIVE
from evalfleet_scaling.forecast.policy import Candidate

CANDIDATES: tuple[Candidate, ...] = (HPA, KNATIVE, FIXED, *(candidate(rule) for rule in RULES))
