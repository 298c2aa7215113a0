"""Synthetic demand depends on its seed alone, and the quantiles of its rate are known."""

import numpy as np
import pytest

from evalfleet_lab.synthetic.demand import FAMILIES, JOB_SECONDS, SIZE_SIGMA
from evalfleet_lab.synthetic.known_rate import compound_quantiles, known_rate_quantiles


@pytest.mark.parametrize("family", FAMILIES)
def test_a_synthetic_series_depends_on_its_seed_alone(family: str) -> None:
    make = FAMILIES[family]
    first, same, other = make(2, 1), make(2, 1), make(2, 2)
    np.testing.assert_array_equal(first.values, same.values)
    assert not np.array_equal(first.values, other.values)
    assert len(first) == 2_880
    assert first.values.sum() > 0


@pytest.mark.parametrize("jobs", [0.3, 4.0, 60.0])
def test_quantiles_of_a_known_rate_are_those_of_many_draws(jobs: float) -> None:
    rng = np.random.default_rng(0)
    counts = rng.poisson(jobs, 40_000)
    sizes = rng.lognormal(np.log(JOB_SECONDS), SIZE_SIGMA, int(counts.sum()))
    totals = np.bincount(np.repeat(np.arange(len(counts)), counts), sizes, len(counts))
    levels = (0.5, 0.9, 0.99)
    np.testing.assert_allclose(compound_quantiles(jobs, levels), np.quantile(totals, levels), rtol=0.03, atol=20.0)


def test_a_known_rate_sees_the_next_minutes_and_nothing_after_the_end() -> None:
    rate = np.concatenate([np.zeros(60), np.full(60, 2.0)])
    found = known_rate_quantiles(rate, 15, (0.5,))[:, 0]
    assert found[:44].tolist() == [0.0] * 44
    assert np.all(np.diff(found[44:59]) >= 0)
    assert found[59] == pytest.approx(compound_quantiles(30.0, (0.5,))[0], rel=0.02)
    assert found[-1] == 0.0
