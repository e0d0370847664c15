"""An operator that is confined to namespaces, with exactly the rights of manifests/namespaced."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.controlplane import ControlPlane
from tests.support.crane import Crane
from tests.support.images import push_image
from tests.support.operator import NAMESPACE, REPOSITORY_ROOT, SERVICE_ACCOUNT, operator
from tests.support.policies import Namespace, condition, conditions, days_ago, fresh_namespace, last_run, policy_spec
from tests.support.registries import RegistryServer, distribution
from tests.support.workloads import Workloads, pod_spec

_SYSTEM = "confined-system"
_LOOK = "registry-cleanup-workloads"
_FORBIDDEN = re.compile(r'^apiserver_request_total\{code="403".*\} (\d+)$', re.MULTILINE)


@dataclass(frozen=True)
class Places:
    """Two namespaces that the operator is confined to, and one beside."""

    mine: Namespace
    also_mine: Namespace
    other: Namespace

    @property
    def setting(self) -> str:
        return f"{self.mine.name},{self.also_mine.name}"


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RegistryServer]:
    with distribution("3", tmp_path_factory.mktemp("confined-registry")) as server:
        yield server


@pytest.fixture
def places(own_plane: ControlPlane, namespace_name: str) -> Iterator[Places]:
    """Make the namespaces, and bind what the overlay binds in two of them, to an account with no other right."""
    with ExitStack() as stack:
        names = [f"{letter}-{namespace_name}" for letter in "abc"]
        found = Places(*(stack.enter_context(fresh_namespace(own_plane, name, [])) for name in names))
        account = [_resource("v1", "Namespace", _SYSTEM), _resource("v1", "ServiceAccount", SERVICE_ACCOUNT, _SYSTEM)]
        _apply(own_plane, [*account, *_bindings(found)])
        yield found


def _bindings(places: Places) -> list[dict[str, Any]]:
    """Return the RoleBindings of the overlay, and its one Role, for these namespaces and the account of the test."""
    kubectl = Path(sys.executable).parent / "kubectl"
    overlay = REPOSITORY_ROOT / "manifests" / "namespaced"
    rendered = subprocess.run([kubectl, "kustomize", overlay], capture_output=True, text=True, check=True).stdout
    renamed = {"team-a": places.mine.name, "team-b": places.also_mine.name, NAMESPACE: _SYSTEM}
    found = [each for each in yaml.safe_load_all(rendered) if each["kind"] in ("Role", "RoleBinding")]
    for each in found:
        each["metadata"]["namespace"] = renamed[each["metadata"]["namespace"]]
        for subject in each.get("subjects", ()):
            subject["namespace"] = _SYSTEM
    return found


def _resource(version: str, kind: str, name: str, namespace: str | None = None) -> dict[str, Any]:
    where = {} if namespace is None else {"namespace": namespace}
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name, **where}}


def _apply(plane: ControlPlane, resources: list[dict[str, Any]]) -> None:
    plane.kubectl("apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": resources}))


def _refusals(place: Namespace) -> int:
    """Return how many requests the API server has forbidden so far."""
    text = place.api.get("/metrics").raise_for_status().text
    assert "apiserver_request_total" in text
    return sum(map(int, _FORBIDDEN.findall(text)))


def _push(images: RegistryServer, place: Namespace, *tags: str) -> str:
    repository = f"{place.name}/app"
    for number, tag in enumerate(tags):
        push_image(images.url, repository, [tag], created=days_ago(90 - number), seed=f"{repository} {tag}")
    return f"{images.host}/{repository}"


def _spec(images: RegistryServer, place: Namespace, **changes: Any) -> dict[str, Any]:  # noqa: ANN401 - of any field
    return policy_spec(
        images.url,
        dryRun=False,
        repositories={"include": [f"{place.name}/*"]},
        rules=[{"name": "all", "tags": {"include": [".*"]}, "olderThan": "30d"}],
        minTagsPerRepository=0,
        limits={"maxPercentPerRepository": 100},
        **changes,
    )


@contextmanager
def _sees_all(plane: ControlPlane) -> Iterator[None]:
    """Let the operator see what the whole cluster uses, as the condition says."""
    account = f"--serviceaccount={_SYSTEM}:{SERVICE_ACCOUNT}"
    plane.kubectl("create", "clusterrolebinding", "confined-look", f"--clusterrole={_LOOK}", account)
    try:
        yield
    finally:
        plane.kubectl("delete", "clusterrolebinding", "confined-look")


def test_it_prunes_in_its_namespaces_ignores_the_others_and_asks_for_nothing_that_is_forbidden(
    own_plane: ControlPlane, places: Places, images: RegistryServer, crane: Crane, tmp_path: Path
) -> None:
    used, unused = "used", "unused"
    mine = _push(images, places.mine, used, unused)
    also_mine = _push(images, places.also_mine, used, unused)
    other = _push(images, places.other, used, unused)
    # Each policy's images are used in the other namespace.
    Workloads(places.also_mine).pod("uses", pod_spec(f"{mine}:{used}"))
    Workloads(places.mine).pod("uses", pod_spec(f"{also_mine}:{used}"))
    # This one is older than all others, and nobody sees it.
    places.other.apply(_spec(images, places.mine))
    places.mine.apply(_spec(images, places.mine))
    labels = {"matchLabels": {"kubernetes.io/metadata.name": places.mine.name}}
    places.also_mine.apply(_spec(images, places.also_mine, inUse={"namespaceSelector": labels}))
    places.also_mine.apply(_spec(images, places.mine), "younger")
    before = _refusals(places.mine)
    settings = {"NAMESPACES": places.setting, "IN_USE_SCOPE": "Namespaces"}
    with operator(own_plane, tmp_path, settings, namespace=_SYSTEM) as running:
        for place in (places.mine, places.also_mine):
            place.planned()
            policy = place.run("now")
            assert last_run(policy)["phase"] == "Succeeded", last_run(policy)
            known = condition(policy, "InUseKnown")
            assert (known["status"], known["reason"]) == ("True", "Scanned")
            seen = f"only what namespaces {places.setting.replace(',', ', ')} use was seen"
            assert f"{seen} (REGISTRY_CLEANUP_IN_USE_SCOPE=Namespaces)" in known["message"]
        conflict = condition(places.also_mine.planned("younger"), "PolicyConflict")
        assert f"policy {places.mine.name}/policy is older" in conflict["message"]
        assert f"{places.other.name}/" not in conflict["message"]
        assert running.log_lines(level="ERROR") == []
    assert [crane.ls(mine), crane.ls(also_mine)] == [[used], [used]]
    assert sorted(crane.ls(other)) == [unused, used]
    assert places.other.policy()["status"] == {"observedGeneration": -1}  # the CRD's default
    assert places.other.events() == []
    assert _refusals(places.mine) == before


def test_as_long_as_it_may_not_see_what_the_others_use_nothing_goes_and_the_condition_names_both_ways_out(
    own_plane: ControlPlane, places: Places, images: RegistryServer, crane: Crane, tmp_path: Path
) -> None:
    tags = _push(images, places.mine, "used", "unused")
    Workloads(places.other).pod("uses", pod_spec(f"{tags}:used"))
    places.mine.apply(_spec(images, places.mine))
    with operator(own_plane, tmp_path, {"NAMESPACES": places.setting}, namespace=_SYSTEM):
        message = places.mine.stalled("InUseUnknown")
        assert f"a ClusterRoleBinding of ClusterRole {_LOOK} to its ServiceAccount" in message
        assert "set REGISTRY_CLEANUP_IN_USE_SCOPE=Namespaces" in message
        assert conditions(places.mine.policy())["InUseKnown"] == "False"
        assert sorted(crane.ls(tags)) == ["unused", "used"]
        with _sees_all(own_plane):
            places.mine.request_run("plan")
            places.mine.planned()
            policy = places.mine.run("now")
            assert last_run(policy)["phase"] == "Succeeded"
            assert condition(policy, "InUseKnown")["status"] == "True"
        assert crane.ls(tags) == ["used"]
