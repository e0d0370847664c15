"""Policies on OpenShift: how the registry is found, who is trusted with a token, and what lacks or fails."""

import base64
import json
import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import trustme
from aiohttp import web

from tests.support.certificates import CertificateAuthority, certificate_authority
from tests.support.controlplane import ControlPlane
from tests.support.http import Received, Upstream, serve
from tests.support.image_api import ImageApi
from tests.support.image_api.faults import ApiRequest
from tests.support.openshift_cluster import (
    ACCOUNT,
    LOOKED_AT,
    SERVICE_CA,
    SERVICE_CA_KEY,
    STATUS_ROLE,
    TAGS_ROLE,
    OpenShiftCluster,
    openshift_cluster,
)
from tests.support.openshift_config import set_image_config, set_image_pruner
from tests.support.openshift_rights import Level, grant
from tests.support.operator import OWN_USER, Operator, operator
from tests.support.policies import (
    BUILDS,
    LIMIT,
    Gate,
    Namespace,
    Resource,
    condition,
    conditions,
    days_ago,
    last_run,
    policy_spec,
)
from tests.support.registries import distribution

_BUILDS = {f"build-{build}" for build in range(1, 6)}
_KEPT = {"build-4", "build-5"}
# For what prunes nearly all of a large stream.
_NO_PERCENTAGE = {"maxPercentPerRepository": 100}


@pytest.fixture(scope="module")
def openshift(installed: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenShiftCluster]:
    with openshift_cluster(installed, tmp_path_factory.mktemp("openshift")) as running:
        yield running


@pytest.fixture
def cluster(openshift: OpenShiftCluster) -> Iterator[OpenShiftCluster]:
    """Calm the shared cluster down before and after each test."""
    openshift.name_registry()
    openshift.images.calm()
    openshift.registry.requests.clear()
    yield openshift
    openshift.images.calm()
    openshift.registry.token_hangs(None)
    openshift.registry.token_fails_times(0)
    openshift.registry.forge_realm(None)


@pytest.fixture
def project(cluster: OpenShiftCluster, namespace: Namespace) -> Iterator[Namespace]:
    """Make a project with builds and a ServiceAccount with the least Role, all as the documentation says."""
    _prepare(cluster, namespace)
    cluster.bind(TAGS_ROLE, _account(namespace), namespace.name)
    yield namespace
    namespace.forbid(*_tokens(cluster.registry.requests))


def _prepare(cluster: OpenShiftCluster, namespace: Namespace) -> None:
    namespace.grant_credentials()
    namespace.create_service_account(ACCOUNT)
    namespace.create_config_map(cluster.service_ca, name=SERVICE_CA)
    _push_builds(cluster.images, namespace.name)


def _push_builds(images: ImageApi, namespace: str, stream: str = "app", number: int = 5) -> None:
    """Push builds of which BUILDS keeps the last two."""
    for build in range(1, number + 1):
        images.push(namespace, stream, f"build-{build}", created=days_ago(40 + number - build))


def _account(namespace: Namespace) -> str:
    return f"{namespace.name}:{ACCOUNT}"


def _user(namespace: Namespace) -> str:
    return f"system:serviceaccount:{_account(namespace)}"


def _spec(namespace: Namespace, *, url: str | None = None, **changes: Any) -> dict[str, Any]:  # noqa: ANN401 - values of any field
    """Return a policy as docs/openshift.md has it, or with a url, whose CA it must name then.

    What it plans may go in the next run.
    """
    registry = {"serviceAccountName": ACCOUNT, **changes.pop("registry", {})}
    registry |= {"type": "OpenShift"} if url is None else {"url": url, "caConfigMapRef": {"name": "ca"}}
    include = changes.pop("include", [f"{namespace.name}/*"])
    return {
        "registry": registry,
        "repositories": {"include": include},
        "rules": [dict(BUILDS)],
        "gracePeriod": "0s",
        "dryRun": False,
        **changes,
    }


def _tags(cluster: OpenShiftCluster, namespace: Namespace, stream: str = "app") -> set[str]:
    return set(cluster.images.tags(namespace.name, stream))


def _tokens(requests: list[Received]) -> set[str]:
    """Return the secrets in all Authorization headers."""
    found = set()
    for request in requests:
        scheme, _, value = (request.authorization or "").partition(" ")
        found.add(base64.b64decode(value).decode().partition(":")[2] if scheme == "Basic" else value)
    return found - {""}


def _claims(token: str) -> dict[str, Any]:
    payload = token.split(".")[1]
    claims: dict[str, Any] = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    return claims


def _pruned(cluster: OpenShiftCluster, namespace: Namespace, request: str = "now") -> Resource:
    """See that the policy is planned, and prunes when asked."""
    assert namespace.planned()["status"]["plan"]["deletions"] == 3
    done = namespace.run(request)
    assert last_run(done)["phase"] == "Succeeded"
    assert last_run(done)["counts"]["tagsPruned"] == 3
    assert _tags(cluster, namespace) == _KEPT
    return done


# What the registry is, and where


def test_without_a_url_the_cluster_says_where_its_registry_is_and_whose_certificate_to_believe(
    cluster: OpenShiftCluster, project: Namespace
) -> None:
    project.apply(_spec(project))
    done = _pruned(cluster, project)
    assert conditions(done)["Ready"] == "True"
    assert condition(done, "DeleteSupported")["status"] == "True"
    assert "image stream tags one by one" in condition(done, "DeleteSupported")["message"]
    assert [request.path for request in cluster.registry.requests if request.path == "/openshift/token"]
    assert {request.method for request in cluster.registry.requests} <= {"GET", "HEAD"}


def test_everything_bears_the_policys_service_account_and_nothing_the_operators(
    cluster: OpenShiftCluster, project: Namespace
) -> None:
    project.apply(_spec(project))
    _pruned(cluster, project)
    by_others = [request for request in cluster.images.requests if request.user != _user(project)]
    # The operator itself only looks which images streams refer to, in the whole cluster.
    assert {request.user for request in by_others} == {OWN_USER}
    assert {request.method for request in by_others} == {"GET"}
    assert {request.path for request in by_others} == LOOKED_AT
    assert {_claims(token)["sub"] for token in _tokens(cluster.registry.requests)} == {_user(project)}
    # An access review bears the token too, but never gets here; what changes something certainly does.
    assert [request.method for request in cluster.images.requests].count("DELETE") == 3


def test_a_ca_that_the_policy_names_wins_over_the_clusters(cluster: OpenShiftCluster, namespace: Namespace) -> None:
    namespace.grant_credentials()
    namespace.create_service_account(ACCOUNT)
    namespace.create_config_map({SERVICE_CA_KEY: _another_ca()}, name=SERVICE_CA)
    namespace.create_config_map({"ca.crt": cluster.authority.ca_file.read_text()}, name="right")
    namespace.create_config_map({"ca.crt": _another_ca()}, name="wrong")
    _push_builds(cluster.images, namespace.name)
    cluster.bind(TAGS_ROLE, _account(namespace), namespace.name)
    namespace.apply(_spec(namespace, registry={"caConfigMapRef": {"name": "right"}}))
    assert namespace.planned()["status"]["plan"]["deletions"] == 3
    namespace.change({"registry": {"caConfigMapRef": {"name": "wrong"}}})
    assert "spec.registry.caConfigMapRef" in namespace.stalled("TLSNotTrusted")
    namespace.change({"registry": {"caConfigMapRef": None}})
    assert "certificate is not trusted" in namespace.stalled("TLSNotTrusted")
    namespace.forbid(*_tokens(cluster.registry.requests))


def _another_ca() -> str:
    return trustme.CA().cert_pem.bytes().decode()


@pytest.mark.parametrize("external", [[], ["registry.apps.example.com"]], ids=["no host", "a route only"])
def test_a_cluster_without_a_registry_of_its_own_asks_for_a_url(
    cluster: OpenShiftCluster, project: Namespace, external: list[str]
) -> None:
    set_image_config(cluster.plane, external=external)
    project.apply(_spec(project))
    message = project.stalled("NoInternalRegistry")
    assert "internalRegistryHostname" in message
    assert "managementState Removed" in message
    assert message.endswith("write spec.registry.url")
    assert cluster.registry.requests == []
    cluster.name_registry()
    project.request_run("it is back")
    assert condition(project.planned(), "Stalled")["status"] == "False"


def test_a_registry_that_is_removed_after_the_plan_is_told_and_nothing_is_pruned(
    cluster: OpenShiftCluster, project: Namespace
) -> None:
    project.apply(_spec(project))
    project.planned()
    set_image_config(cluster.plane)
    done = project.run("now")
    assert last_run(done)["phase"] == "Failed"
    assert condition(done, "Stalled")["reason"] == "NoInternalRegistry"
    assert _tags(cluster, project) == _BUILDS


@pytest.mark.parametrize("type_", ["Auto", "Distribution", "OpenShift"])
def test_what_the_registry_shows_wins_over_the_type_so_that_image_streams_are_pruned(
    cluster: OpenShiftCluster, project: Namespace, type_: str
) -> None:
    """A DELETE of a tag at that registry is accepted and does nothing."""
    project.create_config_map({"ca.crt": cluster.authority.ca_file.read_text()})
    project.apply(_spec(project, url=cluster.registry.url, registry={"type": type_}))
    done = _pruned(cluster, project)
    assert condition(done, "DeleteSupported")["message"].startswith("OpenShift: ")
    assert {request.method for request in cluster.registry.requests} <= {"GET", "HEAD"}


@pytest.mark.parametrize("locked", [False, True], ids=["open", "with a password"])
def test_a_registry_that_is_not_openshifts_is_an_error_where_the_policy_says_so(
    cluster: OpenShiftCluster, project: Namespace, tmp_path: Path, *, locked: bool
) -> None:
    """And one that wants a login gets no token of a cluster that does not name it."""
    project.create_config_map({"ca.crt": cluster.authority.ca_file.read_text()})
    users = {"somebody": "a-password"} if locked else None
    tls = cluster.authority.issue("127.0.0.1")
    with distribution("3", tmp_path / "registry", tls=tls, htpasswd=users) as registry:
        set_image_config(cluster.plane, internal="registry.example.svc:5000", external=["elsewhere.example.com"])
        project.apply(_spec(project, url=registry.url, registry={"type": "OpenShift"}))
        if locked:
            assert "ServiceAccount" in project.stalled("UntrustedTokenHost")
        else:
            assert "spec.registry.type is OpenShift" in project.stalled("NotOpenShift")
    assert cluster.images.requests == []


def test_openshifts_registry_without_a_service_account_asks_for_one(
    cluster: OpenShiftCluster, namespace: Namespace
) -> None:
    """Somebody's token in a Secret logs in, but whoever prunes image streams is the ServiceAccount."""
    namespace.grant_credentials()
    namespace.create_service_account(ACCOUNT)
    namespace.create_config_map({"ca.crt": cluster.authority.ca_file.read_text()})
    token = cluster.plane.kubectl("create", "token", ACCOUNT, "-n", namespace.name).strip()
    namespace.create_basic_auth(cluster.registry.host, "anybody", token)
    login = {"secretRef": {"name": "login"}, "caConfigMapRef": {"name": "ca"}}
    namespace.apply(policy_spec(cluster.registry.url, registry=login))
    assert "spec.registry.serviceAccountName" in namespace.stalled("ServiceAccountNeeded")
    assert cluster.images.requests == []


# Trust


async def _echo(_request: web.Request) -> web.StreamResponse:
    return web.json_response({"token": "of the evil one"})


@pytest.fixture
def stranger(cluster: OpenShiftCluster, tmp_path: Path) -> CertificateAuthority:
    """Return an authority for servers that are none of the cluster's; policies believe both."""
    del cluster
    return certificate_authority(tmp_path / "stranger")


def _believe(project: Namespace, cluster: OpenShiftCluster, stranger: CertificateAuthority) -> None:
    both = cluster.authority.ca_file.read_text() + stranger.ca_file.read_text()
    project.create_config_map({"ca.crt": both})


def test_a_host_that_the_cluster_does_not_name_never_receives_the_token(
    cluster: OpenShiftCluster, project: Namespace, stranger: CertificateAuthority
) -> None:
    _believe(project, cluster, stranger)

    async def lure(request: web.Request) -> web.StreamResponse:
        realm = f'Bearer realm="{request.scheme}://{request.host}/openshift/token"'
        return web.Response(status=401, headers={"WWW-Authenticate": realm})

    with serve(lure, certificate=stranger.issue("127.0.0.1")) as evil:
        project.apply(_spec(project, url=evil.url))
        message = project.stalled("UntrustedTokenHost")
        assert evil.requests
        assert _tokens(evil.requests) == set()
        assert [request for request in evil.requests if request.path != "/v2/"] == []
    assert "the cluster's administrator" in message
    assert cluster.images.requests == []


def test_a_host_that_names_the_clusters_own_token_endpoint_never_receives_the_token(
    cluster: OpenShiftCluster, project: Namespace, stranger: CertificateAuthority
) -> None:
    """OpenShift's endpoint returns what it was sent, which would then go to whoever named it."""
    _believe(project, cluster, stranger)
    realm = f'Bearer realm="{cluster.registry.url}/openshift/token"'

    async def lure(_request: web.Request) -> web.StreamResponse:
        return web.Response(status=401, headers={"WWW-Authenticate": realm})

    with serve(lure, certificate=stranger.issue("127.0.0.1")) as evil:
        project.apply(_spec(project, url=evil.url))
        project.stalled("UntrustedTokenHost")
        assert _tokens(evil.requests) == set()
    assert _tokens(cluster.registry.requests) == set()


def test_a_realm_on_another_host_never_receives_the_token(
    cluster: OpenShiftCluster, project: Namespace, stranger: CertificateAuthority
) -> None:
    _believe(project, cluster, stranger)
    with serve(_echo, certificate=stranger.issue("127.0.0.1")) as evil:
        cluster.registry.forge_realm(evil.url)
        project.apply(_spec(project, url=cluster.registry.url))
        project.stalled("UntrustedTokenHost")
        assert evil.requests == []
    assert _tokens(cluster.registry.requests) == set()


def test_a_realm_that_a_middle_box_forged_by_x_forwarded_host_never_receives_the_token(
    cluster: OpenShiftCluster, project: Namespace, stranger: CertificateAuthority
) -> None:
    _believe(project, cluster, stranger)
    registry = Upstream(cluster.registry.url, trust=cluster.authority.client_context())
    with ExitStack() as stack:
        evil = stack.enter_context(serve(_echo, certificate=stranger.issue("127.0.0.1")))
        evil_host = evil.url.partition("//")[2]

        async def forge(request: web.Request) -> web.StreamResponse:
            headers = {**request.headers, "X-Forwarded-Host": evil_host, "X-Forwarded-Proto": "https"}
            return (await registry.send(request.method, request.raw_path, headers=headers)).response()

        route = stack.enter_context(serve(forge, certificate=stranger.issue("localhost", "127.0.0.1")))
        set_image_config(cluster.plane, internal=cluster.registry.host, external=[route.url.partition("//")[2]])
        project.apply(_spec(project, url=route.url))
        message = project.stalled("UntrustedTokenHost")
        assert evil_host in message
        assert evil.requests == []
        assert _tokens(route.requests) == set()


def test_a_token_endpoint_that_answers_anonymous_is_a_failed_login(
    cluster: OpenShiftCluster, project: Namespace, stranger: CertificateAuthority
) -> None:
    """As behind a proxy that drops the Authorization header: nothing is listed with the rights of anybody."""
    _believe(project, cluster, stranger)

    async def anonymous(_request: web.Request) -> web.StreamResponse:
        return web.json_response({"token": "anonymous", "access_token": "anonymous"})

    with serve(anonymous, certificate=stranger.issue("127.0.0.1")) as proxy:
        set_image_config(cluster.plane, external=[cluster.registry.host, proxy.url.partition("//")[2]])
        cluster.registry.forge_realm(proxy.url)
        project.apply(_spec(project, url=cluster.registry.url))
        message = project.stalled("LoginFailed")
        project.forbid(*_tokens(proxy.requests))
    assert "anonymous" in message
    assert {request.path for request in cluster.registry.requests} == {"/v2/"}


# Rights


def test_a_missing_service_account_is_named_and_its_creation_heals(
    cluster: OpenShiftCluster, project: Namespace
) -> None:
    spec = _spec(project)
    spec["registry"]["serviceAccountName"] = "late"
    project.apply(spec)
    message = project.stalled("ServiceAccountNotFound")
    assert message.startswith("spec.registry.serviceAccountName: there is no ServiceAccount 'late'")
    assert _tokens(cluster.registry.requests) == set()
    project.create_service_account("late")
    cluster.bind(TAGS_ROLE, f"{project.name}:late", project.name)
    project.request_run("there it is")
    assert project.planned()["status"]["plan"]["deletions"] == 3


def _run_command(cluster: OpenShiftCluster, message: str) -> None:
    """Run the command that a message names."""
    command = message[message.index("kubectl create rolebinding") :]
    cluster.plane.kubectl(*command.partition(";")[0].split()[1:])


def test_who_may_not_list_image_streams_is_told_what_lacks_and_the_command_mends_it(
    cluster: OpenShiftCluster, namespace: Namespace
) -> None:
    _prepare(cluster, namespace)
    account = _account(namespace)
    namespace.apply(_spec(namespace))
    message = namespace.stalled("MissingRight")
    assert f"ServiceAccount {account} lacks: list imagestreams in namespace {namespace.name}" in message
    assert message.endswith(
        f"kubectl create rolebinding registry-cleanup-{account.replace(':', '-')} --clusterrole={TAGS_ROLE} "
        f"--serviceaccount={account} -n {namespace.name}"
    )
    # Asked, never tried.
    assert [request.path for request in cluster.images.requests if "/namespaces/" in request.path] == []
    _run_command(cluster, message)
    cluster.await_right(account, "delete", "imagestreamtags", "", namespace.name)
    namespace.request_run("granted")
    _pruned(cluster, namespace, "prune")
    namespace.forbid(*_tokens(cluster.registry.requests))


def test_who_may_only_read_gets_a_plan_that_says_what_lacks_and_the_command_mends_it(
    cluster: OpenShiftCluster, namespace: Namespace
) -> None:
    _prepare(cluster, namespace)
    reading = Level("reading", {"imagestreams": ["get", "list"], "imagestreamtags": ["get"]})
    grant(cluster.plane, reading, (namespace.name, ACCOUNT), namespace.name)
    namespace.apply(_spec(namespace))
    planned = namespace.planned()
    assert planned["status"]["plan"]["deletions"] == 3
    supported = condition(planned, "DeleteSupported")
    assert (supported["status"], supported["reason"]) == ("False", "DeletionForbidden")
    assert f"lacks: delete imagestreamtags in namespace {namespace.name}; grant it with: " in supported["message"]
    done = namespace.run("now")
    assert last_run(done)["phase"] == "Failed"
    assert last_run(done)["message"].startswith(supported["message"])
    assert condition(done, "Stalled")["reason"] == "DeletionForbidden"
    assert _tags(cluster, namespace) == _BUILDS
    _run_command(cluster, supported["message"])
    cluster.await_right(_account(namespace), "delete", "imagestreamtags", "", namespace.name)
    healed = _pruned(cluster, namespace, "granted")
    assert conditions(healed)["Stalled"] == "False"
    assert condition(healed, "DeleteSupported")["status"] == "True"
    namespace.forbid(*_tokens(cluster.registry.requests))


def test_a_wildcard_for_namespaces_needs_the_right_to_list_them_all(project: Namespace) -> None:
    project.apply(_spec(project, include=["*/app"]))
    message = project.stalled("MissingRight")
    assert "imagestreams in all namespaces" in message
    assert "write the namespaces out" in message


def test_a_service_account_that_is_deleted_during_the_run_ends_it(
    cluster: OpenShiftCluster, project: Namespace
) -> None:
    """Its token is accepted for some 10 seconds more."""
    _push_builds(cluster.images, project.name, "large", number=100)
    project.apply(_spec(project, include=[f"{project.name}/large"], limits=_NO_PERCENTAGE))
    project.planned()
    cluster.images.contention(seconds=0.25, at_once=None)
    with cluster.images.on_request(_once(lambda: _delete_account(cluster, project)), method="DELETE"):
        project.request_run("now")
        done = project.wait(lambda it: last_run(it).get("phase") in ("Failed", "Partial"), "the end of the run")
    left = _tags(cluster, project, "large")
    run = last_run(done)
    assert len(left) > 2
    assert run["counts"]["tagsPruned"] <= 100 - len(left)
    assert "does not accept the ServiceAccount's token" in run["message"]
    project.request_run("again")
    assert repr(ACCOUNT) in project.stalled("ServiceAccountNotFound")
    # One of the same name goes on where the other stopped.
    cluster.images.contention(seconds=0, at_once=None)
    project.create_service_account(ACCOUNT)
    project.request_run("there is another")
    again = project.handled("there is another")
    assert last_run(again)["phase"] == "Succeeded"
    assert _tags(cluster, project, "large") == {"build-99", "build-100"}


def _delete_account(cluster: OpenShiftCluster, project: Namespace) -> None:
    cluster.plane.kubectl("delete", "serviceaccount", ACCOUNT, "-n", project.name)


def _once(work: Any) -> Any:  # noqa: ANN401 - a hook
    """Return a hook that works at the first request only."""
    first = threading.Lock()

    def hook(_request: ApiRequest) -> None:
        if first.acquire(blocking=False):
            work()

    return hook


# Faults


def test_a_token_endpoint_that_answers_401_for_a_moment_is_asked_again(
    cluster: OpenShiftCluster, project: Namespace
) -> None:
    cluster.registry.token_fails_times(2)
    project.apply(_spec(project))
    assert project.planned()["status"]["plan"]["deletions"] == 3


def test_a_token_endpoint_that_hangs_with_the_api_server_is_told_and_recovers(
    cluster: OpenShiftCluster, project: Namespace
) -> None:
    """After 35 s it says 401 to a good token: neither is anything pruned, nor the ServiceAccount called wrong."""
    project.apply(_spec(project))
    project.planned()
    cluster.registry.token_hangs(0.5)
    done = project.run("now")
    assert last_run(done)["phase"] == "Failed"
    assert "does the cluster's API server answer?" in last_run(done)["message"]
    assert _tags(cluster, project) == _BUILDS
    cluster.registry.token_hangs(None)
    assert last_run(project.run("again"))["phase"] == "Succeeded"
    assert _tags(cluster, project) == _KEPT


def test_image_streams_that_cannot_be_listed_whole_are_not_pruned_at_all(
    cluster: OpenShiftCluster, project: Namespace
) -> None:
    """The second of two pages fails."""
    for number in range(600):
        cluster.images.push(project.name, f"many-{number:03}", "build-1", created=days_ago(40))
    project.apply(_spec(project, inUse={"enabled": False}))  # or the look at what is in use would fail first
    before = project.planned()["status"]["plan"]
    failing = ExitStack()

    # What is there when the first page is asked for fails the second.
    fail = _once(lambda: failing.enter_context(cluster.images.unavailable(path=".*/imagestreams")))
    with failing, cluster.images.on_request(fail, path=".*/imagestreams"):
        cluster.images.requests.clear()
        done = project.run("now")
        assert last_run(done)["phase"] == "Failed"
        assert "image.openshift.io answers 503" in last_run(done)["message"]
        # Nobody has to mend the policy, and nothing was tried with half of the streams.
        assert conditions(done)["Stalled"] == "False"
        lists = [request.query for request in cluster.images.requests if request.path.endswith("/imagestreams")]
        assert ["continue" in query for query in lists] == [False, True, True, True, True]
        assert {request.method for request in cluster.images.requests} == {"GET"}
        assert done["status"]["plan"] == before
        assert _tags(cluster, project) == _BUILDS
    assert last_run(project.run("again"))["phase"] == "Succeeded"
    assert _tags(cluster, project) == _KEPT


def test_image_streams_that_cannot_be_listed_in_one_namespace_prune_nothing_and_recover(
    cluster: OpenShiftCluster, project: Namespace
) -> None:
    """A stream that was not read may refer to a tag of those that were."""
    other = f"{project.name}-b"
    cluster.plane.kubectl("create", "namespace", other)
    cluster.bind(TAGS_ROLE, _account(project), other)
    _push_builds(cluster.images, other)
    with cluster.images.unavailable(path=f".*/namespaces/{other}/imagestreams"):
        project.apply(_spec(project, include=[f"{project.name}/*", f"{other}/*"]))
        failed = project.phase("Failed")
        assert "image.openshift.io answers 503" in last_run(failed)["message"]
        assert "plan" not in failed["status"]
    # By itself: nobody has asked.
    assert project.planned()["status"]["plan"]["deletions"] == 6


@pytest.mark.parametrize(
    ("role", "status"),
    # A DELETE by UID is not refused for a version.
    [*((TAGS_ROLE, status) for status in (429, 500, 503)), *((STATUS_ROLE, status) for status in (409, 429, 500, 503))],
)
def test_a_removal_that_is_refused_for_a_moment_is_done_again(
    cluster: OpenShiftCluster, project: Namespace, role: str, status: int
) -> None:
    _prunes_after(cluster, project, role, status, carried_out=False)


@pytest.mark.parametrize("role", [TAGS_ROLE, STATUS_ROLE])
# Not 409: that says that nothing was done.
@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_removal_whose_answer_was_lost_is_seen_to_have_been_made(
    cluster: OpenShiftCluster, project: Namespace, role: str, status: int
) -> None:
    _prunes_after(cluster, project, role, status, carried_out=True)


def _prunes_after(cluster: OpenShiftCluster, project: Namespace, role: str, status: int, *, carried_out: bool) -> None:
    if role == STATUS_ROLE:
        cluster.bind(role, _account(project), project.name)
    project.apply(_spec(project))
    project.planned()
    method = "PUT" if role == STATUS_ROLE else "DELETE"
    cluster.images.inject(status, method=method, times=1, carried_out=carried_out)
    done = project.run("now")
    assert last_run(done)["phase"] == "Succeeded"
    counts = last_run(done)["counts"]
    assert (counts["tagsPruned"], counts["tagsFailed"]) == (3, 0)
    assert _tags(cluster, project) == _KEPT
    assert {request.method for request in cluster.images.requests} <= {"GET", method}


def test_a_removal_that_is_refused_to_the_end_is_a_failure_with_its_code(
    cluster: OpenShiftCluster, project: Namespace
) -> None:
    project.apply(_spec(project))
    project.planned()
    cluster.images.inject(429, method="DELETE", path=".*:build-2", times=None, headers={})
    done = project.run("now")
    assert last_run(done)["phase"] == "Partial"
    counts = last_run(done)["counts"]
    assert (counts["tagsPruned"], counts["tagsFailed"]) == (2, 1)
    assert _tags(cluster, project) == _KEPT | {"build-2"}


def test_a_removal_that_has_no_effect_is_reported_and_not_believed(
    cluster: OpenShiftCluster, project: Namespace
) -> None:
    project.apply(_spec(project))
    project.planned()
    success = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}
    cluster.images.inject(200, success, method="DELETE", times=None)
    done = project.run("now")
    assert last_run(done)["phase"] == "Failed"
    assert last_run(done)["counts"]["tagsPruned"] == 0
    assert condition(done, "DeleteSupported")["reason"] == "DeletionWithoutEffect"
    assert _tags(cluster, project) == _BUILDS


@pytest.mark.parametrize("role", [TAGS_ROLE, STATUS_ROLE])
def test_a_stream_that_is_deleted_during_the_run_is_no_failure(
    cluster: OpenShiftCluster, project: Namespace, role: str
) -> None:
    if role == STATUS_ROLE:
        cluster.bind(role, _account(project), project.name)
    _push_builds(cluster.images, project.name, "other")
    project.apply(_spec(project))
    project.planned()
    method = "PUT" if role == STATUS_ROLE else "DELETE"
    gone = _once(lambda: cluster.images.delete_stream(project.name, "app"))
    with cluster.images.on_request(gone, method=method, path=".*/app(:build-.|/status)"):
        done = project.run("now")
    assert last_run(done)["phase"] == "Succeeded"
    assert last_run(done)["counts"]["tagsFailed"] == 0
    assert _tags(cluster, project, "other") == _KEPT


@pytest.mark.parametrize(
    ("suspend", "reason", "words"),
    [
        (None, "NoImagePruner", "no ImagePruner"),
        (True, "ImagePrunerSuspended", "suspended"),
        (False, "ImagePrunerActive", "will free"),
    ],
)
def test_who_frees_the_images_is_told(
    cluster: OpenShiftCluster, project: Namespace, suspend: bool | None, reason: str, words: str
) -> None:
    """The ServiceAccount may look after the ImagePruner and delete images: registry-cleanup-images."""
    name, account = f"images-{project.name}", f"--serviceaccount={_account(project)}"
    role = "--clusterrole=registry-cleanup-images"
    cluster.plane.kubectl("create", "clusterrolebinding", name, role, account)
    cluster.await_right(_account(project), "delete", "images", "", "")
    if suspend is not None:
        set_image_pruner(cluster.plane, suspend=suspend)
    else:
        resource = "imagepruners.imageregistry.operator.openshift.io"
        cluster.plane.kubectl("delete", "crd", "--ignore-not-found", resource)
    try:
        project.apply(_spec(project))
        done = _pruned(cluster, project)
    finally:
        cluster.plane.kubectl("delete", "clusterrolebinding", name)
    collected = condition(done, "ImagesCollected")
    assert collected["reason"] == reason
    assert collected["message"].startswith("3 images lost their last tag")
    assert words in collected["message"]
    unlinked = [request for request in cluster.registry.requests if request.method == "DELETE"]
    assert len(unlinked) == 3
    assert {_claims(token)["sub"] for token in _tokens(unlinked)} == {_user(project)}


# Restarts


def test_a_run_with_the_least_role_that_sigkill_cut_short_ends_as_planned(
    own_namespace: Namespace, tmp_path: Path
) -> None:
    with ExitStack() as stack:
        cluster = stack.enter_context(openshift_cluster(own_namespace.plane, tmp_path / "cluster"))
        _prepare(cluster, own_namespace)
        for stream in ("api", "web"):
            _push_builds(cluster.images, own_namespace.name, stream, number=20)
        cluster.bind(TAGS_ROLE, _account(own_namespace), own_namespace.name)
        gate = Gate()
        hook = _after(10, gate)
        with operator(own_namespace.plane, tmp_path / "first") as first:
            own_namespace.apply(_spec(own_namespace, limits=_NO_PERCENTAGE))
            planned = own_namespace.planned()
            assert planned["status"]["plan"]["deletions"] == 3 + 18 + 18
            with cluster.images.on_request(hook, method="DELETE"):
                own_namespace.request_run("now")
                gate.wait()
                first.process.signal(signal.SIGKILL)
                assert first.process.wait(LIMIT) == -signal.SIGKILL
                gate.open()
        assert last_run(own_namespace.policy())["phase"] == "Running"
        left = sum(len(_tags(cluster, own_namespace, stream)) for stream in ("app", "api", "web"))
        assert 6 < left < 45
        with operator(own_namespace.plane, tmp_path / "second") as second:
            done = own_namespace.handled("now")
            assert (last_run(done)["phase"], last_run(done)["dryRun"]) == ("Succeeded", False)
            assert last_run(done)["counts"]["tagsPruned"] == left - 6
            _no_tokens(cluster, [first, second])
        assert _tags(cluster, own_namespace) == _KEPT
        for stream in ("api", "web"):
            assert _tags(cluster, own_namespace, stream) == {"build-19", "build-20"}


def _after(number: int, gate: Gate) -> Any:  # noqa: ANN401 - a hook
    """Return a hook that lets so many requests pass and holds up all others."""
    passes = threading.Semaphore(number)

    def hook(_request: ApiRequest) -> None:
        if not passes.acquire(blocking=False):
            gate()

    return hook


def _no_tokens(cluster: OpenShiftCluster, operators: list[Operator]) -> None:
    for running in operators:
        log = running.process.log.read_text(errors="replace")
        assert [token[:4] for token in _tokens(cluster.registry.requests) if token in log] == []
