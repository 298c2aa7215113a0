"""A decision in steps: what one step states and asks for, and how the statements of all become one."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from typing import Any, TypeVar

from evalfleet.reconcile.conditions import NOT_REACHED, Condition, unknown
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


Owned = Mapping[Callable[[State], Step], tuple[str, ...]]
"""The types of condition that each step owns."""


def run_steps(state: State, steps: Sequence[Callable[[State], Step]], owned: Owned[State]) -> Decision:
    """Run steps in their order until one halts; later statements of the same condition or status member win.

    What the halting step and those after it own and nobody has stated is Unknown, with the reason of the halt.
    """
    done: list[Step] = []
    for step in steps:
        done.append(step(state))
        if done[-1].halt:
            break
    delays = [step.requeue_seconds for step in done if step.requeue_seconds is not None]
    stated = {c.type: c for step in done for c in step.conditions}
    missed = [kind for step in steps[len(done) - 1 :] for kind in owned.get(step, ()) if kind not in stated]
    return Decision(
        conditions=(*stated.values(), *_not_reached(missed, stated.get("Ready"))),
        status=reduce(_together, (step.status for step in done), {}),
        actions=tuple(action for step in done for action in step.actions),
        requeue_seconds=min(delays) if delays else None,
    )


def _not_reached(kinds: Iterable[str], ready: Condition | None) -> Iterable[Condition]:
    """The conditions of steps that had no turn; `Ready` says what stands before them."""
    why = "nothing is known yet" if ready is None else f"{ready.reason}: {ready.message}"
    return (unknown(kind, NOT_REACHED, why) for kind in kinds)
