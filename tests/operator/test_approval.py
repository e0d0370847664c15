"""A plan that waits for a person: one approval lets it through, once, and no other plan."""

from tests.support.crane import Crane
from tests.support.policies import APPROVE, Namespace, condition, last_run, policy_spec, push_builds
from tests.support.registries import RegistryServer

_ALL = [f"build-{build}" for build in range(1, 6)]


def test_a_plan_that_needs_approval_goes_through_once_as_soon_as_it_is_approved(
    registry3: RegistryServer, namespace: Namespace, crane: Crane
) -> None:
    push_builds(registry3.url)
    namespace.apply(policy_spec(registry3.url, dryRun=False, approval={"required": True}))
    first = namespace.planned()
    plan = first["status"]["plan"]["hash"]
    waiting = namespace.run("unapproved")
    assert last_run(waiting)["phase"] == "AwaitingApproval"
    assert f"{APPROVE}={plan}" in condition(waiting, "AwaitingApproval")["message"]
    assert crane.ls(f"{registry3.host}/team/app") == _ALL

    namespace.approve("0" * 64)
    other = namespace.run("other plan approved")
    assert condition(other, "AwaitingApproval")["reason"] == "OtherPlanApproved"
    assert "lastHandledApproval" not in other["status"]
    assert crane.ls(f"{registry3.host}/team/app") == _ALL

    namespace.approve(plan)
    done = namespace.wait(
        lambda policy: last_run(policy)["trigger"] == "Resume" and last_run(policy)["phase"] != "Running",
        "the run that the approval asks for",
    )
    assert last_run(done)["phase"] == "Succeeded"
    assert last_run(done)["counts"]["tagsPruned"] == 3
    assert done["status"]["lastHandledApproval"] == plan
    assert crane.ls(f"{registry3.host}/team/app") == ["build-4", "build-5"]

    # The same annotation lets nothing else through, and is forgotten once it is gone.
    push_builds(registry3.url, number=7)
    assert last_run(namespace.run("more"))["phase"] == "AwaitingApproval"
    assert len(crane.ls(f"{registry3.host}/team/app")) == 7
    namespace.approve(None)
    namespace.wait(lambda policy: "lastHandledApproval" not in policy["status"], "the end of the approval")
