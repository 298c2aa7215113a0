"""The command line as users start it: a process of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any


def start_cli(*arguments: str, cwd: Path, **environment: str) -> subprocess.Popen[str]:
    """Start `evalfleet ARGUMENTS` in `cwd`."""
    return subprocess.Popen(
        [sys.executable, "-m", "evalfleet.cli.main", *arguments],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "COLUMNS": "200", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run_cli(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `evalfleet ARGUMENTS` to its end."""
    process = start_cli(*arguments, cwd=cwd, **environment)
    output, errors = process.communicate(timeout=500)
    return subprocess.CompletedProcess(process.args, process.returncode, output, errors)


def json_of(done: subprocess.CompletedProcess[str]) -> Any:
    """The JSON a successful command printed."""
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
