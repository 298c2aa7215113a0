"""Two executions of one request agree within rounding errors of their number type, and no further."""

import pytest

from evalfleet_worker.protocol import Numerics
from evalfleet_worker.requests import Answer, Request, RequestType
from evalfleet_worker.tolerance import Agreement, tolerance

# Largest differences [nats] seen between packed, padded and plain passes of a real model, by scored tokens.
SEEN = {
    "Float32": {1: 3.8e-6, 4: 8.6e-6, 16: 2.2e-5, 64: 1.5e-5, 192: 6.1e-5},
    "BFloat16": {1: 0.031, 4: 0.121, 16: 0.349, 64: 0.382, 192: 0.401},
}


def fast(dtype):
    return Numerics(dtype=dtype, device_kind="cpu")


NOTICED = {"Float32": 1e-4, "BFloat16": 0.7}
"""A difference of one log-probability [nats] that must not pass."""


@pytest.mark.parametrize("dtype", SEEN)
def test_what_was_seen_is_allowed_and_what_is_wrong_is_noticed(dtype):
    assert all(seen < tolerance(fast(dtype), tokens) for tokens, seen in SEEN[dtype].items())
    assert tolerance(fast(dtype), 1) < NOTICED[dtype]


def test_errors_of_a_sum_grow_with_the_root_of_its_length():
    assert tolerance(fast("BFloat16"), 400) == pytest.approx(20 * tolerance(fast("BFloat16"), 1))
    assert tolerance(fast("Float32"), 0) == tolerance(fast("Float32"), 1)


def test_types_differ_by_their_unit_roundoff_and_strict_is_bitwise():
    assert tolerance(fast("BFloat16"), 9) == pytest.approx(8 * tolerance(fast("Float16"), 9))
    assert tolerance(fast("Float32"), 9) < 1e-3 < tolerance(fast("Float16"), 9)
    assert tolerance(Numerics(dtype="BFloat16", strict=True), 9) == 0.0


def pair(difference, **members):
    return Answer(3, log_probability=-7.0, **members), Answer(3, log_probability=-7.0 - difference, **members)


@pytest.mark.parametrize(
    ("dtype", "tokens", "difference", "agree"),
    [
        ("Float32", 1, 1e-5, True), ("Float32", 1, 1e-4, False), ("Float32", 100, 1e-4, True),
        ("BFloat16", 1, 0.1, True), ("BFloat16", 1, 1.0, False), ("Float16", 1, 0.1, False),
    ],
)  # fmt: skip
def test_sums_are_compared_by_their_number_of_tokens(dtype, tokens, difference, agree):
    request = Request(3, "e", RequestType.LOGLIKELIHOOD, 0, continuation_length=tokens)
    assert Agreement(fast(dtype)).holds(request, *pair(difference)) is agree


def test_strict_executions_must_have_the_same_bits():
    request = Request(3, "e", RequestType.LOGLIKELIHOOD, 0, continuation_length=9)
    strict = Agreement(Numerics(dtype="Float32", strict=True))
    assert strict.holds(request, *pair(0.0))
    assert not strict.holds(request, *pair(1e-12))


def test_embeddings_are_compared_relative_to_their_length():
    request = Request(3, "e", RequestType.EMBED, 0)
    agreement = Agreement(fast("Float32"))
    long, near, far = (Answer(3, vector=(3e4, 4e4 + moved)) for moved in (0.0, 0.1, 10.0))
    assert agreement.holds(request, long, near)
    assert not agreement.holds(request, long, far)
    assert not agreement.holds(request, long, Answer(3, vector=(3e4,)))


def test_texts_rows_and_what_is_missing_must_be_equal():
    request = Request(3, "e", RequestType.GENERATE_UNTIL, 0)
    agreement = Agreement(fast("BFloat16"))
    assert agreement.holds(request, Answer(3, text="a"), Answer(3, text="a"))
    assert not agreement.holds(request, Answer(3, text="a"), Answer(3, text="b"))
    assert not agreement.holds(request, Answer(3, text="a"), Answer(4, text="a"))
    assert not agreement.holds(request, Answer(3, log_probability=-1.0), Answer(3))
