"""Policies that an API server with the CRD refuses, and unusual ones that it accepts."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

ABSENT = object()

BASE: Mapping[str, Any] = {
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
_RULE = BASE["spec"]["rules"][0]
_WORKLOAD = {"kind": "StatefulSet", "name": "registry"}
_COLLECTION = {"mode": "Run", "schedule": "0 4 * * 0", "workloadRef": _WORKLOAD}

# What is set where, the field that the answer must name, and words that must stand in it.
REFUSED: list[tuple[str, object, str, str]] = [
    ("spec", ABSENT, "spec", "Required value"),
    # registry
    ("spec.registry", ABSENT, "spec.registry", "Required value"),
    ("spec.registry.url", ABSENT, "spec.registry.url", "Required value: write https://host[:port]"),
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
    # undo
    ("spec.undo.window", "two weeks", "spec.undo.window", "such as 30d, 12h or 1d12h"),
    ("spec.undo.window", "36501d", "spec.undo.window", "at most 36500d"),
    ("spec.undo.repository", "", "spec.undo.repository", "at least 1"),
    ("spec.undo.repository", "Ops/undo", "spec.undo.repository", "name of a repository"),
    ("spec.undo.repository", "ops/undo:tag", "spec.undo.repository", "name of a repository"),
    ("spec.undo.repository", "a" * 256, "spec.undo.repository", "more than 255"),
    # garbageCollection
    ("spec.garbageCollection.mode", "Always", "spec.garbageCollection.mode", "supported values"),
    ("spec.garbageCollection", {"mode": "Run", "workloadRef": _WORKLOAD}, "spec.garbageCollection.schedule", "such as"),
    (
        "spec.garbageCollection",
        {"mode": "Report", "schedule": "@weekly"},
        "spec.garbageCollection.workloadRef",
        "name the Deployment or StatefulSet",
    ),
    ("spec.garbageCollection", _COLLECTION | {"schedule": "weekly"}, "spec.garbageCollection.schedule", "five fields"),
    (
        "spec.garbageCollection",
        _COLLECTION | {"workloadRef": {"kind": "DaemonSet", "name": "registry"}},
        "spec.garbageCollection.workloadRef.kind",
        "supported values",
    ),
    (
        "spec.garbageCollection",
        _COLLECTION | {"workloadRef": {"kind": "Deployment", "name": "Registry"}},
        "spec.garbageCollection.workloadRef.name",
        "name of a workload",
    ),
    (
        "spec.garbageCollection",
        _COLLECTION | {"strategy": "Live"},
        "spec.garbageCollection.strategy",
        "supported values",
    ),
    ("spec.garbageCollection", _COLLECTION | {"timeout": "0s"}, "spec.garbageCollection.timeout", "more than zero"),
    ("spec.garbageCollection", _COLLECTION | {"timeout": "soon"}, "spec.garbageCollection.timeout", "such as 30d"),
    ("spec.garbageCollection", _COLLECTION | {"volume": ""}, "spec.garbageCollection.volume", "at least 1"),
    (
        "spec",
        BASE["spec"]
        | {"registry": {"type": "OpenShift", "serviceAccountName": "pruner"}, "garbageCollection": _COLLECTION},
        "spec.garbageCollection.workloadRef",
        "the cluster's own image pruner",
    ),
    # repositories
    ("spec.repositories", ABSENT, "spec.repositories", "Required value"),
    ("spec.repositories.include", ABSENT, "spec.repositories.include", "Required value"),
    ("spec.repositories.include", [], "spec.repositories.include", "all of them is written **"),
    ("spec.repositories.include", [""], "spec.repositories.include[0]", "at least 1"),
    ("spec.repositories.include", ["Team/app"], "spec.repositories.include[0]", "glob of repositories"),
    ("spec.repositories.include", ["a", "{b,c}"], "spec.repositories.include[1]", "'*', '**' and '?'"),
    ("spec.repositories.include", ["a"] * 65, "spec.repositories.include", "at most 64 items"),
    ("spec.repositories.include", ["a" * 257], "spec.repositories.include[0]", "more than 256"),
    ("spec.repositories.exclude", ["a b"], "spec.repositories.exclude[0]", "glob of repositories"),
    # rules
    ("spec.rules", ABSENT, "spec.rules", "Required value"),
    ("spec.rules", [], "spec.rules", "at least 1 items"),
    ("spec.rules", [_RULE | {"name": f"r{n}"} for n in range(33)], "spec.rules", "at most 32 items"),
    ("spec.rules", [_RULE, _RULE], "spec.rules", "two rules have the same name"),
    ("spec.rules.0.name", ABSENT, "spec.rules[0].name", "Required value"),
    ("spec.rules.0.name", "Builds", "spec.rules[0].name", "lower case letters, digits and '-'"),
    ("spec.rules.0.name", "-builds", "spec.rules[0].name", "begin and end with"),
    ("spec.rules.0.name", "b" * 64, "spec.rules[0].name", "more than 63"),
    ("spec.rules.0.repositories", {}, "spec.rules[0].repositories.include", "Required value"),
    ("spec.rules.0.repositories", {"include": []}, "spec.rules[0].repositories.include", "written **"),
    ("spec.rules.0.repositories", {"include": ["!"]}, "spec.rules[0].repositories.include[0]", "glob of"),
    ("spec.rules.0.tags", ABSENT, "spec.rules[0].tags", "Required value"),
    ("spec.rules.0.tags.include", ABSENT, "spec.rules[0].tags.include", "Required value"),
    ("spec.rules.0.tags.include", [], "spec.rules[0].tags.include", "all tags is written .*"),
    ("spec.rules.0.tags.include", [""], "spec.rules[0].tags.include[0]", "at least 1"),
    ("spec.rules.0.tags.include", ["ok", "pr-("], "spec.rules[0].tags.include[1]", "missing closing )"),
    ("spec.rules.0.tags.include", ["a(?=b)"], "spec.rules[0].tags.include[0]", "RE2 syntax"),
    ("spec.rules.0.tags.include", ["a" * 513], "spec.rules[0].tags.include[0]", "more than 512"),
    ("spec.rules.0.tags.include", ["a"] * 33, "spec.rules[0].tags.include", "at most 32 items"),
    ("spec.rules.0.tags.exclude", ["*"], "spec.rules[0].tags.exclude[0]", "missing argument to repetition"),
    ("spec.rules.0.olderThan", ABSENT, "spec.rules[0]", "olderThan or keep.mostRecent"),
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

ACCEPTED: list[tuple[str, object]] = [
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
    ("spec.undo", {"window": "14d"}),
    ("spec.garbageCollection", {}),
    ("spec.garbageCollection", {"mode": "None", "timeout": "2h"}),
    ("spec.garbageCollection", _COLLECTION | {"strategy": "Offline", "volume": "data", "timeout": "90m"}),
    ("spec", BASE["spec"] | {"garbageCollection": _COLLECTION, "timeZone": "Europe/Berlin"}),
    (
        "spec",
        BASE["spec"]
        | {
            "registry": {"type": "OpenShift", "serviceAccountName": "pruner"},
            "garbageCollection": {"mode": "Run", "schedule": "@weekly"},
        },
    ),
    ("spec.undo", {"window": "0s", "repository": "ops/undo.of__this-1/x--y"}),
    ("spec.untagged", "Delete"),
    ("spec.minTagsPerRepository", 0),
    ("spec.schedule", "*/15  0-6,22 1,15 JAN-mar MON-FRI"),
    ("spec.schedule", "@hourly"),
]


def policy_with(path: str, value: object) -> dict[str, Any]:
    """Return the sample policy with one field set, or left out."""
    policy: dict[str, Any] = copy.deepcopy(dict(BASE))
    node: Any = policy
    *parents, last = (int(step) if step.isdigit() else step for step in path.split("."))
    for step in parents:
        node = node[step] if isinstance(step, int) else node.setdefault(step, {})
    if value is ABSENT:
        del node[last]
    else:
        node[last] = value
    return policy
