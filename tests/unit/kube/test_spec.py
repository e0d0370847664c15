"""From the resource to the policy: every error with its field's path and what to write, and a full spec in values."""

import copy
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from registry_cleanup.domain.collection import (
    IMAGE_PRUNER,
    NO_COLLECTION,
    CollectionMode,
    Strategy,
    WorkloadName,
)
from registry_cleanup.domain.duration import parse_duration, parse_period
from registry_cleanup.domain.order import OrderBy
from registry_cleanup.domain.policy import (
    ExtraReferences,
    InUseRules,
    Limits,
    OnExceeded,
    Policy,
    Rule,
    TagDate,
    Untagged,
)
from registry_cleanup.domain.tenancy import Bounds
from registry_cleanup.kube.model import ConfigMapReference
from registry_cleanup.kube.offline import refusals
from registry_cleanup.kube.spec import (
    APPROVE_ANNOTATION,
    COLLECT_ANNOTATION,
    KIND,
    REQUEST_ANNOTATION,
    InvalidSpecError,
    NotAllowedError,
    ParsedPolicy,
    parse_policy,
)
from tests.support.builders import minimal_spec, resource

_ABSENT = object()
_TAGS = {"include": [".*"]}
_WORKLOAD = {"kind": "Deployment", "name": "registry"}
_COLLECTION = {"mode": "Run", "schedule": "0 4 * * 0", "workloadRef": _WORKLOAD}


def _changed(spec: Mapping[str, Any], path: str, value: object) -> dict[str, Any]:
    """Return `spec` with one field set, or removed; numbers in `path` are places in lists."""
    changed = copy.deepcopy(dict(spec))
    *way, last = path.split(".")
    target: Any = changed
    for part in way:
        target = target[int(part)] if part.isdigit() else target.setdefault(part, {})
    if value is _ABSENT:
        del target[last]
    else:
        target[int(last) if last.isdigit() else last] = value
    return changed


def _errors(spec: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    with pytest.raises(InvalidSpecError) as caught:
        parse_policy(resource(spec))
    return caught.value.errors


_UNKNOWN = "is not a field that this operator knows; remove it, or upgrade the operator"

# What is set where, the path that is told, and words of what is told.
_WRONG: list[tuple[str, object, str, str]] = [
    # A mistyped or newer field, at each level.
    ("dryrun", True, "spec.dryrun", _UNKNOWN),
    ("dry_run", False, "spec.dry_run", _UNKNOWN),
    ("graceperiod", "24h", "spec.graceperiod", _UNKNOWN),
    ("limits", {"maxDeletion": 5}, "spec.limits.maxDeletion", _UNKNOWN),
    ("approval", {"needed": True}, "spec.approval.needed", _UNKNOWN),
    ("rules.0.orderby", "SemVer", "spec.rules[0].orderby", _UNKNOWN),
    ("registry.host", "x", "spec.registry.host", _UNKNOWN),
    ("registry.secretRef", {"name": "a", "namespace": "b"}, "spec.registry.secretRef.namespace", _UNKNOWN),
    ("registry.caConfigMapRef", {"name": "a", "keys": "b"}, "spec.registry.caConfigMapRef.keys", _UNKNOWN),
    ("repositories.excludes", ["x"], "spec.repositories.excludes", _UNKNOWN),
    ("rules.0.olderthan", "1d", "spec.rules[0].olderthan", _UNKNOWN),
    ("rules.0.tags.exlude", ["x"], "spec.rules[0].tags.exlude", _UNKNOWN),
    ("rules.0.keep", {"latest": 3}, "spec.rules[0].keep.latest", _UNKNOWN),
    ("rules.0.repositories", {"include": ["x"], "only": ["y"]}, "spec.rules[0].repositories.only", _UNKNOWN),
    ("inUse", {"enable": False}, "spec.inUse.enable", _UNKNOWN),
    ("inUse", {"namespaceSelector": {"matchlabels": {}}}, "spec.inUse.namespaceSelector.matchlabels", _UNKNOWN),
    # What counts as in use.
    ("inUse", {"namespaceSelector": {}}, "spec.inUse.namespaceSelector", "is empty; remove it for all namespaces"),
    ("inUse", {"namespaceSelector": {"matchLabels": {}}}, "spec.inUse.namespaceSelector", "is empty"),
    (
        "inUse",
        {"namespaceSelector": {"matchLabels": {"team": "a,env=b"}}},
        "spec.inUse.namespaceSelector.matchLabels.team",
        "is not the value of a label",
    ),
    (
        "inUse",
        {"namespaceSelector": {"matchExpressions": [{"key": "!team", "operator": "Exists"}]}},
        "spec.inUse.namespaceSelector.matchExpressions[0].key",
        "is not the key of a label",
    ),
    (
        "inUse",
        {"namespaceSelector": {"matchExpressions": [{"key": "team", "operator": "In"}]}},
        "spec.inUse.namespaceSelector.matchExpressions[0].values",
        "are needed for In and NotIn",
    ),
    (
        "inUse",
        {"extraReferencesFrom": [{"apiVersion": "x.io/v1", "kind": "Thing", "jsonPath": ".a[?(@.b)]"}]},
        "spec.inUse.extraReferencesFrom[0].jsonPath",
        "cannot be read from",
    ),
    (
        "inUse",
        {"extraReferencesFrom": [{"apiVersion": "x.io/v1/things", "kind": "Thing", "jsonPath": ".a"}]},
        "spec.inUse.extraReferencesFrom[0].apiVersion",
        "is not an apiVersion",
    ),
    (
        "inUse",
        {"extraReferencesFrom": [{"apiVersion": "x.io/v1", "kind": "things", "jsonPath": ".a"}]},
        "spec.inUse.extraReferencesFrom[0].kind",
        "is not a kind",
    ),
    ("inUse", {"referencesConfigMapRef": {}}, "spec.inUse.referencesConfigMapRef.name", "required"),
    ("inUse", {"aliases": ["hub/"]}, "spec.inUse.aliases[0]", "is not a path prefix"),
    # What must be there.
    ("registry", _ABSENT, "spec.registry", "required"),
    ("registry.url", _ABSENT, "spec.registry.url", "required"),
    ("registry", {"type": "OpenShift"}, "spec.registry.url", "only with type: OpenShift and a serviceAccountName"),
    ("registry", {"serviceAccountName": "a"}, "spec.registry.url", "only with type: OpenShift"),
    (
        "registry",
        {"type": "Distribution", "serviceAccountName": "a"},
        "spec.registry.url",
        "only with type: OpenShift",
    ),
    (
        "registry",
        {"type": "OpenShift", "secretRef": {"name": "login"}},
        "spec.registry.url",
        "only with type: OpenShift and a serviceAccountName",
    ),
    ("tagDate", "Pushed", "spec.tagDate", "'Auto' or 'Created'"),
    ("rules.0.includeManaged", "true", "spec.rules[0].includeManaged", "valid boolean"),
    ("repositories", _ABSENT, "spec.repositories", "required"),
    ("repositories.include", _ABSENT, "spec.repositories.include", "required"),
    ("repositories.include", [], "spec.repositories.include", "at least 1 item"),
    ("rules", _ABSENT, "spec.rules", "required"),
    ("rules", [], "spec.rules", "at least 1 item"),
    ("rules.0.name", _ABSENT, "spec.rules[0].name", "required"),
    ("rules.0.name", "", "spec.rules[0].name", "at least 1 character"),
    ("rules.0.tags", _ABSENT, "spec.rules[0].tags", "required"),
    ("rules.0.tags.include", [], "spec.rules[0].tags.include", "at least 1 item"),
    ("registry.secretRef", {}, "spec.registry.secretRef.name", "required"),
    # Nothing is converted.
    ("dryRun", "false", "spec.dryRun", "valid boolean"),
    ("dryRun", 0, "spec.dryRun", "valid boolean"),
    ("suspend", "yes", "spec.suspend", "valid boolean"),
    ("minTagsPerRepository", "1", "spec.minTagsPerRepository", "valid integer"),
    ("minTagsPerRepository", -1, "spec.minTagsPerRepository", "greater than or equal to 0"),
    ("rules.0.keep", {"mostRecent": 0}, "spec.rules[0].keep.mostRecent", "greater than or equal to 1"),
    ("rules.0.keep", {"mostRecent": "3"}, "spec.rules[0].keep.mostRecent", "valid integer"),
    ("rules.0.tags.include", ".*", "spec.rules[0].tags.include", "valid list"),
    ("rules.0.tags.include.0", 7, "spec.rules[0].tags.include[0]", "valid string"),
    # Patterns.
    ("repositories.include.0", "Team/*", "spec.repositories.include[0]", "'T', which no repository can have"),
    ("repositories.include.0", "", "spec.repositories.include[0]", "write '**' for every repository"),
    ("repositories.exclude", ["ok", "a b"], "spec.repositories.exclude[1]", "which no repository can have"),
    (
        "rules.0.repositories",
        {"include": ["{a,b}"]},
        "spec.rules[0].repositories.include[0]",
        "which no repository can have",
    ),
    ("rules.0.tags.include", ["ok", "["], "spec.rules[0].tags.include[1]", "RE2 syntax: missing ]"),
    ("rules.0.tags.include.0", "(?!latest).*", "spec.rules[0].tags.include[0]", "RE2 syntax: invalid perl operator"),
    ("rules.0.tags.include.0", "", "spec.rules[0].tags.include[0]", "write '.*' for every tag"),
    ("rules.0.tags.exclude", ["*"], "spec.rules[0].tags.exclude[0]", "RE2 syntax: no argument for repetition"),
    ("keepTags", ["v1", "("], "spec.keepTags[1]", "RE2 syntax: missing )"),
    # Durations.
    ("rules.0.olderThan", "", "spec.rules[0].olderThan", "write for example '30d', '12h'"),
    ("rules.0.olderThan", "30", "spec.rules[0].olderThan", "write for example '30d', '12h'"),
    ("rules.0.olderThan", "1w", "spec.rules[0].olderThan", "units d, h, m, s"),
    ("rules.0.olderThan", "12h1d", "spec.rules[0].olderThan", "is not a duration"),
    ("rules.0.olderThan", "-1d", "spec.rules[0].olderThan", "is not a duration"),
    ("rules.0.olderThan", "1.5d", "spec.rules[0].olderThan", "is not a duration"),
    ("rules.0.olderThan", " 1d", "spec.rules[0].olderThan", "is not a duration"),
    ("rules.0.olderThan", "٣d", "spec.rules[0].olderThan", "is not a duration"),
    ("rules.0.olderThan", 30, "spec.rules[0].olderThan", "valid string"),
    ("rules.0.olderThan", "0d", "spec.rules[0].olderThan", "must be more than 0 and at most 36500d"),
    ("rules.0.olderThan", "999999d", "spec.rules[0].olderThan", "must be more than 0 and at most 36500d"),
    ("rules.0.olderThan", "9" * 19 + "s", "spec.rules[0].olderThan", "must be more than 0 and at most 36500d"),
    ("rules.0.olderThan", "36500d1s", "spec.rules[0].olderThan", "must be more than 0 and at most 36500d"),
    # Rules.
    ("rules.0.olderThan", _ABSENT, "spec.rules[0]", "neither olderThan nor keep.mostRecent"),
    (
        "rules.0",
        {"name": "x", "tags": _TAGS, "keep": {}},
        "spec.rules[0]",
        "would prune everything it matches; add one",
    ),
    (
        "rules",
        [{"name": name, "tags": _TAGS, "olderThan": "1d"} for name in ("a", "b", "a")],
        "spec.rules[2].name",
        "'a' is used twice; give each rule its own name",
    ),
    # Versions.
    ("rules.0.orderBy", "Semver", "spec.rules[0].orderBy", "'Date', 'SemVer', 'Numerical' or 'Alphabetical'"),
    ("rules.0.extract", "version", "spec.rules[0].extract", "needs orderBy: SemVer, Numerical or Alphabetical"),
    (
        "rules.0",
        {
            "name": "x",
            "tags": {"include": ["v(?P<version>.*)", "w(?P<versions>.*)"]},
            "olderThan": "1d",
            "orderBy": "SemVer",
            "extract": "version",
        },
        "spec.rules[0].extract",
        "tags.include[1] has no group 'version'; write (?P<version>…) around what spells the version, in every include",
    ),
    # Guards.
    ("gracePeriod", "1w", "spec.gracePeriod", "write for example '30d', '12h'"),
    ("gracePeriod", "", "spec.gracePeriod", "write for example '30d', '12h'"),
    ("gracePeriod", 0, "spec.gracePeriod", "valid string"),
    ("gracePeriod", "36500d1s", "spec.gracePeriod", "must be at most 36500d"),
    ("limits", {"maxDeletions": 0}, "spec.limits.maxDeletions", "greater than or equal to 1"),
    ("limits", {"maxDeletions": 1_000_001}, "spec.limits.maxDeletions", "less than or equal to 1000000"),
    ("limits", {"maxDeletions": "9"}, "spec.limits.maxDeletions", "valid integer"),
    ("limits", {"maxPercentPerRepository": 0}, "spec.limits.maxPercentPerRepository", "greater than or equal to 1"),
    ("limits", {"maxPercentPerRepository": 101}, "spec.limits.maxPercentPerRepository", "less than or equal to 100"),
    ("limits", {"requestsPerSecond": 0}, "spec.limits.requestsPerSecond", "greater than or equal to 1"),
    ("limits", {"requestsPerSecond": 1001}, "spec.limits.requestsPerSecond", "less than or equal to 1000"),
    ("limits", {"requestsPerSecond": 0.5}, "spec.limits.requestsPerSecond", "valid integer"),
    ("limits", {"maxConcurrency": 0}, "spec.limits.maxConcurrency", "greater than or equal to 1"),
    ("limits", {"maxConcurrency": 257}, "spec.limits.maxConcurrency", "less than or equal to 256"),
    ("limits", {"onExceeded": "Ignore"}, "spec.limits.onExceeded", "'Abort' or 'Truncate'"),
    ("approval", {"required": "yes"}, "spec.approval.required", "valid boolean"),
    ("untagged", "delete", "spec.untagged", "'Keep' or 'Delete'"),
    # Times.
    ("schedule", "0 3 * *", "spec.schedule", "needs five fields"),
    ("schedule", "0 3 * * * *", "spec.schedule", "needs five fields"),
    ("schedule", "61 3 * * *", "spec.schedule", "write for example '0 3 * * *'"),
    ("schedule", "@reboot", "spec.schedule", "a macro such as '@daily'"),
    ("timeZone", "Europe/Berlin", "spec.timeZone", "has no meaning without schedule; add one or remove it"),
    ("garbageCollection", {"mode": "Run", "workloadRef": _WORKLOAD}, "spec.garbageCollection.schedule", "is needed"),
    ("garbageCollection", {"mode": "Run", "schedule": "@daily"}, "spec.garbageCollection.workloadRef", "is needed"),
    ("garbageCollection", {"mode": "Now"}, "spec.garbageCollection.mode", "'None', 'Report' or 'Run'"),
    ("garbageCollection", _COLLECTION | {"schedule": "x"}, "spec.garbageCollection.schedule", "five fields"),
    ("garbageCollection", _COLLECTION | {"timeout": "0s"}, "spec.garbageCollection.timeout", "more than 0"),
    ("garbageCollection", {"pruneStorage": True}, "spec.garbageCollection.pruneStorage", "needs workloadRef"),
    ("timeZone", "Mars/Olympus", "spec.timeZone", "write for example 'Europe/Berlin'"),
    ("startingDeadlineSeconds", 60, "spec.startingDeadlineSeconds", "has no meaning without schedule"),
    ("startingDeadlineSeconds", 9, "spec.startingDeadlineSeconds", "greater than or equal to 10"),
    ("startingDeadlineSeconds", 31_536_001, "spec.startingDeadlineSeconds", "less than or equal to 31536000"),
    ("timeout", "0s", "spec.timeout", "must be more than 0"),
    ("timeout", "4 hours", "spec.timeout", "is not a duration"),
    ("historyLimit", 11, "spec.historyLimit", "less than or equal to 10"),
    ("historyLimit", -1, "spec.historyLimit", "greater than or equal to 0"),
    # The registry.
    ("registry.type", "Harbor", "spec.registry.type", "'Auto', 'Distribution' or 'OpenShift'"),
    ("registry.url", "", "spec.registry.url", "write for example 'https://registry.example.com:5000'"),
    ("registry.url", "registry.example.com", "spec.registry.url", "is not a URL; write for example"),
    ("registry.url", "ftp://registry.example.com", "spec.registry.url", "is not a URL"),
    ("registry.url", "https://user:secret@registry.example.com", "spec.registry.url", "is not a URL"),
    ("registry.url", "https://registry.example.com:99999", "spec.registry.url", "is not a URL"),
    ("registry.url", "https://registry.example.com:0", "spec.registry.url", "is not a URL"),
    ("registry.url", "https://registry.example.com/", "spec.registry.url", "write 'https://host[:port]'"),
    ("registry.url", "https://registry.example.com/v2", "spec.registry.url", "without path"),
    ("registry.url", "https://registry.example.com?x=1", "spec.registry.url", "scheme, host and port only"),
    ("registry.url", "https://registry.example.com\n", "spec.registry.url", "scheme, host and port only"),
    ("registry.url", "https://169.254.169.254", "spec.registry.url", "is a link-local address"),
    ("registry.url", "https://[fe80::1]:5000", "spec.registry.url", "is a link-local address"),
    ("registry.url", "https://2852039166", "spec.registry.url", "is a link-local address"),
    ("registry.url", "http://registry.example.com", "spec.registry.url", "needs insecure: true; better write https"),
    ("registry.tokenURL", "/token", "spec.registry.tokenURL", "is not a URL; write for example"),
    ("registry.tokenURL", "https://u:p@host/token", "spec.registry.tokenURL", "is not a URL"),
    ("registry.tokenURL", "http://host/token", "spec.registry.tokenURL", "needs insecure: true"),
    ("registry.tokenURL", " HTTP://host/token", "spec.registry.tokenURL", "needs insecure: true"),
    ("registry.tokenURL", "https://169.254.169.254/token", "spec.registry.tokenURL", "is a link-local address"),
    (
        "registry",
        {"url": "https://host", "serviceAccountName": "a", "secretRef": {"name": "b"}},
        "spec.registry.serviceAccountName",
        "excludes secretRef; keep one of them",
    ),
    (
        "registry",
        {"url": "http://host", "insecure": True, "serviceAccountName": "a"},
        "spec.registry.url",
        "over which a ServiceAccount's token is never sent",
    ),
    (
        "registry",
        {"url": "https://host", "tokenURL": "http://host/t", "insecure": True, "serviceAccountName": "a"},
        "spec.registry.tokenURL",
        "over which a ServiceAccount's token is never sent",
    ),
]


@pytest.mark.parametrize(("where", "value", "path", "words"), _WRONG)
def test_what_is_wrong_is_told_with_its_path_and_what_to_write(
    where: str, value: object, path: str, words: str
) -> None:
    ((told, message),) = _errors(_changed(minimal_spec(), where, value))
    assert told == path
    assert words in message


@pytest.mark.parametrize(("where", "value", "path", "words"), _WRONG)
def test_what_the_operator_refuses_is_refused_without_an_api_server_too(
    where: str, value: object, path: str, words: str
) -> None:
    told = [place for place, _ in refusals({**resource(_changed(minimal_spec(), where, value)), "kind": KIND})]
    parent = path.rpartition(".")[0]
    assert any(place.startswith(parent) for place in told), words


def test_all_errors_are_told_at_once() -> None:
    spec = {
        "registry": {"url": "nowhere", "port": 5000},
        "repositories": {"include": ["A"]},
        "rules": [
            {"name": "a", "tags": {"include": ["("]}, "olderThan": "1x"},
            {"name": "b", "tags": _TAGS},
        ],
        "keepTags": ["["],
        "schedule": "never",
        "timeZone": "Nowhere",
        "dryRun": "no",
    }
    with pytest.raises(InvalidSpecError) as caught:
        parse_policy(resource(spec))
    assert {path for path, _ in caught.value.errors} == {
        "spec.registry.url",
        "spec.registry.port",
        "spec.repositories.include[0]",
        "spec.rules[0].tags.include[0]",
        "spec.rules[0].olderThan",
        "spec.rules[1]",
        "spec.keepTags[0]",
        "spec.schedule",
        "spec.timeZone",
        "spec.dryRun",
    }
    assert str(caught.value) == "; ".join(f"{path}: {message}" for path, message in caught.value.errors)


def test_two_rules_of_one_name_are_told_beside_other_errors() -> None:
    rules = [{"name": "a", "tags": _TAGS, "olderThan": "1d"}] * 2
    spec = _changed(_changed(minimal_spec(rules), "keepTags", ["["]), "timeZone", "Europe/Berlin")
    assert {path for path, _ in _errors(spec)} == {"spec.rules[1].name", "spec.keepTags[0]", "spec.timeZone"}


@pytest.mark.parametrize("spec", [{}, None])
def test_a_resource_without_spec_is_told_what_it_lacks(spec: dict[str, Any] | None) -> None:
    body = resource() | {"spec": spec}
    with pytest.raises(InvalidSpecError) as caught:
        parse_policy(body)
    assert [path for path, _ in caught.value.errors] == ["spec.registry", "spec.repositories", "spec.rules"]


def test_an_error_never_repeats_the_password_in_a_url() -> None:
    for field in ("url", "tokenURL"):
        spec = _changed(minimal_spec(), f"registry.{field}", "https://user:hunter2@host/")
        assert "hunter2" not in str(_errors(spec))


# What is right


@pytest.mark.parametrize(
    ("text", "duration"),
    [
        ("30d", timedelta(days=30)),
        ("12h", timedelta(hours=12)),
        ("90m", timedelta(minutes=90)),
        ("1s", timedelta(seconds=1)),
        ("1d12h", timedelta(days=1, hours=12)),
        ("1d2h3m4s", timedelta(days=1, hours=2, minutes=3, seconds=4)),
        ("36500d", timedelta(days=36500)),
        ("030d", timedelta(days=30)),
        # 30 and 36500 days; the schema allows them.
        ("2592000s", timedelta(days=30)),
        ("3153600000s", timedelta(days=36500)),
    ],
)
def test_a_duration_is_days_hours_minutes_and_seconds(text: str, duration: timedelta) -> None:
    assert parse_duration(text) == duration


def test_a_period_may_be_none_at_all() -> None:
    assert parse_period("0s") == parse_period("0d0h") == timedelta(0)
    assert parse_period("1d12h") == timedelta(days=1, hours=12)


def test_the_least_spec_has_the_defaults_that_keep() -> None:
    parsed = parse_policy(resource())
    policy = parsed.policy
    assert (parsed.dry_run, parsed.suspend, parsed.schedule, parsed.request) == (True, False, None, None)
    assert policy.minimum_tags == 1
    assert [pattern.text for pattern in policy.keep_tags] == ["latest"]
    assert policy.rules[0].exclude == ()
    assert (policy.rules[0].repositories, policy.rules[0].most_recent) == (None, None)
    assert (parsed.registry.type, parsed.registry.insecure, parsed.registry.token_url) == ("Auto", False, None)
    assert (policy.tag_date, policy.rules[0].include_managed) == (TagDate.AUTO, False)
    assert (policy.rules[0].order_by, policy.rules[0].extract) == (OrderBy.DATE, None)
    assert (policy.grace_period, policy.limits) == (timedelta(days=1), Limits(1000, 50, OnExceeded.ABORT))
    assert (policy.approval_required, policy.untagged) == (False, Untagged.KEEP)
    assert parsed.approval is None


def test_on_openshift_a_policy_with_a_service_account_need_not_say_where_the_registry_is() -> None:
    registry = {"type": "OpenShift", "serviceAccountName": "pruner"}
    parsed = parse_policy(resource(minimal_spec() | {"registry": registry}))
    assert (parsed.registry.url, parsed.policy.registry) == (None, "")


def test_a_full_spec_becomes_the_values_that_the_planner_works_with() -> None:
    spec = {
        "registry": {
            "url": "https://registry.example.com:5000",
            "type": "Distribution",
            "insecure": True,
            "secretRef": {"name": "login"},
            "caConfigMapRef": {"name": "ca"},
            "tokenURL": "https://tokens.example.com/auth?x=1",
        },
        "repositories": {"include": ["team/**", "base"], "exclude": ["team/secret"]},
        "rules": [
            {
                "name": "prs",
                "repositories": {"include": ["team/*"], "exclude": ["team/base"]},
                "tags": {"include": ["pr-.*", "mr-.*"], "exclude": ["pr-1"]},
                "olderThan": "1d12h",
                "keep": {"mostRecent": 3},
                "includeManaged": True,
            },
            {
                "name": "rest",
                "tags": {"include": ["v(?P<version>.*)"]},
                "keep": {"mostRecent": 5},
                "orderBy": "SemVer",
                "extract": "version",
            },
        ],
        "untagged": "Delete",
        "gracePeriod": "0s",
        "limits": {
            "maxDeletions": 7,
            "maxPercentPerRepository": 30,
            "onExceeded": "Truncate",
            "requestsPerSecond": 20,
            "maxConcurrency": 4,
        },
        "approval": {"required": True},
        "tagDate": "Created",
        "keepTags": ["v[0-9]+"],
        "pruneLatest": False,
        "minTagsPerRepository": 2,
        "dryRun": False,
        "schedule": "0 3 * * *",
        "timeZone": "Europe/Berlin",
        "suspend": True,
        "startingDeadlineSeconds": 600,
        "timeout": "1h30m",
        "historyLimit": 3,
    }
    parsed = parse_policy(resource(spec, annotations={REQUEST_ANNOTATION: "now", "other": "x"}, generation=7))
    assert (parsed.namespace, parsed.name, parsed.uid, parsed.generation) == ("team", "builds", "a-uid", 7)
    assert (parsed.request, parsed.dry_run, parsed.suspend) == ("now", False, True)
    assert (parsed.starting_deadline, parsed.timeout) == (timedelta(minutes=10), timedelta(minutes=90))
    assert parsed.history_limit == 3
    assert parsed.registry.secret_ref is not None
    assert parsed.registry.secret_ref.name == "login"
    assert parsed.registry.ca_config_map_ref == ConfigMapReference(name="ca", key="ca.crt")
    assert parsed.registry.token_url == "https://tokens.example.com/auth?x=1"
    assert parsed.schedule is not None
    after = parsed.schedule.after(datetime(2026, 6, 15, 12, tzinfo=UTC))
    assert after == datetime(2026, 6, 16, 1, tzinfo=UTC)
    assert parsed.created == datetime(2026, 6, 1, 9, 30, tzinfo=UTC)
    assert parsed.policy.tag_date is TagDate.CREATED
    assert [rule.order_by for rule in parsed.policy.rules] == [OrderBy.DATE, OrderBy.SEM_VER]
    assert [rule.extract for rule in parsed.policy.rules] == [None, "version"]
    assert parsed.policy.limits == Limits(7, 30, OnExceeded.TRUNCATE, 20, 4)
    assert (parsed.policy.grace_period, parsed.policy.approval_required) == (timedelta(0), True)
    assert parsed.policy.untagged is Untagged.DELETE
    assert [rule.include_managed for rule in parsed.policy.rules] == [True, False]
    assert _texts(parsed.policy) == {
        "uid": "a-uid",
        "registry": "registry.example.com:5000",
        "include": ["team/**", "base"],
        "exclude": ["team/secret"],
        "keep": ["v[0-9]+", "latest"],
        "minimum": 2,
        "rules": [
            ("prs", ["pr-.*", "mr-.*"], ["pr-1"], ["team/*"], ["team/base"], timedelta(days=1, hours=12), 3),
            ("rest", ["v(?P<version>.*)"], [], [], [], None, 5),
        ],
    }


def _texts(policy: Policy) -> dict[str, object]:
    return {
        "uid": policy.uid,
        "registry": policy.registry,
        "include": [glob.text for glob in policy.repositories.include],
        "exclude": [glob.text for glob in policy.repositories.exclude],
        "keep": [pattern.text for pattern in policy.keep_tags],
        "minimum": policy.minimum_tags,
        "rules": [_parts(rule) for rule in policy.rules],
    }


def _parts(rule: Rule) -> tuple[object, ...]:
    chosen = rule.repositories
    return (
        rule.name,
        [pattern.text for pattern in rule.include],
        [pattern.text for pattern in rule.exclude],
        [glob.text for glob in chosen.include] if chosen is not None else [],
        [glob.text for glob in chosen.exclude] if chosen is not None else [],
        rule.older_than,
        rule.most_recent,
    )


def test_latest_may_go_only_where_the_policy_says_so() -> None:
    spec = minimal_spec() | {"pruneLatest": True, "keepTags": ["v1"]}
    assert [pattern.text for pattern in parse_policy(resource(spec)).policy.keep_tags] == ["v1"]


@pytest.mark.parametrize(
    ("url", "registry"),
    [
        ("https://registry.example.com", "registry.example.com:443"),
        ("https://registry.example.com:443", "registry.example.com:443"),
        ("https://[2001:db8::1]:5000", "[2001:db8::1]:5000"),
    ],
)
def test_a_registry_is_named_with_its_port(url: str, registry: str) -> None:
    spec = _changed(minimal_spec(), "registry.url", url)
    assert parse_policy(resource(spec)).policy.registry == registry


def test_plain_http_is_accepted_where_insecure_says_so() -> None:
    registry = {"url": "http://registry.example.com:5000", "tokenURL": "http://host/token", "insecure": True}
    assert parse_policy(resource(minimal_spec() | {"registry": registry})).registry.insecure


@pytest.mark.parametrize(
    ("annotations", "request_"),
    [
        (None, None),
        ({}, None),
        ({"other": "x"}, None),
        ({REQUEST_ANNOTATION: ""}, ""),
        ({REQUEST_ANNOTATION: "x" * 5000}, "x" * 256),
    ],
)
def test_a_request_is_the_value_of_its_annotation_as_far_as_status_can_repeat_it(
    annotations: dict[str, str] | None, request_: str | None
) -> None:
    assert parse_policy(resource(annotations=annotations)).request == request_


@pytest.mark.parametrize(
    ("value", "approval"),
    [(None, None), ("", None), ("  ", None), (f" {'a' * 64}\n", "a" * 64), ("a" * 5000, "a" * 128)],
)
def test_an_approval_is_the_trimmed_value_of_its_annotation_and_never_cut_to_a_hash(
    value: str | None, approval: str | None
) -> None:
    annotations = None if value is None else {APPROVE_ANNOTATION: value}
    assert parse_policy(resource(annotations=annotations)).approval == approval


@pytest.mark.parametrize("order_by", ["SemVer", "Numerical", "Alphabetical"])
def test_a_rule_may_extract_its_version_in_every_other_order(order_by: str) -> None:
    rule = {"name": "x", "tags": {"include": ["v(?P<n>[0-9]+)"]}, "keep": {"mostRecent": 1}}
    (parsed,) = parse_policy(resource(minimal_spec([{**rule, "orderBy": order_by, "extract": "n"}]))).policy.rules
    assert parsed.version_text("v12") == "12"


def test_what_counts_as_in_use_becomes_rules() -> None:
    expressions = [
        {"key": "env", "operator": "In", "values": ["prod", "test"]},
        {"key": "tier", "operator": "NotIn", "values": ["x"]},
        {"key": "example.com/a", "operator": "Exists"},
        {"key": "b", "operator": "DoesNotExist"},
    ]
    spec = {
        "namespaceSelector": {"matchLabels": {"team": "a", "app.io/b": ""}, "matchExpressions": expressions},
        "includeHistory": False,
        "extraReferencesFrom": [{"apiVersion": "x.io/v1", "kind": "Thing", "jsonPath": ".a"}],
        "referencesConfigMapRef": {"name": "listed"},
        "aliases": ["hub"],
    }
    rules = parse_policy(resource({**minimal_spec(), "inUse": spec})).policy.in_use
    assert rules == InUseRules(
        namespace_labels="app.io/b=,team=a,env in (prod,test),tier notin (x),example.com/a,!b",
        include_history=False,
        extra_references=(ExtraReferences("x.io/v1", "Thing", ".a"),),
        references_config_map="listed",
        aliases=("hub",),
    )
    assert parse_policy(resource(minimal_spec())).policy.in_use == InUseRules()


def test_what_is_wanted_of_garbage_collection_becomes_its_rules() -> None:
    spec = minimal_spec() | {
        "garbageCollection": _COLLECTION | {"strategy": "Offline", "volume": "data", "timeout": "90m"},
        "timeZone": "Europe/Berlin",
    }
    body = resource(spec)
    body["metadata"]["annotations"] = {COLLECT_ANNOTATION: "now"}
    rules = parse_policy(body).collection
    assert (rules.mode, rules.strategy, rules.volume) == (CollectionMode.RUN, Strategy.OFFLINE, "data")
    assert rules.workload == WorkloadName("Deployment", "registry")
    assert (rules.timeout, rules.request) == (timedelta(minutes=90), "now")
    assert rules.prunes_storage is False
    spec["garbageCollection"] = _COLLECTION | {"pruneStorage": True}
    assert parse_policy(resource(spec)).collection.prunes_storage is True
    assert rules.schedule is not None
    assert rules.schedule.after(datetime(2026, 6, 14, tzinfo=UTC)) == datetime(2026, 6, 14, 2, tzinfo=UTC)


def test_nothing_is_collected_unless_a_policy_says_so() -> None:
    assert parse_policy(resource(minimal_spec())).collection == NO_COLLECTION


def test_openshift_names_no_workload_whose_garbage_is_collected() -> None:
    registry = {"type": "OpenShift", "serviceAccountName": "pruner"}
    spec = minimal_spec() | {"registry": registry, "garbageCollection": _COLLECTION}
    assert [path for path, _ in _errors(spec)] == ["spec.garbageCollection.workloadRef"]
    spec["garbageCollection"] = {"mode": "Run", "schedule": "@weekly"}
    # There the cluster's own image pruner collects.
    assert parse_policy(resource(spec)).collection.workload == IMAGE_PRUNER


# Undo


def _undoing(**spec: Any) -> ParsedPolicy:  # noqa: ANN401 - values of any field
    return parse_policy(resource({**minimal_spec(), **spec}))


def test_the_repository_of_the_copies_is_never_selected() -> None:
    everything = {"repositories": {"include": ["**"]}}
    assert _undoing(**everything).policy.repositories.selects("ops/undo")
    copying = _undoing(**everything, undo={"window": "1d", "repository": "ops/undo"})
    assert not copying.policy.repositories.selects("ops/undo")
    assert copying.policy.repositories.selects("ops/undo2")


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ({"suspend": True}, True),
        ({"schedule": "@daily"}, True),
        ({"dryRun": False}, True),
        ({"limits": {"maxDeletions": 7}}, True),
        ({"keepTags": []}, True),
        ({"keepTags": ["v.*"]}, False),
        ({"untagged": "Delete"}, False),
        ({"undo": {"window": "2d"}}, False),
    ],
    ids=str,
)
def test_a_policy_wants_the_same_until_what_decides_on_tags_is_changed(change: dict[str, Any], *, same: bool) -> None:
    assert (_undoing(**change).intent == _undoing().intent) == same


def test_a_bound_of_the_interval_holds_for_collections_of_garbage_too() -> None:
    bounds = Bounds(smallest_interval=timedelta(hours=1))
    spec = minimal_spec() | {"garbageCollection": _COLLECTION | {"schedule": "* * * * *"}}
    with pytest.raises(NotAllowedError, match=r"spec\.garbageCollection\.schedule"):
        parse_policy(resource(spec), bounds)
    spec["garbageCollection"]["mode"] = "None"
    parse_policy(resource(spec), bounds)
