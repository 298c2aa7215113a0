"""What a request to generate asks for, and the text that its tokens make. Torch-free."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from evalfleet_worker.protocol import FailureReason, RunError

DEFAULT_MAX_NEW_TOKENS = 256
"""lm-eval's `HFLM.max_gen_toks`."""
LENGTH_ALIASES = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")


@dataclass(frozen=True, slots=True)
class Generation:
    """Normalised generation arguments (`lm_eval.models.utils.normalize_gen_kwargs`).

    Attributes:
        until: stop strings, the end-of-text string among them.
        max_new_tokens: longest answer in tokens.
        do_sample: draw instead of taking the arg-max.
        options: sampling options (temperature, top_k, top_p, min_p).
        others: further arguments of transformers' `generate`, passed on.
        think_end: token (its id, or its text) that ends the reasoning; only what comes after it is the answer.
    """

    until: tuple[str, ...]
    max_new_tokens: int
    do_sample: bool
    options: dict[str, float]
    others: dict[str, Any]
    think_end: str | int | None = None

    @property
    def beams(self) -> int:
        """Hypotheses that a beam search follows; 1 = none."""
        return int(self.others.get("num_beams") or 1)

    def after_thinking(self, tokens: Sequence[int]) -> list[int]:
        """The tokens after the last one that ends the reasoning, if that is known by its id."""
        ends = [index for index, token in enumerate(tokens) if token == self.think_end]
        return list(tokens[ends[-1] + 1 :] if ends else tokens)

    def text(self, decoded: str) -> str:
        """The answer in a decoded text: after the reasoning, before the first stop string."""
        if isinstance(self.think_end, str):
            decoded = decoded.split(self.think_end)[-1]
        return cut_at_stop(decoded if self.think_end is None else decoded.lstrip(), self.until)


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
    think_end = given.pop("think_end_token", None)
    return Generation(tuple(until), int(length), sampled, options if sampled else {}, given, think_end)


def cut_at_stop(text: str, until: Sequence[str]) -> str:
    """The text before the first stop string (`lm_eval.models.utils.postprocess_generated_text`)."""
    for stop in until:
        if stop:
            text = text.split(stop)[0]
    return text
