"""The composition root: the only place that builds clients."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime

from kubernetes.aio import client, config
from typing_extensions import override

from registry_cleanup.domain.conflict import conflicts
from registry_cleanup.domain.policy import InUseRules
from registry_cleanup.domain.run import Conflict, Failure, RunOrder, RunReport
from registry_cleanup.domain.trust import Endpoint
from registry_cleanup.kube.api import APIError, KubernetesAPI
from registry_cleanup.kube.credentials import PolicyCredentials
from registry_cleanup.kube.guard import PolicyGuard
from registry_cleanup.kube.in_use.listing import Listing
from registry_cleanup.kube.in_use.look import Look
from registry_cleanup.kube.in_use.workloads import Looks
from registry_cleanup.kube.plans import ConfigMapPlans
from registry_cleanup.kube.raw import RawAPI
from registry_cleanup.kube.spec import ParsedPolicy
from registry_cleanup.openshift.api import ImageAPI
from registry_cleanup.openshift.registry import OpenShiftRegistry
from registry_cleanup.ports import Clock, Registry, RegistryAddress, RunError, World
from registry_cleanup.registry.backend import DistributionRegistry, open_registry
from registry_cleanup.rivals import PolicyRivals, SameRegistry
from registry_cleanup.runner import Runner
from registry_cleanup.settings import Settings
from registry_cleanup.telemetry import LogAudit

_NOT_OPENSHIFT = Failure(
    "NotOpenShift",
    "spec.registry.type is OpenShift, or the registry looks like it, but registry and cluster do not both show "
    "OpenShift's signs (its login at the registry, image.openshift.io in the cluster); check url and type",
    mendable=True,
)
_NO_ACCOUNT = Failure(
    "ServiceAccountNeeded",
    "this is OpenShift's registry, whose tags are image streams: name a ServiceAccount that may read and change them "
    "in spec.registry.serviceAccountName",
    mendable=True,
)


class SystemClock(Clock):
    """The machine's clock."""

    @override
    def now(self) -> datetime:
        return datetime.now(UTC)


class Application:
    """Everything that one process shares: settings, clock, and the way to the API server."""

    def __init__(self, settings: Settings, api: KubernetesAPI, raw: RawAPI, clock: Clock) -> None:
        self.settings = settings
        self.api = api
        self.clock = clock
        self._looks = Looks(raw, api.config_map_data, clock)
        self._same_registry = SameRegistry(self._connect, api.openshift_registry, clock)

    async def run(self, policy: ParsedPolicy, order: RunOrder, halt: Callable[[], str | None]) -> RunReport:
        """Run `policy` once; whatever goes wrong is told in the report.

        Args:
            policy: which.
            order: what to do.
            halt: says why the run must stop, as soon as it must.
        """
        world = World(
            PolicyGuard(self.api, policy, self.clock, halt),
            LogAudit(policy.namespace, policy.name, policy.registry.url or "OpenShift", order),
            self.clock,
            ConfigMapPlans(self.api, policy.namespace, policy.name, policy.uid, self.settings.service_account),
            self._looks.for_policy(policy.policy.in_use, policy.namespace),
            self._rivals(policy),
        )
        return await Runner(policy.policy, lambda: self._connect(policy), world).run(order)

    async def conflicts(self, policy: ParsedPolicy) -> tuple[Conflict, ...]:
        """Return the conflicts of `policy` with others as they are now; raise `RunError` where nobody can tell."""
        async with self._connect(policy) as registry:
            selected = list(filter(policy.policy.repositories.selects, await registry.repositories()))
            return conflicts(await self._rivals(policy).at(registry, selected), selected)

    def _rivals(self, policy: ParsedPolicy) -> PolicyRivals:
        return PolicyRivals(policy, self.api.policies, self._same_registry)

    @asynccontextmanager
    async def _connect(self, policy: ParsedPolicy) -> AsyncIterator[Registry]:
        """Open the registry of `policy`, as what it turns out to be."""
        spec = policy.registry
        credentials = PolicyCredentials(
            self.api, policy, self.clock, self.settings.token_hosts, self.settings.service_account
        )
        url = await credentials.registry_url()
        address = RegistryAddress(
            url,
            spec.insecure,
            await credentials.ca_bundle(Endpoint.of(url)),
            spec.token_url,
            policy.policy.repositories.literals,
        )
        async with open_registry(address, credentials, self.clock, self.settings.concurrent_requests) as registry:
            if registry.openshift:
                async with self._image_streams(policy, registry, credentials) as streams:
                    yield streams
            elif spec.type == "OpenShift":
                raise RunError(_NOT_OPENSHIFT)
            else:
                yield registry

    @asynccontextmanager
    async def _image_streams(
        self, policy: ParsedPolicy, registry: DistributionRegistry, credentials: PolicyCredentials
    ) -> AsyncIterator[Registry]:
        """Open the image streams behind OpenShift's registry, with the token of the policy's ServiceAccount."""
        account = policy.registry.service_account_name
        if account is None:
            raise RunError(_NO_ACCOUNT)
        async with client.ApiClient(_as_policy(credentials)) as api_client:
            api = ImageAPI(api_client)
            if not await api.available():
                raise RunError(_NOT_OPENSHIFT)
            yield OpenShiftRegistry(
                api,
                registry,
                policy.policy.repositories,
                policy.policy.tag_date,
                f"{policy.namespace}:{account}",
                self.settings.concurrent_requests,
            )


def _as_policy(credentials: PolicyCredentials) -> client.Configuration:
    """Return a way to this cluster's API server that shows the policy's credential, and none of the operator's."""
    own = client.Configuration.get_default_copy()
    configuration = client.Configuration(host=own.host)
    configuration.ssl_ca_cert = own.ssl_ca_cert
    configuration.verify_ssl = own.verify_ssl
    configuration.api_key_prefix = {"BearerToken": "Bearer"}
    configuration.api_key = {"BearerToken": ""}

    async def renew(configuration: client.Configuration) -> None:
        credential = await credentials.credential()
        if credential is not None:
            configuration.api_key["BearerToken"] = credential.secret

    configuration.refresh_api_key_hook = renew  # type: ignore[assignment]  # the client types it as None
    return configuration


class NoClusterError(Exception):
    """There is no cluster to talk to; the message says why."""


async def images_in_use() -> Listing:
    """Look once at what the cluster uses, by the rules of a policy that says nothing of it.

    Raises `NoClusterError` where there is none, and `RunError` where it cannot be seen whole.
    """
    async with _own_client() as api_client:
        raw = RawAPI(api_client)
        try:
            await raw.kinds("v1")
        except APIError as error:
            raise NoClusterError(f"{api_client.configuration.host}: {error}") from error
        config_map = KubernetesAPI(api_client).config_map_data
        found = await Look(raw, config_map, SystemClock(), InUseRules(), namespace="").take()
        return Listing.of(found.gathered, found.notes)


@asynccontextmanager
async def open_application(settings: Settings) -> AsyncIterator[Application]:
    """Build the application with the cluster's own configuration, or else with the kubeconfig."""
    async with _own_client() as api_client:
        yield Application(settings, KubernetesAPI(api_client), RawAPI(api_client), SystemClock())


@asynccontextmanager
async def _own_client() -> AsyncIterator[client.ApiClient]:
    """Open the way to the API server that the operator's own rights lead on."""
    try:
        config.load_incluster_config()  # type: ignore[no-untyped-call]  # the client leaves it untyped
    except config.ConfigException:
        try:
            await config.load_kube_config()  # type: ignore[no-untyped-call]  # the client leaves it untyped
        except Exception as error:  # beside its own, the client lets through whatever its parser of YAML raises
            told = " ".join(str(error).split())
            raise NoClusterError(f"neither a cluster's own account nor a kubeconfig: {told}") from error
    async with client.ApiClient() as api_client:
        yield api_client
