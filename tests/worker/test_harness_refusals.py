"""What an inline task config must not contain, each refused with its reason in words."""

from pathlib import Path
from typing import Any

import pytest

from evalfleet_worker.harness.lm_eval.refuse import check_task_config
from evalfleet_worker.protocol import FailureReason, ModelSpec, RunError, RunSpec

PAYLOAD = "{{ cycler.__init__.__globals__.os.popen('touch %s').read() }}"


def run_spec(**changes: Any) -> RunSpec:
    return RunSpec(
        **{
            "namespace": "local",
            "name": "run",
            "run_id": "run-1",
            "store_uri": "memory://",
            "model": ModelSpec("file:///model"),
            "evaluations": (),
            "data_uri": "file:///data",
            **changes,
        }
    )


def config(**changes: Any) -> dict[str, Any]:
    return {
        "task": "pairs",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": "pairs.jsonl"}},
        "test_split": "test",
        "output_type": "multiple_choice",
        "doc_to_text": "",
        "doc_to_target": 0,
        "doc_to_choice": "{{[good, bad]}}",
        **changes,
    }


OFFLINE = {"offline": True}
REFUSED: list[tuple[str, dict[str, Any], dict[str, Any], FailureReason, str]] = [
    ("function", config(doc_to_text="!function utils.text"), {}, FailureReason.UNSUPPORTED_TASK, "doc_to_text"),
    (
        "function in a metric",
        config(metric_list=[{"metric": "!function m.f"}]),
        {},
        FailureReason.UNSUPPORTED_TASK,
        r"metric_list\[0\].metric",
    ),
    ("include", config(include="base.yaml"), {}, FailureReason.UNSUPPORTED_TASK, "include"),
    ("python class", config(**{"class": "os.System"}), {}, FailureReason.UNSUPPORTED_TASK, "class"),
    ("process_docs", config(process_docs="utils.docs"), {}, FailureReason.UNSUPPORTED_TASK, "process_docs"),
    ("process_results", config(process_results="utils.judge"), {}, FailureReason.UNSUPPORTED_TASK, "process_results"),
    ("custom data set", config(custom_dataset="utils.make"), {}, FailureReason.UNSUPPORTED_TASK, "custom_dataset"),
    ("prompt library", config(use_prompt="promptsource:x"), {}, FailureReason.UNSUPPORTED_TASK, "use_prompt"),
    (
        "remote code",
        config(dataset_kwargs={"data_files": "a.jsonl", "trust_remote_code": True}),
        {},
        FailureReason.REMOTE_CODE_FORBIDDEN,
        "trust_remote_code",
    ),
    (
        "absolute data file",
        config(dataset_kwargs={"data_files": {"test": "/etc/passwd"}}),
        {},
        FailureReason.UNSUPPORTED_TASK,
        "/etc/passwd",
    ),
    (
        "data file above the folder",
        config(dataset_kwargs={"data_files": ["../secret.jsonl"]}),
        {},
        FailureReason.UNSUPPORTED_TASK,
        "secret",
    ),
    (
        "data file by address",
        config(dataset_kwargs={"data_files": "https://host/x.jsonl"}),
        {},
        FailureReason.UNSUPPORTED_TASK,
        "https",
    ),
    ("local data set folder", config(dataset_path="/etc"), {}, FailureReason.UNSUPPORTED_TASK, "dataset_path"),
    ("unsafe code", config(unsafe_code=True), {}, FailureReason.UNSAFE_CODE_FORBIDDEN, "confirmRunUnsafeCode"),
    ("images", config(doc_to_image="image"), {}, FailureReason.UNSUPPORTED_TASK, "images"),
    ("audio", config(doc_to_audio=["audio"]), {}, FailureReason.UNSUPPORTED_TASK, "audio"),
    (
        "hub metric offline",
        config(metric_list=[{"metric": "bertscore", "hf_evaluate": True}]),
        OFFLINE,
        FailureReason.UNSUPPORTED_TASK,
        "network",
    ),
    (
        "hub metric online",
        config(metric_list=[{"metric": "bertscore", "hf_evaluate": True}]),
        {},
        FailureReason.REMOTE_CODE_FORBIDDEN,
        "downloaded code",
    ),
    (
        "hub data set offline",
        config(dataset_path="cais/mmlu", dataset_kwargs=None),
        OFFLINE,
        FailureReason.DATASET_UNREADABLE,
        "data.uri",
    ),
    ("files without a folder", config(), {"data_uri": None}, FailureReason.INVALID_TASK, "data.uri"),
    ("format without files", config(dataset_kwargs={}), {}, FailureReason.INVALID_TASK, "data_files"),
    ("no name", {"dataset_path": "json"}, {}, FailureReason.INVALID_TASK, "task"),
    (
        "within a group",
        {"group": "g", "task": [config(), config(task="b", include="x.yaml")]},
        {},
        FailureReason.UNSUPPORTED_TASK,
        r"task\[1\].include",
    ),
]


@pytest.mark.parametrize(
    ("refused", "changes", "reason", "words"), [case[1:] for case in REFUSED], ids=[c[0] for c in REFUSED]
)
def test_is_refused_with_its_reason(refused: Any, changes: Any, reason: FailureReason, words: str) -> None:
    with pytest.raises(RunError, match=words) as caught:
        check_task_config(refused, run_spec(**changes))
    assert caught.value.reason is reason


def test_an_ordinary_config_passes() -> None:
    check_task_config(config(), run_spec(offline=True))


def test_unsafe_code_passes_with_both_keys() -> None:
    check_task_config(config(unsafe_code=True), run_spec(allow_unsafe_code=True))


def test_the_template_payload_runs_in_plain_lm_eval_and_not_in_the_sandbox(tmp_path: Path) -> None:
    import jinja2
    import lm_eval.utils

    from evalfleet_worker.harness.lm_eval.sandbox import sandbox_templates

    plain = jinja2.Environment(undefined=jinja2.StrictUndefined, keep_trailing_newline=True)
    plain.from_string(PAYLOAD % (tmp_path / "plain")).render()
    assert (tmp_path / "plain").exists(), "the payload must work where nothing stops it"

    sandbox_templates()
    with pytest.raises(jinja2.exceptions.SecurityError):
        lm_eval.utils.apply_template(PAYLOAD % (tmp_path / "sandboxed"), {})
    assert not (tmp_path / "sandboxed").exists()


def test_the_sandbox_keeps_lm_evals_filters() -> None:
    import lm_eval.utils

    from evalfleet_worker.harness.lm_eval.sandbox import sandbox_templates

    sandbox_templates()
    rendered = lm_eval.utils.apply_template("{{ text | regex_replace('a', 'b') }}\n", {"text": "banana"})
    assert rendered == "bbnbnb\n"
