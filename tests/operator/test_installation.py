"""Installing, upgrading and uninstalling on a real API server with a garbage collector, in whatever order."""

import copy
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.support.chart import CHART
from tests.support.controlplane import ControlPlane, KubectlError, control_plane
from tests.support.helm import RELEASE, Helm, HelmError
from tests.support.manifests import MANIFESTS, of_kind, rendered
from tests.support.operator import NAMESPACE, REPOSITORY_ROOT, Operator, install, operator
from tests.support.policies import Namespace, fresh_namespace, policy_spec, push_builds
from tests.support.processes import wait_until
from tests.support.registries import RegistryServer

_CRD = "registrycleanuppolicies.registrycleanup.dev"
_CRD_FILE = REPOSITORY_ROOT / "crds" / "registrycleanuppolicies.yaml"
_SAMPLES = sorted((REPOSITORY_ROOT / "crds" / "samples").glob("*.yaml"))
# The garbage collector looks for new kinds every 30 seconds.
_COLLECTED_LIMIT = 90.0

_PROMETHEUS_GROUP = "monitoring.coreos.com"
_PROMETHEUS_KINDS = ("ServiceMonitor", "PrometheusRule")
# What a release may hold, but for the CRD, which stays.
_KINDS = (
    "deployments",
    "configmaps",
    "networkpolicies",
    "poddisruptionbudgets",
    "serviceaccounts",
    "roles",
    "rolebindings",
    "clusterroles",
    "clusterrolebindings",
    "validatingadmissionpolicies",
    "validatingadmissionpolicybindings",
    "services",
    *(f"{kind.lower()}s.{_PROMETHEUS_GROUP}" for kind in _PROMETHEUS_KINDS),
)

_Object = dict[str, Any]


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """Run a control plane in which nothing of ours is installed, with controllers that end what was deleted.

    It knows the Prometheus Operator's kinds, though not what may stand in them.
    """
    with control_plane(tmp_path_factory.mktemp("bare-plane"), controller_manager=True) as running:
        for kind in _PROMETHEUS_KINDS:
            running.kubectl("apply", "-f", "-", stdin=json.dumps(_permissive_crd(kind)))
        running.wait_for_crds(*(f"{kind.lower()}s.{_PROMETHEUS_GROUP}" for kind in _PROMETHEUS_KINDS))
        yield running


@pytest.fixture
def empty(bare: ControlPlane) -> Iterator[ControlPlane]:
    """Return that control plane; in the end take away what a test has left.

    The namespace stays: its end takes five seconds, and nothing in it.
    """
    yield bare
    folders = ("openshift", "namespaced", "samples/overlay", "approval", "monitoring")
    everything = [each for folder in folders for each in rendered(folder) if each["kind"] != "Namespace"]
    bare.kubectl("delete", "--ignore-not-found", "--timeout=60s", "-f", "-", stdin=yaml.safe_dump_all(everything))


@pytest.fixture
def helm(empty: ControlPlane, tmp_path: Path) -> Iterator[Helm]:
    """Return Helm for that control plane; in the end take the release away."""
    own = Helm(tmp_path / "helm", empty.admin_kubeconfig)
    yield own
    own.run("uninstall", RELEASE, "--namespace", NAMESPACE, "--ignore-not-found")


# Installing


def test_kubectl_installs_it_and_a_second_time_changes_nothing(empty: ControlPlane) -> None:
    for team in ("team-a", "team-b"):
        empty.kubectl("create", "namespace", team)
    for folder in ("base", "openshift", "samples/overlay", "namespaced", "approval", "monitoring"):
        apply = ("apply", "-k", str(MANIFESTS / folder))
        empty.kubectl(*apply)

        again = empty.kubectl(*apply).splitlines()

        assert len(again) == len(rendered(folder))
        changed = [line for line in again if not line.endswith(" unchanged")]
        # kubectl always replaces the selector of a budget, be it by the same.
        assert [line for line in changed if not line.startswith("poddisruptionbudget.policy/")] == []


def test_the_deployment_makes_pods_where_the_restricted_standard_is_enforced(empty: ControlPlane) -> None:
    install(empty)

    # The ReplicaSet's controller makes them, as in any cluster; a pod that violates the standard would never appear.
    def pods() -> list[_Object]:
        found: list[_Object] = json.loads(empty.kubectl("get", "pods", "-n", NAMESPACE, "-o", "json"))["items"]
        return found

    wanted = json.loads(empty.kubectl("get", "deployment", "registry-cleanup", "-n", NAMESPACE, "-o", "json"))
    wait_until(lambda: len(pods()) == wanted["spec"]["replicas"], 30, "the operator's pods")
    assert _enforced(empty, NAMESPACE) == "restricted"
    root = copy.deepcopy(wanted["spec"]["template"]["spec"])
    root["securityContext"]["runAsNonRoot"] = False
    with pytest.raises(KubectlError, match="violates PodSecurity"):
        _try_pod(empty, root)


def test_openshifts_restricted_v2_may_assign_user_group_and_level(empty: ControlPlane) -> None:
    install(empty)
    (deployment,) = of_kind(rendered("openshift"), "Deployment")
    pod: _Object = deployment["spec"]["template"]["spec"]
    # What it refuses to admit unless it may choose it itself.
    for context in (pod["securityContext"], *(each["securityContext"] for each in pod["containers"])):
        assert not context.keys() & {"runAsUser", "runAsGroup", "fsGroup", "supplementalGroups", "seLinuxOptions"}
    assigned = {"fsGroup": 1000650000, "seLinuxOptions": {"level": "s0:c26,c5"}}
    (container,) = pod["containers"]

    admitted = _try_pod(
        empty,
        {
            **pod,
            "securityContext": {**pod["securityContext"], **assigned},
            "containers": [{**container, "securityContext": {**container["securityContext"], "runAsUser": 1000650000}}],
        },
    )

    assert admitted["spec"]["securityContext"]["fsGroup"] == 1000650000


# Helm


def test_helm_installs_upgrades_and_uninstalls_it_and_policies_stay(helm: Helm, empty: ControlPlane) -> None:
    _helm_install(helm)
    installed = _deployment(empty)
    empty.kubectl("apply", "-f", str(MANIFESTS / "samples" / "in-use-clusterrole.yaml"))
    wait_until(lambda: "knative" in _gathered_rules(empty), 30, "kube-controller-manager to gather the rules")
    with fresh_namespace(empty, "helm", []) as namespace:
        uid = namespace.apply(policy_spec("https://registry.example.com"))
        _helm_upgrade(helm)
        assert _deployment(empty)["metadata"]["generation"] == installed["metadata"]["generation"]

        values = {
            "settings": {"REGISTRY_CLEANUP_CONCURRENT_RUNS": 8},
            "namespaces": [namespace.name],
            "openshift": {"roles": True},
            "approval": {"enabled": True},
            "monitoring": {"enabled": True},
        }
        _helm_upgrade(helm, values)

        upgraded = _deployment(empty)
        assert upgraded["metadata"]["uid"] == installed["metadata"]["uid"]
        assert upgraded["spec"]["template"] != installed["spec"]["template"]
        settings = empty.kubectl(
            "get", "configmap", "registry-cleanup-settings", "-n", NAMESPACE, "-o=jsonpath={.data}"
        )
        assert json.loads(settings) == {
            "REGISTRY_CLEANUP_CONCURRENT_RUNS": "8",
            "REGISTRY_CLEANUP_NAMESPACES": namespace.name,
        }
        # The rights in the whole cluster went with that.
        assert _ours(empty, "clusterrolebindings") == []
        assert len(_ours(empty, "rolebindings")) == 4
        assert "knative" in _gathered_rules(empty)

        helm.run("uninstall", RELEASE, "--namespace", NAMESPACE)

        assert namespace.policy()["metadata"]["uid"] == uid
        assert _ours(empty, *_KINDS) == []

        _helm_install(helm)
        assert namespace.policy()["metadata"]["uid"] == uid


def test_helm_takes_over_what_kubectl_installed_when_told_to(helm: Helm, empty: ControlPlane) -> None:
    install(empty)
    before = _deployment(empty)
    with pytest.raises(HelmError, match="invalid ownership metadata"):
        _helm_install(helm)

    _helm_install(helm, "--take-ownership", "--force-conflicts")

    assert _deployment(empty)["metadata"]["uid"] == before["metadata"]["uid"]


# Upgrading the CRD


@pytest.mark.parametrize("tool", ["kubectl", "helm"])
def test_policies_outlive_an_upgrade_of_the_crd(empty: ControlPlane, tmp_path: Path, helm: Helm, tool: str) -> None:
    chart = tmp_path / "chart"
    older = _older_crd()
    if tool == "kubectl":
        empty.kubectl("apply", "-f", "-", stdin=json.dumps(older))
        empty.wait_for_crds(_CRD)
    else:
        # The chart of an earlier version.
        chart.mkdir()
        for file in (path for path in CHART.rglob("*") if path.is_file()):
            (chart / file.relative_to(CHART)).parent.mkdir(parents=True, exist_ok=True)
            (chart / file.relative_to(CHART)).write_bytes(file.read_bytes())
        (chart / "files" / _CRD_FILE.name).write_text(yaml.safe_dump(older))
        _helm_install(helm, chart=chart)
    assert _crd(empty)["spec"] != _present_crd(empty)["spec"]

    with fresh_namespace(empty, f"upgrade-{tool}", []) as namespace:
        for sample in _SAMPLES:
            empty.kubectl("apply", "-f", str(sample), "-n", namespace.name)
        names = [policy["metadata"]["name"] for policy in namespace.policies()]
        namespace.write_status({"lastHandledRunRequest": "1", "observedGeneration": 1}, names[0])
        before = namespace.policies()
        assert len(before) == len(_SAMPLES)

        if tool == "kubectl":
            install(empty)
        else:
            _helm_upgrade(helm)

        assert _crd(empty)["spec"] == _present_crd(empty)["spec"]
        # UID, generation, spec, status and annotations alike: nothing was written.
        assert _policies_after_upgrade(namespace) == [_but_defaults(policy) for policy in before]


# Uninstalling


@dataclass
class _Installation:
    """An installation with a policy that has published a plan.

    Attributes:
        plane: Where it is.
        team: The policy's namespace.
        running: The operator, if it runs.
    """

    plane: ControlPlane
    team: Namespace
    running: Operator | None

    def policies(self) -> None:
        """Delete every policy, as an administrator of its namespace would."""
        self.plane.kubectl("delete", "rcp", "--all", "-n", self.team.name, "--timeout=30s")
        self._collected()

    def crd(self) -> None:
        """Delete the CRD, and with it all policies."""
        self.plane.kubectl("delete", "crd", _CRD, "--timeout=30s")
        self._collected()

    def namespace(self) -> None:
        """Delete the policy's namespace."""
        self.plane.kubectl("delete", "namespace", self.team.name, "--timeout=60s")

    def operator(self) -> None:
        """Delete everything but the CRD, and let the operator's process end as its pod would."""
        for each in reversed(rendered("base")):
            if each["kind"] != "CustomResourceDefinition":
                name = (each["kind"], each["metadata"]["name"])
                space = ("-n", each["metadata"].get("namespace", "default"))
                self.plane.kubectl("delete", *name, *space, "--ignore-not-found", "--timeout=60s")
        if self.running is not None:
            # Without a CRD it has ended by itself, with an error; what counts is that nothing had to kill it.
            assert self.running.process.stop(30) in (0, 1)
            self.running = None

    def _collected(self) -> None:
        """Wait until the plan and report of the policy are gone with it."""
        wait_until(lambda: self.team.config_maps() == {}, _COLLECTED_LIMIT, "the policy's ConfigMaps to go with it")


_Step = Callable[[_Installation], None]
_POLICIES, _CRDS = _Installation.policies, _Installation.crd
_TEAM, _OPERATOR = _Installation.namespace, _Installation.operator
_ORDERS: Mapping[str, tuple[_Step, ...]] = {
    "as-documented": (_POLICIES, _TEAM, _OPERATOR, _CRDS),
    "operator-first": (_OPERATOR, _POLICIES, _CRDS, _TEAM),
    "crd-first": (_CRDS, _OPERATOR, _TEAM),
    "namespace-first": (_TEAM, _CRDS, _OPERATOR),
    "crd-after-operator": (_OPERATOR, _CRDS, _TEAM),
}


@pytest.mark.thorough
@pytest.mark.parametrize("runs", [True, False], ids=["running", "stopped"])
@pytest.mark.parametrize("order", _ORDERS)
def test_whatever_goes_first_nothing_hangs_and_nothing_is_left(
    empty: ControlPlane, registry3: RegistryServer, tmp_path: Path, order: str, runs: bool
) -> None:
    install(empty)
    with ExitStack() as stack:
        namespace = stack.enter_context(fresh_namespace(empty, f"{order}-{'running' if runs else 'stopped'}", []))
        push_builds(registry3.url)
        running = stack.enter_context(operator(empty, tmp_path))
        namespace.apply(policy_spec(registry3.url))
        namespace.planned()
        assert len(namespace.config_maps()) > 1
        _wait_for_the_collector(namespace)
        if not runs:
            running.process.stop(30)
        installation = _Installation(empty, namespace, running if runs else None)

        for step in _ORDERS[order]:
            step(installation)

        left = {(each["kind"], each["metadata"]["name"]) for each in rendered("base")}
        assert [name for name in sorted(left) if _is_there(empty, *name)] == []
        assert not _is_there(empty, "Namespace", namespace.name)


@pytest.mark.thorough
def test_one_command_uninstalls_it_with_all_policies(empty: ControlPlane, tmp_path: Path) -> None:
    install(empty)
    with operator(empty, tmp_path), fresh_namespace(empty, "one-command", []) as namespace:
        namespace.apply(policy_spec("https://registry.invalid"))

        empty.kubectl("delete", "-k", str(MANIFESTS / "base"), "--timeout=60s")

        assert not _is_there(empty, "CustomResourceDefinition", _CRD)
        assert not _is_there(empty, "Namespace", NAMESPACE)


def _wait_for_the_collector(namespace: Namespace) -> None:
    """Wait until the garbage collector knows of policies, which it may take 30 seconds for once there is a CRD.

    Without that, what belongs to a policy stays when the CRD goes: nobody can tell then that its owner is gone.
    """
    uid = namespace.apply(policy_spec("https://registry.invalid", suspend=True), "canary")
    owner = {
        "apiVersion": "registrycleanup.dev/v1alpha1",
        "kind": "RegistryCleanupPolicy",
        "name": "canary",
        "uid": uid,
    }
    owned = {"metadata": {"name": "canary", "ownerReferences": [owner]}, "data": {}}
    path = f"/api/v1/namespaces/{namespace.name}/configmaps"
    assert namespace.api.post(path, json=owned).is_success
    namespace.delete("canary")
    wait_until(lambda: "canary" not in namespace.config_maps(), _COLLECTED_LIMIT, "the garbage collector")


def _helm_install(helm: Helm, *more: str, chart: Path = CHART) -> None:
    helm.run("install", RELEASE, chart, "--namespace", NAMESPACE, "--create-namespace", *more)


def _helm_upgrade(helm: Helm, values: _Object | None = None) -> None:
    helm.run("upgrade", RELEASE, CHART, "--namespace", NAMESPACE, "--values", helm.values(values))


def _permissive_crd(kind: str) -> _Object:
    """Return a CRD of the Prometheus Operator's that takes any spec."""
    plural = f"{kind.lower()}s"
    version = {
        "name": "v1",
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}},
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{_PROMETHEUS_GROUP}"},
        "spec": {
            "group": _PROMETHEUS_GROUP,
            "scope": "Namespaced",
            "names": {"kind": kind, "plural": plural, "singular": kind.lower()},
            "versions": [version],
        },
    }


def _older_crd() -> _Object:
    """Return the CRD as it was before two of its fields entered, and one of its columns."""
    crd: _Object = yaml.safe_load(_CRD_FILE.read_text())
    (version,) = crd["spec"]["versions"]
    properties = version["schema"]["openAPIV3Schema"]["properties"]
    del properties["spec"]["properties"]["tagDate"]
    del properties["status"]["properties"]["lastHandledApproval"]
    version["additionalPrinterColumns"].pop()
    return crd


def _present_crd(plane: ControlPlane) -> _Object:
    """Return the CRD of the repository as the API server would store it."""
    answer = plane.kubectl(
        "apply", "--dry-run=server", "--server-side", "--force-conflicts", "-o", "json", "-f", str(_CRD_FILE)
    )
    crd: _Object = json.loads(answer)
    return crd


def _crd(plane: ControlPlane) -> _Object:
    crd: _Object = json.loads(plane.kubectl("get", "crd", _CRD, "-o", "json"))
    return crd


def _but_defaults(policy: _Object) -> _Object:
    """Return a policy as it is stored: without the default of the field that the older CRD does not have."""
    spec = {key: value for key, value in policy["spec"].items() if key != "tagDate"}
    return {**policy, "spec": spec}


def _policies_after_upgrade(namespace: Namespace) -> list[_Object]:
    """Return the policies as soon as the API server, which starts anew to serve the kind, lists them."""
    found: list[_Object] = []

    def are_listed() -> bool:
        try:
            found[:] = [_but_defaults(policy) for policy in namespace.policies()]
        except httpx.HTTPStatusError as error:
            if error.response.status_code == httpx.codes.TOO_MANY_REQUESTS:
                return False
            raise
        return True

    wait_until(are_listed, 30, "the API server to list policies again")
    return found


def _ours(plane: ControlPlane, *kinds: str) -> list[str]:
    """Return the names of the objects of these kinds that are part of an installation, in any namespace."""
    command = ("get", ",".join(kinds), "-A", "-o=name", "-l=app.kubernetes.io/part-of=registry-cleanup")
    return plane.kubectl(*command).split()


def _gathered_rules(plane: ControlPlane) -> str:
    return plane.kubectl("get", "clusterrole", "registry-cleanup-in-use", "-o=jsonpath={.rules}")


def _deployment(plane: ControlPlane) -> _Object:
    deployment: _Object = json.loads(
        plane.kubectl("get", "deployment", "registry-cleanup", "-n", NAMESPACE, "-o", "json")
    )
    return deployment


def _enforced(plane: ControlPlane, namespace: str) -> str:
    metadata = json.loads(plane.kubectl("get", "namespace", namespace, "-o", "json"))["metadata"]
    level: str = metadata["labels"]["pod-security.kubernetes.io/enforce"]
    return level


def _try_pod(plane: ControlPlane, spec: _Object) -> _Object:
    """Return the pod as the API server would admit it in the operator's namespace."""
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "tried"}, "spec": spec}
    answer = plane.kubectl(
        "create", "--dry-run=server", "-n", NAMESPACE, "-o", "json", "-f", "-", stdin=json.dumps(pod)
    )
    admitted: _Object = json.loads(answer)
    return admitted


def _is_there(plane: ControlPlane, kind: str, name: str) -> bool:
    command = ("get", kind, name, "-n", NAMESPACE, "--ignore-not-found", "-o=name")
    # A kind whose CRD is gone is not there either; ours is looked for by its CRD.
    return plane.kubectl(*command).strip() != ""
