"""From the calls that lm-eval makes of a model to requests in token ids."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from evalfleet_worker.harness.encode import TextEncoder
from evalfleet_worker.harness.interface import UNPLACED
from evalfleet_worker.harness.lm_eval.generation import ModelDefaults, canonical, normalized
from evalfleet_worker.protocol import FailureReason, RunError
from evalfleet_worker.requests import Request, RequestType


class CallEncoder:
    """Encodes the calls of one evaluation.

    Args:
        evaluation: its name.
        encoder: of the model.
        recommended: the model's generation_config.
        overrides: generation arguments of the evaluation that no task has.
    """

    def __init__(
        self,
        evaluation: str,
        encoder: TextEncoder,
        recommended: Callable[[], Mapping[str, Any]],
        overrides: Mapping[str, Any],
    ) -> None:
        self._evaluation = evaluation
        self._encoder = encoder
        self._recommended = recommended
        self._overrides = overrides
        self._defaults: ModelDefaults | None = None

    def requests(self, kind: RequestType, index: int, instance: Any) -> Iterator[Request]:
        """The requests of call `index` of its kind.

        Raises:
            RunError: naming task and document.
        """
        where = f"task {instance.task_name!r}, document {instance.doc_id}"
        try:
            yield from self._requests(kind, index, instance.args)
        except RunError as error:
            if error.reason is not FailureReason.INVALID_TASK:
                raise
            raise RunError(error.reason, f"{where}: {error.message}") from error
        except (TypeError, ValueError) as error:  # tokenizers take texts only
            words = f"{where}: {instance.args!r:.120} cannot be encoded: {error}"
            raise RunError(FailureReason.INVALID_TASK, words) from error

    def _requests(self, kind: RequestType, index: int, args: tuple[Any, ...]) -> Iterator[Request]:
        encoder = self._encoder
        match kind:
            case RequestType.LOGLIKELIHOOD:
                ids, scored = encoder.scored(encoder.pair(*args))
                yield Request(UNPLACED, self._evaluation, kind, index, 0, ids, scored)
            case RequestType.LOGLIKELIHOOD_ROLLING:
                for part, window in enumerate(encoder.rolling(args[0])):
                    ids, scored = encoder.scored(window)
                    yield Request(UNPLACED, self._evaluation, kind, index, part, ids, scored)
            case RequestType.GENERATE_UNTIL:
                arguments = normalized({**args[1], **self._overrides}, self._model_defaults())
                ids = encoder.generation_context(args[0], arguments["max_gen_toks"])
                yield Request(UNPLACED, self._evaluation, kind, index, 0, ids, 0, canonical(arguments))
            case _:
                raise RunError(FailureReason.UNSUPPORTED_TASK, f"requests of type {kind} are not supported")

    def _model_defaults(self) -> ModelDefaults:
        if self._defaults is None:
            recommended = self._recommended()
            ends = recommended.get("eos_token_id")
            self._defaults = ModelDefaults(
                end_of_text=self._encoder.end_of_text(),
                end_token_ids=tuple(ends if isinstance(ends, list) else [] if ends is None else [ends]),
                recommended=recommended,
                special_id=self._encoder.special_id,
            )
        return self._defaults
