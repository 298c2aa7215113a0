"""The launcher starts programs that never outlive the one who asked: real processes, no control plane."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import pytest

from evalfleet.local.cluster.processes import LAUNCHER

TIMEOUT_SECONDS = 30.0
START = [sys.executable, "-I", "-S", str(LAUNCHER), "sandbox"]

# A daemon in the classic way: two forks and a session of its own, so that no process group reaches it.
DAEMON = (
    "import os, sys, time\n"
    "if os.fork() == 0:\n"
    "  os.setsid()\n"
    "  if os.fork() == 0:\n"
    "    open(sys.argv[1] + '.tmp', 'w').write(str(os.getpid())); os.rename(sys.argv[1] + '.tmp', sys.argv[1])\n"
    "    time.sleep(600)\n"
    "  os._exit(0)\n"
    "os.wait(); exec(sys.argv[2])"
)


class Sandbox:
    """A launcher in sandbox mode whose commands and reports are the test's."""

    def __init__(self, folder: Path, *argv: str, cwd: Path | None = None) -> None:
        self.log = folder / "log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [*START, str(os.getpid()), str(log.fileno()), str(cwd or folder), "--", *argv],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                pass_fds=(log.fileno(),),
                start_new_session=True,
            )

    def report(self) -> dict[str, object]:
        assert self.process.stdout is not None
        return json.loads(self.process.stdout.readline())

    @property
    def commands(self) -> IO[bytes]:
        assert self.process.stdin is not None
        return self.process.stdin

    def send(self, command: bytes) -> None:
        self.commands.write(command)
        self.commands.flush()

    def end(self) -> None:
        self.commands.close()
        self.process.wait(TIMEOUT_SECONDS)


@pytest.fixture
def sandboxes(tmp_path: Path) -> Iterator[list[Sandbox]]:
    started: list[Sandbox] = []
    yield started
    for sandbox in started:
        sandbox.end()


def run(tmp_path: Path, sandboxes: list[Sandbox], *argv: str) -> Sandbox:
    sandbox = Sandbox(tmp_path, *argv)
    sandboxes.append(sandbox)
    return sandbox


def python(code: str, *arguments: str) -> list[str]:
    return [sys.executable, "-S", "-c", code, *arguments]


@pytest.mark.parametrize("code", [0, 1, 75, 143])
def test_the_exit_code_is_reported(tmp_path: Path, sandboxes: list[Sandbox], code: int) -> None:
    sandbox = run(tmp_path, sandboxes, *python(f"print('out', flush=True); raise SystemExit({code})"))
    assert "pid" in sandbox.report()
    assert sandbox.report() == {"exitCode": code}
    assert sandbox.log.read_text() == "out\n"


def test_an_unknown_program_is_a_start_error(tmp_path: Path, sandboxes: list[Sandbox]) -> None:
    assert "No such file" in str(run(tmp_path, sandboxes, "/no/such/program").report()["startError"])


def test_a_missing_working_folder_is_a_start_error(tmp_path: Path, sandboxes: list[Sandbox]) -> None:
    sandbox = Sandbox(tmp_path, "/bin/true", cwd=tmp_path / "gone")
    sandboxes.append(sandbox)
    assert "No such file" in str(sandbox.report()["startError"])


def test_sigterm_reaches_the_first_process_alone(tmp_path: Path, sandboxes: list[Sandbox]) -> None:
    code = (
        "import signal, sys, time; signal.signal(15, lambda *_: sys.exit(7)); print('up', flush=True); time.sleep(600)"
    )
    sandbox = run(tmp_path, sandboxes, *python(code))
    sandbox.report()
    wait_until(lambda: sandbox.log.read_text() == "up\n")
    sandbox.send(b"T")
    assert sandbox.report() == {"exitCode": 7}


def test_a_signal_death_is_reported_as_such(tmp_path: Path, sandboxes: list[Sandbox]) -> None:
    sandbox = run(tmp_path, sandboxes, *python("import time; time.sleep(600)"))
    os.kill(int(str(sandbox.report()["pid"])), signal.SIGKILL)
    assert sandbox.report() == {"exitCode": -9}


def test_a_daemon_dies_with_the_first_process(tmp_path: Path, sandboxes: list[Sandbox]) -> None:
    mark = tmp_path / "pid"
    waiting = f"exec('''import os, time\nwhile not os.path.exists({str(mark)!r}): time.sleep(.01)''')"
    sandbox = run(tmp_path, sandboxes, *python(DAEMON, str(mark), waiting))
    sandbox.report()
    assert sandbox.report() == {"exitCode": 0}
    assert not alive(int(mark.read_text()))


@pytest.mark.parametrize("end", ["command", "lifeline"])
def test_everything_dies_by_command_and_at_the_end_of_the_lifeline(
    tmp_path: Path, sandboxes: list[Sandbox], end: str
) -> None:
    mark = tmp_path / "pid"
    sandbox = run(tmp_path, sandboxes, *python(DAEMON, str(mark), "import time; time.sleep(600)"))
    first = int(str(sandbox.report()["pid"]))
    wait_until(mark.exists)
    if end == "command":
        sandbox.send(b"K")
    else:
        sandbox.commands.close()
    sandbox.process.wait(TIMEOUT_SECONDS)
    assert not alive(first)
    assert not alive(int(mark.read_text()))


def test_the_first_process_dies_with_its_launcher(tmp_path: Path, sandboxes: list[Sandbox]) -> None:
    sandbox = run(tmp_path, sandboxes, *python("import time; time.sleep(600)"))
    first = int(str(sandbox.report()["pid"]))
    sandbox.process.kill()
    wait_until(lambda: not alive(first))


def test_a_server_dies_with_its_parent() -> None:
    launched = f"[sys.executable, '-I', '-S', {str(LAUNCHER)!r}, 'exec', str(os.getpid()), '--', '/bin/sleep', '600']"
    code = f"import os, subprocess, sys, time; print(subprocess.Popen({launched}).pid, flush=True); time.sleep(600)"
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    server = int(parent.stdout.readline())
    wait_until(lambda: b"sleep" in Path(f"/proc/{server}/cmdline").read_bytes()[:12])
    parent.kill()
    parent.wait()
    wait_until(lambda: not alive(server))


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while not holds():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)
