"""Task configs that try to reach code or files by side doors."""

from pathlib import Path

import pytest

from evalfleet_worker.harness.lm_eval.refuse import check_task_config
from evalfleet_worker.harness.lm_eval.sandbox import remote_code
from evalfleet_worker.protocol import FailureReason, ModelSpec, RunError, RunSpec

RUN = RunSpec("n", "n", "r", "s", ModelSpec("m"), (), data_uri="file:///data")


def config(**changes: object) -> dict[str, object]:
    return {"task": "mine", "dataset_path": "json", "dataset_kwargs": {"data_files": {"test": "x.jsonl"}}, **changes}


def test_the_plain_config_is_accepted() -> None:
    check_task_config(config(), RUN)


@pytest.mark.parametrize("dataset_path", ["pandas", "webdataset", "hdf5", "lance", "eval", "imagefolder", "generator"])
def test_a_format_that_reads_pickles_or_foreign_files_is_no_data_set_of_the_hub(dataset_path: str) -> None:
    with pytest.raises(RunError, match="json, csv, parquet") as refused:
        check_task_config(config(dataset_path=dataset_path), RUN)
    assert refused.value.reason == FailureReason.UNSUPPORTED_TASK


@pytest.mark.parametrize("name", ["../../other-run/plan", "a/b", "a\\b", "", "x" * 300, "a\nb"])
def test_a_task_name_that_is_no_file_name_is_refused(name: str) -> None:
    with pytest.raises(RunError, match="task name") as refused:
        check_task_config(config(task=name), RUN)
    assert refused.value.reason == FailureReason.INVALID_TASK
    with pytest.raises(RunError, match="task name"):
        check_task_config({"group": "g", "task": [config(task=name)]}, RUN)


@pytest.mark.parametrize("key", ["cache_dir", "data_dir", "token", "storage_options", "download_config", "revision"])
def test_options_of_the_data_set_loader_beyond_the_files_are_refused(key: str) -> None:
    kwargs = {"data_files": {"test": "x.jsonl"}, key: "value"}
    with pytest.raises(RunError, match=key):
        check_task_config(config(dataset_kwargs=kwargs), RUN)


def test_a_tokenizer_with_code_of_its_own_is_not_run_by_a_task_that_trusts_everybody(tmp_path: Path) -> None:
    """ruler and babilong load the tokenizer that the task's metadata name, trusting its code."""
    from transformers import AutoTokenizer

    marker = tmp_path / "ran"
    (tmp_path / "evil.py").write_text(
        f"import pathlib\npathlib.Path({str(marker)!r}).touch()\n"
        "from transformers import PreTrainedTokenizerFast\n\n\nclass Evil(PreTrainedTokenizerFast):\n    pass\n"
    )
    (tmp_path / "tokenizer_config.json").write_text('{"auto_map": {"AutoTokenizer": [null, "evil.Evil"]}}')
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    with remote_code(allowed=False), pytest.raises(RunError) as refused:
        AutoTokenizer.from_pretrained(str(tmp_path), trust_remote_code=True)
    assert refused.value.reason == FailureReason.REMOTE_CODE_FORBIDDEN
    assert not marker.exists()
