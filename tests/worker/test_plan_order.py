"""Keys, seeds, order and units of a plan."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalfleet_worker.harness.sampling import is_sampled
from evalfleet_worker.plan.identities import read_identities, write_identities
from evalfleet_worker.plan.keys import KeySpace
from evalfleet_worker.plan.order import common_prefix, order_requests, shared_prefixes
from evalfleet_worker.plan.units import cut_units
from evalfleet_worker.requests import Request, RequestType

KEYS = KeySpace("Fast", "digest")
SAMPLED = '{"do_sample":true,"max_gen_toks":4,"until":[]}'
GREEDY = '{"do_sample":false,"max_gen_toks":4,"until":[]}'


def scored(index, ids, evaluation="e", length=1):
    return Request(-1, evaluation, RequestType.LOGLIKELIHOOD, index, 0, tuple(ids), length)


def generated(index, arguments):
    return Request(-1, "e", RequestType.GENERATE_UNTIL, index, 0, (1, 2, 3), 0, arguments)


def ordered(requests, seed=0):
    return order_requests(requests, KEYS, seed, is_sampled)


token_lists = st.lists(st.lists(st.integers(0, 70_000), min_size=2, max_size=6), min_size=1, max_size=40)


@given(token_lists)
def test_rows_are_the_depth_first_order_of_the_token_trie(lists):
    plan = ordered([scored(index, ids) for index, ids in enumerate(lists)])
    assert [list(row.token_ids) for row in plan.rows] == sorted(map(list, {tuple(ids) for ids in lists}))
    assert [row.row for row in plan.rows] == list(range(len(plan.rows)))


@given(token_lists)
def test_every_planned_request_is_answered_by_a_row_with_its_tokens(lists):
    plan = ordered([scored(index, ids) for index, ids in enumerate(lists)])
    for request, row in zip(plan.planned, plan.row_of, strict=True):
        assert plan.rows[row].token_ids == request.token_ids


@given(token_lists)
def test_depth_first_order_shares_as_many_tokens_as_any_order_could(lists):
    distinct = sorted({tuple(ids) for ids in lists})
    plan = ordered([scored(index, ids) for index, ids in enumerate(lists)])
    nodes = {ids[:depth] for ids in distinct for depth in range(1, len(ids) + 1)}
    assert sum(len(ids) for ids in distinct) - sum(shared_prefixes(plan.rows)) == len(nodes)


def test_the_same_scored_tokens_with_another_continuation_are_another_request():
    assert len(ordered([scored(0, [1, 2, 3], length=1), scored(1, [1, 2, 3], length=2)]).rows) == 2


def test_equal_requests_of_two_evaluations_are_executed_once_and_answer_both():
    plan = ordered([scored(0, [1, 2]), scored(0, [1, 2], "other")])
    assert (len(plan.rows), plan.row_of) == (1, [0, 0])


def test_greedy_repeats_are_executed_once_and_sampled_repeats_each_with_a_seed_of_their_own():
    assert len(ordered([generated(index, GREEDY) for index in range(4)]).rows) == 1
    plan = ordered([generated(index, SAMPLED) for index in range(4)])
    assert len({row.seed for row in plan.rows}) == 4
    assert all(row.key == b"" for row in plan.rows)


def test_seeds_follow_from_the_runs_seed_and_the_identity_alone():
    first, again, other = (ordered([generated(0, SAMPLED)], seed).rows[0].seed for seed in (1, 1, 2))
    assert first == again != other
    assert 0 <= first < 2**63


@pytest.mark.parametrize(
    "other",
    [KeySpace("Strict", "digest"), KeySpace("Fast", "another model")],
    ids=["numerics", "model"],
)
def test_the_key_of_a_request_depends_on(other):
    request = scored(0, [1, 2])
    assert order_requests([request], KEYS, 0, is_sampled).rows[0].key != (
        order_requests([request], other, 0, is_sampled).rows[0].key
    )


def test_evaluations_stay_together_so_that_a_failed_unit_harms_one():
    plan = ordered([scored(index, [index % 7, index], "ab"[index % 2]) for index in range(40)])
    units = cut_units(plan.rows, [1.0] * 40, 6.0)
    assert all(len({row.evaluation for row in members}) == 1 for _, members in units)


@given(st.integers(1, 200), st.floats(0.5, 50), st.integers(0, 10))
def test_units_cover_all_rows_once_in_order(count, wanted, seed):
    draw = random.Random(seed)
    rows = ordered([scored(index, [index, 1]) for index in range(count)]).rows
    units = cut_units(rows, [draw.uniform(0, 2) for _ in rows], wanted)
    assert [row.row for _, members in units for row in members] == list(range(count))
    assert [unit.index for unit, _ in units] == list(range(len(units)))
    assert all(unit.first_row == members[0].row and unit.row_count == len(members) for unit, members in units)


def test_units_are_worth_about_the_wanted_seconds():
    rows = ordered([scored(index, [index, 1]) for index in range(1000)]).rows
    units = cut_units(rows, [0.1] * 1000, 5.0)
    assert len(units) == 20
    assert all(4.5 <= unit.predicted_seconds <= 5.5 for unit, _ in units)


def test_identities_survive_their_file():
    plan = ordered([scored(0, [5, 1]), scored(1, [3, 1]), scored(2, [5, 1])])
    found = read_identities(write_identities(plan))
    kind = RequestType.LOGLIKELIHOOD
    assert found.rows["e"] == {(kind, 0): [1], (kind, 1): [0], (kind, 2): [1]}
    assert found.rows_of("e") == {0, 1}


def test_the_common_prefix_ends_at_the_shorter_list():
    assert common_prefix([1, 2], [1, 2, 3]) == 2
    assert common_prefix([], [1]) == 0
