"""plan.json: the winning plan attempt, its units and the digests of its files."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from evalfleet_worker.protocol import FailureReason, Numerics, PlanReport, RunError, from_json, require_version, to_json
from evalfleet_worker.requests import Answer, Request, Unit

REQUESTS_FILE = "requests.parquet"
CACHED_FILE = "cached.parquet"


@dataclass(frozen=True, slots=True)
class PlanDraft:
    """A plan that is not published yet.

    Attributes:
        report: its size.
        units: every unit with its requests, in order.
        documents: files that finishing needs, by name.
        cached: answers that are known already.
        extra: JSON-ready facts for the finisher.
    """

    report: PlanReport
    units: Sequence[tuple[Unit, Sequence[Request]]]
    documents: Mapping[str, bytes] = field(default_factory=dict)
    cached: Sequence[Answer] = ()
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Plan:
    """A published plan.

    Attributes:
        attempt: the winning attempt.
        report: its size.
        units: every unit, in order.
        unit_digests: digest of each unit's requests.
        documents: digest of each document, by name.
        extra: JSON-ready facts for the finisher.
    """

    attempt: str
    report: PlanReport
    units: tuple[Unit, ...]
    unit_digests: tuple[str, ...]
    documents: Mapping[str, str]
    extra: Mapping[str, Any]

    @property
    def numerics(self) -> Numerics | None:
        """The class of arithmetic that every answer must have; None where the plan chose none."""
        chosen = self.extra.get("numerics")
        return from_json(Numerics, chosen) if chosen else None

    def to_bytes(self) -> bytes:
        """JSON form."""
        content = {
            "attempt": self.attempt,
            "report": to_json(self.report),
            "units": [[u.first_row, u.row_count, u.tokens, u.predicted_seconds] for u in self.units],
            "unitDigests": list(self.unit_digests),
            "documents": dict(self.documents),
            "extra": dict(self.extra),
        }
        return json.dumps(content, separators=(",", ":")).encode()

    @classmethod
    def from_bytes(cls, content: bytes) -> "Plan":
        """Read the JSON form.

        Raises:
            RunError: STORE_CORRUPT; PROTOCOL_UNKNOWN when another version wrote it.
        """
        try:
            data = json.loads(content)
            require_version(data["report"], "the plan")
            units = tuple(Unit(index, *row) for index, row in enumerate(data["units"]))
            report = from_json(PlanReport, data["report"])
            digests = tuple(data["unitDigests"])
            return cls(data["attempt"], report, units, digests, data["documents"], data["extra"])
        except (ValueError, KeyError, TypeError) as error:
            raise RunError(FailureReason.STORE_CORRUPT, f"plan.json cannot be read: {error}") from error
