"""Text to token ids by the rules of lm-eval's HFLM: BOS, truncation, context/continuation split, rolling windows.

Mirrors `lm_eval/models/huggingface.py` and `lm_eval/api/model.py` (TemplateLM) of lm_eval 0.4.13; the parity
tests compare the ids. A context is encoded once for all its continuations; the split is taken from the full encoding
of each, never assumed: byte-level BPE merges across it surprisingly often.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, Protocol

from evalfleet_worker.protocol import FailureReason, RunError

DEFAULT_GENERATED_TOKENS = 256

REMEMBERED = 1024
"""Contexts and short texts whose ids are kept: the choices of a document follow each other."""

SHOWN = 40
"""Characters of a context in a message."""

Pair = tuple[list[int], list[int]]


class Tokenizer(Protocol):
    """The part of a transformers tokenizer that is used here."""

    bos_token_id: int | None
    eos_token_id: int | None
    bos_token: str | None

    def encode(self, text: str, **kwargs: Any) -> list[int]:
        """Token ids of `text`."""
        ...

    def decode(self, token_ids: Any, **kwargs: Any) -> str:
        """Text of token ids."""
        ...


@dataclass(frozen=True, slots=True)
class EncodingOptions:
    """HFLM's `add_bos_token` (None = as the tokenizer does) and `prefix_token_id` (None = BOS, else EOS)."""

    add_bos_token: bool | None = None
    prefix_token_id: int | None = None


class TextEncoder:
    """Encodes prompts for a causal language model; remembers what it has encoded.

    Args:
        tokenizer: a transformers tokenizer.
        max_length: the model's maximum input length [tokens].
        options: how to deviate from what the tokenizer does by itself.
    """

    def __init__(self, tokenizer: Tokenizer, max_length: int, options: EncodingOptions = EncodingOptions()) -> None:
        self.tokenizer = tokenizer
        self.max_length = max_length
        self._options = options
        self.encode = lru_cache(maxsize=REMEMBERED)(self._encode)

    @cached_property
    def prefix_token_id(self) -> int:
        """The token that stands for an empty context: as asked for, else BOS, else EOS.

        Raises:
            RunError: MODEL_UNREADABLE when the tokenizer has neither.
        """
        tokenizer = self.tokenizer
        if self._options.prefix_token_id is not None:
            return self._options.prefix_token_id
        prefix = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
        if prefix is None:
            raise RunError(
                FailureReason.MODEL_UNREADABLE,
                "the tokenizer has neither a BOS nor an EOS token; add one to its tokenizer_config.json",
            )
        return prefix

    @cached_property
    def _prefix_text(self) -> str:
        return self.tokenizer.decode(self.prefix_token_id)

    def _encode(self, text: str, add_special_tokens: bool | None = None) -> list[int]:
        """Token ids; special tokens are left out where the text already starts with BOS."""
        if add_special_tokens is None:
            add_special_tokens = False if text.startswith(self._prefix_text) else self._options.add_bos_token
        options = {} if add_special_tokens is None else {"add_special_tokens": add_special_tokens}
        return self.tokenizer.encode(text, **options)

    def pair(self, context: str, continuation: str) -> Pair:
        """Ids of context and continuation; trailing spaces of the context belong to the continuation.

        Raises:
            RunError: INVALID_TASK when nothing is left to condition on or to score.
        """
        if context == "":
            return self._without_context(continuation)
        spaces = len(context) - len(context.rstrip())
        if spaces > 0:
            context, continuation = context[:-spaces], context[-spaces:] + continuation
        context_ids = self.encode(context)
        whole = self._encode(context + continuation)
        if context_ids and continuation and len(whole) <= len(context_ids):
            raise RunError(
                FailureReason.INVALID_TASK,
                f"the tokens of {context[-SHOWN:]!r} and of {continuation!r} merge into one, which leaves nothing to "
                "score: let a space or a line end stand between them (target_delimiter, or in doc_to_text)",
            )
        return self._checked(context_ids, whole[len(context_ids) :], continuation)

    def _without_context(self, continuation: str) -> Pair:
        ids = self.encode(continuation, add_special_tokens=False)
        if ids and ids[0] == self.prefix_token_id:
            return self._checked(ids[:1], ids[1:], continuation)
        return self._checked([self.prefix_token_id], ids, continuation)

    def _checked(self, context: list[int], continuation: list[int], text: str) -> Pair:
        if not context or not continuation:
            part = "context" if not context else "continuation"
            raise RunError(
                FailureReason.INVALID_TASK,
                f"a request has an empty {part} (continuation {text!r}): every choice needs a token of its own",
            )
        if len(continuation) > self.max_length:
            raise RunError(
                FailureReason.INVALID_TASK,
                f"a continuation of {len(continuation)} tokens does not fit the model's {self.max_length} tokens: "
                "shorten it, or leave the document out",
            )
        return context, continuation

    def scored(self, pair: Pair) -> tuple[list[int], int]:
        """Input ids including the continuation, cut from the left to the model's length, and the scored length."""
        context, continuation = pair
        return (context + continuation)[-(self.max_length + 1) :], len(continuation)

    def rolling(self, text: str) -> Iterator[Pair]:
        """Disjoint windows over a text: each token is scored once with as much context as fits."""
        for window in rolling_windows(self.encode(text), self.prefix_token_id, self.max_length):
            yield disjoint(window)

    def generation_context(self, text: str, generated_tokens: int) -> list[int]:
        """Ids of a prompt, cut from the left so that `generated_tokens` still fit."""
        room = self.max_length - generated_tokens
        if room <= 0:
            raise RunError(
                FailureReason.INVALID_TASK,
                f"generation of up to {generated_tokens} tokens does not fit the model's {self.max_length} tokens: "
                "lower max_gen_toks",
            )
        bos = self.tokenizer.bos_token
        has_bos = bos is not None and text.startswith(bos)
        ids = self.encode(text, add_special_tokens=False if has_bos else None)
        if not ids:
            raise RunError(
                FailureReason.INVALID_TASK,
                "the prompt is empty, and there is no token to generate from: write a text in doc_to_text",
            )
        return ids[-room:]

    def embedded(self, text: str) -> list[int]:
        """Ids of a text to embed, with its special tokens, cut to the model's length by the tokenizer."""
        return self.tokenizer.encode(text, truncation=True, max_length=self.max_length)

    def special_id(self, text: str) -> int | None:
        """The id of a text that is one special token, which decoding leaves out; else None."""
        ids = self.tokenizer.encode(text, add_special_tokens=False)
        is_special = len(ids) == 1 and self.tokenizer.decode(ids, skip_special_tokens=True) == ""
        return ids[0] if is_special else None

    def end_of_text(self) -> str:
        """The text of the EOS token: always a stop string.

        Raises:
            RunError: MODEL_UNREADABLE when the tokenizer has none.
        """
        if self.tokenizer.eos_token_id is None:
            raise RunError(
                FailureReason.MODEL_UNREADABLE,
                "the tokenizer has no EOS token, so that no generated answer would end: name one in its "
                "tokenizer_config.json, or another tokenizer as model.tokenizerUri",
            )
        return self.tokenizer.decode(self.tokenizer.eos_token_id, skip_special_tokens=False)


def rolling_windows(ids: Sequence[int], prefix: int, length: int) -> Iterator[Pair]:
    """(input, predicted) windows, the first starting with `prefix` (lm-eval `get_rolling_token_windows`)."""
    if not ids:
        return
    first = min(length, len(ids))
    yield [prefix, *ids[: first - 1]], list(ids[:first])
    for start in range(first, len(ids), length):
        end = min(start + length, len(ids))
        yield list(ids[end - length - 1 : end - 1]), list(ids[start:end])


def disjoint(window: Pair) -> Pair:
    """The window with a context that does not overlap what is predicted (lm-eval `make_disjoint_window`)."""
    context, predicted = window
    return context[: len(context) - (len(predicted) - 1)], predicted
