"""The ETA is a distribution that behaves: ordered, wider with uncertainty, later with interruptions, never invented."""

from dataclasses import replace
from math import exp, inf

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalfleet_scaling.eta import EtaInput, InvalidEtaInputError, estimate_finish, poisson_quantiles

PLAIN = EtaInput(work_left_gpu_seconds=36_000.0, ready_workers=10, rate_relative_error=0.1)


def test_without_uncertainty_it_is_work_over_workers() -> None:
    eta = estimate_finish(replace(PLAIN, rate_relative_error=0.0))
    assert (eta.p10, eta.p50, eta.p90) == (3600.0, 3600.0, 3600.0)


def test_the_planned_rate_is_the_pessimistic_end() -> None:
    eta = estimate_finish(replace(PLAIN, deadline_seconds=3600.0))
    assert eta.p50 == pytest.approx(3600 / exp(0.1 * 1.645), rel=0.01)
    assert eta.in_time_probability == pytest.approx(0.95, abs=0.02)


def test_interruptions_make_it_later_and_less_certain() -> None:
    calm, rough = estimate_finish(PLAIN), estimate_finish(replace(PLAIN, interruptions_per_hour=0.5))
    assert rough.p50 > calm.p50
    assert rough.p90 - rough.p10 > calm.p90 - calm.p10


def test_interruptions_agree_with_a_simulation_of_the_same_model() -> None:
    job = replace(PLAIN, rate_relative_error=0.0, interruptions_per_hour=0.5, seconds_lost_per_interruption=600.0)
    random = np.random.default_rng(5)
    times = []
    for _ in range(4000):
        left, paid = job.work_left_gpu_seconds, 0.0
        while left > 0:  # all workers as one stream of worker-seconds
            until = random.exponential(3600 / 0.5)
            done = min(until, left)
            left -= done
            paid += done + (600.0 if left > 0 else 0.0)
        times.append(paid / 10)
    eta = estimate_finish(job)
    for level, value in ((0.1, eta.p10), (0.5, eta.p50), (0.9, eta.p90)):
        assert value == pytest.approx(float(np.quantile(times, level)), rel=0.06)


def test_a_guaranteed_job_without_workers_finishes_by_its_deadline_if_the_rate_is_what_was_planned() -> None:
    promised = replace(PLAIN, deadline_seconds=20_000.0, guaranteed=True, fallback_workers=5)
    waiting = replace(promised, ready_workers=0, fallback_startup_seconds=600.0)
    eta = estimate_finish(waiting)
    assert eta.p90 <= 20_000
    assert eta.in_time_probability == pytest.approx(0.95, abs=0.02)


def test_a_job_without_workers_or_guarantee_has_no_foreseeable_end() -> None:
    eta = estimate_finish(replace(PLAIN, ready_workers=0, deadline_seconds=1e6))
    assert (eta.p50, eta.in_time_probability) == (inf, 0.0)


def test_nothing_left_is_finished_now() -> None:
    assert estimate_finish(EtaInput(0.0, 0)).p90 == 0.0


@pytest.mark.parametrize("field", ["work_left_gpu_seconds", "interruptions_per_hour", "rate_relative_error"])
@pytest.mark.parametrize("value", [-1.0, float("nan"), inf])
def test_bad_input_is_a_typed_error(field: str, value: float) -> None:
    with pytest.raises(InvalidEtaInputError, match=field):
        replace(PLAIN, **{field: value})


JOBS = st.builds(
    EtaInput,
    work_left_gpu_seconds=st.floats(0, 1e7),
    ready_workers=st.integers(0, 50),
    starting_workers=st.integers(0, 5),
    startup_left_seconds=st.floats(0, 900),
    interruptions_per_hour=st.floats(0, 5),
    rate_relative_error=st.floats(0, 0.5),
    deadline_seconds=st.none() | st.floats(-1e4, 1e6),
    guaranteed=st.booleans(),
    fallback_workers=st.integers(0, 10),
)


@given(JOBS)
def test_quantiles_are_ordered_and_probabilities_are_probabilities(job: EtaInput) -> None:
    eta = estimate_finish(job)
    assert 0 <= eta.p10 <= eta.p50 <= eta.p90
    assert eta.in_time_probability is None or 0 <= eta.in_time_probability <= 1
    assert estimate_finish(job) == eta


@given(JOBS, st.floats(1.0, 3.0))
def test_more_work_never_ends_earlier(job: EtaInput, factor: float) -> None:
    more = replace(job, work_left_gpu_seconds=job.work_left_gpu_seconds * factor)
    # The guarantee's latest start moves with the work, so only the opportunistic part is compared.
    less, later = replace(job, guaranteed=False), replace(more, guaranteed=False)
    assert estimate_finish(later).p50 >= estimate_finish(less).p50 * (1 - 1e-9)


@pytest.mark.parametrize("mean", [1e-6, 0.3, 1.0, 7.7, 120.0, 9_999.0, 10_001.0, 3e6, 1e9])
def test_poisson_quantiles_are_those_of_scipy(mean: float) -> None:
    from scipy.stats import poisson

    expected = poisson.ppf((np.arange(32) + 0.5) / 32, mean)
    exact = mean <= 10_000
    assert np.abs(poisson_quantiles(mean) - expected).max() <= (0 if exact else 1)
