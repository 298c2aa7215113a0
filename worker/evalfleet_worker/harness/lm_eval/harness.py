"""Plan and finish of an lm-eval evaluation."""

from collections.abc import Iterator, Mapping
from typing import Any

from evalfleet_worker.harness.encode import TextEncoder
from evalfleet_worker.harness.interface import UNPLACED, HarnessContext, HarnessPlan, HarnessResult, Replay
from evalfleet_worker.harness.lm_eval.bootstrap import fixed_draws
from evalfleet_worker.harness.lm_eval.documents import DocumentStore, documents_of_tasks
from evalfleet_worker.harness.lm_eval.generation import canonical, normalized
from evalfleet_worker.harness.lm_eval.publish import published
from evalfleet_worker.harness.lm_eval.sandbox import refuse_hub_metrics, remote_code, sandbox_templates
from evalfleet_worker.harness.lm_eval.tasks import (
    LoadedTasks,
    build_requests,
    call_digest,
    calls,
    load_tasks,
    prompt_options,
)
from evalfleet_worker.protocol import EvaluationSpec, FailureReason, LmEvalSpec, RunError
from evalfleet_worker.requests import Request, RequestType


class LmEvalHarness:
    """lm-evaluation-harness by record and replay."""

    def plan(self, evaluation: EvaluationSpec, context: HarnessContext) -> HarnessPlan:
        """Load the tasks, let them build their requests, and encode these."""
        documents = DocumentStore()
        with documents_of_tasks(documents), remote_code(context.run.model.trust_remote_code):
            loaded, recorded = _record(_spec(evaluation), context)
        context.progress(f"{evaluation.name}: encoding {sum(map(len, recorded.values()))} requests")
        encoder = context.encoder()
        requests = [
            request
            for kind, instances in recorded.items()
            for index, instance in enumerate(instances)
            for request in _requests(evaluation.name, RequestType(kind), index, instance.args, encoder)
        ]
        return HarnessPlan(requests, _samples(loaded), documents.files(), call_digest(recorded))

    def finish(self, evaluation: EvaluationSpec, context: HarnessContext, replay: Replay) -> HarnessResult:
        """Build the tasks anew from the stored documents and give lm-eval the answers."""
        spec = _spec(evaluation)
        trusted = context.run.model.trust_remote_code
        with documents_of_tasks(DocumentStore(replay.documents)), remote_code(trusted):
            loaded, recorded = _record(spec, context, replaying=True)
            if call_digest(recorded) != replay.digest:
                raise _changed(evaluation.name)
            with fixed_draws(lambda words: context.progress(f"{evaluation.name}: {words}")) as bootstraps:
                official = _evaluate(loaded, spec, context, replay)
            return published(evaluation.name, official, loaded, bootstraps)


def _spec(evaluation: EvaluationSpec) -> LmEvalSpec:
    assert evaluation.lm_eval is not None
    return evaluation.lm_eval


def _record(spec: LmEvalSpec, context: HarnessContext, replaying: bool = False) -> tuple[LoadedTasks, dict[str, Any]]:
    from evalfleet_worker.harness.lm_eval.models import PromptModel

    sandbox_templates()
    refuse_hub_metrics()
    loaded = load_tasks(spec, context.run, replaying)
    build_requests(loaded, spec, PromptModel(context.encoder))
    return loaded, calls(loaded)


def _changed(evaluation: str) -> RunError:
    return RunError(
        FailureReason.PLAN_CHANGED,
        f"{evaluation}: lm-eval now asks for other requests than were planned (another version of lm-eval, of the task "
        "or of the tokenizer?); no score is published. Run the evaluation anew",
    )


def _samples(loaded: LoadedTasks) -> int:
    return sum(len({instance.doc_id for instance in task.instances}) for task in loaded.tasks.values())


def _requests(
    evaluation: str, kind: RequestType, index: int, args: tuple[Any, ...], encoder: TextEncoder
) -> Iterator[Request]:
    match kind:
        case RequestType.LOGLIKELIHOOD:
            ids, scored = encoder.scored(encoder.pair(*args))
            yield Request(UNPLACED, evaluation, kind, index, 0, ids, scored)
        case RequestType.LOGLIKELIHOOD_ROLLING:
            for part, window in enumerate(encoder.rolling(args[0])):
                ids, scored = encoder.scored(window)
                yield Request(UNPLACED, evaluation, kind, index, part, ids, scored)
        case RequestType.GENERATE_UNTIL:
            arguments = normalized(args[1], encoder.end_of_text())
            ids = encoder.generation_context(args[0], arguments["max_gen_toks"])
            yield Request(UNPLACED, evaluation, kind, index, 0, ids, 0, canonical(arguments))
        case _:
            raise RunError(FailureReason.UNSUPPORTED_TASK, f"{evaluation}: requests of type {kind} are not supported")


def _evaluate(loaded: LoadedTasks, spec: LmEvalSpec, context: HarnessContext, replay: Replay) -> Mapping[str, Any]:
    from lm_eval.evaluator import evaluate

    from evalfleet_worker.harness.lm_eval.models import ReplayModel

    model = ReplayModel(context.encoder, lambda kind, index: replay.answers.get((kind, index), ()))
    for task in loaded.tasks.values():
        task.build_all_requests = lambda **_: None  # built and compared with the plan already
    official: Mapping[str, Any] = evaluate(
        lm=model,
        task_dict=loaded.as_dict(),
        limit=spec.limit,
        log_samples=True,
        confirm_run_unsafe_code=context.run.allow_unsafe_code,
        **prompt_options(spec),
    )
    return official
