"""Generation against transformers' own, one prompt at a time, and lm-eval's rules for stopping."""

import json
import random

import pytest
from tiny_models import WORDS, generation_requests, public_data, random_model, stories260k, write_tokenizer

torch = pytest.importorskip("torch")

from transformers import GenerationConfig  # noqa: E402

from evalfleet_worker.engine.arguments import cut_at_stop, read_arguments  # noqa: E402
from evalfleet_worker.engine.generate import Generator  # noqa: E402
from evalfleet_worker.engine.load import load_engine  # noqa: E402
from evalfleet_worker.model.resolve import resolve_model  # noqa: E402
from evalfleet_worker.protocol import FailureReason, ModelSpec, RunError, RunSpec  # noqa: E402


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    model = random_model("LlamaConfig", "LlamaForCausalLM")
    model.save_pretrained(folder)
    write_tokenizer(folder)
    return folder, model


@pytest.fixture(scope="module")
def generator(place, tmp_path_factory):
    folder, model = place
    return Generator(model, resolve_model(ModelSpec(str(folder)), tmp_path_factory.mktemp("cache")))


def prompts(count):
    draw = random.Random(3)
    return [[draw.randrange(3, 512) for _ in range(draw.randrange(1, 40))] for _ in range(count)]


def greedy_tokens(model, ids, count):
    """Arg-max by one full forward pass per token: no cache, no padding."""
    tokens = list(ids)
    for _ in range(count):
        with torch.inference_mode():
            tokens.append(int(model(torch.tensor([tokens])).logits[0, -1].argmax()))
        if tokens[-1] == 2:
            break
    return tokens[len(ids) :]


def test_greedy_texts_are_those_of_single_prompts_without_cache(place, generator):
    asked = prompts(20)
    answers = generator.generate(generation_requests(asked, max_gen_toks=12, until=[]))
    for ids, answer in zip(asked, answers, strict=True):
        expected = [WORDS[token] for token in greedy_tokens(place[1], ids, 12) if token > 2]
        assert answer.text == " ".join(expected)


def test_a_text_ends_before_the_stop_string(place, generator):
    ids = prompts(1)[0]
    words = [WORDS[token] for token in greedy_tokens(place[1], ids, 12)]
    answer = generator.generate(generation_requests([ids], max_gen_toks=12, until=[words[5]]))[0]
    assert answer.text == " ".join(words[: words.index(words[5])]) + (" " if words.index(words[5]) else "")


def test_a_neighbour_that_runs_longer_does_not_change_a_text(place, generator):
    asked = prompts(12)
    stop = WORDS[greedy_tokens(place[1], asked[0], 3)[-1]]
    together = generator.generate(generation_requests(asked, max_gen_toks=12, until=[stop]))
    alone = [generator.generate(generation_requests([ids], max_gen_toks=12, until=[stop]))[0].text for ids in asked]
    assert [answer.text for answer in together] == alone


def test_sampled_texts_depend_on_their_seed_alone(generator):
    ids = prompts(1)[0]
    options = {"max_gen_toks": 10, "do_sample": True, "temperature": 1.0}
    first = generator.generate(generation_requests([ids] * 4, seeds=[1, 2, 3, 1], **options))
    again = generator.generate(generation_requests([ids, *prompts(6)], seeds=[2, 5, 6, 7, 8, 9, 10], **options))
    assert first[0].text == first[3].text
    assert len({answer.text for answer in first}) == 3
    assert again[0].text == first[1].text


def test_sampling_follows_the_model_s_distribution(place, generator):
    ids = [5, 6, 7]
    count = 400
    options = {"max_gen_toks": 1, "do_sample": True, "temperature": 0.7, "top_k": 4}
    answers = generator.generate(generation_requests([ids] * count, seeds=list(range(count)), **options))
    with torch.inference_mode():
        top = (place[1](torch.tensor([ids])).logits[0, -1] / 0.7).topk(4)
    likely = {WORDS[token]: p for token, p in zip(top.indices.tolist(), top.values.softmax(0).tolist(), strict=True)}
    drawn = [answer.text for answer in answers]
    assert set(drawn) <= set(likely)
    # Five standard deviations of a binomial proportion.
    for word, p in likely.items():
        assert drawn.count(word) / count == pytest.approx(p, abs=5 * (p * (1 - p) / count) ** 0.5)


@pytest.mark.parametrize(
    "recommended",
    [
        {"max_new_tokens": 3},
        {"max_length": 5},
        {"min_new_tokens": 30},
        {"num_beams": 3},
        {"repetition_penalty": 5.0},
        {"stop_strings": ["w"]},
        {"do_sample": True, "temperature": 9.0, "top_k": 400},
        {"suppress_tokens": list(range(3, 500))},
    ],
    ids=lambda recommended: next(iter(recommended)),
)
def test_what_a_checkpoint_recommends_does_not_change_what_was_asked(place, tmp_path, recommended):
    folder, model = place
    before, ids = model.generation_config, prompts(1)[0]
    model.generation_config = GenerationConfig(eos_token_id=2, pad_token_id=0, **recommended)
    try:
        generator = Generator(model, resolve_model(ModelSpec(str(folder)), tmp_path))
        answer = generator.generate(generation_requests([ids], max_gen_toks=12, until=[]))[0]
    finally:
        model.generation_config = before
    assert answer.text == " ".join(WORDS[token] for token in greedy_tokens(model, ids, 12) if token > 2)


def test_every_end_of_text_token_of_the_checkpoint_ends_a_text(place, tmp_path):
    folder, model = place
    before, ids = model.generation_config, prompts(1)[0]
    tokens = greedy_tokens(model, ids, 12)
    model.generation_config = GenerationConfig(eos_token_id=[2, tokens[4]], pad_token_id=0)
    try:
        generator = Generator(model, resolve_model(ModelSpec(str(folder)), tmp_path))
        answer = generator.generate(generation_requests([ids], max_gen_toks=12, until=[]))[0]
    finally:
        model.generation_config = before
    assert answer.text == " ".join(WORDS[token] for token in tokens[: tokens.index(tokens[4]) + 1])


@pytest.mark.parametrize("by_id", [True, False])
def test_the_answer_is_what_comes_after_the_reasoning(place, generator, by_id):
    ids = prompts(1)[0]
    tokens = greedy_tokens(place[1], ids, 12)
    last = max(index for index, token in enumerate(tokens[:8]) if token == tokens[4])
    end = tokens[4] if by_id else WORDS[tokens[4]] + " "
    answer = generator.generate(generation_requests([ids], max_gen_toks=8, until=[], think_end_token=end))[0]
    assert answer.text == " ".join(WORDS[token] for token in tokens[last + 1 : 8] if token > 2)


def test_a_text_without_end_of_reasoning_is_kept_and_stops_apply_to_the_answer(place, generator):
    ids = prompts(1)[0]
    words = [WORDS[token] for token in greedy_tokens(place[1], ids, 8)]
    whole = generator.generate(generation_requests([ids], max_gen_toks=8, until=[], think_end_token="</think>"))[0]
    assert whole.text == " ".join(words)
    written = {"think_end_token": "</think>", "until": ["."], "max_gen_toks": 8, "do_sample": False}
    thinking = read_arguments(json.dumps(written))
    assert thinking.text("one. two</think> three. four") == "three"


def test_beams_give_the_text_of_transformers_own_beam_search(place, generator):
    asked = prompts(3)
    answers = generator.generate(generation_requests(asked, max_gen_toks=8, until=[], num_beams=3, do_sample=False))
    for ids, answer in zip(asked, answers, strict=True):
        with torch.inference_mode():
            output = place[1].generate(torch.tensor([ids]), max_new_tokens=8, num_beams=3, pad_token_id=0)
        assert answer.text == " ".join(WORDS[token] for token in output[0, len(ids) :].tolist() if token > 2)


def test_a_long_prompt_keeps_its_last_tokens_and_room_for_the_answer(place, generator):
    ids = [token % 500 + 3 for token in range(1000)]
    answer = generator.generate(generation_requests([ids], max_gen_toks=6, until=[]))[0]
    assert answer.text == " ".join(WORDS[token] for token in greedy_tokens(place[1], ids[-250:], 6) if token > 2)


def test_an_answer_longer_than_the_context_is_refused(generator):
    with pytest.raises(RunError) as refused:
        generator.generate(generation_requests([[5]], max_gen_toks=256))
    assert refused.value.reason is FailureReason.INVALID_TASK


def test_arguments_are_those_of_the_plan():
    written = {"until": ["a"], "max_gen_toks": 7, "do_sample": True, "temperature": 0.5, "num_beams": 1}
    written |= {"eos_token_id": [2]}
    generation = read_arguments(json.dumps(written))
    assert (generation.until, generation.max_new_tokens, generation.do_sample) == (("a",), 7, True)
    assert generation.options == {"temperature": 0.5}
    assert generation.others == {"num_beams": 1, "eos_token_id": [2]}
    assert read_arguments(json.dumps(written | {"do_sample": False, "temperature": 0.0})).options == {}


def test_every_stop_string_cuts():
    assert cut_at_stop("one. two\nthree", ["\n", ""]) == "one. two"
    assert cut_at_stop("one. two\nthree", ["\n", "."]) == "one"


def test_stories260k_writes_the_text_of_the_independent_script(tmp_path):
    golden = json.loads(public_data("golden", "stories260K_greedy199.json").read_text())
    folder = stories260k(tmp_path / "model")
    write_tokenizer(folder, ["<pad>", "<s>", "</s>", *(f"t{index}" for index in range(3, 512))])
    run = RunSpec("local", "t", "r", "memory://", ModelSpec(str(folder)), ())
    count = len(golden["greedy_ids"])
    request = generation_requests([golden["prompt_ids"]], max_gen_toks=count, until=[])[0]
    answer = load_engine(run, tmp_path).score([request])[0]
    assert answer.text == " ".join(f"t{token}" for token in golden["greedy_ids"])
