"""The CRD on a real API server: what it refuses and says, what it fills in, and how it reads."""

import copy
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.controlplane import ControlPlane, control_plane
from tests.support.processes import wait_until

_CRDS = Path(__file__).parents[2] / "crds"
_CRD = _CRDS / "registrycleanuppolicies.yaml"
_SAMPLES = sorted((_CRDS / "samples").glob("*.yaml"))
_ABSENT = object()
_LONGEST_LIST = 100

_BASE: Mapping[str, Any] = {
    "apiVersion": "registrycleanup.dev/v1alpha1",
    "kind": "RegistryCleanupPolicy",
    "metadata": {"name": "sample"},
    "spec": {
        "registry": {"url": "https://registry.example.com"},
        "repositories": {"include": ["team/**"]},
        "rules": [{"name": "builds", "tags": {"include": ["build-[0-9]+"]}, "olderThan": "30d"}],
    },
}
_EXTRA = {"apiVersion": "x.io/v1", "kind": "Thing", "jsonPath": ".spec.image"}
_RULE = _BASE["spec"]["rules"][0]

# What is set where, the field that the answer must name, and words that must stand in it.
_REFUSED: list[tuple[str, object, str, str]] = [
    ("spec", _ABSENT, "spec", "Required value"),
    # registry
    ("spec.registry", _ABSENT, "spec.registry", "Required value"),
    ("spec.registry.url", _ABSENT, "spec.registry.url", "Required value: write https://host[:port]"),
    ("spec.registry", {"type": "OpenShift"}, "spec.registry.url", "only with type: OpenShift and a serviceAccountName"),
    ("spec.registry", {"serviceAccountName": "pruner"}, "spec.registry.url", "only with type: OpenShift"),
    (
        "spec.registry",
        {"type": "Distribution", "serviceAccountName": "pruner"},
        "spec.registry.url",
        "only with type: OpenShift and a serviceAccountName",
    ),
    (
        "spec.registry",
        {"type": "OpenShift", "secretRef": {"name": "login"}},
        "spec.registry.url",
        "only with type: OpenShift and a serviceAccountName",
    ),
    (
        "spec.registry",
        {"type": "OpenShift", "serviceAccountName": "pruner", "tokenURL": "http://r.example.com", "insecure": True},
        "spec.registry.serviceAccountName",
        "never sent over http",
    ),
    ("spec.registry.url", "registry.example.com", "spec.registry.url", "https://host"),
    ("spec.registry.url", "ftp://registry.example.com", "spec.registry.url", "https://host"),
    ("spec.registry.url", "http://registry.example.com", "spec.registry.url", "only with insecure: true"),
    ("spec.registry.url", "https://registry.example.com/", "spec.registry.url", "trailing slash"),
    ("spec.registry.url", "https://registry.example.com/v2", "spec.registry.url", "without user, path"),
    ("spec.registry.url", "https://me@registry.example.com", "spec.registry.url", "without user, path"),
    ("spec.registry.url", "https://registry.example.com?x=1", "spec.registry.url", "query"),
    ("spec.registry.url", "https://registry.example.com#x", "spec.registry.url", "fragment"),
    ("spec.registry.url", "https://registry.example.com:0", "spec.registry.url", "https://host:port"),
    ("spec.registry.url", "https://registry.example.com:65536", "spec.registry.url", "https://host:port"),
    ("spec.registry.url", "https://Registry.example.com", "spec.registry.url", "lower case"),
    ("spec.registry.url", "https://registry.example.com\n", "spec.registry.url", "https://host"),
    ("spec.registry.url", "https://" + "a" * 300, "spec.registry.url", "more than 300"),
    ("spec.registry.type", "Harbor", "spec.registry.type", "supported values"),
    ("spec.registry.insecure", "yes", "spec.registry.insecure", "must be of type boolean"),
    ("spec.registry.serviceAccountName", "", "spec.registry.serviceAccountName", "at least 1"),
    (
        "spec.registry.serviceAccountName",
        "Pruner",
        "spec.registry.serviceAccountName",
        "name of a ServiceAccount",
    ),
    (
        "spec.registry",
        {"url": "https://r.example.com", "serviceAccountName": "pruner", "secretRef": {"name": "login"}},
        "spec.registry.serviceAccountName",
        "serviceAccountName and secretRef exclude each other",
    ),
    (
        "spec.registry",
        {"url": "http://r.example.com", "insecure": True, "serviceAccountName": "pruner"},
        "spec.registry.serviceAccountName",
        "never sent over http",
    ),
    (
        "spec.registry",
        {
            "url": "https://r.example.com",
            "tokenURL": "http://r.example.com/token",
            "insecure": True,
            "serviceAccountName": "pruner",
        },
        "spec.registry.serviceAccountName",
        "never sent over http",
    ),
    ("spec.registry.secretRef", {}, "spec.registry.secretRef.name", "Required value"),
    ("spec.registry.secretRef", {"name": "a/b"}, "spec.registry.secretRef.name", "name of a Secret"),
    ("spec.registry.caConfigMapRef", {}, "spec.registry.caConfigMapRef.name", "Required value"),
    (
        "spec.registry.caConfigMapRef",
        {"name": "A"},
        "spec.registry.caConfigMapRef.name",
        "name of a ConfigMap",
    ),
    (
        "spec.registry.caConfigMapRef",
        {"name": "ca", "key": "ca crt"},
        "spec.registry.caConfigMapRef.key",
        "key of a ConfigMap",
    ),
    ("spec.registry.tokenURL", "token.example.com", "spec.registry.tokenURL", "https://host[:port]"),
    (
        "spec.registry.tokenURL",
        "http://r.example.com/token",
        "spec.registry.tokenURL",
        "only with insecure: true",
    ),
    ("spec.registry.tokenURL", "https://me:pw@r.example.com", "spec.registry.tokenURL", "without user"),
    ("spec.registry.tokenURL", "https://r.example.com/token#x", "spec.registry.tokenURL", "fragment"),
    ("spec.registry.tokenURL", "https://r.example.com/a b", "spec.registry.tokenURL", "space"),
    # repositories
    ("spec.repositories", _ABSENT, "spec.repositories", "Required value"),
    ("spec.repositories.include", _ABSENT, "spec.repositories.include", "Required value"),
    ("spec.repositories.include", [], "spec.repositories.include", "all of them is written **"),
    ("spec.repositories.include", [""], "spec.repositories.include[0]", "at least 1"),
    ("spec.repositories.include", ["Team/app"], "spec.repositories.include[0]", "glob of repositories"),
    ("spec.repositories.include", ["a", "{b,c}"], "spec.repositories.include[1]", "'*', '**' and '?'"),
    ("spec.repositories.include", ["a"] * 65, "spec.repositories.include", "at most 64 items"),
    ("spec.repositories.include", ["a" * 257], "spec.repositories.include[0]", "more than 256"),
    ("spec.repositories.exclude", ["a b"], "spec.repositories.exclude[0]", "glob of repositories"),
    # rules
    ("spec.rules", _ABSENT, "spec.rules", "Required value"),
    ("spec.rules", [], "spec.rules", "at least 1 items"),
    ("spec.rules", [_RULE | {"name": f"r{n}"} for n in range(33)], "spec.rules", "at most 32 items"),
    ("spec.rules", [_RULE, _RULE], "spec.rules", "two rules have the same name"),
    ("spec.rules.0.name", _ABSENT, "spec.rules[0].name", "Required value"),
    ("spec.rules.0.name", "Builds", "spec.rules[0].name", "lower case letters, digits and '-'"),
    ("spec.rules.0.name", "-builds", "spec.rules[0].name", "begin and end with"),
    ("spec.rules.0.name", "b" * 64, "spec.rules[0].name", "more than 63"),
    ("spec.rules.0.repositories", {}, "spec.rules[0].repositories.include", "Required value"),
    ("spec.rules.0.repositories", {"include": []}, "spec.rules[0].repositories.include", "written **"),
    ("spec.rules.0.repositories", {"include": ["!"]}, "spec.rules[0].repositories.include[0]", "glob of"),
    ("spec.rules.0.tags", _ABSENT, "spec.rules[0].tags", "Required value"),
    ("spec.rules.0.tags.include", _ABSENT, "spec.rules[0].tags.include", "Required value"),
    ("spec.rules.0.tags.include", [], "spec.rules[0].tags.include", "all tags is written .*"),
    ("spec.rules.0.tags.include", [""], "spec.rules[0].tags.include[0]", "at least 1"),
    ("spec.rules.0.tags.include", ["ok", "pr-("], "spec.rules[0].tags.include[1]", "missing closing )"),
    ("spec.rules.0.tags.include", ["a(?=b)"], "spec.rules[0].tags.include[0]", "RE2 syntax"),
    ("spec.rules.0.tags.include", ["a" * 513], "spec.rules[0].tags.include[0]", "more than 512"),
    ("spec.rules.0.tags.include", ["a"] * 33, "spec.rules[0].tags.include", "at most 32 items"),
    ("spec.rules.0.tags.exclude", ["*"], "spec.rules[0].tags.exclude[0]", "missing argument to repetition"),
    ("spec.rules.0.olderThan", _ABSENT, "spec.rules[0]", "olderThan or keep.mostRecent"),
    ("spec.rules.0.olderThan", "30", "spec.rules[0].olderThan", "such as 30d, 12h or 1d12h"),
    ("spec.rules.0.olderThan", "2w", "spec.rules[0].olderThan", "such as 30d"),
    ("spec.rules.0.olderThan", "12h1d", "spec.rules[0].olderThan", "in this order"),
    ("spec.rules.0.olderThan", "1d1d", "spec.rules[0].olderThan", "in this order"),
    ("spec.rules.0.olderThan", "-1d", "spec.rules[0].olderThan", "must be a duration"),
    ("spec.rules.0.olderThan", "1.5d", "spec.rules[0].olderThan", "must be a duration"),
    ("spec.rules.0.olderThan", "0d0h", "spec.rules[0].olderThan", "more than zero"),
    ("spec.rules.0.olderThan", "36501d", "spec.rules[0].olderThan", "at most 36500d"),
    ("spec.rules.0.olderThan", "36500d1s", "spec.rules[0].olderThan", "at most 36500d"),
    ("spec.rules.0.olderThan", "9999999999999999999d", "spec.rules[0].olderThan", "at most 36500d"),
    ("spec.rules.0.olderThan", "999999999999999999d", "spec.rules[0].olderThan", "at most 36500d"),
    ("spec.rules.0.olderThan", 30, "spec.rules[0].olderThan", "must be of type string"),
    ("spec.rules.0.keep", {}, "spec.rules[0].keep.mostRecent", "keep needs mostRecent"),
    ("spec.rules.0.keep.mostRecent", 0, "spec.rules[0].keep.mostRecent", "greater than or equal to 1"),
    ("spec.rules.0.keep.mostRecent", 100001, "spec.rules[0].keep.mostRecent", "less than or equal to 100000"),
    ("spec.rules.0.orderBy", "Semver", "spec.rules[0].orderBy", "supported values"),
    ("spec.rules.0.extract", "n", "spec.rules[0].extract", "extract needs orderBy: SemVer, Numerical or Alphabetical"),
    (
        "spec.rules.0",
        _RULE | {"orderBy": "Date", "extract": "n", "tags": {"include": ["(?P<n>.*)"]}},
        "spec.rules[0].extract",
        "extract needs orderBy",
    ),
    (
        "spec.rules.0",
        _RULE | {"orderBy": "SemVer", "extract": "n", "tags": {"include": ["(?P<n>.*)", "(?P<no>.*)"]}},
        "spec.rules[0].extract",
        "every tags.include must define the group that extract names",
    ),
    (
        "spec.rules.0",
        _RULE | {"orderBy": "SemVer", "extract": "1n", "tags": {"include": ["(?P<n>.*)"]}},
        "spec.rules[0].extract",
        "must be the name of a group",
    ),
    (
        "spec.rules.0",
        _RULE | {"orderBy": "SemVer", "extract": "n" * 64, "tags": {"include": ["(?P<n>.*)"]}},
        "spec.rules[0].extract",
        "more than 63",
    ),
    # the guards
    ("spec.gracePeriod", "1w", "spec.gracePeriod", "such as 30d, 12h or 1d12h"),
    ("spec.gracePeriod", "0", "spec.gracePeriod", "at least 2"),
    ("spec.gracePeriod", 0, "spec.gracePeriod", "must be of type string"),
    ("spec.gracePeriod", "36500d1s", "spec.gracePeriod", "at most 36500d"),
    ("spec.limits.maxDeletions", 0, "spec.limits.maxDeletions", "greater than or equal to 1"),
    ("spec.limits.maxDeletions", 1_000_001, "spec.limits.maxDeletions", "less than or equal to 1000000"),
    ("spec.limits.maxPercentPerRepository", 0, "spec.limits.maxPercentPerRepository", "greater than or equal to 1"),
    ("spec.limits.maxPercentPerRepository", 101, "spec.limits.maxPercentPerRepository", "less than or equal to 100"),
    ("spec.limits.onExceeded", "Ignore", "spec.limits.onExceeded", "supported values"),
    ("spec.limits.maxDeletion", 5, "spec.limits.maxDeletion", "unknown field"),
    # inUse
    ("spec.inUse", {"enable": False}, "spec.inUse.enable", "unknown field"),
    ("spec.inUse", {"namespaceSelector": {}}, "spec.inUse.namespaceSelector", "for all namespaces remove"),
    (
        "spec.inUse",
        {"namespaceSelector": {"matchExpressions": [{"key": "a", "operator": "Exists", "values": ["b"]}]}},
        "spec.inUse.namespaceSelector.matchExpressions[0]",
        "not allowed for Exists",
    ),
    *(
        ("spec.inUse", {"extraReferencesFrom": [_EXTRA | change]}, f"spec.inUse.extraReferencesFrom[0].{field}", words)
        for change, field, words in (
            ({"apiVersion": "x.io"}, "apiVersion", "must be an apiVersion"),
            ({"kind": "things"}, "kind", "must be a kind"),
            ({"jsonPath": "spec.image"}, "jsonPath", "must be a path of fields after a dot"),
            ({"jsonPath": ".spec[?(@.x)]"}, "jsonPath", "must be a path of fields after a dot"),
            ({"jsonPath": ".spec['x"}, "jsonPath", "must be a path of fields after a dot"),
        )
    ),
    ("spec.inUse", {"referencesConfigMapRef": {"name": "Up"}}, "spec.inUse.referencesConfigMapRef.name", "lower case"),
    ("spec.inUse", {"aliases": ["/hub"]}, "spec.inUse.aliases[0]", "must be a path prefix"),
    ("spec.approval.required", "yes", "spec.approval.required", "must be of type boolean"),
    ("spec.approval", True, "spec.approval", "must be of type object"),
    ("spec.untagged", "delete", "spec.untagged", "supported values"),
    # the rest
    ("spec.keepTags", ["v1", "["], "spec.keepTags[1]", "missing closing ]"),
    ("spec.keepTags", [""], "spec.keepTags[0]", "at least 1"),
    ("spec.keepTags", ["a"] * 65, "spec.keepTags", "at most 64 items"),
    ("spec.tagDate", "Pushed", "spec.tagDate", "supported values"),
    ("spec.rules.0.includeManaged", "yes", "spec.rules[0].includeManaged", "must be of type boolean"),
    ("spec.limits", {"requestsPerSecond": 0}, "spec.limits.requestsPerSecond", "greater than or equal to 1"),
    ("spec.limits", {"requestsPerSecond": 1001}, "spec.limits.requestsPerSecond", "less than or equal to 1000"),
    ("spec.limits", {"requestsPerSecond": 0.5}, "spec.limits.requestsPerSecond", "must be of type integer"),
    ("spec.limits", {"maxConcurrency": 0}, "spec.limits.maxConcurrency", "greater than or equal to 1"),
    ("spec.limits", {"maxConcurrency": 257}, "spec.limits.maxConcurrency", "less than or equal to 256"),
    ("spec.minTagsPerRepository", -1, "spec.minTagsPerRepository", "greater than or equal to 0"),
    ("spec.minTagsPerRepository", 100001, "spec.minTagsPerRepository", "less than or equal to 100000"),
    ("spec.dryRun", "false", "spec.dryRun", "must be of type boolean"),
    ("spec.schedule", "", "spec.schedule", "at least 1"),
    ("spec.schedule", "0 3 * *", "spec.schedule", "five fields"),
    ("spec.schedule", "0 3 * * * *", "spec.schedule", "five fields"),
    ("spec.schedule", "@reboot", "spec.schedule", "@daily"),
    ("spec.schedule", "every night", "spec.schedule", "such as 0 3 * * *"),
    ("spec.schedule", "TZ=UTC 0 3 * * *", "spec.schedule", "a time zone goes to timeZone"),
    ("spec.timeZone", "Europe/Berlin", "spec.timeZone", "no effect without schedule"),
    ("spec.timeZone", "../etc/passwd", "spec.timeZone", "IANA name"),
    ("spec.timeZone", "Local", "spec.timeZone", "IANA name"),
    ("spec.startingDeadlineSeconds", 60, "spec.startingDeadlineSeconds", "no effect without schedule"),
    ("spec.startingDeadlineSeconds", 9, "spec.startingDeadlineSeconds", "greater than or equal to 10"),
    ("spec.startingDeadlineSeconds", 31_536_001, "spec.startingDeadlineSeconds", "less than or equal to 31536000"),
    ("spec.startingDeadlineSeconds", "60s", "spec.startingDeadlineSeconds", "must be of type integer"),
    ("spec.timeout", "4", "spec.timeout", "at least 2"),
    ("spec.timeout", "4 hours", "spec.timeout", "must be a duration"),
    ("spec.timeout", "0h", "spec.timeout", "more than zero"),
    ("spec.timeout", "36501d", "spec.timeout", "at most 36500d"),
    ("spec.historyLimit", -1, "spec.historyLimit", "greater than or equal to 0"),
    ("spec.historyLimit", 11, "spec.historyLimit", "less than or equal to 10"),
    # A mistyped key.
    ("spec.dryrun", True, "spec.dryrun", "unknown field"),
    ("spec.rules.0.tags.excludes", ["v.*"], "spec.rules[0].tags.excludes", "unknown field"),
]

_ACCEPTED: list[tuple[str, object]] = [
    ("spec.registry.url", "https://registry.example.com:5000"),
    ("spec.registry.url", "https://localhost"),
    ("spec.registry", {"type": "OpenShift", "serviceAccountName": "pruner"}),
    ("spec.tagDate", "Created"),
    ("spec.rules.0.includeManaged", True),
    ("spec.registry.url", "https://10.0.0.1:65535"),
    ("spec.registry.url", "https://[2001:db8::1]:443"),
    ("spec.registry", {"url": "http://127.0.0.1:5000", "insecure": True}),
    ("spec.registry", {"url": "https://r", "insecure": True, "tokenURL": "http://r:8600/token?service=x"}),
    ("spec.registry.tokenURL", "https://icp.example.com:8600/image-manager/api/v1/auth/token"),
    ("spec.registry.caConfigMapRef", {"name": "openshift-service-ca.crt", "key": "service-ca.crt"}),
    ("spec.repositories.include", ["a/b_c.d-e/**/f?", *(["x" * 256] * 63)]),
    ("spec.rules", [_RULE | {"name": f"r{n}"} for n in range(32)]),
    ("spec.rules.0", {"name": "a", "tags": {"include": [".*"]}, "keep": {"mostRecent": 100000}}),
    ("spec.rules.0.tags.include", [r"v(?P<major>\d+)\.[[:alnum:]]+", "(?i)pr-.*", *(["a" * 512] * 30)]),
    ("spec.rules.0.olderThan", "36500d"),
    ("spec.rules.0.olderThan", "1d12h30m15s"),
    ("spec.rules.0.olderThan", "007d"),
    *[
        (
            "spec.rules.0",
            {
                "name": "versions",
                "tags": {"include": ["v(?P<number>.*)", "(?P<number>[0-9]+)-(?P<rest>.*)"]},
                "keep": {"mostRecent": 3},
                "orderBy": order_by,
                "extract": "number",
            },
        )
        for order_by in ("SemVer", "Numerical", "Alphabetical")
    ],
    ("spec.rules.0.orderBy", "SemVer"),
    ("spec.gracePeriod", "0s"),
    ("spec.gracePeriod", "36500d"),
    ("spec.inUse", {"enabled": False}),
    (
        "spec.inUse",
        {
            "namespaceSelector": {
                "matchLabels": {"team": "a"},
                "matchExpressions": [{"key": "env", "operator": "NotIn", "values": ["test"]}],
            },
            "includeHistory": False,
            "referencesConfigMapRef": {"name": "other-cluster"},
            "aliases": ["docker-hub", "mirror/quay"],
        },
    ),
    *(
        ("spec.inUse", {"extraReferencesFrom": [_EXTRA | {"jsonPath": path}]})
        for path in ("$.spec.image", "{.spec.image}", ".spec['odd.key/x'][0].a[*].*", '.spec["a"]', ".by-name[*].image")
    ),
    ("spec.limits", {"requestsPerSecond": 1000, "maxConcurrency": 256}),
    ("spec.limits", {"maxDeletions": 1_000_000, "maxPercentPerRepository": 100, "onExceeded": "Truncate"}),
    ("spec.approval", {"required": True}),
    ("spec.untagged", "Delete"),
    ("spec.minTagsPerRepository", 0),
    ("spec.schedule", "*/15  0-6,22 1,15 JAN-mar MON-FRI"),
    ("spec.schedule", "@hourly"),
]


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """Run a control plane of its own: on the shared one the operator of other tests would write status, too."""
    with control_plane(tmp_path_factory.mktemp("crd")) as plane:
        plane.kubectl("apply", "-f", str(_CRD))
        plane.wait_for_crds("registrycleanuppolicies.registrycleanup.dev")

        def published() -> bool:
            return "FIELDS" in plane.kubectl("explain", "rcp.spec.rules", check=False)

        # Discovery and the published schema follow a moment later.
        wait_until(published, 30, "the published schema")
        yield plane


@pytest.fixture
def created(api: ControlPlane) -> Iterator[ControlPlane]:
    """Yield an API server that has the sample policy."""
    policy = _with("spec.schedule", "0 3 * * *")
    api.kubectl("create", "-f", "-", stdin=json.dumps(policy))
    yield api
    api.kubectl("delete", "rcp", "sample")


@pytest.mark.parametrize(("path", "value", "field", "words"), _REFUSED, ids=lambda part: str(part)[:40])
def test_bad_input_is_refused_with_the_field_and_what_to_write(
    api: ControlPlane, path: str, value: object, field: str, words: str
) -> None:
    answer = _try(api, _with(path, value))
    assert "created" not in answer
    assert f"{field}:" in answer or f'"{field}"' in answer
    assert words in answer


@pytest.mark.parametrize(("path", "value"), _ACCEPTED, ids=lambda part: str(part)[:40])
def test_unusual_but_good_input_is_accepted(api: ControlPlane, path: str, value: object) -> None:
    assert "created (server dry run)" in _try(api, _with(path, value))


@pytest.mark.parametrize("sample", _SAMPLES, ids=lambda sample: sample.stem)
def test_a_sample_is_accepted_without_a_warning(api: ControlPlane, sample: Path) -> None:
    answer = api.kubectl("apply", "--dry-run=server", "--warnings-as-errors", "-f", str(sample))
    assert "created (server dry run)" in answer


def test_the_largest_policy_stays_within_the_cost_limit_of_the_api_server(api: ControlPlane) -> None:
    regexes, globs = ["(a|b)*" * 73 + f"(?P<{'n' * 63}>)"] * 32, ["x" * 256] * 64
    tags = {"include": regexes, "exclude": regexes}
    repositories = {"include": globs, "exclude": globs}
    rule = {"tags": tags, "repositories": repositories, "olderThan": "36500d", "keep": {"mostRecent": 1}}
    rule |= {"orderBy": "Alphabetical", "extract": "n" * 63}
    policy = _with("spec.rules", [{"name": f"{n:063}"} | rule for n in range(32)])
    policy["spec"]["repositories"] = repositories
    policy["spec"]["keepTags"] = ["(a|b)*" * 85] * 64
    assert "created (server dry run)" in _try(api, policy)


def test_what_is_left_out_becomes_the_careful_default(api: ControlPlane) -> None:
    policy = _with("spec.registry.caConfigMapRef", {"name": "registry-ca"})
    answer = json.loads(api.kubectl("create", "--dry-run=server", "-o", "json", "-f", "-", stdin=json.dumps(policy)))
    expected = copy.deepcopy(policy["spec"])
    expected["registry"] |= {"insecure": False, "type": "Auto"}
    expected["registry"]["caConfigMapRef"]["key"] = "ca.crt"
    expected |= {"dryRun": True, "pruneLatest": False, "minTagsPerRepository": 1, "suspend": False}
    expected |= {"timeout": "4h", "historyLimit": 5}
    expected |= {"tagDate": "Auto", "untagged": "Keep", "gracePeriod": "24h", "approval": {"required": False}}
    expected["limits"] = {"maxDeletions": 1000, "maxPercentPerRepository": 50, "onExceeded": "Abort"}
    expected["inUse"] = {"enabled": True, "includeHistory": True}
    expected["rules"][0] |= {"includeManaged": False, "orderBy": "Date"}
    assert answer["spec"] == expected


def test_kubectl_explain_says_what_rules_do(api: ControlPlane) -> None:
    answer = " ".join(api.kubectl("explain", "rcp.spec.rules").split())
    assert "the first rule whose repositories and tags.include match a tag owns it" in answer
    assert "a rule has at least one of the two" in answer
    assert "Number of images" in api.kubectl("explain", "rcp.spec.rules.keep.mostRecent")
    semantics = " ".join(api.kubectl("explain", "rcp").split())
    assert "registrycleanup.dev/run-requested-at" in semantics
    assert (
        "A real run prunes only what a fresh plan and the published one (gracePeriod, approval) both contain"
        in semantics
    )
    assert "a digest that runs or could be rolled back to keeps every tag on it" in semantics


def test_a_description_leaves_the_breaking_of_lines_to_kubectl() -> None:
    broken = [path for path, node in _fields() if "\n" in node.get("description", "").replace("\n\n", "")]
    assert broken == []


def test_kubectl_get_shows_schedule_plan_and_outcome_in_one_line(created: ControlPlane) -> None:
    status = {
        "conditions": [
            {
                "type": "Ready",
                "status": "True",
                "reason": "Planned",
                "message": "",
                "lastTransitionTime": "2026-11-23T03:00:05Z",
            }
        ],
        "lastRun": {"phase": "Succeeded", "counts": {"tagsPruned": 7}},
        "plan": {"deletions": 9},
        "nextScheduleTime": "2126-11-24T03:00:00Z",
    }
    patch = json.dumps({"status": status})
    created.kubectl("patch", "rcp", "sample", "--subresource=status", "--type=merge", "-p", patch)
    heading, row = created.kubectl("get", "rcp", "sample").splitlines()
    columns = ["NAME", "SCHEDULE", "SUSPEND", "DRYRUN", "PHASE", "PLANNED", "PRUNED", "NEXT", "READY", "AGE"]
    assert heading.split() == columns
    cells = row.replace("0 3 * * *", "daily").split()
    assert cells[:-1] == [
        "sample",
        "daily",
        "false",
        "true",
        "Succeeded",
        "9",
        "7",
        "2126-11-24T03:00:00Z",
        "True",
    ]


def test_spec_and_status_are_written_apart(api: ControlPlane) -> None:
    policy = _with("status", {"plan": {"deletions": 9}})
    answer = api.kubectl("create", "--dry-run=server", "-o", "json", "-f", "-", stdin=json.dumps(policy))
    assert json.loads(answer)["status"] == {"observedGeneration": -1}


@pytest.mark.parametrize(
    ("status", "field"),
    [
        ({"lastRun": {"phase": "Done"}}, "status.lastRun.phase"),
        ({"lastRun": {"trigger": "Whim"}}, "status.lastRun.trigger"),
        ({"lastRun": {"reportRef": {"cutRepositories": -1}}}, "status.lastRun.reportRef.cutRepositories"),
        ({"plan": {"reclaimableBytes": -1}}, "status.plan.reclaimableBytes"),
        ({"lastHandledApproval": "a" * 129}, "status.lastHandledApproval"),
        ({"lastRun": {"counts": {"tagsPruned": -1}}}, "status.lastRun.counts.tagsPruned"),
        ({"plan": {"sample": [{}] * 11}}, "status.plan.sample"),
        ({"nextScheduleTime": "tomorrow"}, "status.nextScheduleTime"),
    ],
    ids=str,
)
def test_a_status_outside_the_vocabulary_is_refused(
    created: ControlPlane, status: Mapping[str, object], field: str
) -> None:
    patch = json.dumps({"status": status})
    answer = created.kubectl("patch", "rcp", "sample", "--subresource=status", "--type=merge", "-p", patch, check=False)
    assert f"{field}:" in answer


def test_a_status_may_say_that_a_plan_waits_and_was_resumed(created: ControlPlane) -> None:
    status = {
        "lastHandledApproval": "a" * 64,
        "lastRun": {"phase": "AwaitingApproval", "trigger": "Resume", "reportRef": {"name": "r", "key": "k"}},
        "plan": {"prunableFrom": "2026-11-23T03:00:05Z", "reclaimableBytes": 5_000_000_000_000, "untaggedManifests": 3},
    }
    patch = json.dumps({"status": status})
    created.kubectl("patch", "rcp", "sample", "--subresource=status", "--type=merge", "-p", patch)
    assert json.loads(created.kubectl("get", "rcp", "sample", "-o", "json"))["status"] == status | {
        "observedGeneration": -1
    }


def test_every_field_is_described() -> None:
    missing = [path for path, node in _fields() if path != ".metadata" and not node.get("description", "").strip()]
    assert missing == []


def test_every_string_list_and_map_is_bounded() -> None:
    unbounded = [path for path, node in _fields() if path != ".metadata" and not _is_bounded(node)]
    assert unbounded == []


def test_every_list_says_how_it_is_merged() -> None:
    lists = {path: node.get("x-kubernetes-list-type") for path, node in _fields() if node["type"] == "array"}
    assert lists.pop(".status.conditions") == "map"
    assert set(lists.values()) == {"atomic"}


def test_every_validation_has_a_message_of_its_own() -> None:
    rules = [(path, rule) for path, node in _fields() for rule in node.get("x-kubernetes-validations", [])]
    assert len(rules) > 20
    assert [path for path, rule in rules if not rule.get("message")] == []


def _try(api: ControlPlane, policy: Mapping[str, Any]) -> str:
    return api.kubectl("create", "--dry-run=server", "-f", "-", stdin=json.dumps(policy), check=False)


def _with(path: str, value: object) -> dict[str, Any]:
    """Return the sample policy with one field set, or left out."""
    policy: dict[str, Any] = copy.deepcopy(dict(_BASE))
    node: Any = policy
    *parents, last = (int(step) if step.isdigit() else step for step in path.split("."))
    for step in parents:
        node = node[step] if isinstance(step, int) else node.setdefault(step, {})
    if value is _ABSENT:
        del node[last]
    else:
        node[last] = value
    return policy


def _fields() -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every schema of the CRD, from the kind to the items of the innermost list, with its path."""
    (version,) = yaml.safe_load(_CRD.read_text())["spec"]["versions"]
    return _walk("", version["schema"]["openAPIV3Schema"])


def _walk(path: str, node: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    yield path, node
    for key, child in node.get("properties", {}).items():
        yield from _walk(f"{path}.{key}", child)
    if "items" in node:
        yield from _walk(f"{path}[]", node["items"])
    if "additionalProperties" in node:
        yield from _walk(f"{path}{{}}", node["additionalProperties"])


def _is_bounded(node: Mapping[str, Any]) -> bool:
    match node["type"]:
        case "string":
            return "maxLength" in node or "enum" in node or node.get("format") == "date-time"
        case "array":
            return bool(0 < node.get("maxItems", 0) <= _LONGEST_LIST)
        case "object":
            return "properties" in node or "maxProperties" in node
        case "boolean" | "integer":
            return True
        case _:
            return False


def test_the_documentation_shows_what_kubectl_explains_of_rules(api: ControlPlane) -> None:
    shown = (_CRD.parent.parent / "docs" / "install.md").read_text().partition("$ kubectl explain rcp.spec.rules\n")[2]
    explained = api.kubectl("explain", "rcp.spec.rules")
    assert shown.partition("\n```")[0] == "\n".join(line.rstrip() for line in explained.strip().splitlines())
