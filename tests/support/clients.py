"""Our registry client as the composition root opens it, with a credential and a clock of the test's choice."""

from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from typing_extensions import override

from registry_cleanup.domain.deletion import Deletion, ItemOutcome, Outcome, UsedSince
from registry_cleanup.domain.in_use import NOTHING_IN_USE, InUse
from registry_cleanup.domain.inventory import Inventory, Needs
from registry_cleanup.domain.ownership import needs
from registry_cleanup.domain.plan import RepositoryPlan, plan_repository
from registry_cleanup.domain.policy import Policy, RepositoryGlob, RepositorySelector, Rule, TagPattern, Untagged
from registry_cleanup.domain.reference import Digest
from registry_cleanup.domain.trust import Endpoint, Host, TrustedHosts
from registry_cleanup.lanes import Lane, OwnLimits
from registry_cleanup.ports import (
    Clock,
    Credential,
    CredentialKind,
    CredentialSource,
    Passage,
    Proceed,
    Registry,
    RegistryAddress,
)
from registry_cleanup.registry.backend import DistributionRegistry, open_registry
from registry_cleanup.registry.fact_store import FactStore
from registry_cleanup.registry.transport import Limits
from tests.support.http import Received

# As patient as a busy machine needs, and quick to try again.
QUICK = Limits(connect=5, read=20, total=30, attempts=3, back_off=0.01, longest_wait=2)


class SystemClock(Clock):
    @override
    def now(self) -> datetime:
        return datetime.now(UTC)


@dataclass
class HandClock(Clock):
    """A clock that a test moves."""

    moment: datetime

    @override
    def now(self) -> datetime:
        return self.moment

    def move(self, by: timedelta) -> None:
        self.moment += by


@dataclass(frozen=True)
class FixedSource(CredentialSource):
    """Always the same credential, or none."""

    fixed: Credential | None

    @override
    async def credential(self) -> Credential | None:
        return self.fixed

    @override
    async def renew(self, refused: Credential) -> bool:
        return False


@dataclass
class RotatedSource(CredentialSource):
    """A Secret that was replaced after it had been read.

    Attributes:
        old: What was read.
        new: What is there by now.
        reads: How often it was read anew.
    """

    old: Credential
    new: Credential
    reads: int = 0

    @override
    async def credential(self) -> Credential | None:
        return self.new if self.reads else self.old

    @override
    async def renew(self, refused: Credential) -> bool:
        if await self.credential() != refused:
            return True
        self.reads += 1
        return await self.credential() != refused


def password(user: str, secret: str, url: str, *more_hosts: str, allow_http: bool = True) -> Credential:
    """Return what a Secret for the registry at `url` gives, which lists `more_hosts` in its annotation."""
    return Credential(CredentialKind.PASSWORD, user, secret, trust(url, *more_hosts, allow_http=allow_http))


def trust(url: str, *more_hosts: str, allow_http: bool = True) -> TrustedHosts:
    """Return the trust that a Secret for the registry at `url` carries."""
    hosts = [Host(Endpoint.of(url).host), *map(Host.parse, more_hosts)]
    return TrustedHosts.of(hosts, allow_http=allow_http)


def service_account(token: str, *hosts: str) -> Credential:
    """Return a ServiceAccount's token, which may go to these hosts over https."""
    allowed = TrustedHosts.of(map(Host.parse, hosts), allow_http=False)
    return Credential(CredentialKind.SERVICE_ACCOUNT, "account", token, allowed)


def free(concurrency: int) -> Lane:
    """Return a way to a registry that nobody else uses."""
    return Lane(None, "tests", OwnLimits(concurrency))


@asynccontextmanager
async def opened(
    url: str,
    credential: Credential | CredentialSource | None = None,
    *,
    clock: Clock | None = None,
    limits: Limits = QUICK,
    concurrency: int = 4,
    insecure: bool = False,
    ca_bundle: str | None = None,
    token_url: str | None = None,
    repositories: Sequence[str] | None = None,
    passage: Passage | None = None,
    facts: FactStore | None = None,
) -> AsyncIterator[DistributionRegistry]:
    """Log in to the registry at `url`."""
    address = RegistryAddress(url, insecure, ca_bundle, token_url, repositories)
    source: CredentialSource
    source = FixedSource(credential) if credential is None or isinstance(credential, Credential) else credential
    way = passage or free(concurrency)
    ours = clock or SystemClock()
    async with open_registry(address, source, ours, concurrency, way, limits, facts=facts) as registry:
        yield registry


# What is asked of it


async def resolved(registry: Registry, repository: str) -> Inventory:
    """Return the repository with the digest of every tag."""
    return await registry.inventory(repository, lambda tags: Needs(resolved=frozenset(tags)), {})


async def dated(registry: Registry, repository: str) -> Inventory:
    """Return the repository with manifest and date of every tag."""
    return await registry.inventory(repository, lambda tags: Needs(dated=frozenset(tags)), {})


def prunes(*patterns: str, untagged: Untagged = Untagged.KEEP) -> Policy:
    """Return a policy that prunes every tag that one of `patterns` matches, and nothing else."""
    everywhere = RepositorySelector((RepositoryGlob("**"),))
    rule = Rule("old", tuple(map(TagPattern, patterns)), most_recent=0)
    return Policy("uid", "registry.test", everywhere, (rule,), (), 0, untagged=untagged)


async def deletes(registry: Registry, repository: str) -> Deletion:
    """Return what the registry says that it deletes in a repository."""
    return (await registry.deletion([repository])).deletion


async def planned(
    registry: Registry, repository: str, policy: Policy, in_use: InUse = NOTHING_IN_USE
) -> tuple[RepositoryPlan, Deletion]:
    """Plan a repository as the runner does."""
    deletion = await deletes(registry, repository)
    unit = deletion.unit
    inventory = await registry.inventory(repository, lambda tags: needs(policy, repository, tags, unit, in_use), {})
    plan = plan_repository(policy, inventory, unit, datetime.now(UTC), in_use)
    return plan.only_going(), deletion


async def applied(
    registry: Registry,
    plan: RepositoryPlan,
    deletion: Deletion,
    proceed: Callable[[], Awaitable[None]] | None = None,
    since: InUse = NOTHING_IN_USE,
) -> dict[str, tuple[Outcome, str | None]]:
    """Prune as planned; return outcome and code of each tag, and of each manifest without a name by its digest.

    `proceed` is awaited before each deletion; `since` is used by pods that appeared after the plan.
    """
    found: dict[str, tuple[Outcome, str | None]] = {}
    async with aclosing(registry.prune(plan, deletion, asked(plan, proceed, since))) as outcomes:
        async for item in outcomes:
            key = item.tag if isinstance(item, ItemOutcome) else item.digest
            assert key not in found, "a tag or manifest has one outcome"
            found[key] = (item.outcome, item.code)
    return found


def asked(
    plan: RepositoryPlan, proceed: Callable[[], Awaitable[None]] | None = None, since: InUse = NOTHING_IN_USE
) -> Proceed:
    """Return what a registry asks before each deletion, as the runner answers."""
    used = UsedSince(plan, since)

    async def may_go(digest: Digest, tags: Collection[str]) -> bool:
        if proceed is not None:
            await proceed()
        return not used.saves(digest, tags)

    return may_go


# What arrived


def kinds(requests: Iterable[Received]) -> Counter[str]:
    """Count requests by method and kind: `GET tags`, `HEAD manifests`, `GET blobs`; the check of `/v2/` is left out."""
    return Counter(f"{request.method} {_kind(request.path)}" for request in requests if request.path != "/v2/")


def references(requests: Iterable[Received], method: str) -> list[str]:
    """Return the tags and digests that requests of `method` name, in order."""
    return [request.path.rpartition("/")[2] for request in requests if request.method == method]


def _kind(path: str) -> str:
    return "catalog" if path == "/v2/_catalog" else path.split("/")[-2]
