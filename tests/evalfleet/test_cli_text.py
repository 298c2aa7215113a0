from datetime import UTC, datetime

import pytest

from evalfleet.cli.text import age, duration, money, relative, saved_percent

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5, "0s"),
        (0, "0s"),
        (119.4, "119s"),
        (120, "2m"),
        (330, "5m30s"),
        (3599, "59m"),
        (3600, "1h"),
        (11_520, "3h12m"),
        (172_799, "47h59m"),
        (367_200, "4d6h"),
    ],
)
def test_durations_read_as_kubectl_writes_them(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_times_are_told_from_now() -> None:
    assert relative("2026-03-01T12:05:00Z", NOW) == "in 5m"
    assert relative("2026-03-01T11:00:00+00:00", NOW) == "1h ago"
    assert age("2026-03-01T11:58:30Z", NOW) == "90s"


@pytest.mark.parametrize("nothing", [None, "", "soon"])
def test_what_is_no_time_is_a_dash(nothing: object) -> None:
    assert relative(nothing, NOW) == age(nothing, NOW) == "-"


@pytest.mark.parametrize(
    ("amount", "text"), [("12.3456", "12.35 USD"), ("0.0421", "0.0421 USD"), ("0", "0.00 USD"), (None, "-"), ("x", "-")]
)
def test_money_keeps_small_sums_visible(amount: object, text: str) -> None:
    assert money(amount, "USD") == text


def test_saving_is_told_only_where_there_is_something_to_compare() -> None:
    assert saved_percent("1.00", "4.00") == 75
    assert saved_percent("0", "0") is None
    assert saved_percent("1.00", None) is None
