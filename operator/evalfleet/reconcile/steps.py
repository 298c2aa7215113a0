"""A decision in steps: what one step states and asks for, and how the statements of all become one."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import reduce
from typing import Any, TypeVar

from evalfleet.reconcile.conditions import Condition
from evalfleet.reconcile.decision import Action, Decision


@dataclass(frozen=True, slots=True)
class Step:
    """What one step of a reconciliation states.

    Attributes:
        conditions: conditions that hold now.
        status: status members to write; None removes one.
        actions: what must happen in the cluster.
        halt: later steps have nothing to say in this pass.
        requeue_seconds: look again after this long, event or not.
    """

    conditions: tuple[Condition, ...] = ()
    status: Mapping[str, Any] = field(default_factory=dict)
    actions: tuple[Action, ...] = ()
    halt: bool = False
    requeue_seconds: float | None = None


def _together(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    """Both statements; members of one object, as the parts of `time`, do not displace each other."""
    both = {key for key in second if isinstance(second[key], Mapping) and isinstance(first.get(key), Mapping)}
    return {**first, **second, **{key: {**first[key], **second[key]} for key in both}}


State = TypeVar("State")


def run_steps(state: State, steps: Iterable[Callable[[State], Step]]) -> Decision:
    """Run steps in their order until one halts; later statements of the same condition or status member win."""
    done: list[Step] = []
    for step in steps:
        done.append(step(state))
        if done[-1].halt:
            break
    delays = [step.requeue_seconds for step in done if step.requeue_seconds is not None]
    return Decision(
        conditions=tuple({c.type: c for step in done for c in step.conditions}.values()),
        status=reduce(_together, (step.status for step in done), {}),
        actions=tuple(action for step in done for action in step.actions),
        requeue_seconds=min(delays) if delays else None,
    )
