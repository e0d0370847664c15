"""Commands at OpenShift's registry: the kubeconfig's token logs in, and image streams are read as that person."""

import base64
import json
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from kubernetes.aio import client

from registry_cleanup.domain.report import read_report
from registry_cleanup.domain.run import RunOrder, Trigger
from registry_cleanup.kube.spec import parse_policy
from registry_cleanup.logins.options import ClusterOptions, LoginOptions
from registry_cleanup.personal_world import LookStore
from registry_cleanup.session import open_session
from registry_cleanup.settings import read_settings
from tests.support.binaries import binary
from tests.support.command import environment, run
from tests.support.controlplane import ControlPlane
from tests.support.http import Received
from tests.support.openshift_cluster import SERVICE_CA, TAGS_ROLE, OpenShiftCluster, openshift_cluster
from tests.support.openshift_config import set_image_config
from tests.support.operator import install
from tests.support.policies import Namespace, days_ago, fresh_namespace
from tests.support.processes import wait_until

_BUILDS = {"build-1", "build-2", "build-3"}
_BUILD = re.compile(r"\bbuild-\d+\b")
_ACCOUNT = "person"
_LIMIT = 10.0


@pytest.fixture(scope="module")
def openshift(plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenShiftCluster]:
    install(plane)
    reads = ["--verb=get,list,watch", "--resource=registrycleanuppolicies.registrycleanup.dev"]
    plane.kubectl("create", "clusterrole", "cli-reads-policies", *reads)
    with openshift_cluster(plane, tmp_path_factory.mktemp("cli-openshift")) as running:
        yield running


@dataclass(frozen=True)
class Person:
    """Somebody with a kubeconfig, whose token is that of a ServiceAccount.

    Attributes:
        home: Of their own.
        cluster: With image streams in `namespace`.
        namespace: Of the policy.
        kubeconfig: With the token.
    """

    home: Path
    cluster: OpenShiftCluster
    namespace: Namespace
    kubeconfig: Path = field(repr=False)

    @property
    def user(self) -> str:
        return f"system:serviceaccount:{self.namespace.name}:{_ACCOUNT}"

    @property
    def token(self) -> str:
        found: str = json.loads(self.kubeconfig.read_text())["users"][0]["user"]["token"]
        return found

    def policy(self, **registry: Any) -> dict[str, Any]:  # noqa: ANN401 - values of any field
        where = registry or {"type": "OpenShift", "serviceAccountName": "pruner"}
        return {
            "apiVersion": "registrycleanup.dev/v1alpha1",
            "kind": "RegistryCleanupPolicy",
            "metadata": {"name": "builds", "namespace": self.namespace.name},
            "spec": {
                "registry": where,
                "repositories": {"include": [f"{self.namespace.name}/*"]},
                "rules": [{"name": "all", "tags": {"include": [".*"]}, "olderThan": "1d"}],
                "minTagsPerRepository": 0,
                "inUse": {"enabled": False},
            },
        }

    def plan(
        self, *options: str | Path, stdin: str | None = None, cluster: bool = True, **registry: object
    ) -> subprocess.CompletedProcess[str]:
        file = self.home / "policy.json"
        file.write_text(json.dumps(self.policy(**registry)))
        arguments: list[str | Path] = ["-f", file, *options]
        if cluster:
            arguments += ["--kubeconfig", self.kubeconfig]
        return run(self.home, "plan", *arguments, stdin=stdin)

    def at_url(
        self, *options: str | Path, stdin: str | None = None, cluster: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Plan with a policy that names the registry by its URL."""
        trust: list[str | Path] = ["--certificate-authority", self.cluster.authority.ca_file]
        return self.plan(*trust, *options, stdin=stdin, cluster=cluster, url=self.cluster.registry.url)

    def may_read_hosts(self) -> None:
        role = "registry-cleanup-registry-hosts"
        self._bind(f"cli-hosts-{self.namespace.name}", role, "images.config.openshift.io/cluster")

    def may_read_policies(self) -> None:
        self._bind(f"cli-policies-{self.namespace.name}", "cli-reads-policies", "registrycleanuppolicies")

    def is_granted(self, resource: str) -> None:
        """Let the person get a resource of the project, and wait until it is so."""
        kubectl, name = self.cluster.plane.kubectl, resource.replace("/", "-")
        here = ["-n", self.namespace.name]
        kubectl("create", "role", name, "--verb=get", f"--resource={resource}", *here)
        account = f"--serviceaccount={self.namespace.name}:{_ACCOUNT}"
        kubectl("create", "rolebinding", name, f"--role={name}", account, *here)
        kind, _, part = resource.partition("/")
        asked = ["auth", "can-i", "get", kind, f"--subresource={part}", f"--as={self.user}", *here]
        wait_until(lambda: "yes" in kubectl(*asked, check=False).split(), _LIMIT, f"get {resource}")

    def _bind(self, name: str, role: str, resource: str) -> None:
        plane, account = self.cluster.plane, f"{self.namespace.name}:{_ACCOUNT}"
        binding = [f"--clusterrole={role}", f"--serviceaccount={account}"]
        plane.kubectl("create", "clusterrolebinding", name, *binding)
        asked = ["auth", "can-i", "get", resource, f"--as={self.user}"]
        wait_until(lambda: "yes" in plane.kubectl(*asked, check=False).split(), _LIMIT, f"get {resource}")

    def crane_lists(self) -> set[str]:
        """Return the tags of the stream that crane finds at the registry with the same token."""
        host = self.cluster.registry.host
        auth = base64.b64encode(f"person:{self.token}".encode()).decode()
        (self.home / "crane").mkdir()
        (self.home / "crane" / "config.json").write_text(json.dumps({"auths": {host: {"auth": auth}}}))
        trust = str(self.cluster.authority.ca_file)
        done = subprocess.run(
            [binary("crane"), "ls", f"{host}/{self.namespace.name}/app"],
            env=environment(self.home, SSL_CERT_FILE=trust, DOCKER_CONFIG=str(self.home / "crane")),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return set(done.stdout.split())


@pytest.fixture
def stream_host(openshift: OpenShiftCluster) -> str:
    """Return what image streams name as their registry."""
    return openshift.registry.host


@pytest.fixture
def person(
    openshift: OpenShiftCluster, stream_host: str, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[Person]:
    """Make a project with builds, and somebody who may prune them and nothing else."""
    openshift.name_registry()
    openshift.images.calm()
    openshift.registry.requests.clear()
    openshift.images.store.host = stream_host
    name = "cli-" + re.sub(r"[^a-z0-9]+", "-", request.node.originalname.removeprefix("test_"))[:40].strip("-")
    with fresh_namespace(openshift.plane, name, []) as namespace:
        namespace.create_service_account(_ACCOUNT)
        for tag in sorted(_BUILDS):
            openshift.images.push(name, "app", tag, created=days_ago(60))
        openshift.bind(TAGS_ROLE, f"{name}:{_ACCOUNT}", name)
        kubeconfig = openshift.plane.kubeconfig_for_service_account(name, _ACCOUNT)
        someone = Person(tmp_path / "home", openshift, namespace, kubeconfig)
        someone.home.mkdir()
        someone.may_read_policies()
        yield someone
    openshift.images.store.host = openshift.registry.host


def _planned(done: subprocess.CompletedProcess[str]) -> set[str]:
    assert done.returncode == 0, done.stderr
    return set(_BUILD.findall(done.stdout))


def _refused(done: subprocess.CompletedProcess[str], *hints: str, code: int) -> None:
    assert done.returncode == code, (done.returncode, done.stderr)
    assert done.stdout == ""
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    for hint in hints:
        assert hint in done.stderr


def _tokens(requests: list[Received]) -> set[str]:
    """Return the secrets in all Authorization headers."""
    found = set()
    for request in requests:
        scheme, _, value = (request.authorization or "").partition(" ")
        found.add(base64.b64decode(value).decode().partition(":")[2] if scheme == "Basic" else value)
    return found - {""}


# The kubeconfig's token


def test_a_policy_without_a_url_is_planned_with_the_kubeconfigs_token_alone(person: Person) -> None:
    person.may_read_hosts()
    person.namespace.create_config_map(person.cluster.service_ca, name=SERVICE_CA)
    person.is_granted("configmaps")
    person.is_granted("imagestreams.image.openshift.io/layers")  # by which the registry lets crane read
    assert _planned(person.plan()) == person.crane_lists() == _BUILDS
    assert _tokens(person.cluster.registry.requests) == {person.token}
    assert {request.user for request in person.cluster.images.requests} == {person.user}


def test_who_may_not_read_the_service_ca_names_it(person: Person) -> None:
    person.may_read_hosts()
    _refused(person.plan(), "TLSNotTrusted", "--certificate-authority FILE", code=4)
    assert _planned(person.plan("--certificate-authority", person.cluster.authority.ca_file)) == _BUILDS


def test_who_may_not_read_the_clusters_configuration_learns_its_registry_from_an_image_stream(person: Person) -> None:
    assert _planned(person.plan("--certificate-authority", person.cluster.authority.ca_file)) == _BUILDS
    assert _planned(person.at_url()) == _BUILDS


def test_the_kubeconfigs_token_is_not_sent_to_a_registry_that_the_cluster_does_not_name(person: Person) -> None:
    person.may_read_hosts()
    set_image_config(person.cluster.plane, internal="registry.example.svc:5000", external=["elsewhere.example.com"])
    _refused(person.at_url(), "LoginFailed", "none for", code=4)
    assert _tokens(person.cluster.registry.requests) == set()


@pytest.mark.parametrize("stream_host", ["registry.example.svc:5000"])
def test_where_the_cluster_names_another_registry_the_person_gives_the_token(person: Person) -> None:
    hints = ["LoginFailed", "cluster names registry.example.svc:5000", "oc whoami -t | "]
    _refused(person.at_url(), *hints, code=4)
    assert _tokens(person.cluster.registry.requests) == set()
    assert _planned(person.at_url("-u", "x", "--password-stdin", stdin=f"{person.token}\n")) == _BUILDS


def test_a_token_that_the_cluster_does_not_know_is_told(person: Person) -> None:
    done = person.at_url("-u", "x", "--password-stdin", stdin="no-token")
    _refused(done, "LoginFailed", "check --username and what --password-stdin reads", code=4)


# A token that the person gives


def test_the_token_of_oc_whoami_may_be_given_as_a_password(person: Person) -> None:
    """And where the registry accepts the kubeconfig's own token, it is that cluster's, whatever its name."""
    person.may_read_hosts()
    set_image_config(person.cluster.plane, internal="registry.example.svc:5000")
    assert _planned(person.at_url("-u", "x", "--password-stdin", stdin=person.token)) == _BUILDS


def test_another_clusters_image_streams_are_not_taken_for_those_of_the_registry(person: Person) -> None:
    person.may_read_hosts()
    set_image_config(person.cluster.plane, internal="registry.example.svc:5000")
    person.namespace.create_service_account("another")
    token = person.cluster.plane.token_for_service_account(person.namespace.name, "another")
    done = person.at_url("-u", "x", "--password-stdin", stdin=token)
    _refused(done, "OtherCluster", "--context", code=5)
    assert {request.path for request in person.cluster.images.requests} <= {"/apis/image.openshift.io/v1"}


def test_a_login_without_a_cluster_cannot_see_image_streams(person: Person) -> None:
    done = person.at_url("-u", "x", "--password-stdin", stdin=person.token, cluster=False)
    _refused(done, "NoCluster", "--kubeconfig", code=5)
    _refused(person.plan(cluster=False), "NoCluster", "spec.registry.url", "--kubeconfig", code=5)


def test_a_right_that_a_person_lacks_is_told_with_the_command_that_grants_it(person: Person) -> None:
    name = person.namespace.name
    account = f"{name}:{_ACCOUNT}"
    binding = f"{TAGS_ROLE}-{account.replace(':', '-')}"
    person.may_read_hosts()
    person.cluster.plane.kubectl("delete", "rolebinding", binding, "-n", name)
    asked = ["auth", "can-i", "list", "imagestreams.image.openshift.io", f"--as={person.user}", "-n", name]
    kubectl = person.cluster.plane.kubectl
    wait_until(lambda: "no" in kubectl(*asked, check=False).split(), _LIMIT, "no right any more")
    done = person.at_url()
    assert done.returncode != 0
    assert f"--serviceaccount={account}" in done.stderr


# From outside the cluster


async def test_a_route_leads_to_the_same_plan_as_the_name_that_only_pods_can_resolve(person: Person) -> None:
    person.may_read_hosts()
    internal = "image-registry.openshift-image-registry.svc:5000"
    set_image_config(person.cluster.plane, internal=internal, external=[person.cluster.registry.host])
    body = person.policy()
    body["metadata"] |= {"uid": "1", "generation": 1, "creationTimestamp": "2026-01-01T00:00:00Z"}
    policy = parse_policy(body)
    login = LoginOptions(ca_bundle=person.cluster.authority.ca_file.read_text())
    before = client.Configuration.get_default_copy()
    try:
        async with open_session(
            read_settings(), login, ClusterOptions(person.kubeconfig), needs_cluster=True
        ) as session:
            store = LookStore.of(policy)
            order = RunOrder("1", Trigger.REQUEST, plan_only=True, start=session.clock.now())
            report = await session.run(policy, order, store, in_use=False)
    finally:
        client.Configuration.set_default(before)
    assert report.failures == ()
    assert next(iter(read_report(store.content)))["registry"] == internal
    assert _tokens(person.cluster.registry.requests) == {person.token}
