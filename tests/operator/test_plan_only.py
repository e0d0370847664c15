"""The switch that lets no policy prune, in an operator of the test's own: no other may see its policy."""

from pathlib import Path

from tests.support.controlplane import ControlPlane
from tests.support.crane import Crane
from tests.support.operator import operator
from tests.support.policies import condition, fresh_namespace, last_run, policy_spec, push_builds
from tests.support.registries import distribution


def test_where_the_administrator_allows_plans_only_a_policy_says_so_and_prunes_once_more_is_allowed(
    own_plane: ControlPlane, namespace_name: str, crane: Crane, tmp_path: Path
) -> None:
    with distribution("3", tmp_path / "registry") as images, fresh_namespace(own_plane, namespace_name, []) as fresh:
        builds = push_builds(images.url, f"{fresh.name}/app")
        spec = policy_spec(images.url, dryRun=False, repositories={"include": [f"{fresh.name}/*"]})
        with operator(own_plane, tmp_path, {"PLAN_ONLY": "true"}):
            fresh.apply({**spec, "limits": {"maxPercentPerRepository": 100}})
            fresh.planned()
            policy = fresh.run("withheld")
            assert (last_run(policy)["phase"], last_run(policy)["dryRun"]) == ("Succeeded", True)
            assert "REGISTRY_CLEANUP_PLAN_ONLY lets no policy prune" in last_run(policy)["message"]
            ready = condition(policy, "Ready")
            assert ready["status"] == "True"
            assert "REGISTRY_CLEANUP_PLAN_ONLY lets no policy prune" in ready["message"]
        assert len(crane.ls(f"{images.host}/{fresh.name}/app")) == 5
        with operator(own_plane, tmp_path):
            policy = fresh.run("allowed")
        assert last_run(policy)["counts"]["tagsPruned"] == len(builds)
        assert "PLAN_ONLY" not in last_run(policy)["message"]
