"""What a request to generate asks for, and the text that its tokens make. Torch-free."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

SAMPLING = ("temperature", "top_k", "top_p", "min_p")


@dataclass(frozen=True, slots=True)
class Generation:
    """What decides an answer, complete: what is not named has transformers' default.

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


def read_arguments(arguments: str) -> Generation:
    """The arguments of a request; the plan has checked them and written all that decides the answer."""
    given = json.loads(arguments)
    sampling = {name: given.pop(name) for name in SAMPLING if name in given}
    do_sample = bool(given.pop("do_sample"))
    return Generation(
        until=tuple(given.pop("until")),
        max_new_tokens=int(given.pop("max_gen_toks")),
        do_sample=do_sample,
        options=sampling if do_sample else {},
        think_end=given.pop("think_end_token", None),
        others=given,
    )


def cut_at_stop(text: str, until: Sequence[str]) -> str:
    """The text before the first stop string (`lm_eval.models.utils.postprocess_generated_text`)."""
    for stop in until:
        if stop:
            text = text.split(stop)[0]
    return text
