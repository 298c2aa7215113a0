"""Plan and finish of an lm-eval evaluation."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from evalfleet_worker.harness.interface import HarnessContext, HarnessPlan, HarnessResult, Replay
from evalfleet_worker.harness.lm_eval.bootstrap import fixed_draws
from evalfleet_worker.harness.lm_eval.call_encoder import CallEncoder
from evalfleet_worker.harness.lm_eval.documents import DocumentStore, documents_of_tasks
from evalfleet_worker.harness.lm_eval.odd import odd_documents
from evalfleet_worker.harness.lm_eval.owndata import OwnTasks
from evalfleet_worker.harness.lm_eval.publish import published
from evalfleet_worker.harness.lm_eval.sandbox import metric_code, refuse_hub_metrics, remote_code, sandbox_templates
from evalfleet_worker.harness.lm_eval.tasks import (
    LoadedTasks,
    build_requests,
    call_digest,
    calls,
    chosen_samples,
    load_tasks,
    prompt_options,
    template_arguments,
)
from evalfleet_worker.harness.offline import hub_access
from evalfleet_worker.protocol import EvaluationSpec, FailureReason, LmEvalSpec, RunError
from evalfleet_worker.requests import RequestType


class LmEvalHarness:
    """lm-evaluation-harness by record and replay."""

    def plan(self, evaluation: EvaluationSpec, context: HarnessContext) -> HarnessPlan:
        """Load the tasks, let them build their requests, rehearse the finish, and encode."""
        spec, documents = _spec(evaluation), DocumentStore()
        with documents_of_tasks(documents, OwnTasks(spec, context.run).load), _guarded(context):
            recorded = _record(spec, context)
            odd = odd_documents(recorded.loaded, spec)
        files = documents.files()
        context.progress(f"{evaluation.name}: encoding {sum(map(len, recorded.calls.values()))} requests")
        overrides = {} if spec.think_end_token is None else {"think_end_token": spec.think_end_token}
        encoder = CallEncoder(evaluation.name, context.encoder(), context.generation_config, overrides)
        requests = [
            request
            for kind, instances in recorded.calls.items()
            for index, instance in enumerate(instances)
            for request in encoder.requests(RequestType(kind), index, instance)
        ]
        context.progress(f"{evaluation.name}: rehearsing the finish")
        rehearsed = _rehearsed(spec, context, files, recorded)
        warnings = [*recorded.warnings(), *odd, *rehearsed]
        return HarnessPlan(requests, _samples(recorded.loaded), files, recorded.digest, warnings)

    def finish(self, evaluation: EvaluationSpec, context: HarnessContext, replay: Replay) -> HarnessResult:
        """Build the tasks anew from the stored documents and give lm-eval the answers."""
        from evalfleet_worker.harness.lm_eval.models import ReplayModel

        spec = _spec(evaluation)
        with documents_of_tasks(DocumentStore(replay.documents)), _guarded(context):
            recorded = _record(spec, context, replaying=True)
            if recorded.digest != replay.digest:
                raise _changed(evaluation.name)
            model = ReplayModel(context.encoder, lambda kind, index: replay.answers.get((kind, index), ()))
            with fixed_draws(lambda words: context.progress(f"{evaluation.name}: {words}")) as bootstraps:
                official = _evaluate(model, recorded.loaded, spec, context)
            result = published(evaluation.name, official, recorded.loaded, bootstraps)
        return replace(result, results=()) if spec.predict_only else result


@dataclass(frozen=True, slots=True)
class _Recorded:
    """Built tasks and the calls that they make of a model, by request type."""

    loaded: LoadedTasks
    calls: dict[str, list[Any]]
    digest: str
    without_system: int

    def warnings(self) -> list[str]:
        dropped = (
            f"the chat template leaves out the system message of {self.without_system} prompts (systemInstruction, or "
            "the task's description), as it does in lm-eval: write it into the template or into doc_to_text"
        )
        return [*self.loaded.warnings, *([dropped] if self.without_system else [])]


def _spec(evaluation: EvaluationSpec) -> LmEvalSpec:
    assert evaluation.lm_eval is not None
    return evaluation.lm_eval


@contextmanager
def _guarded(context: HarnessContext) -> Iterator[None]:
    """While active, neither tokenizers nor metrics bring code of their own, unless that is allowed."""
    with remote_code(context.run.model.trust_remote_code), metric_code(context.run.allow_unsafe_code):
        yield


def _record(spec: LmEvalSpec, context: HarnessContext, replaying: bool = False) -> _Recorded:
    from evalfleet_worker.harness.lm_eval.models import PromptModel

    sandbox_templates()
    refuse_hub_metrics()
    loaded = load_tasks(spec, context.run, replaying)
    model = PromptModel(context.encoder, template_arguments(spec))
    build_requests(loaded, spec, model)
    made = calls(loaded)
    return _Recorded(loaded, made, call_digest(made), model.without_system)


def _rehearsed(spec: LmEvalSpec, context: HarnessContext, files: Mapping[str, bytes], recorded: _Recorded) -> list[str]:
    """Play the finish from the stored documents, without the network; returns warnings."""
    from evalfleet_worker.harness.lm_eval.rehearsal import rehearse

    with (
        hub_access(replace(context.run, offline=True)),
        documents_of_tasks(DocumentStore(files)),
        _guarded(context),
    ):
        again = _record(spec, context, replaying=True)
        if again.digest != recorded.digest:
            raise RunError(
                FailureReason.UNSUPPORTED_TASK,
                "the task builds other requests when it is built a second time from the same documents (it draws "
                "random numbers of its own, or reads the clock), so that no answer would belong to its question",
            )
        if any(getattr(task, "UNSAFE_CODE", False) for task in again.loaded.tasks.values()):
            return ["its metrics run code that the model writes and were not tried in the plan"]
        return rehearse(
            again.loaded.tasks, lambda model: _evaluate(model, again.loaded, spec, context, bootstrap=False)
        )


def _changed(evaluation: str) -> RunError:
    return RunError(
        FailureReason.PLAN_CHANGED,
        f"{evaluation}: lm-eval now asks for other requests than were planned (another version of lm-eval, of the task "
        "or of the tokenizer?); no score is published. Run the evaluation anew",
    )


def _samples(loaded: LoadedTasks) -> int:
    return sum(len({instance.doc_id for instance in task.instances}) for task in loaded.tasks.values())


def _evaluate(
    model: Any, loaded: LoadedTasks, spec: LmEvalSpec, context: HarnessContext, bootstrap: bool = True
) -> Mapping[str, Any]:
    """lm-eval's own evaluation; without a `bootstrap`, also without the samples, for the rehearsal."""
    from lm_eval.evaluator import evaluate

    for task in loaded.tasks.values():
        task.build_all_requests = lambda **_: None  # built and compared with the plan already
    chosen = {name: chosen_samples(name, task, spec) for name, task in loaded.tasks.items()}
    official: Mapping[str, Any] = evaluate(
        lm=model,
        task_dict=loaded.as_dict(),
        limit=spec.limit,
        samples=None if spec.samples is None else chosen,
        **({} if bootstrap else {"bootstrap_iters": 0}),
        log_samples=bootstrap or spec.predict_only,
        confirm_run_unsafe_code=context.run.allow_unsafe_code,
        **prompt_options(spec),
    )
    return official
