"""`validate` beside a real API server with the CRD: what that refuses is refused without it, what it takes is valid.

That the API server refuses all of `crd_cases.REFUSED`, test_crd.py sees; that we do, test_offline.py does.
Here both read the same text, with kubectl's reading of YAML in between.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from registry_cleanup.cli.files.policy_file import problems_of, read
from tests.support.controlplane import ControlPlane, control_plane
from tests.support.crd_cases import BASE
from tests.support.processes import wait_until

_CRDS = Path(__file__).parents[2] / "crds"
_SAMPLES = sorted((_CRDS / "samples").glob("*.yaml"))
_RULE = BASE["spec"]["rules"][0]

# Lines that are added to the spec of a policy with the parts of `BASE`, and in `{}` to its metadata.
_REFUSED = [
    "  schedule: 12:30",
    "  dryRun: 'on'",
    "  dryRun: 1",
    "  on: true",
    "  y: 1",
    "  gracePeriod: 24",
    "  gracePeriod: 0x10",
    "  timeZone: no",
    "  minTagsPerRepository: '1'",
    "  minTagsPerRepository: 1.5",
    "  minTagsPerRepository: 99999999999999999999",
    "  minTagsPerRepository: -1",
    "  historyLimit: 0o14",
    "  historyLimit: 1_1",
    "  keepTags: [1.10]",
    "  keepTags: [on]",
    "  keepTags: [~]",
    "  keepTags: [.nan]",
    "  keepTags: a",
    "  keepTags: {a: b}",
    "  limits: []",
    "  limits: {maxDeletions: !!str 5}",
    "  inUse: {namespaceSelector: {matchLabels: {a: true}}}",
    "  inUse: {namespaceSelector: {matchLabels: {a: ~}}}",
    "  inUse: {referencesConfigMapRef: {name: ~}}",
    "  1: a",
    "  gracePeriod:\t24",
    "\tgracePeriod: 24h",
    "  dryRun: true: false",
    "status: {phase: 1}",
    "status: {history: [{phase: Failed, phrase: x}]}",
    "status: {}\nother: 1",
    "metadata: {name: x, namespace: A}",
    "metadata: {name: x_y}",
    "metadata: {name: x, labels: {a: true}}",
    "metadata: {name: x, labels: {a b: c}}",
    "metadata: {name: x, labels: {a: 'b c'}}",
    "metadata: {name: x, annotations: {a: 1}}",
    "metadata: {name: x, annotations: {'a/b/c': d}}",
    "metadata: {name: x, lables: {}}",
    "metadata: {}",
    "metadata: []",
    "metadata: {name: 1}",
]
_ACCEPTED = [
    "  dryRun: on",
    "  dryRun: Yes",
    "  dryRun:",
    "  suspend: n",
    "  gracePeriod: ~",
    "  gracePeriod: 30d",
    "  gracePeriod: !!str 30d",
    "  minTagsPerRepository: 0o14",
    "  minTagsPerRepository: 014",
    "  minTagsPerRepository: 0x10",
    "  minTagsPerRepository: 1_000",
    "  minTagsPerRepository: 1e3",
    "  minTagsPerRepository: 10.0",
    "  keepTags: [2026-01-01, '1.10', 1.10.0, 12:30]",
    "  keepTags:\n  - 2026-01-01T00:00:00Z",
    "  inUse: {namespaceSelector: {matchLabels: {a: b, c: ~}}}",
    "  keepTags: []",
    "  limits: {}",
    "  inUse: {extraReferencesFrom: []}",
    "metadata: {name: x, namespace: default, labels: {a: '', b/c: D_e.f}, annotations: {A.b/c: ' x '}}",
    "metadata: {name: a.b-c, creationTimestamp: null, generation: 3, uid: '', finalizers: []}",
    "status: {plan: {deletions: x}}",
    "status: {}",
]


def _text(addition: str) -> str:
    parts = dict(BASE)
    if addition.startswith("metadata"):
        del parts["metadata"]
        return yaml.safe_dump(parts) + addition + "\n"
    spec = parts.pop("spec")
    text = yaml.safe_dump(parts) + yaml.safe_dump({"spec": spec})
    return text + addition + "\n"


def _ours(text: str) -> list[str]:
    """Return what `validate` tells of a text."""
    contents = read("x", text)
    problems = [*contents.problems, *(problem for each in contents.policies for problem in problems_of(each))]
    return [f"{problem.path}: {problem.message}" for problem in problems]


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """Run an API server that serves the CRD and has no operator."""
    with control_plane(tmp_path_factory.mktemp("validate")) as plane:
        plane.kubectl("apply", "-f", str(_CRDS / "registrycleanuppolicies.yaml"))
        plane.wait_for_crds("registrycleanuppolicies.registrycleanup.dev")
        wait_until(
            lambda: "FIELDS" in plane.kubectl("explain", "rcp.spec.rules", check=False), 30, "the published schema"
        )
        yield plane


def _theirs(api: ControlPlane, text: str) -> str:
    return api.kubectl("apply", "--dry-run=server", "-f", "-", stdin=text, check=False)


@pytest.mark.parametrize("addition", _REFUSED)
def test_what_the_api_server_refuses_is_refused_without_it(api: ControlPlane, addition: str) -> None:
    text = _text(addition)
    answer = _theirs(api, text)
    assert "created (server dry run)" not in answer
    assert _ours(text) != [], answer


@pytest.mark.parametrize("addition", _ACCEPTED)
def test_what_the_api_server_takes_is_valid_without_it(api: ControlPlane, addition: str) -> None:
    text = _text(addition)
    assert "created (server dry run)" in _theirs(api, text)
    assert _ours(text) == []


@pytest.mark.parametrize("sample", _SAMPLES, ids=lambda sample: sample.stem)
def test_the_samples_are_valid_to_both(api: ControlPlane, sample: Path) -> None:
    assert "created (server dry run)" in _theirs(api, sample.read_text())
    assert _ours(sample.read_text()) == []


_VALUES: list[Any] = [
    *(
        None,
        True,
        0,
        1,
        -1,
        30,
        1.5,
        10**6,
        10**12,
        "",
        "x",
        "X",
        "30d",
        "0s",
        "0",
        "1d1d",
        "**",
        "a//b",
        ".*",
        "(",
        "v(?P<n>.*)",
    ),
    *(
        "n",
        "Date",
        "SemVer",
        "Truncate",
        "Delete",
        "OpenShift",
        "http://r",
        "https://r",
        "https://r/x",
        "@daily",
        "0 3 * * *",
    ),
    *(
        "Europe/Berlin",
        "local",
        "In",
        "Exists",
        ".spec.image",
        "a" * 300,
        [],
        {},
        ["x"],
        [1],
        [None],
        {"include": [".*"]},
    ),
    *({"include": []}, {"name": "x"}, {"mostRecent": 3}, {"matchLabels": {"a": "b"}}, {"key": "a", "operator": "In"}),
]
_FULL: dict[str, Any] = {
    "registry": {"url": "https://r.example.com", "type": "Auto", "insecure": False, "secretRef": {"name": "login"}},
    "repositories": {"include": ["team/**"], "exclude": ["team/x"]},
    "rules": [
        _RULE,
        {
            "name": "versions",
            "repositories": {"include": ["team/a"]},
            "tags": {"include": ["v(?P<n>.*)"], "exclude": ["v0"]},
            "keep": {"mostRecent": 3},
            "orderBy": "SemVer",
            "extract": "n",
        },
    ],
    "keepTags": ["x"],
    "gracePeriod": "1d",
    "limits": {"maxDeletions": 5, "onExceeded": "Abort"},
    "inUse": {
        "namespaceSelector": {
            "matchLabels": {"a": "b"},
            "matchExpressions": [{"key": "a", "operator": "In", "values": ["b"]}],
        },
        "extraReferencesFrom": [{"apiVersion": "x.io/v1", "kind": "Thing", "jsonPath": ".spec.image"}],
        "aliases": ["hub"],
    },
    "schedule": "0 3 * * *",
    "timeZone": "Europe/Berlin",
    "startingDeadlineSeconds": 60,
}


def _mutated(value: Any, chance: random.Random) -> Any:  # noqa: ANN401 - whatever JSON it is
    """Return `value` with something in it replaced, left out, doubled, or under another key."""
    if not isinstance(value, (dict, list)) or not value or chance.random() < 0.1:
        return chance.choice(_VALUES)
    entries: list[tuple[Any, Any]] = list(value.items()) if isinstance(value, dict) else list(enumerate(value))
    place = chance.randrange(len(entries))
    key, item = entries[place]
    match chance.randrange(10):
        case 0:
            del entries[place]
        case 1 if isinstance(value, list):
            entries.append((0, item))
        case 1:
            entries[place] = (chance.choice([str(key).lower(), "include", "name", "x"]), item)
        case _:
            entries[place] = (key, _mutated(item, chance))
    return dict(entries) if isinstance(value, dict) else [item for _, item in entries]


def test_of_policies_with_random_mistakes_none_is_valid_that_the_api_server_refuses(api: ControlPlane) -> None:
    chance = random.Random(9)  # noqa: S311 - the same examples each time, and no secret
    policies = []
    for number in range(400):
        spec = _FULL
        for _ in range(chance.choice([1, 1, 2])):
            spec = _mutated(spec, chance)
        policies.append(dict(BASE) | {"metadata": {"name": f"p{number}"}, "spec": spec})
    text = "\n---\n".join(json.dumps(policy, indent=1) for policy in policies)
    created = set(re.findall(r"/(p[0-9]+) created", _theirs(api, text)))
    contents = read("x", text)
    valid = {each.name for each in contents.policies if not problems_of(each)}
    assert contents.problems == ()
    assert len(policies) / 10 < len(valid) < len(policies) * 9 / 10
    assert valid - created == set()
    # The operator knows more than the schema, but not much.
    assert len(created - valid) < len(policies) / 20, sorted(created - valid)
