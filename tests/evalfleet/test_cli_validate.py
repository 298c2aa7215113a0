"""`evalfleet validate` as users start it: files, folders, streams; every mistake in words, with its place."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner, Result

from evalfleet.api.evaluationjob import EvaluationJob
from evalfleet.api.scalingpolicy import ScalingPolicy
from evalfleet.api.wording import PATTERN_WORDS
from evalfleet.cli.main import build

ROOT = Path(__file__).parents[2]
APP = build()


def validate(*arguments: Any, stdin: str = "") -> Result:
    return CliRunner().invoke(APP, ["validate", *map(str, arguments)], input=stdin)


def job(name: str = "arc", **spec: Any) -> dict[str, Any]:
    content = {
        "model": {"uri": "hf://org/name"},
        "evaluations": [{"name": "arc", "lmEval": {"task": "arc_easy"}}],
        **spec,
    }
    return {
        "apiVersion": "evalfleet.io/v1alpha1",
        "kind": "EvaluationJob",
        "metadata": {"name": name},
        "spec": content,
    }


def test_folders_streams_and_foreign_objects_are_taken(tmp_path: Path) -> None:
    examples = ROOT / "examples"
    found = validate(examples, ROOT / "k8s" / "base")
    assert found.exit_code == 0, found.output
    assert "ScalingPolicy default: in order" in found.output
    assert "Deployment evalfleet-operator: passed over" in found.output
    assert "not checked here: model, tokenizer, tasks and data; the plan checks them" in found.output
    stream = (examples / "scalingpolicy.yaml").read_text() + "\n---\n" + yaml.safe_dump(job())
    piped = validate("-", stdin=stream)
    assert piped.exit_code == 0
    assert "standard input (document 2): EvaluationJob arc: in order" in piped.output
    listed = {"apiVersion": "v1", "kind": "List", "items": [job("one"), job("two", seed=-1)]}
    assert "standard input (item 2): spec.seed: must be" in validate("-", stdin=json.dumps(listed)).output


def test_nothing_to_check_is_no_success(tmp_path: Path) -> None:
    (tmp_path / "empty.yaml").write_text("# nothing\n")
    for target in (tmp_path, tmp_path / "empty.yaml", tmp_path / "missing.yaml", ROOT / "k8s" / "base"):
        assert validate(target).exit_code == 2, target


def test_all_mistakes_of_all_files_are_said_at_once(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(yaml.safe_dump(job(seed=-1, colour="red")))
    (tmp_path / "b.yaml").write_text("kind: Deployment\napiVersion: apps/v1\n---\nx: [\n")
    (tmp_path / "task.yaml").write_text("task: t\ndoc_to_text: !function utils.text\n")
    (tmp_path / "workflow.yaml").write_text("on: push\njobs: {}\n")
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "c.yaml").write_text("[")
    found = validate(tmp_path)
    assert found.exit_code == 2
    for words in ("a.yaml: spec.seed:", "a.yaml: spec.colour: unknown field", "b.yaml (document 2): is not valid YAML"):
        assert words in found.output
    assert "3 mistakes in 2 of 5 documents" in found.output
    answer = json.loads(validate(tmp_path, "-o", "json").stdout)
    assert [document["state"] for document in answer["documents"]] == [
        "Invalid",
        "PassedOver",
        "Invalid",
        *["PassedOver"] * 2,
    ]


@pytest.mark.parametrize(
    ("spec", "path", "words"),
    [
        ("model: {uri: org/name}", "spec.model.uri", "a model of the hub is hf://org/name"),
        ("model: {uri: ./ckpt}", "spec.model.uri", "a folder beside the manifest is file://./ckpt"),
        ("model: {uri: /data/m}", "spec.model.uri", "a folder of this machine is file:///data/m"),
        ("model: {uri: 'hf://a/b', revision: 12}", "spec.model.revision", "must be text, not the number 12"),
        ("model: {uri: 'hf://a/b', revison: x}", "spec.model.revison", "did you mean revision?"),
        ("evaluations: [{name: arc_easy, lmEval: {task: t}}]", "spec.evaluations[0].name", "for example arc-easy"),
        ("evaluations: [{name: no, lmEval: {task: t}}]", "spec.evaluations[0].name", "not the truth value false"),
        (
            "evaluations: [{name: a, lmEval: {task: t, limit: 0.5}}]",
            "spec.evaluations[0].lmEval.limit",
            "must be a whole number, not 0.5: a share of the documents is not supported, say how many",
        ),
        (
            "evaluations: [{name: a, lmEval: {taskConfig: {task: t, doc_to_choice: [no, yes]}}}]",
            "spec.evaluations[0].lmEval.taskConfig.doc_to_choice[0]",
            "must be text, not the truth value false: YAML reads an unquoted yes, no",
        ),
        (
            "evaluations: [{name: a, lmEval: {taskConfig: {group: g, task: [{doc_to_target: y}]}}}]",
            "spec.evaluations[0].lmEval.taskConfig.task[0].doc_to_target",
            "must be text, not the truth value true",
        ),
        (
            "evaluations: [{name: a, lmEval: {task: t, generation: {until: [off]}}}]",
            "spec.evaluations[0].lmEval.generation.until[0]",
            "put the word in quotes",
        ),
        (
            "evaluations: [{name: a, lmEval: {taskConfig: {doc_to_text: !function utils.text}}}]",
            "spec.evaluations[0].lmEval.taskConfig.doc_to_text",
            "a manifest holds no code and no files",
        ),
        ("budget: {maxCost: 3.5}", "spec.budget.maxCost", "put what you mean in quotes"),
        ("evaluations: {name: a}", "spec.evaluations", "must be a list (each entry begins with '- '), not a mapping"),
        ("store: s3://b", "spec.store", "must be a mapping with fields of its own, not 's3://b'"),
        ("model: org/name", "spec.model", "not 'org/name': write {uri: hf://org/name}"),
        ("evaluations: [arc_easy]", "spec.evaluations[0]", "write {name: arc, lmEval: {task: arc_easy}}"),
        ("confirmRunUnsafeCode: perhaps", "spec.confirmRunUnsafeCode", "must be true or false, not 'perhaps'"),
        ("backoffLimit: 1000", "spec.backoffLimit", "must be less than or equal to 100, not 1000"),
        ("sla: {deadlineTime: 2030-01-31}", "spec.sla.deadlineTime", "such as 2030-01-31T18:00:00Z, not '2030-01-31'"),
        ("evaluations: []", "spec.evaluations", "must have at least 1 entries, not 0"),
        (
            "evaluations: [{name: a, lmEval: {task: t, applyChatTemplate: true, chatTemplateArguments: {x: [1]}}}]",
            "spec.evaluations[0].lmEval.chatTemplateArguments.x",
            "must be text, a whole number, true or false, not a list",
        ),
        ("policyName: My_Policy", "spec.policyName", "for example my-policy"),
    ],
)
def test_a_mistake_is_answered_with_its_place_and_what_to_write(spec: str, path: str, words: str) -> None:
    whole = job()
    text = yaml.safe_dump({**whole, "spec": {k: v for k, v in whole["spec"].items() if k != spec.partition(":")[0]}})
    found = validate("-", stdin=text + "  " + spec + "\n" if text.endswith("\n") else text)
    assert found.exit_code == 2
    assert f"standard input: {path}: " in found.output
    assert words in found.output
    assert "\\." not in found.output
    assert "^" not in found.output, "no regular expression is an answer"


def test_dates_are_text_and_run_as_text() -> None:
    config = "{task: t, metadata: {version: 2024-01-01}, doc_to_choice: [12:30, 2024-01-01, 'no']}"
    spec = f"model: {{uri: 'hf://a/b'}}\n  evaluations: [{{name: a, lmEval: {{taskConfig: {config}}}}}]\n"
    head = "apiVersion: evalfleet.io/v1alpha1\nkind: EvaluationJob\nmetadata: {name: a}\nspec:\n  "
    assert validate("-", stdin=head + spec).exit_code == 0


def test_a_deadline_may_be_written_without_quotes() -> None:
    stream = yaml.safe_dump(job()) + "  sla: {deadlineTime: 2030-01-01T00:00:00Z}\n"
    assert validate("-", stdin=stream).exit_code == 0


def test_every_pattern_of_the_api_has_words() -> None:
    schemas = json.dumps([EvaluationJob.model_json_schema(), ScalingPolicy.model_json_schema()])
    patterns: set[str] = set()
    json.loads(schemas, object_hook=lambda found: patterns.add(found.get("pattern")) or found)
    unexplained = {pattern for pattern in patterns if isinstance(pattern, str)} - set(PATTERN_WORDS)
    assert unexplained == set()
