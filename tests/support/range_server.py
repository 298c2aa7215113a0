"""A server of model files: the hub's and S3's protocol, made-up bytes of weights, and a count of what it sends."""

import json
import re
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

COMMIT = "c0ffee" * 6 + "c0ff"
BUCKET = "models"


class RangeServer(ThreadingHTTPServer):
    """Files of one model, and how much of them was sent.

    Attributes:
        small: whole content by name.
        weights: header content and size by name; the data behind the header is made up.
        sent: bytes of all answers.
        calls: paths of all requests.
    """

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.small: dict[str, bytes] = {}
        self.weights: dict[str, tuple[bytes, int]] = {}
        self.revision = 0
        self.sent = 0
        self.calls: list[str] = []

    @property
    def address(self) -> str:
        """URL of the server."""
        return f"http://127.0.0.1:{self.server_port}"

    def size(self, name: str) -> int:
        """Bytes of a file."""
        return len(self.small[name]) if name in self.small else self.weights[name][1]

    def read(self, name: str, begin: int, end: int) -> bytes:
        """Bytes [begin, end) of a file."""
        if name in self.small:
            return self.small[name][begin:end]
        header, size = self.weights[name]
        made_up = bytes([(begin // 4096 + self.revision) % 251]) * (min(end, size) - max(begin, len(header)))
        return header[begin:end] + made_up

    def put_weights(self, name: str, tensors: dict[str, tuple[int, ...]]) -> None:
        """A bfloat16 safetensors file of these shapes."""
        offset, content = 0, {}
        for tensor, shape in tensors.items():
            size = 2
            for length in shape:
                size *= length
            content[tensor] = {"dtype": "BF16", "shape": shape, "data_offsets": [offset, offset + size]}
            offset += size
        header = json.dumps(content).encode()
        self.weights[name] = (struct.pack("<Q", len(header)) + header, 8 + len(header) + offset)

    def names(self) -> list[str]:
        """All files."""
        return sorted([*self.small, *self.weights])


class _Handler(BaseHTTPRequestHandler):
    server: RangeServer
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        place = urlsplit(self.path)
        self.server.calls.append(self.path)
        if place.path.startswith("/api/models/"):
            self._answer(200, json.dumps(self._listing()).encode(), "application/json")
        elif "list-type=2" in place.query:
            self._answer(200, self._s3_listing(), "application/xml")
        elif f"/resolve/{COMMIT}/" in place.path and place.path.rpartition("/")[2] in self.server.weights:
            self.send_response(302)
            self.send_header("Location", f"{self.server.address}/cdn/{place.path.rpartition('/')[2]}")
            self.send_header("Content-Length", "0")
            self.end_headers()
        else:
            self._file(place.path.rpartition("/")[2])

    def do_HEAD(self) -> None:
        self.do_GET()

    def _file(self, name: str) -> None:
        if name not in self.server.names():
            self._answer(404, b"", "text/plain")
            return
        size = self.server.size(name)
        asked = re.fullmatch(r"bytes=(\d+)-(\d+)?", self.headers.get("Range", ""))
        begin, end = (int(asked[1]), int(asked[2] or size - 1) + 1) if asked else (0, size)
        content = self.server.read(name, begin, min(end, size))
        extra = {"Content-Range": f"bytes {begin}-{begin + len(content) - 1}/{size}"} if asked else {}
        self._answer(206 if asked else 200, content, "application/octet-stream", extra)

    def _answer(self, status: int, content: bytes, kind: str, extra: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {
            "Content-Type": kind, "Content-Length": str(len(content)), "ETag": '"tag"', "Accept-Ranges": "bytes",
            "Last-Modified": "Sun, 06 Nov 1994 08:49:37 GMT", **(extra or {}),
        }.items():  # fmt: skip
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)
            self.server.sent += len(content)

    def _listing(self) -> dict[str, object]:
        def described(name: str) -> dict[str, object]:
            size, tag = self.server.size(name), f"{name}-{self.server.revision}"
            lfs = {"lfs": {"size": size, "sha256": tag, "pointerSize": 1}} if name in self.server.weights else {}
            return {"rfilename": name, "size": size, "blobId": f"{name}-{size}", **lfs}

        siblings = [described(name) for name in self.server.names()]
        return {"id": "org/model", "_id": "1", "sha": COMMIT, "siblings": siblings, "private": False, "tags": []}

    def _s3_listing(self) -> bytes:
        entries = "".join(
            f"<Contents><Key>model/{name}</Key><Size>{self.server.size(name)}</Size><ETag>{name}-{self.server.revision}"
            "</ETag><LastModified>2026-01-01T00:00:00.000Z</LastModified></Contents>"
            for name in self.server.names()
        )
        return f"<ListBucketResult><IsTruncated>false</IsTruncated>{entries}</ListBucketResult>".encode()

    def log_message(self, *_: object) -> None:
        """Silence."""


@contextmanager
def range_server() -> Iterator[RangeServer]:
    """A running server."""
    server = RangeServer()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
