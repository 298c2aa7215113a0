"""Fixtures that tests of several packages share."""

import logging
import secrets
from collections.abc import Iterator

import pytest
from hypothesis import settings

# The same examples at every run, and no wall-clock deadline: a busy machine is no failure.
settings.register_profile("evalfleet", deadline=None, derandomize=True)
settings.load_profile("evalfleet")


@pytest.fixture
def s3_store(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """URI of an empty place on an S3-compatible server of this process."""
    import boto3
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    endpoint = f"http://{host}:{port}"
    for name, value in {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ALLOW_HTTP": "true",
    }.items():
        monkeypatch.setenv(name, value)
    boto3.client("s3", endpoint_url=endpoint).create_bucket(Bucket="evalfleet")
    yield f"s3://evalfleet/{secrets.token_hex(4)}"
    server.stop()
