"""Free ports on the loopback interface."""

import random
import socket
from contextlib import ExitStack

# Below the kernel's default ephemeral range (32768...), so that no outgoing connection takes a port between the
# moment it is chosen and the moment its server binds it.
_FIRST, _LAST = 20_000, 32_000
_ATTEMPTS = 200


def free_ports(count: int) -> list[int]:
    """`count` distinct ports of 127.0.0.1 that nobody listens on.

    Raises:
        OSError: no free port was found.
    """
    ports: list[int] = []
    with ExitStack() as stack:
        for port in random.sample(range(_FIRST, _LAST), _ATTEMPTS):
            probe = stack.enter_context(socket.socket())
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            ports.append(port)
            if len(ports) == count:
                return ports
    raise OSError(f"no {count} free ports between {_FIRST} and {_LAST} on 127.0.0.1")
