"""Reading manifests: files in, checked objects out, every mistake with the path of its field and what to do."""

import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from pydantic import ValidationError

from evalfleet.api.evaluationjob import EvaluationJob
from evalfleet.api.scalingpolicy import ScalingPolicy
from evalfleet.api.wire import API_VERSION
from evalfleet.api.wording import problems_of, unquoted_texts
from evalfleet.api.yaml_reading import Document, Problem, read_yaml

Manifest: TypeAlias = EvaluationJob | ScalingPolicy

KINDS: dict[str, type[Manifest]] = {"EvaluationJob": EvaluationJob, "ScalingPolicy": ScalingPolicy}
SUFFIXES = (".yaml", ".yml", ".json")
OBJECT_MEMBERS = frozenset({"apiVersion", "kind", "spec"})
"""A mapping with none of them is data or settings of somebody else."""
STANDARD_INPUT = Path("-")


@dataclass(frozen=True, slots=True)
class Checked:
    """What became of one document.

    Attributes:
        source: file, and the number of the document where the file has several.
        kind: what it says it is; empty where it says nothing.
        name: its name; empty where it has none.
        manifest: the object, when all is in order.
        problems: what is wrong with it.
    """

    source: str
    kind: str = ""
    name: str = ""
    manifest: Manifest | None = None
    problems: tuple[Problem, ...] = ()

    @property
    def foreign(self) -> bool:
        """Whether it is an object of somebody else, which is none of our business."""
        return self.manifest is None and not self.problems


class ManifestError(Exception):
    """A manifest that cannot be accepted, with every problem found."""

    def __init__(self, source: str, problems: Iterable[Problem]) -> None:
        self.source = source
        self.problems = list(problems)
        super().__init__("\n".join(f"{source}: {problem}" for problem in self.problems))


def read_evaluation_job(path: Path) -> EvaluationJob:
    """Read the EvaluationJob of a YAML or JSON file that holds exactly one; `-` is the standard input.

    Raises:
        ManifestError: unreadable, not YAML, no or several EvaluationJobs, or an invalid one.
    """
    checked = list(check_file(path))
    jobs = [found for found in checked if found.kind == "EvaluationJob"]
    broken = [found for found in checked if found.problems and not found.kind] + jobs
    for found in broken:
        if found.problems:
            raise ManifestError(found.source, found.problems)
    if len(jobs) != 1 or not isinstance(jobs[0].manifest, EvaluationJob):
        names = ", ".join(found.kind or "no object" for found in checked) or "nothing"
        raise ManifestError(str(path), [Problem("kind", f"expected exactly one EvaluationJob, found {names}")])
    return jobs[0].manifest


def check_file(path: Path) -> Iterator[Checked]:
    """What becomes of every document of a file."""
    try:
        content = sys.stdin.buffer.read() if path == STANDARD_INPUT else path.read_bytes()
    except OSError as error:
        yield Checked(str(path), problems=(Problem("", f"cannot be read: {error.strerror or error}"),))
        return
    documents = list(read_yaml(content))
    name = "standard input" if path == STANDARD_INPUT else str(path)
    for number, document in enumerate(documents, start=1):
        yield from _check_document(document, f"{name} (document {number})" if len(documents) > 1 else name)


def files_below(path: Path) -> list[Path]:
    """A file itself; of a folder the YAML and JSON files in it and below it, hidden folders left out."""
    if not path.is_dir():
        return [path]
    found = (file for file in path.rglob("*") if file.suffix in SUFFIXES and file.is_file())
    return sorted(file for file in found if not any(part.startswith(".") for part in file.relative_to(path).parts))


def parse_evaluation_job(document: Any, source: str = "manifest") -> EvaluationJob:
    """Check one EvaluationJob document.

    Raises:
        ManifestError: with the path of every offending field.
    """
    parsed = _parsed(document, EvaluationJob)
    if isinstance(parsed, tuple):
        raise ManifestError(source, parsed)
    assert isinstance(parsed, EvaluationJob)
    return parsed


def _check_document(document: Document, source: str) -> Iterator[Checked]:
    value = document.value
    if isinstance(value, dict) and str(value.get("kind", "")).endswith("List") and isinstance(value.get("items"), list):
        for number, item in enumerate(value["items"], start=1):
            yield from _check_document(Document(item, document.problems), f"{source} (item {number})")
        return
    yield _checked(document, source)


def _checked(document: Document, source: str) -> Checked:
    value = document.value
    if not isinstance(value, dict) or not value.keys() & OBJECT_MEMBERS:
        return Checked(source, problems=document.problems if value is None else ())
    kind = str(value.get("kind") or "")
    metadata = value.get("metadata")
    name = str(metadata.get("name", "")) if isinstance(metadata, dict) else ""
    if kind not in KINDS:
        return Checked(source, kind, name, problems=_no_kind(value, kind))
    parsed = _parsed(value, KINDS[kind])
    found = parsed if isinstance(parsed, tuple) else ()
    told = {problem.path for problem in document.problems}
    problems = (*document.problems, *(problem for problem in found if problem.path not in told))
    return Checked(source, kind, name, None if problems or isinstance(parsed, tuple) else parsed, problems)


def _no_kind(value: dict[str, Any], kind: str) -> tuple[Problem, ...]:
    """Foreign objects are passed over; a kind of ours that does not exist, or none at all, is a mistake."""
    group = str(value.get("apiVersion") or "").partition("/")[0]
    known = " or ".join(KINDS)
    if not kind:
        return (Problem("kind", f"is required: {known}"),)
    if group == API_VERSION.partition("/")[0] or kind.lower() in map(str.lower, KINDS):
        return (Problem("kind", f"must be {known}, not {kind!r}"),)
    return ()


def _parsed(document: Any, kind: type[Manifest]) -> Manifest | tuple[Problem, ...]:
    if isinstance(document, dict) and document.get("apiVersion") != API_VERSION:
        return (Problem("apiVersion", f"must be {API_VERSION}, not {document.get('apiVersion')!r}"),)
    texts = tuple(_unquoted(document)) if isinstance(document, dict) else ()
    try:
        parsed = kind.model_validate(document)
    except ValidationError as error:
        return (*problems_of(error, kind), *texts)
    return texts or parsed


def _unquoted(document: dict[str, Any]) -> Iterator[Problem]:
    spec = document.get("spec")
    evaluations = spec.get("evaluations") if isinstance(spec, dict) else None
    for index, evaluation in enumerate(evaluations if isinstance(evaluations, list) else []):
        harness = evaluation.get("lmEval") if isinstance(evaluation, dict) else None
        config = harness.get("taskConfig") if isinstance(harness, dict) else None
        yield from unquoted_texts(config, f"spec.evaluations[{index}].lmEval.taskConfig")
