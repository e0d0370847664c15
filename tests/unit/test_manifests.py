"""What `kubectl apply -k` of `manifests/` would apply: least rights, and a pod that every cluster admits."""

import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from registry_cleanup.kube.in_use.doubt import AGGREGATION_LABEL
from registry_cleanup.kube.in_use.sources import BUILT_IN, NAMESPACES, OPENSHIFT
from registry_cleanup.kube.plans import PLANS_RULE
from registry_cleanup.openshift.api import Right
from registry_cleanup.openshift.rights import TAGS_ROLE, explain

_ROOT = Path(__file__).parents[2]
_OPERATOR = "registry-cleanup-operator"
_IN_USE = "registry-cleanup-in-use"
_CREDENTIALS = "registry-cleanup-credentials"

_RuleParts = tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...], tuple[str, ...]]


# What is listed to know what is in use; pods are watched besides.
_WORKLOADS: set[_RuleParts] = {
    (("",), ("pods",), ("list", "watch"), ()),
    (("",), ("namespaces", "podtemplates", "replicationcontrollers"), ("list",), ()),
    (("apps",), ("controllerrevisions", "daemonsets", "deployments", "replicasets", "statefulsets"), ("list",), ()),
    (("batch",), ("cronjobs", "jobs"), ("list",), ()),
    (("image.openshift.io",), ("imagestreams",), ("list",), ()),
    (("apps.openshift.io",), ("deploymentconfigs",), ("list",), ()),
    (("build.openshift.io",), ("buildconfigs", "builds"), ("list",), ()),
}


@pytest.fixture(scope="module")
def resources() -> list[dict[str, Any]]:
    return _rendered("base")


@pytest.fixture(scope="module")
def openshift() -> list[dict[str, Any]]:
    return _rendered("openshift")


@pytest.fixture(scope="module")
def pod(resources: list[dict[str, Any]]) -> dict[str, Any]:
    (deployment,) = _of_kind(resources, "Deployment")
    spec: dict[str, Any] = deployment["spec"]["template"]["spec"]
    return spec


@pytest.fixture(scope="module")
def container(pod: dict[str, Any]) -> dict[str, Any]:
    (only,) = pod["containers"]
    spec: dict[str, Any] = only
    return spec


def test_the_base_holds_these_resources_and_no_others(resources: list[dict[str, Any]]) -> None:
    assert {(resource["kind"], resource["metadata"]["name"]) for resource in resources} == {
        ("CustomResourceDefinition", "registrycleanuppolicies.registrycleanup.dev"),
        ("Namespace", "registry-cleanup-system"),
        ("ServiceAccount", "registry-cleanup"),
        ("ClusterRole", _OPERATOR),
        ("ClusterRoleBinding", _OPERATOR),
        ("ClusterRole", _IN_USE),
        ("ClusterRoleBinding", _IN_USE),
        ("ClusterRole", _CREDENTIALS),
        ("ClusterRole", "registry-cleanup-view"),
        ("ClusterRole", "registry-cleanup-edit"),
        ("Deployment", "registry-cleanup"),
    }


def test_the_base_holds_the_crd_that_the_tests_test(resources: list[dict[str, Any]]) -> None:
    (rendered,) = _of_kind(resources, "CustomResourceDefinition")
    written = yaml.safe_load((_ROOT / "crds" / "registrycleanuppolicies.yaml").read_text())
    assert rendered["spec"] == written["spec"]


def test_the_operator_may_see_policies_and_workloads_report_keep_its_plans_and_nothing_else(
    resources: list[dict[str, Any]],
) -> None:
    bindings = _of_kind(resources, "ClusterRoleBinding")
    assert {binding["roleRef"]["name"] for binding in bindings} == {_OPERATOR, _IN_USE}
    for binding in bindings:
        assert binding["subjects"] == [
            {"kind": "ServiceAccount", "name": "registry-cleanup", "namespace": "registry-cleanup-system"}
        ]
    assert _rules(resources, _OPERATOR) == {
        (("registrycleanup.dev",), ("registrycleanuppolicies",), ("get", "list", "watch"), ()),
        (("registrycleanup.dev",), ("registrycleanuppolicies/status",), ("get", "patch"), ()),
        (("",), ("events",), ("create",), ()),
        (("",), ("configmaps",), ("create", "get", "update"), ()),
        (("config.openshift.io",), ("images",), ("get",), ("cluster",)),
        *_WORKLOADS,
    }
    assert _rules(resources, _IN_USE) == set()


def test_the_operator_may_list_every_kind_that_a_look_reads_and_no_other() -> None:
    granted = {(group, kind) for (group,), kinds, _, _ in _WORKLOADS for kind in kinds}
    read = [NAMESPACES, *(source.kind for source in [*BUILT_IN, *OPENSHIFT])]
    assert granted == {(kind.group, kind.plural) for kind in read}


def test_more_kinds_that_name_images_are_granted_by_roles_with_a_label(resources: list[dict[str, Any]]) -> None:
    (role,) = [each for each in _of_kind(resources, "ClusterRole") if each["metadata"]["name"] == _IN_USE]
    assert role["aggregationRule"] == {"clusterRoleSelectors": [{"matchLabels": {AGGREGATION_LABEL: "true"}}]}
    sample = yaml.safe_load((_ROOT / "manifests" / "samples" / "in-use-clusterrole.yaml").read_text())
    assert sample["metadata"]["labels"] == {AGGREGATION_LABEL: "true"}
    assert [rule["verbs"] for rule in sample["rules"]] == [["list"]]


def test_what_the_operator_tells_people_to_grant_for_plans_is_what_the_base_grants(
    resources: list[dict[str, Any]],
) -> None:
    told = yaml.safe_load(PLANS_RULE)
    assert (
        told
        in next(role for role in _of_kind(resources, "ClusterRole") if role["metadata"]["name"] == _OPERATOR)["rules"]
    )


def test_secrets_and_service_account_tokens_are_granted_by_a_namespace_only(
    resources: list[dict[str, Any]],
) -> None:
    assert _rules(resources, _CREDENTIALS) == {
        (("",), ("secrets",), ("get",), ()),
        (("",), ("serviceaccounts/token",), ("create",), ()),
    }
    bindings = _of_kind(resources, "ClusterRoleBinding") + _of_kind(resources, "RoleBinding")
    assert [binding for binding in bindings if binding["roleRef"]["name"] == _CREDENTIALS] == []


def test_the_sample_grants_the_credentials_of_one_namespace_to_the_operator() -> None:
    sample = _ROOT / "manifests" / "samples" / "credentials-rolebinding.yaml"
    binding = yaml.safe_load(sample.read_text())
    assert binding["kind"] == "RoleBinding"
    assert (binding["roleRef"]["kind"], binding["roleRef"]["name"]) == ("ClusterRole", _CREDENTIALS)
    assert binding["subjects"] == [
        {"kind": "ServiceAccount", "name": "registry-cleanup", "namespace": "registry-cleanup-system"}
    ]
    command = sample.read_text()
    assert f"--clusterrole={_CREDENTIALS}" in command
    assert "--serviceaccount=registry-cleanup-system:registry-cleanup" in command


def test_no_role_holds_a_wildcard_or_joins_a_role_of_the_cluster(resources: list[dict[str, Any]]) -> None:
    for role in _of_kind(resources, "ClusterRole"):
        for rule in role["rules"]:
            assert "*" not in [*rule["apiGroups"], *rule["resources"], *rule["verbs"]], role["metadata"]["name"]
        labels = role["metadata"].get("labels", {})
        assert not [label for label in labels if label.startswith("rbac.authorization.k8s.io/aggregate")]
        # A role that gathers others gathers those of our label only.
        assert ("aggregationRule" in role) == (role["metadata"]["name"] == _IN_USE)


def test_the_namespace_enforces_the_restricted_standard(resources: list[dict[str, Any]]) -> None:
    (namespace,) = _of_kind(resources, "Namespace")
    labels = namespace["metadata"]["labels"]
    for mode in ("enforce", "audit", "warn"):
        assert labels[f"pod-security.kubernetes.io/{mode}"] == "restricted"


def test_the_pod_meets_the_restricted_standard_with_whatever_user_the_cluster_assigns(
    pod: dict[str, Any], container: dict[str, Any]
) -> None:
    assert pod["securityContext"] == {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert not {"hostNetwork", "hostPID", "hostIPC", "initContainers"} & pod.keys()
    assert [set(volume) - {"name"} for volume in pod["volumes"]] == [{"emptyDir"}]
    assert "hostPort" not in container["ports"][0]


def test_two_operators_never_run_at_once(resources: list[dict[str, Any]]) -> None:
    (deployment,) = _of_kind(resources, "Deployment")
    assert deployment["spec"]["replicas"] == 1
    assert deployment["spec"]["strategy"] == {"type": "Recreate"}


def test_the_deployment_selects_its_own_pods(resources: list[dict[str, Any]]) -> None:
    (deployment,) = _of_kind(resources, "Deployment")
    selector = deployment["spec"]["selector"]["matchLabels"]
    assert selector
    assert selector.items() <= deployment["spec"]["template"]["metadata"]["labels"].items()


def test_the_pod_runs_the_operator_within_bounds_and_is_restarted_when_it_hangs(
    pod: dict[str, Any], container: dict[str, Any]
) -> None:
    assert pod["serviceAccountName"] == "registry-cleanup"
    assert pod["automountServiceAccountToken"] is True
    assert pod["terminationGracePeriodSeconds"] == 60
    assert container["args"] == ["operator"]
    assert container["resources"] == {
        "requests": {"cpu": "50m", "memory": "128Mi"},
        "limits": {"memory": "512Mi"},
    }
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    probe = container["livenessProbe"]["httpGet"]
    assert (ports[probe["port"]], probe["path"]) == (8080, "/healthz")
    assert {"name": "tmp", "mountPath": "/tmp"} in container["volumeMounts"]  # noqa: S108 - of the container


# OpenShift


def test_on_openshift_there_are_the_base_and_three_cluster_roles(
    resources: list[dict[str, Any]], openshift: list[dict[str, Any]]
) -> None:
    assert [resource for resource in resources if resource not in openshift] == []
    assert {(each["kind"], each["metadata"]["name"]) for each in openshift if each not in resources} == {
        ("ClusterRole", "registry-cleanup-image-tags"),
        ("ClusterRole", "registry-cleanup-image-status"),
        ("ClusterRole", "registry-cleanup-images"),
    }


def test_a_policy_may_be_granted_exactly_these_rights_on_image_streams(openshift: list[dict[str, Any]]) -> None:
    images = ("image.openshift.io",)
    assert _rules(openshift, "registry-cleanup-image-tags") == {
        (images, ("imagestreams",), ("get", "list"), ()),
        (images, ("imagestreamtags",), ("delete", "get"), ()),
        (images, ("imagestreamimages",), ("get",), ()),
    }
    assert _rules(openshift, "registry-cleanup-image-status") == {(images, ("imagestreams/status",), ("update",), ())}
    assert _rules(openshift, "registry-cleanup-images") == {
        (images, ("images",), ("delete", "get"), ()),
        (images, ("imagestreams",), ("list",), ()),
        (("imageregistry.operator.openshift.io",), ("imagepruners",), ("get",), ()),
    }


def test_the_least_role_is_the_one_that_the_operator_tells_people_to_grant(openshift: list[dict[str, Any]]) -> None:
    assert _rules(openshift, TAGS_ROLE)
    account = "team:pruner"
    told = explain([Right("delete", "imagestreamtags", "apps")], account)
    assert f"--clusterrole={TAGS_ROLE} --serviceaccount={account} -n apps" in told


def test_on_openshift_nothing_more_is_bound_and_the_operators_rights_do_not_grow(
    resources: list[dict[str, Any]], openshift: list[dict[str, Any]]
) -> None:
    for kind in ("ClusterRoleBinding", "RoleBinding"):
        assert _of_kind(openshift, kind) == _of_kind(resources, kind)
    assert _rules(openshift, _OPERATOR) == _rules(resources, _OPERATOR)
    # Every call that changes image streams carries the policy's credential.
    streams = [rule for rule in _rules(openshift, _OPERATOR) if "image.openshift.io" in rule[0]]
    assert streams == [(("image.openshift.io",), ("imagestreams",), ("list",), ())]


def test_no_role_for_openshift_holds_a_wildcard_or_joins_a_role_of_the_cluster(
    openshift: list[dict[str, Any]],
) -> None:
    # An aggregated role would hand its rights to everybody who may edit in a namespace.
    test_no_role_holds_a_wildcard_or_joins_a_role_of_the_cluster(openshift)


def _rendered(folder: str) -> list[dict[str, Any]]:
    kubectl = Path(sys.executable).parent / "kubectl"
    done = subprocess.run(
        [kubectl, "kustomize", _ROOT / "manifests" / folder], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


def _of_kind(resources: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [resource for resource in resources if resource["kind"] == kind]


def _rules(resources: list[dict[str, Any]], role: str) -> set[_RuleParts]:
    (found,) = [each for each in _of_kind(resources, "ClusterRole") if each["metadata"]["name"] == role]
    return set(_each_rule(found))


def _each_rule(role: Mapping[str, Any]) -> Iterator[_RuleParts]:
    """Yield groups, resources, verbs and names of each rule."""
    for rule in role["rules"]:
        groups, kinds, verbs, names = (
            tuple(sorted(rule.get(part, []))) for part in ("apiGroups", "resources", "verbs", "resourceNames")
        )
        yield groups, kinds, verbs, names
