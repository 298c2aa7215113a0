"""Log-likelihoods of the engine against a plain transformers forward pass in fp32."""

from pathlib import Path

import pytest

from evalfleet_worker.engine.load import load_engine
from evalfleet_worker.protocol import FailureReason, ModelSpec, RunError, RunSpec
from evalfleet_worker.requests import Request, RequestType

torch = pytest.importorskip("torch")


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=4096, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=256, initializer_range=0.1,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("llama")
    model = LlamaForCausalLM(config).eval()
    model.save_pretrained(folder)
    return folder, model


def plain(model, ids, continuation):
    with torch.inference_mode():
        rows = model(torch.tensor([ids[:-1]])).logits[0, -continuation:].double().log_softmax(-1)
    targets = torch.tensor(ids[-continuation:])
    return float(rows.gather(1, targets[:, None]).sum()), bool((rows.argmax(-1) == targets).all())


def run_of(folder):
    return RunSpec("local", "test", "run", "memory://", ModelSpec(str(folder)), ())


def test_log_likelihoods_equal_a_plain_forward_pass(llama, tmp_path):
    folder, model = llama
    generator = torch.Generator().manual_seed(1)
    requests = []
    for row in range(40):
        length = int(torch.randint(2, 60, (), generator=generator))
        ids = torch.randint(0, 4096, (length,), generator=generator).tolist()
        requests.append(
            Request(row, "e", RequestType.LOGLIKELIHOOD, row, token_ids=ids, continuation_length=1 + row % (length - 1))
        )
    answers = load_engine(run_of(folder), tmp_path).score(requests)
    for request, answer in zip(requests, answers, strict=True):
        expected, greedy = plain(model, list(request.token_ids), request.continuation_length)
        assert answer.row == request.row
        assert answer.log_probability == pytest.approx(expected, abs=1e-4)
        assert answer.is_greedy == greedy


def test_a_wrong_path_is_refused_in_words(tmp_path):
    engine = load_engine(run_of(Path("/no/such/model")), tmp_path)
    with pytest.raises(RunError) as refused:
        engine.score([Request(0, "e", RequestType.LOGLIKELIHOOD, 0, token_ids=[1, 2], continuation_length=1)])
    assert refused.value.reason is FailureReason.INVALID_MODEL_REF
    assert "/no/such/model" in refused.value.message
