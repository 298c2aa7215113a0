"""Real worker processes on a real store, with a toy engine."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from protocol_simulation import draft

from evalfleet_worker.protocol import ErrorReport, EvaluationSpec, LmEvalSpec, ModelSpec, RunSpec, dumps, loads
from evalfleet_worker.requests import Answer
from evalfleet_worker.store.run_store import Plan, RunStore

SUPPORT = Path(__file__).resolve().parent
QUICK_CLAIMS = {"heartbeat_seconds": 0.5, "lease_seconds": 3.0, "poll_seconds": 0.2, "backup_seconds": 60.0}


@dataclass
class Bench:
    """A planned run and the processes that work on it."""

    folder: Path
    store_uri: str
    units: int = 12
    second_from: int | None = None
    environment: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        evaluation = EvaluationSpec("evaluation", lm_eval=LmEvalSpec(task="none"))
        self.spec = RunSpec("test", "run", "run", self.store_uri, ModelSpec("file:///nowhere"), (evaluation,))
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "spec.json").write_text(dumps(self.spec))
        self.processes: list[subprocess.Popen[bytes]] = []

    def store(self) -> RunStore:
        """The run's store, opened anew."""
        return RunStore.open(self.store_uri, "test", "run")

    def plan(self) -> Plan:
        """Publish the plan."""
        return self.store().publish_plan(draft(self.units, self.second_from))

    def start(
        self, name: str, engine: str = "make", prefix: Sequence[str] = (), **popen: object
    ) -> subprocess.Popen[bytes]:
        """Start one worker process, below the command `prefix`."""
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(SUPPORT), *sys.path]),
            "EVALFLEET_ENGINE": f"toy_engine:{engine}",
            "EVALFLEET_CLAIM_SETTINGS": json.dumps(QUICK_CLAIMS),
            **self.environment,
        }
        argv = [*prefix, sys.executable, "-m", "evalfleet_worker", "work", "--spec", str(self.folder / "spec.json")]
        argv += [
            "--worker",
            name,
            "--termination-log",
            str(self.termination_log(name)),
            "--cache",
            str(self.folder / "cache"),
        ]
        process = subprocess.Popen(argv, env=environment, stderr=subprocess.DEVNULL, **popen)  # type: ignore[call-overload]
        self.processes.append(process)
        return process  # type: ignore[no-any-return]

    def termination_log(self, name: str) -> Path:
        """Where a process leaves its last words."""
        return self.folder / f"{name}.termination.json"

    def error(self, name: str) -> ErrorReport:
        """The last words of a process that failed."""
        return loads(ErrorReport, self.termination_log(name).read_bytes())

    def merged(self) -> list[Answer]:
        """All committed answers in row order."""
        store = self.store()
        plan = store.read_plan()
        assert plan is not None
        parts = (store.read_answers(plan, unit) for unit in plan.units)
        return [answer for part in parts if part is not None for answer in part[0]]

    def expected(self) -> list[Answer]:
        """What an undisturbed run commits."""
        rows = range(self.units * 3)
        return [Answer(row, log_probability=-row / 3, is_greedy=row % 2 == 0) for row in rows]

    def kill_all(self) -> None:
        """SIGKILL what is left."""
        for process in self.processes:
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
            process.wait()
