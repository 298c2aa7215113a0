"""Who owns an object that has the name of a child already. Pure."""

from collections.abc import Mapping
from typing import Any

from evalfleet.kube.client import CONFLICT, KubeError

Object = Mapping[str, Any]


class NameTakenError(KubeError):
    """The name of a child belongs to another object.

    Attributes:
        passes: it is a child of a deleted EvaluationJob of the same name, which is being removed.
    """

    def __init__(self, message: str, *, passes: bool) -> None:
        super().__init__(CONFLICT, message)
        self.passes = passes


def controller_of(body: Object) -> Mapping[str, Any]:
    """The controlling owner reference, empty without one. Labels can be anybody's; this is kept by the API server."""
    owners = body["metadata"].get("ownerReferences") or []
    return next((owner for owner in owners if owner.get("controller")), {})


def require_same_owner(wanted: Object, found: Object) -> None:
    """Return if `found` is the child that we wanted to create.

    Raises:
        NameTakenError: it is somebody else's: its content is not what the pods of this job may read.
    """
    ours, theirs = controller_of(wanted), controller_of(found)
    if ours.get("uid") == theirs.get("uid"):
        return
    what = f"{wanted['kind']} {wanted['metadata']['namespace']}/{wanted['metadata']['name']}"
    if (ours.get("kind"), ours.get("name")) == (theirs.get("kind"), theirs.get("name")):
        raise NameTakenError(f"{what} of the predecessor of the same name is still being removed", passes=True)
    owner = f"{theirs.get('kind')} {theirs.get('name')}" if theirs else "nobody that it names"
    raise NameTakenError(
        f"{what} exists and is owned by {owner}: delete it, or give this job another name", passes=False
    )
