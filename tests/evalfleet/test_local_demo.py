"""The demonstrations: their data is what it says, and they end with the proof."""

from pathlib import Path

import pytest
from cli import json_of, run_cli

from evalfleet.local.demo.cluster import cost_line
from evalfleet.local.demo.grammar import PHENOMENA, generate


def test_the_grammar_set_is_the_same_everywhere_and_has_no_doubles() -> None:
    pairs = generate(80)
    assert pairs == generate(80)
    assert sum(len(members) for members in pairs.values()) == 480
    for members in pairs.values():
        assert len({(pair.sentence_good, pair.sentence_bad) for pair in members}) == 80
        assert all(pair.sentence_good != pair.sentence_bad for pair in members)


def test_asking_for_more_pairs_than_there_are_is_refused() -> None:
    with pytest.raises(ValueError, match="the templates make"):
        generate(10_000)
    assert len(PHENOMENA) == 6


@pytest.mark.parametrize(
    ("cost", "line"),
    [
        ({"spent": "0.0125", "onDemandEquivalent": "0.0400", "currency": "USD"}, "0.0125 USD, 69 % less than"),
        ({"spent": "1.5000", "onDemandEquivalent": "1.5000", "currency": "EUR"}, "1.50 EUR, 0 % less than"),
        ({"spent": "0.0000", "onDemandEquivalent": "0.0000", "currency": "USD"}, "0.00 USD"),
        (None, "-"),
    ],
)
def test_the_cluster_demonstration_ends_with_what_it_cost(cost: dict[str, str] | None, line: str) -> None:
    assert cost_line({"cost": cost}).startswith(f"cost of the workers: {line}")


@pytest.mark.heavy
@pytest.mark.slow
def test_the_local_demonstration_survives_its_kill(tmp_path: Path) -> None:
    report = json_of(run_cli("demo", "--folder", "demo", "-o", "json", cwd=tmp_path))
    assert report["samples"]["planned"] == report["samples"]["scored"] == 480
    assert {row["n"] for row in report["results"]} == {80}


@pytest.mark.heavy
@pytest.mark.slow
@pytest.mark.cluster
def test_the_cluster_demonstration_survives_a_reclaimed_node(tmp_path: Path) -> None:
    status = json_of(run_cli("demo", "--cluster", "--folder", "demo", "-o", "json", cwd=tmp_path))
    assert status["samples"]["planned"] == status["samples"]["scored"] == 480
    assert status["workers"]["preemptions"] >= 1
    assert 0 < float(status["cost"]["spent"]) < float(status["cost"]["onDemandEquivalent"])
