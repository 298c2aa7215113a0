"""The conventions of the API, walked over the generated CRDs: bounds, descriptions, no floats."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

Schema = dict[str, Any]
CRDS = sorted((Path(__file__).parents[2] / "crds").glob("*.evalfleet.io.yaml"))
TIME_FORMATS = ("date-time",)
UNBOUNDED: dict[str, str] = {
    "spec.evaluations[].lmEval.taskConfig": "preserves unknown fields; the operator checks its 64 KiB",
}


def walk(schema: Schema, path: str = "") -> Iterator[tuple[str, Schema]]:
    for name, member in (schema.get("properties") or {}).items():
        inner = f"{path}.{name}".lstrip(".")
        yield inner, member
        yield from walk(member, inner)
    for key, mark in (("items", "[]"), ("additionalProperties", "{}")):
        member = schema.get(key)
        if isinstance(member, dict):
            yield path + mark, member
            yield from walk(member, path + mark)


def fields(crd: Path, part: str) -> list[tuple[str, Schema]]:
    definition = yaml.safe_load(crd.read_text("utf-8"))
    root = definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return [(path, member) for path, member in walk(root) if path.startswith(part)]


def is_bounded(member: Schema) -> bool:
    match member.get("type"):
        case "string":
            return "enum" in member or "maxLength" in member or member.get("format") in TIME_FORMATS
        case "array":
            return "maxItems" in member
        case "integer":
            return "minimum" in member and "maximum" in member
        case "object" if "additionalProperties" in member:
            return "maxProperties" in member
        case _:
            return True


@pytest.mark.parametrize("crd", CRDS, ids=lambda path: path.name)
@pytest.mark.parametrize("part", ["spec", "status"])
def test_every_string_list_map_and_number_has_a_bound(crd: Path, part: str) -> None:
    assert [path for path, member in fields(crd, part) if not is_bounded(member) and path not in UNBOUNDED] == []


@pytest.mark.parametrize("crd", CRDS, ids=lambda path: path.name)
def test_no_field_is_a_float_and_every_field_has_a_type(crd: Path) -> None:
    walked = [*fields(crd, "spec"), *fields(crd, "status")]
    assert len(walked) > 30
    assert [path for path, member in walked if member.get("type") in (None, "number")] == []


@pytest.mark.parametrize("crd", CRDS, ids=lambda path: path.name)
def test_every_description_of_the_spec_begins_with_the_json_name(crd: Path) -> None:
    named = [(path, member) for path, member in fields(crd, "spec.") if path[-1] not in "]}"]
    wrong = [path for path, m in named if not str(m.get("description", "")).startswith(path.rsplit(".", 1)[-1])]
    assert wrong == []


@pytest.mark.parametrize("crd", CRDS, ids=lambda path: path.name)
def test_a_crd_is_small_enough_for_client_side_apply(crd: Path) -> None:
    assert crd.stat().st_size < 256 * 1024
