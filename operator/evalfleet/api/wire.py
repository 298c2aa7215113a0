"""Base of all wire models: camelCase, unknown fields refused, rules that the API server and pydantic both check."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, GetJsonSchemaHandler, StringConstraints, model_validator
from pydantic.alias_generators import to_camel
from pydantic.json_schema import JsonSchemaValue

API_VERSION: Literal["evalfleet.io/v1alpha1"] = "evalfleet.io/v1alpha1"

DNS_LABEL = r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$"
OBJECT_NAME = r"^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$"
MONEY = r"^[0-9]{1,9}(\.[0-9]{1,4})?$"
URI = r"^[a-z][a-z0-9+.-]*://.+$"

Name = Annotated[str, StringConstraints(pattern=DNS_LABEL, max_length=63)]
"""A DNS label: the name of an object or of a list-map entry."""
Money = Annotated[str, StringConstraints(pattern=MONEY, max_length=14)]
"""A decimal string in the policy's currency; never a float."""
Uri = Annotated[str, StringConstraints(pattern=URI, max_length=1024)]
"""A URI with a scheme."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One sentence that an object must satisfy, as CEL for the API server and as Python for everybody else."""

    cel: str
    message: str
    holds: Callable[[Any], bool]


class WireModel(BaseModel):
    """A frozen wire object; `rules` are checked after the fields."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        serialize_by_alias=True,
        extra="forbid",
        frozen=True,
        strict=False,
        use_attribute_docstrings=True,
    )
    rules: ClassVar[tuple[Rule, ...]] = ()

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: Any, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        schema = handler(core_schema)
        if cls.rules:
            target = handler.resolve_ref_schema(schema)
            target["x-kubernetes-validations"] = [{"rule": rule.cel, "message": rule.message} for rule in cls.rules]
        return schema

    @model_validator(mode="after")
    def _check_rules(self) -> Self:
        for rule in self.rules:
            if not rule.holds(self):
                raise ValueError(rule.message)
        return self

    def to_manifest(self) -> dict[str, Any]:
        """JSON form with camelCase keys; what was not set stays away."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True, exclude_unset=True)


def exactly_one(*members: str) -> Rule:
    """Rule: exactly one of the named members (JSON names) is set."""
    terms = " + ".join(f"(has(self.{member}) ? 1 : 0)" for member in members)
    listed = ", ".join(members[:-1]) + f" or {members[-1]}" if len(members) > 1 else members[0]
    return Rule(
        cel=f"{terms} == 1",
        message=f"exactly one of {listed} must be set",
        holds=lambda model: len(set_members(model) & set(members)) == 1,
    )


def at_most_one(*members: str) -> Rule:
    """Rule: at most one of the named members (JSON names) is set."""
    terms = " + ".join(f"(has(self.{member}) ? 1 : 0)" for member in members)
    return Rule(
        cel=f"{terms} <= 1",
        message=f"at most one of {' and '.join(members)} may be set",
        holds=lambda model: len(set_members(model) & set(members)) <= 1,
    )


def distinct_names(entries: Sequence[Any], what: str) -> None:
    """Refuse two entries of one name, as the API server does for list-maps.

    Raises:
        ValueError: two entries have the same name.
    """
    names = [entry.name for entry in entries]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"two {what} are named {name!r}: names must differ")


def set_members(model: BaseModel) -> set[str]:
    """JSON names of the optional members that are present."""
    return {(info.alias or name) for name, info in type(model).model_fields.items() if getattr(model, name) is not None}


PositiveInt = Annotated[int, Field(ge=1, le=2_147_483_647, strict=True)]
NonNegativeInt = Annotated[int, Field(ge=0, le=2_147_483_647, strict=True)]
