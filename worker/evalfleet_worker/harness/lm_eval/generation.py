"""Generation arguments by HFLM's conventions (`normalize_gen_kwargs`, `handle_stop_sequences`, lm_eval 0.4.13)."""

import json
from collections.abc import Mapping
from typing import Any

from evalfleet_worker.harness.encode import DEFAULT_GENERATED_TOKENS
from evalfleet_worker.protocol import FailureReason, RunError

LENGTH_NAMES = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")
"""Names of the number of new tokens, in the order of precedence."""


def normalized(arguments: Mapping[str, Any], end_of_text: str) -> dict[str, Any]:
    """`until` (with the EOS text), `max_gen_toks`, `do_sample`, `temperature` and what else was given."""
    if "max_length" in arguments:
        raise RunError(FailureReason.INVALID_TASK, "generation_kwargs.max_length: use max_gen_toks instead")
    result = {key: value for key, value in arguments.items() if key not in LENGTH_NAMES}
    lengths = (arguments.get(name) for name in LENGTH_NAMES)
    result["max_gen_toks"] = int(next((n for n in lengths if n is not None), DEFAULT_GENERATED_TOKENS))
    result["until"] = _stops(arguments.get("until"), end_of_text)
    temperature = float(arguments.get("temperature", 0.0))
    sample = arguments.get("do_sample")
    result["do_sample"] = temperature > 0.0 if sample is None else bool(sample)
    result["temperature"] = temperature if result["do_sample"] else 0.0
    return result


def is_sampled(arguments: Mapping[str, Any]) -> bool:
    """Whether two executions may rightly differ, so that the request is never de-duplicated nor cached."""
    return bool(arguments["do_sample"])


def canonical(arguments: Mapping[str, Any]) -> str:
    """One spelling of the same arguments."""
    return json.dumps(arguments, sort_keys=True, separators=(",", ":"))


def _stops(until: Any, end_of_text: str) -> list[str]:
    stops = [until] if isinstance(until, str) else list(until or [])
    return stops if end_of_text in stops else [*stops, end_of_text]
