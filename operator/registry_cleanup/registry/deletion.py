"""Making manifests and tags go over `/v2/`: what a registry can do, the last look, DELETE, and the proof."""

from __future__ import annotations

import logging
import secrets
from collections import defaultdict
from collections.abc import AsyncGenerator, Awaitable, Callable

from registry_cleanup.domain.closure import DeletionUnit
from registry_cleanup.domain.deletion import Deletion, ItemOutcome, Outcome, recheck
from registry_cleanup.domain.inventory import Needs
from registry_cleanup.domain.plan import DigestGroup, RepositoryPlan
from registry_cleanup.domain.reference import Digest
from registry_cleanup.ports import Clock
from registry_cleanup.registry.client import RegistryClient
from registry_cleanup.registry.errors import (
    DeletionDisabledError,
    DeniedError,
    LoginFailedError,
    NotFoundError,
    RegistryError,
    SiblingLostError,
)
from registry_cleanup.registry.inventory import gather

_log = logging.getLogger(__name__)

# A repository is looked at again before its first deletion, and whenever the last look is older than this many
# seconds: so long is the window in which a tag pushed onto a digest that goes is not seen.
LOOK_AGAIN_AFTER = 30.0
# These make every further deletion in the repository pointless.
_HOPELESS = (DeniedError, DeletionDisabledError, LoginFailedError)


async def probe(client: RegistryClient, repository: str) -> Deletion:
    """Find out what the registry can delete, by asking it to delete what `repository` does not have.

    First a random digest: 405 says that deletion is off (Distribution 3.0 deletes tags even then, so the tag alone
    would not tell). Then a random tag: 404 says that tags can be deleted alone, 400 (Distribution 2) that digests
    only can; anything else is no clear answer, and reckoned with as digests only (registries.md, 7).
    """
    digest, tag = f"sha256:{secrets.token_hex(32)}", f"registry-cleanup-probe-{secrets.token_hex(16)}"
    _log.info(
        "asking whether the registry deletes: DELETE of a random digest and tag that do not exist",
        extra={"repository": repository, "tag": tag, "digest": digest},
    )
    try:
        await client.delete(repository, digest)
        answer = await client.delete(repository, tag)
    except DeletionDisabledError:
        return Deletion.DISABLED
    except RegistryError as error:
        # A credential that may not delete cannot ask, either: plan as carefully as for digests.
        _log.info("the registry does not say what it can delete", extra={"code": error.code})
        return Deletion.UNKNOWN
    match answer.status, answer.code:
        case 404, "MANIFEST_UNKNOWN":
            return Deletion.BY_TAG
        case 400, _:
            return Deletion.BY_DIGEST
        case _:
            return Deletion.UNKNOWN


class Pruning:
    """The deletions of one repository."""

    def __init__(
        self,
        client: RegistryClient,
        plan: RepositoryPlan,
        unit: DeletionUnit,
        clock: Clock,
        proceed: Callable[[], Awaitable[None]],
        concurrency: int,
    ) -> None:
        self._client = client
        self._plan = plan
        self._unit = unit
        self._clock = clock
        self._proceed = proceed
        self._concurrency = concurrency
        self._siblings: defaultdict[Digest, set[str]] = defaultdict(set)
        for verdict in plan.verdicts:
            if verdict.digest is not None:
                self._siblings[verdict.digest].add(verdict.tag)
        self._listed: frozenset[str] = frozenset()
        self._deleted: set[str] = set()
        self._alone = False

    async def outcomes(self) -> AsyncGenerator[ItemOutcome, None]:
        """Delete group by group and yield the verified outcome of each tag; untouched tags have none.

        Raises:
            InterruptedRunError: the policy no longer wants it.
            RegistryError: no further deletion in this repository makes sense.
        """
        remaining = self._plan.groups
        looked = None
        while remaining:
            now = self._clock.now()
            if looked is None or (now - looked).total_seconds() > LOOK_AGAIN_AFTER:
                remaining, saved = await self._look_again(remaining)
                looked = now
                for outcome in saved:
                    yield outcome
                continue
            group, remaining = remaining[0], remaining[1:]
            for reference in group.tags if self._unit is DeletionUnit.TAG else (group.digest,):
                async for outcome in self._delete(group, reference):
                    yield outcome

    async def _look_again(
        self, groups: tuple[DigestGroup, ...]
    ) -> tuple[tuple[DigestGroup, ...], tuple[ItemOutcome, ...]]:
        planned = frozenset(tag for group in groups for tag in group.tags)
        everything = self._unit is DeletionUnit.DIGEST
        there = await gather(
            self._client,
            self._plan.repository,
            lambda tags: Needs(resolved=frozenset(tags) if everything else planned.intersection(tags)),
            self._plan.manifests,
            self._concurrency,
            must_exist=False,
        )
        self._listed = there.unresolved | there.dangling | there.tags.keys()
        return recheck(groups, there, self._unit)

    async def _delete(self, group: DigestGroup, reference: str) -> AsyncGenerator[ItemOutcome, None]:
        """Delete a digest with all its tags, or one tag of it, and prove it."""
        tags = (reference,) if self._unit is DeletionUnit.TAG else group.tags
        if self._unit is DeletionUnit.TAG:
            # A tag may be moved at any time, and DELETE takes whatever it names then: look right before.
            current = await self._resolve(reference)
            if current != group.digest:
                change = Outcome.ALREADY_GONE if current is None else Outcome.MOVED
                yield ItemOutcome(reference, group.digest, change)
                return
        await self._proceed()
        refusal = await self._send(reference)
        try:
            present = await self._resolve(reference) == group.digest
        except RegistryError as error:
            for tag in tags:
                yield ItemOutcome(tag, group.digest, Outcome.FAILED, refusal or error.code)
            raise
        outcome = _believed(refusal, present=present)
        for tag in tags:
            yield ItemOutcome(tag, group.digest, outcome, refusal if outcome is Outcome.FAILED else None)
        if self._unit is DeletionUnit.TAG and outcome is Outcome.PRUNED:
            await self._prove_alone(reference, group.digest)

    async def _resolve(self, reference: str) -> Digest | None:
        descriptor = await self._client.resolve(self._plan.repository, reference, deleting=True)
        return None if descriptor is None else descriptor.digest

    async def _send(self, reference: str) -> str | None:
        """Send the DELETE; return the code of what speaks against its success, None if nothing does."""
        try:
            answer = await self._client.delete(self._plan.repository, reference)
        except _HOPELESS:
            raise
        except RegistryError as error:
            return error.code
        return None if answer.status in (200, 202, 204, 404) else answer.code

    async def _prove_alone(self, tag: str, digest: Digest) -> None:
        """See that no other tag went with `tag`; once its manifest outlives it, tags go alone at this registry.

        Not only known siblings count: where tags are deleted alone, nobody asked what the other tags stand on.
        """
        self._deleted.add(tag)
        if self._alone:
            return
        if await self._resolve(digest) is not None:
            self._alone = True
            return
        # Some registries drop a manifest with its last tag, some drop all its tags with the first: look which.
        there = await self._listed_now()
        expected = self._listed - self._deleted
        siblings = sorted(self._siblings[digest] & expected & there)
        lost = sorted(expected - there) or [tag for tag in siblings if await self._resolve(tag) is None]
        if lost:
            raise SiblingLostError(
                f"the registry removed {self._plan.repository}:{lost[0]} together with tag {tag!r}; nothing more is "
                "deleted in this run: report the registry's product and version, and push the tag again"
            )

    async def _listed_now(self) -> set[str]:
        try:
            return set(await self._client.tags(self._plan.repository))
        except NotFoundError:
            return set()


def _believed(refusal: str | None, *, present: bool) -> Outcome:
    """Believe what is there, not what was said: 202 proves nothing, and a lost answer may hide a success."""
    if not present:
        return Outcome.PRUNED
    return Outcome.NOT_DELETED if refusal is None else Outcome.FAILED
