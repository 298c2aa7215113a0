"""The local demonstration: evaluate on this machine, SIGKILL one worker in the middle, end with the proof."""

import shutil
from pathlib import Path

import typer

from evalfleet.api.manifest import read_evaluation_job
from evalfleet.cli.output import Format
from evalfleet.local.demo.workspace import write_workspace
from evalfleet.local.run.command import LocalOptions, local_run, run_manifest
from evalfleet.local.run.display import make_display
from evalfleet.local.run.layout import Wish
from evalfleet.local.run.snapshot import Snapshot
from evalfleet.local.run.supervise import Supervisor, fetch

KILL_AT_PERCENT = 30.0


class KillOnce:
    """Observer that SIGKILLs one scoring worker when the run has passed `KILL_AT_PERCENT`."""

    def __init__(self) -> None:
        self.killed = False

    def __call__(self, supervisor: Supervisor, snapshot: Snapshot) -> None:
        """Kill the first worker that is scoring, once."""
        scoring = [worker for worker in supervisor.live if (worker.name, "Scoring") in snapshot.workers]
        if self.killed or snapshot.percent < KILL_AT_PERCENT or not scoring:
            return
        self.killed = True
        supervisor.display.event(f"demonstration: kill -9 {scoring[0].popen.pid} ({scoring[0].name})")
        scoring[0].kill()


def fetch_model(folder: Path) -> None:
    """Convert the demonstration's model into the node cache, where later runs find it."""
    manifest = write_workspace(folder)
    job = read_evaluation_job(manifest)
    fetch(local_run(job, manifest.parent.resolve(), LocalOptions()), make_display())


def run_demo(folder: Path, workers: int, output: Format) -> None:
    """Generate the grammar set, evaluate it from scratch and show the recovery."""
    shutil.rmtree(folder, ignore_errors=True)
    manifest = write_workspace(folder)
    typer.echo("SmolLM2-135M-Instruct on 480 minimal pairs of grammar; one worker will be killed on the way.", err=True)
    killer = KillOnce()
    run_manifest(manifest, LocalOptions(Wish(workers=workers), str(folder / "store"), output), killer)
    if not killer.killed:
        typer.echo("note: the run ended before a worker could be killed", err=True)
