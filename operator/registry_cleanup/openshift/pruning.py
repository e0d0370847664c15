"""Removing tags of one image stream: all at once where that is allowed, else one after the other, and the proof."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace

from registry_cleanup.domain.closure import DeletionUnit
from registry_cleanup.domain.deletion import ItemOutcome, Outcome, recheck
from registry_cleanup.domain.plan import DigestGroup
from registry_cleanup.domain.reference import Digest, subject_key
from registry_cleanup.openshift.api import ImageAPI
from registry_cleanup.openshift.errors import BusyError, ConflictError, GoneError, OddAnswerError
from registry_cleanup.openshift.rights import NamespaceRights
from registry_cleanup.openshift.streams import Stream, parse_stream
from registry_cleanup.ports import InterruptedRunError, Proceed, RunError

# A stream that is pushed to all the time may never hold still for an update (openshift.md, 9).
_UPDATES = 4
_TRIES = 4
# So many tags are removed one by one before the stream is read again to prove it.
_PROOF_AFTER = 50
_LONGEST_WAIT = 10.0

_Item = tuple[str, Digest]


@dataclass(slots=True)
class StreamPruning:
    """The removals in one stream.

    Attributes:
        api: with the policy's token.
        planned: the stream as it was planned.
        rights: in its namespace.
        proceed: awaited before each change, of each tag that goes with it.
        now: the stream as it was last read; None once it is gone.
        left: what may go in one update, and has no outcome yet.
        sent: tags whose removal was sent: if they are gone, it was carried out, though its answer was lost.
    """

    api: ImageAPI
    planned: Stream
    rights: NamespaceRights
    proceed: Proceed
    now: Stream | None = field(init=False)
    sent: set[str] = field(init=False, default_factory=set)
    left: tuple[DigestGroup, ...] = field(init=False, default=())

    def __post_init__(self) -> None:
        """Know the stream as it was planned, until it is read again."""
        self.now = self.planned

    async def outcomes(self, groups: tuple[DigestGroup, ...]) -> AsyncGenerator[ItemOutcome, None]:
        """Remove the tags of `groups` and yield the verified outcome of each; untouched tags have none.

        Referrers follow once no history of the stream holds what they refer to.

        Raises:
            InterruptedRunError: the policy no longer wants it.
            RunError: going on in this stream makes no sense.
        """
        waiting = groups
        while waiting:
            held = {subject_key(digest) for digest in self.now.digests()} if self.now is not None else set[str]()
            ready = tuple(group for group in waiting if not group.after & held)
            if not ready:
                return
            waiting = tuple(group for group in waiting if group.after & held)
            async for outcome in self._remove(ready):
                yield outcome

    async def _remove(self, groups: tuple[DigestGroup, ...]) -> AsyncGenerator[ItemOutcome, None]:
        # An update of the status leaves the spec alone, which would bring a managed tag back.
        self.left = _only(groups, lambda tag: self.rights.status and tag not in self.planned.managed)
        singly = _only(groups, lambda tag: not self.rights.status or tag in self.planned.managed)
        tries = _UPDATES
        while self.left:
            for _ in range(tries):
                async for outcome in self._all_at_once():
                    yield outcome
                if not self.left:
                    break
            # It may hold still once some tags went the slow way.
            some, tries = _items(self.left)[:_PROOF_AFTER], 1
            async for outcome in self._one_by_one(some):
                yield outcome
            self.left = _without(self.left, {tag for tag, _ in some})
        async for outcome in self._one_by_one(_items(singly)):
            yield outcome

    async def _all_at_once(self) -> AsyncGenerator[ItemOutcome, None]:
        """Try once to remove what is `left` in one update; nothing is left where that is settled."""
        answer = await self._read()
        if answer is None:
            left, self.left = self.left, ()
            for tag, digest in _items(left):
                yield self._gone(tag, digest)
            return
        self.left, saved = self._look_again(self.left)
        for outcome in saved:
            yield outcome
        self.left, used = await self._ask(self.left)
        for outcome in used:
            yield outcome
        if self.left and (updated := await self._update(answer, self.left)) is not None:
            going, self.left = _items(self.left), ()
            for outcome in self._shown(updated, going) or await self._proven(going, {}):
                yield outcome

    async def _read(self) -> bytes | None:
        """Read the stream as it is now, and return the answer; None if it is gone."""
        try:
            answer = await self.api.stream(self.planned.namespace, self.planned.name)
        except GoneError:
            self.now = None
            return None
        self.now = parse_stream(answer)
        return answer

    def _look_again(self, groups: tuple[DigestGroup, ...]) -> tuple[tuple[DigestGroup, ...], tuple[ItemOutcome, ...]]:
        """Decide again on the stream as it is now: a tag that was moved stays, and so does one newly claimed."""
        if self.now is None:
            return groups, ()
        there = self.now.inventory(())
        remaining, saved = recheck(groups, there, DeletionUnit.TAG)
        claimed = there.protected | there.managed
        taken = [ItemOutcome(tag, digest, Outcome.NOW_SHARED) for tag, digest in _items(remaining) if tag in claimed]
        told = [self._gone(o.tag, o.digest) if o.outcome is Outcome.ALREADY_GONE else o for o in saved]
        return _without(remaining, claimed), (*told, *taken)

    async def _ask(self, groups: tuple[DigestGroup, ...]) -> tuple[tuple[DigestGroup, ...], list[ItemOutcome]]:
        """Leave out the tags that are used by now."""
        used = [(tag, digest) for tag, digest in _items(groups) if not await self.proceed(digest, (tag,))]
        return (
            _without(groups, {tag for tag, _ in used}),
            [ItemOutcome(tag, digest, Outcome.NOW_IN_USE) for tag, digest in used],
        )

    def _gone(self, tag: str, digest: Digest) -> ItemOutcome:
        """Say of a tag that is not there whether this run or somebody else took it away."""
        return ItemOutcome(tag, digest, Outcome.PRUNED if tag in self.sent else Outcome.ALREADY_GONE)

    async def _update(self, answer: bytes, groups: tuple[DigestGroup, ...]) -> bytes | None:
        """Remove all tags of `groups` in one update of the stream as it was read; return the answer to that.

        None where the stream did not hold still for it.
        """
        going = {tag for tag, _ in _items(groups)}
        document = json.loads(answer)
        document["status"]["tags"] = [tag for tag in document["status"]["tags"] if tag["tag"] not in going]
        self.sent |= going
        try:
            return await self.api.replace_status(document)
        except (ConflictError, GoneError):
            self.sent -= going
        except BusyError as error:
            # Read and decide again: if it was carried out after all, that shows.
            await asyncio.sleep(min(error.wait or 0.5, _LONGEST_WAIT))
        return None

    def _shown(self, updated: bytes, items: Sequence[_Item]) -> list[ItemOutcome]:
        """Return the outcomes of `items` where the answer to their update proves them; none where it does not.

        The API server answers with what it stored. That is proof where it is the stream that was read, in another
        version, without any of the tags: a server that does nothing has no new version to tell of.
        """
        before = self.now
        try:
            stored = parse_stream(updated)
        except OddAnswerError:
            return []
        if before is None or (stored.repository, stored.uid) != (before.repository, before.uid):
            return []
        if not (stored.uid and stored.version) or stored.version == before.version:
            return []
        if any(tag in stored.tags for tag, _ in items):
            return []
        self.now = stored
        return [ItemOutcome(tag, digest, Outcome.PRUNED) for tag, digest in items]

    async def _one_by_one(self, items: Sequence[_Item]) -> AsyncGenerator[ItemOutcome, None]:
        for start in range(0, len(items), _PROOF_AFTER):
            refused: dict[str, str] = {}
            deleted: list[_Item] = []
            stop: Exception | None = None
            for tag, digest in items[start : start + _PROOF_AFTER]:
                try:
                    saved = await self._delete(tag, digest, refused)
                except (InterruptedRunError, RunError) as error:
                    stop = error
                    break
                if saved is None:
                    deleted.append((tag, digest))
                else:
                    yield saved
            for outcome in await self._proven(deleted, refused) if deleted else ():
                yield outcome
            if stop is not None:
                raise stop

    async def _delete(self, tag: str, digest: Digest, refused: dict[str, str]) -> ItemOutcome | None:
        """Delete one tag if it still names `digest`; return its outcome if it was not deleted.

        There is no atomic way: between the look and the DELETE lies one request (openshift.md, 5).
        """
        for attempt in range(_TRIES):
            sent = False
            try:
                current, uid, claimed = await self._current(tag)
                if current != digest:
                    return ItemOutcome(tag, digest, Outcome.MOVED)
                if claimed and tag not in self.planned.managed:
                    return ItemOutcome(tag, digest, Outcome.NOW_SHARED)
                if not await self.proceed(digest, (tag,)):
                    return ItemOutcome(tag, digest, Outcome.NOW_IN_USE)
                sent = True
                await self.api.delete_tag(self.planned.namespace, self.planned.name, tag, uid)
            except GoneError:
                return self._gone(tag, digest)
            except ConflictError:
                return ItemOutcome(tag, digest, Outcome.MOVED)  # another stream of the same name
            except BusyError as error:
                # 500 ServerTimeout means that nothing was deleted; anything else shows at the next look.
                refused[tag] = error.code or error.reason
                if sent:
                    self.sent.add(tag)
                if attempt < _TRIES - 1:
                    await asyncio.sleep(min(error.wait or 0.5 * 2**attempt, _LONGEST_WAIT))
                continue
            refused.pop(tag, None)
            return None
        return None

    async def _current(self, tag: str) -> tuple[str, str, bool]:
        """Return the digest that `tag` names now, the UID of its stream, and whether the stream's spec names it."""
        try:
            found = await self.api.tag(self.planned.namespace, self.planned.name, tag)
            claimed = bool((found.get("tag") or {}).get("from"))
            return str(found["image"]["metadata"]["name"]), str(found["metadata"]["uid"]), claimed
        except (LookupError, TypeError, AttributeError) as error:
            raise OddAnswerError("image.openshift.io serves an image stream tag of another shape") from error
        except GoneError as error:
            if not error.named.startswith("sha256:"):
                raise
        # The tag is there, its Image object is not: only the stream itself tells (openshift.md, 6).
        await self._read()
        named = self.now.tags.get(tag) if self.now is not None else None
        if self.now is None or named is None or named.digest is None:
            raise GoneError("the tag is not there")
        return named.digest, self.now.uid, tag in self.now.managed

    async def _proven(self, items: Iterable[_Item], refused: dict[str, str]) -> list[ItemOutcome]:
        """Read the stream again and say of each tag whether it is gone, whatever the API answered."""
        try:
            await self._read()
        except RunError as error:
            return [ItemOutcome(tag, digest, Outcome.FAILED, error.code) for tag, digest in items]
        there = {} if self.now is None else self.now.tags
        outcomes = []
        for tag, digest in items:
            named = there.get(tag)
            if named is None or named.digest != digest:
                outcomes.append(ItemOutcome(tag, digest, Outcome.PRUNED))
            elif tag in refused:
                outcomes.append(ItemOutcome(tag, digest, Outcome.FAILED, refused[tag]))
            else:
                outcomes.append(ItemOutcome(tag, digest, Outcome.NOT_DELETED))
        return outcomes


def _items(groups: Iterable[DigestGroup]) -> list[_Item]:
    return [(tag, group.digest) for group in groups for tag in group.tags]


def _only(groups: Iterable[DigestGroup], wanted: Callable[[str], bool]) -> tuple[DigestGroup, ...]:
    """Return the part of `groups` whose tags are wanted."""
    parts = (replace(group, tags=tuple(filter(wanted, group.tags))) for group in groups)
    return tuple(part for part in parts if part.tags)


def _without(groups: Iterable[DigestGroup], tags: Collection[str]) -> tuple[DigestGroup, ...]:
    """Return the part of `groups` that is none of `tags`."""
    return _only(groups, lambda tag: tag not in tags)
