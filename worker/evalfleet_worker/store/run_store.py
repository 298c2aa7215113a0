"""One run in the store: its plan, its committed units, its failures, its results.

Everything that decides something is created at most once; everything else may be repeated.
"""

import hashlib
import json
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Self

from evalfleet_worker.protocol import FailureReason, RunError
from evalfleet_worker.requests import Answer, Request, Unit
from evalfleet_worker.store.layout import SEGMENT_UNITS, Layout
from evalfleet_worker.store.objects import Objects, open_objects
from evalfleet_worker.store.plan_file import CACHED_FILE, REQUESTS_FILE, Plan, PlanDraft
from evalfleet_worker.store.pool import pooled
from evalfleet_worker.store.request_file import RequestFile
from evalfleet_worker.store.segment import Listing, read_listing
from evalfleet_worker.tables import read_answers, requests_digest, write_answers, write_requests

__all__ = ["FailureRecord", "Plan", "PlanDraft", "RunStore"]


@dataclass(frozen=True, slots=True)
class FailureRecord:
    """One owner's failure on one unit.

    Attributes:
        unit: its index.
        owner: nonce of the worker's process and number of its engine process.
        worker: name of the worker, for people.
        reason: for machines.
        message: for people.
        kind: whose failure it is: `work`, `machine` or `crash`.
        evaluation: to which the unit belongs.
        fatal: no other try would succeed.
    """

    unit: int
    owner: str
    worker: str
    reason: str
    message: str
    kind: str = "crash"
    evaluation: str = ""
    fatal: bool = False


class RunStore:
    """The objects of one run; safe to use from many processes at once."""

    def __init__(self, objects: Objects, layout: Layout, uri: str = "") -> None:
        self.objects = objects
        self.layout = layout
        self._uri = uri.rstrip("/")
        self._requests: dict[str, RequestFile] = {}

    @classmethod
    def open(cls, store_uri: str, namespace: str, run_id: str, quick_to_fail: bool = False) -> Self:
        """The run in the store at a URI: a path, file://, s3://, gs://, az://; `quick_to_fail` as in `open_objects`.

        Raises:
            RunError: the store cannot be opened.
        """
        return cls(open_objects(store_uri, quick_to_fail), Layout(namespace, run_id), store_uri)

    @property
    def results_uri(self) -> str:
        """Where the results lie."""
        return f"{self._uri}/{self.layout.root}/results"

    def probe(self) -> None:
        """Make sure that the store can be written and creates an object at most once.

        Raises:
            RunError: STORE_NOT_EXCLUSIVE, STORE_UNWRITABLE or STORE_FULL.
        """
        path = f"{self.layout.root}/probe/{secrets.token_hex(8)}"
        first, second = self.objects.create(path, b"first"), self.objects.create(path, b"second")
        self.objects.delete(path)
        if not first or second:
            raise RunError(
                FailureReason.STORE_NOT_EXCLUSIVE,
                f"the store {self._uri} lets two writers create the same object: use one with conditional writes"
                " (S3, GCS, Azure, a local or NFSv4 directory)",
            )

    # Plan

    def read_plan(self) -> Plan | None:
        """The published plan, or None."""
        content = self.objects.get(self.layout.plan)
        return None if content is None else Plan.from_bytes(content)

    def publish_plan(self, draft: PlanDraft) -> Plan:
        """Publish a plan; when another planner was faster its plan is adopted."""
        attempt = secrets.token_hex(8)
        files = {REQUESTS_FILE: write_requests(draft.units), **draft.documents}
        if draft.cached:
            files[CACHED_FILE] = write_answers(draft.cached, {})
        for name, content in files.items():
            self.objects.put(self.layout.plan_file(attempt, name), content)
        plan = Plan(
            attempt=attempt,
            report=draft.report,
            units=tuple(unit for unit, _ in draft.units),
            unit_digests=tuple(requests_digest(requests) for _, requests in draft.units),
            documents={name: _digest(content) for name, content in files.items() if name != REQUESTS_FILE},
            extra=draft.extra,
        )
        if self.objects.create(self.layout.plan, plan.to_bytes()):
            return plan
        winner = self.read_plan()
        if winner is None:
            raise RunError(FailureReason.STORE_CORRUPT, "plan.json exists but cannot be read")
        return winner

    def read_document(self, plan: Plan, name: str) -> bytes:
        """A file that the planner put beside the requests.

        Raises:
            RunError: STORE_CORRUPT when it is missing or differs from its digest.
        """
        content = self.objects.get(self.layout.plan_file(plan.attempt, name))
        if content is None or _digest(content) != plan.documents.get(name):
            raise RunError(FailureReason.STORE_CORRUPT, f"{name} of the plan is missing or damaged: plan the run anew")
        return content

    def read_unit(self, plan: Plan, unit: Unit) -> list[Request]:
        """The requests of a unit.

        Raises:
            RunError: STORE_CORRUPT when they differ from the plan's digest.
        """
        if plan.attempt not in self._requests:
            path = self.layout.plan_file(plan.attempt, REQUESTS_FILE)
            self._requests[plan.attempt] = RequestFile(self.objects, path)
        try:
            requests = self._requests[plan.attempt].read(unit)
        except (OSError, ValueError) as error:
            raise RunError(FailureReason.STORE_CORRUPT, f"unit {unit.index} cannot be read: {error}") from error
        if requests_digest(requests) != plan.unit_digests[unit.index]:
            raise RunError(FailureReason.STORE_CORRUPT, f"the requests of unit {unit.index} are damaged: plan anew")
        return requests

    # Units

    def list_segment(self, segment: int) -> Listing:
        """State of the units of a segment."""
        return read_listing(self.objects.list(f"{self.layout.segment(segment)}/"))

    def commit(self, unit: Unit, owner: str, content: bytes) -> bool:
        """Create the unit's part; True when it is this owner's, also after a lost response or over a damaged part."""
        path = self.layout.part(unit.index)
        if self.objects.create(path, content):
            return True
        committed = self._part(unit)
        if committed is None:  # the part was damaged and is put aside now
            return self.objects.create(path, content)
        return committed[1].get("owner") == owner

    def read_answers(self, plan: Plan, unit: Unit) -> tuple[list[Answer], dict[str, str]] | None:
        """The committed answers of a unit with their metadata; a damaged part is put aside and executed again."""
        return self._part(unit)

    def units_done(self, plan: Plan) -> set[int]:
        """Indices of committed units."""
        return {unit for segment in segments(plan) for unit in self.list_segment(segment).done}

    def _part(self, unit: Unit) -> tuple[list[Answer], dict[str, str]] | None:
        path = self.layout.part(unit.index)
        content = self.objects.get(path)
        if content is None:
            return None
        try:
            return read_answers(content)
        except ValueError:
            self.objects.put(f"{self.layout.root}/quarantine/{unit.index}.{secrets.token_hex(4)}", content)
            if self.objects.get(path) == content:  # else another reader was faster and a good part may be there
                self.objects.delete(path)
            return None

    def record_comparison(self, unit: Unit, owner: str, content: Mapping[str, Any]) -> None:
        """What the loser of a commit found when it compared: `requests`, `mismatched`, `seconds`."""
        self.objects.put(self.layout.comparison(unit.index, owner), json.dumps(dict(content)).encode())

    def comparisons(self) -> list[dict[str, Any]]:
        """All comparisons of double executions."""
        return [json.loads(content) for content in self._read_below("twice")]

    def _read_below(self, folder: str) -> list[bytes]:
        """Contents of all objects below a folder of the run, in the order of their names."""
        paths = sorted(entry.path for entry in self.objects.list(f"{self.layout.root}/{folder}/"))
        return [content for content in pooled(self.objects.get, paths) if content]

    # Failures

    def record_failure(self, record: FailureRecord) -> None:
        """Keep one owner's failure on a unit."""
        self.objects.put(self.layout.failure(record.unit, record.owner), json.dumps(asdict(record)).encode())

    def failures(self, unit: int) -> list[FailureRecord]:
        """Failure records of a unit."""
        return self._records(f"failures/{unit}")

    def all_failures(self) -> list[FailureRecord]:
        """Failure records of all units."""
        return self._records("failures")

    def end_evaluation(self, record: FailureRecord) -> None:
        """Nobody scores the record's evaluation any more; the first record says why."""
        self.objects.create(self.layout.ended(record.evaluation), json.dumps(asdict(record)).encode())

    def ended_evaluations(self) -> dict[str, FailureRecord]:
        """Why evaluations ended before all their units were scored."""
        return {record.evaluation: record for record in self._records("ended")}

    def _records(self, folder: str) -> list[FailureRecord]:
        """All records below a folder of the run, in the order of their names."""
        entries = sorted(entry.path for entry in self.objects.list(f"{self.layout.root}/{folder}/"))
        return [_record(content) for path in entries if (content := self.objects.get(path))]

    def give_up(self, record: FailureRecord) -> None:
        """Mark a unit as failed for good; a good result always wins until the summary exists."""
        self.objects.create(self.layout.failed(record.unit), json.dumps(asdict(record)).encode())

    def failed_units(self, plan: Plan) -> dict[int, FailureRecord]:
        """Units that failed for good and have no result."""
        failed = sorted(unit for segment in segments(plan) for unit in self.list_segment(segment).failed)
        contents = pooled(lambda unit: self.objects.get(self.layout.failed(unit)), failed)
        return {unit: _record(content) for unit, content in zip(failed, contents, strict=True) if content is not None}

    # Results

    def publish_results(self, files: Mapping[str, bytes], summary: Mapping[str, Any]) -> dict[str, Any]:
        """Publish results; when another finisher was faster its summary is returned. Claims and units go."""
        attempt = secrets.token_hex(8)
        for name, content in files.items():
            self.objects.put(self.layout.result_file(attempt, name), content)
        digests = {name: _digest(content) for name, content in files.items()}
        body = {
            **summary,
            "attempt": attempt,
            "files": digests,
            "digest": _digest(repr(sorted(digests.items())).encode()),
        }
        self.objects.create(self.layout.summary, json.dumps(body, indent=2, allow_nan=False).encode())
        winner = self.read_summary()
        if winner is None:
            raise RunError(FailureReason.STORE_CORRUPT, "summary.json exists but cannot be read")
        self._sweep(winner["attempt"])
        return winner

    def read_summary(self) -> dict[str, Any] | None:
        """summary.json, or None while the run is not finished."""
        content = self.objects.get(self.layout.summary)
        return None if content is None else dict(json.loads(content))

    def published_at(self) -> str:
        """When summary.json was written (RFC 3339, UTC); empty while there is none."""
        return self.objects.modified(self.layout.summary)

    def read_result(self, name: str) -> bytes:
        """A published result file.

        Raises:
            RunError: INCOMPLETE or STORE_CORRUPT.
        """
        summary = self.read_summary()
        if summary is None:
            raise RunError(FailureReason.INCOMPLETE, "the run has no results yet")
        content = self.objects.get(self.layout.result_file(summary["attempt"], name))
        if content is None or _digest(content) != summary["files"].get(name):
            raise RunError(FailureReason.STORE_CORRUPT, f"result {name} is missing or damaged")
        return content

    def _sweep(self, attempt: str) -> None:
        """Remove what the results replace: claims, units, losing attempts, leftovers of killed writes."""
        keep = f"{self.layout.root}/results/{attempt}/"
        for folder in ("segments", "twice", "failures", "ended", "probe", "results"):
            paths = (entry.path for entry in self.objects.list(f"{self.layout.root}/{folder}/"))
            self.objects.delete_all(
                [path for path in paths if not path.startswith(keep) and path != self.layout.summary]
            )


def segments(plan: Plan) -> range:
    """Segment numbers of a plan."""
    return range(-(-len(plan.units) // SEGMENT_UNITS))


def segment_units(plan: Plan, segment: int) -> range:
    """Unit indices of a segment."""
    first = segment * SEGMENT_UNITS
    return range(first, min(first + SEGMENT_UNITS, len(plan.units)))


def _digest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def _record(content: bytes) -> FailureRecord:
    data = json.loads(content)
    known = {field.name for field in fields(FailureRecord)}
    return FailureRecord(**{name: value for name, value in data.items() if name in known})
