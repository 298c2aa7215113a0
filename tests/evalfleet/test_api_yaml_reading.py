"""YAML as kubectl reads it: kubectl itself is asked, and what it cannot know has a place."""

import json
import subprocess
from pathlib import Path

import pytest

from evalfleet.api.yaml_reading import Document, read_yaml
from evalfleet.local.cluster.binaries import ensure_binaries

SCALARS = """\
apiVersion: v1
kind: ConfigMap
metadata: {name: a}
data:
  words: [no, yes, n, y, on, off, No, NO, nO, True, ~, null, Null, "", "no", 'yes', !!str no]
  times: [2024-01-01, 2001-12-14t21:59:43.10-05:00, 12:30, 190:20:30.15]
  numbers: [0o17, 017, 08, 0x1F, 0b11, 1e-3, 1E3, 1_000, 1., .5, +1, -0.25, 1.0, 1.5.2, 0x, "1"]
  other: [=, <, a:b, "é", a b, -, --, .., "#", '{{x}}']
  block: |
    no
  folded: >
    1
  base: &base {a: 1, b: no}
  merged: {<<: *base, b: 2}
  1: b
  2024-01-01: c
"""


@pytest.mark.cluster
@pytest.mark.usefixtures("control_plane_programs")
def test_every_scalar_is_what_kubectl_makes_of_it(tmp_path: Path) -> None:
    file = tmp_path / "x.yaml"
    file.write_text(SCALARS)
    kubectl = ensure_binaries(["kubectl"], print)["kubectl"]
    argv = [kubectl, "label", "--local", "-f", file, "x=y", "-o", "json"]
    done = subprocess.run(argv, capture_output=True, text=True, check=True, env={"KUBECONFIG": str(tmp_path / "none")})
    (document,) = read_yaml(SCALARS.encode())
    assert document == Document(document.value)
    assert json.loads(json.dumps(document.value["data"])) == json.loads(done.stdout)["data"]


@pytest.mark.parametrize(
    ("text", "path", "words"),
    [
        ("a: {b: [1, !function utils.process]}", "a.b[1]", "'!function utils.process': a manifest holds no code"),
        ("a: {y: 1}", "a.true", "y is the truth value true without quotes"),
        ("a: !!binary aGk=", "a", "'!!binary aGk=': a manifest holds text"),
        ("a: {b: 1,\n b: 2}", "a.b", "stands here twice (again in line 2)"),
        ("a: [.inf]", "a[0]", ".inf is no number that JSON can hold"),
        ("a:\n\tb: 1", "", "line 2, column 1: found character '\\t' that cannot start any token; indent with spaces"),
        ("a: [1\nb: 2", "", "line 2, column 2: expected ',' or ']', but got ':'"),
        ("a: &a [*a]", "", "an alias holds itself"),
        ("a: \x00", "", "is not valid YAML"),
    ],
)
def test_what_is_no_json_value_has_a_place_and_words(text: str, path: str, words: str) -> None:
    (document,) = read_yaml(text.encode())
    (problem,) = document.problems
    assert (problem.path, words in problem.message) == (path, True), problem


def test_documents_before_a_mistake_are_read_and_empty_ones_are_none() -> None:
    first, broken = read_yaml(b"a: 1\n---\n# nothing\n---\n---\nb: [\n")
    assert first == Document({"a": 1})
    assert broken.problems


def test_a_few_aliases_cannot_stand_for_millions_of_values() -> None:
    levels = [f"l{i}: &l{i} [{', '.join([f'*l{i - 1}'] * 9) if i else '1'}]" for i in range(9)]
    (document,) = read_yaml("\n".join(levels).encode())
    assert "stands for more than" in document.problems[0].message


def test_json_with_tabs_is_read() -> None:
    assert list(read_yaml(b'{\n\t"a": [1, true]\n}')) == [Document({"a": [1, True]})]
