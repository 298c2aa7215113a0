"""The progress endpoint of a worker: read-only, on a real port."""

import socket
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest

from evalfleet_worker.protocol import Progress, loads
from evalfleet_worker.serve import serve_progress

PROGRESS = Progress("run", "worker", "Scoring", 10, 4, 100, 40, 8.5, 120.0, device="toy", failures=1)


@pytest.fixture
def address() -> Iterator[str]:
    server = serve_progress("127.0.0.1:0", lambda: PROGRESS)
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def test_progress_is_the_protocol_dataclass_as_json(address: str) -> None:
    with urllib.request.urlopen(f"{address}/progress", timeout=30) as answer:
        assert answer.headers["Content-Type"] == "application/json"
        assert loads(Progress, answer.read()) == PROGRESS


def test_a_living_worker_is_healthy(address: str) -> None:
    with urllib.request.urlopen(f"{address}/healthz", timeout=30) as answer:
        assert (answer.status, answer.read()) == (200, b"ok")


@pytest.mark.parametrize(("path", "method", "status"), [("/", "GET", 404), ("/progress", "POST", 501)])
def test_nothing_else_is_served(address: str, path: str, method: str, status: int) -> None:
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(urllib.request.Request(address + path, method=method), timeout=30)
    assert refused.value.code == status
    refused.value.close()


@pytest.mark.parametrize("address", ["::1:0", "[::1]:0"])
def test_a_worker_is_reachable_by_ipv6(address: str) -> None:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            pass
    except OSError:
        pytest.skip("this machine has no IPv6")
    server = serve_progress(address, lambda: Progress("run", "w", "Scoring", 2, 1, 6, 3, 1.0, 30.0))
    with urllib.request.urlopen(f"http://[::1]:{server.server_address[1]}/healthz", timeout=30) as response:
        assert response.status == 200
    server.shutdown()
