"""Generation by lm-eval's conventions (HFLM.generate_until), with answers that do not depend on the batch.

Prompts are padded on the left in batches of similar length; a row stops where HFLM stops with batch size 1. Sampled
tokens are drawn by a generator per request, seeded by the plan.

**The request's `arguments` are complete.** What they do not name has transformers' default; nothing is taken from the
model's generation_config but its token ids (BOS, EOS, padding). A length, a beam count or a penalty that a checkpoint
recommends holds only if the plan wrote it into the arguments.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from transformers import GenerationConfig
from transformers.generation.logits_process import (
    LogitsProcessor,
    LogitsProcessorList,
    MinPLogitsWarper,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)
from transformers.generation.stopping_criteria import StoppingCriteria, StoppingCriteriaList

from evalfleet_worker.engine.batches import Growth, batches
from evalfleet_worker.engine.device import dtype_name
from evalfleet_worker.engine.finite import not_finite
from evalfleet_worker.engine.memory import Batch, Steps, run_steps
from evalfleet_worker.engine.pack import Budget
from evalfleet_worker.engine.rope import call_rope
from evalfleet_worker.model.resolve import ResolvedModel
from evalfleet_worker.protocol import FailureReason, RunError
from evalfleet_worker.requests import Answer, Request

DEFAULT_MAX_NEW_TOKENS = 256
"""lm-eval's `HFLM.max_gen_toks`."""
DEFAULT_TOP_K = 50
"""transformers' default when it samples."""
LENGTH_ALIASES = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")
LOOK_BACK_TOKENS = 2
"""HFLM decodes this many tokens more than a stop string takes, for other tokenizations of the same string."""
ROWS_PER_BATCH = {"cpu": 16, "cuda": 64}
TOKENS_PER_BATCH = {"cpu": 16_384, "cuda": 131_072}


@dataclass(frozen=True, slots=True)
class Generation:
    """Normalised generation arguments (`lm_eval.models.utils.normalize_gen_kwargs`).

    Attributes:
        until: stop strings, the end-of-text string among them.
        max_new_tokens: longest answer in tokens.
        do_sample: draw instead of taking the arg-max.
        options: sampling options (temperature, top_k, top_p, min_p).
        others: further arguments of transformers' `generate`, passed on.
    """

    until: tuple[str, ...]
    max_new_tokens: int
    do_sample: bool
    options: dict[str, float]
    others: dict[str, Any]

    @property
    def beams(self) -> int:
        """Hypotheses that a beam search follows; 1 = none."""
        return int(self.others.get("num_beams") or 1)


class Generator:
    """Generates text with a loaded model, whose generation_config it clears; its tokenizer is read on first use."""

    def __init__(self, model: Any, resolved: ResolvedModel, shrink: bool = True) -> None:
        """Take over a model; `shrink` as in `run_steps`."""
        self._model = model
        model.generation_config = token_ids_only(model.generation_config)
        self._rope = call_rope(model)
        self._shrink = shrink
        self._context_length = resolved.config.context_length
        self._folder = resolved.tokenizer_path
        self._trust_remote_code = resolved.spec.trust_remote_code
        self._tokenizer: Any = None
        self._device = next(model.parameters()).device

    def generate(self, requests: Sequence[Request]) -> list[Answer]:
        """Texts for the requests, grouped by arguments; equal deterministic requests are generated once."""
        texts: dict[tuple[Any, ...], str] = {}
        for arguments in dict.fromkeys(request.arguments for request in requests):
            group = [request for request in requests if request.arguments == arguments]
            texts.update(self._generate_group(group, self._normalise(arguments)))
        return [Answer(request.row, text=texts[_identity(request)]) for request in requests]

    def _generate_group(self, requests: list[Request], generation: Generation) -> dict[tuple[Any, ...], str]:
        room = self._context_length - generation.max_new_tokens
        if room <= 0:
            raise RunError(
                FailureReason.INVALID_TASK,
                f"max_gen_toks {generation.max_new_tokens} leaves no prompt in {self._context_length} tokens",
            )
        distinct = {_identity(request): request for request in requests}
        order = sorted(distinct, key=lambda identity: (-len(identity[0]), identity))
        members = [replace(distinct[identity], token_ids=identity[0][-room:]) for identity in order]
        texts: dict[tuple[Any, ...], str] = {}

        def run(chosen: list[int], _step: Batch) -> None:
            answers = self._generate_batch([members[index] for index in chosen], generation)
            texts.update(zip((order[index] for index in chosen), answers, strict=True))

        growths = [Growth(len(member.token_ids), generation.max_new_tokens) for member in members]
        steps = Steps(lambda chosen, limit: batches([growths[index] for index in chosen], self._rope, limit), run)
        run_steps(list(range(len(order))), self._budget(generation), steps, self._shrink)
        return texts

    def _budget(self, generation: Generation) -> Budget:
        """Beams are searched one prompt at a time: a stop string in the best beam ends them all."""
        kind = self._device.type
        rows = 1 if generation.beams > 1 else ROWS_PER_BATCH.get(kind, 16)
        return Budget(TOKENS_PER_BATCH.get(kind, 16_384), rows)

    def _generate_batch(self, requests: Sequence[Request], generation: Generation) -> list[str]:
        prompts = [list(request.token_ids) for request in requests]
        tokenizer, longest = self._read_tokenizer(), max(len(prompt) for prompt in prompts)
        padding = _pad_token(tokenizer)
        ids = torch.tensor([[padding] * (longest - len(prompt)) + prompt for prompt in prompts], device=self._device)
        mask = torch.tensor(
            [[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts], device=self._device
        )
        stop = StopStrings(tokenizer, generation.until, longest, len(prompts))
        finite = FiniteLogits(requests, stop, dtype_name(self._model.dtype))
        self._rope.forget()
        with torch.inference_mode():
            output = self._model.generate(
                input_ids=ids,
                attention_mask=mask,
                max_length=longest + generation.max_new_tokens,
                stopping_criteria=StoppingCriteriaList([stop]),
                logits_processor=LogitsProcessorList([finite, *_sampler(requests, generation)]),
                pad_token_id=padding,
                use_cache=True,
                do_sample=False,
                **generation.others,
            )
        rows = output[:, longest:].tolist()
        lengths = stop.lengths if generation.beams == 1 else [None]
        return [
            cut_at_stop(tokenizer.decode(row[:length], skip_special_tokens=True), generation.until)
            for row, length in zip(rows, lengths, strict=True)
        ]

    def _normalise(self, arguments: str) -> Generation:
        tokenizer = self._read_tokenizer()
        end = tokenizer.decode([tokenizer.eos_token_id], skip_special_tokens=False) if tokenizer.eos_token_id else None
        return normalise(json.loads(arguments or "{}"), end)

    def _read_tokenizer(self) -> Any:
        if self._tokenizer is None:
            self._tokenizer = read_tokenizer(self._folder, self._trust_remote_code)
        return self._tokenizer


class StopStrings(StoppingCriteria):  # type: ignore[misc]
    """Stops each row when one of the strings appears in its last tokens.

    Attributes:
        done: whether each row is finished.
        lengths: tokens of each row up to there.
    """

    def __init__(self, tokenizer: Any, until: Sequence[str], prompt_length: int, rows: int) -> None:
        self._tokenizer = tokenizer
        self._until = [(s, len(tokenizer.encode(s, add_special_tokens=False)) + LOOK_BACK_TOKENS) for s in until if s]
        self._prompt_length = prompt_length
        self.done = [False] * rows
        self.lengths = [0] * rows

    def __call__(self, input_ids: torch.Tensor, scores: Any, **kwargs: Any) -> torch.Tensor:
        """[rows] whether the row is finished; all beams are when the first, which is the best, is."""
        for row, tokens in enumerate(input_ids[: len(self.done), self._prompt_length :].tolist()):
            if not self.done[row]:
                self.lengths[row] = len(tokens)
                self.done[row] = any(s in self._tokenizer.decode(tokens[-back:]) for s, back in self._until)
        return torch.tensor(self.done, device=input_ids.device).expand(len(input_ids))


class FiniteLogits(LogitsProcessor):  # type: ignore[misc]
    """Refuses logits that give no distribution, in rows that are not finished; their arg-max would be token 0."""

    def __init__(self, requests: Sequence[Request], stop: StopStrings, dtype: str) -> None:
        self._requests = requests
        self._stop = stop
        self._dtype = dtype

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """The scores as they are.

        Raises:
            RunError: NotFinite.
        """
        beams = len(scores) // len(self._requests)
        for row, finite in enumerate(scores.float().logsumexp(-1).isfinite().tolist()):
            if not finite and not self._stop.done[row // beams]:
                raise not_finite(self._requests[row // beams], self._dtype, "the logits are no finite numbers")
        return scores


class SeededChoice(LogitsProcessor):  # type: ignore[misc]
    """Draws each row's token with the row's own generator and leaves nothing else to choose."""

    def __init__(self, seeds: Sequence[int | None]) -> None:
        self._generators = [torch.Generator().manual_seed((seed or 0) % 2**63) for seed in seeds]

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Scores [rows, vocabulary] that are -inf but for the drawn tokens."""
        probabilities = scores.float().softmax(-1).cpu()
        drawn = [
            torch.multinomial(row, 1, generator=generator)
            for row, generator in zip(probabilities, self._generators, strict=True)
        ]
        chosen = torch.full_like(scores, float("-inf"))
        return chosen.scatter_(1, torch.stack(drawn).to(scores.device), 0.0)


def normalise(arguments: dict[str, Any], end_of_text: str | None) -> Generation:
    """lm-eval's reading of generation arguments: aliases, defaults, greedy unless a temperature is given."""
    given = dict(arguments)
    until = given.pop("until", None) or []
    until = [until] if isinstance(until, str) else list(until)
    if end_of_text is not None and end_of_text not in until:
        until.append(end_of_text)
    lengths = [given.pop(name, None) for name in LENGTH_ALIASES]
    length = next((value for value in lengths if value is not None), DEFAULT_MAX_NEW_TOKENS)
    temperature = float(given.pop("temperature", None) or 0.0)
    do_sample = given.pop("do_sample", None)
    options = {name: given.pop(name) for name in ("top_k", "top_p", "min_p") if given.get(name) is not None}
    if do_sample and temperature == 0.0 and "temperature" in arguments:
        raise RunError(
            FailureReason.INVALID_TASK, "do_sample with temperature 0: set a temperature above 0 or leave it out"
        )
    if temperature > 0.0:
        options["temperature"] = temperature
    sampled = temperature > 0.0 if do_sample is None else bool(do_sample)
    if sampled and int(given.get("num_beams") or 1) > 1:
        raise RunError(FailureReason.INVALID_TASK, "num_beams with do_sample: beams are searched, not drawn; set one")
    return Generation(tuple(until), int(length), sampled, options if sampled else {}, given)


def cut_at_stop(text: str, until: Sequence[str]) -> str:
    """The text before the first stop string (`lm_eval.models.utils.postprocess_generated_text`)."""
    for stop in until:
        if stop:
            text = text.split(stop)[0]
    return text


def read_tokenizer(folder: Path, trust_remote_code: bool) -> Any:
    """The model's tokenizer.

    Raises:
        RunError: ModelUnreadable, when the folder holds none.
    """
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(folder, trust_remote_code=trust_remote_code, local_files_only=True)
    except Exception as error:
        raise RunError(
            FailureReason.MODEL_UNREADABLE,
            f"{folder} holds no tokenizer that can be read ({type(error).__name__}); set model.tokenizerUri",
        ) from error


def token_ids_only(config: Any) -> GenerationConfig:
    """What a checkpoint recommends is dropped, but for the ids of its special tokens."""
    names = ("bos_token_id", "eos_token_id", "pad_token_id")
    return GenerationConfig(**{name: getattr(config, name, None) for name in names})


def _sampler(requests: Sequence[Request], generation: Generation) -> list[LogitsProcessor]:
    if not generation.do_sample:
        return []
    return [*_warpers(generation.options), SeededChoice([request.seed for request in requests])]


def _warpers(options: Mapping[str, float]) -> list[LogitsProcessor]:
    """Warpers of transformers in its order: temperature, top-k, top-p, min-p."""
    temperature, top_k = options.get("temperature"), options.get("top_k")
    top_k = DEFAULT_TOP_K if top_k is None else top_k
    warpers: list[LogitsProcessor] = []
    if temperature not in (None, 1.0):
        warpers.append(TemperatureLogitsWarper(temperature))
    if top_k:
        warpers.append(TopKLogitsWarper(top_k=int(top_k)))
    if (top_p := options.get("top_p")) is not None and top_p < 1.0:
        warpers.append(TopPLogitsWarper(top_p=top_p))
    if (min_p := options.get("min_p")) is not None:
        warpers.append(MinPLogitsWarper(min_p=min_p))
    return warpers


def _identity(request: Request) -> tuple[Any, ...]:
    return tuple(request.token_ids), request.arguments, -1 if request.seed is None else request.seed


def _pad_token(tokenizer: Any) -> int:
    """Padding is masked, so any id will do; the tokenizer's own where it has one."""
    candidates = (tokenizer.pad_token_id, tokenizer.eos_token_id, 0)
    return next(int(token) for token in candidates if token is not None)
