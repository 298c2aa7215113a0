"""Double executions and the time ledger, as real workers leave them."""

from dataclasses import replace

import pytest
from lm_eval_suite import choice_task, run_of, write_documents, write_model

from evalfleet_worker.finish import finish_run
from evalfleet_worker.finish.merge import merge_units
from evalfleet_worker.finish.report import defined
from evalfleet_worker.loop.coordinator import Claim, Coordinator, Owner
from evalfleet_worker.plan.planner import plan_run
from evalfleet_worker.protocol import FailureReason, LmEvalSpec, Result, RunError, dumps, loads
from evalfleet_worker.requests import Answer
from evalfleet_worker.stats.intervals import spearman
from evalfleet_worker.store.run_store import RunStore
from evalfleet_worker.tables import write_answers


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ledger")
    return write_model(folder / "model"), write_documents(folder / "data")


@pytest.fixture
def planned(place, tmp_path):
    run = run_of(*place, LmEvalSpec(task_config=choice_task()), tmp_path / "store")
    store = RunStore.open(run.store_uri, run.namespace, run.run_id)
    plan_run(run, store, tmp_path, lambda _: None)
    return run, store


def answers(store, unit, value=-1.0):
    return [Answer(r.row, log_probability=value, is_greedy=False) for r in store.read_unit(store.read_plan(), unit)]


def test_the_ledger_counts_loads_once_per_worker_and_double_work_as_wasted(planned, tmp_path):
    run, store = planned
    plan = store.read_plan()
    first, second = (Coordinator(store, plan, Owner(name, name), lambda: 0.0) for name in ("a", "b"))
    metadata = {"modelLoadSeconds": "3.0"}
    for unit in plan.units:
        first.commit(Claim(unit, 0), answers(store, unit), 2.0, metadata)
    second.commit(Claim(plan.units[0], 1), answers(store, plan.units[0]), 1.5, metadata)
    second.commit(Claim(plan.units[1], 1), answers(store, plan.units[1], value=-2.0), 1.5, metadata)
    report = finish_run(run, store, tmp_path)
    twice = plan.units[0].row_count + plan.units[1].row_count
    assert (report.samples.executed_twice, report.samples.mismatched) == (twice, plan.units[1].row_count)
    assert report.time.model_load_seconds == 3.0
    assert report.time.scoring_seconds == pytest.approx(2.0 * len(plan.units))
    assert report.time.wasted_seconds == 3.0


def test_a_part_with_other_rows_than_its_unit_is_corrupt(planned):
    _, store = planned
    plan = store.read_plan()
    store.commit(plan.units[0], "a", write_answers(answers(store, plan.units[0])[:-1], {"owner": "a"}))
    with pytest.raises(RunError, match="unit 0 holds") as caught:
        merge_units(store, plan)
    assert caught.value.reason is FailureReason.STORE_CORRUPT


def test_a_number_that_is_none_is_published_as_undefined_and_the_report_can_be_read():
    interval = spearman([1.0, 1.0, 1.0], [1.0, 2.0, 3.0])  # a model that answers always the same
    found = defined(Result("sts", "spearman", interval.value, None, None, None, 3))
    assert loads(Result, dumps(found)) == replace(found, value=None)
    assert found.method == "undefined: the metric of these answers is nan"
