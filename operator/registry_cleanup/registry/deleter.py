"""The hands of pruning in one repository: a look at it, HEAD, DELETE, and the proof of what became of it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TypeAlias

from registry_cleanup.domain.deletion import Outcome
from registry_cleanup.domain.inventory import Inventory, Manifest, Needs
from registry_cleanup.domain.reference import Digest
from registry_cleanup.ports import Clock, Proceed
from registry_cleanup.registry.client import RegistryClient
from registry_cleanup.registry.errors import (
    DeletionDisabledError,
    DeniedError,
    LoginFailedError,
    NotFoundError,
    ReadOnlyError,
    RegistryError,
)
from registry_cleanup.registry.inventory import gather, read_manifests
from registry_cleanup.registry.transport import RetryableError

# Where digests are deleted, a repository is looked at again before the first deletion, and whenever the last look began
# more than so many seconds ago: so long is the window in which a tag that moves onto a digest that goes is not seen.
_LOOK_AGAIN_AFTER = 30.0
# A look at 50,000 tags takes longer than that itself: so that something goes after it, it holds twice what it took.
_HOLDS_TIMES = 2.0
# Who waits to try a deletion again asks so often (seconds) whether it may go at all.
_ASK_SECONDS = 0.5
# These make every further deletion in the repository pointless.
_HOPELESS = (DeniedError, DeletionDisabledError, ReadOnlyError, LoginFailedError)


Last: TypeAlias = Callable[[], None]
"""Called right before a DELETE is sent, and while it waits to be sent again; if it raises, nothing is sent."""


def _nothing() -> None:
    """Speak against nothing."""


class InUseError(Exception):
    """A pod uses by now what was to go."""


class LookAgainError(Exception):
    """The registry did nothing and was given time: what was seen before is old, so look again before the next try."""


@dataclass(frozen=True, slots=True)
class Deleted:
    """What became of one deletion.

    Attributes:
        outcome: by what is there afterwards.
        code: of the registry's refusal, where it failed.
        gone: whether the registry has no such reference any more; a tag may have moved instead.
        error: why nobody knows what is there; to be raised once the outcome is told.
    """

    outcome: Outcome
    code: str | None = None
    gone: bool = False
    error: RegistryError | None = None


@dataclass(frozen=True, slots=True)
class Look:
    """A look at a whole repository.

    Attributes:
        began: before its first request.
        ended: after its last.
    """

    began: datetime
    ended: datetime

    def holds(self, now: datetime) -> bool:
        """Say whether deletions may go by it at `now`."""
        took = (self.ended - self.began).total_seconds()
        # A clock that was put back makes a look neither younger nor older: nobody knows.
        return 0 <= (now - self.began).total_seconds() <= max(_LOOK_AGAIN_AFTER, _HOLDS_TIMES * took)


class Deleter:
    """Looks at one repository and deletes there; believes what is there, not what was said.

    Attributes:
        repository: its name.
        concurrency: so many requests may be worth sending at a time.
    """

    def __init__(
        self,
        client: RegistryClient,
        repository: str,
        clock: Clock,
        proceed: Proceed,
        concurrency: int,
    ) -> None:
        self.repository = repository
        self._client = client
        self._clock = clock
        self._proceed = proceed
        self.concurrency = concurrency
        self._refused = Counter[str]()  # how often, by reference

    def now(self) -> datetime:
        """Return the present."""
        return self._clock.now()

    def outdated(self, look: Look | None) -> bool:
        """Say whether what was seen has to be looked at again before anything is deleted."""
        return look is None or not look.holds(self.now())

    async def look(self, needs: Callable[[Collection[str]], Needs], known: Mapping[Digest, Manifest]) -> Inventory:
        """Read the repository as it is now, which may have been emptied."""
        return await gather(self._client, self.repository, needs, known, self.concurrency, must_exist=False)

    async def tags(self) -> set[str]:
        """Return the tags that are listed now."""
        try:
            return set(await self._client.tags(self.repository))
        except NotFoundError:
            return set()

    async def resolve(self, reference: str, expected: Digest | None = None) -> Digest | None:
        """Return what a tag or digest, `expected` to name a digest, names now; None if it is gone."""
        descriptor = await self._client.resolve(self.repository, reference, deleting=True, expected=expected)
        return None if descriptor is None else descriptor.digest

    async def referrers(self, digest: Digest) -> Mapping[Digest, Manifest]:
        """Read what the registry says that refers to `digest`, and the indexes that it lists."""
        named = await self._client.referrers(self.repository, digest)
        return await read_manifests(self._client, self.repository, named, {}, self.concurrency)

    async def delete(self, reference: str, digest: Digest, tags: Collection[str], last: Last = _nothing) -> Deleted:
        """Delete a tag or digest, which names `digest`, if the run may go on; the outcome is what is there then.

        Args:
            reference: what is deleted.
            digest: that it names.
            tags: that go with it.
            last: as in `send`.

        Raises:
            LookAgainError: as `send` does.
            InterruptedRunError: the policy no longer wants it.
            RegistryError: no further deletion in this repository makes sense.
        """
        try:
            refusal = await self.send(reference, digest, tags, last)
        except InUseError:
            return Deleted(Outcome.NOW_IN_USE)
        try:
            current = await self.resolve(reference)
        except RegistryError as error:
            return Deleted(Outcome.FAILED, refusal or error.code, error=error)
        return self.judged(current, digest, refusal)

    def judged(self, current: Digest | None, digest: Digest, refusal: str | None) -> Deleted:
        """Return what became of a deletion by what its reference, which named `digest`, names afterwards."""
        if current != digest:
            return Deleted(Outcome.PRUNED, gone=current is None)
        # 202 proves nothing, and a lost answer may hide a success.
        return Deleted(Outcome.NOT_DELETED) if refusal is None else Deleted(Outcome.FAILED, refusal)

    async def send(
        self,
        reference: str,
        digest: Digest,
        tags: Collection[str],
        last: Last = _nothing,
        sending: Callable[[], None] = _nothing,
    ) -> str | None:
        """Send the DELETE if the run may go on; return the code of what speaks against its success, if anything does.

        Args:
            reference: what is deleted.
            digest: that it names.
            tags: that go with it.
            last: called when nothing is left to wait for; if it raises, nothing is sent.
            sending: called when it is sent.

        Raises:
            LookAgainError: nothing was done, and the wait for another try is over; so it ends at the latest after as
                many tries as any request has.
            InUseError: a pod uses it by now, so nothing was sent.
            InterruptedRunError: the policy no longer wants it.
            RegistryError: no further deletion in this repository makes sense, and this one was not carried out.
        """

        async def may_go() -> None:
            if not await self._proceed(digest, tags):
                raise InUseError
            last()

        async def ready() -> None:
            await may_go()  # only now: a DELETE may have waited for its place
            sending()

        tries, limits = self._refused[reference] + 1, self._client.limits
        try:
            answer = await self._client.delete(self.repository, reference, ready, again=tries > 1)
        except RetryableError as refused:
            if tries >= limits.attempts:
                return refused.error.code
            self._refused[reference] = tries
            await _wait(limits.wait(refused.wait, tries), may_go)
            raise LookAgainError from refused
        except _HOPELESS:
            raise
        except RegistryError as error:
            return error.code
        return None if answer.accepted or answer.status == 404 else answer.code


async def _wait(seconds: float, may_go: Callable[[], Awaitable[None]]) -> None:
    """Wait so long, or until `may_go` raises; hold no place at the gate meanwhile."""
    loop = asyncio.get_running_loop()
    until = loop.time() + seconds
    while (left := until - loop.time()) > 0:
        await asyncio.sleep(min(left, _ASK_SECONDS))
        await may_go()
