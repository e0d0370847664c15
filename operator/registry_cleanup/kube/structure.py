"""What an API server with the built-in CRD refuses of a resource, all of it at once, without one."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import Any, TypeAlias

from registry_cleanup.kube.crd_rules import broken

Schema: TypeAlias = Mapping[str, Any]
Told: TypeAlias = Iterator[tuple[str, str]]
"""Paths such as `spec.rules[0].olderThan`, each with what is wrong there."""

_TYPES: Mapping[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "integer": (int,),
    "boolean": (bool,),
}
_NAMES: Mapping[type, str] = {dict: "a mapping", list: "a list", bool: "a boolean", int: "a number", float: "a number"}
_CALLED = {"object": "a mapping", "array": "a list", "string": "a string", "integer": "an integer"}
_INT32 = 2**31
_SHOWN = 60


def problems(value: Any, schema: Schema, path: str) -> Told:  # noqa: ANN401 - whatever JSON it is
    """Yield all that `schema` refuses in `value`, which stands at `path`."""
    if not _of_type(value, schema["type"]):
        yield path, _other_type(value, schema)
        return
    rules = list(_of_rules(value, schema, path))
    # A rule says better what is missing than a bound, and of one string the first rule says enough.
    yield from ((path, words) for words in _out_of_bounds(value, schema, small=not rules))
    yield from rules[:1] if isinstance(value, str) else rules
    if isinstance(value, dict):
        yield from _of_object(value, schema, path)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from problems(item, schema["items"], f"{path}[{index}]")


def _of_rules(value: Any, schema: Schema, path: str) -> Told:  # noqa: ANN401 - whatever JSON it is
    for rule in schema.get("x-kubernetes-validations", []):
        for place, detail in broken(rule["rule"], value):
            words = f"{rule['message']}: {detail}" if detail else rule["message"]
            yield path + (place or rule.get("fieldPath", "")), words


def _of_type(value: object, name: str) -> bool:
    return isinstance(value, _TYPES[name]) and (name == "boolean" or not isinstance(value, bool))


def _other_type(value: Any, schema: Schema) -> str:  # noqa: ANN401 - whatever JSON it is
    name: str = schema["type"]
    spelled = json.dumps(value, ensure_ascii=False)
    shown = spelled if len(spelled) <= _SHOWN else spelled[:_SHOWN] + "…"
    kind = _NAMES.get(type(value), "nothing" if value is None else "a string")
    told = f"must be {_CALLED.get(name, 'true or false')}, and {shown} is {kind}"
    if name == "boolean" or isinstance(value, (dict, list)) or (name == "string" and value is None):
        return told
    if name != "string":
        return f"{told}; write it without quotes" if isinstance(value, str) and value.isdecimal() else told
    # As a string it may be no better: `olderThan: 30` lacks its unit, not its quotes.
    worse = next((message for _, message in problems(spelled, schema, "")), None)
    return f"{told}; put the value in quotes" if worse is None else f"{told}; it {worse}"


def _out_of_bounds(value: Any, schema: Schema, *, small: bool) -> Iterator[str]:  # noqa: ANN401 - whatever JSON it is
    if isinstance(value, str):
        if "enum" in schema and value not in schema["enum"]:
            yield f"must be {_either(schema['enum'])}{_meant(value, schema['enum'])}"
        yield from _size(len(value), schema, "Length", "characters", small=small)
    elif isinstance(value, list):
        yield from _size(len(value), schema, "Items", "items", small=small)
    elif isinstance(value, dict):
        yield from _size(len(value), schema, "Properties", "entries", small=small)
    elif not isinstance(value, bool):
        least, most = schema.get("minimum", -_INT32), schema.get("maximum", _INT32 - 1)
        if value < least:
            yield f"must be at least {least}"
        if value > most:
            yield f"must be at most {most}"


def _size(size: int, schema: Schema, of: str, unit: str, *, small: bool) -> Iterator[str]:
    least, most = schema.get(f"min{of}", 0), schema.get(f"max{of}")
    if size < least and small:
        yield "must not be empty" if least == 1 else f"must have at least {least} {unit}"
    if most is not None and size > most:
        yield f"must have at most {most} {unit}, and has {size}"


def _of_object(value: Mapping[str, Any], schema: Schema, path: str) -> Told:
    known: Mapping[str, Schema] = schema.get("properties", {})
    every: Schema | None = schema.get("additionalProperties")
    for name in schema.get("required", []):
        if name not in value:
            yield f"{path}.{name}", "is required"
    for name, item in value.items():
        below = f"{path}.{name}".lstrip(".")
        if name in known:
            yield from problems(item, known[name], below)
        elif every is not None:
            yield from problems(item, every, below)
        else:
            yield below, unknown(name, list(known))


def unknown_fields(value: Any, schema: Schema, path: str) -> Told:  # noqa: ANN401 - whatever JSON it is
    """Yield the fields that `schema` does not know, of a value that is not looked at otherwise."""
    if isinstance(value, list) and "items" in schema:
        for index, item in enumerate(value):
            yield from unknown_fields(item, schema["items"], f"{path}[{index}]")
    if not isinstance(value, dict) or "properties" not in schema:
        return
    for name, item in value.items():
        if name in schema["properties"]:
            yield from unknown_fields(item, schema["properties"][name], f"{path}.{name}")
        else:
            yield f"{path}.{name}", unknown(name, list(schema["properties"]))


def unknown(name: str, known: list[str]) -> str:
    """Say that a field is not known, and which one may be meant."""
    if name in ("true", "false"):
        return "is no field; on, off, yes, no, y and n are booleans in YAML 1.1, unless they are quoted"
    return f"is not a field that this version knows{_meant(name, known)}; remove it, or upgrade"


def _meant(text: str, known: list[str]) -> str:
    folded = {each.lower(): each for each in known}
    close = get_close_matches(text.lower().replace("_", ""), folded, n=1, cutoff=0.75)
    return f" (did you mean {folded[close[0]]}?)" if close else ""


def _either(choices: list[str]) -> str:
    *others, last = choices
    return f"{', '.join(others)} or {last}" if others else last
