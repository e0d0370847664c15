"""The CEL rules of the CRD, as far as it has them: each says where a value breaks it.

CEL itself is the API server's. Here each rule that is more than one `matches` has a function of its own, found by the
rule's whole text, and a test sees to it that the CRD has no other. Unlike the API server these look at a value also
where parts of it have the wrong type, and pass over those, so that all that is wrong can be told at once.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias

import re2

from registry_cleanup.domain.duration import parse_period
from registry_cleanup.domain.policy import InvalidPatternError, TagPattern

_MATCHES = re.compile(r"self\.matches\('((?:[^'\\]|\\.)*)'\)")
# One byte, be it half a character: RE2 knows it, Go does not. A C after an escaped or quoted backslash is a letter.
_ANY_BYTE = re.compile(r"(?s)(?:[^\\]|\\Q.*?(?:\\E|\Z)|\\[^CQ])*\\C")
_DURATION = "self.matches('^([0-9]+d)?([0-9]+h)?([0-9]+m)?([0-9]+s)?$')"

Places: TypeAlias = Iterable[tuple[str, str]]
"""Paths below a value at which it breaks a rule, each with what the rule's message cannot say, or nothing.

The empty path is where the rule itself says, by its `fieldPath`.
"""


class UnknownRuleError(LookupError):
    """The CRD has a rule that nobody spelled out here."""


def broken(rule: str, value: Any) -> list[tuple[str, str]]:  # noqa: ANN401 - whatever JSON it is
    """Return where `value` breaks a rule of the CRD."""
    text = " ".join(rule.split())
    match = _MATCHES.fullmatch(text)
    if match is not None:
        return [] if re2.search(re.sub(r"\\(.)", r"\1", match[1]), value) is not None else [("", "")]
    if text not in _RULES:
        raise UnknownRuleError(text)
    return list(_RULES[text](value))


def _at(wrong: bool) -> Places:
    return [("", "")] if wrong else []


def _text(value: Mapping[str, Any], name: str) -> str:
    found = value.get(name)
    return found if isinstance(found, str) else ""


def _insecure(value: Mapping[str, Any]) -> bool:
    return value.get("insecure", False) is not False


def _sent_over_http(value: Mapping[str, Any]) -> bool:
    return any(_text(value, name).startswith("http://") for name in ("url", "tokenURL"))


def _same_names(rules: list[Any]) -> Places:
    names = [_text(rule, "name") if isinstance(rule, Mapping) else "" for rule in rules]
    return [(f"[{index}].name", repr(name)) for index, name in enumerate(names) if name and name in names[:index]]


def _without_group(rule: Mapping[str, Any]) -> Places:
    """Tell which includes lack the group `(?P<n>…)` itself, where CEL can only look for `<n>`."""
    group, tags = _text(rule, "extract"), rule.get("tags")
    includes = tags.get("include") if isinstance(tags, Mapping) else None
    if not group or not isinstance(includes, list):
        return []
    lacking = [
        f"include[{index}]"
        for index, text in enumerate(includes)
        if isinstance(text, str) and not _defines(text, group)
    ]
    return [("", f"not in {', '.join(lacking)}")] if lacking else []


def _defines(text: str, group: str) -> bool:
    try:
        return TagPattern(text).defines(group)
    except InvalidPatternError:
        return f"<{group}>" in text


def _pattern(text: str) -> Places:
    try:
        if _ANY_BYTE.match(text):
            return [("", "\\C, which an API server refuses; write . for any character")]
        if text:  # to RE2 an empty one is as good as any; that it is empty is told anyway
            TagPattern(text)
    except InvalidPatternError as error:
        return [("", str(error).partition(": ")[2])]
    return []


def _too_long(text: str) -> Places:
    if broken(_DURATION, text):
        return []
    try:
        parse_period(text)
    except ValueError:
        return _at(True)
    return []


def _selects(value: Mapping[str, Any]) -> bool:
    return bool(value.get("matchLabels")) or bool(value.get("matchExpressions"))


def _zone(text: str) -> Places:
    return _at(
        re2.search("^[A-Za-z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+)*$", text) is None or text.lower() == "local",
    )


def _collection(spec: Mapping[str, Any]) -> Mapping[str, Any]:
    found = spec.get("garbageCollection")
    return found if isinstance(found, Mapping) else {}


def _on_openshift(spec: Mapping[str, Any]) -> bool:
    registry = spec.get("registry")
    return isinstance(registry, Mapping) and registry.get("type") == "OpenShift"


def _collects(collection: Mapping[str, Any]) -> bool:
    return collection.get("mode") not in (None, "None")


_RULES: Mapping[str, Callable[[Any], Places]] = {
    "!has(self.timeZone) || has(self.schedule) "
    "|| (has(self.garbageCollection) && has(self.garbageCollection.schedule))": (
        lambda spec: _at("timeZone" in spec and "schedule" not in spec and "schedule" not in _collection(spec))
    ),
    "!has(self.startingDeadlineSeconds) || has(self.schedule)": lambda spec: _at(
        "startingDeadlineSeconds" in spec and "schedule" not in spec
    ),
    "has(self.url) || (has(self.type) && self.type == 'OpenShift' && has(self.serviceAccountName))": lambda registry: (
        _at("url" not in registry and not (registry.get("type") == "OpenShift" and "serviceAccountName" in registry))
    ),
    "!has(self.url) || !self.url.startsWith('http://') || (has(self.insecure) && self.insecure)": lambda registry: _at(
        _text(registry, "url").startswith("http://") and not _insecure(registry)
    ),
    "!has(self.tokenURL) || !self.tokenURL.startsWith('http://') || (has(self.insecure) && self.insecure)": (
        lambda registry: _at(_text(registry, "tokenURL").startswith("http://") and not _insecure(registry))
    ),
    "!(has(self.serviceAccountName) && has(self.secretRef))": lambda registry: _at(
        "serviceAccountName" in registry and "secretRef" in registry
    ),
    "!has(self.serviceAccountName) || ((!has(self.url) || self.url.startsWith('https://')) && "
    "(!has(self.tokenURL) || self.tokenURL.startsWith('https://')))": lambda registry: _at(
        "serviceAccountName" in registry and _sent_over_http(registry)
    ),
    "self.size() > 0": lambda items: _at(not items),
    "self.all(rule, self.exists_one(other, other.name == rule.name))": _same_names,
    "has(self.olderThan) || has(self.keep)": lambda rule: _at("olderThan" not in rule and "keep" not in rule),
    "has(self.mostRecent)": lambda keep: _at("mostRecent" not in keep),
    "!has(self.extract) || (has(self.orderBy) && self.orderBy != 'Date')": lambda rule: _at(
        "extract" in rule and rule.get("orderBy", "Date") == "Date"
    ),
    "!has(self.extract) || self.tags.include.all(text, text.contains('<' + self.extract + '>'))": _without_group,
    "''.matches(self) in [true, false]": _pattern,
    f"!{_DURATION} || int('0' + self.find('[0-9]+d').replace('d', '')) * 86400 "
    "+ int('0' + self.find('[0-9]+h').replace('h', '')) * 3600 "
    "+ int('0' + self.find('[0-9]+m').replace('m', '')) * 60 "
    "+ int('0' + self.find('[0-9]+s').replace('s', '')) <= 3153600000": _too_long,
    "(has(self.matchLabels) && size(self.matchLabels) > 0) || (has(self.matchExpressions) && "
    "size(self.matchExpressions) > 0)": lambda selector: _at(not _selects(selector)),
    "(self.operator in ['In', 'NotIn']) == (has(self.values) && size(self.values) > 0)": lambda each: _at(
        "operator" in each and (each["operator"] in ("In", "NotIn")) != bool(each.get("values"))
    ),
    "self.matches('^[A-Za-z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+)*$') && self.lowerAscii() != 'local'": _zone,
    "!has(self.mode) || self.mode == 'None' || has(self.schedule)": lambda collection: _at(
        _collects(collection) and "schedule" not in collection
    ),
    "!has(self.pruneStorage) || !self.pruneStorage || has(self.workloadRef)": lambda collection: _at(
        collection.get("pruneStorage") is True and "workloadRef" not in collection
    ),
    "!has(self.garbageCollection) || !has(self.garbageCollection.mode) || self.garbageCollection.mode == 'None' || "
    "has(self.garbageCollection.workloadRef) || (has(self.registry.type) && self.registry.type == 'OpenShift')": (
        lambda spec: _at(
            _collects(_collection(spec)) and "workloadRef" not in _collection(spec) and not _on_openshift(spec)
        )
    ),
    "!has(self.garbageCollection) || !has(self.garbageCollection.workloadRef) || !has(self.registry.type) || "
    "self.registry.type != 'OpenShift'": lambda spec: _at("workloadRef" in _collection(spec) and _on_openshift(spec)),
}
