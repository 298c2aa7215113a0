"""How `evalfleet cluster` talks to a running supervisor: one JSON line each way over a unix socket (mode 0600)."""

import asyncio
import json
import os
import socket
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

Answer = dict[str, Any]
Handler = Callable[[Answer], Awaitable[Answer]]

SOCKET_NAME = "control.sock"


class ControlError(RuntimeError):
    """No supervisor answers, or it refused; the message says which."""


@contextmanager
def socket_path(folder: Path) -> Iterator[str]:
    """Path of the socket that is short whatever the folder (unix sockets allow 107 characters)."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{descriptor}/{SOCKET_NAME}"
    finally:
        os.close(descriptor)


async def serve(folder: Path, handler: Handler) -> asyncio.AbstractServer:
    """Listen in `folder`; every request is answered by `handler`, its errors included."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line = await reader.readline()
        try:
            reply = await handler(json.loads(line))
        except (ValueError, KeyError, TypeError, RuntimeError, OSError) as error:
            reply = {"error": str(error) or type(error).__name__}
        writer.write(json.dumps(reply).encode() + b"\n")
        await writer.drain()
        writer.close()

    (folder / SOCKET_NAME).unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX)
    with socket_path(folder) as path:
        listener.bind(path)
    (folder / SOCKET_NAME).chmod(0o600)
    return await asyncio.start_unix_server(answer, sock=listener)


def request(folder: Path, message: Answer, timeout_seconds: float = 60.0) -> Answer:
    """Send `message` to the supervisor of `folder` and return its answer.

    Raises:
        ControlError: no cluster runs there, it did not answer in time, or it refused.
    """
    try:
        with socket.socket(socket.AF_UNIX) as connection, socket_path(folder) as path:
            connection.settimeout(timeout_seconds)
            connection.connect(path)
            connection.sendall(json.dumps(message).encode() + b"\n")
            with connection.makefile() as stream:
                line = stream.readline()
    except OSError as error:
        raise ControlError(
            f"no local cluster answers in {folder} ({error}); start one with: evalfleet cluster up"
        ) from error
    answer: Answer = json.loads(line) if line else {"error": "the cluster ended"}
    if "error" in answer:
        raise ControlError(str(answer["error"]))
    return answer
