"""Starts one program so that it never outlives the supervisor. Runs as a script with the standard library alone.

`exec`: the program replaces the launcher, with SIGKILL as its parent-death signal (control-plane servers).

`sandbox`: the launcher stays as the parent of one container, as containerd-shim does. It is a child subreaper, so no
descendant can slip away by forking twice; it holds the read end of a pipe from the supervisor (its standard input)
and kills everything when that pipe ends, whatever ended the supervisor. Commands on the pipe: `T` sends SIGTERM to
the container's first process, `K` kills all of them. The outcome is one line of JSON on standard output.

Deliberately absent: imports of the package (this starts once per container and must take milliseconds).
"""

import contextlib
import ctypes
import json
import os
import select
import signal
import sys

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_LIBC = ctypes.CDLL(None, use_errno=True)


def die_with_parent(parent: int) -> None:
    """Have the kernel send SIGKILL when the parent ends; exit if it ended already."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it died before the call: the signal will never come
        os._exit(137)


def descendants() -> list[int]:
    """Every process below this one, by a walk over the parents in /proc."""
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):  # noqa: PTH208 - pathlib costs a third of the start-up time
        if name.isdigit():
            parent = _parent_of(name)
            if parent:
                children.setdefault(parent, []).append(int(name))
    found: list[int] = []
    pending = [os.getpid()]
    while pending:
        below = children.get(pending.pop(), [])
        found += below
        pending += below
    return found


def _parent_of(pid: str) -> int:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123
            # The command name is in parentheses and may contain anything; state and parent follow the last one.
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return 0
    return 0 if fields[0] == b"Z" else int(fields[1])


def kill_all() -> None:
    """SIGKILL every descendant until none is left (one may fork while the list is read)."""
    while below := descendants():
        _kill(below)
        _reap(-1)
        select.select([], [], [], 0.002)


def _reap(main: int) -> int | None:
    """Collect ended children; the wait status of `main` if it is among them."""
    outcome: int | None = None
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return outcome
        if pid == 0:
            return outcome
        if pid == main:
            outcome = status


def _start(argv: list[str], log: int, cwd: str) -> tuple[int, str]:
    """Fork and exec; (pid, "") or (pid, why it did not start)."""
    failure, report = os.pipe()  # close-on-exec: end of file means that exec succeeded
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        _become(argv, log, cwd, parent, report)
    os.close(report)
    with os.fdopen(failure, "rb") as file:
        return pid, file.read().decode()


def _become(argv: list[str], log: int, cwd: str, parent: int, report: int) -> None:
    try:
        os.setsid()
        die_with_parent(parent)
        for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, [])
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.chdir(cwd)
        os.execvpe(argv[0], argv, os.environ)  # noqa: S606
    except OSError as error:
        os.write(report, str(error).encode())
    finally:
        os._exit(128)


def sandbox(log: int, cwd: str, argv: list[str]) -> None:
    """Run one container to its end and report how it ended."""
    _LIBC.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    wake_read, wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake_write)
    main, failure = _start(argv, log, cwd)
    if failure:
        _say({"startError": failure})
        return
    _say({"pid": main})
    status = _wait(main, wake_read)
    kill_all()
    _say({"exitCode": os.waitstatus_to_exitcode(status)})


def _wait(main: int, wake: int) -> int:
    while True:
        readable, _, _ = select.select([0, wake], [], [])
        if wake in readable:
            os.read(wake, 4096)
        if 0 in readable:
            _obey(os.read(0, 64), main)
        status = _reap(main)
        if status is not None:
            return status


def _obey(commands: bytes, main: int) -> None:
    if not commands:  # the supervisor is gone
        kill_all()
        os._exit(137)
    if b"T" in commands:
        os.kill(main, signal.SIGTERM)
    if b"K" in commands:
        _kill(descendants())


def _kill(pids: list[int]) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):  # it ended since the listing
            os.kill(pid, signal.SIGKILL)


def _say(message: dict[str, object]) -> None:
    os.write(1, json.dumps(message).encode() + b"\n")


def main() -> None:
    """`launcher.py exec PARENT -- ARGV...` or `launcher.py sandbox PARENT LOG_FD CWD -- ARGV...`."""
    split = sys.argv.index("--")
    options, argv = sys.argv[1:split], sys.argv[split + 1 :]
    mode, parent = options[0], int(options[1])
    if mode == "exec":
        die_with_parent(parent)
        os.execv(argv[0], argv)  # noqa: S606
    if os.getppid() != parent:
        os._exit(137)
    sandbox(int(options[2]), options[3], argv)


if __name__ == "__main__":
    main()
