"""What a YAML scalar stands for to kubectl: YAML 1.1 as sigs.k8s.io/yaml reads it, made JSON.

PyYAML's own reading differs: to it 12:30 is 750, 2026-01-01 a date, 0o14 a string and y no boolean. Here 12:30 and
2026-01-01 are strings, 0o14 and 014 are 12, y and on are true. A test compares this with kubectl.
"""

from __future__ import annotations

import base64
import binascii
import math
import re
from typing import TypeAlias

Scalar: TypeAlias = str | int | float | bool | None

_NULLS = frozenset({"", "~", "null", "Null", "NULL"})
_TRUE = frozenset({"y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON"})
_FALSE = frozenset({"n", "N", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF"})
_INTEGER = re.compile(r"[-+]?(?:0[xX][0-9a-fA-F]+|0[oO]?[0-7]+|0[bB][01]+|0|[1-9][0-9]*)")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_NO_NUMBER = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")
_BASES = {"x": 16, "o": 8, "b": 2}
_INT64 = 2**63
# More digits than any number of a policy; Python itself refuses to read 4300.
_MOST_DIGITS = 400

_CORE = "tag:yaml.org,2002:"
_PLAIN_TAGS = frozenset({f"{_CORE}{name}" for name in ("int", "float", "bool", "null")})


def resolve(text: str, tag: str | None, *, plain: bool) -> Scalar:
    """Return what a scalar stands for; `plain` is one without quotes. Raises `ValueError` where it is no JSON."""
    if tag == f"{_CORE}binary":
        return _decoded(text)
    if tag in _PLAIN_TAGS:
        value = _plain(text)
        if not _fits(value, tag.removeprefix(_CORE)):
            raise ValueError(f"is tagged !!{tag.removeprefix(_CORE)}, and {text!r} is none")
        return value
    return _plain(text) if plain and tag is None else text


def key_text(key: Scalar) -> str:
    """Return the string that a key becomes in JSON. Raises `ValueError` for one that cannot."""
    if key is None:
        raise ValueError("has an entry without a key")
    return str(key).lower() if isinstance(key, bool) else str(key)


def _plain(text: str) -> Scalar:
    if text in _NULLS:
        return None
    if text in _TRUE or text in _FALSE:
        return text in _TRUE
    if _NO_NUMBER.fullmatch(text):
        raise ValueError(f"{text} is not a number that JSON has; put it in quotes if it is meant as text")
    if text[0] not in "+-.0123456789":
        return text
    digits = text.replace("_", "") if text[0] != "." else text
    if len(digits) > _MOST_DIGITS:
        return text
    if _INTEGER.fullmatch(digits) and -_INT64 <= (number := _integer(digits)) < _INT64:
        return number
    return _whole(float(digits), text) if _FLOAT.fullmatch(digits) else text


def _integer(digits: str) -> int:
    sign, bare = (-1, digits[1:]) if digits[0] == "-" else (1, digits.lstrip("+"))
    if bare[1:2].lower() in _BASES:
        return sign * int(bare[2:], _BASES[bare[1].lower()])
    return sign * int(bare, 8 if bare.startswith("0") else 10)


def _whole(number: float, text: str) -> Scalar:
    """Return a float as JSON carries it: 10.0 is 10."""
    if math.isinf(number):
        return text  # Go takes what is out of range for text
    return int(number) if number.is_integer() and abs(number) < _INT64 else number


def _fits(value: Scalar, name: str) -> bool:
    match name:
        case "int":
            return isinstance(value, int) and not isinstance(value, bool)
        case "float":
            return isinstance(value, (int, float)) and not isinstance(value, bool)
        case "bool":
            return isinstance(value, bool)
        case _:
            return value is None


def _decoded(text: str) -> str:
    try:
        return base64.b64decode("".join(text.split()), validate=True).decode()
    except (binascii.Error, UnicodeDecodeError, ValueError) as error:
        raise ValueError("is tagged !!binary, and is not text in base64") from error
