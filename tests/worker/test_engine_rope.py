"""Rotary frequencies that depend on the call: every sequence is scored as a plain call of it alone would."""

import random

import pytest
from tiny_models import WORDS, generation_requests, plain_log_likelihood, random_model, write_tokenizer

torch = pytest.importorskip("torch")

from evalfleet_worker.engine.device import Placement  # noqa: E402
from evalfleet_worker.engine.encoder import Encoder  # noqa: E402
from evalfleet_worker.engine.forward import PackedForward, PaddedForward  # noqa: E402
from evalfleet_worker.engine.generate import Generator  # noqa: E402
from evalfleet_worker.engine.pack import Budget, Scored  # noqa: E402
from evalfleet_worker.engine.probe import choose_forward  # noqa: E402
from evalfleet_worker.engine.rope import CallRope, call_rope  # noqa: E402
from evalfleet_worker.model.resolve import resolve_model  # noqa: E402
from evalfleet_worker.protocol import ModelSpec, Numerics  # noqa: E402
from evalfleet_worker.requests import Request, RequestType  # noqa: E402

THRESHOLD = 24
LONG = {
    "rope_type": "longrope", "short_factor": [1.0] * 8, "long_factor": [1.0 + 3 * i for i in range(8)],
    "original_max_position_embeddings": THRESHOLD, "rope_theta": 10000.0,
}  # fmt: skip
DYNAMIC = {"rope_type": "dynamic", "factor": 4.0, "rope_theta": 10000.0}
MODELS = {
    "longrope": ("Phi3Config", "Phi3ForCausalLM", {
        "rope_parameters": LONG, "original_max_position_embeddings": THRESHOLD, "max_position_embeddings": 256,
    }),
    "dynamic NTK": ("LlamaConfig", "LlamaForCausalLM", {
        "rope_parameters": DYNAMIC, "max_position_embeddings": THRESHOLD,
    }),
}  # fmt: skip
STATIC = {
    "linear": {"rope_type": "linear", "factor": 4.0, "rope_theta": 10000.0},
    "yarn": {
        "rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64, "rope_theta": 10000.0,
    },
    "llama3": {
        "rope_type": "llama3", "factor": 8.0, "original_max_position_embeddings": 64, "low_freq_factor": 1.0,
        "high_freq_factor": 4.0, "rope_theta": 10000.0,
    },
}  # fmt: skip


def build(name):
    config, model, options = MODELS[name]
    return random_model(config, model, **options)


def sequences():
    """Branches of one context whose lengths lie around the threshold, some far beyond it, in no order."""
    draw = random.Random(0)
    context = [draw.randrange(512) for _ in range(20)]
    lengths = [21, 22, 23, 24, 24, 25, 25, 26, 30, 30, 41, 60, 12, 5]
    made = [[*context, *(draw.randrange(512) for _ in range(60))][:length] for length in lengths]
    draw.shuffle(made)
    return [Scored(tuple(tokens), (*tokens[-3:], draw.randrange(512))) for tokens in made]


def plain(name, sequence):
    """One plain call by a model that never saw another."""
    tokens = (*sequence.tokens, sequence.targets[-1])
    return plain_log_likelihood(build(name), tokens, len(sequence.targets))


def scored_by(forward, asked):
    return {
        asked[member]: score
        for step in forward.cut(asked, Budget(200, 200))
        for member, score in zip(step.members, forward.run(step), strict=True)
    }


@pytest.mark.parametrize("name", MODELS)
def test_neighbours_around_the_threshold_do_not_change_a_score(name):
    model, asked = build(name), sequences()
    packed, words = choose_forward(model)
    assert isinstance(packed, PackedForward), words
    expected = {sequence: plain(name, sequence) for sequence in asked}
    for forward in (packed, PaddedForward(model, call_rope(model)), packed):
        scores = scored_by(forward, asked)
        for sequence, (total, greedy) in expected.items():
            assert scores[sequence].log_probability == pytest.approx(total, abs=1e-4)
            assert scores[sequence].is_greedy == greedy


@pytest.mark.parametrize("name", MODELS)
def test_the_situation_is_real_sides_that_are_mixed_move_scores(name):
    model, asked = build(name), sequences()
    blind = scored_by(PackedForward(model, True, CallRope()), asked)
    assert max(abs(blind[one].log_probability - plain(name, one)[0]) for one in asked) > 1e-2


@pytest.mark.parametrize("name", MODELS)
def test_texts_that_cross_the_threshold_equal_those_of_prompts_alone(name, tmp_path):
    model = build(name)
    model.config.max_position_embeddings = 256  # the context of the requests; the frequencies know their own
    model.save_pretrained(tmp_path)
    write_tokenizer(tmp_path)
    asked = [one.tokens for one in sequences()[:6]]
    resolved = resolve_model(ModelSpec(str(tmp_path)), tmp_path)
    model = build(name)
    answers = Generator(model, resolved).generate(generation_requests(asked, max_gen_toks=5, until=[]))
    for ids, answer in zip(asked, answers, strict=True):
        with torch.inference_mode():
            output = build(name).generate(torch.tensor([ids]), max_new_tokens=5, do_sample=False, pad_token_id=0)
        assert answer.text == " ".join(WORDS[token] for token in output[0, len(ids) :].tolist() if token > 2)


@pytest.mark.parametrize("name", STATIC)
def test_frequencies_that_do_not_depend_on_the_call_are_packed_in_one_step(name):
    model = random_model("LlamaConfig", "LlamaForCausalLM", rope_parameters=STATIC[name])
    forward, words = choose_forward(model)
    assert isinstance(forward, PackedForward), words
    assert call_rope(model) == CallRope()
    assert len(list(forward.cut(sequences(), Budget(1000, 1000)))) == 1


def test_older_names_of_the_same_thing_are_known():
    early = {"type": "su", "short_factor": [1.0] * 8, "long_factor": [4.0] * 8}

    class Config:
        rope_scaling = early
        original_max_position_embeddings = 32
        max_position_embeddings = 256

        def get_text_config(self):
            return self

    class Model:
        config = Config()

    assert call_rope(Model()).side(32) != call_rope(Model()).side(33)


def test_a_text_that_may_cross_the_threshold_grows_with_its_equals_only():
    rope = CallRope(long_thresholds=(10,))
    assert rope.growing_side(3, 8) == rope.growing_side(5, 10)
    assert rope.growing_side(3, 8) != rope.growing_side(3, 11)
    assert rope.growing_side(3, 11) != rope.growing_side(4, 11)
    assert rope.growing_side(11, 20) == rope.growing_side(12, 20)
    assert CallRope(dynamic_thresholds=(10,)).growing_side(11, 20) != (
        CallRope(dynamic_thresholds=(10,)).growing_side(12, 20)
    )


def test_an_encoder_forgets_the_longer_texts_of_earlier_calls():
    config, _, options = MODELS["dynamic NTK"]
    numerics = Numerics(dtype="Float32", device_kind="cpu")
    placement = Placement(torch.device("cpu"), torch.float32, "cpu", numerics)

    def encoder():
        return Encoder(random_model(config, "LlamaModel", **options), placement, 256, Budget(200, 200))

    long, shorter = (
        Request(row, "e", RequestType.EMBED, row, token_ids=range(5, 5 + n)) for row, n in ((0, 60), (1, 30))
    )
    alone = encoder().score([shorter])[0].vector
    used = encoder()
    used.score([long])
    assert used.score([shorter])[0].vector == alone
