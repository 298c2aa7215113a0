"""Generation arguments: one closed list, made complete in the plan.

The names and defaults are HFLM's (`normalize_gen_kwargs`, `handle_stop_sequences`, lm_eval 0.4.13) and, where HFLM
leaves them to the model, those of the model's generation_config. What the plan writes is all that an engine obeys.
"""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from evalfleet_worker.harness.encode import DEFAULT_GENERATED_TOKENS
from evalfleet_worker.protocol import FailureReason, RunError

LENGTH_NAMES = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")
"""Names of the number of new tokens, in the order of precedence."""
TAKEN = ("until", "do_sample", "temperature", "think_end_token", *LENGTH_NAMES)


@dataclass(frozen=True, slots=True)
class Option:
    """One option of transformers' `generate` that a task may give.

    Attributes:
        holds: whether a value is one that it can have.
        range: that in words.
        neutral: transformers' default; left out of the arguments.
        sampled_only: without meaning where the likeliest token is taken.
    """

    holds: Callable[[Any], bool]
    range: str
    neutral: Any
    sampled_only: bool = False


def _number(low: float, high: float = math.inf) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high


def _whole(low: int) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, int) and not isinstance(value, bool) and value >= low


def _truth(value: Any) -> bool:
    return isinstance(value, bool)


OPTIONS: Mapping[str, Option] = {
    "top_k": Option(_whole(0), "a whole number from 0", 50, sampled_only=True),
    "top_p": Option(_number(0, 1), "a number from 0 to 1", 1.0, sampled_only=True),
    "min_p": Option(_number(0, 1), "a number from 0 to 1", 0.0, sampled_only=True),
    "num_beams": Option(_whole(1), "a whole number from 1", 1),
    "length_penalty": Option(_number(-math.inf), "a number", 1.0),
    "early_stopping": Option(_truth, "true or false", False),
    "repetition_penalty": Option(_number(1e-6), "a number above 0", 1.0),
    "no_repeat_ngram_size": Option(_whole(0), "a whole number from 0", 0),
    "min_new_tokens": Option(_whole(0), "a whole number from 0", 0),
}
HARMLESS: Mapping[str, tuple[Any, ...]] = {"num_return_sequences": (1,), "use_cache": (True, False)}
"""Options that are taken where they change nothing."""


@dataclass(frozen=True, slots=True)
class ModelDefaults:
    """What a model says about generation.

    Attributes:
        end_of_text: the text of its EOS token, always a stop string.
        end_token_ids: tokens that end an answer.
        recommended: its generation_config.
        special_id: the id of a text that is one special token, else None.
    """

    end_of_text: str
    end_token_ids: tuple[int, ...] = ()
    recommended: Mapping[str, Any] = field(default_factory=dict)
    special_id: Callable[[str], int | None] = lambda _: None


def normalized(arguments: Mapping[str, Any], model: ModelDefaults) -> dict[str, Any]:
    """All that decides an answer: stop strings, length, how a token is chosen.

    Raises:
        RunError: INVALID_TASK, naming the option and what it may be.
    """
    given = {name: value for name, value in arguments.items() if value is not None}  # null means: not given
    _check_names(given)
    result: dict[str, Any] = {"until": _stops(given.get("until"), model.end_of_text), "max_gen_toks": _length(given)}
    result |= _choosing(given)
    for name, option in OPTIONS.items():
        value = given.get(name, model.recommended.get(name))
        if value is not None and not option.holds(value):
            raise _invalid(name, f"{value!r} is not {option.range}")
        if value is not None and value != option.neutral and (result["do_sample"] or not option.sampled_only):
            result[name] = value
    if result["do_sample"] and result.get("num_beams", 1) > 1:
        raise _invalid("num_beams", "a beam search draws nothing: set do_sample: false, or num_beams: 1")
    if "think_end_token" in given:
        result["think_end_token"] = _think_end(given["think_end_token"], model)
    if model.end_token_ids:
        result["eos_token_id"] = list(model.end_token_ids)
    return result


def is_sampled(arguments: Mapping[str, Any]) -> bool:
    """Whether two executions may rightly differ, so that the request is never de-duplicated nor cached."""
    return bool(arguments["do_sample"])


def canonical(arguments: Mapping[str, Any]) -> str:
    """One spelling of the same arguments."""
    return json.dumps(arguments, sort_keys=True, separators=(",", ":"))


def _check_names(given: Mapping[str, Any]) -> None:
    for name, value in given.items():
        if name in HARMLESS and value in HARMLESS[name]:
            continue
        if name == "max_length":
            raise _invalid(name, "it counts the prompt too; use max_gen_toks instead")
        if name not in OPTIONS and name not in TAKEN:
            known = ", ".join([*TAKEN, *OPTIONS])
            raise _invalid(name, f"it is not supported; the options are {known}")


def _length(given: Mapping[str, Any]) -> int:
    name, value = next(((n, given[n]) for n in LENGTH_NAMES if n in given), ("", DEFAULT_GENERATED_TOKENS))
    try:
        length = int(value)
    except (TypeError, ValueError):
        length = 0
    if length < 1 or isinstance(value, bool):
        raise _invalid(name, f"{value!r} is not a number of tokens from 1")
    return length


def _choosing(given: Mapping[str, Any]) -> dict[str, Any]:
    """`do_sample` and `temperature`: greedy unless a temperature or `do_sample` says otherwise."""
    temperature, sample = given.get("temperature"), given.get("do_sample")
    if temperature is not None:
        temperature = _temperature(temperature)
    if sample is not None and not isinstance(sample, bool):
        raise _invalid("do_sample", f"{sample!r} is not true or false")
    if not (sample if sample is not None else bool(temperature)):
        return {"do_sample": False, "temperature": 0.0}
    if not temperature:
        raise _invalid(
            "do_sample",
            "it is true, but no temperature above 0 is given: set temperature (1.0 draws from the model's own "
            "distribution), or do_sample: false",
        )
    return {"do_sample": True, "temperature": temperature}


def _think_end(value: Any, model: ModelDefaults) -> str | int:
    """The end of the reasoning; a special token by its id, because its text is not decoded (as HFLM has it)."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if not isinstance(value, str) or not value:
        raise _invalid("think_end_token", f"{value!r} is no text of a token and no id")
    special = model.special_id(value)
    return value if special is None else special


def _temperature(value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not 0 <= number < math.inf:
        raise _invalid("temperature", f"{value!r} is not a number from 0")
    return number


def _stops(until: Any, end_of_text: str) -> list[str]:
    stops = [until] if isinstance(until, str) else until or []
    if not isinstance(stops, list | tuple) or not all(isinstance(stop, str) for stop in stops):
        raise _invalid("until", f"{until!r} is no text and no list of texts")
    kept = [stop for stop in dict.fromkeys(stops) if stop]  # an empty text stops nothing
    return kept if end_of_text in kept or not end_of_text else [*kept, end_of_text]


def _invalid(name: str, words: str) -> RunError:
    return RunError(FailureReason.INVALID_TASK, f"generation_kwargs.{name}: {words}")
