"""Which prompts generate together: neighbours by length that fit, on one side of every change of rotary frequencies."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from evalfleet_worker.engine.memory import Batch
from evalfleet_worker.engine.pack import Budget
from evalfleet_worker.engine.rope import CallRope


@dataclass(frozen=True, slots=True)
class Growth:
    """A prompt's tokens and how many may follow them."""

    prompt: int
    new: int

    @property
    def longest(self) -> int:
        """Tokens of the whole text at most."""
        return self.prompt + self.new


def batches(growths: Sequence[Growth], rope: CallRope, budget: Budget) -> Iterator[Batch]:
    """Batches of at most `rows` prompts and `tokens` tokens of cache, padding included, in the given order."""
    sides = [rope.growing_side(growth.prompt, growth.longest) for growth in growths]
    for side in sorted(set(sides)):
        batch: list[int] = []
        for index in (index for index, other in enumerate(sides) if other == side):
            longest = max(growths[member].longest for member in [*batch, index])
            if batch and (len(batch) + 1 > budget.rows or (len(batch) + 1) * longest > budget.tokens):
                yield Batch(tuple(batch))
                batch = []
            batch.append(index)
        yield Batch(tuple(batch))
