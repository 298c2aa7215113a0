"""Tables on screens of every width: texts wrap, columns fall away and are named, no number is cut."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalfleet.cli.description import View, describe_job, describe_policy
from evalfleet.cli.job_table import job_table
from evalfleet.cli.result_table import result_table
from evalfleet.cli.table import DETAIL, Column, table
from evalfleet.local.run.planning import plan_text
from evalfleet_worker.protocol import EvaluationFailure, PlanReport, Result

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
WIDTHS = (40, 60, 80, 120)
MESSAGE = "3 workers score; spot holds until the deadline, then two workers on demand take over"


def result(**changes: Any) -> Result:
    whole = {
        "evaluation": "subject-verb-agreement",
        "task": "leaderboard_math_counting_and_prob_hard",
        "metric": "exact_match",
        "filter": "flexible-extract",
        "value": -12.34567,
        "standard_error": 0.0558,
        "low": -14.5,
        "high": 0.6732,
        "n": 1_234_567,
        "method": "bootstrap (percentile)",
    }
    return Result(**{**whole, **changes})


RESULTS = [result(), result(task="", filter="none", metric="acc", value=0.5625, method="Wilson", n=80)]


@pytest.mark.parametrize("width", WIDTHS)
def test_results_keep_value_and_n_on_every_screen(width: int) -> None:
    shown = result_table(RESULTS, width)
    assert max(map(len, shown.splitlines())) <= width
    for number in ("-12.3457", "0.5625", "1234567", "80"):
        assert number in shown.split()
    for heading in ("SE", "INTERVAL", "METHOD"):
        assert heading in shown, "a column is there, or it is said that it is not"


def test_without_a_screen_a_result_is_one_line_with_its_whole_name() -> None:
    headings, first, second = result_table(RESULTS, None).splitlines()
    assert headings.split()[:3] == ["EVALUATION", "TASK", "METRIC"]
    for part in (RESULTS[0].evaluation, RESULTS[0].task, "exact_match (flexible-extract)", "-14.5000 to 0.6732"):
        assert part in first
    assert first.endswith("bootstrap (percentile)")
    assert second.split()[:3] == ["subject-verb-agreement", "acc", "0.5625"]
    assert second.split()[-2:] == ["80", "Wilson"]


def test_columns_that_say_nothing_are_left_out() -> None:
    plain = result(task="subject-verb-agreement", filter="none", low=None, high=None, standard_error=None, method="")
    headings = result_table([plain], None).splitlines()[0]
    assert headings.split() == ["EVALUATION", "METRIC", "VALUE", "N"]


@given(
    st.lists(
        st.tuples(
            st.text("abc-_/é ", min_size=1, max_size=60),
            st.integers(-(10**12), 10**12),
            st.text("xyz", min_size=1, max_size=30),
            st.integers(0, 10**9),
        ),
        min_size=1,
        max_size=4,
    ),
    st.integers(30, 130),
)
def test_no_number_is_ever_cut(rows: list[tuple[str, int, str, int]], width: int) -> None:
    columns = (Column("NAME"), Column("VALUE", number=True), Column("NOTE", DETAIL), Column("N", number=True))
    shown = table(columns, [[str(cell) for cell in row] for row in rows], width)
    assert max(map(len, shown.splitlines())) <= width
    words = shown.split()
    for _, value, _, n in rows:
        assert str(value) in words
        assert str(n) in words


def job(**status: Any) -> dict[str, Any]:
    spec = {"model": {"uri": "hf://organisation/a-model-with-a-long-name-instruct"}, "evaluations": [{"name": "arc"}]}
    metadata = {"name": "nightly-arc", "namespace": "team", "creationTimestamp": "2026-03-01T11:50:00Z"}
    return {"metadata": metadata, "spec": spec, "status": status}


STATUS = {
    "conditions": [
        {
            "type": "Ready",
            "status": "False",
            "reason": "Running",
            "message": MESSAGE,
            "lastTransitionTime": "2026-03-01T11:58:00Z",
        }
    ],
    "progress": {"percent": 43, "estimatedCompletionTime": "2026-03-01T12:10:00Z"},
    "workers": {"desired": 128, "ready": 127},
    "cost": {"spent": "1234.56", "currency": "USD"},
    "results": [{"evaluation": "arc", "metric": "acc", "value": "0.5123", "low": "0.48", "high": "0.54", "n": 2376}],
}


@pytest.mark.parametrize("width", WIDTHS)
def test_jobs_keep_name_state_and_how_far_they_are_on_every_screen(width: int) -> None:
    shown = job_table([job(**STATUS)], NOW, namespaces=True, width=width)
    assert max(map(len, shown.splitlines())) <= width
    assert {"43%", "Running"} <= set(shown.split())
    assert ("1234.56" in shown.split()) or ("COST" in shown)


def test_without_a_screen_a_job_is_one_line_with_its_whole_message() -> None:
    lines = job_table([job(**STATUS)], NOW, namespaces=False).splitlines()
    assert len(lines) == 2
    assert lines[1].endswith(MESSAGE)


@pytest.mark.parametrize("width", WIDTHS)
def test_descriptions_fit_the_screen_with_all_their_numbers(width: int) -> None:
    shown = describe_job(job(**STATUS), None, (), View(NOW, width))
    assert max(map(len, shown.splitlines())) <= width
    assert {"0.5123", "2376", "127", "128", "1234.56"} <= set(shown.split())
    pools = [{"name": "spot", "capacityType": "Spot", "pricePerHour": "12.34", "maxWorkers": 1000}]
    body = {"metadata": {"name": "default", "namespace": "team"}, "spec": {"pools": pools}}
    policy = describe_policy(body, (), View(NOW, width))
    assert max(map(len, policy.splitlines())) <= width
    assert "1000" in policy.split()


@pytest.mark.parametrize("width", [*WIDTHS, None])
def test_a_plan_fits_the_screen_with_all_its_numbers(width: int | None) -> None:
    digest = "1561c79edd8fb3c13118d1a7d4f6e679"
    refused = EvaluationFailure("gsm8k", "InvalidTask", "gsm8k: the aggregation 'maen' does not exist; write mean")
    plan = PlanReport("r", 1_234_567, 987_654_321, 0, 4321, 99_999.0, 1e18, 40 * 2**30, digest, "", 30_000)
    shown = plan_text("nightly", replace(plan, refused=(refused,), messages=("a warning " * 9,)), width)
    assert width is None or max(map(len, shown.splitlines())) <= width
    assert {"1234567", "987654321", "4321", "30000", "40.00", "99999"} <= set(shown.split())
    assert "cannot have a full score" in " ".join(shown.split())
