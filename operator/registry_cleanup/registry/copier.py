"""Taking copies of what is about to go from one repository, many at a time, before the first of them goes."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from registry_cleanup.concurrency import for_each
from registry_cleanup.domain.copies import COPY_TOO_LARGE, CopiedManifest, CopiedTag
from registry_cleanup.domain.inventory import Format
from registry_cleanup.domain.plan import DigestGroup
from registry_cleanup.domain.reference import Digest
from registry_cleanup.ports import Keep, RunError
from registry_cleanup.registry.client import RegistryClient
from registry_cleanup.registry.errors import MalformedAnswerError
from registry_cleanup.registry.manifests import MOST_CHILDREN, format_of

# So many digests are copied together: one part of the copies costs some requests, however much it holds.
_AHEAD = 256
# Manifests of so many bytes are read for one part; a larger one is a part by itself.
_PART_BYTES = 4 * 1024 * 1024
_GONE = "MANIFEST_UNKNOWN"
# Of manifests that may be large, so many are read at the same time: each may have 4 MiB, and anybody may push one.
_FEW, _SMALL = 4, 256 * 1024


class Copier:
    """Copies of one repository's tags and manifests; without anything to keep them with, none are wanted."""

    def __init__(self, client: RegistryClient, repository: str, keep: Keep | None, concurrency: int) -> None:
        self._client = client
        self._repository = repository
        self._keep = keep
        self._concurrency = concurrency
        self._tags: set[CopiedTag] = set()
        self._manifests: set[Digest] = set()
        self._refused: dict[Digest, str] = {}

    async def take(self, groups: Sequence[DigestGroup], at: int) -> None:
        """See to it that there is a copy of the group at `at`, or a reason why not; copy what follows on the way."""
        if self._keep is None or self._settled(groups[at]):
            return
        ahead = [group for group in groups[at : at + _AHEAD] if not self._settled(group)]
        while ahead:
            ahead = await self._copy(ahead, self._keep)

    def refusal(self, group: DigestGroup) -> str | None:
        """Return why there is no copy of `group`; None where there is one, or none is wanted."""
        if self._keep is None or self._copied(group):
            return None
        return self._refused.get(group.digest, _GONE)

    def covered(self, groups: Sequence[DigestGroup], at: int, most: int) -> int:
        """Return how many groups from `at` on, at most `most`, are copied."""
        if self._keep is None:
            return most
        for number, group in enumerate(groups[at : at + most]):
            if not self._copied(group):
                return number
        return most

    def _copied(self, group: DigestGroup) -> bool:
        return group.digest in self._manifests and all(
            CopiedTag(self._repository, tag, group.digest) in self._tags for tag in group.tags
        )

    def _settled(self, group: DigestGroup) -> bool:
        return group.digest in self._refused or self._copied(group)

    async def _copy(self, groups: Sequence[DigestGroup], keep: Keep) -> list[DigestGroup]:
        """Copy as many of `groups` as make one part, and return the others."""
        reading = _Reading(keep, self._manifests)
        start = 0
        try:
            while start < len(groups) and not (start and reading.full):
                some = groups[start : start + self._concurrency]
                start += len(some)
                await self._read([group.digest for group in some], reading)
            whole = [group for group in groups[:start] if group.digest not in self._refused]
            tags = [CopiedTag(self._repository, tag, group.digest) for group in whole for tag in group.tags]
            if whole:
                await reading.keep([tag for tag in tags if tag not in self._tags])
        except RunError as error:
            if error.code == COPY_TOO_LARGE and start > 1:
                # One of them is; the others are no worse for it.
                for group in groups[:start]:
                    if not self._settled(group):
                        await self._copy([group], keep)
                return list(groups[start:])
            code = error.code or error.failure.reason
            self._refused.update((group.digest, code) for group in groups[:start] if group.digest not in self._refused)
        else:
            self._tags.update(tags)
            self._manifests.update(reading.whole())
        return list(groups[start:])

    async def _read(self, digests: Sequence[Digest], reading: _Reading) -> None:
        """Read manifests with all that they list; of those that cannot be read, remember why."""
        wanted: list[Digest] = list(dict.fromkeys(digests))
        for_whom: dict[Digest, set[Digest]] = {digest: {digest} for digest in wanted}
        must_exist, failed = frozenset(digests), dict[Digest, str]()
        while wanted:
            await self._read_level([d for d in wanted if not reading.knows(d)], reading, must_exist, failed)
            listed = [(digest, child) for digest in wanted for child in reading.children.get(digest, ())]
            new = list(dict.fromkeys(child for _, child in listed if child not in for_whom))
            for digest, child in listed:
                for_whom.setdefault(child, set()).update(for_whom[digest])
            wanted = new
            if len(for_whom) > MOST_CHILDREN:
                raise MalformedAnswerError(f"an index of {self._repository} lists too many manifests to copy them")
        reading.failed |= failed.keys()
        for digest, code in failed.items():
            self._refused.update(dict.fromkeys(for_whom[digest], code))

    async def _read_level(
        self,
        digests: Sequence[Digest],
        reading: _Reading,
        must_exist: Collection[Digest],
        failed: dict[Digest, str],
    ) -> None:
        """Read manifests by themselves, some at a time, and note why some could not be read."""
        start = 0
        while start < len(digests):
            some = digests[start : start + (self._concurrency if reading.small else _FEW)]
            start += len(some)
            if reading.full:
                await reading.keep(())

            async def one(digest: Digest) -> None:
                try:
                    found = await self._client.raw(self._repository, digest)
                except RunError as error:
                    failed[digest] = error.code or error.failure.reason
                    return
                if found is not None:
                    manifest = CopiedManifest(self._repository, digest, found.media_type, found.content)
                    if _comes_back(manifest):
                        reading.add(manifest)
                    else:
                        failed[digest] = MalformedAnswerError.reason
                elif digest in must_exist:
                    # Of a child that is not there, nothing can be lost.
                    failed[digest] = _GONE

            await for_each(some, one, self._concurrency)


class _Reading:
    """What is read for one part of the copies, or for several where it is large.

    Attributes:
        children: of what was read, each listed manifest once.
        failed: what could not be read.
        small: whether what was read last was, so that many may be read at the same time.
    """

    def __init__(self, keep: Keep, known: Collection[Digest]) -> None:
        """Read what is to be kept with `keep`, but for what is `known` to be kept."""
        self.children: dict[Digest, tuple[Digest, ...]] = {}
        self.failed: set[Digest] = set()
        self.small = False
        self._keep = keep
        self._known = known
        self._held: dict[Digest, CopiedManifest] = {}
        self._kept: set[Digest] = set()

    @property
    def full(self) -> bool:
        """Whether what is held is enough for a part."""
        return sum(len(each.content) for each in self._held.values()) >= _PART_BYTES

    def knows(self, digest: Digest) -> bool:
        """Say whether a manifest need not be read."""
        return digest in self._known or digest in self.children

    def add(self, manifest: CopiedManifest) -> None:
        """Take what was read."""
        self._held[manifest.digest] = manifest
        self.children[manifest.digest] = manifest.children
        self.small = len(manifest.content) <= _SMALL

    async def keep(self, tags: Sequence[CopiedTag]) -> None:
        """Write down what is held, and hold it no more: manifests may be large, and an index may list many."""
        held, self._held = self._held, {}
        await self._keep(tags, list(held.values()))
        self._kept |= held.keys()

    def whole(self) -> set[Digest]:
        """Return what is kept with all that it lists."""
        broken, more = set(self.failed), True
        while more:
            more = False
            for digest, children in self.children.items():
                if digest not in broken and not broken.isdisjoint(children):
                    broken.add(digest)
                    more = True
        return self._kept - broken


def _comes_back(manifest: CopiedManifest) -> bool:
    """Say whether a registry takes a manifest again as it was served: some box on the way may change what it is called.

    What does not say itself what it is has to be of a kind that we know.
    """
    known = manifest.typed or format_of(manifest.media_type) is not Format.UNKNOWN
    return manifest.genuine and manifest.readable and known
