"""Settings of the operator: as people write them, refused where nobody would read them, and documented."""

import re
from pathlib import Path
from typing import Any

import pytest

from evalfleet.controller.settings import OF_OTHERS, PREFIX, Settings, SettingsError

ROOT = Path(__file__).parents[2]


def given(**variables: str) -> Settings:
    return Settings.from_environment({PREFIX + name: value for name, value in variables.items()}, "me")


@pytest.mark.parametrize("text", ["true", "True", "TRUE", "yes", "on", "1", "t", "Y"])
def test_true_is_true_however_people_write_it(text: str) -> None:
    made = given(LEADER_ELECTION=text, ALLOW_FILE_URIS=text)
    assert (made.leader_election, made.allow_file_uris) == (True, True)


@pytest.mark.parametrize("text", ["false", "False", "no", "off", "0", "N"])
def test_false_is_false_however_people_write_it(text: str) -> None:
    made = given(LEADER_ELECTION=text, ALLOW_FILE_URIS=text)
    assert (made.leader_election, made.allow_file_uris) == (False, False)


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("1.5", 1.5), ("500ms", 0.5), ("45s", 45), ("1m30s", 90), ("2h", 7200)]
)
def test_durations_are_numbers_or_have_units(text: str, seconds: float) -> None:
    assert given(STUCK_SECONDS=text).stuck_seconds == seconds


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("LEADER_ELECTION", "maybe"),
        ("LEADER_ELECTION", "2"),
        ("STUCK_SECONDS", "soon"),
        ("STUCK_SECONDS", "-1"),
        ("STUCK_SECONDS", "0"),
        ("STUCK_SECONDS", "nan"),
        ("HTTP_ADDRESS", "8080"),
        ("NAMESPACE", "Not A Namespace"),
        ("WATCH_NAMESPACES", "one,Two"),
        ("HOST_CACHE", "relative/folder"),
        ("LOG_FORMAT", "yaml"),
    ],
)
def test_a_value_that_is_none_is_refused_with_the_name_of_its_variable(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=f"{PREFIX}{name}: "):
        given(**{name: value})


def test_every_mistake_is_named_at_once_and_a_misspelt_name_gets_a_suggestion() -> None:
    with pytest.raises(SettingsError) as refused:
        given(LEADER_ELECTON="false", WATCH_NAMESPACE="a", LOG_FORMAT="yaml", NONSENSE_AT_ALL="1")
    said = str(refused.value)
    assert "EVALFLEET_LEADER_ELECTON is no setting: did you mean EVALFLEET_LEADER_ELECTION?" in said
    assert "EVALFLEET_WATCH_NAMESPACE is no setting: did you mean EVALFLEET_WATCH_NAMESPACES?" in said
    assert "EVALFLEET_LOG_FORMAT: " in said
    assert "EVALFLEET_NONSENSE_AT_ALL is no setting" in said


def test_lists_have_commas_and_empty_is_unset() -> None:
    assert given(WATCH_NAMESPACES="one, two,").watch_namespaces == ("one", "two")
    assert given(WATCH_NAMESPACES="", LEADER_ELECTION="", IDENTITY="") == given()
    assert given().identity == "me"
    assert given(IDENTITY="other").identity == "other"


def test_variables_of_workers_and_of_services_are_none_of_the_operators() -> None:
    services = {
        "EVALFLEET_OPERATOR_SERVICE_HOST": "10.0.0.1",
        "EVALFLEET_OPERATOR_SERVICE_PORT_HTTP": "8080",
        "EVALFLEET_OPERATOR_PORT": "tcp://10.0.0.1:8080",
        "EVALFLEET_OPERATOR_PORT_8080_TCP_ADDR": "10.0.0.1",
        "EVALFLEET_CACHE": "/cache",
    }
    assert Settings.from_environment(services, "me") == given()


def test_settings_made_in_code_read_no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVALFLEET_LEADER_ELECTION", "false")
    assert Settings().leader_election


def test_no_variable_of_the_sources_is_unknown_to_the_operator() -> None:
    known = {name.upper() for name in Settings.model_fields} | OF_OTHERS
    sources = [path for part in ("operator", "worker") for path in (ROOT / part).rglob("*.py")]
    used = {name for path in sources for name in re.findall(r"\bEVALFLEET_([A-Z]+(?:_[A-Z]+)*)\b", path.read_text())}
    assert used <= known | {"CLAIM"}


def test_the_documented_table_is_the_model() -> None:
    page = (ROOT / "docs" / "operator.md").read_text("utf-8")
    rows = dict(re.findall(r"^\| `(EVALFLEET_[A-Z_]+)` \| (.*?) \|", page, re.MULTILINE))
    fields = Settings.model_fields
    assert rows == {f"{PREFIX}{name.upper()}": shown(info.default) for name, info in fields.items()}


def shown(default: Any) -> str:
    if default in (None, ()):
        return ""
    return (
        f"`{str(default).lower()}`"
        if isinstance(default, bool)
        else f"`{default:g}`"
        if isinstance(default, float)
        else f"`{default}`"
    )
