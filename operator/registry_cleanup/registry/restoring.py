"""Putting back what was pruned: children first, then what lists them, then tags; each proved by reading."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence

from registry_cleanup.concurrency import for_each
from registry_cleanup.domain.copies import CopiedManifest, CopiedTag, Outline, Undoable, nobodys, undo_levels
from registry_cleanup.domain.reference import Digest
from registry_cleanup.domain.undoing import Undo, UndoOutcome, tag_result
from registry_cleanup.ports import Contents
from registry_cleanup.registry.client import RegistryClient
from registry_cleanup.registry.errors import ContentMissingError, RegistryError
from registry_cleanup.registry.pushing import Pusher

# Of many tags, people are told after so many.
_TOLD_TOGETHER = 64
# Of a manifest whose copy was read a moment ago.
_GONE = "CopyGone"


class Restoring:
    """What goes back into one registry."""

    def __init__(
        self,
        client: RegistryClient,
        copies: Undoable,
        contents: Contents,
        concurrency: int,
        *,
        force: bool,
        dry_run: bool,
    ) -> None:
        self._client = client
        self._contents = contents
        self._concurrency = concurrency
        self._pusher = Pusher(client)
        self._copies = copies
        self._force = force
        self._dry_run = dry_run
        self._blobs: dict[tuple[str, Digest], bool] = {}

    async def outcomes(self) -> AsyncGenerator[UndoOutcome, None]:
        """Put everything back, repository by repository, and yield what became of it.

        Manifests that a copied tag names are told of with that. Nothing is pushed but what its digest names.
        """
        for there in self._copies.by_repository():
            async for outcome in self._repository(there.manifests, there.tags):
                yield outcome

    async def _repository(
        self, manifests: Sequence[Outline], tags: Sequence[CopiedTag]
    ) -> AsyncGenerator[UndoOutcome, None]:
        held = {each.digest: each for each in manifests}
        # A tag that somebody pushed since stays, and what it named before is nobody's need then.
        looks: dict[CopiedTag, UndoOutcome] = {}

        async def look(tag: CopiedTag) -> None:
            looks[tag] = await self._look(tag)

        await for_each(tags, look, self._concurrency)
        named = {tag.digest for tag in tags}
        needed = {tag.digest for tag in tags if looks[tag].result is not Undo.REFUSED}
        wanted = held.keys() - nobodys(held, named - needed, needed)
        ends: dict[Digest, UndoOutcome] = {}
        levels = undo_levels(held.values())
        for level in levels:
            some = [each for each in level if each.digest in wanted]
            await self._put(some, ends)
            for each in some:
                if each.digest not in named and ends[each.digest].result is not Undo.ALREADY_THERE:
                    yield ends[each.digest]

        async def name(tag: CopiedTag) -> None:
            if looks[tag].result is Undo.RESTORED:
                looks[tag] = await self._tag(tag, ends.get(tag.digest))

        for wave in _waves(tags, {each.digest: number for number, level in enumerate(levels) for each in level}):
            await for_each(wave, name, self._concurrency)
            for tag in wave:
                yield looks[tag]

    async def _look(self, tag: CopiedTag) -> UndoOutcome:
        """Say what is to become of a tag."""
        try:
            found = await self._client.resolve(tag.repository, tag.tag)
        except RegistryError as error:
            return _end(tag, Undo.FAILED, code=_code(error))
        current = None if found is None else found.digest
        return _end(tag, tag_result(current, tag.digest, force=self._force), current=current)

    async def _put(self, manifests: Sequence[Outline], ends: dict[Digest, UndoOutcome]) -> None:
        """Put manifests back that do not need each other, and note what became of each; hold one part's at a time."""
        parts: dict[int, list[Outline]] = {}
        for each in manifests:
            parts.setdefault(each.part, []).append(each)
        for part, some in parts.items():
            contents = await self._contents(part)

            async def put(outline: Outline, contents: Mapping[tuple[str, Digest], CopiedManifest] = contents) -> None:
                name = outline.repository, outline.digest
                if name in contents:
                    ends[outline.digest] = await self._manifest(contents[name], ends)
                else:
                    ends[outline.digest] = UndoOutcome(
                        outline.repository, None, outline.digest, Undo.FAILED, code=_GONE
                    )

            await for_each(some, put, self._concurrency)

    async def _manifest(self, manifest: CopiedManifest, ends: Mapping[Digest, UndoOutcome]) -> UndoOutcome:
        """Put a manifest back by its digest, unless it is there."""

        def end(result: Undo, missing: tuple[Digest, ...] = (), code: str | None = None) -> UndoOutcome:
            return UndoOutcome(manifest.repository, None, manifest.digest, result, None, missing, code)

        try:
            if await self._client.resolve(manifest.repository, manifest.digest) is not None:
                return end(Undo.ALREADY_THERE)
            if not manifest.genuine:
                return end(Undo.TAMPERED)
            # A registry may take an index without what it lists, and nobody could pull it.
            lost = [ends[child] for child in manifest.children if child in ends and not _is_there(ends[child])]
            if lost:
                return end(
                    Undo.MISSING, tuple(dict.fromkeys(d for each in lost for d in (each.missing or (each.digest,))))
                )
            # The registry may take a manifest by what it remembers of its blobs, and nobody could pull it.
            blobs = [each for each in manifest.blobs if not await self._has(manifest.repository, each)]
            if blobs:
                return end(Undo.MISSING, tuple(blobs))
            if not self._dry_run:
                await self._pusher.manifest(manifest.repository, manifest.digest, manifest.content, manifest.media_type)
                if await self._client.raw(manifest.repository, manifest.digest) is None:
                    return end(Undo.FAILED, code="NotStored")
        except ContentMissingError as error:
            return end(Undo.MISSING, error.digests, error.code)
        except RegistryError as error:
            return end(Undo.FAILED, code=_code(error))
        return end(Undo.RESTORED)

    async def _has(self, repository: str, blob: Digest) -> bool:
        """Say whether the registry has a blob, by one request for each."""
        key = repository, blob
        if key not in self._blobs:
            self._blobs[key] = await self._client.serves_blob(repository, blob)
        return self._blobs[key]

    async def _tag(self, tag: CopiedTag, end: UndoOutcome | None) -> UndoOutcome:
        """Let a tag name again what it named, which is there by now."""
        if end is not None and (self._dry_run or not _is_there(end)):
            result = Undo.RESTORED if _is_there(end) else end.result
            return _end(tag, result, missing=end.missing, code=end.code)
        try:
            found = await self._client.raw(tag.repository, tag.digest)
            if found is None:
                return _end(tag, Undo.MISSING)
            if self._dry_run:
                return _end(tag, Undo.RESTORED)
            # It may have been pushed while its manifest went back: look right before.
            if (look := await self._look(tag)).result is not Undo.RESTORED:
                return look
            await self._pusher.manifest(tag.repository, tag.tag, found.content, found.media_type)
            read = await self._client.resolve(tag.repository, tag.tag)
        except ContentMissingError as error:
            return _end(tag, Undo.MISSING, missing=error.digests, code=error.code)
        except RegistryError as error:
            return _end(tag, Undo.FAILED, code=_code(error))
        there = read is not None and read.digest == tag.digest
        return _end(tag, Undo.RESTORED if there else Undo.FAILED, code=None if there else "NotStored")


def _waves(tags: Sequence[CopiedTag], levels: Mapping[Digest, int]) -> Iterator[list[CopiedTag]]:
    """Yield tags that may be pushed at the same time: one of each digest, and none whose manifest lists another's.

    To push a tag writes its manifest's files once more. Where all tags were pushed at the same time, Distribution 2.8
    on a file system now and then refused one: whoever reads such a file meanwhile may find it empty.
    """
    waves: dict[tuple[int, int], list[CopiedTag]] = {}
    seen = Counter[Digest]()
    for tag in tags:
        waves.setdefault((levels.get(tag.digest, -1), seen[tag.digest]), []).append(tag)
        seen[tag.digest] += 1
    for _, wave in sorted(waves.items()):
        for start in range(0, len(wave), _TOLD_TOGETHER):
            yield wave[start : start + _TOLD_TOGETHER]


def _code(error: RegistryError) -> str | None:
    """Return what the registry says against one tag or manifest; raise what it would say against all."""
    if error.failure.stops_run or error.failure.reachable is False:
        raise error
    return error.code


def _is_there(end: UndoOutcome) -> bool:
    return end.result in (Undo.RESTORED, Undo.ALREADY_THERE)


def _end(
    tag: CopiedTag,
    result: Undo,
    *,
    current: Digest | None = None,
    missing: tuple[Digest, ...] = (),
    code: str | None = None,
) -> UndoOutcome:
    return UndoOutcome(tag.repository, tag.tag, tag.digest, result, current, missing, code)
