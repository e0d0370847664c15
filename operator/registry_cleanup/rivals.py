"""Who else prunes at a policy's registry, whatever name each policy uses for it."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime, timedelta

from typing_extensions import override

from registry_cleanup.concurrency import for_each
from registry_cleanup.domain.conflict import Likeness, Rival, likeness, overall, seniority, telling
from registry_cleanup.domain.inventory import Needs
from registry_cleanup.domain.reference import Digest
from registry_cleanup.domain.trust import Endpoint, Host, RegistryHosts
from registry_cleanup.kube.api import APIError, right_to_policies
from registry_cleanup.kube.spec import ParsedPolicy
from registry_cleanup.ports import Clock, InterruptedRunError, Registry, Rivals, RunError

_log = logging.getLogger(__name__)

Connect = Callable[[ParsedPolicy], AbstractAsyncContextManager[Registry]]
"""Opens the registry of a policy, with that policy's credential and no other."""
Resolve = Callable[[str, int], Awaitable[Collection[str]]]
"""Returns the addresses of a host at a port; none where it has no name or nobody answers in time."""

# So much is looked at to compare two registries, and no longer than this.
_REPOSITORIES = 3
_TAGS = 5
_COMPARE_SECONDS = 30.0
_RESOLVE_SECONDS = 5.0
_AT_A_TIME = 4
# For so long two registries stay what they were found to be.
_HOLDS = timedelta(minutes=10)
# One that hangs must not hold up every run of everybody else.
_UNKNOWN_HOLDS = timedelta(minutes=1)
_FORGET = timedelta(days=1)

_Pair = frozenset[tuple[str, int, str | None]]


class PolicyRivals(Rivals):
    """The rivals of one policy."""

    def __init__(
        self,
        policy: ParsedPolicy,
        live: Callable[[], Awaitable[Sequence[ParsedPolicy]]],
        registries: SameRegistry,
    ) -> None:
        """Find the rivals of `policy` among the policies that prune, which `live` reads."""
        self._policy = policy
        self._live_policies = live
        self._registries = registries

    @override
    async def at(self, registry: Registry, repositories: Sequence[str]) -> Sequence[Rival]:
        """Return the live policies that select some of `repositories` at the same registry, the oldest first.

        Raises:
            InterruptedRunError: the policies could not be read, so that nobody knows who else prunes.
        """
        selected = {
            other.uid: (other, [name for name in repositories if other.policy.repositories.selects(name)])
            for other in await self._live()
        }
        found: list[ParsedPolicy] = []

        async def look(uid: str) -> None:
            other, common = selected[uid]
            if common and await self._registries.same(self._policy, registry, other, common):
                found.append(other)

        await for_each(selected, look, _AT_A_TIME)
        return [self._rival(other) for other in sorted(found, key=_seniority)]

    async def _live(self) -> list[ParsedPolicy]:
        """Return the other policies that prune."""
        try:
            live = await self._live_policies()
        except APIError as error:
            message = f"the other policies could not be read, so one of them may conflict{right_to_policies(error)}"
            raise InterruptedRunError(message) from error
        return [policy for policy in live if policy.uid != self._policy.uid]

    def _rival(self, other: ParsedPolicy) -> Rival:
        return Rival(
            other.namespace,
            other.name,
            other.uid,
            _seniority(other) < _seniority(self._policy),
            other.policy.repositories,
            tuple(other.policy.keep_tags),
        )


class SameRegistry:
    """Finds out whether two policies work at one registry; what was found holds for some minutes.

    By their names, if these say it. Otherwise by what a few tags of a few common repositories name in each, looked at
    with the credential of its own policy: equal tags make one registry, any difference makes two. An exact mirror is
    treated alike, for lack of any difference. Host names that resolve to one address are two names of one registry
    unless the tags show that they are not: many registries may be served by one front.

    A registry that cannot be reached or read is another one, since its policy cannot prune either, unless it was found
    to be the same before.
    """

    def __init__(
        self,
        connect: Connect,
        cluster: Callable[[], Awaitable[RegistryHosts]],
        clock: Clock,
        resolve: Resolve | None = None,
        *,
        unknown_is_one: bool = False,
    ) -> None:
        """Open registries with `connect`; `cluster` tells the hosts of the cluster's own registry.

        `unknown_is_one` where what cannot be compared counts as the same registry.
        """
        self._unknown_is_one = unknown_is_one
        self._connect = connect
        self._cluster = cluster
        self._clock = clock
        self._resolve = resolve or resolve_host
        self._found: dict[_Pair, tuple[bool, datetime]] = {}
        self._unknown: dict[_Pair, datetime] = {}

    async def same(
        self, mine: ParsedPolicy, registry: Registry, theirs: ParsedPolicy, common: Sequence[str] | None
    ) -> bool:
        """Say whether `registry`, which is open for `mine`, is that of `theirs`.

        Both select `common`, some names; None where it matters what `theirs` sees, whatever `mine` selects.
        """
        if _by_url(mine, theirs):
            return True
        # What a policy pruned may be at another registry than it names by now.
        pair = frozenset((each.uid, each.generation, each.registry.url) for each in (mine, theirs))
        before = self._found.get(pair)
        now = self._clock.now()
        if before is not None and now - before[1] < _HOLDS:
            return before[0]
        tried = self._unknown.get(pair)
        recently = tried is not None and now - tried < _UNKNOWN_HOLDS
        found = None if recently else await self._look(mine, registry, theirs, common)
        if found is None:
            if not recently:
                self._unknown = {other: at for other, at in self._unknown.items() if now - at < _UNKNOWN_HOLDS}
                self._unknown[pair] = now
            return self._unknown_is_one if before is None else before[0]
        self._found = {other: what for other, what in self._found.items() if now - what[1] < _FORGET}
        self._found[pair] = (found, now)
        return found

    async def _look(
        self, mine: ParsedPolicy, registry: Registry, theirs: ParsedPolicy, common: Sequence[str] | None
    ) -> bool | None:
        """Return what can be found out now; None for nothing."""
        if await self._by_cluster(mine, theirs):
            return True
        one_front = await self._by_address(mine, theirs)
        try:
            async with asyncio.timeout(_COMPARE_SECONDS):
                what = await self._by_content(registry, theirs, common)
        except RunError as error:
            what, cause = Likeness.UNKNOWN, error.failure.message
        except TimeoutError:
            what, cause = Likeness.UNKNOWN, f"no end after {_COMPARE_SECONDS:.0f} seconds"
        else:
            cause = "there are no tags to compare"
        if what is not Likeness.UNKNOWN:
            return what is Likeness.SAME
        if one_front:
            return True
        extra = {"policy": f"{mine.namespace}/{mine.name}", "other": f"{theirs.namespace}/{theirs.name}"}
        _log.info(
            "the registries of two policies could not be compared; they count as %s, unless found out before",
            "one" if self._unknown_is_one else "two",
            extra={**extra, "cause": cause},
        )
        return None

    async def _by_cluster(self, mine: ParsedPolicy, theirs: ParsedPolicy) -> bool:
        """Say whether both work on the image streams of this cluster."""
        try:
            hosts = await self._cluster()
        except APIError:
            hosts = RegistryHosts(None)
        return all(_integrated(policy, hosts) for policy in (mine, theirs))

    async def _by_address(self, mine: ParsedPolicy, theirs: ParsedPolicy) -> bool:
        """Say whether both names stand for one address and port."""
        if mine.registry.url is None or theirs.registry.url is None:
            return False
        one, other = Endpoint.of(mine.registry.url), Endpoint.of(theirs.registry.url)
        if one.port != other.port:
            return False
        found = await asyncio.gather(*(self._resolve(end.host, end.port) for end in (one, other)))
        return bool(set(found[0]) & set(found[1]))

    async def _by_content(self, registry: Registry, theirs: ParsedPolicy, common: Iterable[str] | None) -> Likeness:
        """Compare what the registries hold in repositories that both policies see; raise `RunError`."""
        async with self._connect(theirs) as other:
            seen = set(await other.repositories())
            if common is None:
                # Its own too where none is seen by both: one registry has them by either name.
                names = [name for name in await registry.repositories() if name in seen] or list(seen)
                if not names:
                    return Likeness.UNKNOWN
            else:
                names = [name for name in common if name in seen]
            if not names:
                return Likeness.DIFFERENT  # what a policy does not see it does not prune
            found = []
            for name in sorted(telling(names, _REPOSITORIES)):
                before = await _tags(registry, name)
                there = await _tags(other, name)
                after = before if there == before else await _tags(registry, name)
                found.append(likeness(before, there, after))
            return overall(found)


async def resolve_host(host: str, port: int) -> Collection[str]:
    """Return the addresses of `host`, as the system's resolver knows it."""
    try:
        async with asyncio.timeout(_RESOLVE_SECONDS):
            found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError, TimeoutError):
        return ()
    return {str(address[0]) for *_, address in found}


async def _tags(registry: Registry, repository: str) -> Mapping[str, Digest]:
    """Return what the telling tags of `repository` name."""
    chosen: frozenset[str] = frozenset()

    def needs(tags: Collection[str]) -> Needs:
        nonlocal chosen
        chosen = telling(tags, _TAGS)
        return Needs(resolved=chosen)

    try:
        inventory = await registry.inventory(repository, needs, {})
    except RunError as error:
        if error.code != "NAME_UNKNOWN":
            raise
        return {}
    return {tag: digest for tag, digest in inventory.tags.items() if tag in chosen}


def _seniority(policy: ParsedPolicy) -> tuple[datetime, str, str]:
    return seniority(policy.created, policy.namespace, policy.name)


def _by_url(mine: ParsedPolicy, theirs: ParsedPolicy) -> bool:
    """Say whether both write the same host and port, or leave them to the cluster."""
    one, other = (
        (Endpoint.of(url).host.rstrip("."), Endpoint.of(url).port) if url is not None else None
        for url in (mine.registry.url, theirs.registry.url)
    )
    return one == other


def _integrated(policy: ParsedPolicy, hosts: RegistryHosts) -> bool:
    """Say whether it is the cluster's own registry, by its type, which no other fits, or by a host of the cluster."""
    url = policy.registry.url
    if url is None or policy.registry.type == "OpenShift":
        return True
    return any(Host.parse(host).covers(Endpoint.of(url)) for host in hosts.all)
