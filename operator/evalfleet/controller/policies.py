"""ScalingPolicies, each with all its jobs together: observe, decide, apply."""

import logging
from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timedelta

from evalfleet import limits
from evalfleet.controller.act import is_refusal, refusal_reason
from evalfleet.controller.memory import PolicyMemory
from evalfleet.controller.objects import has_ended, identity_of
from evalfleet.controller.parts import Parts
from evalfleet.kube.resources import Key
from evalfleet.kube.spend import LedgerUnwritableError, SpendBook
from evalfleet.reconcile.job.state import Admission
from evalfleet.reconcile.policy.decide import decide
from evalfleet.reconcile.policy.figures import figures, transitions
from evalfleet.reconcile.policy.outcome import DecideFleet, PolicyDecision
from evalfleet.reconcile.policy.pools import currency
from evalfleet.reconcile.policy.report import unwritable, with_refusals
from evalfleet.reconcile.policy.settle import PaidPod, account, job_money
from evalfleet.reconcile.policy.state import PolicyState
from evalfleet_scaling.spend import SpendLedger
from evalfleet_scaling.spend_document import LedgerUnreadableError

log = logging.getLogger(__name__)


class PolicyReconciler:
    """The protocol of reconciliation for ScalingPolicies, and for the implicit policy of a namespace without one."""

    def __init__(self, parts: Parts, book: SpendBook, decide_fleet: DecideFleet) -> None:
        self._parts = parts
        self._book = book
        self._decide_fleet = decide_fleet

    async def observe(self, key: Key) -> PolicyState:
        """The policy, its jobs, and what was spent up to now."""
        try:
            ledger, problem = await self._book.read(key, self._parts.kube.clock.now().timestamp()), ""
        except LedgerUnreadableError as error:
            ledger, problem = SpendLedger(), str(error)
        now = self._parts.kube.clock.now()
        observer, known = self._parts.observer, self._parts.memory.policies.get(key, PolicyMemory())
        body = self._parts.cache.get(key) or {"metadata": {}}
        paid_before = frozenset(entry.run for entry in ledger.open.values())
        active = observer.active_jobs(key, paid_before)
        await self._parts.runs.load(identity_of(job) for job in active if not has_ended(job))
        jobs = observer.job_states(active, now)
        policy, policy_problem = observer.policy(key.namespace, key.name)
        pods = observer.paid_pods(key.namespace, jobs, policy, ledger.open)
        return PolicyState(
            now=now,
            policy=policy,
            jobs=jobs,
            memory=known.decision,
            pool_histories=known.pool_histories,
            setbacks=known.setbacks,
            ledger=ledger if problem else account(ledger, pods, observer.runs(key.namespace), now),
            paid_before=paid_before,
            clocks_ahead=_clocks_ahead(pods, ledger, now),
            ledger_problem=problem,
            policy_problem=policy_problem,
            uid=str(body["metadata"].get("uid") or ""),
            generation=int(body["metadata"].get("generation") or 0),
            version=str(body["metadata"].get("resourceVersion") or ""),
            status=body.get("status") or {},
        )

    def decide(self, state: PolicyState) -> PolicyDecision:
        """All jobs together."""
        return decide(state, self._decide_fleet)

    async def apply(self, key: Key, state: PolicyState, decision: PolicyDecision) -> None:
        """The ledger before anything is done on it, then workers, admissions, and the status."""
        if not state.ledger_problem:
            try:
                await self._book.keep(key, state.ledger, state.now.timestamp())
            except LedgerUnwritableError as error:
                decision = unwritable(state, decision, str(error))
            self._remember_money(key, state)
        self._measure(key, state, decision)
        errors = await self._parts.actor.apply_each(decision.actions)
        decision = with_refusals(state, decision, {run: refusal_reason(error) for run, error in errors.items()})
        self._remember(key, state, decision)
        await self._parts.statuses.write_policy(key, state, decision)
        unexpected = next((error for error in errors.values() if not is_refusal(error)), None)
        if unexpected is not None:
            raise unexpected
        if decision.requeue_seconds is not None:
            self._parts.queue.add_after(key, decision.requeue_seconds)

    def forget(self, key: Key) -> None:
        """A policy without an object has a state as well: its jobs run by built-in defaults."""

    def _measure(self, key: Key, state: PolicyState, decision: PolicyDecision) -> None:
        """Metrics of a policy; those of one that is gone go with its last job."""
        if decision.outcome is None:
            return
        telemetry = self._parts.telemetry
        telemetry.count(key, transitions(state, decision.outcome.pool_histories))
        if state.clocks_ahead:
            log.warning("clocks of nodes are ahead: pods %s", ", ".join(state.clocks_ahead), extra={"object": key})
            telemetry.clocks_ahead.labels(key.namespace, key.name).inc(len(state.clocks_ahead))
        if state.policy is None and not state.jobs:
            telemetry.policies.figures.pop(key, None)
        else:
            telemetry.policies.figures[key] = figures(state)

    def _remember(self, key: Key, state: PolicyState, decision: PolicyDecision) -> None:
        """What the next passes need; jobs whose admission is another than before look again."""
        outcome, memory = decision.outcome, self._parts.memory
        if outcome is not None:
            memory.policies[key] = PolicyMemory(outcome.decision.memory, outcome.pool_histories, outcome.setbacks)
            for uid in state.jobs:
                memory.run(uid).eta = outcome.etas.get(uid)
        for uid, admission in decision.admissions.items():
            run = memory.run(uid)
            if run.admission is None or _without_message(run.admission) != _without_message(admission):
                self._parts.router.enqueue_run(key.namespace, uid)
            run.admission = admission

    def _remember_money(self, key: Key, state: PolicyState) -> None:
        """Remember what runs cost; one whose last worker was paid just now, or before we began, looks again."""
        ledger, money = state.ledger, self._parts.memory.money
        paid_for = {entry.run for entry in ledger.open.values()}
        ended = (state.paid_before | (ledger.runs.keys() - money.keys())) - paid_for
        for run in paid_for | ended:
            known = money.get(run)
            unit = currency(state.policy) if state.policy is not None or known is None else known.currency
            cost = job_money(ledger, run, unit)
            if cost is not None:
                money[run] = cost
        for run in ended:
            self._parts.router.enqueue_run(key.namespace, run)


def _clocks_ahead(pods: Iterable[PaidPod], ledger: SpendLedger, now: datetime) -> tuple[str, ...]:
    """Uids of the pods that have ended in the future, by their nodes' clocks, and are not settled yet."""
    latest = now + timedelta(seconds=limits.CLOCK_AHEAD_SECONDS)
    ended = (pod for pod in pods if pod.ended is not None and pod.ended > latest)
    return tuple(pod.uid for pod in ended if pod.uid not in ledger.closed)


def _without_message(admission: Admission) -> Admission:
    """What of it is news: the times that its message names move on."""
    return replace(admission, message="")
