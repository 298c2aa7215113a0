"""Generation by lm-eval's conventions (HFLM.generate_until), with answers that do not depend on the batch.

Prompts are padded on the left in batches of similar length; a row stops where HFLM stops with batch size 1. Sampled
tokens are drawn by a generator per request, seeded by the plan.

**The request's `arguments` are complete.** What they do not name has transformers' default; nothing is taken from the
model's generation_config but its token ids (BOS, EOS, padding). A length, a beam count or a penalty that a checkpoint
recommends holds only if the plan wrote it into the arguments.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from transformers import GenerationConfig
from transformers.generation.logits_process import LogitsProcessorList
from transformers.generation.stopping_criteria import StoppingCriteriaList

from evalfleet_worker.engine.arguments import Generation, read_arguments
from evalfleet_worker.engine.batches import Growth, batches
from evalfleet_worker.engine.device import dtype_name
from evalfleet_worker.engine.memory import Batch, Steps, run_steps
from evalfleet_worker.engine.pack import Budget
from evalfleet_worker.engine.processors import FiniteLogits, StopStrings, sampler
from evalfleet_worker.engine.rope import call_rope
from evalfleet_worker.model.resolve import ResolvedModel
from evalfleet_worker.protocol import FailureReason, RunError
from evalfleet_worker.requests import Answer, Request

ROWS_PER_BATCH = {"cpu": 16, "cuda": 64}
TOKENS_PER_BATCH = {"cpu": 16_384, "cuda": 131_072}


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
            texts.update(self._generate_group(group, read_arguments(arguments)))
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
                logits_processor=LogitsProcessorList([finite, *sampler(requests, generation)]),
                pad_token_id=padding,
                use_cache=True,
                do_sample=False,
                **generation.others,
            )
        rows = output[:, longest:].tolist()
        lengths = stop.lengths if generation.beams == 1 else [None]
        answers = (generation.after_thinking(row[:length]) for row, length in zip(rows, lengths, strict=True))
        return [generation.text(tokenizer.decode(answer, skip_special_tokens=True)) for answer in answers]

    def _read_tokenizer(self) -> Any:
        if self._tokenizer is None:
            self._tokenizer = read_tokenizer(self._folder, self._trust_remote_code)
        return self._tokenizer


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


def _identity(request: Request) -> tuple[Any, ...]:
    return tuple(request.token_ids), request.arguments, -1 if request.seed is None else request.seed


def _pad_token(tokenizer: Any) -> int:
    """Padding is masked, so any id will do; the tokenizer's own where it has one."""
    candidates = (tokenizer.pad_token_id, tokenizer.eos_token_id, 0)
    return next(int(token) for token in candidates if token is not None)
