"""The composition root: the only place that builds clients."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, closing, contextmanager, nullcontext
from datetime import datetime
from pathlib import Path
from typing import Any

from kubernetes.aio import client

from registry_cleanup.claims import Aside, ClaimBook, RunClaims
from registry_cleanup.clock import SystemClock
from registry_cleanup.cluster import NoClusterError, cluster_client
from registry_cleanup.collector import Collector
from registry_cleanup.connector import Connector, OpenStreams, Streams
from registry_cleanup.copying import copies_with, remove_expired
from registry_cleanup.domain.collecting import Answer
from registry_cleanup.domain.conflict import conflicts
from registry_cleanup.domain.copies import CopiesHeld
from registry_cleanup.domain.deletion import Deletion
from registry_cleanup.domain.policy import InUseRules
from registry_cleanup.domain.run import Conflict, Failure, RunOrder, RunReport, clock_skewed
from registry_cleanup.domain.tenancy import PERSONAL, PLAN_ONLY
from registry_cleanup.domain.undoing import Undone
from registry_cleanup.doors import Doors
from registry_cleanup.kube.api import APIError, KubernetesAPI, NotThereError
from registry_cleanup.kube.collecting.api import CollectionAPI
from registry_cleanup.kube.collecting.job import StorageOrder
from registry_cleanup.kube.config_maps import OwnedConfigMaps
from registry_cleanup.kube.copies import ConfigMapCopies
from registry_cleanup.kube.credentials import PolicyCredentials
from registry_cleanup.kube.guard import PolicyGuard
from registry_cleanup.kube.in_use.listing import Listing
from registry_cleanup.kube.in_use.look import Look
from registry_cleanup.kube.in_use.workloads import Looks
from registry_cleanup.kube.lease import Alone, Election, LeaseElection, MachineTime, OwnLease
from registry_cleanup.kube.plans import ConfigMapPlans
from registry_cleanup.kube.raw import RawAPI
from registry_cleanup.kube.schema import ServedSchema
from registry_cleanup.kube.spec import ParsedPolicy, parse_policy
from registry_cleanup.kube.status import PolicyStatus, UndoableStatus
from registry_cleanup.lanes import Lane, OwnLimits
from registry_cleanup.live_policies import LivePolicies, all_policies
from registry_cleanup.narrator import Follow, unfollowed
from registry_cleanup.openshift.api import ImageAPI
from registry_cleanup.openshift.image_pruner import ImagePruner, refusal
from registry_cleanup.openshift.rights import Subject
from registry_cleanup.ports import Audit, Clock, Registry, RunError, World
from registry_cleanup.pruner_course import PrunerCourse
from registry_cleanup.registry.fact_store import FactStore
from registry_cleanup.rivals import PolicyRivals, SameRegistry
from registry_cleanup.runner import SKEWED, Runner
from registry_cleanup.settings import Settings
from registry_cleanup.storage_order import StorageOrders
from registry_cleanup.telemetry import CountingAudit, Metrics
from registry_cleanup.undo_windows import UndoWindow, UndoWindows
from registry_cleanup.undoing import UndoOrder, undo

# To be asked about where the policy sees none.
_ANY_REPOSITORY = "registry-cleanup-probe"
_PLANS_ONLY = f"planned only: the operator's setting {PLAN_ONLY} lets no policy prune"
_CHANGES_NOTHING = f"the operator's setting {PLAN_ONLY} lets nothing be changed at a registry, so nothing was put back"
_WRONG_CLOCK = (
    "the clocks of the operator and of the API server differ by more than 5 minutes, so nobody can tell whether what "
    "was pruned can still be undone: synchronise them"
)
_NO_ACCOUNT = Failure(
    "ServiceAccountNeeded",
    "this is OpenShift's registry, whose tags are image streams: name a ServiceAccount that may read and change them "
    "in spec.registry.serviceAccountName",
    mendable=True,
)


class Application:
    """Everything that one process shares: settings, clock, metrics, the way to the API server, what runs share.

    Attributes:
        bounds: of every policy.
        withheld: why runs only plan, whatever their policies say; None where nothing but the policies decides.
        election: says whether this process may work; what it objects to is not done.
        schema: that the cluster serves; where it is not the built-in one, runs only plan.
        claims: of all runs.
        doors: of all registries: no run is where garbage is collected.
        collector: looks at collections of garbage, and does what is decided; None where there are none.
        pruner_course: leads those of OpenShift's registry.
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
        collection_api: CollectionAPI | None = None,
        image_pruner: ImagePruner | None = None,
    ) -> None:
        self.settings = settings
        self.bounds = settings.bounds
        self.withheld = _PLANS_ONLY if settings.plan_only else None
        self.election = election if election is not None else Alone()
        self.schema = ServedSchema(raw.document)
        self.api = api
        self._raw = raw
        self.clock = clock
        self.metrics = metrics or Metrics()
        self._connector = Connector(
            clock,
            settings.bounds,
            settings.concurrent_requests,
            settings.max_concurrency,
            settings.max_requests_per_second,
            self.metrics,
            facts,
        )
        self.claims = ClaimBook()
        self._looks = Looks(raw, api.config_map_data, clock, settings.reach, self.metrics)
        self._live = LivePolicies(lambda: all_policies(raw, settings.namespaces), self.parse, clock)
        self._same_registry = SameRegistry(self._connect, api.openshift_registry, clock)
        # A registry where nobody can prune just now still holds what can be undone.
        self._with_windows = SameRegistry(self._connect, api.openshift_registry, clock, unknown_is_one=True)
        self.doors = Doors()
        self.pruner_course: PrunerCourse | None = None
        if image_pruner is not None:
            self.pruner_course = PrunerCourse(image_pruner, self._pruner_refusal, clock)
        self._image: str | None = settings.operator_image or None
        self._collection_api = collection_api
        self.collector: Collector | None = None
        if collection_api is not None:
            self.collector = Collector(
                collection_api,
                api.config_map_data,
                self._takes_changes,
                clock,
                self._operator_image,
                settings.service_account,
            )

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
            self._plans(policy),
            self._looks.for_policy(policy.policy.in_use, policy.namespace),
            self._rivals(policy, None if order.plan_only else order.start),
            RunClaims(self.claims, f"{policy.namespace}/{policy.name}", aside, guard.unless_halted),
            self._copies(policy),
        )
        runner = Runner(policy.policy, lambda: self._connect(policy), world)
        async with follow(runner.snapshot):
            return await runner.run(order)

    async def undo(self, policy: ParsedPolicy, run: str, known: UndoableStatus | None) -> Undone:
        """Undo a run of `policy`, and keep what comes back from its next runs; raise `RunError`.

        Copies are looked for also where they are `known` to be, which may be another place than the policy names now.
        A policy with `dryRun: true` is undone, too: it prunes nothing, and a person asks for this.
        """
        if self.withheld is not None:
            raise RunError(Failure("PlanOnly", _CHANGES_NOTHING, mendable=True))
        order = UndoOrder(policy.uid, run)
        async with self._connect(policy) as registry:
            places = () if known is None else known.known(policy.registry.url)
            store = await copies_with(run, policy.policy, registry, self._copies(policy), places)
            return await undo(order, registry, store, self._plans(policy).protect, policy=policy.policy, known=places)

    async def tend_copies(self, policy: ParsedPolicy, known: UndoableStatus | None) -> CopiesHeld:
        """Remove copies whose window is over where they are `known` to be; return what is left; raise `RunError`."""
        repository = policy.policy.undo.repository if known is None else known.repository
        window, elsewhere = policy.policy.undo.kept_for, self._copies(policy)
        date = await self.api.date()
        offset = None if date is None else date - self.clock.now()
        if repository is None:
            if clock_skewed(offset):
                raise RunError(SKEWED)
            return await remove_expired(elsewhere, window, self.clock.now())
        async with self._connect(policy) as registry:
            if clock_skewed(offset) or clock_skewed(await registry.clock_offset()):
                raise RunError(SKEWED)
            store = registry.copies_in(repository, policy.uid) or elsewhere
            return await remove_expired(store, window, self.clock.now())

    # What collections of garbage share

    def reports_only(self, policy: ParsedPolicy) -> bool:
        """Say whether a collection of `policy` may change nothing."""
        return policy.dry_run or self.withheld is not None

    async def doubt(self) -> str | None:
        """Return why no garbage may be collected now."""
        problem = await self.schema.look()
        if problem is not None:
            return problem.message
        date = await self.api.date()
        return _WRONG_CLOCK if date is not None and clock_skewed(date - self.clock.now()) else None

    async def undo_window(self, policy: ParsedPolicy, pruned: datetime | None) -> UndoWindow | None:
        """Return the last window at the registry of `policy` that has not passed; raise `APIError`."""
        windows = UndoWindows(self.policies, self.parse, self._with_windows, self._connect)
        return await windows.last_at(policy, pruned, self.clock.now())

    async def undo_window_since(self, policy: ParsedPolicy, frozen: datetime) -> UndoWindow | None:
        """Return a window at the registry of a policy, frozen by now, that was opened since; raise `APIError`."""
        windows = UndoWindows(self.policies, self.parse, self._with_windows, self._connect)
        return await windows.opened_since(policy, frozen, self.clock.now(), self._takes_changes)

    async def storage_order(self, policy: ParsedPolicy, status: PolicyStatus) -> StorageOrder:
        """Return what a collection of `policy` does in the storage besides; raise `APIError`."""
        workloads = self._looks.for_policy(policy.policy.in_use, policy.namespace)
        orders = StorageOrders(
            self._plans(policy), self._config_maps(policy), workloads, self.clock, self._on_openshift
        )
        return await orders.order(policy, status)

    async def _on_openshift(self) -> bool:
        """Say whether this cluster gives each namespace users of its own; raise `APIError`."""
        try:
            await self._raw.kinds("security.openshift.io/v1")
        except NotThereError:
            return False
        return True

    def policies(self) -> AsyncIterator[dict[str, Any]]:
        """Yield all policies that this operator sees, as they are now."""
        return all_policies(self._raw, self.settings.namespaces)

    async def _operator_image(self) -> str | None:
        """Return the image of this program: as the settings say, or that of the pod that the Lease's identity names."""
        if self._image is None and self._collection_api is not None:
            self._image = await self._collection_api.image_of(self.settings.namespace, self.settings.identity)
        return self._image

    async def _takes_changes(self, policy: ParsedPolicy) -> Answer:
        """Ask the registry of `policy` whether it takes changes: whether it would delete what it does not have."""
        try:
            async with self._connect(policy) as registry:
                # Where its credential may delete, if it may anywhere.
                names = filter(policy.policy.repositories.selects, await registry.repositories())
                support = await registry.deletion([next(names, _ANY_REPOSITORY)])
        except RunError as error:
            return Answer.SILENT if error.failure.reachable is False else Answer.UNCLEAR
        match support.deletion:
            case Deletion.READ_ONLY:
                return Answer.READ_ONLY
            case Deletion.UNKNOWN | Deletion.FORBIDDEN:
                return Answer.UNCLEAR
            case _:
                return Answer.WRITABLE  # where it only would not delete, it answers so itself, and takes pushes

    def _plans(self, policy: ParsedPolicy) -> ConfigMapPlans:
        return ConfigMapPlans(
            self.api,
            policy.namespace,
            policy.name,
            policy.uid,
            self.settings.service_account,
            intent=policy.intent,
        )

    def _copies(self, policy: ParsedPolicy) -> ConfigMapCopies:
        return ConfigMapCopies(self._config_maps(policy), policy.uid)

    def _config_maps(self, policy: ParsedPolicy) -> OwnedConfigMaps:
        return OwnedConfigMaps(self.api, policy.namespace, policy.name, policy.uid, self.settings.service_account)

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

    def _rivals(self, policy: ParsedPolicy, since: datetime | None = None) -> PolicyRivals:
        return PolicyRivals(policy, lambda: self._live.read(since), self._same_registry)

    @asynccontextmanager
    async def _connect(self, policy: ParsedPolicy) -> AsyncIterator[Registry]:
        """Open the registry of `policy` with the credential that it names."""
        credentials = self._credentials(policy)
        async with self._connector.open(policy, credentials, _streams(policy, credentials)) as registry:
            yield registry

    def _credentials(self, policy: ParsedPolicy) -> PolicyCredentials:
        series = self.metrics.policies.find(policy.namespace, policy.name)
        return PolicyCredentials(
            self.api,
            policy,
            self.clock,
            self.settings.token_hosts,
            self.settings.service_account,
            series.credential_expires if series is not None else lambda _: None,
        )

    async def _pruner_refusal(self, policy: ParsedPolicy) -> Failure | None:
        """Say why `policy` may start no image pruner, asked with the token of its own ServiceAccount."""
        streams = _streams(policy, self._credentials(policy))
        if isinstance(streams, Failure):
            return streams
        async with streams() as way:
            api = ImageAPI(way.client, Lane(None, policy.namespace, OwnLimits(1)))
            return await refusal(api, way.account)


def _streams(policy: ParsedPolicy, credentials: PolicyCredentials) -> OpenStreams | Failure:
    """Return the way to image streams that the token of the policy's ServiceAccount opens."""
    account = policy.registry.service_account_name
    if account is None:
        return _NO_ACCOUNT
    subject = Subject.service_account(f"{policy.namespace}:{account}")

    @asynccontextmanager
    async def opened() -> AsyncIterator[Streams]:
        async with client.ApiClient(_as_policy(credentials)) as api_client:
            yield Streams(api_client, subject)

    return opened


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


async def images_in_use(kubeconfig: Path | None = None, context: str | None = None) -> Listing:
    """Look once at what the cluster of a person uses, by the rules of a policy that says nothing of it.

    Raises `NoClusterError` where there is none, and `RunError` where it cannot be seen whole.
    """
    async with cluster_client(kubeconfig, context) as api_client:
        raw = RawAPI(api_client)
        try:
            await raw.kinds("v1")
        except APIError as error:
            raise NoClusterError(f"{api_client.configuration.host}: {error}") from error
        config_map = KubernetesAPI(api_client).config_map_data
        found = await Look(raw, config_map, SystemClock(), InUseRules(), namespace="", reach=PERSONAL).take()
        return Listing.of(found.gathered, found.notes)


@asynccontextmanager
async def open_application(settings: Settings, metrics: Metrics | None = None) -> AsyncIterator[Application]:
    """Build the application with the cluster's own configuration, or else with the kubeconfig."""
    clock = SystemClock()
    async with cluster_client() as api_client:
        election: Election = Alone()
        if settings.leader_election:
            lease = OwnLease(KubernetesAPI(api_client), settings.namespace)
            election = LeaseElection(lease, settings.identity, settings.lease_seconds, clock, MachineTime())
        api = KubernetesAPI(api_client, election.objection)
        with _facts(settings, clock) as facts:
            raw = RawAPI(api_client)
            yield Application(
                settings,
                api,
                raw,
                clock,
                metrics=metrics,
                election=election,
                facts=facts,
                collection_api=CollectionAPI(api_client, raw, election.objection),
                image_pruner=ImagePruner(api_client, election.objection),
            )


@contextmanager
def _facts(settings: Settings, clock: Clock) -> Iterator[FactStore | None]:
    """Open the cache of facts, if there is to be one."""
    if not settings.cache_dir or not settings.cache_mib:
        yield None
        return
    with closing(FactStore(Path(settings.cache_dir), settings.cache_mib, clock)) as facts:
        yield facts
