"""What the cluster uses stays: each source by itself, and nothing goes where it is not known what is in use."""

import base64
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from registry_cleanup.domain.report import read_report
from tests.support.controlplane import ControlPlane
from tests.support.crane import Crane
from tests.support.faulty import before, faulty_registry
from tests.support.images import push_image
from tests.support.operator import NAMESPACE, SERVICE_ACCOUNT, Operator, operator
from tests.support.policies import (
    LIMIT,
    NAME,
    Gate,
    Namespace,
    Resource,
    condition,
    days_ago,
    fresh_namespace,
    last_run,
    policy_spec,
    push_builds,
)
from tests.support.processes import wait_until
from tests.support.registries import RegistryServer, distribution
from tests.support.workloads import (
    Workloads,
    finished,
    job,
    openshift_kinds,
    pod_spec,
    running,
    template,
    workload,
)

_ACCOUNT = f"system:serviceaccount:{NAMESPACE}:{SERVICE_ACCOUNT}"
_OTHER = "elsewhere.example.com/other/app:1"
_ALL = {"name": "all", "tags": {"include": [".*"]}, "olderThan": "30d"}


@dataclass(frozen=True)
class Target:
    """An image of a repository of its own, which a source is to use.

    Attributes:
        host: Of the registry.
        repository: Of the image.
        digest: Of its manifest.
        config: Digest of its config, which CRI-O may show instead.
    """

    host: str
    repository: str
    digest: str
    config: str

    @property
    def by_tag(self) -> str:
        return f"{self.host}/{self.repository}:used"

    @property
    def by_digest(self) -> str:
        return f"{self.host}/{self.repository}@{self.digest}"

    @property
    def untouched(self) -> str:
        """The repository by a tag that there is not."""
        return f"{self.host}/{self.repository}:gone"


Make = Callable[[Workloads, str, Target], object]


def _hour_ago(minutes: int) -> str:
    return (datetime.now(UTC) - timedelta(hours=1) + timedelta(minutes=minutes)).strftime("%Y-%m-%dT%H:%M:%SZ")


def _ephemeral(made: Workloads, name: str, target: Target) -> None:
    made.pod(name, pod_spec(_OTHER))
    path = f"/api/v1/namespaces/{made.namespace.name}/pods/{name}/ephemeralcontainers"
    made.patch(path, {"spec": {"ephemeralContainers": [{"name": "debug", "image": target.by_tag}]}})


def _rolled_out(made: Workloads, name: str, target: Target) -> None:
    """Make a Deployment and change its image; what it ran before is a ReplicaSet of history then."""
    made.create("apis/apps/v1/deployments", name, spec=workload(target.by_tag, replicas=0))
    sets = f"/apis/apps/v1/namespaces/{made.namespace.name}/replicasets"

    def images() -> set[str]:
        found = made.namespace.api.get(sets).json()["items"]
        return {each["spec"]["template"]["spec"]["containers"][0]["image"] for each in found}

    wait_until(lambda: target.by_tag in images(), LIMIT, "the first ReplicaSet")
    change = {"spec": {"template": {"spec": pod_spec(f"{name}.example.com/new:1")}}}
    made.patch(f"/apis/apps/v1/namespaces/{made.namespace.name}/deployments/{name}", change)
    wait_until(lambda: f"{name}.example.com/new:1" in images(), LIMIT, "the second ReplicaSet")


# By the name of each source: the kind that the report names, and what makes it.
_SOURCES: Mapping[str, tuple[str, Make]] = {
    "pod": ("Pod", lambda made, name, target: made.pod(name, pod_spec(target.by_tag))),
    "pod-digest": ("Pod", lambda made, name, target: made.pod(name, pod_spec(target.by_digest))),
    "init-container": (
        "Pod",
        lambda made, name, target: made.pod(
            name, pod_spec(_OTHER, initContainers=[{"name": "init", "image": target.by_tag}])
        ),
    ),
    "ephemeral-container": ("Pod", _ephemeral),
    "image-volume": (
        "Pod",
        lambda made, name, target: made.pod(
            name, pod_spec(_OTHER, volumes=[{"name": "data", "image": {"reference": target.by_tag}}])
        ),
    ),
    "moved-tag-that-runs": (
        "Pod",
        lambda made, name, target: made.pod(
            name, pod_spec(target.untouched), running(target.untouched, target.by_digest)
        ),
    ),
    "image-of-status": (
        "Pod",
        lambda made, name, target: made.pod(name, pod_spec(_OTHER), running(target.by_tag, "")),
    ),
    "image-id-of-cri-o": (
        "Pod",
        lambda made, name, target: made.pod(name, pod_spec(target.untouched), running(target.untouched, target.config)),
    ),
    "finished-of-late": (
        "Pod",
        lambda made, name, target: made.pod(
            name, pod_spec(target.by_tag), finished(target.by_tag, target.by_digest, _hour_ago(30))
        ),
    ),
    "deployment": (
        "Deployment",
        lambda made, name, target: made.create(
            "apis/apps/v1/deployments", name, spec=workload(target.by_tag, replicas=0, paused=True)
        ),
    ),
    "stateful-set": (
        "StatefulSet",
        lambda made, name, target: made.create(
            "apis/apps/v1/statefulsets", name, spec=workload(target.by_tag, replicas=0, serviceName=name)
        ),
    ),
    "daemon-set": (
        "DaemonSet",
        lambda made, name, target: made.create("apis/apps/v1/daemonsets", name, spec=workload(target.by_tag)),
    ),
    "replica-set": (
        "ReplicaSet",
        lambda made, name, target: made.create(
            "apis/apps/v1/replicasets", name, spec=workload(target.by_tag, replicas=0)
        ),
    ),
    "replication-controller": (
        "ReplicationController",
        lambda made, name, target: made.create(
            "api/v1/replicationcontrollers",
            name,
            spec={"replicas": 0, "selector": {"app": "used"}, "template": template(target.by_tag)},
        ),
    ),
    "job": ("Job", lambda made, name, target: made.create("apis/batch/v1/jobs", name, spec=job(target.by_tag))),
    "cron-job": (
        "CronJob",
        lambda made, name, target: made.create(
            "apis/batch/v1/cronjobs",
            name,
            spec={
                "schedule": "0 0 1 1 *",
                "suspend": True,
                "jobTemplate": {"spec": {"template": job(target.by_tag)["template"]}},
            },
        ),
    ),
    "pod-template": (
        "PodTemplate",
        lambda made, name, target: made.create("api/v1/podtemplates", name, template=template(target.by_tag)),
    ),
    "history-of-a-deployment": ("ReplicaSet", _rolled_out),
    "history-of-a-stateful-set": (
        "ControllerRevision",
        lambda made, name, target: made.create(
            "apis/apps/v1/controllerrevisions",
            name,
            revision=1,
            data={"spec": {"template": {"$patch": "replace", **template(target.by_tag)}}},
        ),
    ),
    "kind-of-the-administrator": (
        "Lease",
        lambda made, name, target: made.create(
            "apis/coordination.k8s.io/v1/leases", name, spec={"holderIdentity": target.by_tag}
        ),
    ),
    "list-by-hand": (
        "ConfigMap",
        lambda made, _name, target: made.namespace.create_config_map(
            {"other-cluster": f"# what the other cluster runs\n\n{target.by_tag}  # since May\n"}, name="listed"
        ),
    ),
}


def _stream(target: Target, *, tag: str = "used") -> dict[str, Any]:
    """Return the reference to the image as a tag of an image stream in another namespace."""
    namespace, _, stream = target.repository.partition("/")
    return {"kind": "ImageStreamTag", "namespace": namespace, "name": f"{stream}:{tag}"}


def _config(made: Workloads, name: str, target: Target, **parts: Any) -> None:  # noqa: ANN401 - parts of a spec
    del target
    made.create("apis/apps.openshift.io/v1/deploymentconfigs", name, **_typed("apps", "DeploymentConfig"), **parts)


def _build(made: Workloads, name: str, kind: str, **parts: Any) -> None:  # noqa: ANN401 - parts of a build
    made.create(f"apis/build.openshift.io/v1/{kind.lower()}s", name, **_typed("build", kind), **parts)


def _typed(group: str, kind: str) -> dict[str, str]:
    return {"apiVersion": f"{group}.openshift.io/v1", "kind": kind}


# On a cluster that has OpenShift's kinds. Their repositories are `<namespace>/<name>`, as image streams are.
_OPENSHIFT_SOURCES: Mapping[str, tuple[str, Make]] = {
    "config": (
        "DeploymentConfig",
        lambda made, name, target: _config(made, name, target, spec=workload(target.by_tag)),
    ),
    "config-trigger": (
        "DeploymentConfig",
        lambda made, name, target: _config(
            made, name, target, spec={"triggers": [{"imageChangeParams": {"from": _stream(target)}}]}
        ),
    ),
    "config-last": (
        "DeploymentConfig",
        lambda made, name, target: _config(
            made, name, target, spec={"triggers": [{"imageChangeParams": {"lastTriggeredImage": target.by_digest}}]}
        ),
    ),
    "builder": (
        "BuildConfig",
        lambda made, name, target: _build(
            made, name, "BuildConfig", spec={"strategy": {"sourceStrategy": {"from": _stream(target)}}}
        ),
    ),
    "source-image": (
        "BuildConfig",
        lambda made, name, target: _build(
            made, name, "BuildConfig", spec={"source": {"images": [{"from": _stream(target)}]}}
        ),
    ),
    "output": (
        "BuildConfig",
        lambda made, name, target: _build(made, name, "BuildConfig", spec={"output": {"to": _stream(target)}}),
    ),
    "built": (
        "Build",
        lambda made, name, target: _build(
            made, name, "Build", spec={}, status={"outputDockerImageReference": target.by_tag}
        ),
    ),
    "spec-tag": (
        "ImageStream",
        lambda made, name, target: made.create(
            "apis/image.openshift.io/v1/imagestreams",
            name,
            **_typed("image", "ImageStream"),
            spec={"tags": [{"name": "stable", "from": _stream(target)}]},
        ),
    ),
    "annotation": (
        "Deployment",
        lambda made, name, target: made.create(
            "apis/apps/v1/deployments",
            name,
            metadata={"annotations": {"image.openshift.io/triggers": json.dumps([{"from": _stream(target)}])}},
            spec=workload(_OTHER, replicas=0),
        ),
    ),
    "local-name": ("Pod", lambda made, name, _target: made.pod(name, pod_spec(f"{name}:used"))),
}
# Nobody uses these: they are to go.
_UNUSED: Mapping[str, Make] = {
    "nobody": lambda _made, _name, _target: None,
    "finished-long-ago": lambda made, name, target: made.pod(
        name, pod_spec(target.by_tag), finished(target.by_tag, target.by_digest, _hour_ago(-5))
    ),
}
_IN_USE = {
    "extraReferencesFrom": [
        {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "jsonPath": ".spec.holderIdentity"},
        {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "jsonPath": ".spec.holderIdentitty"},
    ],
    "referencesConfigMapRef": {"name": "listed"},
}


@pytest.fixture(scope="module")
def running_operator(own_plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operator]:
    _grant_leases(own_plane)
    with operator(own_plane, tmp_path_factory.mktemp("in-use-operator")) as started:
        yield started


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RegistryServer]:
    with distribution("3", tmp_path_factory.mktemp("in-use-registry")) as server:
        yield server


@pytest.fixture
def place(own_plane: ControlPlane, running_operator: Operator, namespace_name: str) -> Iterator[Namespace]:
    with fresh_namespace(own_plane, namespace_name, [running_operator]) as fresh:
        yield fresh


def _grant_leases(plane: ControlPlane) -> None:
    """Let the operator list one more kind, as an administrator does, and wait until the role has it."""
    role = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": {"name": "leases-in-use", "labels": {"registrycleanup.dev/aggregate-to-in-use": "true"}},
        "rules": [{"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["list"]}],
    }
    plane.kubectl("apply", "-f", "-", stdin=json.dumps(role))
    wait_until(lambda: _may(plane, "list", "leases.coordination.k8s.io"), LIMIT, "the right to list leases")


def _may(plane: ControlPlane, verb: str, resource: str) -> bool:
    answer = plane.kubectl("auth", "can-i", verb, resource, "--all-namespaces", f"--as={_ACCOUNT}", check=False)
    return answer.splitlines()[-1:] == ["yes"]


def _push(registry: RegistryServer, repository: str, crane: Crane) -> Target:
    """Push an image that is to be used and one that is not."""
    push_image(registry.url, repository, ["free"], created=days_ago(60), seed=f"{repository} free")
    digest = push_image(registry.url, repository, ["used"], created=days_ago(50), seed=f"{repository} used")
    config = crane.manifest(f"{registry.host}/{repository}@{digest}")["config"]["digest"]
    return Target(registry.host, repository, digest, config)


def _report(place: Namespace, policy: Resource) -> list[dict[str, Any]]:
    reference = last_run(policy)["reportRef"]
    found = place.api.get(f"/api/v1/namespaces/{place.name}/configmaps/{reference['name']}").json()
    return list(read_report(base64.b64decode(found["binaryData"][reference["key"]])))


def _spec(registry: RegistryServer, **changes: Any) -> dict[str, Any]:  # noqa: ANN401 - values of any field
    rest = {"rules": [_ALL], "minTagsPerRepository": 0, "limits": {"maxPercentPerRepository": 100}}
    return policy_spec(registry.url, **{**rest, **changes})


# Each source


@dataclass(frozen=True)
class Carried:
    """What came of a policy whose repositories are each used by one source.

    Attributes:
        namespace: Of the policy and all objects.
        tags: Of each repository in the end, by the name of its source.
        lines: Of the report on the used tags, by the name of its source.
        policy: After its run.
        without: A policy that differs in `inUse.enabled` only.
    """

    namespace: str
    tags: Mapping[str, list[str]]
    lines: Mapping[str, Mapping[str, Any]]
    policy: Resource
    without: Resource


@pytest.fixture(scope="module")
def carried(
    own_plane: ControlPlane,
    running_operator: Operator,
    images: RegistryServer,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Carried]:
    crane = Crane(tmp_path_factory.mktemp("crane"))
    with fresh_namespace(own_plane, "in-use-sources", [running_operator]) as place:
        made = Workloads(place)
        makers = {**{name: make for name, (_, make) in _SOURCES.items()}, **_UNUSED}
        for name, make in makers.items():
            make(made, name, _push(images, f"team/{name}", crane))
        place.apply(_spec(images, dryRun=True, inUse={"enabled": False}), "without")
        without = place.planned("without")
        place.apply(_spec(images, dryRun=False, inUse=_IN_USE))
        place.planned()
        policy = place.run("go")
        tags = {name: crane.ls(f"{images.host}/team/{name}") for name in makers}
        used = [line for line in _report(place, policy) if line.get("tag") == "used"]
        lines = {line["repository"].removeprefix("team/"): line for line in used}
        yield Carried(place.name, tags, lines, policy, without)


@pytest.fixture(scope="module")
def openshift(
    own_plane: ControlPlane,
    running_operator: Operator,
    images: RegistryServer,
    carried: Carried,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Carried]:
    """Make OpenShift's kinds, and a policy whose repositories are each used by one of them."""
    crane = Crane(tmp_path_factory.mktemp("crane"))
    with (
        fresh_namespace(own_plane, "in-use-openshift", [running_operator]) as place,
        openshift_kinds(own_plane),
    ):
        made = Workloads(place)
        for name, (_, make) in _OPENSHIFT_SOURCES.items():
            make(made, name, _push(images, f"{place.name}/{name}", crane))
        _push(images, f"{place.name}/nobody", crane)
        place.apply(_spec(images, dryRun=False, repositories={"include": [f"{place.name}/*"]}))
        place.planned()
        policy = place.run("go")
        tags = {name: crane.ls(f"{images.host}/{place.name}/{name}") for name in [*_OPENSHIFT_SOURCES, "nobody"]}
        used = [line for line in _report(place, policy) if line.get("tag") == "used"]
        lines = {line["repository"].removeprefix(f"{place.name}/"): line for line in used}
        yield Carried(place.name, tags, lines, policy, carried.without)


@pytest.mark.parametrize("source", _OPENSHIFT_SOURCES)
def test_on_openshift_what_a_source_names_stays_and_the_report_says_who_uses_it(
    openshift: Carried, source: str
) -> None:
    kind, _ = _OPENSHIFT_SOURCES[source]
    line = openshift.lines[source]
    assert openshift.tags[source] == ["used"]
    assert (line["verdict"], line["reason"]) == ("Keep", "InUse")
    assert f"{kind} {openshift.namespace}/{source}" in line["users"]


def test_on_openshift_what_nobody_uses_goes(openshift: Carried) -> None:
    assert last_run(openshift.policy)["phase"] == "Succeeded"
    assert openshift.tags["nobody"] == []


@pytest.mark.parametrize("source", _SOURCES)
def test_what_a_source_names_stays_and_the_report_says_who_uses_it(carried: Carried, source: str) -> None:
    kind, _ = _SOURCES[source]
    line = carried.lines[source]
    assert carried.tags[source] == ["used"]
    assert (line["verdict"], line["reason"]) == ("Keep", "InUse")
    name = {"list-by-hand": "listed"}.get(source, source)
    assert any(user.startswith(f"{kind} {carried.namespace}/{name}") for user in line["users"])


@pytest.mark.parametrize("source", _UNUSED)
def test_what_nobody_uses_goes(carried: Carried, source: str) -> None:
    assert carried.tags[source] == []


def test_without_a_look_everything_would_go(carried: Carried) -> None:
    assert carried.without["status"]["plan"]["deletions"] == 2 * (len(_SOURCES) + len(_UNUSED))
    assert condition(carried.without, "InUseKnown")["reason"] == "Disabled"
    assert "inUse" not in carried.without["status"]


def test_status_says_how_much_is_in_use_and_how_much_stays_for_it(carried: Carried) -> None:
    status = carried.policy["status"]
    known = condition(carried.policy, "InUseKnown")
    assert last_run(carried.policy)["phase"] == "Succeeded"
    assert last_run(carried.policy)["keptByReason"] == {"InUse": len(_SOURCES)}
    assert (known["status"], known["reason"]) == ("True", "Scanned")
    assert status["inUse"]["references"] >= len(_SOURCES)
    assert f"references in use: {status['inUse']['references']};" in known["message"]


def test_a_path_that_matches_nothing_is_told(carried: Carried) -> None:
    assert ".spec.holderIdentitty matches nothing in any Lease" in condition(carried.policy, "InUseKnown")["message"]


# When in doubt


@pytest.fixture
def unused(place: Namespace, images: RegistryServer, crane: Crane) -> tuple[Namespace, Callable[[], list[str]]]:
    """Return a namespace with a policy that would prune both tags of a repository, and what tells those left."""
    repository = f"doubt/{place.name}"
    _push(images, repository, crane)
    place.apply(_spec(images, dryRun=False, repositories={"include": [repository]}))
    assert last_run(place.planned())["counts"]["tagsPlanned"] == 2
    return place, lambda: crane.ls(f"{images.host}/{repository}")


_Unused = tuple[Namespace, Callable[[], list[str]]]


def test_a_kind_that_the_administrator_names_and_did_not_grant_blocks_with_the_rule(unused: _Unused) -> None:
    place, tags = unused
    place.change(
        {"inUse": {"extraReferencesFrom": [{"apiVersion": "v1", "kind": "Service", "jsonPath": ".spec.externalName"}]}}
    )
    message = place.stalled("InUseUnknown")
    assert '{apiGroups: [""], resources: [services], verbs: [list]}' in message
    assert "registrycleanup.dev/aggregate-to-in-use" in message
    assert tags() == ["free", "used"]


@pytest.mark.parametrize(
    ("in_use", "words"),
    [
        ({"namespaceSelector": {"matchLabels": {"team": "nobody"}}}, "(team=nobody) matches no namespace"),
        ({"referencesConfigMapRef": {"name": "missing"}}, "there is no ConfigMap"),
        (
            {"extraReferencesFrom": [{"apiVersion": "apps/v1beta1", "kind": "Deployment", "jsonPath": ".spec.x"}]},
            "which the cluster serves as apps/v1: write that",
        ),
    ],
)
def test_what_is_mistyped_blocks(unused: _Unused, in_use: dict[str, Any], words: str) -> None:
    place, tags = unused
    place.change({"inUse": in_use})
    assert words in place.stalled("InUseUnknown")
    assert condition(place.policy(), "InUseKnown")["status"] == "False"
    assert last_run(place.run("now"))["phase"] == "Blocked"
    assert tags() == ["free", "used"]


def test_a_kind_that_the_cluster_does_not_have_is_no_doubt(unused: _Unused) -> None:
    place, tags = unused
    knative = {"apiVersion": "serving.knative.dev/v1", "kind": "Service", "jsonPath": ".spec.image"}
    place.change({"inUse": {"extraReferencesFrom": [knative]}})
    known = condition(place.planned(), "InUseKnown")
    assert known["status"] == "True"
    assert "the cluster has no kind Service in serving.knative.dev/v1, mistyped?" in known["message"]
    place.run("now")
    assert tags() == []


def test_fewer_than_half_of_the_references_block_until_somebody_asks(unused: _Unused) -> None:
    place, tags = unused
    for number in range(4):
        Workloads(place).pod(f"pod-{number}", pod_spec(f"elsewhere.example.com/app-{number}:1"))
    here = {"matchLabels": {"kubernetes.io/metadata.name": place.name}}
    place.change({"inUse": {"namespaceSelector": here}, "approval": {"required": True}})
    plan = place.planned()["status"]["plan"]["hash"]
    assert place.run("first")["status"]["inUse"]["references"] == 4
    for number in range(3):
        pod = f"/api/v1/namespaces/{place.name}/pods/pod-{number}"
        assert place.api.delete(pod, params={"gracePeriodSeconds": 0}).is_success

    # What approves the plan says nothing of what is in use.
    place.approve(plan)
    known = condition(place.phase("Blocked"), "InUseKnown")
    assert (known["status"], known["reason"]) == ("False", "InUseUnknown")
    assert "only 1 references are in use, fewer than half of the 4 of the last look" in known["message"]
    assert tags() == ["free", "used"]

    again = place.run("acknowledged")
    assert condition(again, "InUseKnown")["status"] == "True"
    assert again["status"]["inUse"]["references"] == 1


def test_other_namespaces_do_not_count_where_a_selector_says_so(
    unused: _Unused, images: RegistryServer, own_plane: ControlPlane, running_operator: Operator, crane: Crane
) -> None:
    place, _ = unused
    target = _push(images, f"selected/{place.name}", crane)
    with fresh_namespace(own_plane, f"{place.name}-b", [running_operator]) as other:
        Workloads(other).pod("elsewhere", pod_spec(target.by_tag))
        Workloads(place).pod("here", pod_spec(f"{target.host}/{target.repository}:free"))
        selector = {
            "matchExpressions": [{"key": "kubernetes.io/metadata.name", "operator": "In", "values": [place.name]}]
        }
        changes = {"inUse": {"namespaceSelector": selector}, "repositories": {"include": [target.repository]}}
        place.change(changes)
        place.planned()
        place.run("now")
    assert crane.ls(f"{target.host}/{target.repository}") == ["free"]


def test_without_history_an_earlier_revision_may_go(unused: _Unused, images: RegistryServer, crane: Crane) -> None:
    place, _ = unused
    target = _push(images, f"history/{place.name}", crane)
    _rolled_out(Workloads(place), "app", target)
    place.change({"inUse": {"includeHistory": False}, "repositories": {"include": [target.repository]}})
    place.planned()
    place.run("now")
    assert crane.ls(f"{target.host}/{target.repository}") == []


# While it goes on


def test_a_pod_that_appears_while_the_run_prunes_saves_its_image(
    place: Namespace, images: RegistryServer, crane: Crane, running_operator: Operator
) -> None:
    repository = f"late/{place.name}"
    going = push_builds(images.url, repository, 8)
    gate = Gate()
    with faulty_registry(images.url) as proxy:
        place.apply(policy_spec(proxy.url, dryRun=False, repositories={"include": [repository]}))
        place.planned()
        proxy.inject(before(gate), method="DELETE", path=".*/manifests/build-.*", times=1)
        place.request_run("now")
        gate.wait()
        try:
            for tag in going:
                Workloads(place).pod(tag, pod_spec(f"mirror.example.com/{repository}:{tag}"))
            # The operator hears of the pods before it has dealt with what comes after them.
            place.apply(policy_spec("https://registry.example.com", suspend=True), "later")
            place.wait(lambda policy: condition(policy, "Ready") != {}, "a word on the later policy", "later")
        finally:
            gate.open()
        place.handled("now")
    # Only the deletion that had begun went through.
    assert len(set(going) - set(crane.ls(f"{images.host}/{repository}"))) == 1
    name = f"{place.name}/{NAME}"
    outcomes = Counter(line["outcome"] for line in running_operator.log_lines(policy=name) if "outcome" in line)
    assert outcomes == {"Pruned": 1, "NowInUse": len(going) - 1}
