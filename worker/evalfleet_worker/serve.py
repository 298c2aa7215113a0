"""GET /progress and /healthz of a worker: read-only, small, on the address it is told."""

import socket
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from evalfleet_worker.protocol import Progress, dumps

IDLE_SECONDS = 5.0


def serve_progress(address: str, progress: Callable[[], Progress]) -> ThreadingHTTPServer:
    """Serve in a daemon thread on HOST:PORT (IPv6 with or without brackets); the returned server can be shut down.

    Raises:
        OSError: the address cannot be bound.
        ValueError: not HOST:PORT.
    """
    host, _, port = address.rpartition(":")

    class Handler(BaseHTTPRequestHandler):
        timeout = IDLE_SECONDS

        def do_GET(self) -> None:
            match self.path:
                case "/progress":
                    self._answer(200, "application/json", dumps(progress()))
                case "/healthz":
                    self._answer(200, "text/plain", "ok")
                case _:
                    self._answer(404, "text/plain", "only /progress and /healthz are here")

        def _answer(self, status: int, kind: str, text: str) -> None:
            body = text.encode()
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
            """Polls are not news."""

    class Server(ThreadingHTTPServer):
        address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        daemon_threads = True

    server = Server((host.strip("[]"), int(port)), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server
