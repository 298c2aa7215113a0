"""The size that a plan reports is the sum of what its units cost, each for itself."""

import json
from dataclasses import replace

import pytest

from evalfleet_worker.engine.estimate import unit_work
from evalfleet_worker.model.facts import ModelFacts
from evalfleet_worker.plan.size import CALL_SECONDS, plan_size, size_as_cut
from evalfleet_worker.plan.units import cut_units
from evalfleet_worker.requests import Request, RequestType

FACTS = ModelFacts(
    kind="causal-lm",
    model_type="llama",
    parameters=20_000_000,
    embedding_parameters=4_000_000,
    layers=8,
    hidden=256,
    intermediate=640,
    heads=4,
    kv_heads=2,
    head_size=64,
    vocabulary=16_000,
    context_length=2048,
    weight_bytes=80_000_000,
    tied_embeddings=True,
    needs_remote_code=False,
)


def few_shot_row(row):
    return Request(
        row, "e", RequestType.LOGLIKELIHOOD, row, token_ids=[*range(500), 600 + row, 7], continuation_length=1
    )


def test_a_prefix_shared_across_a_cut_is_computed_on_both_sides():
    rows = [few_shot_row(row) for row in range(40)]
    together = plan_size(rows, FACTS)
    units = cut_units(rows, together.seconds, sum(together.seconds) / 4)
    assert len(units) > 2
    as_cut = size_as_cut(together, rows, [unit for unit, _ in units], FACTS)
    by_units = sum(unit_work(FACTS, members).flops for _, members in units)
    assert sum(as_cut.flops) == pytest.approx(by_units)
    assert sum(as_cut.flops) > 2 * sum(together.flops)
    assert sum(as_cut.seconds) == pytest.approx(by_units / 3e10, rel=1e-3)


def test_weights_read_for_generated_tokens_are_reported():
    arguments = json.dumps({"max_gen_toks": 64})
    row = Request(0, "e", RequestType.GENERATE_UNTIL, 0, token_ids=[1, 2], arguments=arguments)
    reads_per_token = 1 / 8
    assert plan_size([row], FACTS).bytes_read == [0.5 * 64 * reads_per_token * FACTS.parameters * 4]
    assert plan_size([few_shot_row(0)], FACTS).bytes_read == [0.0]


def test_checkpoints_of_one_architecture_share_their_shape():
    assert FACTS.shape == replace(FACTS, weight_bytes=40_000_000).shape == "llama-8x256-20000000"
    assert FACTS.shape != replace(FACTS, parameters=30_000_000).shape


def test_user_code_has_seconds_but_no_arithmetic():
    rows = [Request(row, "e", RequestType.CALL, row, token_ids=[]) for row in range(3)]
    units = [unit for unit, _ in cut_units(rows, [CALL_SECONDS] * 3, 1.0)]
    for facts in (None, FACTS):
        size = size_as_cut(plan_size(rows, facts), rows, units, facts)
        assert size.seconds == [CALL_SECONDS] * 3
        assert sum(size.flops) == 0.0
