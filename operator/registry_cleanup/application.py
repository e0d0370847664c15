"""The composition root: the only place that builds clients."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import aclosing, asynccontextmanager, closing, contextmanager, nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from kubernetes.aio import client, config
from typing_extensions import override

from registry_cleanup.claims import Aside, ClaimBook, RunClaims
from registry_cleanup.domain.conflict import conflicts
from registry_cleanup.domain.policy import InUseRules
from registry_cleanup.domain.run import Conflict, Failure, RunOrder, RunReport
from registry_cleanup.domain.tenancy import PLAN_ONLY
from registry_cleanup.domain.trust import Endpoint
from registry_cleanup.kube.api import APIError, KubernetesAPI
from registry_cleanup.kube.credentials import PolicyCredentials
from registry_cleanup.kube.guard import PolicyGuard
from registry_cleanup.kube.in_use.listing import Listing
from registry_cleanup.kube.in_use.look import Look
from registry_cleanup.kube.in_use.workloads import Looks
from registry_cleanup.kube.lease import Alone, Election, LeaseElection, MachineTime, OwnLease
from registry_cleanup.kube.plans import ConfigMapPlans
from registry_cleanup.kube.raw import Kind, RawAPI
from registry_cleanup.kube.schema import ServedSchema
from registry_cleanup.kube.spec import GROUP, KIND, PLURAL, VERSION, NotAllowedError, ParsedPolicy, parse_policy
from registry_cleanup.lanes import Gates, Lane, OwnLimits
from registry_cleanup.live_policies import LivePolicies
from registry_cleanup.narrator import Follow, unfollowed
from registry_cleanup.openshift.api import ImageAPI
from registry_cleanup.openshift.registry import OpenShiftRegistry
from registry_cleanup.ports import Audit, Clock, Registry, RegistryAddress, RunError, World
from registry_cleanup.registry.backend import DistributionRegistry, open_registry
from registry_cleanup.registry.fact_store import FactStore
from registry_cleanup.rivals import PolicyRivals, SameRegistry
from registry_cleanup.runner import Runner
from registry_cleanup.settings import Settings
from registry_cleanup.telemetry import CountingAudit, Metrics

_NOT_OPENSHIFT = Failure(
    "NotOpenShift",
    "spec.registry.type is OpenShift, or the registry looks like it, but registry and cluster do not both show "
    "OpenShift's signs (its login at the registry, image.openshift.io in the cluster); check url and type",
    mendable=True,
)
_PLANS_ONLY = f"planned only: the operator's setting {PLAN_ONLY} lets no policy prune"
_POLICIES = Kind(f"{GROUP}/{VERSION}", KIND, PLURAL)
# A policy takes ten times as much memory as objects as on the wire: a thousand at a time would take 100 MiB.
_POLICIES_A_PAGE = 100
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
    """Everything that one process shares: settings, clock, metrics, the way to the API server, what runs share.

    Attributes:
        bounds: of every policy.
        withheld: why runs only plan, whatever their policies say; None where nothing but the policies decides.
        election: says whether this process may work; what it objects to is not done.
        schema: that the cluster serves; where it is not the built-in one, runs only plan.
        gates: of all registries.
        claims: of all runs.
    """

    def __init__(
        self,
        settings: Settings,
        api: KubernetesAPI,
        raw: RawAPI,
        clock: Clock,
        *,
        metrics: Metrics | None = None,
        election: Election | None = None,
        facts: FactStore | None = None,
    ) -> None:
        self.settings = settings
        self._facts = facts
        self.bounds = settings.bounds
        self.withheld = _PLANS_ONLY if settings.plan_only else None
        self.election = election if election is not None else Alone()
        self.schema = ServedSchema(raw.document)
        self.api = api
        self._raw = raw
        self.clock = clock
        self.metrics = metrics or Metrics()
        self.gates = Gates(settings.max_concurrency, settings.max_requests_per_second)
        self.claims = ClaimBook()
        self._looks = Looks(raw, api.config_map_data, clock, settings.reach, self.metrics)
        self._live = LivePolicies(self._resources, self.parse, clock)
        self._same_registry = SameRegistry(self._connect, api.openshift_registry, clock)

    def parse(self, body: Mapping[str, Any]) -> ParsedPolicy:
        """Return the policy that a resource spells, within the bounds; raise `InvalidSpecError`."""
        return parse_policy(body, self.bounds)

    async def run(
        self,
        policy: ParsedPolicy,
        order: RunOrder,
        halt: Callable[[], str | None],
        aside: Aside = nullcontext,
        follow: Follow = unfollowed,
    ) -> RunReport:
        """Run `policy` once; whatever goes wrong is told in the report.

        Args:
            policy: which.
            order: what to do.
            halt: says why the run must stop, as soon as it must.
            aside: gives up the run's place while it waits for another run.
            follow: tells of the run while it goes on.
        """

        def stop() -> str | None:
            return self.election.objection() or halt()

        guard = PolicyGuard(self.api, policy, self.clock, stop, self.schema.look)
        world = World(
            guard,
            self._audit(policy, order),
            self.clock,
            ConfigMapPlans(self.api, policy.namespace, policy.name, policy.uid, self.settings.service_account),
            self._looks.for_policy(policy.policy.in_use, policy.namespace),
            self._rivals(policy, None if order.plan_only else order.start),
            RunClaims(self.claims, f"{policy.namespace}/{policy.name}", aside, guard.unless_halted),
        )
        runner = Runner(policy.policy, lambda: self._connect(policy), world)
        async with follow(runner.snapshot):
            return await runner.run(order)

    def rivals_changed(self) -> None:
        """Take note that a policy begins to prune, does so otherwise, or ends."""
        self._live.outdate()

    def ended(self, policy: ParsedPolicy, report: RunReport) -> None:
        """Write down and count a run that ended without `run`."""
        self._audit(policy, report.order).finished(report)

    async def conflicts(self, policy: ParsedPolicy) -> tuple[Conflict, ...]:
        """Return the conflicts of `policy` with others as they are now; raise `RunError` where nobody can tell."""
        async with self._connect(policy) as registry:
            selected = list(filter(policy.policy.repositories.selects, await registry.repositories()))
            return conflicts(await self._rivals(policy).at(registry, selected), selected)

    def _audit(self, policy: ParsedPolicy, order: RunOrder) -> Audit:
        registry = policy.registry.url or "OpenShift"
        return CountingAudit(policy.namespace, policy.name, registry, order, self.metrics)

    async def _resources(self) -> AsyncIterator[dict[str, Any]]:
        """Yield all policies that this operator sees, as they are now."""
        for namespace in self.settings.namespaces or (None,):
            pages = self._raw.pages(_POLICIES, namespace=namespace, limit=_POLICIES_A_PAGE)
            async with aclosing(pages):
                async for page in pages:
                    for body in page.items:
                        yield body

    def _rivals(self, policy: ParsedPolicy, since: datetime | None = None) -> PolicyRivals:
        return PolicyRivals(policy, lambda: self._live.read(since), self._same_registry)

    @asynccontextmanager
    async def _connect(self, policy: ParsedPolicy) -> AsyncIterator[Registry]:
        """Open the registry of `policy`, as what it turns out to be."""
        spec = policy.registry
        series = self.metrics.policies.find(policy.namespace, policy.name)
        credentials = PolicyCredentials(
            self.api,
            policy,
            self.clock,
            self.settings.token_hosts,
            self.settings.service_account,
            series.credential_expires if series is not None else lambda _: None,
        )
        url = await credentials.registry_url()
        # Where the policy leaves the address to the cluster, it is known only now.
        if (refusal := self.bounds.registry_refusal(Endpoint.of(url))) is not None:
            raise RunError(Failure(NotAllowedError.reason, f"spec.registry {refusal}", mendable=True))
        address = RegistryAddress(
            url,
            spec.insecure,
            await credentials.ca_bundle(Endpoint.of(url)),
            spec.token_url,
            policy.policy.repositories.literals,
        )
        own = self._own_limits(policy)
        with self.gates.lane(Endpoint.of(url).server, policy.namespace, own) as lane:
            async with open_registry(
                address, credentials, self.clock, own.most, lane, observer=self.metrics, facts=self._facts
            ) as registry:
                if registry.openshift:
                    # Its API server is no registry: only the policy's own limits hold there.
                    async with self._image_streams(policy, registry, credentials, own) as streams:
                        yield streams
                elif spec.type == "OpenShift":
                    raise RunError(_NOT_OPENSHIFT)
                else:
                    yield registry

    def _own_limits(self, policy: ParsedPolicy) -> OwnLimits:
        limits = policy.policy.limits
        most = limits.max_concurrency or self.settings.concurrent_requests
        return OwnLimits(min(most, self.settings.max_concurrency), limits.requests_per_second or 0)

    @asynccontextmanager
    async def _image_streams(
        self,
        policy: ParsedPolicy,
        registry: DistributionRegistry,
        credentials: PolicyCredentials,
        own: OwnLimits,
    ) -> AsyncIterator[Registry]:
        """Open the image streams behind OpenShift's registry, with the token of the policy's ServiceAccount."""
        account = policy.registry.service_account_name
        if account is None:
            raise RunError(_NO_ACCOUNT)
        async with client.ApiClient(_as_policy(credentials)) as api_client:
            api = ImageAPI(api_client, Lane(None, policy.namespace, own))
            if not await api.available():
                raise RunError(_NOT_OPENSHIFT)
            yield OpenShiftRegistry(
                api,
                registry,
                policy.policy.repositories,
                policy.policy.tag_date,
                f"{policy.namespace}:{account}",
                own.most,
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
async def open_application(settings: Settings, metrics: Metrics | None = None) -> AsyncIterator[Application]:
    """Build the application with the cluster's own configuration, or else with the kubeconfig."""
    clock = SystemClock()
    async with _own_client() as api_client:
        election: Election = Alone()
        if settings.leader_election:
            lease = OwnLease(KubernetesAPI(api_client), settings.namespace)
            election = LeaseElection(lease, settings.identity, settings.lease_seconds, clock, MachineTime())
        api = KubernetesAPI(api_client, election.objection)
        with _facts(settings, clock) as facts:
            yield Application(settings, api, RawAPI(api_client), clock, metrics=metrics, election=election, facts=facts)


@contextmanager
def _facts(settings: Settings, clock: Clock) -> Iterator[FactStore | None]:
    """Open the cache of facts, if there is to be one."""
    if not settings.cache_dir or not settings.cache_mib:
        yield None
        return
    with closing(FactStore(Path(settings.cache_dir), settings.cache_mib, clock)) as facts:
        yield facts


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
