"""Logs of the operator: plain lines for people, one JSON object a line for clusters (EVALFLEET_LOG_FORMAT=json)."""

import json
import logging
from datetime import UTC, datetime

from evalfleet.kube.resources import Key

PLAIN = "%(asctime)s %(levelname)s %(name)s: %(message)s"


class JsonFormatter(logging.Formatter):
    """One JSON object a line; a record about an object names it by kind, namespace and name."""

    def format(self, record: logging.LogRecord) -> str:
        """The line: whatever users wrote into a message cannot begin another one."""
        content: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        about = getattr(record, "object", None)
        if isinstance(about, Key):
            content["object"] = {"kind": about.kind, "namespace": about.namespace, "name": about.name}
        if record.exc_info:
            content["exception"] = self.formatException(record.exc_info)
        return json.dumps(content)


class PlainFormatter(logging.Formatter):
    """A line for people; a record about an object begins with it."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, with a traceback below it where there is one."""
        about = getattr(record, "object", None)
        line = super().format(record)
        if not isinstance(about, Key):
            return line
        head, _, tail = line.partition(f"{record.name}: ")
        return f"{head}{about.kind} {about.namespace}/{about.name}: {tail}"


def log_to_stderr(log_format: str) -> None:
    """Set up logging of the process; kopf's own story of its watches is left out."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter() if log_format == "json" else PlainFormatter(PLAIN))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    logging.getLogger("kopf").setLevel(logging.WARNING)
