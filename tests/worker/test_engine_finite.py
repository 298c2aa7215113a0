"""What is no number is no answer: NaN in one weight, overflow in half precision, NaN from a user's own code."""

from dataclasses import replace

import pytest
from tiny_models import random_model, write_tokenizer

torch = pytest.importorskip("torch")

from evalfleet_worker.engine.load import load_engine  # noqa: E402
from evalfleet_worker.protocol import FailureReason, ModelSpec, RunError, RunSpec  # noqa: E402
from evalfleet_worker.requests import Request, RequestType  # noqa: E402


@pytest.fixture(scope="module")
def poisoned(tmp_path_factory):
    """One weight of one layer is NaN."""
    folder = tmp_path_factory.mktemp("poisoned")
    model = random_model("LlamaConfig", "LlamaForCausalLM")
    model.model.layers[1].mlp.down_proj.weight[0, 0] = float("nan")
    model.save_pretrained(folder)
    write_tokenizer(folder)
    return folder


@pytest.fixture(scope="module")
def loud(tmp_path_factory):
    """Activations of more than 65,504: numbers in fp32, infinite in fp16."""
    folder = tmp_path_factory.mktemp("loud")
    model = random_model("LlamaConfig", "LlamaForCausalLM")
    for layer in model.model.layers:
        layer.mlp.up_proj.weight.mul_(3e4)
    model.save_pretrained(folder)
    write_tokenizer(folder)
    return folder


def engine_of(folder, cache, dtype="Auto"):
    return load_engine(RunSpec("local", "t", "r", "memory://", ModelSpec(str(folder), dtype=dtype), ()), cache)


LOG_LIKELIHOOD = [
    Request(row, "capitals", RequestType.LOGLIKELIHOOD, row, token_ids=(5, 6, 7, row), continuation_length=2)
    for row in range(40, 44)
]
FOUR_TOKENS = '{"until": [], "max_gen_toks": 4, "do_sample": false}'
GENERATION = [
    replace(request, type=RequestType.GENERATE_UNTIL, continuation_length=0, arguments=FOUR_TOKENS)
    for request in LOG_LIKELIHOOD
]
BOTH = pytest.mark.parametrize("requests", [LOG_LIKELIHOOD, GENERATION], ids=["scored", "generated"])


@BOTH
def test_a_nan_weight_gives_no_answer(poisoned, tmp_path, requests):
    with pytest.raises(RunError) as refused:
        engine_of(poisoned, tmp_path).score(requests)
    assert refused.value.reason is FailureReason.NOT_FINITE
    assert "capitals" in refused.value.message
    assert "row 40" in refused.value.message
    assert "Float32" in refused.value.message


@BOTH
def test_an_overflow_in_half_precision_is_refused_and_a_wider_type_is_named(loud, tmp_path, requests):
    with pytest.raises(RunError) as refused:
        engine_of(loud, tmp_path, "Float16").score(requests)
    assert refused.value.reason is FailureReason.NOT_FINITE
    assert "Float16" in refused.value.message
    assert "set model.dtype BFloat16 or Float32" in refused.value.message


@BOTH
def test_the_same_model_answers_where_its_numbers_fit(loud, tmp_path, requests):
    answers = engine_of(loud, tmp_path, "Float32").score(requests)
    assert [answer.row for answer in answers] == [40, 41, 42, 43]


def test_an_embedding_that_is_no_number_is_refused(tmp_path):
    folder = tmp_path / "encoder"
    model = random_model("BertConfig", "BertModel")
    model.encoder.layer[0].output.dense.weight[3, 3] = float("inf")
    model.save_pretrained(folder)
    write_tokenizer(folder)
    request = Request(7, "similar", RequestType.EMBED, 0, token_ids=(1, 5, 6, 2), arguments='{"pooling": "Mean"}')
    with pytest.raises(RunError) as refused:
        engine_of(folder, tmp_path).score([request])
    assert refused.value.reason is FailureReason.NOT_FINITE
    assert "similar" in refused.value.message


def test_the_row_that_overflows_is_named_and_not_the_neighbours_that_it_spoils(tmp_path):
    folder = tmp_path / "one"
    model = random_model("LlamaConfig", "LlamaForCausalLM")
    model.model.embed_tokens.weight[99] *= 1e6
    model.save_pretrained(folder)
    last = replace(LOG_LIKELIHOOD[0], row=49, call_index=49, token_ids=(5, 6, 99, 7))
    requests = [*LOG_LIKELIHOOD, *(replace(one, row=one.row + 4) for one in LOG_LIKELIHOOD[1:]), last]
    with pytest.raises(RunError) as refused:
        engine_of(folder, tmp_path, "Float16").score(requests)
    assert refused.value.reason is FailureReason.NOT_FINITE
    assert "row 49" in refused.value.message
