"""Parts of the forecast benchmarks: computed once, kept, never mistaken for others."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evalfleet_lab.bench import forecast_parts
from evalfleet_lab.bench.forecast_parts import Bench, Outcome, Part, Store, compute, conditions, digest, run
from evalfleet_lab.bench.forecast_trees import KeptTrees
from evalfleet_scaling.forecast.boosting import TrainingSet, train
from evalfleet_scaling.forecast.interface import MINUTES_PER_DAY, Series
from evalfleet_scaling.forecast.models import Setup
from evalfleet_scaling.forecast.window import Window


def double(store: Store, series: Series, name: str) -> Outcome:
    if name == "broken":
        raise RuntimeError("no such luck")
    return {"name": name}, {"twice": 2 * series.values}


def part(name: str, value: float = 1.0) -> Part:
    return Part(name, double, (Series(np.full(3, value)), name))


def names_of(bench: Bench, *parts: Part) -> list[tuple[str, bool]]:
    return [(done.facts["name"], done.reused) for done in run(parts, bench)]


def test_a_stopped_run_goes_on_with_what_is_missing(tmp_path: Path) -> None:
    said: list[str] = []
    bench = Bench.start(tmp_path, say=said.append)
    with pytest.raises(RuntimeError, match="no such luck"):
        list(run([part("one"), part("broken"), part("two")], bench))
    assert names_of(bench, part("one"), part("two")) == [("one", True), ("two", False)]
    assert "kept from" in said[-2]
    assert "s of CPU" in said[-1]


def test_several_processes_give_the_same_parts_in_order(tmp_path: Path) -> None:
    wanted = [part("one"), part("two", 2.0), part("three", 3.0)]
    compute(wanted[1], Store(tmp_path / "a"))
    assert names_of(Bench.start(tmp_path / "a", 2), *wanted) == [("one", False), ("two", True), ("three", False)]
    here = list(run(wanted, Bench.start(tmp_path / "b", 1)))
    there = list(run(wanted, Bench.start(tmp_path / "a", 1)))
    assert all(np.array_equal(a.arrays["twice"], b.arrays["twice"]) for a, b in zip(here, there, strict=True))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (1, 1.0),
        ("1", 1),
        (("a", "b"), ("ab",)),
        ((("a",), "b"), ("a", ("b",))),
        (np.zeros(2), np.zeros((2, 1))),
        (np.zeros(2), np.zeros(2, dtype=np.float32)),
        (Series(np.zeros(2)), Series(np.zeros(2), 1)),
        (part("x"), part("x", 2.0)),
    ],
)
def test_whatever_differs_has_another_digest(one: Any, other: Any) -> None:
    assert digest(one) == digest(one)
    assert digest(one) != digest(other)


def test_other_code_reuses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench.start(tmp_path)
    assert names_of(bench, part("one")) == [("one", False)]
    monkeypatch.setattr(forecast_parts, "code_digest", lambda: "of tomorrow")
    assert names_of(bench, part("one")) == [("one", False)]


def test_a_damaged_part_is_computed_again(tmp_path: Path) -> None:
    bench = Bench.start(tmp_path)
    assert names_of(bench, part("one")) == [("one", False)]
    (file,) = tmp_path.rglob("*.npz")
    file.write_bytes(file.read_bytes()[:100])
    assert names_of(bench, part("one")) == [("one", False)]
    assert names_of(bench, part("one")) == [("one", True)]


def test_the_conditions_count_what_was_kept(tmp_path: Path) -> None:
    bench = Bench.start(tmp_path)
    compute(part("one"), bench.store)
    facts = conditions(bench, list(run([part("one"), part("two")], bench)))
    assert (facts["parts"], facts["partsKept"]) == (2, 1)
    assert facts["computedFrom"] <= facts["computedTo"]


def test_kept_trees_forecast_like_the_trained_ones(tmp_path: Path) -> None:
    values = np.random.default_rng(0).gamma(0.3, 900.0, 2 * MINUTES_PER_DAY)
    training = TrainingSet(Setup((5,), (0.5,)), Window(values, 0, 0), 600.0)
    first, second = KeptTrees(Store(tmp_path)), KeptTrees(Store(tmp_path))
    found = [trainer(training) for trainer in (train, first, second)]
    assert (first.spared_seconds, second.spared_seconds > 0) == (0.0, True)
    rows = np.random.default_rng(1).normal(size=(50, 28))
    forecasts = [[forest.predict(rows) for forest in one.forests] for one in found if one is not None]
    assert len(forecasts) == 3
    np.testing.assert_array_equal(forecasts[0], forecasts[1])
    np.testing.assert_array_equal(forecasts[0], forecasts[2])
