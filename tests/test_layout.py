"""The layout's promises: what would break Python itself, or let a test shadow a package, is refused here."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = {
    "lab/evalfleet_lab": "evalfleet_lab",
    "operator/evalfleet": "evalfleet",
    "scaling/evalfleet_scaling": "evalfleet_scaling",
    "worker/evalfleet_worker": "evalfleet_worker",
}
SOURCES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))


def test_the_operator_folder_never_shadows_the_standard_library() -> None:
    loose = [path.name for path in (ROOT / "operator").iterdir() if path.suffix == ".py"]
    assert loose == []
    code = "import operator, sys; assert operator.add(1, 2) == 3; print(operator.__file__)"
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert Path(found.strip()).parent != ROOT / "operator"


def test_tests_live_only_under_tests_and_none_of_their_folders_is_a_package() -> None:
    strays = [
        p
        for package in PACKAGES
        for p in (ROOT / package).rglob("*")
        if p.name == "conftest.py" or p.name.startswith("test_")
    ]
    assert strays == []
    assert not (ROOT / "tests" / "operator").exists()
    assert list((ROOT / "tests").rglob("__init__.py")) == []


def test_test_modules_have_names_of_their_own() -> None:
    names = [path.name for path in (ROOT / "tests").rglob("test_*.py")]
    assert sorted({name for name in names if names.count(name) > 1}) == []


@pytest.mark.parametrize("package", PACKAGES)
def test_every_package_is_typed(package: str) -> None:
    assert (ROOT / package / "py.typed").exists()


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_module_says_what_it_is(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text("utf-8"))), f"{path} has no module docstring"


def test_the_command_line_starts_without_heavy_imports() -> None:
    heavy = ["torch", "kopf", "kubernetes", "numpy", "lm_eval", "transformers", "pyarrow", "pydantic", "sklearn"]
    code = f"import evalfleet.cli.main as m, sys; m.build(); print([n for n in {heavy} if n in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert found.strip() == "[]"


def test_the_core_is_importable_without_the_shell_and_the_worker() -> None:
    others = {"evalfleet", "evalfleet_lab", "evalfleet_worker", "torch"}
    code = f"import evalfleet_scaling, sys; print(sorted({others} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert found.strip() == "[]"


def test_workers_that_score_never_import_the_harness() -> None:
    heavy = {"lm_eval", "datasets"}
    modules = "evalfleet_worker.loop.work, evalfleet_worker.loop.child, evalfleet_worker.engine.causal_lm"
    code = f"import {modules}, sys; print(sorted({heavy} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert found.strip() == "[]"
