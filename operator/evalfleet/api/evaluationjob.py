"""EvaluationJob: one bounded evaluation of one model on up to 64 evaluations."""

import json
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AwareDatetime, Field, StringConstraints, field_validator

from evalfleet.api.status import EvaluationJobStatus
from evalfleet.api.wire import (
    API_VERSION,
    OBJECT_NAME,
    Money,
    Name,
    NonNegativeInt,
    PositiveInt,
    Rule,
    Uri,
    WireModel,
    at_most_one,
    distinct_names,
    exactly_one,
)

IMMUTABLE = (
    "model",
    "evaluations",
    "data",
    "engine",
    "seed",
    "policyName",
    "store",
    "worker",
    "backoffLimit",
    "confirmRunUnsafeCode",
)
"""Spec members (JSON names) that never change: they decide the result or its place."""

TASK_CONFIG_LIMIT_BYTES = 64 * 1024

ShortText = Annotated[str, StringConstraints(min_length=1, max_length=256)]
LongText = Annotated[str, StringConstraints(min_length=1, max_length=16384)]
RelativePath = Annotated[str, StringConstraints(pattern=r"^[^/].*$", max_length=512)]


class Model(WireModel):
    """The model to evaluate."""

    uri: Uri
    """uri of the model: hf://org/name, s3://, gs://, az://, pvc://claim/path; file:// and package:// on one machine."""
    revision: ShortText | None = None
    """revision of a hub model: branch, tag or commit. Unset: the default branch."""
    format: Literal["Auto", "SafeTensors", "GGUF"] = "Auto"
    """format of the weights. Default Auto: read from the files."""
    dtype: Literal["Auto", "Float32", "BFloat16", "Float16"] = "Auto"
    """dtype of the forward pass. Default Auto: Float32 on CPU, BFloat16 on GPU."""
    tokenizer_uri: Uri | None = None
    """tokenizerUri of a tokenizer that is not beside the weights. Unset: the model's own."""
    chat_template: LongText | None = None
    """chatTemplate (Jinja) in place of the tokenizer's own, or the name of one of its own. Unset: the tokenizer's."""
    add_bos_token: bool | None = None
    """addBosToken before every prompt (lm-eval's add_bos_token). Unset: as the tokenizer does by itself."""
    prefix_token_id: NonNegativeInt | None = None
    """prefixTokenId that stands for an empty context (lm-eval's prefix_token_id). Unset: BOS, else EOS."""
    max_length: PositiveInt | None = None
    """maxLength of an input in tokens (lm-eval's max_length), at most the model's. Unset: the model's."""
    trust_remote_code: bool = False
    """trustRemoteCode: run Python code shipped with the model. Default false; needs allowRemoteCode too."""
    secret_name: Name | None = None
    """secretName of a Secret in this namespace with the credentials for uri, given to workers as environment."""


class LmEval(WireModel):
    """One task of lm-evaluation-harness, by name or as an inline config."""

    task: ShortText | None = None
    """task name in lm-evaluation-harness, for example hellaswag. Unset: taskConfig is used."""
    task_config: dict[str, Any] | None = Field(default=None, json_schema_extra={"preserveUnknownFields": True})
    """taskConfig: an inline lm-eval task config (the YAML of a task), at most 64 KiB. Unset: task is used."""
    num_few_shot: Annotated[int, Field(ge=0, le=256)] | None = None
    """numFewShot examples before each document. Unset: the task's own."""
    limit: PositiveInt | None = None
    """limit of documents per task, from the start. Unset: all documents."""
    apply_chat_template: bool = False
    """applyChatTemplate: render the requests with the chat template. Default false."""
    few_shot_as_multiturn: bool | None = None
    """fewShotAsMultiturn: few-shot examples as turns of the chat. Unset: as applyChatTemplate, which it needs."""
    few_shot_seed: NonNegativeInt = 1234
    """fewShotSeed of the choice of few-shot examples. Default 1234, as in lm-eval."""
    samples: Annotated[list[NonNegativeInt], Field(min_length=1, max_length=10000)] | None = None
    """samples: indices (from 0) of the documents to evaluate, in every task. Unset: all, or the first limit."""
    predict_only: bool = False
    """predictOnly: keep the answers and compute no metric. Default false."""
    chat_template_arguments: (
        Annotated[dict[str, Annotated[str, StringConstraints(max_length=1024)] | bool | int], Field(max_length=32)]
        | None
    ) = Field(default=None, json_schema_extra={"preserveUnknownFields": True})
    """chatTemplateArguments: variables of the chat template (lm-eval's chat_template_args). Unset: none."""
    enable_thinking: bool | None = None
    """enableThinking: the chat template's variable enable_thinking. Unset: the template's own default."""
    think_end_token: Annotated[str, StringConstraints(min_length=1, max_length=64)] | None = None
    """thinkEndToken: generated text up to it (for example </think>) is reasoning and not scored. Unset: all is."""
    system_instruction: LongText | None = None
    """systemInstruction put before every request. Unset: none."""
    generation: "Generation | None" = None
    """generation overrides of generative tasks. Unset: the task's own."""
    repeats: Annotated[int, Field(ge=1, le=1024)] | None = None
    """repeats of every request. Unset: the task's own."""

    rules: ClassVar[tuple[Rule, ...]] = (
        exactly_one("task", "taskConfig"),
        Rule(
            cel="!has(self.fewShotAsMultiturn) || !self.fewShotAsMultiturn"
            " || (has(self.applyChatTemplate) && self.applyChatTemplate)",
            message="fewShotAsMultiturn needs applyChatTemplate: true",
            holds=lambda lm_eval: not lm_eval.few_shot_as_multiturn or lm_eval.apply_chat_template,
        ),
        at_most_one("limit", "samples"),
    )

    @field_validator("task_config")
    @classmethod
    def _bounded(cls, config: dict[str, Any] | None) -> dict[str, Any] | None:
        if config is not None and len(json.dumps(config, default=str)) > TASK_CONFIG_LIMIT_BYTES:
            raise ValueError("taskConfig is larger than 64 KiB: put long documents into a data file")
        return config


class Generation(WireModel):
    """Overrides of an lm-eval task's generation arguments."""

    max_new_tokens: Annotated[int, Field(ge=1, le=131072)] | None = None
    """maxNewTokens to generate at most. Unset: the task's own."""
    until: (
        Annotated[list[Annotated[str, StringConstraints(min_length=1, max_length=256)]], Field(max_length=16)] | None
    ) = None
    """until: stop strings. Unset: the task's own."""
    temperature: Annotated[str, StringConstraints(pattern=r"^[0-9](\.[0-9]{1,4})?$", max_length=6)] | None = None
    """temperature as a decimal string; "0" is greedy. Unset: the task's own."""
    top_p: Annotated[str, StringConstraints(pattern=r"^(0(\.[0-9]{1,4})?|1(\.0{1,4})?)$", max_length=6)] | None = None
    """topP as a decimal string from 0 to 1. Unset: the task's own."""


class Embedding(WireModel):
    """Sentence-pair similarity: the cosine of two embedded columns, correlated with a gold score."""

    dataset: RelativePath
    """dataset file (csv, jsonl or parquet) below data.uri."""
    pair_columns: Annotated[list[ShortText], Field(min_length=2, max_length=2)] = Field(
        default=["sentence1", "sentence2"]
    )
    """pairColumns: the two text columns. Default [sentence1, sentence2]."""
    score_column: ShortText = "score"
    """scoreColumn with the gold similarity. Default score."""
    pooling: Literal["Mean", "CLS"] = "Mean"
    """pooling of token vectors. Default Mean."""
    metric: Literal["Spearman", "Pearson"] = "Spearman"
    """metric: the correlation to publish. Default Spearman."""
    limit: PositiveInt | None = None
    """limit of rows from the start. Unset: all rows."""


class PythonCode(WireModel):
    """A user's own evaluation, code of the worker image."""

    entrypoint: Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$", max_length=256)]
    """entrypoint module:function that returns the evaluation; importable in the worker image."""
    parameters: Annotated[dict[str, Annotated[str, StringConstraints(max_length=1024)]], Field(max_length=64)] = Field(
        default={}
    )
    """parameters given to the function as strings. Default none."""


class Evaluation(WireModel):
    """One named evaluation: exactly one harness member."""

    name: Name
    """name of the evaluation within the job, shown in results."""
    lm_eval: LmEval | None = None
    """lmEval: a task of lm-evaluation-harness. Unset: another member is used."""
    embedding: Embedding | None = None
    """embedding: sentence-pair similarity. Unset: another member is used."""
    python: PythonCode | None = None
    """python: the user's own evaluation. Unset: another member is used."""

    rules: ClassVar[tuple[Rule, ...]] = (exactly_one("lmEval", "embedding", "python"),)


class Data(WireModel):
    """Where datasets lie that are not found by name."""

    uri: Uri | None = None
    """uri of a folder with dataset files. Unset: datasets are found by name on the hub."""
    secret_name: Name | None = None
    """secretName of a Secret in this namespace with the credentials for uri. Unset: none."""
    na_values: Literal["Refuse", "Keep"] = "Refuse"
    """naValues: words as NA and None, and empty cells, in a csv column that is used. Default Refuse; Keep: text."""
    offline: bool = False
    """offline: forbid access to the hub. Default false."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            cel="!has(self.secretName) || has(self.uri)",
            message="secretName needs uri",
            holds=lambda data: data.secret_name is None or data.uri is not None,
        ),
    )


class Sla(WireModel):
    """When the evaluation must be finished. A goal with a plan; activeDeadlineSeconds stays the kill switch."""

    deadline_time: AwareDatetime | None = None
    """deadlineTime (RFC 3339) by which results are published. Unset: completionSeconds or the policy's default."""
    completion_seconds: PositiveInt | None = None
    """completionSeconds from creation to results, suspended time excluded. Unset: deadlineTime or the default."""
    queue_wait_seconds: NonNegativeInt | None = None
    """queueWaitSeconds from creation to the first ready worker. Unset: the policy's default."""
    on_infeasible: Literal["Reject", "RunAnyway"] | None = None
    """onInfeasible: what to do when the deadline cannot be met. Unset: the policy's default (Reject)."""

    rules: ClassVar[tuple[Rule, ...]] = (at_most_one("deadlineTime", "completionSeconds"),)


class Budget(WireModel):
    """How much the evaluation may cost."""

    max_cost: Money
    """maxCost in the policy's currency, a decimal string such as "25.00"."""
    on_conflict: Literal["Deadline", "Budget"] = "Budget"
    """onConflict: which gives way when both cannot hold. Default Budget: the cost limit holds."""


class Store(WireModel):
    """Run store: plan, claims and results."""

    uri: Uri
    """uri: s3://, gs://, az://, pvc://claim/path or file:// (one machine)."""
    secret_name: Name | None = None
    """secretName of a Secret in this namespace with the credentials for uri. Unset: none."""


class Toleration(WireModel):
    """A toleration as in core/v1."""

    key: Annotated[str, StringConstraints(max_length=253)] | None = None
    """key of the taint. Unset: all keys."""
    operator: Literal["Exists", "Equal"] = "Equal"
    """operator. Default Equal."""
    value: Annotated[str, StringConstraints(max_length=63)] | None = None
    """value of the taint. Unset: empty."""
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None
    """effect. Unset: all effects."""
    toleration_seconds: NonNegativeInt | None = None
    """tolerationSeconds before eviction. Unset: for ever."""


class EnvVar(WireModel):
    """An environment variable of the workers; only allow-listed names."""

    name: Annotated[
        str,
        StringConstraints(
            pattern=r"^(HF|AWS|AZURE|GOOGLE|NCCL|TORCH|CUDA|TOKENIZERS|USER)_[A-Z0-9_]{1,120}$", max_length=128
        ),
    ]
    """name: must begin with HF_, AWS_, AZURE_, GOOGLE_, NCCL_, TORCH_, CUDA_, TOKENIZERS_ or USER_."""
    value: Annotated[str, StringConstraints(max_length=4096)]
    """value of the variable."""


Quantity = Annotated[
    str, StringConstraints(pattern=r"^[0-9]{1,9}(\.[0-9]{1,3})?(m|k|Ki|M|Mi|G|Gi|T|Ti)?$", max_length=16)
]
LabelMap = Annotated[
    dict[str, Annotated[str, StringConstraints(max_length=63)]],
    Field(max_length=32),
]


class Resources(WireModel):
    """Requests and limits of a worker; accelerators come from the pool."""

    cpu: Quantity | None = None
    """cpu request of a worker. Unset: 1."""
    memory: Quantity | None = None
    """memory request and limit of a worker. Unset: 2Gi requested, no limit."""
    ephemeral_storage: Quantity | None = None
    """ephemeralStorage request of a worker. Unset: none."""


class Worker(WireModel):
    """How worker pods look: an allow-list, never a pod template."""

    image: Annotated[str, StringConstraints(min_length=1, max_length=512)] | None = None
    """image of the workers. Unset: the operator's default worker image."""
    image_pull_secrets: Annotated[list[Name], Field(max_length=8)] | None = None
    """imagePullSecrets in this namespace. Unset: none."""
    resources: Resources | None = None
    """resources of a worker. Unset: 1 cpu and 2Gi of memory requested."""
    plan_resources: Resources | None = None
    """planResources of the plan and finish pods. Unset: what a worker asks, at most 1 cpu and 4Gi of memory."""
    env: Annotated[list[EnvVar], Field(max_length=64)] | None = Field(
        default=None, json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]}
    )
    """env of the workers, allow-listed names only. Unset: none."""
    node_selector: LabelMap | None = None
    """nodeSelector added to the pool's. Unset: none."""
    tolerations: Annotated[list[Toleration], Field(max_length=16)] | None = None
    """tolerations added to the pool's. Unset: none."""
    runtime_class_name: Name | None = None
    """runtimeClassName of the pods. Unset: the cluster's default."""
    service_account_name: Name | None = None
    """serviceAccountName of the pods (no token is mounted). Unset: default."""

    @field_validator("env")
    @classmethod
    def _distinct(cls, env: list[EnvVar] | None) -> list[EnvVar] | None:
        distinct_names(env or [], "variables")
        return env


class EngineOptions(WireModel):
    """Numerics and limits of the engine."""

    numerics: Literal["Fast", "Strict"] = "Fast"
    """numerics: Strict is bitwise equal at any worker count on equal hardware. Default Fast: equal within tolerance."""
    max_tokens_per_step: Annotated[int, Field(ge=512, le=1048576)] | None = None
    """maxTokensPerStep of the engine. Unset: from memory."""


class EvaluationJobSpec(WireModel):
    """What to evaluate, by when, for how much."""

    model: Model
    """model to evaluate."""
    evaluations: Annotated[list[Evaluation], Field(min_length=1, max_length=64)] = Field(
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]}
    )
    """evaluations of the model, 1 to 64, by name."""
    policy_name: Name | None = None
    """policyName of a ScalingPolicy in this namespace. Unset: default when it exists, else built-in defaults."""
    data: Data | None = None
    """data: where datasets lie. Unset: found by name on the hub."""
    sla: Sla | None = None
    """sla: deadline and queue wait. Unset: the policy's defaults."""
    budget: Budget | None = None
    """budget of this job. Unset: only the policy's limits."""
    store: Store | None = None
    """store of plan and results. Unset: the policy's."""
    worker: Worker | None = None
    """worker pods: image and placement. Unset: the policy's."""
    engine: EngineOptions | None = None
    """engine options. Unset: defaults."""
    min_workers: Annotated[int, Field(ge=0, le=1000)] = 0
    """minWorkers while running. Default 0."""
    max_workers: Annotated[int, Field(ge=1, le=1000)] | None = None
    """maxWorkers at a time. Unset: the policy's limit; on one machine, what fits."""
    priority: Annotated[int, Field(ge=-1000, le=1000)] = 0
    """priority among jobs without deadline, higher first. Default 0."""
    suspend: bool = False
    """suspend: true stops all workers and keeps what is done. Default false."""
    backoff_limit: Annotated[int, Field(ge=0, le=100)] = 6
    """backoffLimit: worker failures (never reclaims) before the job fails. Default 6."""
    active_deadline_seconds: PositiveInt | None = None
    """activeDeadlineSeconds after which the job is stopped and failed. Unset: never."""
    ttl_seconds_after_finished: NonNegativeInt | None = None
    """ttlSecondsAfterFinished until the object is deleted; results stay in the store. Unset: never."""
    seed: Annotated[int, Field(ge=0, le=9_007_199_254_740_991)] = 0
    """seed of sampled generations; few-shot examples are those that lm-evaluation-harness chooses. Default 0."""
    confirm_run_unsafe_code: bool = False
    """confirmRunUnsafeCode: run python and metrics that execute output. Default false; needs allowUnsafeCode too."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            cel="!has(self.maxWorkers) || self.minWorkers <= self.maxWorkers",
            message="minWorkers must not exceed maxWorkers",
            holds=lambda spec: spec.max_workers is None or spec.min_workers <= spec.max_workers,
        ),
        Rule(
            cel="!self.evaluations.exists(e, has(e.python)) || self.confirmRunUnsafeCode",
            message="a python evaluation needs confirmRunUnsafeCode: true",
            holds=lambda spec: spec.confirm_run_unsafe_code or all(e.python is None for e in spec.evaluations),
        ),
    )

    @field_validator("evaluations")
    @classmethod
    def _distinct(cls, evaluations: list[Evaluation]) -> list[Evaluation]:
        distinct_names(evaluations, "evaluations")
        return evaluations


class ObjectMeta(WireModel):
    """The metadata of a manifest; everything Kubernetes adds is accepted and ignored."""

    model_config = WireModel.model_config | {"extra": "allow"}

    name: Annotated[str, StringConstraints(pattern=OBJECT_NAME, max_length=253)]
    namespace: Name | None = None


class EvaluationJob(WireModel):
    """One bounded evaluation: declared, it finishes on time within its budget."""

    api_version: Literal["evalfleet.io/v1alpha1"] = API_VERSION
    kind: Literal["EvaluationJob"] = "EvaluationJob"
    metadata: ObjectMeta
    spec: EvaluationJobSpec
    status: EvaluationJobStatus | None = None


LmEval.model_rebuild()
