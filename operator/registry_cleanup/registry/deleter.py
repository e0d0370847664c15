"""The hands of pruning in one repository: a look at it, HEAD, DELETE, and the proof of what became of it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import datetime

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
from registry_cleanup.registry.transport import Ready

# A repository is looked at again before its first deletion, and whenever the last look is older than this many
# seconds: so long is the window in which a tag pushed onto a digest that goes is not seen.
LOOK_AGAIN_AFTER = 30.0
# These make every further deletion in the repository pointless.
_HOPELESS = (DeniedError, DeletionDisabledError, ReadOnlyError, LoginFailedError)


class _InUseError(Exception):
    """A pod uses by now what was to go."""


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


class Deleter:
    """Looks at one repository and deletes there; believes what is there, not what was said."""

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
        self._concurrency = concurrency

    def now(self) -> datetime:
        """Return the present."""
        return self._clock.now()

    def outdated(self, looked: datetime | None) -> bool:
        """Say whether what was seen at `looked` has to be looked at again before anything is deleted."""
        # A clock that was put back makes a look neither younger nor older: nobody knows.
        return looked is None or not 0 <= (self.now() - looked).total_seconds() <= LOOK_AGAIN_AFTER

    async def look(self, needs: Callable[[Collection[str]], Needs], known: Mapping[Digest, Manifest]) -> Inventory:
        """Read the repository as it is now, which may have been emptied."""
        return await gather(self._client, self.repository, needs, known, self._concurrency, must_exist=False)

    async def tags(self) -> set[str]:
        """Return the tags that are listed now."""
        try:
            return set(await self._client.tags(self.repository))
        except NotFoundError:
            return set()

    async def resolve(self, reference: str) -> Digest | None:
        """Return what a tag or digest names now; None if it is gone."""
        descriptor = await self._client.resolve(self.repository, reference, deleting=True)
        return None if descriptor is None else descriptor.digest

    async def referrers(self, digest: Digest) -> Mapping[Digest, Manifest]:
        """Read what the registry says that refers to `digest`, and the indexes that it lists."""
        named = await self._client.referrers(self.repository, digest)
        return await read_manifests(self._client, self.repository, named, {}, self._concurrency)

    async def delete(self, reference: str, digest: Digest, tags: Collection[str]) -> Deleted:
        """Delete a tag or digest, which names `digest`, if the run may go on; the outcome is what is there then.

        Args:
            reference: what is deleted.
            digest: that it names.
            tags: that go with it.

        Raises:
            InterruptedRunError: the policy no longer wants it.
            RegistryError: no further deletion in this repository makes sense.
        """

        async def ready() -> None:
            # Only now: a DELETE may have waited for its place, and again after a 429.
            if not await self._proceed(digest, tags):
                raise _InUseError

        try:
            refusal = await self._send(reference, ready)
        except _InUseError:
            return Deleted(Outcome.NOW_IN_USE)
        try:
            current = await self.resolve(reference)
        except RegistryError as error:
            return Deleted(Outcome.FAILED, refusal or error.code, error=error)
        if current != digest:
            return Deleted(Outcome.PRUNED, gone=current is None)
        # 202 proves nothing, and a lost answer may hide a success.
        return Deleted(Outcome.NOT_DELETED) if refusal is None else Deleted(Outcome.FAILED, refusal)

    async def _send(self, reference: str, ready: Ready) -> str | None:
        """Send the DELETE; return the code of what speaks against its success, None if nothing does."""
        try:
            answer = await self._client.delete(self.repository, reference, ready)
        except _HOPELESS:
            raise
        except RegistryError as error:
            return error.code
        return None if answer.accepted or answer.status == 404 else answer.code
