"""What the plan proves of a model before anything is scored. Torch-free."""

from evalfleet_worker.model.architecture import check_causal_lm, check_encoder, check_quantization
from evalfleet_worker.model.proof import WeightsProof
from evalfleet_worker.model.resolve import ResolvedModel
from evalfleet_worker.protocol import FailureReason, RunError, RunSpec

GIB = 1 << 30


def check_model(model: ResolvedModel, run: RunSpec) -> list[WeightsProof]:
    """Refuse a model that the run's evaluations cannot use; the weights' proofs are begun, to be checked later.

    Raises:
        RunError: ModelUnreadable or InvalidModelRef, with what is supported.
    """
    check_supported(run)
    _check_devices(model, run)
    check_quantization(model.transformers_config, run.model.uri)
    is_causal = any(evaluation.lm_eval is not None for evaluation in run.evaluations)
    is_encoder = any(evaluation.embedding is not None for evaluation in run.evaluations)
    if is_causal:
        check_causal_lm(model.transformers_config, run.model.uri)
    if is_encoder:
        check_encoder(model.transformers_config, run.model.uri)
    return [WeightsProof(model, kind) for kind, wanted in ((False, is_causal), (True, is_encoder)) if wanted]


def check_supported(run: RunSpec) -> None:
    """Refuse options that this version of the engine does not have.

    Raises:
        RunError: InvalidModelRef, naming the option.
    """
    refused = {"model.quantization": run.model.quantization, "model.adapterUri": run.model.adapter_uri}
    for name, value in refused.items():
        if value:
            raise RunError(FailureReason.INVALID_MODEL_REF, f"{name} is not supported by this version of the engine")


def _check_devices(model: ResolvedModel, run: RunSpec) -> None:
    asked = {
        "engine.tensorParallelSize": run.engine.tensor_parallel_size,
        "accelerator.countPerWorker": run.engine.devices_per_worker,
    }
    name, count = max(asked.items(), key=lambda item: item[1])
    if count <= 1:
        return
    values = sum(header.values for header in model.headers)
    raise RunError(
        FailureReason.INVALID_MODEL_REF,
        f"{name} {count}: this version does not spread a model over devices. "
        f"The weights take {values * 2 / GIB:.1f} GiB in bfloat16 or float16, {values * 4 / GIB:.1f} GiB in float32; "
        "set 1 and choose a device with room for them",
    )
