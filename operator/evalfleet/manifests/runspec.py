"""From an EvaluationJob to the RunSpec that its plan, work and finish processes read. Pure."""

from dataclasses import dataclass, replace
from typing import Any

from evalfleet.api.evaluationjob import Embedding, Evaluation, EvaluationJob, Generation, LmEval, Model, PythonCode
from evalfleet.manifests.accelerators import Devices
from evalfleet_worker.protocol import (
    EmbeddingSpec,
    EngineSpec,
    EvaluationSpec,
    LmEvalSpec,
    ModelSpec,
    PythonSpec,
    RunSpec,
)

UNKNOWN = Devices()


@dataclass(frozen=True, slots=True)
class RunPlace:
    """Where a run lives and what its environment permits.

    Attributes:
        namespace: namespace of the object; `local` on one machine.
        run_id: uid of the object; on one machine name and spec digest.
        store_uri: where plan, claims and results lie.
        allow_remote_code: the policy's key to code shipped with models.
        allow_unsafe_code: the policy's key to code that executes model output.
        allowed_endpoints: where variables of its pods may point; None = anywhere.
        devices: what its workers compute on; `Auto` = what there is where the plan is made.
    """

    namespace: str
    run_id: str
    store_uri: str
    allow_remote_code: bool = False
    allow_unsafe_code: bool = False
    allowed_endpoints: tuple[str, ...] | None = None
    devices: Devices = UNKNOWN


def run_spec(job: EvaluationJob, place: RunPlace) -> RunSpec:
    """The RunSpec of a job; remote and unsafe code need the job's key and the place's."""
    spec = job.spec
    engine = spec.engine
    return RunSpec(
        namespace=place.namespace,
        name=job.metadata.name,
        run_id=place.run_id,
        store_uri=place.store_uri,
        model=_model(spec.model, place.allow_remote_code),
        evaluations=tuple(_evaluation(evaluation) for evaluation in spec.evaluations),
        engine=replace(
            EngineSpec(engine.numerics, engine.max_tokens_per_step) if engine else EngineSpec(),
            devices_per_worker=place.devices.per_worker,
        ),
        device_kind=place.devices.kind,
        accelerators=place.devices.products,
        data_uri=spec.data.uri if spec.data else None,
        na_values=spec.data.na_values if spec.data else "Refuse",
        offline=bool(spec.data and spec.data.offline),
        seed=spec.seed,
        allow_unsafe_code=spec.confirm_run_unsafe_code and place.allow_unsafe_code,
        allowed_endpoints=place.allowed_endpoints,
    )


def _model(model: Model, allow_remote_code: bool) -> ModelSpec:
    return ModelSpec(
        uri=model.uri,
        revision=model.revision,
        format=model.format,
        dtype=model.dtype,
        tokenizer_uri=model.tokenizer_uri,
        chat_template=model.chat_template,
        add_bos_token=model.add_bos_token,
        prefix_token_id=model.prefix_token_id,
        max_length=model.max_length,
        trust_remote_code=model.trust_remote_code and allow_remote_code,
    )


def _evaluation(evaluation: Evaluation) -> EvaluationSpec:
    return EvaluationSpec(
        name=evaluation.name,
        lm_eval=_lm_eval(evaluation.lm_eval) if evaluation.lm_eval else None,
        embedding=_embedding(evaluation.embedding) if evaluation.embedding else None,
        python=_python(evaluation.python) if evaluation.python else None,
    )


def _lm_eval(task: LmEval) -> LmEvalSpec:
    return LmEvalSpec(
        task=task.task,
        task_config=task.task_config,
        num_few_shot=task.num_few_shot,
        limit=task.limit,
        apply_chat_template=task.apply_chat_template,
        few_shot_as_multiturn=task.few_shot_as_multiturn,
        few_shot_seed=task.few_shot_seed,
        samples=tuple(task.samples) if task.samples else None,
        predict_only=task.predict_only,
        chat_template_arguments=dict(task.chat_template_arguments or {}),
        enable_thinking=task.enable_thinking,
        think_end_token=task.think_end_token,
        system_instruction=task.system_instruction,
        generation=_generation(task.generation) if task.generation else None,
        repeats=task.repeats,
    )


def _generation(generation: Generation) -> dict[str, Any]:
    """lm-eval's names; a temperature of 0 is greedy (https://github.com/EleutherAI/lm-evaluation-harness)."""
    arguments: dict[str, Any] = {}
    if generation.max_new_tokens is not None:
        arguments["max_gen_toks"] = generation.max_new_tokens
    if generation.until is not None:
        arguments["until"] = list(generation.until)
    if generation.temperature is not None:
        arguments["temperature"] = float(generation.temperature)
        arguments["do_sample"] = float(generation.temperature) > 0
    if generation.top_p is not None:
        arguments["top_p"] = float(generation.top_p)
    return arguments


def _embedding(task: Embedding) -> EmbeddingSpec:
    first, second = task.pair_columns
    return EmbeddingSpec(task.dataset, (first, second), task.score_column, task.pooling, task.metric, task.limit)


def _python(code: PythonCode) -> PythonSpec:
    return PythonSpec(code.entrypoint, dict(code.parameters))
