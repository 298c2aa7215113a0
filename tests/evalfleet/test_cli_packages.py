"""The base install: what needs an optional package says which, instead of a traceback."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

HIDE = "import sys; sys.modules.update(dict.fromkeys({hidden!r})); sys.argv = ['evalfleet', *{arguments!r}]; "
RUN = "from evalfleet.cli.main import main; main()"


def run_without(hidden: list[str], *arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """The command in an interpreter where importing `hidden` fails as for a package that is not installed."""
    code = HIDE.format(hidden=hidden, arguments=arguments) + RUN
    environment = {**os.environ, "KUBECONFIG": str(folder / "none")}
    argv = [sys.executable, "-c", code]
    return subprocess.run(argv, capture_output=True, text=True, check=False, cwd=folder, env=environment)


@pytest.mark.parametrize(
    ("missing", "arguments"),
    [
        ("aiohttp", ("get",)),
        ("numpy", ("simulate",)),
        ("evalfleet_lab", ("simulate",)),
        ("evalfleet_lab", ("forecast", "job.yaml")),
        ("evalfleet_lab", ("bench", "capacity", "--quick")),
        ("obstore", ("run", "job.yaml")),
    ],
)
def test_a_missing_optional_package_is_named_with_the_way_to_get_it(
    missing: str, arguments: tuple[str, ...], tmp_path: Path
) -> None:
    (tmp_path / "job.yaml").write_text(MANIFEST, "utf-8")
    done = run_without([missing], *arguments, folder=tmp_path)
    assert done.returncode == 3
    assert missing in done.stderr
    assert "pip install 'evalfleet[" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_operator_without_a_cluster_says_so(tmp_path: Path) -> None:
    done = run_without([], "operator", folder=tmp_path)
    assert done.returncode == 3
    assert "no cluster to serve" in done.stderr


MANIFEST = """\
apiVersion: evalfleet.io/v1alpha1
kind: EvaluationJob
metadata: {name: tiny}
spec:
  model: {uri: hf://org/model}
  evaluations: [{name: arc, lmEval: {task: arc_easy}}]
"""
