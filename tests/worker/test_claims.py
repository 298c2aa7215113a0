"""pvc:// addresses as folders of a pod, and back."""

import pytest

from evalfleet_worker.claims import as_claim, mounted_folders, with_folders
from evalfleet_worker.protocol import EvaluationSpec, ModelSpec, RunError, RunSpec

FOLDERS = {"models": "/mnt/0", "models-2": "/mnt/1/"}


def run(model: str = "hf://a/b", store: str = "s3://bucket/x", data: str | None = None) -> RunSpec:
    return RunSpec("ns", "n", "id", store, ModelSpec(model), (EvaluationSpec("e"),), data_uri=data)


def test_folders_come_from_pairs_of_variables_and_half_a_pair_is_none() -> None:
    environment = {
        "EVALFLEET_CLAIM_0": "models",
        "EVALFLEET_CLAIM_0_PATH": "/mnt/0",
        "EVALFLEET_CLAIM_1": "lost",
        "EVALFLEET_CLAIM_SETTINGS": "{}",
        "HOME": "/",
    }
    assert mounted_folders(environment) == {"models": "/mnt/0"}


def test_addresses_of_claims_become_folders_and_others_stay() -> None:
    mapped = with_folders(run("pvc://models/llama/7b", data="pvc://models-2"), FOLDERS)
    assert (mapped.model.uri, mapped.data_uri) == ("file:///mnt/0/llama/7b", "file:///mnt/1")
    assert with_folders(run(), {}) == run()


def test_a_claim_that_is_not_mounted_is_named() -> None:
    with pytest.raises(RunError, match="claim elsewhere is not mounted"):
        with_folders(run(store="pvc://elsewhere/x"), FOLDERS)


def test_a_result_below_a_claim_is_shown_as_people_know_it() -> None:
    assert as_claim("file:///mnt/1/runs/results", FOLDERS) == "pvc://models-2/runs/results"
    assert as_claim("file:///mnt/10/results", FOLDERS) == "file:///mnt/10/results"
    assert as_claim("s3://bucket/x", FOLDERS) == "s3://bucket/x"
