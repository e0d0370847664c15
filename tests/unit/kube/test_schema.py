"""The CRD and the typed models say the same: neither has a field, a default or a value that the other lacks."""

from __future__ import annotations

import types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import pytest
import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from registry_cleanup.domain.order import OrderBy
from registry_cleanup.domain.policy import Limits, OnExceeded, TagDate, Untagged
from registry_cleanup.domain.run import Phase, Trigger
from registry_cleanup.domain.verdict import KeepReason, PruneReason
from registry_cleanup.kube.model import PolicySpec
from registry_cleanup.kube.spec import GROUP, KIND, PLURAL, VERSION, parse_policy
from registry_cleanup.kube.status import PolicyStatus
from tests.support.builders import minimal_spec, resource

_CRD = yaml.safe_load((Path(__file__).parents[3] / "crds" / "registrycleanuppolicies.yaml").read_text())
_PARTS: dict[str, type[BaseModel]] = {"spec": PolicySpec, "status": PolicyStatus}
_NO_DEFAULT = object()
# What of pydantic's defaults the API server need not fill in: leaving the field away means the same.
_EMPTY: tuple[object, ...] = (None, [], _NO_DEFAULT)


@dataclass(frozen=True)
class _Field:
    """A property of the schema beside the field of the model that stands for it."""

    path: str
    schema: Mapping[str, Any]
    required: bool
    model: FieldInfo
    type: Any


def _schema(part: str) -> Mapping[str, Any]:
    (version,) = [each for each in _CRD["spec"]["versions"] if each["name"] == VERSION]
    schema: Mapping[str, Any] = version["schema"]["openAPIV3Schema"]["properties"][part]
    return schema


def _names(model: type[BaseModel]) -> dict[str, str]:
    """Return the fields of a model by the name that the resource has for them."""
    return {field.alias or name: name for name, field in model.model_fields.items()}


def _bare(annotation: Any) -> Any:  # noqa: ANN401 - annotations have no type
    """Return a type without the dress of `Annotated` and `| None`."""
    if get_origin(annotation) is Annotated:
        return _bare(get_args(annotation)[0])
    if get_origin(annotation) in (Union, types.UnionType):
        (only,) = [each for each in get_args(annotation) if each is not type(None)]
        return _bare(only)
    return annotation


def _objects(path: str, schema: Mapping[str, Any], type_: object) -> Iterator[tuple[str, Mapping[str, Any], Any]]:
    """Yield each object of the schema with the model that stands for it, those in lists too."""
    type_ = _bare(type_)
    if schema["type"] == "array":
        yield from _objects(f"{path}[]", schema["items"], get_args(type_)[0])
    elif schema["type"] == "object" and "properties" in schema:
        yield path, schema, type_
        assert isinstance(type_, type), path
        assert issubclass(type_, BaseModel), path
        names = _names(type_)
        for name, child in schema["properties"].items():
            if name in names:
                yield from _objects(f"{path}.{name}", child, type_.model_fields[names[name]].annotation)


def _fields(part: str) -> Iterator[_Field]:
    for path, schema, model in _objects(part, _schema(part), _PARTS[part]):
        for name, attribute in _names(model).items():
            field = model.model_fields[attribute]
            if name in schema["properties"]:
                required = name in schema.get("required", [])
                yield _Field(f"{path}.{name}", schema["properties"][name], required, field, _bare(field.annotation))


_OBJECTS = [pytest.param(*each, id=each[0]) for part in _PARTS for each in _objects(part, _schema(part), _PARTS[part])]
_FIELDS = {part: list(_fields(part)) for part in _PARTS}
_ALL = {field.path: field for part in _PARTS for field in _FIELDS[part]}


def _path(field: _Field) -> str:
    return field.path


@pytest.mark.parametrize(("path", "schema", "model"), _OBJECTS)
def test_every_property_is_a_field_and_every_field_a_property(
    path: str, schema: Mapping[str, Any], model: type[BaseModel]
) -> None:
    assert set(schema["properties"]) == set(_names(model)), path


@pytest.mark.parametrize("field", _FIELDS["spec"], ids=_path)
def test_of_a_spec_both_require_the_same(field: _Field) -> None:
    assert field.model.is_required() == field.required


@pytest.mark.parametrize("field", _FIELDS["status"], ids=_path)
def test_of_a_status_the_operator_writes_all_that_the_schema_requires(field: _Field) -> None:
    # The other way round the schema may be more lenient: what the operator cannot read it takes for nothing.
    if field.required:
        assert field.model.is_required()


@pytest.mark.parametrize("field", _FIELDS["spec"], ids=_path)
def test_both_have_the_same_default(field: _Field) -> None:
    default = _NO_DEFAULT if field.model.is_required() else field.model.get_default(call_default_factory=True)
    if isinstance(default, BaseModel):
        # The API server fills in the parts of the empty object, which are looked at one by one.
        assert (field.schema["default"], default) == ({}, type(default)())
    elif "default" in field.schema:
        assert field.schema["default"] == default
    else:
        assert default in _EMPTY


@pytest.mark.parametrize("field", _ALL.values(), ids=_path)
def test_both_have_compatible_types(field: _Field) -> None:
    assert _fits(field.schema, field.type), (field.path, field.schema["type"], field.type)


def _fits(schema: Mapping[str, Any], type_: object) -> bool:
    """Say whether what the schema lets through is of this type."""
    type_ = _bare(type_)
    match schema["type"]:
        case "array":
            return get_origin(type_) is list and _fits(schema["items"], get_args(type_)[0])
        case "object" if "additionalProperties" in schema:
            return get_origin(type_) is dict and _fits(schema["additionalProperties"], get_args(type_)[1])
        case "object":
            return isinstance(type_, type) and issubclass(type_, BaseModel)
        case "string":
            return type_ is str or _values(type_) is not None
        case "integer":
            return type_ is int
        case "boolean":
            return type_ is bool
        case _:
            return False


def _values(type_: object) -> set[str] | None:
    """Return the values of an enumeration or a Literal."""
    if isinstance(type_, type) and issubclass(type_, Enum):
        return {each.value for each in type_}
    return set(get_args(type_)) if get_origin(type_) is Literal else None


@pytest.mark.parametrize(
    "field", [each for each in _ALL.values() if "enum" in each.schema or _values(each.type)], ids=_path
)
def test_both_have_the_same_values(field: _Field) -> None:
    allowed = set(field.schema["enum"])
    values = _values(field.type)
    if field.path == "status.conditions[].status":
        assert (allowed, values) == ({"True", "False", "Unknown"}, None)
    else:
        assert allowed == values


@pytest.mark.parametrize(
    ("path", "values"),
    [
        ("status.lastRun.trigger", Trigger),
        ("status.lastRun.phase", Phase),
        ("spec.tagDate", TagDate),
        ("spec.rules[].orderBy", OrderBy),
        ("spec.untagged", Untagged),
        ("spec.limits.onExceeded", OnExceeded),
    ],
)
def test_the_values_are_those_of_the_domain(path: str, values: type[Enum]) -> None:
    assert set(_ALL[path].schema["enum"]) == {each.value for each in values}


def test_limits_that_nobody_writes_are_those_of_the_domain() -> None:
    schema = {name: _ALL[f"spec.limits.{name}"].schema for name in ("maxDeletions", "maxPercentPerRepository")}
    assert [each["default"] for each in schema.values()] == [Limits().max_deletions, Limits().max_percent]
    assert [(each["minimum"], each["maximum"]) for each in schema.values()] == [(1, 1_000_000), (1, 100)]


def test_a_plan_gives_the_reasons_to_prune_that_the_schema_lists() -> None:
    reasons = _schema("status")["properties"]["plan"]["properties"]["sample"]["items"]["properties"]["reasons"]
    assert set(reasons["items"]["enum"]) == {each.value for each in PruneReason}
    assert all(f"{each.value}," in reasons["description"] for each in PruneReason)


def test_every_reason_to_keep_is_explained_and_fits() -> None:
    kept = _schema("status")["properties"]["lastRun"]["properties"]["keptByReason"]
    assert [each.value for each in KeepReason if f"{each.value}: " not in kept["description"]] == []
    assert len(KeepReason) <= kept["maxProperties"]


@pytest.mark.parametrize(
    ("path", "bound"),
    [
        ("status.lastRun.message", 1024),
        ("status.lastHandledRunRequest", 256),
        ("status.lastHandledApproval", 128),
        ("status.plan.sample", 10),
    ],
)
def test_what_the_operator_bounds_is_bounded_alike_in_the_schema(path: str, bound: int) -> None:
    schema = _ALL[path].schema
    assert schema.get("maxLength", schema.get("maxItems")) == bound


def test_group_kind_and_plural_are_those_that_the_operator_asks_for() -> None:
    spec = _CRD["spec"]
    assert (spec["group"], spec["names"]["kind"], spec["names"]["plural"]) == (GROUP, KIND, PLURAL)


@pytest.mark.parametrize("sample", sorted((Path(__file__).parents[3] / "crds" / "samples").glob("*.yaml")))
def test_the_samples_are_policies_that_the_operator_obeys(sample: Path) -> None:
    for document in yaml.safe_load_all(sample.read_text()):
        if document["kind"] == KIND:
            assert parse_policy(resource(document["spec"])).policy.rules


@pytest.mark.parametrize(
    ("path", "default", "type_"),
    [
        ("spec.tagDate", "Auto", Literal["Auto", "Created"]),
        ("spec.rules[].includeManaged", False, bool),
        ("spec.registry.url", None, str),
        ("spec.limits.maxDeletions", 1000, int),
        ("spec.limits.requestsPerSecond", None, int),
        ("spec.limits.maxConcurrency", None, int),
        ("spec.approval.required", False, bool),
        ("spec.gracePeriod", "24h", str),
    ],
)
def test_what_lies_deeper_is_walked_too(path: str, default: object, type_: object) -> None:
    field = _ALL[path]
    assert (field.required, field.schema.get("default"), field.type) == (False, default, type_)


def test_the_kind_of_a_registry_is_what_the_composition_root_tells_apart() -> None:
    assert set(_ALL["spec.registry.type"].schema["enum"]) == {"Auto", "Distribution", "OpenShift"}


def test_what_the_api_server_fills_in_changes_nothing() -> None:
    filled = _filled(_schema("spec"), minimal_spec())
    assert PolicySpec.model_validate(filled) == PolicySpec.model_validate(minimal_spec())


def _filled(schema: Mapping[str, Any], value: object) -> object:
    """Return `value` with the schema's defaults, as the API server stores it."""
    if isinstance(value, list):
        return [_filled(schema["items"], each) for each in value]
    if not isinstance(value, dict) or "properties" not in schema:
        return value
    defaults = {name: part["default"] for name, part in schema["properties"].items() if "default" in part}
    return {name: _filled(schema["properties"][name], part) for name, part in (defaults | value).items()}
