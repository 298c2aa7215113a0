"""What the plan proves of a model before anything is scored. Torch-free."""

from evalfleet_worker.model.architecture import check_causal_lm, check_encoder, check_quantization, is_quantized
from evalfleet_worker.model.files import listed, read_json
from evalfleet_worker.model.proof import WeightsProof
from evalfleet_worker.model.resolve import ResolvedModel
from evalfleet_worker.protocol import FailureReason, RunError, RunSpec

GIB = 1 << 30
INTEGERS = frozenset({"I8", "U8", "I16", "U16", "I32", "U32", "I64", "U64", "BOOL"})


def check_model(model: ResolvedModel, run: RunSpec) -> list[WeightsProof]:
    """Refuse a model that the run's evaluations cannot use; the weights' proofs are begun, to be checked later.

    Raises:
        RunError: ModelUnreadable or InvalidModelRef, with what is supported.
    """
    check_supported(run)
    _check_devices(model, run)
    check_quantization(model.transformers_config, run.model.uri)
    _check_types(model)
    defaults = model.path / "generation_config.json"
    if defaults.exists():
        read_json(defaults)
    is_causal = any(evaluation.lm_eval is not None for evaluation in run.evaluations)
    is_encoder = any(evaluation.embedding is not None for evaluation in run.evaluations)
    if is_causal:
        check_causal_lm(model.transformers_config, run.model.uri)
    if is_encoder:
        check_encoder(model.transformers_config, run.model.uri)
    return [WeightsProof(model, kind) for kind, wanted in ((False, is_causal), (True, is_encoder)) if wanted]


def _check_types(model: ResolvedModel) -> None:
    """Integers are no weights, unless a method of quantization says what they mean."""
    integers = [header.name for header in model.headers if header.dtype in INTEGERS and header.name.endswith(".weight")]
    if integers and not is_quantized(model.transformers_config):
        raise RunError(
            FailureReason.MODEL_UNREADABLE,
            f"{model.spec.uri} stores {listed(integers)} as integers, but its config.json has no quantization_config "
            "that says how they are to be read; copy the original config",
        )


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
