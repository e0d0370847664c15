"""The CRD on a real API server: what it refuses and says, what it fills in, and how it reads."""

import copy
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.controlplane import ControlPlane, control_plane
from tests.support.crd_cases import ACCEPTED, REFUSED, policy_with
from tests.support.processes import wait_until

_CRDS = Path(__file__).parents[2] / "crds"
_CRD = _CRDS / "registrycleanuppolicies.yaml"
_SAMPLES = sorted((_CRDS / "samples").glob("*.yaml"))
_LONGEST_LIST = 100


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
    policy = policy_with("spec.schedule", "0 3 * * *")
    api.kubectl("create", "-f", "-", stdin=json.dumps(policy))
    yield api
    api.kubectl("delete", "rcp", "sample")


@pytest.mark.parametrize(("path", "value", "field", "words"), REFUSED, ids=lambda part: str(part)[:40])
def test_bad_input_is_refused_with_the_field_and_what_to_write(
    api: ControlPlane, path: str, value: object, field: str, words: str
) -> None:
    answer = _try(api, policy_with(path, value))
    assert "created" not in answer
    assert f"{field}:" in answer or f'"{field}"' in answer
    assert words in answer


@pytest.mark.parametrize(("path", "value"), ACCEPTED, ids=lambda part: str(part)[:40])
def test_unusual_but_good_input_is_accepted(api: ControlPlane, path: str, value: object) -> None:
    assert "created (server dry run)" in _try(api, policy_with(path, value))


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
    policy = policy_with("spec.rules", [{"name": f"{n:063}"} | rule for n in range(32)])
    policy["spec"]["repositories"] = repositories
    policy["spec"]["keepTags"] = ["(a|b)*" * 85] * 64
    assert "created (server dry run)" in _try(api, policy)


def test_what_is_left_out_becomes_the_careful_default(api: ControlPlane) -> None:
    policy = policy_with("spec.registry.caConfigMapRef", {"name": "registry-ca"})
    answer = json.loads(api.kubectl("create", "--dry-run=server", "-o", "json", "-f", "-", stdin=json.dumps(policy)))
    expected = copy.deepcopy(policy["spec"])
    expected["registry"] |= {"insecure": False, "type": "Auto"}
    expected["registry"]["caConfigMapRef"]["key"] = "ca.crt"
    expected |= {"dryRun": True, "pruneLatest": False, "minTagsPerRepository": 1, "suspend": False}
    expected |= {"timeout": "4h", "historyLimit": 5}
    expected |= {"tagDate": "Auto", "untagged": "Keep", "gracePeriod": "24h", "approval": {"required": False}}
    expected["undo"] = {"window": "0s"}
    expected["garbageCollection"] = {"mode": "None", "strategy": "ReadOnly", "timeout": "1h", "pruneStorage": False}
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
    policy = policy_with("status", {"plan": {"deletions": 9}})
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
