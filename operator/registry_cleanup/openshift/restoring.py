"""Putting tags of image streams back, as long as the API server has their Image objects (openshift.md, 5)."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any

from registry_cleanup.domain.copies import CopiedTag, Undoable
from registry_cleanup.domain.reference import Digest, parse_digest
from registry_cleanup.domain.undoing import IMPORT_LOST, OVERWROTE, Undo, UndoOutcome, tag_result
from registry_cleanup.openshift.api import ImageAPI
from registry_cleanup.openshift.errors import GoneError, OddAnswerError
from registry_cleanup.openshift.streams import Stream, read_stream
from registry_cleanup.ports import RunError


def copied_tags(answer: bytes) -> Mapping[tuple[str, Digest], CopiedTag]:
    """Return the tags of the stream that an answer of the API describes, by name and digest, as copies have them."""
    document, place = _read(answer)
    stream = read_stream(document)
    found: dict[tuple[str, Digest], CopiedTag] = {}
    for tag in document["status"].get("tags") or []:
        name = str(tag["tag"])
        digest = stream.tags[name].digest if name in stream.tags else None
        if digest is None:
            continue
        reference = tag["items"][0].get("dockerImageReference")
        elsewhere = reference if isinstance(reference, str) and reference != f"{place}@{digest}" else None
        found[name, digest] = CopiedTag(stream.repository, name, digest, elsewhere or None, name in stream.managed)
    return found


class StreamRestoring:
    """What goes back into image streams; what the tags named before their last push is lost."""

    def __init__(self, api: ImageAPI, copies: Undoable, *, force: bool, dry_run: bool) -> None:
        self._api = api
        self._copies = copies
        self._force = force
        self._dry_run = dry_run

    async def outcomes(self) -> AsyncGenerator[UndoOutcome, None]:
        """Put everything back, stream by stream, and yield what became of it."""
        for tags in [there.tags for there in self._copies.by_repository() if there.tags]:
            try:
                ends = await self._stream(tags[0].repository, tags)
            except RunError as error:
                ends = [_end(tag, Undo.FAILED, code=error.code or error.failure.reason) for tag in tags]
            for end in ends:
                yield end

    async def _stream(self, repository: str, tags: Sequence[CopiedTag]) -> list[UndoOutcome]:
        """Put the tags of one stream back, and read it again for the proof; raise `RunError` where it is not there."""
        namespace, _, name = repository.partition("/")
        document, place = _read(await self._api.stream(namespace, name))
        before = read_stream(document)
        ends: dict[CopiedTag, UndoOutcome] = {}
        written: list[CopiedTag] = []
        for tag in tags:
            result = tag_result(current := _named(before, tag.tag), tag.digest, force=self._force)
            if result is not Undo.RESTORED:
                ends[tag] = _end(tag, result, current=current)
                continue
            ends[tag] = await self._tag(namespace, name, tag, tag.reference or f"{place}@{tag.digest}")
            if ends[tag].result is Undo.RESTORED and not self._dry_run:
                written.append(tag)
        if written:
            after = read_stream(_read(await self._api.stream(namespace, name))[0])
            ends.update({tag: _proved(tag, ends[tag], before, after) for tag in written})
        return [ends[tag] for tag in tags]

    async def _tag(self, namespace: str, name: str, tag: CopiedTag, reference: str) -> UndoOutcome:
        """Let a tag name its image again, unless it names another by now: between look and mapping is one request."""
        code = IMPORT_LOST if tag.managed else None
        try:
            # Without it a mapping would make an Image that knows nothing of its layers.
            if not await self._api.image_exists(tag.digest):
                return _end(tag, Undo.MISSING)
            if self._dry_run:
                return _end(tag, Undo.RESTORED, code=code)
            current = await self._current(namespace, name, tag.tag)
            if (result := tag_result(current, tag.digest, force=self._force)) is not Undo.RESTORED:
                return _end(tag, result, current=current)
            await self._api.map_image(namespace, name, tag.tag, tag.digest, reference)
        except RunError as error:
            return _end(tag, Undo.FAILED, code=error.code or error.failure.reason)
        return _end(tag, Undo.RESTORED, code=code)

    async def _current(self, namespace: str, name: str, tag: str) -> Digest | None:
        """Return what a tag names now."""
        try:
            return parse_digest((await self._api.tag(namespace, name, tag))["image"]["metadata"]["name"])
        except GoneError:
            return None
        except (LookupError, TypeError, ValueError) as error:
            raise OddAnswerError("image.openshift.io serves an image stream tag of another shape") from error


def _read(answer: bytes) -> tuple[dict[str, Any], str]:
    """Return a stream's document, and where its registry has it."""
    try:
        document: dict[str, Any] = json.loads(answer)
        stream = read_stream(document)
        status = document.setdefault("status", {})
        return document, str(status.get("dockerImageRepository") or stream.repository)
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise OddAnswerError("image.openshift.io serves an image stream of another shape") from error


def _named(stream: Stream, tag: str) -> Digest | None:
    named = stream.tags.get(tag)
    return None if named is None else named.digest


def _proved(tag: CopiedTag, end: UndoOutcome, before: Stream, after: Stream) -> UndoOutcome:
    """Return what became of a tag that was mapped, by what its stream says then."""
    if _named(after, tag.tag) != tag.digest:
        return _end(tag, Undo.FAILED, code="NotStored")
    history = after.tags[tag.tag].history
    known = before.tags[tag.tag].history if tag.tag in before.tags else ()
    if len(history) > 1 and history[1] not in known:
        return _end(tag, Undo.RESTORED, code=OVERWROTE)
    return end


def _end(tag: CopiedTag, result: Undo, *, current: Digest | None = None, code: str | None = None) -> UndoOutcome:
    return UndoOutcome(tag.repository, tag.tag, tag.digest, result, current, (), code)
