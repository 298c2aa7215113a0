"""ScalingPolicies, each with all its jobs together: observe, decide, apply."""

from dataclasses import replace

from evalfleet.controller.act import is_refusal, refusal_words
from evalfleet.controller.memory import PolicyMemory
from evalfleet.controller.parts import Parts
from evalfleet.kube.resources import Key
from evalfleet.kube.spend import SpendBook
from evalfleet.reconcile.job.world import FleetVerdict
from evalfleet.reconcile.policy.decide import decide
from evalfleet.reconcile.policy.figures import figures, transitions
from evalfleet.reconcile.policy.outcome import DecideFleet, PolicyDecision
from evalfleet.reconcile.policy.pools import currency
from evalfleet.reconcile.policy.report import with_refusals
from evalfleet.reconcile.policy.settle import account, job_money
from evalfleet.reconcile.policy.world import World
from evalfleet_scaling.spend import SpendLedger
from evalfleet_scaling.spend_document import LedgerUnreadableError


class PolicyReconciler:
    """The protocol of reconciliation for ScalingPolicies, and for the implicit policy of a namespace without one."""

    def __init__(self, parts: Parts, book: SpendBook, decide_fleet: DecideFleet) -> None:
        self._parts = parts
        self._book = book
        self._decide_fleet = decide_fleet

    async def observe(self, key: Key) -> World:
        """The policy, its jobs, and what was spent up to now."""
        try:
            ledger, problem = await self._book.read(key, self._parts.kube.clock.now().timestamp()), ""
        except LedgerUnreadableError as error:
            ledger, problem = SpendLedger(), str(error)
        now = self._parts.kube.clock.now()
        observer, known = self._parts.observer, self._parts.memory.policies.get(key, PolicyMemory())
        body, jobs = self._parts.cache.get(key) or {"metadata": {}}, observer.policy_worlds(key, now)
        policy, policy_problem = observer.policy(key.namespace, key.name)
        pods = observer.paid_pods(key.namespace, jobs, policy, ledger.open)
        return World(
            now=now,
            policy=policy,
            jobs=jobs,
            memory=known.decision,
            seen=known.seen,
            ledger=ledger if problem else account(ledger, pods, observer.runs(key.namespace), now),
            paid_before=frozenset(entry.run for entry in ledger.open.values()),
            ledger_problem=problem,
            policy_problem=policy_problem,
            uid=str(body["metadata"].get("uid") or ""),
            generation=int(body["metadata"].get("generation") or 0),
            version=str(body["metadata"].get("resourceVersion") or ""),
            status=body.get("status") or {},
        )

    def decide(self, world: World) -> PolicyDecision:
        """All jobs together."""
        return decide(world, self._decide_fleet)

    async def apply(self, key: Key, world: World, decision: PolicyDecision) -> None:
        """The ledger before anything is done on it, then workers, what jobs are told, and the status."""
        if not world.ledger_problem:
            await self._book.keep(key, world.ledger, world.now.timestamp())
            self._remember_money(key, world)
        self._measure(key, world, decision)
        errors = await self._parts.actor.apply_each(decision.actions)
        decision = with_refusals(world, decision, {run: refusal_words(error) for run, error in errors.items()})
        self._remember(key, world, decision)
        await self._parts.statuses.write_policy(key, world, decision)
        unexpected = next((error for error in errors.values() if not is_refusal(error)), None)
        if unexpected is not None:
            raise unexpected
        if decision.requeue_seconds is not None:
            self._parts.queue.add_after(key, decision.requeue_seconds)

    def forget(self, key: Key) -> None:
        """A policy without an object has a state as well: its jobs run by built-in defaults."""

    def _measure(self, key: Key, world: World, decision: PolicyDecision) -> None:
        """Metrics of a policy; those of one that is gone go with its last job."""
        if decision.outcome is None:
            return
        telemetry = self._parts.telemetry
        telemetry.count(key, transitions(world, decision.outcome.seen))
        if world.policy is None and not world.jobs:
            telemetry.policies.figures.pop(key, None)
        else:
            telemetry.policies.figures[key] = figures(world)

    def _remember(self, key: Key, world: World, decision: PolicyDecision) -> None:
        """What the next passes need; jobs that are told something else than before look again."""
        outcome, memory = decision.outcome, self._parts.memory
        if outcome is not None:
            memory.policies[key] = PolicyMemory(outcome.decision.memory, outcome.seen)
            for uid in world.jobs:
                memory.run(uid).eta = outcome.etas.get(uid)
        for uid, verdict in decision.verdicts.items():
            run = memory.run(uid)
            if run.verdict is None or _without_message(run.verdict) != _without_message(verdict):
                self._parts.router.enqueue_run(key.namespace, uid)
            run.verdict = verdict

    def _remember_money(self, key: Key, world: World) -> None:
        """Remember what runs cost; one whose last worker was paid just now, or before we began, looks again."""
        ledger, money = world.ledger, self._parts.memory.money
        paid_for = {entry.run for entry in ledger.open.values()}
        ended = (world.paid_before | (ledger.runs.keys() - money.keys())) - paid_for
        for run in paid_for | ended:
            cost = job_money(ledger, run, currency(world.policy))
            if cost is not None:
                money[run] = cost
        for run in ended:
            self._parts.router.enqueue_run(key.namespace, run)


def _without_message(verdict: FleetVerdict) -> FleetVerdict:
    """What of it is news: the times that its message names move on."""
    return replace(verdict, message="")
