"""The examples are what the API accepts."""

from pathlib import Path

import pytest
import yaml

from evalfleet.api.manifest import read_evaluation_job
from evalfleet.api.scalingpolicy import ScalingPolicy

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("evaluationjob-*.yaml")), ids=lambda path: path.stem)
def test_every_example_job_is_valid(path: Path) -> None:
    assert read_evaluation_job(path).spec.evaluations


def test_the_example_policy_is_valid() -> None:
    policy = ScalingPolicy.model_validate(yaml.safe_load((EXAMPLES / "scalingpolicy.yaml").read_text("utf-8")))
    assert [pool.capacity_type for pool in policy.spec.pools] == ["Spot", "OnDemand"]
