"""The full report of a run: a line for every tag of the registry, in a ConfigMap that belongs to the policy."""

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from tests.support.crane import Crane
from tests.support.images import push_image
from tests.support.policies import NAME, Namespace, Resource, days_ago, last_run, policy_spec, push_builds
from tests.support.registries import RegistryServer

_OWNED: dict[str, Any] = {"rule": "builds"}
_GOES = {"verdict": "Prune", "reasons": ["OlderThan", "BeyondMostRecent"], **_OWNED}
_RECENT = {"verdict": "Keep", "reason": "MostRecent", **_OWNED}
_VERDICTS = {
    ("team/app", "build-1"): _GOES,
    ("team/app", "build-2"): _GOES,
    ("team/app", "build-3"): _GOES,
    ("team/app", "build-4"): _RECENT,
    ("team/app", "build-5"): _RECENT,
    ("team/app", "build-6"): {"verdict": "Keep", "reason": "UnknownDate", **_OWNED},
    ("team/app", "latest"): {"verdict": "Keep", "reason": "KeepTags"},
    ("team/app", "release"): {"verdict": "Keep", "reason": "Unmatched"},
    ("team/web", "build-1"): _RECENT,
    ("team/web", "build-2"): _RECENT,
}


def _verdicts(report: list[Resource]) -> Mapping[tuple[str, str], Resource]:
    lines = [line for line in report if line["type"] == "tag"]
    found: dict[tuple[str, str], Resource] = {
        (line["repository"], line["tag"]): {
            key: value for key, value in line.items() if key in ("verdict", "reason", "reasons", "rule")
        }
        for line in lines
    }
    assert len(found) == len(lines), "a tag has two verdicts"
    return found


def test_the_report_has_a_line_for_each_tag_and_belongs_to_the_policy(
    registry3: RegistryServer, namespace: Namespace, crane: Crane
) -> None:
    push_builds(registry3.url)
    push_builds(registry3.url, "team/web", 2)
    push_image(registry3.url, "team/app", ["build-6"], created=None, seed="dateless")
    push_image(registry3.url, "team/app", ["latest", "release"], created=days_ago(99), seed="by name")
    push_builds(registry3.url, "other/app")
    there = {(name, tag) for name in ("team/app", "team/web") for tag in crane.ls(f"{registry3.host}/{name}")}
    assert there == _VERDICTS.keys()

    uid = namespace.apply(policy_spec(registry3.url, dryRun=False))
    planned = namespace.planned()
    report = namespace.report(planned)
    assert _verdicts(report) == _VERDICTS
    head = report[0]
    assert (head["type"], head["run"], head["planOnly"]) == ("run", last_run(planned)["id"], True)
    assert (head["policy"], head["plan"], head["repositoriesCut"]) == (uid, planned["status"]["plan"]["hash"], 0)
    # What a rule judged has its digest, date and size; nothing was published before, so all of it waits.
    judged = {line["tag"]: line for line in report if line["type"] == "tag" and line["repository"] == "team/app"}
    for build in range(1, 6):
        line = judged[f"build-{build}"]
        reference = f"{registry3.host}/team/app:build-{build}"
        assert line["digest"] == crane.digest(reference)
        created = json.loads(crane.run("config", reference))["created"]
        assert datetime.fromisoformat(line["date"]) == datetime.fromisoformat(created)
        assert (line["dateSource"], line["size"] > 0) == ("Created", True)
    held = {(line["tag"], line["reason"]) for line in report if line["type"] == "held"}
    assert held == {(f"build-{build}", "GracePeriod") for build in (1, 2, 3)}
    config_map = namespace.config_maps()[last_run(planned)["reportRef"]["name"]]
    (owner,) = config_map["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["name"], owner["uid"]) == ("RegistryCleanupPolicy", NAME, uid)

    done = namespace.run("now")
    report = namespace.report(done)
    assert (report[0]["run"], report[0]["planOnly"]) == (last_run(done)["id"], False)
    assert _verdicts(report) == _VERDICTS
    outcomes = {(line["repository"], line["tag"]): line["outcome"] for line in report if line["type"] == "outcome"}
    assert outcomes == dict.fromkeys((key for key, verdict in _VERDICTS.items() if verdict == _GOES), "Pruned")
    assert [line for line in report if line["type"] == "held"] == []
