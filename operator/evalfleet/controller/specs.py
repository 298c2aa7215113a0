"""Parsed EvaluationJobs and ScalingPolicies: parsing costs more than everything else of a pass.

A memo of pure functions by generation, no memory: what it forgets is computed again.
"""

from collections.abc import Callable, Container, Mapping
from typing import Any, Generic, TypeVar

from evalfleet import limits
from evalfleet.api.evaluationjob import EvaluationJob
from evalfleet.api.manifest import ManifestError, parse_evaluation_job
from evalfleet.api.scalingpolicy import ScalingPolicy
from evalfleet.controller.objects import uid_of

Object = Mapping[str, Any]
T = TypeVar("T")
Parsed = tuple[T | None, str]
"""The parsed object, or None and what is wrong with it."""


class Specs(Generic[T]):
    """Answers of one parser, by uid."""

    def __init__(self, parse: Callable[[Object], Parsed[T]]) -> None:
        self._parse = parse
        self._known: dict[str, tuple[int, Parsed[T]]] = {}

    def __contains__(self, uid: str) -> bool:
        return uid in self._known

    def of(self, body: Object) -> Parsed[T]:
        """The parsed object of this generation, or the problem with it."""
        uid, generation = uid_of(body), int(body["metadata"].get("generation") or 0)
        known = self._known.get(uid)
        if known is None or known[0] != generation:
            known = self._known[uid] = (generation, self._parse(body))
        return known[1]

    def forget(self, uid: str) -> None:
        """Forget one object."""
        self._known.pop(uid, None)

    def retain(self, uids: Container[str]) -> None:
        """Forget all others."""
        self._known = {uid: known for uid, known in self._known.items() if uid in uids}


def parsed_job(body: Object) -> Parsed[EvaluationJob]:
    """An EvaluationJob as people wrote it."""
    document = {key: body[key] for key in ("apiVersion", "kind", "metadata", "spec") if key in body}
    try:
        return parse_evaluation_job({**document, "metadata": _name(body)}, source="object"), ""
    except ManifestError as error:
        return None, "; ".join(str(problem) for problem in error.problems[: limits.PROBLEMS])


def parsed_policy(body: Object) -> Parsed[ScalingPolicy]:
    """A ScalingPolicy as people wrote it."""
    document = {key: body[key] for key in ("apiVersion", "kind", "spec") if key in body}
    try:
        return ScalingPolicy.model_validate({**document, "metadata": _name(body)}), ""
    except ValueError as error:
        return None, " ".join(str(error).split())[: limits.PROBLEM_MESSAGE]


def _name(body: Object) -> dict[str, Any]:
    return {key: body["metadata"][key] for key in ("name", "namespace")}
