"""Log-likelihoods of the engine against plain transformers forward passes in fp32."""

import random

import pytest
from tiny_models import plain_log_likelihood, public_data, random_model, stories260k

from evalfleet_worker.engine.load import load_engine
from evalfleet_worker.protocol import EngineSpec, ModelSpec, RunSpec
from evalfleet_worker.requests import Request, RequestType

torch = pytest.importorskip("torch")


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    """The random Llama of the parity suite: hidden 64, 2 layers, vocabulary 4,096, initializer 0.1."""
    folder = tmp_path_factory.mktemp("llama")
    model = random_model("LlamaConfig", "LlamaForCausalLM", vocab_size=4096, num_hidden_layers=2)
    model.save_pretrained(folder)
    return folder, model


def run_of(folder, **engine):
    return RunSpec("local", "test", "run", "memory://", ModelSpec(str(folder)), (), EngineSpec(**engine))


def requests_of(sequences):
    """Requests for (token ids, scored count) pairs."""
    return [
        Request(row, "e", RequestType.LOGLIKELIHOOD, row, token_ids=ids, continuation_length=count)
        for row, (ids, count) in enumerate(sequences)
    ]


def mixed_sequences(count, vocabulary=4096, seed=1):
    """Sequences of which many share a prefix, some are equal, and some stand alone."""
    draw = random.Random(seed)
    context = [draw.randrange(vocabulary) for _ in range(60)]
    sequences = []
    for _ in range(count):
        own = [draw.randrange(vocabulary) for _ in range(draw.randrange(1, 30))]
        ids = context[: draw.randrange(60)] + own if draw.random() < 0.7 else [*own, 5]
        if len(ids) > 1:
            sequences.append((ids, draw.randrange(1, len(ids))))
    return sequences + sequences[:3]


def test_log_likelihoods_and_greedy_flags_equal_a_plain_forward_pass(llama, tmp_path):
    folder, model = llama
    sequences = mixed_sequences(60)
    greedy = torch.tensor([[7, 8, 9]])
    for _ in range(3):
        greedy = torch.cat([greedy, model(greedy).logits[:, -1:].argmax(-1)], 1)
    sequences.append((greedy[0].tolist(), 3))
    answers = load_engine(run_of(folder), tmp_path).score(requests_of(sequences))
    for (ids, count), answer in zip(sequences, answers, strict=True):
        expected, is_greedy = plain_log_likelihood(model, ids, count)
        assert answer.log_probability == pytest.approx(expected, abs=1e-4)
        assert answer.is_greedy == is_greedy
    assert answers[-1].is_greedy


def test_the_last_tokens_are_kept_when_a_request_exceeds_the_context(llama, tmp_path):
    folder, model = llama
    ids = mixed_sequences(1)[0][0] * 50
    answer = load_engine(run_of(folder), tmp_path).score(requests_of([(ids, 4)]))[0]
    assert answer.log_probability == pytest.approx(plain_log_likelihood(model, ids[-257:], 4)[0], abs=1e-4)


@pytest.mark.parametrize("tokens", [64, 200, 1000])
def test_answers_do_not_depend_on_the_step_size_or_the_order(llama, tmp_path, tokens):
    folder, _ = llama
    requests = requests_of(mixed_sequences(50))
    reference = load_engine(run_of(folder), tmp_path).score(requests)
    shuffled = random.Random(tokens).sample(requests, len(requests))
    answers = load_engine(run_of(folder, max_tokens_per_step=tokens), tmp_path).score(shuffled)
    by_row = {answer.row: answer for answer in answers}
    assert all(abs(one.log_probability - by_row[one.row].log_probability) <= 1e-4 for one in reference)
    assert all(one.is_greedy == by_row[one.row].is_greedy for one in reference)


def test_the_same_set_of_requests_gives_the_same_bits_in_any_order(llama, tmp_path):
    folder, _ = llama
    requests = requests_of(mixed_sequences(50))
    engine = load_engine(run_of(folder, numerics="Strict"), tmp_path)
    first = engine.score(requests)
    second = {answer.row: answer for answer in engine.score(requests[::-1])}
    torch.use_deterministic_algorithms(mode=False)
    assert all(one == second[one.row] for one in first)


def test_changing_one_branch_leaves_the_bits_of_the_others(llama, tmp_path):
    folder, _ = llama
    context = list(range(100, 140))
    sequences = [([*context, 200 + branch, 7, 9, 11], 4) for branch in range(0, 40, 2)]
    engine = load_engine(run_of(folder), tmp_path)
    before = engine.score(requests_of(sequences))
    changed = list(sequences)
    changed[3] = ([*context, 207, 8, 10, 12], 4)
    after = engine.score(requests_of(changed))
    assert before[3].log_probability != after[3].log_probability
    assert [a for a in before if a.row != 3] == [a for a in after if a.row != 3]


def test_rolling_windows_sum_to_the_log_likelihood_of_the_text(llama, tmp_path):
    folder, model = llama
    text = mixed_sequences(1, seed=9)[0][0] * 40
    windows = [([2, *text[:256]], 256), (text[: 256 + 100][-257:], 100)]
    requests = [
        Request(part, "e", RequestType.LOGLIKELIHOOD_ROLLING, 0, part=part, token_ids=ids, continuation_length=count)
        for part, (ids, count) in enumerate(windows)
    ]
    total = sum(answer.log_probability for answer in load_engine(run_of(folder), tmp_path).score(requests))
    expected = sum(plain_log_likelihood(model, ids, count)[0] for ids, count in windows)
    assert total == pytest.approx(expected, rel=1e-6)


def test_stories260k_scores_its_greedy_text_as_the_independent_script_did(tmp_path):
    import json

    golden = json.loads(public_data("golden", "stories260K_greedy199.json").read_text())
    ids = golden["prompt_ids"] + golden["greedy_ids"]
    engine = load_engine(run_of(stories260k(tmp_path / "model")), tmp_path)
    answer = engine.score(requests_of([(ids, len(golden["greedy_ids"]))]))[0]
    assert answer.log_probability == pytest.approx(golden["sum_logprob"], abs=1e-3)
    assert answer.is_greedy
