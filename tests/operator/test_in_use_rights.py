"""Without any one of the operator's rights that the look at workloads, or the published plan, takes nothing goes."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
import yaml

from tests.support.controlplane import ControlPlane
from tests.support.crane import Crane
from tests.support.images import push_image
from tests.support.operator import NAMESPACE, REPOSITORY_ROOT, SERVICE_ACCOUNT, Operator, operator
from tests.support.policies import (
    LIMIT,
    Namespace,
    condition,
    days_ago,
    fresh_namespace,
    last_run,
    policy_spec,
)
from tests.support.processes import wait_until
from tests.support.registries import RegistryServer, distribution
from tests.support.workloads import openshift_kinds

_ROLES = "/apis/rbac.authorization.k8s.io/v1/clusterroles"
# What the operator itself may do, and what it may list to see what is in use.
_OWN, _LOOK = "registry-cleanup-operator", "registry-cleanup-workloads"
_REVIEWS = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
_ACCOUNT = f"system:serviceaccount:{NAMESPACE}:{SERVICE_ACCOUNT}"
# Groups and resources of what the operator may do for something else than to see what is in use. Every other right of
# the shipped role is walked through, so that a new one is either proven or explained here.
_OTHERS = {
    # Policies themselves: the last tests take `get`, `list`, and the status, without which there is no condition to say
    # anything in. `watch` tells of new ones, and of requests.
    ("registrycleanup.dev", "registrycleanuppolicies"),
    ("registrycleanup.dev", "registrycleanuppolicies/status"),
    # Events only tell; what goes does not depend on them.
    ("", "events"),
    # The published plan: the second test walks through these.
    ("", "configmaps"),
}
# Only an operator that is confined to namespaces gets them one by one.
_CONFINED = [("", "namespaces", "get")]
_UNUSED = ["first", "second"]
_Rules = list[dict[str, Any]]


@dataclass(frozen=True)
class Right:
    """One verb on one resource."""

    group: str
    resource: str
    verb: str

    @property
    def rule(self) -> str:
        """The rule that grants it, in the words of the condition."""
        return f'{{apiGroups: ["{self.group}"], resources: [{self.resource}], verbs: [{self.verb}]}}'


def _shipped(role: str) -> _Rules:
    documents = yaml.safe_load_all((REPOSITORY_ROOT / "manifests" / "base" / "rbac.yaml").read_text())
    (found,) = (each for each in documents if (each["kind"], each["metadata"]["name"]) == ("ClusterRole", role))
    rules: _Rules = found["rules"]
    return rules


def _rights(role: str) -> list[Right]:
    """Return all rights of a shipped role."""
    return [
        Right(group, resource, verb)
        for rule in _shipped(role)
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    ]


def _without(role: str, right: Right) -> _Rules:
    """Return rules that grant all that is shipped but for one right."""
    left = []
    for rule in _shipped(role):
        if right.group not in rule["apiGroups"] or right.resource not in rule["resources"]:
            left.append(rule)
            continue
        assert rule["apiGroups"] == [right.group]
        others = [each for each in rule["resources"] if each != right.resource]
        verbs = [each for each in rule["verbs"] if each != right.verb]
        left += [{**rule, "resources": others}] if others else []
        left += [{**rule, "resources": [right.resource], "verbs": verbs}] if verbs else []
    return left


@contextmanager
def _lacking(place: Namespace, right: Right, role: str = _OWN) -> Iterator[None]:
    """Let a role of the operator lack a right until the context ends."""
    _replace(place, role, _without(role, right))
    try:
        wait_until(lambda: not _may(place, right), LIMIT, f"no {right}")
        yield
    finally:
        _replace(place, role, _shipped(role))
    wait_until(lambda: _may(place, right), LIMIT, f"{right} again")


def _replace(place: Namespace, role: str, rules: _Rules) -> None:
    headers = {"Content-Type": "application/merge-patch+json"}
    assert place.api.patch(f"{_ROLES}/{role}", content=json.dumps({"rules": rules}), headers=headers).is_success


def _may(place: Namespace, right: Right) -> bool:
    attributes = {"group": right.group, "resource": right.resource, "verb": right.verb}
    spec = {"user": _ACCOUNT, "resourceAttributes": attributes}
    review = {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": spec}
    allowed: bool = place.api.post(_REVIEWS, json=review).raise_for_status().json()["status"]["allowed"]
    return allowed


@pytest.fixture(scope="module")
def running_operator(own_plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operator]:
    with operator(own_plane, tmp_path_factory.mktemp("rights-operator")) as started:
        yield started


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RegistryServer]:
    with distribution("3", tmp_path_factory.mktemp("rights-registry")) as server:
        yield server


@pytest.fixture
def place(own_plane: ControlPlane, running_operator: Operator, namespace_name: str) -> Iterator[Namespace]:
    with fresh_namespace(own_plane, namespace_name, [running_operator]) as fresh:
        yield fresh


@pytest.fixture
def tags(place: Namespace, images: RegistryServer, crane: Crane) -> Callable[[], list[str]]:
    """Push two tags that nobody uses, and return what tells those left."""
    for number, tag in enumerate(_UNUSED):
        push_image(images.url, place.name, [tag], created=days_ago(60 - number), seed=f"{place.name} {tag}")
    return lambda: crane.ls(f"{images.host}/{place.name}")


def _spec(place: Namespace, images: RegistryServer) -> dict[str, Any]:
    """Return a policy that prunes everything that is not in use in its own namespace."""
    return policy_spec(
        images.url,
        dryRun=False,
        repositories={"include": [place.name]},
        rules=[{"name": "all", "tags": {"include": [".*"]}, "olderThan": "30d"}],
        minTagsPerRepository=0,
        limits={"maxPercentPerRepository": 100},
        inUse={"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": place.name}}},
    )


def test_without_any_one_right_to_see_what_is_in_use_nothing_goes_and_the_condition_names_the_rule(
    place: Namespace, images: RegistryServer, own_plane: ControlPlane, tags: Callable[[], list[str]]
) -> None:
    assert {(right.group, right.resource) for right in _rights(_OWN)} == _OTHERS
    walked = [right for right in _rights(_LOOK) if (right.group, right.resource, right.verb) not in _CONFINED]
    assert {"imagestreams", "deploymentconfigs", "buildconfigs", "builds"} < {right.resource for right in walked}
    with openshift_kinds(own_plane):
        place.apply(_spec(place, images))
        assert last_run(place.planned())["counts"]["tagsPlanned"] == 2
        for number, right in enumerate(walked):
            with _lacking(place, right, _LOOK):
                policy = place.run(f"without-{number}")
            known = condition(policy, "InUseKnown")
            assert (known["status"], known["reason"]) == ("False", "InUseUnknown"), right
            assert right.rule in known["message"], right
            others = [other for other in walked if other != right and other.rule in known["message"]]
            assert others == [], right
            assert last_run(policy)["phase"] == "Blocked", right
            assert tags() == _UNUSED, right
        place.run("complete")
    # The first whole plan was published before, so that all of it may go.
    assert tags() == []


@pytest.mark.parametrize("verb", [right.verb for right in _rights(_OWN) if right.resource == "configmaps"])
def test_without_a_right_to_keep_the_published_plan_nothing_goes_and_the_failure_names_the_rule(
    place: Namespace, images: RegistryServer, tags: Callable[[], list[str]], verb: str
) -> None:
    right = Right("", "configmaps", verb)
    if verb != "create":
        # There is a plan to be read and replaced; what is created is the first one only.
        place.apply(_spec(place, images))
        place.planned()
    with _lacking(place, right):
        if verb == "create":
            place.apply(_spec(place, images))
            place.stalled("PlanStoreForbidden")
        policy = place.run("without")
        stalled = condition(policy, "Stalled")
        assert (stalled["status"], stalled["reason"]) == ("True", "PlanStoreForbidden")
        assert '{apiGroups: [""], resources: [configmaps], verbs: [get, create, update]}' in stalled["message"]
        assert f"cannot {verb} resource" in stalled["message"]
        assert tags() == _UNUSED
    for number in range(2):
        # The first one publishes what may go in the second.
        place.run(f"complete-{number}")
    assert tags() == []


@pytest.mark.parametrize("verb", ["get", "list"])
def test_without_a_right_to_read_policies_again_nothing_goes(
    place: Namespace, images: RegistryServer, tags: Callable[[], list[str]], verb: str
) -> None:
    right = Right("registrycleanup.dev", "registrycleanuppolicies", verb)
    place.apply(_spec(place, images))
    place.planned()
    with _lacking(place, right):
        place.request_run("without")
        policy = place.wait(
            lambda it: last_run(it)["trigger"] == "Request" and last_run(it)["phase"] != "Running", "the end of the run"
        )
        assert last_run(policy)["phase"] == "Interrupted"
        rule = "{apiGroups: [registrycleanup.dev], resources: [registrycleanuppolicies], verbs: [get, list, watch]}"
        assert rule in condition(policy, "Ready")["message"]
        assert tags() == _UNUSED
    # By itself: the request is not answered yet.
    place.handled("without")
    assert tags() == []
