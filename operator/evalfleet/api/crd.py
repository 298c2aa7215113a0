"""CustomResourceDefinitions from the wire models: structural schemas with CEL rules. Pure.

Structural schemas forbid what pydantic emits ($ref, anyOf with null, const, title, additionalProperties: false beside
properties): all of it is flattened here (https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/).
"""

from typing import Any

from evalfleet.api.evaluationjob import IMMUTABLE, EvaluationJob, EvaluationJobSpec
from evalfleet.api.scalingpolicy import ScalingPolicy
from evalfleet.api.wire import API_VERSION, WireModel

GROUP, VERSION = API_VERSION.split("/")

Schema = dict[str, Any]

UNSEEN = {"observedGeneration": -1}
"""Default status: without one kstatus (Flux, Argo CD) calls an object that nobody has looked at finished."""

# Times to come are strings: a column of type date shows an age, and "<invalid>" for what lies ahead.
EVALUATION_JOB_COLUMNS = (
    ("State", "string", ".status.state", 0),
    ("Model", "string", ".spec.model.uri", 0),
    ("Done", "integer", ".status.progress.percent", 0),
    ("Workers", "integer", ".status.workers.ready", 0),
    ("ETA", "string", ".status.progress.estimatedCompletionTime", 0),
    ("Succeeded", "string", '.status.conditions[?(@.type=="Succeeded")].status', 0),
    ("Age", "date", ".metadata.creationTimestamp", 0),
    ("Cost", "string", ".status.cost.spent", 1),
    ("Spot", "integer", ".status.workers.spot", 1),
    ("Deadline", "string", ".status.deadlineTime", 1),
    ("Reason", "string", '.status.conditions[?(@.type=="Ready")].reason', 1),
)
SCALING_POLICY_COLUMNS = (
    ("State", "string", ".status.state", 0),
    ("Strategy", "string", ".spec.strategy", 0),
    ("Queued", "integer", ".status.jobs.queued", 0),
    ("Running", "integer", ".status.jobs.running", 0),
    ("Workers", "integer", ".status.workers.ready", 0),
    ("Spent", "string", ".status.cost.spentMonth", 0),
    ("Age", "date", ".metadata.creationTimestamp", 0),
)


def evaluation_job_crd() -> dict[str, Any]:
    """The CustomResourceDefinition of EvaluationJob."""
    return _definition(EvaluationJob, "evaluationjobs", "evj", EVALUATION_JOB_COLUMNS)


def scaling_policy_crd() -> dict[str, Any]:
    """The CustomResourceDefinition of ScalingPolicy."""
    return _definition(ScalingPolicy, "scalingpolicies", "evp", SCALING_POLICY_COLUMNS)


def immutability_rules() -> list[dict[str, str]]:
    """Transition rules of EvaluationJob.spec: presence and value of the immutable members."""
    rules = []
    required = {name for name, info in _by_alias(EvaluationJobSpec).items() if info.is_required() or _has_default(info)}
    for name in IMMUTABLE:
        value = f"self.{name} == oldSelf.{name}"
        presence = f"has(self.{name}) == has(oldSelf.{name}) && (!has(self.{name}) || {value})"
        rule = value if name in required else presence
        rules.append({"rule": rule, "message": f"{name} is immutable: create another EvaluationJob"})
    return rules


def _definition(kind: type[WireModel], plural: str, short: str, columns: tuple[Any, ...]) -> dict[str, Any]:
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": kind.__name__,
                "plural": plural,
                "singular": kind.__name__.lower(),
                "shortNames": [short],
                "categories": ["evalfleet"],
            },
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "subresources": {"status": {}},
                    "additionalPrinterColumns": [_column(*column) for column in columns],
                    "schema": {"openAPIV3Schema": _root_schema(kind)},
                }
            ],
        },
    }


def _column(name: str, kind: str, path: str, priority: int) -> dict[str, Any]:
    column: dict[str, Any] = {"name": name, "type": kind, "jsonPath": path}
    return column | {"priority": priority} if priority else column


def _root_schema(kind: type[WireModel]) -> Schema:
    members = kind.model_fields
    spec_type, status_type = _model_of(members["spec"].annotation), _model_of(members["status"].annotation)
    spec = object_schema(spec_type)
    if spec_type is EvaluationJobSpec:
        spec["x-kubernetes-validations"] = spec.get("x-kubernetes-validations", []) + immutability_rules()
    return {
        "type": "object",
        "description": kind.__doc__,
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
            "spec": spec,
            "status": object_schema(status_type) | {"default": UNSEEN},
        },
    }


def object_schema(model: type[WireModel]) -> Schema:
    """Structural schema of one wire model."""
    raw = model.model_json_schema(by_alias=True, mode="validation")
    definitions = raw.pop("$defs", {})
    schema: Schema = _structural(raw, definitions)
    return schema


def _structural(node: Any, definitions: Schema, in_list: bool = False) -> Any:
    """The structural form of a schema; without defaults inside list items.

    Client-side apply compares whole lists: a default in an item would be a difference to the manifest for ever.
    """
    if isinstance(node, list):
        return [_structural(member, definitions, in_list) for member in node]
    if not isinstance(node, dict):
        return node
    if "$ref" in node:
        name = node["$ref"].rsplit("/", 1)[-1]
        node = definitions[name] | {key: value for key, value in node.items() if key != "$ref"}
    if "anyOf" in node:
        inner = [member for member in node["anyOf"] if member.get("type") != "null"]
        assert len(inner) == 1, f"a union of types has no structural form: {node}"
        rest = {key: value for key, value in node.items() if key != "anyOf"}
        return _structural(inner[0] | rest, definitions, in_list)
    if node.get("preserveUnknownFields"):
        return {"type": "object", "description": node["description"], "x-kubernetes-preserve-unknown-fields": True}
    return _members(node, definitions, in_list)


def _members(node: Schema, definitions: Schema, in_list: bool) -> Schema:
    result: Schema = {}
    for key, value in node.items():
        match key:
            case "title":
                continue
            case "additionalProperties" | "default" if (value is False and key != "default") or value is None:
                continue
            case "default" if in_list:
                continue
            case "const":
                result["enum"] = [value]
            case "properties":
                result[key] = {name: _structural(member, definitions, in_list) for name, member in value.items()}
            case "default" | "enum" | "required":
                result[key] = value
            case _ if key.startswith("x-kubernetes-"):
                result[key] = value
            case _:
                result[key] = _structural(value, definitions, in_list or key == "items")
    return result


def _by_alias(model: type[WireModel]) -> dict[str, Any]:
    return {(info.alias or name): info for name, info in model.model_fields.items()}


def _has_default(info: Any) -> bool:
    return info.default is not None


def _model_of(annotation: Any) -> type[WireModel]:
    candidates = [annotation, *getattr(annotation, "__args__", ())]
    return next(c for c in candidates if isinstance(c, type) and issubclass(c, WireModel))
