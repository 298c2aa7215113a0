"""One run on this machine: what, where, and what is remembered of it beside its logs."""

import json
from dataclasses import dataclass
from pathlib import Path

from evalfleet.local.run.layout import Wish
from evalfleet.local.run.processes import Launch
from evalfleet_worker.protocol import RunSpec


@dataclass(frozen=True, slots=True)
class LocalRun:
    """One run on this machine.

    Attributes:
        spec: what to evaluate.
        wish: devices and number of workers.
        cache: node cache folder.
        log_folder: logs of the processes; of all runs of one manifest with the same options.
        memory: file that remembers the last published run of the manifest, with whatever options.
    """

    spec: RunSpec
    wish: Wish
    cache: Path
    log_folder: Path
    memory: Path

    def prepare(self) -> Launch:
        """Write down what its processes share."""
        return Launch.prepare(self.spec, self.log_folder, self.cache)

    def remember_finished(self) -> None:
        """Note that this run is published, so that nothing is planned or started to show it again."""
        content = {"runId": self.spec.run_id, "storeUri": self.spec.store_uri}
        self.memory.write_text(json.dumps(content), "utf-8")

    def last_finished(self) -> str | None:
        """Id of the last run of this manifest that was published in this store; None when there is none here."""
        try:
            content = json.loads(self.memory.read_text("utf-8"))
        except (OSError, ValueError):
            return None
        return str(content["runId"]) if content.get("storeUri") == self.spec.store_uri else None
