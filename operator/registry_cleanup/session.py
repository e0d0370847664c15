"""What one command of a person works with: the engine of the operator, with that person's logins and kubeconfig."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, nullcontext
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from kubernetes.aio import client

from registry_cleanup.claims import ClaimBook, RunClaims
from registry_cleanup.clock import SystemClock
from registry_cleanup.cluster import NoKubeconfigError, cluster_client
from registry_cleanup.connector import Connector, OpenStreams, Streams
from registry_cleanup.copying import copies_with
from registry_cleanup.domain.copies import KnownCopies
from registry_cleanup.domain.inventory import Needs
from registry_cleanup.domain.run import Failure, RunOrder, RunReport
from registry_cleanup.domain.situation import Situation
from registry_cleanup.domain.tenancy import ALLOW_INSECURE, PERSONAL, Bounds
from registry_cleanup.domain.undoing import Undone, UndoOutcome
from registry_cleanup.examination import Examined, examine, snapshot_of_one
from registry_cleanup.kube.api import ForbiddenError, KubernetesAPI, NotThereError
from registry_cleanup.kube.in_use.doubt import granted
from registry_cleanup.kube.in_use.workloads import Looks
from registry_cleanup.kube.raw import RawAPI
from registry_cleanup.kube.spec import ParsedPolicy, parse_policy
from registry_cleanup.kubeconfig import KubeconfigLogin, naming_server
from registry_cleanup.listers import Listers
from registry_cleanup.live_policies import LivePolicies, all_policies
from registry_cleanup.logins.options import ClusterOptions, LoginOptions
from registry_cleanup.logins.personal import PersonalLogin
from registry_cleanup.narrator import Follow, unfollowed
from registry_cleanup.openshift.rights import Subject
from registry_cleanup.personal_world import Ended, HaltGuard, NoRivals, Still, ToldAudit, Unlooked, Unseen
from registry_cleanup.ports import (
    CopyStore,
    InterruptedRunError,
    PlanStore,
    Registry,
    Rivals,
    RunError,
    Workloads,
    World,
)
from registry_cleanup.rivals import PolicyRivals, SameRegistry
from registry_cleanup.runner import Runner
from registry_cleanup.settings import Settings
from registry_cleanup.undoing import Protect, UndoOrder, undo

_NO_STREAMS = Failure(
    "NoCluster",
    "this is OpenShift's registry, whose tags are image streams, and there is no cluster to ask for them: name it with "
    "--kubeconfig or --context",
    mendable=True,
)
_UNKNOWN_RIVALS = (
    "you may not list the policies of all namespaces, so it is not known whether an older one prunes the same "
    "repositories, where this one would keep everything"
)
_LOOKS_AT_POLICIES = "registry-cleanup-view"
_INSECURE_NOTE = (
    "the policy of the cluster accepts http, or any certificate, so no login of yours was sent; with --insecure it is"
)
_SECURE_ONLY = Failure("NotAllowed", f"--insecure is not allowed by the setting {ALLOW_INSECURE}", mendable=True)


@dataclass(frozen=True, slots=True)
class Cluster:
    """The cluster of a person's kubeconfig, with that person's rights.

    Attributes:
        api, raw: two ways to ask it.
        client: what both ask through.
    """

    api: KubernetesAPI
    raw: RawAPI
    client: client.ApiClient

    @property
    def server(self) -> str:
        """Its address."""
        return str(self.client.configuration.host)

    def login(self, namespaces: Sequence[str]) -> KubeconfigLogin:
        """Return what the kubeconfig gives to logins; in `namespaces` there may be image streams."""
        return KubeconfigLogin(self.api, self.raw, self.client, namespaces)


class Session:
    """Runs policies, and opens registries, for one command.

    Attributes:
        clock: the time of day.
        cluster: None where there is none.
        notes: what a person should know of what could not be looked at.
        own_policy: whether the person wrote the policy: one of a cluster may be anybody's, and its `insecure` sends no
            login of this person over connections that anybody can read.
    """

    def __init__(
        self, settings: Settings, login: LoginOptions, cluster: Cluster | None, *, prunes: bool = False
    ) -> None:
        self._prunes = prunes
        self.clock = SystemClock()
        self.cluster = cluster
        # What was read for one question is not read again for the next one of the same seconds.
        self._live = LivePolicies(self._policies, parse_policy, self.clock)
        self.notes: list[str] = []
        self.own_policy = False
        self._settings = settings
        self._login = login
        self._connector = Connector(self.clock, settings.bounds, settings.concurrent_requests, settings.max_concurrency)
        self._claims = ClaimBook()

    @property
    def bounds(self) -> Bounds:
        """What the settings allow every policy."""
        return self._settings.bounds

    @property
    def insecure(self) -> bool:
        """Whether the person accepts plain http, or any certificate; raise `RunError` where that is not allowed."""
        if self._login.insecure and not self._settings.bounds.allow_insecure:
            raise RunError(_SECURE_ONLY)
        return self._login.insecure

    @asynccontextmanager
    async def connect(self, policy: ParsedPolicy) -> AsyncIterator[Registry]:
        """Open the registry of `policy` with the person's login; raise `RunError`."""
        strange = policy.registry.insecure and not (self.own_policy or self._login.insecure)
        if strange and _INSECURE_NOTE not in self.notes:
            self.notes.append(_INSECURE_NOTE)
        async with self._open(policy, self._login, anonymous=strange) as registry:
            yield registry

    @asynccontextmanager
    async def _open(
        self, policy: ParsedPolicy, options: LoginOptions, *, anonymous: bool = False
    ) -> AsyncIterator[Registry]:
        spec = policy.registry
        of_policy = {
            "secretRef": spec.secret_ref,
            "serviceAccountName": spec.service_account_name,
            "caConfigMapRef": spec.ca_config_map_ref,
        }
        house = None if self.cluster is None else self.cluster.login(_namespaces(policy))
        login = PersonalLogin(
            options,
            spec.url,
            insecure=spec.insecure,
            cluster=house,
            namespace=policy.namespace,
            trusted=self._settings.token_hosts,
            of_policy=[name for name, value in of_policy.items() if value is not None],
            anonymous=anonymous,
        )
        if options.insecure and not spec.insecure:
            if not self._settings.bounds.allow_insecure:
                raise RunError(_SECURE_ONLY)
            policy = replace(policy, registry=spec.model_copy(update={"insecure": True}))
        streams = _NO_STREAMS if house is None else _streams(login, house)
        async with self._connector.open(policy, login, streams) as registry:
            yield registry

    def listers(self) -> Listers:
        """Return what opens registries only to look at them; raise `RunError` where the options are not allowed."""
        _ = self.insecure
        house = None if self.cluster is None else self.cluster.login
        return Listers(self._connector, self._login, self._settings.token_hosts, house)

    def _elsewhere(self, policy: ParsedPolicy) -> Callable[[ParsedPolicy], AbstractAsyncContextManager[Registry]]:
        """Return what opens the registries of other policies: what was said for that of `policy` is not for theirs."""

        def connect(other: ParsedPolicy) -> AbstractAsyncContextManager[Registry]:
            if other.registry.url == policy.registry.url:
                return self._open(other, self._login)
            # Nor may a policy of others send this person's logins over connections that anybody can read.
            return self._open(other, self._login.elsewhere(), anonymous=other.registry.insecure)

        return connect

    async def run(
        self,
        policy: ParsedPolicy,
        order: RunOrder,
        store: PlanStore,
        halt: Callable[[], str | None] = lambda: None,
        follow: Follow = unfollowed,
        *,
        in_use: bool = True,
        still: Still | None = None,
        ended: Ended | None = None,
        copies: CopyStore | None = None,
    ) -> RunReport:
        """Run `policy` once; whatever goes wrong is told in the report.

        Args:
            policy: which.
            order: what to do.
            store: of its published plan and of the full report.
            halt: says why the run must stop, as soon as it must.
            follow: tells of the run while it goes on.
            in_use: whether what the cluster uses is looked at, where the policy wants that.
            still: asked before each deletion; raises `InterruptedRunError` where the policy is not to prune any more.
            ended: told of each outcome at once, whatever becomes of the run.
            copies: where they are kept of what is pruned, unless the policy names a repository for them.
        """
        guard = HaltGuard(halt, self._clock_offset, still)
        world = World(
            guard,
            ToldAudit(policy, order, ended),
            self.clock,
            store,
            self._workloads(policy, in_use=in_use),
            self._rivals(policy, order),
            RunClaims(self._claims, policy.name, nullcontext, guard.unless_halted),
            copies,
        )
        runner = Runner(policy.policy, lambda: self.connect(policy), world)
        async with follow(runner.snapshot):
            return await runner.run(order)

    async def undo(
        self,
        policy: ParsedPolicy,
        order: UndoOrder,
        copies: CopyStore,
        protect: Protect,
        told: Callable[[UndoOutcome], None],
        known: Sequence[KnownCopies] = (),
    ) -> Undone:
        """Put back what a run of `policy` pruned; raise `RunError`.

        Args:
            policy: which.
            order: what.
            copies: where they are, unless the policy names a repository for them.
            protect: keeps what comes back from the next runs.
            told: is told of each outcome at once.
            known: where status says that copies are, which may be another place than the policy names now.
        """
        async with self.connect(policy) as registry:
            store = await copies_with(order.run, policy.policy, registry, copies, known)
            return await undo(order, registry, store, protect, told, policy.policy, known)

    async def _clock_offset(self) -> timedelta | None:
        """Return the API server's clock minus ours; None without a cluster, or where it does not tell."""
        if self.cluster is None:
            return None
        date = await self.cluster.api.date()
        return None if date is None else date - self.clock.now()

    async def _policies(self) -> AsyncIterator[dict[str, Any]]:
        """Yield all policies of the cluster; none where it does not serve them."""
        if self.cluster is None:
            return
        try:
            async for body in all_policies(self.cluster.raw):
                yield body
        except NotThereError:
            return

    async def live(self, since: datetime | None = None) -> Sequence[ParsedPolicy]:
        """Return the policies that prune in the cluster; raise `APIError` where they cannot be read."""
        if self.cluster is None:
            return ()
        return await self._live.read(since)

    async def examine(
        self,
        policy: ParsedPolicy,
        order: RunOrder,
        repository: str,
        closer: Callable[[Situation, Needs], Needs],
        follow: Follow = unfollowed,
        *,
        in_use: bool = True,
    ) -> Examined:
        """Read one repository as a run of `policy` would, and what `closer` wants besides; raise `RunError`."""
        looks = self._workloads(policy, in_use=in_use and policy.policy.in_use.enabled)
        try:
            async with self.connect(policy) as registry, follow(lambda: snapshot_of_one(registry)):
                return await examine(
                    registry, self.clock, policy.policy, looks, self._rivals(policy, order), order, repository, closer
                )
        except InterruptedRunError as stop:
            # No run takes note of it here: the cluster did not say who else prunes.
            raise RunError(Failure("APIServerUnavailable", str(stop))) from stop

    def _workloads(self, policy: ParsedPolicy, *, in_use: bool) -> Workloads:
        if not in_use:
            return Unlooked()
        if self.cluster is None:
            return Unseen()
        looks = Looks(self.cluster.raw, self.cluster.api.config_map_data, self.clock, PERSONAL)
        return looks.for_policy(policy.policy.in_use, policy.namespace)

    def _rivals(self, policy: ParsedPolicy, order: RunOrder) -> Rivals:
        if self.cluster is None:
            return NoRivals()
        api = self.cluster.api
        since = None if order.plan_only else order.start

        async def read() -> Sequence[ParsedPolicy]:
            try:
                return await self.live(since)
            except ForbiddenError:
                # Who only looks may well be told without: nothing is pruned by it.
                if self._prunes or not order.plan_only:
                    raise
                self.notes.append(f"{_UNKNOWN_RIVALS}; {granted(_LOOKS_AT_POLICIES)}")
                return ()

        same = SameRegistry(self._elsewhere(policy), api.openshift_registry, self.clock, unknown_is_one=self._prunes)
        return PolicyRivals(policy, read, same)


@asynccontextmanager
async def open_cluster(options: ClusterOptions) -> AsyncIterator[Cluster]:
    """Open the cluster that `options` name; raise `NoClusterError`. Errors that leave here name the server."""
    async with cluster_client(options.kubeconfig, options.context) as api_client:
        with naming_server(api_client):
            yield Cluster(KubernetesAPI(api_client), RawAPI(api_client), api_client)


@asynccontextmanager
async def open_session(
    settings: Settings, login: LoginOptions, cluster: ClusterOptions, *, needs_cluster: bool, prunes: bool = False
) -> AsyncIterator[Session]:
    """Open a session, with the cluster if there is one; raise `NoClusterError` if one is needed and there is none.

    A session that `prunes` counts a registry that cannot be compared with its own as the same: a person may see less of
    it than the operator does.
    """
    async with AsyncExitStack() as stack:
        found: Cluster | None = None
        try:
            found = await stack.enter_async_context(open_cluster(cluster))
        except NoKubeconfigError:
            # Who names a kubeconfig or a context means it.
            if needs_cluster or cluster.kubeconfig is not None or cluster.context is not None:
                raise
        yield Session(settings, login, found, prunes=prunes)


def _namespaces(policy: ParsedPolicy) -> list[str]:
    """Return the namespaces whose image streams a policy selects by name, with its own."""
    named = {glob.text.partition("/")[0] for glob in policy.policy.repositories.include}
    return [policy.namespace, *sorted(name for name in named if not set(name) & set("*?[{"))]


def _streams(login: PersonalLogin, house: KubeconfigLogin) -> OpenStreams:
    """Return the way to the image streams of the kubeconfig's cluster, for its own registry and no other."""

    @asynccontextmanager
    async def opened() -> AsyncIterator[Streams]:
        await login.expect_own_registry()
        yield Streams(house.client, Subject.user(await house.user()), login.known_as)

    return opened
