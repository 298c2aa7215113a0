"""Setbacks: what goes wrong again and again for one run, and which machines to keep away from. Pure fold over passes.

A setback is nobody's failure. It makes the operator wait before it tries the same again, longer each time, with a
spread that depends on run and pool alone: runs that were thrown out together do not come back together. What the job's
own objects break holds that job back everywhere; what a machine breaks holds it back on that pool, and everybody away
from that machine.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from evalfleet import limits
from evalfleet.reconcile.children import Child, Phase
from evalfleet.reconcile.job.state import JobState, WorkerView
from evalfleet.reconcile.job.terminal import stamp
from evalfleet.reconcile.liveness import (
    THROWN_OUT,
    Ended,
    Gone,
    NoNode,
    Patience,
    Silent,
    Starting,
    Verdict,
    alive_beside,
    bound_at,
    clock_ahead,
    judge,
    moment,
)
from evalfleet.reconcile.pod_reasons import Reason, Whose, request_of, resource_of

ANYWHERE = ""
"""In place of a pool: no other pool would help."""
MACHINES_FAULT = THROWN_OUT | {"NodeLost", "Stuck"}


@dataclass(frozen=True, slots=True)
class Setback:
    """What went wrong for one run on one pool.

    Attributes:
        count: how often in a row.
        first_seconds, until_seconds: when it began, and until when nothing is started there.
        why: what happened the last time.
        resources: what kubelets ran out of, one entry per eviction.
    """

    count: int
    first_seconds: float
    until_seconds: float
    why: Reason
    resources: tuple[str, ...] = ()

    @property
    def advice(self) -> str | None:
        """Which request to raise, once the same resource has run out several times."""
        for resource in self.resources:
            times = self.resources.count(resource)
            if times >= limits.SAME_RESOURCE:
                what = f"{request_of(resource, 'resources')} (of the policy, or of a new job)"
                return f"evicted {times} times for lack of {resource}: raise {what}"
        return None


@dataclass(frozen=True, slots=True)
class Avoided:
    """A machine to keep away from."""

    count: int
    until_seconds: float


@dataclass(frozen=True, slots=True)
class Setbacks:
    """What went wrong in the jobs of a policy.

    Attributes:
        runs: by uid and name of the pool, or ANYWHERE.
        nodes: machines to keep away from.
        judged: uids of pods (of Jobs without one) that are counted, as long as they exist.
        lost: names of the worker Jobs that are given up now.
    """

    runs: Mapping[str, Mapping[str, Setback]] = field(default_factory=dict)
    nodes: Mapping[str, Avoided] = field(default_factory=dict)
    judged: frozenset[str] = frozenset()
    lost: frozenset[str] = frozenset()

    def holds_back(self, run: str, pool: str, now: datetime) -> bool:
        """Whether nothing of a run is to be started on a pool now."""
        known = self.runs.get(run, {})
        return any(now.timestamp() < known[key].until_seconds for key in (ANYWHERE, pool) if key in known)

    def probes(self, run: str) -> bool:
        """Whether a run tries with one worker whether it can run at all."""
        return ANYWHERE in self.runs.get(run, {})

    def newest(self, run: str) -> Setback | None:
        """What a run says of its setbacks."""
        return max(self.runs.get(run, {}).values(), key=lambda setback: setback.until_seconds, default=None)

    def avoided(self, now: datetime) -> tuple[str, ...]:
        """The machines that new pods keep away from, the newest first."""
        found = [
            (node.until_seconds, name) for name, node in self.nodes.items() if now.timestamp() < node.until_seconds
        ]
        return tuple(name for _, name in sorted(found, reverse=True)[: limits.AVOIDED])


@dataclass(frozen=True, slots=True)
class _Blow:
    """What happened to one worker: whether it counts for its run (where), and for its machine."""

    why: Reason
    pool: str | None = None
    machine: bool = False


PatienceOf = Callable[[JobState, WorkerView], Patience]


def judge_workers(
    before: Setbacks, jobs: Mapping[str, JobState], patience: PatienceOf, own: Callable[[str], bool], now: datetime
) -> Setbacks:
    """The next state after looking at all workers of a policy.

    Args:
        before: the state of the last pass.
        jobs: by uid.
        patience: how long a worker may take.
        own: whether a worker (by the name of its Job) waits for a node that its pool does not lack: a fault of its job.
        now: server-adjusted time.
    """
    fold = _Fold(before, jobs, now)
    for uid, job in jobs.items():
        for view in job.workers:
            if view.deleting or view.child.phase not in (Phase.WAITING, Phase.RUNNING):
                continue
            blow = _blow(view, patience(job, view), own, now)
            if blow is not None and _is_counted(job, view):
                fold.note(uid, view.child, blow)
    return fold.result()


def _is_counted(job: JobState, view: WorkerView) -> bool:
    """Whether the failures of a worker are in its job's status: with its Job they would be forgotten."""
    listed = (job.status.get("workers") or {}).get("failed") or []
    return view.failures <= sum(int(entry["count"]) for entry in listed if entry["uid"] == view.uid)


def reason_of(setback: Setback) -> tuple[str, str]:
    """Reason and message of a run that is held back."""
    again = stamp(datetime.fromtimestamp(setback.until_seconds, UTC))
    parts = [setback.advice, setback.why.message, f"tried again at {again}"]
    return setback.why.reason, "; ".join(part for part in parts if part)


def _blow(view: WorkerView, patience: Patience, own: Callable[[str], bool], now: datetime) -> _Blow | None:
    """What is wrong with a worker, None when nothing is, or when that is nobody's matter but its Job's."""
    child, pod = view.child, view.child.pod
    if child.whose is Whose.JOB:
        since = view.created if pod is None else bound_at(pod) or moment(pod["metadata"].get("creationTimestamp"))
        settled = since is None or (now - since).total_seconds() > limits.SETTLING_SECONDS
        return _Blow(Reason(child.reason, child.message, Whose.JOB), ANYWHERE) if settled else None
    if pod is None:
        return None
    verdict = judge(pod, now, patience, view.heard)
    why = Reason(child.reason, child.message)
    if isinstance(verdict, NoNode) and now > verdict.until and own(child.name):
        return _Blow(verdict.why, view.pool)
    return _blow_of_machine(verdict, pod, why, view.pool, now)


def _blow_of_machine(
    verdict: Verdict, pod: Mapping[str, object], why: Reason, pool: str, now: datetime
) -> _Blow | None:
    match verdict:
        case Gone(cause, message) if cause in MACHINES_FAULT:
            return _Blow(Reason(cause, message), pool if cause in THROWN_OUT else None, machine=True)
        case Starting(until, waits) if now > until:
            return _Blow(Reason(waits.reason, f"it did not start in time: {waits.message}"), pool, machine=True)
        case Silent(since):
            message = f"it has not moved since {stamp(since)} and is replaced"
            return _Blow(Reason("Silent", message), pool, machine=True)
        case Ended() if alive_beside(pod) or clock_ahead(pod, now):
            return _Blow(why, pool)  # its Job would never try again, or only when its node's clock says so
        case _:
            return None


class _Fold:
    """Working copy of the setbacks; lives inside one fold."""

    def __init__(self, before: Setbacks, jobs: Mapping[str, JobState], now: datetime) -> None:
        self._now = now.timestamp()
        self._before = before
        self._jobs = jobs
        self._runs = {uid: self._remembered(uid, job, before.runs.get(uid, {})) for uid, job in jobs.items()}
        self._nodes = {
            name: node
            for name, node in before.nodes.items()
            if self._now < node.until_seconds + limits.SETBACK_FORGET_SECONDS
        }
        self._judged: set[str] = set()
        self._lost: set[str] = set()

    def note(self, run: str, child: Child, blow: _Blow) -> None:
        """One worker that is given up; it is counted once, however often it is seen."""
        pod = child.pod
        uid = child.name if pod is None else str(pod["metadata"]["uid"])
        self._judged.add(uid)
        self._lost.add(child.name)
        if uid in self._before.judged:
            return
        if blow.pool is not None:
            self._set_back(run, blow.pool, blow.why)
        node = "" if pod is None else str((pod.get("spec") or {}).get("nodeName") or "")
        if blow.machine and node:
            self._avoid(node)

    def result(self) -> Setbacks:
        """The new state."""
        runs = {uid: setbacks for uid, setbacks in self._runs.items() if setbacks}
        return Setbacks(runs, self._nodes, frozenset(self._judged), frozenset(self._lost))

    def _remembered(self, uid: str, job: JobState, before: Mapping[str, Setback]) -> dict[str, Setback]:
        """Setbacks that are no history yet; what held a run back everywhere is over as soon as a worker of it runs."""
        runs_again = any(
            view.child.phase is Phase.RUNNING and view.created.timestamp() >= before[ANYWHERE].first_seconds
            for view in (job.workers if ANYWHERE in before else ())
        )
        return {
            pool: setback
            for pool, setback in before.items()
            if self._now - setback.until_seconds < limits.SETBACK_FORGET_SECONDS
            and not (pool == ANYWHERE and runs_again)
        }

    def _set_back(self, run: str, pool: str, why: Reason) -> None:
        known = self._runs[run].get(pool)
        resource = resource_of(why.message) if why.reason in ("Evicted", "Rejected") else None
        resources = (*(known.resources if known else ()), *((resource,) if resource else ()))[
            -2 * limits.SAME_RESOURCE :
        ]
        if known is not None and self._now < known.until_seconds:  # many workers, one blow
            self._runs[run][pool] = replace(known, why=why, resources=resources)
            return
        count = 1 if known is None else known.count + 1
        first = self._now if known is None else known.first_seconds
        until = self._now + pause_seconds(count, f"{run}/{pool}")
        self._runs[run][pool] = Setback(count, first, until, why, resources)

    def _avoid(self, name: str) -> None:
        known = self._nodes.get(name)
        if known is not None and self._now < known.until_seconds:
            return
        count = 1 if known is None else known.count + 1
        seconds = min(limits.AVOID_SECONDS * 2.0 ** (count - 1), limits.AVOID_LONGEST_SECONDS)
        self._nodes[name] = Avoided(count, self._now + seconds)


def pause_seconds(count: int, who: str) -> float:
    """How long to wait after so many setbacks in a row, spread by who waits."""
    plain = min(limits.SETBACK_PAUSE_SECONDS * 2.0 ** (min(count, 32) - 1), limits.LONGEST_PAUSE_SECONDS)
    draw = int.from_bytes(hashlib.blake2b(f"{who}/{count}".encode(), digest_size=4).digest(), "big") / 2**32
    return plain * (1.0 + limits.PAUSE_SPREAD * (2.0 * draw - 1.0))
