"""The guards of a real run, from the resource to the registry: what waits, what is too much, and what was approved."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.support.crane import Crane
from tests.support.images import push_image
from tests.support.operator import operator
from tests.support.policies import (
    APPROVE,
    LIMIT,
    NAME,
    Namespace,
    Resource,
    condition,
    conditions,
    days_ago,
    last_run,
    policy_spec,
    push_builds,
)
from tests.support.processes import wait_until
from tests.support.registries import RegistryServer

_ALL = [f"build-{build}" for build in range(1, 6)]
_KEPT = ["build-4", "build-5"]
# The garbage collector looks for new kinds every 30 seconds.
_COLLECTED = 90.0


@pytest.fixture
def tags(registry3: RegistryServer, crane: Crane) -> Callable[[], list[str]]:
    """Push five builds, of which three go; return what reads the tags that are there."""
    push_builds(registry3.url)
    return lambda: crane.ls(f"{registry3.host}/team/app")


def _live(registry: RegistryServer, **changes: Any) -> dict[str, Any]:  # noqa: ANN401 - values of any field
    return policy_spec(registry.url, dryRun=False, **changes)


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _prunable(policy: Resource) -> datetime:
    return _time(policy["status"]["plan"]["prunableFrom"])


def _wait_for_grace(policy: Resource) -> None:
    """Wait until what the policy plans may go."""
    wait_until(lambda: datetime.now(UTC) > _prunable(policy), LIMIT, "the end of the grace period")


def _kept(policy: Resource, reason: str) -> int:
    number: int = last_run(policy)["keptByReason"].get(reason, 0)
    return number


def _pruned(policy: Resource) -> int:
    number: int = last_run(policy)["counts"]["tagsPruned"]
    return number


def _resumed(namespace: Namespace) -> Resource:
    """Wait for the end of the run that an approval asks for."""
    return namespace.wait(
        lambda policy: last_run(policy)["trigger"] == "Resume" and last_run(policy)["phase"] != "Running",
        "the run that the approval asks for",
    )


# Grace period


def test_by_default_what_is_planned_waits_for_a_day_from_its_first_publication(
    registry3: RegistryServer, namespace: Namespace, tags: Callable[[], list[str]]
) -> None:
    spec = _live(registry3)
    del spec["gracePeriod"]
    namespace.apply(spec)
    first = namespace.planned()
    published = _time(first["status"]["plan"]["generatedAt"])
    assert timedelta(0) <= _prunable(first) - published - timedelta(days=1) < timedelta(seconds=LIMIT)
    asked = namespace.run("at once")
    run = last_run(asked)
    assert (run["phase"], run["trigger"], run["dryRun"]) == ("Succeeded", "Request", False)
    assert (_pruned(asked), _kept(asked, "GracePeriod"), run["counts"]["tagsSkipped"]) == (0, 3, 3)
    assert (
        f"waiting for the grace period: 3 (the first may go from {_prunable(first):%Y-%m-%dT%H:%M:%SZ})"
        in run["message"]
    )
    assert _prunable(asked) == _prunable(first)
    assert tags() == _ALL
    # Shortened, it counts from the same publication.
    namespace.change({"gracePeriod": "1s"})
    short = namespace.planned()
    assert _prunable(short) == _prunable(first) - timedelta(days=1) + timedelta(seconds=1)
    _wait_for_grace(short)
    assert _pruned(namespace.run("later")) == 3
    assert tags() == _KEPT


def test_a_tag_that_was_moved_starts_its_grace_period_anew(
    registry3: RegistryServer, namespace: Namespace, tags: Callable[[], list[str]]
) -> None:
    namespace.apply(_live(registry3))
    namespace.planned()
    push_image(registry3.url, "team/app", ["build-2"], created=days_ago(90), seed="an old one, tagged anew")
    done = namespace.run("now")
    assert (_pruned(done), _kept(done, "GracePeriod")) == (2, 1)
    assert tags() == ["build-2", *_KEPT]
    assert _pruned(namespace.run("again")) == 1
    assert tags() == _KEPT


def test_the_published_plan_survives_the_operator_and_goes_with_its_policy(
    registry3: RegistryServer, own_namespace: Namespace, tags: Callable[[], list[str]], tmp_path: Path
) -> None:
    with operator(own_namespace.plane, tmp_path / "first"):
        uid = own_namespace.apply(_live(registry3, gracePeriod="1s"))
        planned = own_namespace.planned()
    _wait_for_grace(planned)
    with operator(own_namespace.plane, tmp_path / "second"):
        done = own_namespace.run("now")
        assert _pruned(done) == 3
        assert tags() == _KEPT
        assert set(own_namespace.config_maps()) == {f"{NAME}-{uid[:8]}-plan-0", f"{NAME}-{uid[:8]}-report"}
        own_namespace.delete()
        wait_until(lambda: not own_namespace.config_maps(), _COLLECTED, "the end of what the policy owned")


# Limits


def test_more_than_a_limit_allows_is_blocked_until_the_plan_is_approved_once(
    registry3: RegistryServer, namespace: Namespace, crane: Crane
) -> None:
    def push() -> None:
        for day, tag in enumerate(_ALL, 1):
            push_image(registry3.url, "team/app", [tag], created=datetime(2020, 1, day, tzinfo=UTC), seed=tag)

    def tags() -> list[str]:
        return crane.ls(f"{registry3.host}/team/app")

    push()
    namespace.apply(_live(registry3, limits={"maxDeletions": 2}))
    planned = namespace.planned()
    # It is told before anybody waits for the run.
    assert condition(planned, "LimitExceeded")["reason"] == "PlanTooLarge"
    assert condition(planned, "LimitExceeded")["status"] == "True"
    # However often it is blocked, it waits for a person and has not failed.
    assert last_run(namespace.run("now"))["phase"] == "Blocked"
    blocked = namespace.run("and again")
    assert last_run(blocked)["phase"] == "Blocked"
    exceeded = condition(blocked, "LimitExceeded")
    assert (exceeded["status"], exceeded["reason"]) == ("True", "PlanBlocked")
    assert "3 tags would go, more than limits.maxDeletions (2)" in exceeded["message"]
    assert (conditions(blocked)["Ready"], conditions(blocked)["Stalled"]) == ("True", "False")
    assert (_pruned(blocked), tags()) == (0, _ALL)
    plan = blocked["status"]["plan"]["hash"]
    command = exceeded["message"][exceeded["message"].index("kubectl annotate") :]
    assert command == f"kubectl annotate rcp {NAME} -n {namespace.name} {APPROVE}={plan} --overwrite"
    namespace.plane.kubectl(*command.split()[1:])
    done = _resumed(namespace)
    assert (last_run(done)["phase"], _pruned(done)) == ("Succeeded", 3)
    assert done["status"]["lastHandledApproval"] == plan
    assert condition(done, "LimitExceeded")["status"] == "False"
    assert tags() == _KEPT
    # That annotation lets nothing more through, be it the same plan again.
    push()
    assert namespace.run("publish")["status"]["plan"]["hash"] == plan
    again = namespace.run("prune")
    assert (last_run(again)["phase"], again["status"]["plan"]["hash"]) == ("Blocked", plan)
    assert tags() == _ALL


def test_truncated_the_oldest_whole_digest_groups_go_first_and_the_others_in_the_next_runs(
    registry: RegistryServer, namespace: Namespace, crane: Crane
) -> None:
    groups = [["build-1"], ["build-2", "build-3", "build-4"], ["build-5"], ["build-6"], ["build-7"]]
    for number, group in enumerate(groups):
        push_image(registry.url, "team/app", group, created=days_ago(50 - number), seed=group[0])
    namespace.apply(_live(registry, limits={"maxDeletions": 3, "onExceeded": "Truncate"}))
    namespace.planned()
    done = namespace.run("now")
    assert last_run(done)["phase"] == "Succeeded"
    assert (_pruned(done), _kept(done, "LimitTruncated")) == (2, 3)
    exceeded = condition(done, "LimitExceeded")
    assert (exceeded["status"], exceeded["reason"]) == ("True", "PlanTruncated")
    assert "5 tags would go, more than limits.maxDeletions (3)" in exceeded["message"]
    # Of three, two are left after the oldest: the next group is larger, and is not torn apart.
    assert crane.ls(f"{registry.host}/team/app") == ["build-2", "build-3", "build-4", "build-6", "build-7"]
    rest = namespace.run("the rest")
    assert (_pruned(rest), _kept(rest, "LimitTruncated")) == (3, 0)
    assert condition(rest, "LimitExceeded")["status"] == "False"
    assert crane.ls(f"{registry.host}/team/app") == ["build-6", "build-7"]


def test_the_largest_part_of_a_repository_never_goes_unseen(
    registry3: RegistryServer, namespace: Namespace, crane: Crane
) -> None:
    push_builds(registry3.url, "team/large", 13)
    push_builds(registry3.url, "team/small", 12)
    namespace.apply(_live(registry3))
    namespace.planned()
    blocked = namespace.run("now")
    assert last_run(blocked)["phase"] == "Blocked"
    message = condition(blocked, "LimitExceeded")["message"]
    # Ten tags are too few to count as a part, be it the largest.
    words = "11 of 13 tags of team/large would go, more than limits.maxPercentPerRepository (50); nothing was pruned"
    assert message.startswith(words)
    assert [len(crane.ls(f"{registry3.host}/team/{name}")) for name in ("large", "small")] == [13, 12]
    namespace.change({"limits": {"maxPercentPerRepository": 85}})
    namespace.planned()
    assert _pruned(namespace.run("again")) == 21
    assert [len(crane.ls(f"{registry3.host}/team/{name}")) for name in ("large", "small")] == [2, 2]


# Approval


def test_what_is_new_since_the_approved_plan_waits_for_the_next_approval(
    registry3: RegistryServer, namespace: Namespace, tags: Callable[[], list[str]]
) -> None:
    namespace.apply(_live(registry3, approval={"required": True}))
    namespace.planned()
    waiting = namespace.run("unapproved")
    assert last_run(waiting)["phase"] == "AwaitingApproval"
    assert (conditions(waiting)["AwaitingApproval"], conditions(waiting)["Ready"]) == ("True", "True")
    assert tags() == _ALL
    push_image(registry3.url, "team/app", ["build-0"], created=days_ago(90), seed="new since")
    namespace.approve(waiting["status"]["plan"]["hash"])
    done = _resumed(namespace)
    assert (last_run(done)["phase"], _pruned(done)) == ("Succeeded", 3)
    assert tags() == ["build-0", *_KEPT]
    # Nor does it go without an approval of its own.
    again = namespace.run("unapproved, again")
    assert last_run(again)["phase"] == "AwaitingApproval"
    assert "1 tag waits for approval" in condition(again, "AwaitingApproval")["message"]
    assert tags() == ["build-0", *_KEPT]
    namespace.approve(again["status"]["plan"]["hash"])
    namespace.wait(
        lambda policy: policy["status"]["plan"]["hash"] == policy["status"]["lastHandledApproval"], "its run"
    )
    assert tags() == _KEPT
