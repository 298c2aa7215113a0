"""Packing: every token of a sequence sees exactly its own prefix, whatever is packed beside it."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from evalfleet_worker.engine.pack import Budget, Scored, attention_blocks, pack

tokens = st.lists(st.integers(0, 2), min_size=1, max_size=12).map(tuple)
sequences = st.lists(
    st.builds(lambda t, c: Scored(t, tuple(range(min(c, len(t))))), tokens, st.integers(1, 5)),
    min_size=1,
    max_size=25,
)


def visible(step, block_size):
    """For each packed token the set of packed tokens it attends to, as the attention blocks give it."""
    seen = {}
    for block in attention_blocks(step.positions, step.ends, block_size):
        keys = [*block.ancestors.tolist(), *range(block.begin, block.end)]
        for query in range(block.begin, block.end):
            seen[query] = {key for key in keys if key <= query < step.ends[key]}
    return seen


@settings(max_examples=150, deadline=None)
@given(sequences, st.integers(8, 40), st.integers(1, 9))
def test_attention_sees_the_own_prefix_and_nothing_else(asked, budget, block_size):
    for step in pack(asked, Budget(budget, budget)):
        seen = visible(step, block_size)
        for number, member in enumerate(step.members):
            scored = step.scored_rows[step.offsets[number] : step.offsets[number + 1]]
            rows = step.rows[scored]
            for back, row in enumerate(rows[::-1].tolist()):
                prefix = asked[member].tokens[: len(asked[member].tokens) - back]
                path = sorted(seen[row])
                assert tuple(step.ids[path].tolist()) == prefix
                assert step.positions[path].tolist() == list(range(len(prefix)))


@settings(max_examples=100, deadline=None)
@given(sequences, st.integers(8, 40))
def test_every_sequence_is_scored_once_within_the_budget(asked, budget):
    steps = list(pack(asked, Budget(budget, budget)))
    assert sorted(member for step in steps for member in step.members) == list(range(len(asked)))
    for step in steps:
        assert len(step.members) == 1 or len(step.ids) <= budget
        for number, member in enumerate(step.members):
            bounds = slice(step.offsets[number], step.offsets[number + 1])
            assert tuple(step.targets[bounds].tolist()) == asked[member].targets


@settings(max_examples=100, deadline=None)
@given(sequences, st.randoms())
def test_steps_do_not_depend_on_the_order_of_requests(asked, draw):
    shuffled = draw.sample(asked, len(asked))
    for one, other in zip(pack(asked, Budget(20, 20)), pack(shuffled, Budget(20, 20)), strict=True):
        assert np.array_equal(one.ids, other.ids)
        assert np.array_equal(one.ends, other.ends)


def test_a_shared_context_is_packed_once():
    context = tuple(range(100))
    steps = list(pack([Scored((*context, 200 + i), (1,)) for i in range(10)], Budget(1000, 1000)))
    assert len(steps) == 1
    assert len(steps[0].ids) == 110


def test_one_token_choices_share_their_row():
    steps = list(pack([Scored((1, 2, 3), (choice,)) for choice in range(4)], Budget(100, 100)))
    assert len(steps[0].ids) == 3
    assert len(steps[0].rows) == 1
