"""Memory of a container's processes, compared with its limit several times a second.

Counted is what a cgroup could not drop either: anonymous and shared memory. File pages (mapped weights, shared
libraries) are left out because the kernel reclaims them before it kills.
"""

import asyncio
from pathlib import Path

from evalfleet.local.cluster.hostnode.process import ContainerProcess

_INTERVAL_SECONDS = 0.25
_COUNTED = ("RssAnon:", "RssShmem:")


async def kill_above(process: ContainerProcess, limit_bytes: int) -> None:
    """Kill `process` as soon as it uses more than `limit_bytes`."""
    while not process.out_of_memory:
        if used_bytes(process.pid) > limit_bytes:
            process.out_of_memory = True
            process.kill()
        await asyncio.sleep(_INTERVAL_SECONDS)


def used_bytes(pid: int) -> int:
    """Anonymous and shared resident memory of `pid` and all processes below it."""
    total, pending = 0, [pid]
    while pending:
        current = pending.pop()
        total += _resident_bytes(current)
        pending += _children(current)
    return total


def _resident_bytes(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith(_COUNTED))


def _children(pid: int) -> list[int]:
    children: list[int] = []
    for thread in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            children += map(int, thread.read_text().split())
        except OSError:
            continue
    return children
