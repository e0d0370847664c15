"""Copies as OCI artifacts in a repository of the same registry: a manifest for each part, tagged with its name."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from typing_extensions import override

from registry_cleanup.domain.copies import copy_name, is_copy_name, parse_copy_name
from registry_cleanup.domain.copy_parts import ARTIFACT_TYPE, LAYER_TYPE
from registry_cleanup.domain.reference import Digest, parse_digest
from registry_cleanup.ports import CopyStore
from registry_cleanup.registry.client import RegistryClient
from registry_cleanup.registry.errors import (
    DeletionDisabledError,
    MalformedAnswerError,
    NotFoundError,
    NotStoredError,
    RegistryError,
)
from registry_cleanup.registry.pushing import Pusher

_MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
# OCI image specification, "Guidance for an Empty Descriptor".
_EMPTY_TYPE, _EMPTY = "application/vnd.oci.empty.v1+json", b"{}"
# One of ours has less than 1 KiB; no more of what others pushed is parsed.
_LARGEST = 8 * 1024


class ArtifactCopies(CopyStore):
    """The copies of one policy in one repository, which other policies may use, too."""

    def __init__(self, client: RegistryClient, repository: str, policy: str) -> None:
        """Keep copies in `repository`, under names of the policy with the UID `policy`."""
        self._client = client
        self._pusher = Pusher(client)
        self._where = repository
        self._policy = policy
        self._config: Digest | None = None

    @property
    @override
    def repository(self) -> str:
        return self._where

    @property
    @override
    def most_bytes(self) -> int:
        return 8 * 1024 * 1024

    @override
    async def write(self, run: str, part: int, content: bytes) -> bytes:
        if self._config is None:
            self._config = await self._pusher.blob(self._where, _EMPTY)
        layer = await self._pusher.blob(self._where, content)
        manifest = {
            "schemaVersion": 2,
            "mediaType": _MANIFEST_TYPE,
            "artifactType": ARTIFACT_TYPE,
            "config": {"mediaType": _EMPTY_TYPE, "digest": self._config, "size": len(_EMPTY)},
            "layers": [{"mediaType": LAYER_TYPE, "digest": layer, "size": len(content)}],
            # Of each part's own, so that none has a digest of another's.
            "annotations": self._annotations(run, part),
        }
        body = json.dumps(manifest, separators=(",", ":")).encode()
        await self._pusher.manifest(self._where, copy_name(run, part, self._policy), body, _MANIFEST_TYPE)
        # Not the registry's word: what it serves, by the name under which it will be looked for.
        served = await self.read(run, part)
        if served is None:
            raise NotStoredError("the registry took a copy, and does not serve it")
        return served

    @override
    async def runs(self) -> Sequence[str]:
        return sorted({run for run, _ in self._parts(await self._tags())})

    @override
    async def numbers(self, run: str) -> Sequence[int]:
        return [part for of, part in self._parts(await self._tags()) if of == run]

    @override
    async def read(self, run: str, part: int) -> bytes | None:
        try:
            found = await self._client.raw(self._where, copy_name(run, part, self._policy))
            layer = None if found is None else self._layer(found.content, run, part)
            return None if layer is None else await self._client.blob(self._where, layer)
        except MalformedAnswerError:  # it is not what its digest names
            return None

    @override
    async def remove(self, run: str) -> None:
        tags = await self._tags()
        parts = [part for of, part in self._parts(tags) if of == run]
        # What people call a copy besides is not theirs alone any more. That another name of a copy stands on it cannot
        # be, but by somebody's hand, and saves nothing.
        others = [tag for tag in tags if not is_copy_name(tag)]
        named = {} if not parts else await self._named(others)
        failure: RegistryError | None = None
        for part in parts:
            try:
                await self._remove(run, part, named)
            except (_KeptError, MalformedAnswerError) as error:
                failure = failure or error  # what somebody did to one part is no reason to keep all others
        if failure is not None:
            raise failure

    async def _tags(self) -> list[str]:
        try:
            return await self._client.tags(self._where)
        except NotFoundError:
            return []

    def _parts(self, tags: Sequence[str]) -> list[tuple[str, int]]:
        """Return run and number of each part that `tags` name, in their order."""
        return sorted(found for tag in tags if (found := parse_copy_name(tag, self._policy)) is not None)

    async def _named(self, tags: Sequence[str]) -> Mapping[Digest, str]:
        named: dict[Digest, str] = {}
        for tag in tags:
            if (found := await self._client.resolve(self._where, tag)) is not None:
                named[found.digest] = tag
        return named

    async def _remove(self, run: str, part: int, named: Mapping[Digest, str]) -> None:
        """Delete a part by its digest, and see that it is gone; by its tag where only that can be deleted.

        Whoever may push there may let the name of a copy name anything, and that must not be deleted for it.
        """
        name = copy_name(run, part, self._policy)
        found = await self._client.raw(self._where, name)
        if found is None:
            return
        if self._layer(found.content, run, part) is None:
            raise _KeptError(f"{self._where}:{name} is named like copies and is none, so it stays: look who pushed it")
        if (other := named.get(found.digest)) is not None:
            raise _KeptError(f"{self._where}:{name} is tagged {other!r} as well, so it stays: remove that tag")
        try:
            answer = await self._client.delete(self._where, found.digest)
        except DeletionDisabledError:
            answer = await self._client.delete(self._where, name)
        if await self._client.resolve(self._where, name, deleting=True) is not None:
            raise _KeptError(f"the registry answers {answer.status} to the deletion of old copies, and keeps them")

    def _annotations(self, run: str, part: int) -> Mapping[str, str]:
        return {
            "dev.registrycleanup.policy": self._policy,
            "dev.registrycleanup.run": run,
            "dev.registrycleanup.part": str(part),
        }

    def _layer(self, content: bytes, run: str, part: int) -> Digest | None:
        """Return where the copies are that a manifest is about; None of one that `write` did not push for this part."""
        try:
            manifest = json.loads(content) if len(content) <= _LARGEST else {}
            (layer,) = manifest["layers"]
            kinds = (manifest["artifactType"], layer["mediaType"])
            if kinds != (ARTIFACT_TYPE, LAYER_TYPE) or manifest["annotations"] != self._annotations(run, part):
                return None
            return parse_digest(layer["digest"])
        except (ValueError, LookupError, TypeError, RecursionError):
            return None


class _KeptError(RegistryError):
    """Copies that should be gone are still there."""

    reason = "CopiesKept"
