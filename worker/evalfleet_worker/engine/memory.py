"""How much fits: memory of the device, tokens per step, and what to do when it does not fit."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from evalfleet_worker.engine.estimate import STEP_ROWS, activation_bytes, memory_needed
from evalfleet_worker.engine.pack import Budget
from evalfleet_worker.model.facts import ModelFacts
from evalfleet_worker.protocol import FailureReason, RunError

USABLE = 0.94
"""Share of free accelerator memory that steps may plan with; the rest is fragmentation."""
MINIMUM_TOKENS = 128
RECOVERY_STEPS = 16
"""Steps that succeed until a budget has grown by its planned size."""
MAXIMUM_TOKENS = {"cpu": 2048, "cuda": 16384}
CGROUP = Path("/sys/fs/cgroup")
OUT_OF_MEMORY_WORDS = ("out of memory", "can't allocate memory", "not enough memory", "cannot allocate memory")


class Members(Protocol):
    """A step that knows which of the caller's sequences it scores."""

    @property
    def members(self) -> tuple[int, ...]:
        """Indices of the step's sequences."""
        ...


@dataclass(frozen=True, slots=True)
class Batch:
    """A step that is nothing but its members."""

    members: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Steps:
    """How to cut sequences (by index) into steps, and how to run one.

    Attributes:
        cut: (indices, budget) -> steps; each step's members are positions within the given indices.
        run: (indices of one step, step) -> its result.
    """

    cut: Callable[[list[int], Budget], Iterator[Any]]
    run: Callable[[list[int], Any], None]


def fitting_tokens(facts: ModelFacts, free_bytes: int, value_bytes: int) -> int:
    """Tokens of a step that fit beside the loaded weights.

    Raises:
        RunError: OutOfMemory, when not even the smallest step fits.
    """
    room = USABLE * free_bytes - STEP_ROWS * facts.vocabulary * (value_bytes + 4)
    tokens = int(room / activation_bytes(facts, value_bytes))
    if tokens < MINIMUM_TOKENS:
        needed = memory_needed(facts, MINIMUM_TOKENS, value_bytes) - facts.parameters * value_bytes
        raise RunError(
            FailureReason.OUT_OF_MEMORY,
            f"a step needs {needed / 2**30:.2f} GiB beside the weights, {free_bytes / 2**30:.2f} GiB are free; "
            "use a worker with more memory",
        )
    return tokens


def step_budget(facts: ModelFacts, device_type: str, free_bytes: int, value_bytes: int) -> Budget:
    """Tokens and rows per step: what fits, up to where more tokens make a device no faster."""
    tokens = fitting_tokens(facts, free_bytes, value_bytes)
    return Budget(min(tokens, MAXIMUM_TOKENS.get(device_type, 2048)), STEP_ROWS)


def strict_budget(tokens: int, fitting: int) -> Budget:
    """The plan's budget, so that every worker packs alike.

    Raises:
        RunError: OutOfMemory, when it does not fit.
    """
    if tokens > fitting:
        raise RunError(
            FailureReason.OUT_OF_MEMORY,
            f"numerics: Strict packs steps of {tokens} tokens, {fitting} fit beside the weights; "
            "set engine.maxTokensPerStep lower or use a worker with more memory",
        )
    return limited_budget(tokens)


def limited_budget(tokens: int) -> Budget:
    """The budget of so many tokens per step."""
    return Budget(tokens, min(STEP_ROWS, tokens))


def check_fits(facts: ModelFacts, available_bytes: int, value_bytes: int, device: str) -> None:
    """Refuse a model whose weights and smallest step do not fit, before minutes are spent on loading it."""
    needed = memory_needed(facts, MINIMUM_TOKENS, value_bytes)
    if needed > available_bytes:
        raise RunError(
            FailureReason.OUT_OF_MEMORY,
            f"the model needs {needed / 2**30:.1f} GiB on {device} ({facts.parameters / 1e9:.2f} billion weights of "
            f"{value_bytes} bytes), {available_bytes / 2**30:.1f} GiB are available; use a larger worker",
        )


def available_host_bytes(cgroup: Path = CGROUP) -> int:
    """Memory that this process may still take: MemAvailable, or what the container's limit leaves if that is less."""
    lines = Path("/proc/meminfo").read_text("ascii").splitlines()
    fields = {name: int(rest.split()[0]) for name, rest in (line.split(":") for line in lines)}
    available = fields["MemAvailable"] * 1024
    return min(available, _cgroup_room(cgroup) or available)


def _cgroup_room(cgroup: Path) -> int | None:
    """What the container's limit leaves beside its memory in use; file pages that can be dropped do not count."""
    try:
        limit = (cgroup / "memory.max").read_text("ascii").strip()
        used = int((cgroup / "memory.current").read_text("ascii"))
        fields = dict(line.split() for line in (cgroup / "memory.stat").read_text("ascii").splitlines())
    except (OSError, ValueError):
        return None
    return max(1, int(limit) - used + int(fields.get("inactive_file", 0))) if limit.isdigit() else None


def run_steps(indices: list[int], budget: Budget, steps: Steps, shrink: bool = True) -> None:
    """Run all steps; after one that does not fit the budget is halved, and grows again as later steps succeed.

    Additive increase, multiplicative decrease: what else takes memory on the device may come and go.

    Args:
        indices: sequences to score.
        budget: the planned budget; never exceeded.
        steps: how to cut and run.
        shrink: False where another cut would be another result (`Strict`).

    Raises:
        RunError: OutOfMemory, when a step of a single sequence, or any with `shrink` off, does not fit.
    """
    left, allowed = list(indices), budget
    while left:
        done, too_large = _run_until_changed(left, allowed, steps, full=allowed == budget)
        left = [index for index in left if index not in done]
        if too_large is not None:
            if too_large == 1 or not shrink:
                raise _too_large(allowed)
            allowed = Budget(max(allowed.tokens // 2, 1), max(allowed.rows // 2, 1))
        else:
            allowed = Budget(_grown(allowed.tokens, budget.tokens), _grown(allowed.rows, budget.rows))


def _run_until_changed(left: list[int], allowed: Budget, steps: Steps, full: bool) -> tuple[set[int], int | None]:
    """Run steps until one does not fit or, below the full budget, until one does.

    Returns:
        The sequences that were scored, and the number of those in the step that did not fit, if there was one.
    """
    done: set[int] = set()
    for step in steps.cut(left, allowed):
        chosen = [left[member] for member in step.members]
        if not _fits(steps, chosen, step):
            return done, len(chosen)
        done.update(chosen)
        if not full:
            break
    return done, None


def _grown(allowed: int, planned: int) -> int:
    return min(planned, allowed + max(1, planned // RECOVERY_STEPS))


def _fits(steps: Steps, chosen: list[int], step: Any) -> bool:
    """Run one step; False when memory ran out. The traceback, which pins tensors, is gone on return."""
    try:
        steps.run(chosen, step)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
    else:
        return True
    _release()
    return False


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the error is an allocator's refusal, on the CPU or an accelerator."""
    message = str(error).lower()
    return isinstance(error, MemoryError) or any(words in message for words in OUT_OF_MEMORY_WORDS)


def _release() -> None:
    import gc

    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _too_large(budget: Budget) -> RunError:
    return RunError(
        FailureReason.OUT_OF_MEMORY,
        f"a step of {budget.tokens} tokens does not fit into memory and cannot be cut further; "
        "set engine.maxTokensPerStep lower or use a worker with more memory",
    )
