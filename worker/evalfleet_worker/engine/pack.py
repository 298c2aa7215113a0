"""Token-budget packing: sequences in depth-first order, shared prefixes once, no padding. Pure, torch-free.

The input sequences of a step, sorted, are laid out as their prefix tree in depth-first order: each sequence adds only
the tokens after its longest common prefix with the one before. In that order the subtree of token u is the
range [u, ends[u]), so u is an ancestor of t exactly when u <= t < ends[u]: the whole attention mask is two
integers per token. The result depends on the set of requests, the token budget and nothing else.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Scored:
    """One distinct sequence to score.

    Attributes:
        tokens: the model's input; the last scored token is not part of it.
        targets: the scored tokens; target j is predicted at input position `len(tokens) - len(targets) + j`.
    """

    tokens: tuple[int, ...]
    targets: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Budget:
    """Limits of one step: packed tokens, and rows whose logits are computed."""

    tokens: int
    rows: int


@dataclass(frozen=True, slots=True)
class Step:
    """One forward pass over T packed tokens in which S tokens of M sequences are scored at R distinct rows.

    Attributes:
        ids: [T] token ids.
        positions: [T] position of each token within its sequence.
        ends: [T] end of each token's subtree.
        rows: [R] packed indices whose logits are needed, ascending.
        scored_rows: [S] index into `rows` of each scored token.
        targets: [S] the scored tokens.
        offsets: [M + 1] bounds of each sequence's scored tokens.
        members: the M sequences' indices in the caller's order.
    """

    ids: Ints
    positions: Ints
    ends: Ints
    rows: Ints
    scored_rows: Ints
    targets: Ints
    offsets: Ints
    members: tuple[int, ...]


def pack(sequences: Sequence[Scored], budget: Budget) -> Iterator[Step]:
    """Steps within the budget that together score every sequence; one too long for it gets a step of its own."""
    order = sorted(range(len(sequences)), key=lambda index: (sequences[index].tokens, sequences[index].targets))
    builder = _StepBuilder()
    for index in order:
        if builder.members and not builder.fits(sequences[index], budget):
            yield builder.build()
            builder = _StepBuilder()
        builder.add(index, sequences[index])
    if builder.members:
        yield builder.build()


def common_prefix(first: Sequence[int], second: Sequence[int]) -> int:
    """Length of the longest common prefix."""
    limit = min(len(first), len(second))
    if first[:limit] == second[:limit]:
        return limit
    return next(index for index in range(limit) if first[index] != second[index])


class _StepBuilder:
    """Lays sequences that arrive in sorted order out in depth-first order."""

    def __init__(self) -> None:
        self.members: list[int] = []
        self._last: tuple[int, ...] = ()
        self._path = np.empty(0, np.int64)
        self._ids: list[int] = []
        self._positions: list[Ints] = []
        self._closed: list[tuple[Ints, int]] = []
        self._scored: list[Ints] = []
        self._targets: list[int] = []
        self._offsets = [0]
        self._rows = 0

    def fits(self, sequence: Scored, budget: Budget) -> bool:
        """Whether the step stays within the budget with this sequence (rows shared with others count again)."""
        fresh = len(sequence.tokens) - common_prefix(self._last, sequence.tokens)
        return len(self._ids) + fresh <= budget.tokens and self._rows + len(sequence.targets) <= budget.rows

    def add(self, index: int, sequence: Scored) -> None:
        """Append the sequence's tokens after its common prefix with the one before."""
        shared, count = common_prefix(self._last, sequence.tokens), len(self._ids)
        fresh = len(sequence.tokens) - shared
        self._closed.append((self._path[shared:], count))
        self._path = np.concatenate([self._path[:shared], np.arange(count, count + fresh)])
        self._ids.extend(sequence.tokens[shared:])
        self._positions.append(np.arange(shared, shared + fresh))
        self._scored.append(self._path[len(sequence.tokens) - len(sequence.targets) :])
        self._targets.extend(sequence.targets)
        self._offsets.append(len(self._targets))
        self._rows += len(sequence.targets)
        self._last = sequence.tokens
        self.members.append(index)

    def build(self) -> Step:
        """The finished step."""
        ends = np.full(len(self._ids), len(self._ids), np.int64)
        for path, end in self._closed:
            ends[path] = end
        rows, scored_rows = np.unique(np.concatenate(self._scored), return_inverse=True)
        return Step(
            ids=np.asarray(self._ids, np.int64),
            positions=np.concatenate(self._positions),
            ends=ends,
            rows=rows,
            scored_rows=scored_rows.astype(np.int64),
            targets=np.asarray(self._targets, np.int64),
            offsets=np.asarray(self._offsets, np.int64),
            members=tuple(self.members),
        )


@dataclass(frozen=True, slots=True)
class Block:
    """Queries [begin, end) of a step and their keys: the ancestors of `begin`, then the range itself.

    Any key of a later query of the range that lies before `begin` is an ancestor of `begin` too (depth-first order).
    """

    begin: int
    end: int
    ancestors: Ints


def attention_blocks(step_positions: Ints, ends: Ints, size: int) -> list[Block]:
    """Cut a step into blocks of at most `size` queries, preferably where a sequence starts (few ancestors)."""
    total, begin, blocks = len(ends), 0, []
    while begin < total:
        end = total
        if total - begin > size:
            window = step_positions[begin + size // 2 + 1 : begin + size + 1][::-1]
            end = begin + size - int(np.argmin(window))
        blocks.append(Block(begin, end, np.flatnonzero(ends[:begin] > begin)))
        begin = end
    return blocks
