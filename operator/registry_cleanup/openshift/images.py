"""Reading the images of one stream: what they list, their config, and when they were built (openshift.md, 6)."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any

from registry_cleanup.concurrency import for_each
from registry_cleanup.domain.inventory import Format, Manifest
from registry_cleanup.domain.reference import Digest, parse_digest
from registry_cleanup.openshift.api import ImageAPI
from registry_cleanup.openshift.errors import GoneError, OddAnswerError
from registry_cleanup.openshift.streams import Stream


class StreamImages:
    """The images of one stream, from the API, each read once: the registry would pull an import into storage."""

    def __init__(self, api: ImageAPI, stream: Stream, concurrency: int) -> None:
        self._api = api
        self._stream = stream
        self._concurrency = concurrency
        self._read: dict[Digest, Mapping[str, Any] | None] = {}

    async def manifests(self, *, configs: bool) -> dict[Digest, Manifest]:
        """Return what every image of every history is and lists, and its config, with those that indexes list.

        Args:
            configs: whether the config of what an index lists is needed too.
        """
        named = self._stream.digests()
        await self._read_all(named)
        found = {digest: self._manifest(digest) for digest in named}
        if configs:
            listed = {child for manifest in found.values() for child in manifest.children} - named
            await self._read_all(listed)
            found |= {child: self._manifest(child) for child in listed}
        return found

    async def built(self, digests: Collection[Digest]) -> dict[Digest, datetime | None]:
        """Return when images were built; None where nobody says."""
        await self._read_all(digests)
        children = {digest: self._manifest(digest).children for digest in digests}
        await self._read_all({child for those in children.values() for child in those})
        dates: dict[Digest, datetime | None] = {}
        for digest in digests:
            # The date of an index is that of its push or import (openshift.md, 6): its children know better.
            each = [_date(self._read[part]) for part in children[digest] or (digest,)]
            dates[digest] = None if None in each else max(date for date in each if date is not None)
        return dates

    async def _read_all(self, digests: Collection[Digest]) -> None:
        await for_each(sorted(set(digests) - self._read.keys()), self._read_one, self._concurrency)

    async def _read_one(self, digest: Digest) -> None:
        try:
            found = await self._api.image(self._stream.namespace, self._stream.name, digest)
            image = found["image"]
            image.get("metadata")
        except GoneError:
            self._read[digest] = None
        except (LookupError, TypeError, AttributeError) as error:
            raise _odd() from error
        else:
            self._read[digest] = image

    def _manifest(self, digest: Digest) -> Manifest:
        image = self._read[digest]
        if image is None:
            return Manifest(digest, Format.IMAGE)
        try:
            children = tuple(parse_digest(child["digest"]) for child in image.get("dockerImageManifests") or [])
        except (LookupError, TypeError, AttributeError, ValueError) as error:
            raise _odd() from error
        if children:
            return Manifest(digest, Format.INDEX, children)
        return Manifest(digest, Format.IMAGE, config=_config(image))


def _odd() -> OddAnswerError:
    return OddAnswerError("image.openshift.io serves an image of another shape")


def _config(image: Mapping[str, Any]) -> Digest | None:
    """Return the digest of an image's config; one of the oldest format has none."""
    try:
        return parse_digest(str((image.get("dockerImageMetadata") or {}).get("Id")))
    except (ValueError, AttributeError):
        return None


def _date(image: Mapping[str, Any] | None) -> datetime | None:
    try:
        created = ((image or {}).get("dockerImageMetadata") or {}).get("Created")
        moment = datetime.fromisoformat(created) if isinstance(created, str) else None
    except AttributeError as error:
        raise _odd() from error
    except ValueError:
        return None
    return moment if moment is not None and moment.tzinfo is not None else None
