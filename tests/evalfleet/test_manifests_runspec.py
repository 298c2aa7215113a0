"""What a job says of its evaluations reaches the worker."""

import pytest
from pydantic import ValidationError

from evalfleet.api.evaluationjob import EvaluationJob
from evalfleet.manifests.runspec import RunPlace, run_spec

PLACE = RunPlace("local", "run-1", "file:///store")
OPTIONS = {
    "task": "piqa",
    "applyChatTemplate": True,
    "fewShotSeed": 7,
    "samples": [3, 0],
    "predictOnly": True,
    "chatTemplateArguments": {"tone": "kind", "tools": False},
    "enableThinking": False,
    "thinkEndToken": "</think>",
}
MODEL = {"uri": "file:///model", "addBosToken": True, "prefixTokenId": 5, "maxLength": 128}


def job(**lm_eval):
    return EvaluationJob.model_validate(
        {
            "metadata": {"name": "job"},
            "spec": {
                "model": MODEL,
                "data": {"uri": "file:///data", "naValues": "Keep"},
                "evaluations": [{"name": "e", "lmEval": lm_eval}],
            },
        }
    )


def test_options_of_lm_eval_reach_the_worker():
    run = run_spec(job(**OPTIONS), PLACE)
    spec = run.evaluations[0].lm_eval
    assert spec is not None
    assert (spec.few_shot_seed, spec.samples, spec.predict_only) == (7, (3, 0), True)
    assert (spec.chat_template_arguments, spec.enable_thinking) == ({"tone": "kind", "tools": False}, False)
    assert spec.think_end_token == "</think>"
    assert spec.few_shot_as_multiturn is None, "unset means: as lm-eval, by the chat template"
    assert (run.model.add_bos_token, run.model.prefix_token_id, run.model.max_length) == (True, 5, 128)
    assert run.na_values == "Keep"


@pytest.mark.parametrize("both", [{"limit": 2, "samples": [0]}, {"fewShotAsMultiturn": True}])
def test_options_that_contradict_each_other_are_refused(both):
    with pytest.raises(ValidationError):
        job(task="piqa", **both)
