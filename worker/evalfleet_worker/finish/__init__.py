"""The finish command: merge the units, replay the harnesses, publish results with intervals."""

from evalfleet_worker.finish.finisher import finish_run

__all__ = ["finish_run"]
