"""Token ids are compared with the rows of the model's embedding: a foreign tokenizer is found here, not on a GPU."""

from collections.abc import Callable, Mapping

from evalfleet_worker.harness.encode import TextEncoder
from evalfleet_worker.harness.interface import HarnessPlan
from evalfleet_worker.protocol import FailureReason, RunError


def check_token_ids(plans: Mapping[str, HarnessPlan], vocabulary: int, encoder: Callable[[], TextEncoder]) -> None:
    """Refuse requests with tokens that the model does not have.

    Args:
        plans: by evaluation.
        vocabulary: rows of the embedding; 0 where the config does not say.
        encoder: of the model, for the message.

    Raises:
        RunError: ModelUnreadable, naming evaluation, request and token.
    """
    for evaluation, plan in plans.items():
        for request in plan.requests:
            largest = max(request.token_ids, default=0)
            if 0 < vocabulary <= largest:
                text = encoder().tokenizer.decode([largest])
                raise RunError(
                    FailureReason.MODEL_UNREADABLE,
                    f"{evaluation}: request {request.call_index} holds the token {largest} ({text!r}), but the "
                    f"model's vocabulary ends at {vocabulary - 1}: this tokenizer is not the model's. "
                    "Put the right one beside the model or name it as model.tokenizerUri",
                )
