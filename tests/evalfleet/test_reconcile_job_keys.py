"""Keys hold: manifests that try to get past a policy's lists, and honest ones that must not be in their way."""

from typing import Any

import pytest
from operator_states import job_state, manifest, policy

from evalfleet.controller.settings import Settings
from evalfleet.controller.specs import parsed_job
from evalfleet.reconcile.decision import Decision
from evalfleet.reconcile.job.accept import accept

Object = dict[str, Any]
DIGEST = "sha256:" + "0" * 64
HUB = {"allowedModelUriPrefixes": ["hf://acme"]}
BUCKET = {"allowedModelUriPrefixes": ["s3://models/good"]}
CLAIM = {"allowedModelUriPrefixes": ["pvc://shared/models"]}
FOLDER = {"allowedModelUriPrefixes": ["file:///models"]}
IMAGES = {"allowedImages": ["ghcr.io/acme/worker", "acme/"]}
MIRROR = {**HUB, "allowedEndpoints": ["https://hf.acme.com/hub"]}


def model(uri: str, **fields: Any) -> Object:
    return {"model": {"uri": uri, **fields}, "store": None}


def image(name: str) -> Object:
    return {"worker": {"image": name}}


def variable(name: str, value: str) -> Object:
    return {"worker": {"env": [{"name": name, "value": value}]}, **model("hf://acme/llama")}


def data(uri: str) -> Object:
    return {"data": {"uri": uri}, **model("hf://acme/llama")}


def store(uri: str) -> Object:
    return {**model("hf://acme/llama"), "store": {"uri": uri}}


ATTACKS: list[tuple[Object, Object]] = [
    # A neighbour whose name begins like an allowed one
    (HUB, model("hf://acme-evil/llama")),
    (HUB, model("hf://acmeevil/llama")),
    (HUB, model("hf://acme.evil/llama")),
    (HUB, model("hf://acme_evil/llama")),
    (BUCKET, model("s3://models/good-not/llama")),
    (BUCKET, model("s3://models/goodness")),
    (BUCKET, model("s3://models/good:evil")),
    (BUCKET, model("s3://models/good@evil/x")),
    (BUCKET, model("s3://models-evil/good/llama")),
    (CLAIM, model("pvc://shared-evil/models/llama")),
    # Out of the allowed place and elsewhere
    (HUB, model("hf://acme/../evil/llama")),
    (HUB, model("hf://evil/../acme/llama")),
    (BUCKET, model("s3://models/good/../evil/llama")),
    (BUCKET, model("s3://models/evil/../good/llama")),
    (BUCKET, model("s3://models/good/../../../evil")),
    (BUCKET, model("s3://models//good/llama")),
    (BUCKET, model("s3://models/./good/llama")),
    (CLAIM, model("pvc://shared/models/../secrets")),
    (FOLDER, model("file:///models/../etc")),
    (FOLDER, model("file:///models-evil/x")),
    (FOLDER, model("file://models/x")),
    # Encoded
    (HUB, model("hf://acme%2D-evil/llama")),
    (HUB, model("hf://acme/%2e%2e/evil/llama")),
    (BUCKET, model("s3://models/good/%2e%2e/evil")),
    (BUCKET, model("s3://models/good/%252e%252e/evil")),
    (BUCKET, model("s3://models/good/..%2fevil")),
    (BUCKET, model("s3://models/%67ood/../evil")),
    (BUCKET, model("s3://models%2fgood%2f..%2fevil/x")),
    (BUCKET, model("s3://models/good\\..\\evil")),
    (BUCKET, model("s3://models/good/\uff0e\uff0e/evil")),
    (BUCKET, model("s3://models/good\u0000/../evil")),
    (BUCKET, model("s3://models/" + "%25" * 9 + "/../good")),
    (HUB, model("hf://\u0430cme/llama")),
    # User information and other schemes
    (HUB, model("hf://acme@evil/llama")),
    (HUB, model("hf://acme:x@evil/llama")),
    (HUB, model("hf://user@acme/llama")),
    (BUCKET, model("s3://models@evil/good/llama")),
    (HUB, model("s3://acme/llama")),
    (HUB, model("gs://acme/llama")),
    # The other members
    (HUB, model("hf://acme/llama", tokenizerUri="hf://evil/llama")),
    (HUB, model("hf://acme/llama", tokenizerUri="hf://acme/../evil")),
    (HUB, data("s3://evil/data")),
    ({**HUB, "allowedDataUriPrefixes": ["s3://data"]}, data("s3://data-evil/x")),
    ({**HUB, "allowedDataUriPrefixes": ["s3://data"]}, data("hf://acme/llama")),
    ({**HUB, "allowedDataUriPrefixes": []}, data("s3://data/x")),
    (HUB, store("s3://evil/runs")),
    ({**HUB, "allowedStoreUriPrefixes": ["s3://team"]}, store("s3://team/../evil")),
    (HUB, store("s3://bucket/runs-evil")),
    ({"allowedModelUriPrefixes": []}, model("hf://acme/llama")),
    # Variables
    (HUB, variable("HF_ENDPOINT", "https://evil.com")),
    (HUB, variable("AWS_ENDPOINT_URL", "https://evil.com")),
    (HUB, variable("AWS_ENDPOINT_URL_S3", "http://169.254.169.254")),
    (HUB, variable("AWS_CONFIG_FILE", "/var/lib/evalfleet/claims/0/config")),
    (HUB, variable("AWS_REGION", "x.evil.com/#")),
    (HUB, variable("AZURE_STORAGE_ENDPOINT", "https://evil.com")),
    (HUB, variable("AZURE_STORAGE_BLOB_ENDPOINT", "https://evil.com")),
    (HUB, variable("AZURE_STORAGE_CONNECTION_STRING", "BlobEndpoint=https://evil.com")),
    (HUB, variable("AZURE_STORAGE_ACCOUNT_NAME", "evil")),
    (HUB, variable("GOOGLE_APPLICATION_CREDENTIALS", "/var/lib/evalfleet/claims/0/key.json")),
    (HUB, variable("GOOGLE_CLOUD_UNIVERSE_DOMAIN", "evil.com")),
    (HUB, variable("HF_HOME", "/var/lib/evalfleet/claims/0")),
    (HUB, variable("CUDA_INJECTION64_PATH", "/var/lib/evalfleet/claims/0/evil.so")),
    (HUB, variable("NCCL_NET_PLUGIN", "/var/lib/evalfleet/claims/0/evil.so")),
    (HUB, variable("HTTPS_PROXY", "http://evil.com")),
    (HUB, variable("PYTHONPATH", "/var/lib/evalfleet/claims/0")),
    (MIRROR, variable("HF_ENDPOINT", "https://hf.acme.com.evil.com/hub")),
    (MIRROR, variable("HF_ENDPOINT", "https://hf.acme.com@evil.com/hub")),
    (MIRROR, variable("HF_ENDPOINT", "https://hf.acme.com/hub/../evil")),
    (MIRROR, variable("HF_ENDPOINT", "http://hf.acme.com/hub")),
    ({"allowedEndpoints": []}, variable("HF_ENDPOINT", "https://hf.acme.com")),
    # Images
    (IMAGES, image("ghcr.io/acme/worker-evil:1")),
    (IMAGES, image("ghcr.io/acme/workerevil")),
    (IMAGES, image("ghcr.io.evil.com/acme/worker:1")),
    (IMAGES, image("evil.com/ghcr.io/acme/worker:1")),
    (IMAGES, image("ghcr.io:5000/acme/worker:1")),
    (IMAGES, image("ghcr.io/acme/worker/../evil:1")),
    (IMAGES, image("ghcr.io/acme/worker@evil.com/x")),
    (IMAGES, image("acme-evil/worker")),
    (IMAGES, image("acme")),
    (IMAGES, image("ghcr.io/acme/worker:1@sha256:0")),
    ({"allowedImages": [f"ghcr.io/acme/worker@{DIGEST}"]}, image("ghcr.io/acme/worker:1")),
    ({"allowedImages": ["ghcr.io/acme/worker:1"]}, image("ghcr.io/acme/worker:11")),
    ({"allowedImages": ["ghcr.io/acme/worker:1"]}, image("ghcr.io/acme/worker:1/evil")),
    ({"allowedImages": []}, image("ghcr.io/acme/worker:1")),
]

HONEST: list[tuple[Object, Object]] = [
    ({}, model("hf://anybody/anything")),
    ({}, variable("HF_ENDPOINT", "https://mirror.example")),
    ({}, image("evil.com/x:1")),
    (HUB, model("hf://acme/llama")),
    (HUB, model("hf://Acme/llama")),
    (HUB, model("hf://acme/llama@main", tokenizerUri="hf://acme/tokens")),
    (HUB, model("hf://acme//llama/")),
    ({"allowedModelUriPrefixes": ["acme"]}, model("hf://acme/llama")),
    ({"allowedModelUriPrefixes": ["acme/llama"]}, model("hf://acme/llama@main")),
    ({"allowedModelUriPrefixes": ["HF://Acme/"]}, model("hf://acme/llama")),
    ({"allowedModelUriPrefixes": ["hf://"]}, model("hf://anybody/anything")),
    (BUCKET, model("s3://models/good/llama/step%20100/")),
    (BUCKET, model("s3://Models/good")),
    (CLAIM, model("pvc://shared/models/llama")),
    (FOLDER, model("file:///models/llama")),
    (HUB, store("s3://bucket/runs/team")),
    ({**HUB, "allowedDataUriPrefixes": ["s3://data/"]}, data("s3://data/a/b")),
    ({**HUB, "allowedStoreUriPrefixes": ["s3://team"]}, store("s3://team/x")),
    (HUB, variable("HF_HUB_OFFLINE", "1")),
    (HUB, variable("AWS_REGION", "eu-central-1")),
    (HUB, variable("AWS_SECRET_ACCESS_KEY", "a/b+c=")),
    (HUB, variable("USER_NOTE", "https://anything/..")),
    (HUB, variable("NCCL_DEBUG", "INFO")),
    (MIRROR, variable("HF_ENDPOINT", "https://hf.acme.com/hub/")),
    ({**HUB, "allowedEndpoints": ["https://s3.acme.com"]}, variable("AWS_ENDPOINT_URL", "https://s3.acme.com:9000")),
    ({**HUB, "allowedEndpoints": ["account"]}, variable("AZURE_STORAGE_ACCOUNT_NAME", "account")),
    (IMAGES, image(f"ghcr.io/acme/worker:1.2@{DIGEST}")),
    (IMAGES, image("GHCR.io/acme/worker/cuda")),
    (IMAGES, image("acme/worker:1")),
    (IMAGES, image("index.docker.io/acme/worker")),
    ({"allowedImages": ["localhost:5000"]}, image("localhost:5000/any/thing:1")),
    ({"allowedImages": ["python"]}, image("python:3.12")),
    ({"allowedImages": [f"ghcr.io/acme/worker@{DIGEST}"]}, image(f"ghcr.io/acme/worker:1@{DIGEST}")),
]


def accepted(security: Object, spec: Object) -> Decision:
    """What the operator says to a manifest under a policy with a store of its own, as an API server delivers it."""
    body = manifest(**spec)
    job, problem = parsed_job({**body, "metadata": {**body["metadata"], "uid": "u"}})
    keys = policy(security=security, store={"uri": "s3://bucket/runs"})
    site = Settings(allow_file_uris=True).site
    return accept(job_state({"job": job, "problem": problem, "policy": keys, "site": site}))


@pytest.mark.parametrize(("security", "spec"), ATTACKS, ids=[str(n) for n in range(len(ATTACKS))])
def test_a_manifest_that_tries_to_get_past_a_list_is_refused(security: Object, spec: Object) -> None:
    said = next(c for c in accepted(security, spec).conditions if c.type == "Accepted")
    reasons = ("ModelForbidden", "UriForbidden", "EndpointForbidden", "ImageForbidden", "NotSupported", "InvalidUri")
    assert said.status == "False"
    assert said.reason in reasons


@pytest.mark.parametrize(("security", "spec"), HONEST, ids=[str(n) for n in range(len(HONEST))])
def test_an_honest_manifest_is_accepted(security: Object, spec: Object) -> None:
    said = next(c for c in accepted(security, spec).conditions if c.type == "Accepted")
    assert (said.status, said.message) == ("True", "the object and its references are in order")


def test_the_policys_own_variables_and_images_need_no_list() -> None:
    keys = policy(
        security=HUB,
        store={"uri": "s3://bucket/runs"},
        worker={"image": "evil.com/x", "env": [{"name": "HF_ENDPOINT", "value": "https://mirror.example"}]},
    )
    said = accept(job_state({"policy": keys}, **model("hf://acme/llama"))).conditions[0]
    assert said.status == "True"
