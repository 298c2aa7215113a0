"""Generation arguments as the plan writes them: complete, so that an engine reads nothing else."""

import json

import pytest

from evalfleet_worker.engine.arguments import read_arguments
from evalfleet_worker.harness.lm_eval.generation import ModelDefaults, canonical, normalized
from evalfleet_worker.protocol import FailureReason, RunError


@pytest.mark.parametrize(
    ("arguments", "until", "length", "sampled"),
    [
        ({}, ("</s>",), 256, False),
        ({"until": "\n"}, ("\n", "</s>"), 256, False),
        ({"until": ["a", "</s>"], "max_new_tokens": 7}, ("a", "</s>"), 7, False),
        ({"max_gen_toks": 3, "max_tokens": 9}, ("</s>",), 3, False),
        ({"temperature": 0.8}, ("</s>",), 256, True),
        ({"temperature": 0.8, "do_sample": False}, ("</s>",), 256, False),
        ({"temperature": 0.0}, ("</s>",), 256, False),
    ],
)
def test_arguments_are_read_as_lm_eval_reads_them(arguments, until, length, sampled):
    written = normalized(arguments, ModelDefaults("</s>"))
    assert (tuple(written["until"]), written["max_gen_toks"], written["do_sample"]) == (until, length, sampled)
    assert (written["temperature"] > 0) is sampled


def test_beams_that_are_drawn_are_refused():
    with pytest.raises(RunError) as refused:
        normalized({"num_beams": 2, "do_sample": True, "temperature": 1.0}, ModelDefaults("</s>"))
    assert refused.value.reason is FailureReason.INVALID_TASK


def test_what_the_plan_writes_is_what_the_engine_reads():
    recommended = {"max_new_tokens": 3, "num_beams": 3, "top_p": 0.9, "repetition_penalty": 1.1}
    written = normalized({"until": "x", "max_gen_toks": 12}, ModelDefaults("</s>", (2, 5), recommended))
    generation = read_arguments(canonical(json.loads(json.dumps(written))))
    assert (generation.until, generation.max_new_tokens, generation.beams) == (("x", "</s>"), 12, 3)
    assert generation.options == {}
    assert generation.others == {"num_beams": 3, "repetition_penalty": 1.1, "eos_token_id": [2, 5]}
