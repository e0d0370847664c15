"""A policy that no API server has seen: what one would refuse is refused without it, and all of it at once."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from registry_cleanup.domain.tenancy import Bounds, HostGlob
from registry_cleanup.kube.built_in import built_in_schema
from registry_cleanup.kube.crd_rules import UnknownRuleError, broken
from registry_cleanup.kube.offline import parse, refusals
from registry_cleanup.kube.spec import InvalidSpecError
from tests.support.crd_cases import ABSENT, ACCEPTED, BASE, REFUSED, policy_with


def _rules(schema: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the text and the type of every CEL rule of the CRD's spec."""
    for rule in schema.get("x-kubernetes-validations", []):
        yield rule["rule"], schema["type"]
    for child in schema.get("properties", {}).values():
        yield from _rules(child)
    for name in schema.keys() & {"items", "additionalProperties"}:
        yield from _rules(schema[name])


_SPEC = built_in_schema()["properties"]["spec"]
_WELL_TYPED: Mapping[str, Any] = {"string": "x", "array": [], "object": {}}


@pytest.mark.parametrize(("rule", "of_type"), sorted(set(_rules(_SPEC))))
def test_every_rule_of_the_crd_is_known(rule: str, of_type: str) -> None:
    broken(rule, _WELL_TYPED[of_type])


def test_a_rule_that_nobody_spelled_out_is_no_rule_that_holds() -> None:
    with pytest.raises(UnknownRuleError, match="brandNew"):
        broken("has(self.brandNew)", {})


@pytest.mark.parametrize(("path", "value", "field", "words"), REFUSED, ids=lambda part: str(part)[:40])
def test_what_an_api_server_refuses_is_refused_at_the_same_field(
    path: str, value: object, field: str, words: str
) -> None:
    told = refusals(policy_with(path, value))
    assert any(place == field or place.startswith((f"{field}.", f"{field}[")) for place, _ in told), (told, words)


@pytest.mark.parametrize(("path", "value"), ACCEPTED, ids=lambda part: str(part)[:40])
def test_what_an_api_server_accepts_is_accepted(path: str, value: object) -> None:
    assert refusals(policy_with(path, value)) == []


@pytest.mark.parametrize(
    ("path", "value", "field", "words"),
    [
        ("apiVersion", "registrycleanup.dev/v1", "apiVersion", "must be registrycleanup.dev/v1alpha1"),
        ("apiVersion", ABSENT, "apiVersion", "is required; write registrycleanup.dev/v1alpha1"),
        ("kind", "RegistryCleanupPolicies", "kind", "must be RegistryCleanupPolicy"),
        ("specs", {}, "specs", "did you mean spec?"),
        ("status", {"plan": {"deletion": "x"}}, "status.plan.deletion", "did you mean deletions?"),
        ("status", {"history": [{}, {"phrase": 1}]}, "status.history[1].phrase", "did you mean phase?"),
        ("metadata", [], "metadata", "must be a mapping"),
        ("metadata.name", ABSENT, "metadata.name", "is required"),
        ("metadata.name", "Sample", "metadata.name", "lower case"),
        ("metadata.name", "a.", "metadata.name", "begin and end with"),
        ("metadata.name", "a" * 254, "metadata.name", "at most 253"),
        ("metadata.name", 7, "metadata.name", "write it in quotes"),
        ("metadata.namespace", "a.b", "metadata.namespace", "lower case"),
        ("metadata.namespace", "a" * 64, "metadata.namespace", "at most 63"),
        ("metadata.lables", {}, "metadata.lables", "did you mean labels?"),
        ("metadata.labels", {"a b": "c"}, "metadata.labels.a b", "is not the key of a label"),
        ("metadata.labels", {"a": "c d"}, "metadata.labels.a", "is not the value of a label"),
        ("metadata.labels", {"a": True}, "metadata.labels.a", "must be a string; write it in quotes"),
        ("metadata.annotations", {"a": 1}, "metadata.annotations.a", "must be a string; write it in quotes"),
        ("metadata.annotations", "a", "metadata.annotations", "must be a mapping"),
        ("metadata.annotations", {"a": "b" * 262144}, "metadata.annotations", "at most 262144 bytes"),
        # What only the operator knows.
        ("spec.schedule", "99 3 * * *", "spec.schedule", "is not a cron expression"),
        ("spec", {**BASE["spec"], "schedule": "@daily", "timeZone": "Mars/Base"}, "spec.timeZone", "not an IANA"),
        ("spec.registry.url", "https://169.254.169.254", "spec.registry.url", "link-local"),
        ("spec.repositories.include", ["a//b"], "spec.repositories.include[0]", "as no repository does"),
        # How a wrong type is told.
        ("spec.rules.0.olderThan", 30, "spec.rules[0].olderThan", "30 is a number; it must be a duration"),
        ("spec.rules.0.name", 30, "spec.rules[0].name", "put the value in quotes"),
        ("spec.rules.0.keep", {"mostRecent": "3"}, "spec.rules[0].keep.mostRecent", "write it without quotes"),
        ("spec.dryRun", "yes", "spec.dryRun", 'must be true or false, and "yes" is a string'),
        ("spec.dryrun", True, "spec.dryrun", "did you mean dryRun?"),
        ("spec.true", True, "spec.true", "booleans in YAML 1.1"),
        ("spec.tagDate", "created", "spec.tagDate", "must be Auto or Created (did you mean Created?)"),
        ("spec.rules.0.tags.include", ["ok", "pr-("], "spec.rules[0].tags.include[1]", "missing )"),
    ],
)
def test_an_error_names_its_field_and_what_to_write(path: str, value: object, field: str, words: str) -> None:
    ((told, message),) = refusals(policy_with(path, value))
    assert told == field
    assert words in message


def test_fields_that_are_looked_at_together_are_told_beside_others_that_are_wrong_by_themselves() -> None:
    rule = {"name": "a", "tags": {"include": ["(", "<n>"]}, "extract": "n", "orderBy": "SemVer", "olderThan": 5}
    policy: dict[str, Any] = copy.deepcopy(dict(BASE))
    policy["metadata"] = {"name": "-"}
    policy["spec"] = {
        "registry": {"url": "http://r", "serviceAccountName": "A", "secretRef": {"name": 1}, "port": 1},
        "repositories": {"include": []},
        "rules": [rule, {"name": "a", "tags": {}}],
        "timeZone": "Nowhere",
        "startingDeadlineSeconds": 1,
        "inUse": {"namespaceSelector": {"matchExpressions": [{"key": "a", "operator": "In"}]}, "aliases": ["/"]},
    }
    places = [path for path, _ in refusals(policy)]
    assert set(places) == {
        "metadata.name",
        "spec.registry.url",
        "spec.registry.serviceAccountName",
        "spec.registry.secretRef.name",
        "spec.registry.port",
        "spec.repositories.include",
        "spec.rules[0].tags.include[0]",
        "spec.rules[0].olderThan",
        "spec.rules[0].extract",
        "spec.rules[1].name",
        "spec.rules[1].tags.include",
        "spec.rules[1]",
        "spec.timeZone",
        "spec.startingDeadlineSeconds",
        "spec.inUse.namespaceSelector.matchExpressions[0]",
        "spec.inUse.aliases[0]",
    }
    assert places.count("spec.timeZone") == 1  # without a schedule it has no meaning, whatever it is


def test_a_policy_that_goes_beyond_the_bounds_is_refused() -> None:
    bounds = Bounds(registries=(HostGlob("other.example.com"),))
    assert [path for path, _ in refusals(BASE, bounds)] == ["spec.registry.url"]
    with pytest.raises(InvalidSpecError):
        parse(BASE, bounds)


def test_a_valid_policy_is_parsed_as_one_of_the_namespace_default() -> None:
    parsed = parse(BASE)
    assert (parsed.namespace, parsed.name) == ("default", "sample")
