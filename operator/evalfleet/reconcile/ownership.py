"""Who owns an object that has the name of a child already. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Object = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class NameTaken:
    """The name of a child belongs to another object.

    Attributes:
        message: which, whose, and what to do.
        passes: it is a child of a deleted EvaluationJob of the same name, which is being removed.
    """

    message: str
    passes: bool


def controller_of(body: Object) -> Mapping[str, Any]:
    """The controlling owner reference, empty without one. Labels can be anybody's; this is kept by the API server."""
    owners = body["metadata"].get("ownerReferences") or []
    return next((owner for owner in owners if owner.get("controller")), {})


def name_taken(wanted: Object, found: Object) -> NameTaken | None:
    """None if `found` is the child that we wanted to create; else its content is not what our pods may read."""
    ours, theirs = controller_of(wanted), controller_of(found)
    if ours.get("uid") == theirs.get("uid"):
        return None
    what = f"{wanted['kind']} {wanted['metadata']['namespace']}/{wanted['metadata']['name']}"
    if (ours.get("kind"), ours.get("name")) == (theirs.get("kind"), theirs.get("name")):
        return NameTaken(f"{what} of the predecessor of the same name is still being removed", passes=True)
    owner = f"{theirs.get('kind')} {theirs.get('name')}" if theirs else "nobody that it names"
    advice = "delete it, or give this job another name"
    return NameTaken(f"{what} exists and is owned by {owner}: {advice}", passes=False)
