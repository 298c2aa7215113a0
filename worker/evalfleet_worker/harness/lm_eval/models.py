"""The two stand-ins for a model: one that lends lm-eval its tokenizer while it plans, one that replays answers."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lm_eval.api.model import LM

from evalfleet_worker.harness.encode import TextEncoder
from evalfleet_worker.protocol import FailureReason, RunError
from evalfleet_worker.requests import Answer, RequestType

ReadAnswers = Callable[[RequestType, int], Sequence[Answer]]
"""The answers to all parts of one call."""


class PromptModel(LM):  # type: ignore[misc]  # lm_eval has no type information
    """Renders prompts with the model's chat template; answers nothing.

    Attributes:
        without_system: prompts from which the template dropped the system message.
    """

    def __init__(self, encoder: Callable[[], TextEncoder], template_arguments: Mapping[str, Any] | None = None) -> None:
        super().__init__()
        self._encoder = encoder
        self._template_arguments = template_arguments or {}
        self.without_system = 0

    @property
    def tokenizer_name(self) -> str:
        """Name that fingerprints lm-eval's request cache, which is not used here."""
        return "model"

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        """The rendered conversation; without its system message where the template refuses one (as HFLM does)."""
        import jinja2

        system = [turn["content"] for turn in chat_history if turn["role"] == "system"]
        try:
            rendered = self._render(chat_history, add_generation_prompt)
        except jinja2.exceptions.TemplateError:
            rendered = self._render([turn for turn in chat_history if turn["role"] != "system"], add_generation_prompt)
        self.without_system += any(content.strip() not in rendered for content in system)
        return rendered

    def _render(self, chat_history: list[dict[str, str]], add_generation_prompt: bool) -> str:
        tokenizer: Any = self._encoder().tokenizer
        if not getattr(tokenizer, "chat_template", None):
            raise RunError(
                FailureReason.INVALID_TASK,
                "applyChatTemplate is set but the model's tokenizer has no chat template: set model.chatTemplate",
            )
        rendered: str = tokenizer.apply_chat_template(
            chat_history,
            tokenize=False,
            add_generation_prompt=add_generation_prompt,
            continue_final_message=not add_generation_prompt,
            **self._template_arguments,
        )
        return rendered

    def loglikelihood(self, requests: list[Any]) -> list[tuple[float, bool]]:
        """Not available while planning."""
        raise NotImplementedError

    def loglikelihood_rolling(self, requests: list[Any]) -> list[float]:
        """Not available while planning."""
        raise NotImplementedError

    def generate_until(self, requests: list[Any]) -> list[str]:
        """Not available while planning."""
        raise NotImplementedError


class ReplayModel(PromptModel):
    """Returns stored answers to lm-eval's calls in their order."""

    def __init__(self, encoder: Callable[[], TextEncoder], answers: ReadAnswers) -> None:
        super().__init__(encoder)
        self._answers = answers

    def loglikelihood(self, requests: list[Any]) -> list[tuple[float, bool]]:
        """(sum of log-probabilities, greedy) of every call."""
        return [_scored(self._single(RequestType.LOGLIKELIHOOD, index)) for index in range(len(requests))]

    def loglikelihood_rolling(self, requests: list[Any]) -> list[float]:
        """The sum over the windows of every call, in their order (as HFLM adds them)."""
        kind = RequestType.LOGLIKELIHOOD_ROLLING
        return [sum(_scored(window)[0] for window in self._answers(kind, index)) for index in range(len(requests))]

    def generate_until(self, requests: list[Any]) -> list[str]:
        """The text of every call."""
        return [self._single(RequestType.GENERATE_UNTIL, index).text or "" for index in range(len(requests))]

    def _single(self, kind: RequestType, index: int) -> Answer:
        (answer,) = self._answers(kind, index)
        return answer


def _scored(answer: Answer) -> tuple[float, bool]:
    assert answer.log_probability is not None
    return answer.log_probability, bool(answer.is_greedy)
