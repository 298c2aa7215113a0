"""EvaluationJobs, one at a time: observe, decide, apply."""

from dataclasses import replace

from evalfleet import limits
from evalfleet.controller.act import is_refusal, refusal_reason
from evalfleet.controller.objects import has_ended, identity_of, uid_of
from evalfleet.controller.parts import Parts
from evalfleet.kube.client import KubeError
from evalfleet.kube.resources import Key
from evalfleet.reconcile.decision import Decision
from evalfleet.reconcile.in_words import with_state
from evalfleet.reconcile.job.decide import decide
from evalfleet.reconcile.job.state import JobState
from evalfleet.reconcile.job.terminal import held


class JobReconciler:
    """The protocol of reconciliation for EvaluationJobs."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def observe(self, key: Key) -> JobState | None:
        """The EvaluationJob and what belongs to it."""
        body = self._parts.cache.get(key)
        if body is not None and not has_ended(body):
            await self._parts.runs.load((identity_of(body),))
        return self._parts.observer.job_state(key, self._parts.kube.clock.now())

    def decide(self, state: JobState) -> Decision:
        """The steps in their order."""
        return decide(state)

    async def apply(self, key: Key, state: JobState, decision: Decision) -> None:
        """Children first, then the status that says what was done; a refusal is said before it is tried again."""
        if state.counted_preemptions:
            self._parts.memory.run(state.identity.uid).count(state.counted_preemptions)
        try:
            await self._parts.actor.apply(decision.actions)
        except KubeError as error:
            if is_refusal(error):
                refused = replace(decision, conditions=(*decision.conditions, *held(*refusal_reason(error))))
                await self._write(key, state, with_state(refused))
            raise
        await self._write(key, state, decision)
        self._forget_history(key)
        if decision.requeue_seconds is not None:
            self._parts.queue.add_after(key, decision.requeue_seconds)

    def forget(self, key: Key) -> None:
        """It is gone."""
        self._parts.statuses.forget(key)

    async def _write(self, key: Key, state: JobState, decision: Decision) -> None:
        written = await self._parts.statuses.write_job(key, state, decision)
        if written.held_back:
            self._parts.queue.add_after(key, limits.PROGRESS_WRITE_SECONDS)
        if written.body is not None and written.is_news:  # its echo is no news: what it changes is seen here
            self._parts.router.enqueue_for("EvaluationJob", written.body)
        await self._parts.statuses.announce(written)

    def _forget_history(self, key: Key) -> None:
        """One that has ended and left nothing is looked at a few times more; thousands of them are kept."""
        body = self._parts.cache.get(key)
        if body is not None and self._parts.observer.is_history(body):
            self._parts.memory.forget(uid_of(body))
            self._parts.observer.jobs.forget(uid_of(body))
            self._parts.runs.forget(uid_of(body))
