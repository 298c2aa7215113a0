"""Credentials that pods print at their end do not reach statuses, events and logs; everything else does."""

import json

import pytest
from operator_states import NOW

from evalfleet.reconcile.children import Phase, child_of
from evalfleet.reconcile.job.plan import failure_reason
from evalfleet.reconcile.redact import redacted

LEAKS = {
    "url": ("s3 endpoint https://minio:hunter22@store:9000 is away", "hunter22"),
    "hub": ("401 for token hf_AbCdEfGhIjKlMnOpQrStUv", "hf_AbCdEfGhIjKlMnOpQrStUv"),
    "aws": ("InvalidAccessKeyId AKIAIOSFODNN7EXAMPLE", "AKIAIOSFODNN7EXAMPLE"),
    "environment": ("environ({'AWS_SECRET_ACCESS_KEY': 'wJalrXUtnFEMI/K7MDENG', 'A': '1'})", "wJalrXUtnFEMI"),
    "header": ("headers: Authorization: Bearer abcdef.ghijkl-mnop", "abcdef.ghijkl"),
    "presigned": ("GET /m?X-Amz-Credential=AK%2F2026&X-Amz-Signature=0a1b2c3d4e5f failed", "0a1b2c3d4e5f"),
    "azure": ("AccountName=a;AccountKey=abcd1234abcd1234==;EndpointSuffix=core", "abcd1234abcd1234"),
    "jwt": ("id eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.c2lnbmF0dXJl", "eyJzdWIiOiIxMjM0In0"),
}
PLAIN = (
    "the model is not at s3://models/candidate-42: NoSuchKey",
    "5000 tokens in 10 units; tokenizer.json holds no token: 7",
    "hf://HuggingFaceTB/SmolLM2-135M-Instruct: 404, set spec.model.secretName for a private model",
    "modelDigest 0123456789abcdef0123456789abcdef",
)


@pytest.mark.parametrize(("words", "secret"), LEAKS.values(), ids=LEAKS)
def test_a_credential_is_hidden_wherever_a_pod_says_it(words: str, secret: str) -> None:
    assert secret not in redacted(words)
    state = {"terminated": {"exitCode": 1, "reason": "Error", "message": words}}
    pod = {
        "metadata": {"name": "p"},
        "spec": {"containers": [{"name": "worker"}]},
        "status": {"phase": "Failed", "containerStatuses": [{"name": "worker", "state": state}]},
    }
    child = child_of({"metadata": {"name": "x-plan"}, "status": {}}, [pod], NOW)
    assert child.phase is Phase.WAITING
    assert "the last attempt failed" in child.message
    assert secret not in child.message
    for termination in (words, json.dumps({"reason": "ModelUnreadable", "message": words})):
        assert secret not in failure_reason(termination, "Failed", "m")[1]


@pytest.mark.parametrize("words", PLAIN)
def test_words_without_credentials_stay(words: str) -> None:
    assert redacted(words) == words
