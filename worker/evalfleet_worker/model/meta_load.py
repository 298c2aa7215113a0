"""Build the model on the meta device and let transformers load the headers of its weights into it.

Run as a process of its own (`python -m evalfleet_worker.model.meta_load`), since the plan keeps torch out. The loader
itself renames, converts, ties and reports; no bytes of weights are read and no memory is taken.
"""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any
from unittest import mock

import torch
import transformers
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM

from evalfleet_worker.model.weights_report import WeightsReport, report_of

DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "I64": torch.int64,
    "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8, "BOOL": torch.bool,
    "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2,
}  # fmt: skip


def compare(folder: str, tensors: list[list[Any]], is_encoder: bool, trust_remote_code: bool) -> WeightsReport:
    """What of the stored tensors [name, type, shape] does not fit the model in `folder`."""
    config = AutoConfig.from_pretrained(folder, trust_remote_code=trust_remote_code, local_files_only=True)
    auto_class = AutoModel if is_encoder else AutoModelForCausalLM
    with torch.device("meta"):
        built = auto_class.from_config(config, trust_remote_code=trust_remote_code)
        state = {name: torch.empty(shape, dtype=DTYPES.get(kind, torch.uint8)) for name, kind, shape in tensors}
    options: dict[str, Any] = {"device_map": {"": "meta"}, "dtype": torch.float32}
    with _captured_report() as found:
        model = type(built).from_pretrained(None, config=built.config, state_dict=state, **options)
    return report_of(model, found, is_encoder)


@contextmanager
def _captured_report() -> Iterator[dict[str, Any]]:
    """What transformers would log and, in part, raise without names is put into this dictionary instead."""
    found: dict[str, Any] = {}

    def capture(*_: Any, loading_info: Any, **__: Any) -> None:
        found.update(loading_info.to_dict(), conversion_errors=loading_info.conversion_errors)

    with mock.patch.object(transformers.modeling_utils, "log_state_dict_report", capture):
        yield found


def main() -> None:
    """Print the report for the question on stdin; both are JSON."""
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    torch.set_num_threads(1)
    print(json.dumps(asdict(compare(**json.load(sys.stdin)))))  # noqa: T201 - the answer


if __name__ == "__main__":
    main()
