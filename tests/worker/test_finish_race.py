"""Two finishers of one run, one a step behind the other."""

from pathlib import Path

from protocol_simulation import FaultyObjects, answers, draft

from evalfleet_worker.finish.finisher import finish_run
from evalfleet_worker.protocol import FinishReport, ModelSpec, RunSpec, SampleCounts, TimeLedger, to_json
from evalfleet_worker.requests import Answer, Unit
from evalfleet_worker.store.layout import Layout
from evalfleet_worker.store.run_store import Plan, RunStore
from evalfleet_worker.tables import write_answers

PUBLISHED = FinishReport("run", "Complete", (), SampleCounts(6, 6), TimeLedger(), "memory")


class Overtaken(RunStore):
    """A store in which another finisher publishes and sweeps while this one merges."""

    def read_answers(self, plan: Plan, unit: Unit) -> tuple[list[Answer], dict[str, str]] | None:
        if self.read_summary() is None:
            RunStore(self.objects, self.layout).publish_results({"results.json": b"{}"}, to_json(PUBLISHED))
        return super().read_answers(plan, unit)


def test_a_finisher_whose_units_are_swept_away_by_another_reports_what_that_one_published(tmp_path: Path) -> None:
    store = Overtaken(FaultyObjects(), Layout("namespace", "run"))
    plan = store.publish_plan(draft(2))
    for unit in plan.units:
        store.commit(unit, "me", write_answers(answers(unit), {"owner": "me"}))
    run = RunSpec("namespace", "run", "run", "memory", ModelSpec("file:///nowhere"), ())
    report = finish_run(run, store, tmp_path)
    assert (report.outcome, report.samples) == (PUBLISHED.outcome, PUBLISHED.samples)
