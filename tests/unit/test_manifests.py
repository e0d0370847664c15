"""What `kubectl apply -k` of `manifests/` would apply: least rights, and a pod that every cluster admits."""

import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from registry_cleanup.kube.collecting.api import RIGHTS
from registry_cleanup.kube.in_use.doubt import AGGREGATION_LABEL
from registry_cleanup.kube.in_use.sources import BUILT_IN, NAMESPACES, OPENSHIFT
from registry_cleanup.kube.lease import LEASE_NAME, LEASE_RULES
from registry_cleanup.kube.plans import PLANS_RULE
from registry_cleanup.openshift.api import Right
from registry_cleanup.openshift.rights import TAGS_ROLE, Subject, explain
from registry_cleanup.settings import defaults

_ROOT = Path(__file__).parents[2]
_OPERATOR = "registry-cleanup-operator"
_LOOK = "registry-cleanup-workloads"
_HOSTS = "registry-cleanup-registry-hosts"
_IN_USE = "registry-cleanup-in-use"
_OWN_ROLES = {_OPERATOR, _LOOK, _HOSTS, _IN_USE}
_OWN_ACCOUNT = {"kind": "ServiceAccount", "name": "registry-cleanup", "namespace": "registry-cleanup-system"}
_CREDENTIALS = "registry-cleanup-credentials"
_COLLECTOR = "registry-cleanup-collector"
_LEADER = "registry-cleanup-leader"

_RuleParts = tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...], tuple[str, ...]]


# What is listed to know what is in use; pods are watched besides.
_WORKLOADS: set[_RuleParts] = {
    (("",), ("pods",), ("list", "watch"), ()),
    (("",), ("namespaces",), ("get", "list"), ()),
    (("",), ("podtemplates", "replicationcontrollers"), ("list",), ()),
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
        ("ClusterRole", _LOOK),
        ("ClusterRoleBinding", _LOOK),
        ("ClusterRole", _HOSTS),
        ("ClusterRoleBinding", _HOSTS),
        ("ClusterRole", _IN_USE),
        ("ClusterRoleBinding", _IN_USE),
        ("ClusterRole", _CREDENTIALS),
        ("ClusterRole", _COLLECTOR),
        ("Role", _LEADER),
        ("RoleBinding", _LEADER),
        ("ClusterRole", "registry-cleanup-view"),
        ("ClusterRole", "registry-cleanup-edit"),
        ("ConfigMap", "registry-cleanup-settings"),
        ("Deployment", "registry-cleanup"),
        ("NetworkPolicy", "registry-cleanup"),
        ("PodDisruptionBudget", "registry-cleanup"),
    }


def test_the_base_holds_the_crd_that_the_tests_test(resources: list[dict[str, Any]]) -> None:
    (rendered,) = _of_kind(resources, "CustomResourceDefinition")
    written = yaml.safe_load((_ROOT / "crds" / "registrycleanuppolicies.yaml").read_text())
    assert rendered["spec"] == written["spec"]


def test_the_operator_may_see_policies_and_workloads_report_keep_its_plans_and_nothing_else(
    resources: list[dict[str, Any]],
) -> None:
    bindings = _of_kind(resources, "ClusterRoleBinding")
    assert {binding["roleRef"]["name"] for binding in bindings} == _OWN_ROLES
    for binding in bindings:
        assert binding["subjects"] == [_OWN_ACCOUNT]
    assert _rules(resources, _OPERATOR) == {
        (("registrycleanup.dev",), ("registrycleanuppolicies",), ("get", "list", "watch"), ()),
        (("registrycleanup.dev",), ("registrycleanuppolicies/status",), ("get", "patch"), ()),
        (("",), ("events",), ("create",), ()),
        (("",), ("configmaps",), ("create", "get", "update"), ()),
    }
    assert _rules(resources, _LOOK) == _WORKLOADS
    assert _rules(resources, _HOSTS) == {(("config.openshift.io",), ("images",), ("get",), ("cluster",))}
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
    assert binding["subjects"] == [_OWN_ACCOUNT]
    command = sample.read_text()
    assert f"--clusterrole={_CREDENTIALS}" in command
    assert "--serviceaccount=registry-cleanup-system:registry-cleanup" in command


def test_whoever_lets_garbage_be_collected_in_a_namespace_grants_exactly_this(resources: list[dict[str, Any]]) -> None:
    assert _rules(resources, _COLLECTOR) == {
        (("apps",), ("deployments", "statefulsets"), ("get", "list", "patch"), ()),
        (("batch",), ("jobs",), ("create", "delete", "get"), ()),
        (("",), ("pods",), ("list",), ()),
    }
    bindings = _of_kind(resources, "ClusterRoleBinding") + _of_kind(resources, "RoleBinding")
    assert [binding for binding in bindings if binding["roleRef"]["name"] == _COLLECTOR] == []


def test_a_collection_needs_no_right_that_its_role_does_not_grant(resources: list[dict[str, Any]]) -> None:
    granted = {
        (verb, group, resource)
        for (group,), kinds, verbs, _ in _rules(resources, _COLLECTOR)
        for verb in verbs
        for resource in kinds
    }
    for plural in ("deployments", "statefulsets"):
        needed = {(verb, group, resource.format(workloads=plural)) for verb, group, resource in RIGHTS}
        assert needed <= granted


def test_the_sample_lets_garbage_be_collected_in_one_namespace() -> None:
    sample = _ROOT / "manifests" / "samples" / "collector-rolebinding.yaml"
    binding = yaml.safe_load(sample.read_text())
    assert binding["kind"] == "RoleBinding"
    assert (binding["roleRef"]["kind"], binding["roleRef"]["name"]) == ("ClusterRole", _COLLECTOR)
    assert binding["subjects"] == [_OWN_ACCOUNT]
    assert f"--clusterrole={_COLLECTOR}" in sample.read_text()


def test_no_role_holds_a_wildcard_or_joins_a_role_of_the_cluster(resources: list[dict[str, Any]]) -> None:
    for role in _of_kind(resources, "ClusterRole"):
        for rule in role.get("rules", []):
            assert "*" not in [*rule["apiGroups"], *rule["resources"], *rule["verbs"]], role["metadata"]["name"]
        labels = role["metadata"].get("labels", {})
        assert not [label for label in labels if label.startswith("rbac.authorization.k8s.io/aggregate")]
        # A role that gathers others gathers those of our label only.
        assert ("aggregationRule" in role) == (role["metadata"]["name"] == _IN_USE)
        # And has none of its own: they would fight with those that the cluster gathers.
        assert ("aggregationRule" in role) == ("rules" not in role)


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
    assert [set(volume) - {"name"} for volume in pod["volumes"]] == [{"emptyDir"}] * 2
    assert "hostPort" not in container["ports"][0]


def test_one_of_two_replicas_is_left_whatever_is_rolled_out(resources: list[dict[str, Any]]) -> None:
    (deployment,) = _of_kind(resources, "Deployment")
    assert deployment["spec"]["replicas"] == 2
    assert deployment["spec"]["strategy"] == {
        "type": "RollingUpdate",
        "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1},
    }


def test_the_operator_may_hold_its_own_lease_and_no_other(resources: list[dict[str, Any]]) -> None:
    (role,) = _of_kind(resources, "Role")
    (binding,) = _of_kind(resources, "RoleBinding")
    for each in (role, binding):
        assert (each["metadata"]["name"], each["metadata"]["namespace"]) == (_LEADER, "registry-cleanup-system")
    assert binding["roleRef"]["name"] == _LEADER
    assert [subject["name"] for subject in binding["subjects"]] == ["registry-cleanup"]
    assert set(_each_rule(role)) == {
        (("coordination.k8s.io",), ("leases",), ("create",), ()),
        (("coordination.k8s.io",), ("leases",), ("get", "update"), (LEASE_NAME,)),
    }
    assert role["rules"] == [yaml.safe_load(rule) for rule in LEASE_RULES]


def test_each_pod_has_a_name_of_its_own_in_the_lease_of_its_own_namespace(container: dict[str, Any]) -> None:
    env = {each["name"]: each.get("value") or each["valueFrom"]["fieldRef"]["fieldPath"] for each in container["env"]}
    assert env["REGISTRY_CLEANUP_IDENTITY"] == "metadata.name"
    assert env["REGISTRY_CLEANUP_SERVICE_ACCOUNT"] == "$(POD_NAMESPACE):$(POD_SERVICE_ACCOUNT)"
    assert (env["POD_NAMESPACE"], env["POD_SERVICE_ACCOUNT"]) == ("metadata.namespace", "spec.serviceAccountName")


def test_a_pod_is_ready_when_it_could_work(container: dict[str, Any]) -> None:
    probe = container["readinessProbe"]["httpGet"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert (ports[probe["port"]], probe["path"]) == (8080, "/readyz")


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
        "requests": {"cpu": "50m", "memory": "160Mi"},
        "limits": {"memory": "512Mi"},
    }
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    probe = container["livenessProbe"]["httpGet"]
    assert (ports[probe["port"]], probe["path"]) == (8080, "/healthz")
    assert {"name": "tmp", "mountPath": "/tmp"} in container["volumeMounts"]  # noqa: S108 - of the container


def test_the_cache_of_facts_has_a_volume_of_its_own_with_room_for_its_journal(
    pod: dict[str, Any], container: dict[str, Any]
) -> None:
    (folder,) = [each["value"] for each in container["env"] if each["name"] == "REGISTRY_CLEANUP_CACHE_DIR"]
    (mount,) = [each for each in container["volumeMounts"] if each["mountPath"] == folder]
    (volume,) = [each for each in pod["volumes"] if each["name"] == mount["name"]]
    limit = int(volume["emptyDir"]["sizeLimit"].removesuffix("Mi"))
    assert limit == int(defaults()["cache_mib"] or 0) * 3 // 2


def test_the_operator_is_reached_at_its_health_port_only_and_reaches_what_policies_name(
    resources: list[dict[str, Any]], container: dict[str, Any]
) -> None:
    (policy,) = _of_kind(resources, "NetworkPolicy")
    # No `Egress`: registries are wherever policies say.
    assert policy["spec"]["policyTypes"] == ["Ingress"]
    (rule,) = policy["spec"]["ingress"]
    assert [port["port"] for port in rule["ports"]] == [port["name"] for port in container["ports"]]
    assert "from" not in rule


def test_a_drained_node_takes_one_operator_at_a_time_and_never_waits_for_a_broken_one(
    resources: list[dict[str, Any]],
) -> None:
    (budget,) = _of_kind(resources, "PodDisruptionBudget")
    assert budget["spec"]["maxUnavailable"] == 1
    assert "minAvailable" not in budget["spec"]
    assert budget["spec"]["unhealthyPodEvictionPolicy"] == "AlwaysAllow"


def test_network_policy_budget_and_spread_select_the_operators_pods(
    resources: list[dict[str, Any]], pod: dict[str, Any]
) -> None:
    (deployment,) = _of_kind(resources, "Deployment")
    selector = deployment["spec"]["selector"]
    (policy,), (budget,) = _of_kind(resources, "NetworkPolicy"), _of_kind(resources, "PodDisruptionBudget")
    assert policy["spec"]["podSelector"] == budget["spec"]["selector"] == selector
    (spread,) = pod["topologySpreadConstraints"]
    assert spread["labelSelector"] == selector
    # A cluster of one node runs all replicas there.
    assert spread["whenUnsatisfiable"] == "ScheduleAnyway"


def test_settings_come_from_a_config_map_that_need_not_exist(container: dict[str, Any]) -> None:
    assert container["envFrom"] == [{"configMapRef": {"name": "registry-cleanup-settings", "optional": True}}]


def test_messages_name_the_service_account_of_the_namespace_that_the_operator_runs_in(
    container: dict[str, Any],
) -> None:
    variables = {each["name"]: each for each in container["env"]}
    fields = {
        name: each["valueFrom"]["fieldRef"]["fieldPath"] for name, each in variables.items() if "valueFrom" in each
    }
    assert (fields["POD_NAMESPACE"], fields["POD_SERVICE_ACCOUNT"]) == ("metadata.namespace", "spec.serviceAccountName")
    told = "REGISTRY_CLEANUP_SERVICE_ACCOUNT"
    assert variables[told]["value"] == "$(POD_NAMESPACE):$(POD_SERVICE_ACCOUNT)"
    # A variable is only put in where it was defined before.
    assert list(variables)[-1] == told


# OpenShift


def test_on_openshift_there_are_the_base_and_five_cluster_roles(
    resources: list[dict[str, Any]], openshift: list[dict[str, Any]]
) -> None:
    assert [resource for resource in resources if resource not in openshift] == []
    assert {(each["kind"], each["metadata"]["name"]) for each in openshift if each not in resources} == {
        ("ClusterRole", "registry-cleanup-image-tags"),
        ("ClusterRole", "registry-cleanup-image-status"),
        ("ClusterRole", "registry-cleanup-images"),
        ("ClusterRole", "registry-cleanup-image-undo"),
        ("ClusterRole", "registry-cleanup-image-look"),
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
    # Apart, since with the first in the whole cluster a policy could set any tag of any namespace.
    assert _rules(openshift, "registry-cleanup-image-undo") == {(images, ("imagestreammappings",), ("create",), ())}
    assert _rules(openshift, "registry-cleanup-image-look") == {(images, ("images",), ("get",), ())}


def test_the_least_role_is_the_one_that_the_operator_tells_people_to_grant(openshift: list[dict[str, Any]]) -> None:
    assert _rules(openshift, TAGS_ROLE)
    account = "team:pruner"
    told = explain([Right("delete", "imagestreamtags", "apps")], Subject.service_account(account))
    assert f"--clusterrole={TAGS_ROLE} --serviceaccount={account} -n apps" in told


def test_on_openshift_nothing_more_is_bound_and_the_operators_rights_do_not_grow(
    resources: list[dict[str, Any]], openshift: list[dict[str, Any]]
) -> None:
    for kind in ("ClusterRoleBinding", "RoleBinding"):
        assert _of_kind(openshift, kind) == _of_kind(resources, kind)
    for role in _OWN_ROLES:
        assert _rules(openshift, role) == _rules(resources, role)
    # Every call that changes image streams carries the policy's credential.
    rules = [rule for role in _OWN_ROLES for rule in _rules(openshift, role)]
    streams = [rule for rule in rules if "image.openshift.io" in rule[0]]
    assert streams == [(("image.openshift.io",), ("imagestreams",), ("list",), ())]


def test_no_role_for_openshift_holds_a_wildcard_or_joins_a_role_of_the_cluster(
    openshift: list[dict[str, Any]],
) -> None:
    # An aggregated role would hand its rights to everybody who may edit in a namespace.
    test_no_role_holds_a_wildcard_or_joins_a_role_of_the_cluster(openshift)


def test_the_image_pruner_may_be_read_and_its_jobs_made_and_seen_and_nothing_else(
    openshift: list[dict[str, Any]],
) -> None:
    pruner = _rendered("openshift-image-pruner")
    assert [(each["kind"], each["metadata"]["name"], each["metadata"]["namespace"]) for each in pruner] == [
        ("Role", "registry-cleanup-image-pruner", "openshift-image-registry"),
        ("RoleBinding", "registry-cleanup-image-pruner", "openshift-image-registry"),
    ]
    role, binding = pruner
    assert role["rules"] == [
        {"apiGroups": ["batch"], "resources": ["cronjobs"], "resourceNames": ["image-pruner"], "verbs": ["get"]},
        {"apiGroups": ["batch"], "resources": ["jobs"], "verbs": ["create", "get", "list"]},
    ]
    # The operator's account, and never that of a policy.
    assert binding["subjects"] == _of_kind(openshift, "RoleBinding")[0]["subjects"]


# Settings


def test_the_settings_come_from_a_config_map_that_need_not_be_there(container: dict[str, Any]) -> None:
    assert container["envFrom"] == [{"configMapRef": {"name": "registry-cleanup-settings", "optional": True}}]


# Confined to namespaces


@pytest.fixture(scope="module")
def namespaced() -> list[dict[str, Any]]:
    return _rendered("namespaced")


def test_a_confined_operator_has_the_same_roles_and_no_right_in_the_whole_cluster(
    resources: list[dict[str, Any]], namespaced: list[dict[str, Any]]
) -> None:
    assert _of_kind(namespaced, "ClusterRole") == _of_kind(resources, "ClusterRole")
    assert _of_kind(namespaced, "ClusterRoleBinding") == []
    bound = {
        (each["metadata"]["namespace"], each["roleRef"]["kind"], each["roleRef"]["name"])
        for each in _of_kind(namespaced, "RoleBinding")
    }
    # The host names of OpenShift's registry are the cluster's.
    in_teams = {(name, "ClusterRole", role) for name in ("team-a", "team-b") for role in _OWN_ROLES - {_HOSTS}}
    assert bound == in_teams | {("registry-cleanup-system", "Role", "registry-cleanup-leader")}
    for binding in _of_kind(namespaced, "RoleBinding"):
        assert binding["subjects"] == [_OWN_ACCOUNT]


def test_a_confined_operator_sees_the_namespaces_that_its_bindings_are_in(namespaced: list[dict[str, Any]]) -> None:
    (settings,) = _of_kind(namespaced, "ConfigMap")
    named = set(settings["data"]["REGISTRY_CLEANUP_NAMESPACES"].split(","))
    bound = {each["metadata"]["namespace"] for each in _of_kind(namespaced, "RoleBinding")}
    assert named == bound - {"registry-cleanup-system"}
    # To look at these only is safe only where no other namespace uses the registries: nobody gets that unasked.
    assert set(settings["data"]) == {"REGISTRY_CLEANUP_NAMESPACES"}


# Approval


@pytest.fixture(scope="module")
def approval() -> list[dict[str, Any]]:
    return _rendered("approval")


def test_the_approval_overlay_holds_a_role_and_an_admission_policy_that_fails_closed(
    approval: list[dict[str, Any]],
) -> None:
    assert [(each["kind"], each["metadata"]["name"]) for each in approval] == [
        ("ClusterRole", "registry-cleanup-approve"),
        ("ValidatingAdmissionPolicy", "registry-cleanup-approve"),
        ("ValidatingAdmissionPolicyBinding", "registry-cleanup-approve"),
    ]
    (policy,), (binding,) = (_of_kind(approval, f"ValidatingAdmissionPolicy{end}") for end in ("", "Binding"))
    assert policy["spec"]["failurePolicy"] == "Fail"
    # The status, which the operator writes, is another resource.
    (rule,) = policy["spec"]["matchConstraints"]["resourceRules"]
    assert rule["resources"] == ["registrycleanuppolicies"]
    assert binding["spec"]["validationActions"] == ["Deny"]


def test_only_the_role_for_it_holds_the_verb_approve(
    resources: list[dict[str, Any]], approval: list[dict[str, Any]]
) -> None:
    holders = [
        role["metadata"]["name"]
        for role in _of_kind([*resources, *approval], "ClusterRole")
        if any("approve" in rule["verbs"] for rule in role.get("rules", []))
    ]
    assert holders == ["registry-cleanup-approve"]


@pytest.mark.parametrize("folder", ["base", "openshift", "namespaced", "approval", "samples"])
def test_no_right_on_policies_becomes_part_of_the_clusters_own_edit_or_admin(folder: str) -> None:
    path = _ROOT / "manifests" / folder
    whole = _rendered(folder) if (path / "kustomization.yaml").exists() else _read(path)
    roles = _of_kind(whole, "ClusterRole")
    assert roles
    for role in roles:
        labels = role["metadata"].get("labels", {})
        assert [label for label in labels if label.startswith("rbac.authorization.k8s.io/")] == []


def _read(folder: Path) -> list[dict[str, Any]]:
    return [each for file in sorted(folder.glob("*.yaml")) for each in yaml.safe_load_all(file.read_text())]


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
    for rule in role.get("rules", []):
        groups, kinds, verbs, names = (
            tuple(sorted(rule.get(part, []))) for part in ("apiGroups", "resources", "verbs", "resourceNames")
        )
        yield groups, kinds, verbs, names
