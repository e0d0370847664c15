"""What only the connection knows: the cluster's own registry, and whether the administrator allows it."""

from datetime import datetime, timedelta
from typing import Any, cast

import pytest
from kubernetes.aio.client import ApiClient

from registry_cleanup.application import Application
from registry_cleanup.clock import SystemClock
from registry_cleanup.domain.trust import RegistryHosts
from registry_cleanup.kube.api import KubernetesAPI
from registry_cleanup.kube.raw import RawAPI
from registry_cleanup.kube.schema import ServedSchema
from registry_cleanup.ports import RunError
from registry_cleanup.settings import Settings
from tests.support.builders import minimal_spec, resource

_INTERNAL = "image-registry.openshift-image-registry.svc:5000"
_OPENSHIFT = {**minimal_spec(), "registry": {"type": "OpenShift", "serviceAccountName": "pruner"}}


class _Cluster:
    """The API server, as far as these tests ask it."""

    def __init__(self, hosts: RegistryHosts, ahead: timedelta = timedelta(0)) -> None:
        self._hosts = hosts
        self._ahead = ahead

    async def date(self) -> datetime:
        return SystemClock().now() + self._ahead

    async def openshift_registry(self) -> RegistryHosts:
        return self._hosts

    async def service_account_token(self, *_: object) -> tuple[str, object]:
        return "token", SystemClock().now()

    async def config_map_data(self, *_: object) -> dict[str, str]:
        return {}


def _application(hosts: RegistryHosts, **settings: Any) -> Application:  # noqa: ANN401 - values of any setting
    api = cast(KubernetesAPI, _Cluster(hosts))
    return Application(Settings(**settings), api, RawAPI(cast(ApiClient, None)), SystemClock())


async def _refused(application: Application) -> RunError:
    with pytest.raises(RunError) as caught:
        await application.conflicts(application.parse(resource(_OPENSHIFT)))
    assert caught.value.failure.mendable
    return caught.value


async def test_the_clusters_own_registry_is_bound_too_though_no_policy_names_it() -> None:
    error = await _refused(_application(RegistryHosts(_INTERNAL), allowed_registries=("registry.example.com",)))
    assert error.failure.reason == "NotAllowed"
    assert error.failure.message.startswith(f"spec.registry names {_INTERNAL}, which is not allowed by the operator's")


async def test_a_link_local_address_is_refused_whoever_names_it() -> None:
    error = await _refused(_application(RegistryHosts("169.254.169.254")))
    assert error.failure.reason == "NotAllowed"
    assert "link-local" in error.failure.message


async def test_an_operator_that_may_not_read_the_hosts_of_the_clusters_registry_says_how_to_let_it() -> None:
    error = await _refused(_application(RegistryHosts(None, forbidden=True)))
    assert error.failure.reason == "RegistryHostsForbidden"
    message = error.failure.message
    assert "REGISTRY_CLEANUP_TRUSTED_TOKEN_HOSTS" in message
    role = "registry-cleanup-registry-hosts"
    account = "--serviceaccount=registry-cleanup-system:registry-cleanup"
    command = f"kubectl create clusterrolebinding {role} --clusterrole={role} {account}"
    assert f"{command}; or write spec.registry.url" in message


@pytest.mark.parametrize(("hours", "doubts"), [(-24, True), (24, True), (0, False)])
async def test_no_garbage_is_collected_by_a_clock_that_is_wrong(hours: int, *, doubts: bool) -> None:
    """It would say of windows of undo that they have passed."""
    raw = RawAPI(cast(ApiClient, None))
    api = cast(KubernetesAPI, _Cluster(RegistryHosts(None), timedelta(hours=hours)))
    application = Application(Settings(), api, raw, SystemClock())
    application.schema = cast(ServedSchema, _Served())
    doubt = await application.doubt()
    assert (doubt is not None and "synchronise them" in doubt) is doubts


class _Served:
    """A schema that is as it should be."""

    async def look(self) -> None:
        return
