"""Log lines: one JSON object each in a cluster, and the object it is about in words for people."""

import json
import logging
import sys
from typing import Any

from evalfleet.controller.logs import PLAIN, JsonFormatter, PlainFormatter
from evalfleet.kube.resources import Key


def record(message: str, *arguments: object, **extra: Any) -> logging.LogRecord:
    made = logging.LogRecord(
        "evalfleet.controller.controller", logging.WARNING, "f", 1, message, arguments, extra.pop("error", None)
    )
    made.__dict__.update(extra)
    return made


def test_a_message_of_several_lines_is_one_line_with_its_object() -> None:
    hostile = 'no\n{"level": "info", "message": "all is well"}'
    line = JsonFormatter().format(record("failed: %s", hostile, object=Key("EvaluationJob", "ns", "job")))
    assert "\n" not in line
    said = json.loads(line)
    assert said["message"] == f"failed: {hostile}"
    assert said["object"] == {"kind": "EvaluationJob", "namespace": "ns", "name": "job"}
    assert (said["level"], said["logger"]) == ("warning", "evalfleet.controller.controller")
    assert said["time"].endswith("+00:00")


def test_the_traceback_of_an_error_is_in_its_line() -> None:
    try:
        _ = {}["units"]
    except KeyError:
        line = JsonFormatter().format(record("a pass failed", error=sys.exc_info()))
    assert "KeyError: 'units'" in json.loads(line)["exception"]


def test_a_plain_line_begins_with_its_object() -> None:
    line = PlainFormatter(PLAIN).format(record("Planned is True", object=Key("EvaluationJob", "ns", "job")))
    assert line.endswith("WARNING EvaluationJob ns/job: Planned is True")
