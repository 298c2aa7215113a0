"""What children of an EvaluationJob are called, whose they are, and the labels that they are found by. Pure."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from evalfleet.api.wire import API_VERSION

LABEL_RUN = "evalfleet.io/run"
LABEL_ROLE = "evalfleet.io/role"
LABEL_POOL = "evalfleet.io/pool"
LABEL_SLOT = "evalfleet.io/slot"
LABEL_CAPACITY_TYPE = "evalfleet.io/capacity-type"
ANNOTATION_PRICE = "evalfleet.io/price-per-hour"
MANAGED = {"app.kubernetes.io/managed-by": "evalfleet"}
PROGRESS_PORT = 9464
NAME_LIMIT = 63
DEFAULT_POLICY = "default"
"""The policy of an EvaluationJob that names none."""

Object = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Identity:
    """Which EvaluationJob children belong to."""

    namespace: str
    name: str
    uid: str

    @property
    def owner_references(self) -> list[Object]:
        """Children go when the EvaluationJob goes, with the operator or without."""
        return [
            {
                "apiVersion": API_VERSION,
                "kind": "EvaluationJob",
                "name": self.name,
                "uid": self.uid,
                "controller": True,
                "blockOwnerDeletion": False,
            }
        ]

    def child(self, suffix: str) -> str:
        """Deterministic name of a child, at most 63 characters."""
        name = f"{self.name}-{suffix}"
        if len(name) <= NAME_LIMIT and "." not in name:
            return name
        digest = hashlib.blake2b(self.name.encode(), digest_size=4).hexdigest()
        head = self.name.replace(".", "-")[: NAME_LIMIT - len(suffix) - 10].rstrip("-")
        return f"{head}-{digest}-{suffix}"


def metadata(owner: Identity, name: str, labels: Mapping[str, str]) -> Object:
    """The metadata of a child: labelled and owned, so that it goes with its EvaluationJob."""
    return {
        "name": name,
        "namespace": owner.namespace,
        "labels": {**MANAGED, LABEL_RUN: owner.uid, **labels},
        "ownerReferences": owner.owner_references,
    }
