"""Reading manifests: YAML in, checked EvaluationJobs out, errors with the path of the field and what to do."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from evalfleet.api.evaluationjob import EvaluationJob
from evalfleet.api.wire import API_VERSION


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with a manifest."""

    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}" if self.path else self.message


class ManifestError(Exception):
    """A manifest that cannot be accepted, with every problem found."""

    def __init__(self, source: str, problems: list[Problem]) -> None:
        super().__init__("\n".join(f"{source}: {problem}" for problem in problems))
        self.source = source
        self.problems = problems


def read_evaluation_job(path: Path) -> EvaluationJob:
    """Read the EvaluationJob of a YAML or JSON file that holds exactly one.

    Raises:
        ManifestError: unreadable, not YAML, no or several EvaluationJobs, or an invalid one.
    """
    try:
        documents = [document for document in yaml.safe_load_all(path.read_text("utf-8")) if document is not None]
    except (OSError, UnicodeDecodeError) as error:
        raise ManifestError(str(path), [Problem("", f"cannot be read: {error}")]) from error
    except yaml.YAMLError as error:
        raise ManifestError(str(path), [Problem("", f"is not valid YAML: {_one_line(error)}")]) from error
    jobs = [
        document for document in documents if isinstance(document, dict) and document.get("kind") == "EvaluationJob"
    ]
    if len(jobs) != 1:
        found = (
            ", ".join(str(d.get("kind")) if isinstance(d, dict) else type(d).__name__ for d in documents) or "nothing"
        )
        raise ManifestError(str(path), [Problem("kind", f"expected exactly one EvaluationJob, found {found}")])
    return parse_evaluation_job(jobs[0], source=str(path))


def parse_evaluation_job(document: Any, source: str = "manifest") -> EvaluationJob:
    """Check one EvaluationJob document.

    Raises:
        ManifestError: with the path of every offending field.
    """
    if isinstance(document, dict) and document.get("apiVersion") != API_VERSION:
        message = f"must be {API_VERSION}, not {document.get('apiVersion')!r}"
        raise ManifestError(source, [Problem("apiVersion", message)])
    try:
        return EvaluationJob.model_validate(document)
    except ValidationError as error:
        raise ManifestError(source, [_problem(detail) for detail in error.errors()]) from error


def _problem(detail: Any) -> Problem:
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in detail["loc"]).lstrip(".")
    match detail["type"]:
        case "extra_forbidden":
            return Problem(path, "unknown field: check its spelling and indentation")
        case "missing":
            return Problem(path, "is required")
        case "literal_error":
            return Problem(path, f"must be {detail['ctx']['expected']}, not {detail['input']!r}")
        case "string_pattern_mismatch":
            return Problem(path, f"{detail['input']!r} does not match {detail['ctx']['pattern']}")
        case _:
            return Problem(path, detail["msg"].removeprefix("Value error, "))


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
