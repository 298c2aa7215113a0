"""Attention over packed steps for any transformers model that takes an attention function of the caller's.

The function is registered under the name `evalfleet_packed`; the model's own code calls it once per layer with
queries, keys and values of all packed tokens. Each block of queries attends to its ancestors and itself under the
dense mask "u is an ancestor of t", narrowed by the layer's sliding window.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from evalfleet_worker.engine.pack import Block, Step, attention_blocks

NAME = "evalfleet_packed"
QUERIES_PER_BLOCK = {"cpu": 128, "cuda": 1024}
IGNORED = ("position_ids", "cache_position", "use_cache", "output_attentions", "output_hidden_states", "is_causal")


class UnsupportedAttention(NotImplementedError):  # noqa: N818 - says what is unsupported
    """The layer asks for something that packed attention does not compute."""


@dataclass
class PackedAttention:
    """The attention pattern of one step; masks are built once per sliding window and shared by all layers."""

    step: Step
    device: torch.device
    windows_seen: list[int | None] = field(default_factory=list)
    _masks: dict[int | None, list[torch.Tensor]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        size = QUERIES_PER_BLOCK.get(self.device.type, 128)
        self.blocks = attention_blocks(self.step.positions, self.step.ends, size)
        self.keys = [_key_index(block, self.device) for block in self.blocks]

    def masks(self, window: int | None) -> list[torch.Tensor]:
        """Boolean mask [queries, keys] of each block."""
        if window not in self._masks:
            masks = (_mask(block, self.step, window) for block in self.blocks)
            self._masks[window] = [torch.from_numpy(mask).to(self.device) for mask in masks]
        return self._masks[window]


_current: PackedAttention | None = None


@contextmanager
def packed(model: Any, attention: PackedAttention) -> Iterator[None]:
    """Run the model's forward passes inside with packed attention; its own implementation returns afterwards."""
    global _current
    before = model.config._attn_implementation
    _register()
    model.set_attn_implementation(NAME)
    _current = attention
    try:
        yield
    finally:
        _current = None
        model.set_attn_implementation(before)


def packed_attention(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """Attention of one layer.

    Args:
        module: the attention layer.
        query: [1, heads, T, size].
        key: [1, key-value heads, T, size].
        value: [1, key-value heads, T, value size].
        attention_mask: not used; the step's pattern is.
        options: `scaling`, `sliding_window`, `softcap` as the models pass them.

    Returns:
        [1, T, heads, value size] and no weights.

    Raises:
        UnsupportedAttention: the layer is not causal or passes an option that is not implemented.
    """
    attention = _current
    if attention is None:
        raise UnsupportedAttention("packed attention outside of a packed step")
    window, scaling, softcap = _options(module, options)
    attention.windows_seen.append(window)
    groups = query.shape[1] // key.shape[1]
    out = query.new_empty((*query.shape[:-1], value.shape[-1]))
    for block, index, mask in zip(attention.blocks, attention.keys, attention.masks(window), strict=True):
        out[:, :, block.begin : block.end] = _attend(
            query[:, :, block.begin : block.end],
            _take(key, index, groups),
            _take(value, index, groups),
            (mask, scaling, softcap),
        )
    return out.transpose(1, 2).contiguous(), None


def _attend(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    pattern: tuple[torch.Tensor, float | None, float | None],
) -> torch.Tensor:
    mask, scaling, softcap = pattern
    if softcap is None:
        return functional.scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=scaling)
    scale = scaling if scaling is not None else query.shape[-1] ** -0.5
    scores = torch.tanh(query @ key.transpose(2, 3) * (scale / softcap)) * softcap
    weights = scores.masked_fill(~mask, float("-inf")).softmax(-1, dtype=torch.float32)
    return weights.to(query.dtype) @ value


def _options(module: Any, options: dict[str, Any]) -> tuple[int | None, float | None, float | None]:
    known = {"scaling", "dropout", "sliding_window", "softcap", *IGNORED}
    unknown = [name for name, value in options.items() if name not in known and value is not None]
    if unknown or getattr(module, "is_causal", True) is False:
        raise UnsupportedAttention(f"attention options {unknown or 'not causal'}")
    return options.get("sliding_window"), options.get("scaling"), options.get("softcap")


def _take(states: torch.Tensor, index: slice | torch.Tensor, groups: int) -> torch.Tensor:
    """Keys or values of a block, repeated for grouped queries: [1, heads, keys, size]."""
    taken = states[:, :, index] if isinstance(index, slice) else states.index_select(2, index)
    return taken if groups == 1 else taken.repeat_interleave(groups, dim=1)


def _key_index(block: Block, device: torch.device) -> slice | torch.Tensor:
    count = len(block.ancestors)
    if count == 0 or block.ancestors[0] == block.begin - count:
        return slice(block.begin - count, block.end)
    return torch.from_numpy(np.concatenate([block.ancestors, np.arange(block.begin, block.end)])).to(device)


def _mask(block: Block, step: Step, window: int | None) -> NDArray[np.bool_]:
    queries = np.arange(block.begin, block.end)[:, None]
    keys = np.concatenate([block.ancestors, np.arange(block.begin, block.end)])[None, :]
    mask: NDArray[np.bool_] = (keys <= queries) & (queries < step.ends[keys])
    if window is not None:
        mask &= step.positions[queries] - step.positions[keys] < window
    return mask


def _register() -> None:
    from transformers import AttentionInterface

    AttentionInterface.register(NAME, packed_attention)
