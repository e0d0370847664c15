"""The port `Registry` over image streams: a repository is `namespace/stream`, a tag's date is its push."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Callable, Collection, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from datetime import timedelta
from typing import Protocol

from typing_extensions import override

from registry_cleanup.domain.copies import CopiedTag, Undoable
from registry_cleanup.domain.deletion import Deletion, DeletionSupport, ItemOutcome, Outcome
from registry_cleanup.domain.inventory import Inventory, Manifest, Needs
from registry_cleanup.domain.plan import RepositoryPlan
from registry_cleanup.domain.policy import RepositorySelector, TagDate
from registry_cleanup.domain.reference import Digest, short_number
from registry_cleanup.domain.run import Aftermath, Collector
from registry_cleanup.domain.undoing import UndoOutcome
from registry_cleanup.openshift.api import Document, ImageAPI, Right
from registry_cleanup.openshift.errors import MissingRightError
from registry_cleanup.openshift.images import StreamImages
from registry_cleanup.openshift.packed import PackedStream, without
from registry_cleanup.openshift.pruning import StreamPruning
from registry_cleanup.openshift.restoring import StreamRestoring, copied_tags
from registry_cleanup.openshift.rights import NamespaceRights, Subject, explain, namespace_rights
from registry_cleanup.openshift.streams import Stream, parse_stream, read_stream
from registry_cleanup.ports import Contents, Keep, Proceed, Registry, RunError

_log = logging.getLogger(__name__)

_SHORT_SIGHT = (
    "; it cannot list imagestreams in the whole cluster, so tags that streams of other namespaces refer to are not "
    "known to be in use"
)
_PRUNERS = Right("get", "imagepruners", group="imageregistry.operator.openshift.io")


class Front(Protocol):
    """The `/v2/` side of OpenShift's registry."""

    @property
    def host(self) -> str:
        """Host and port."""

    async def unlink(self, repository: str, digest: Digest) -> None:
        """Delete the manifest `digest`, which nothing refers to any more; raise `RunError` if it stays."""


class OpenShiftRegistry(Registry):
    """The image streams that one policy's ServiceAccount sees."""

    def __init__(
        self,
        api: ImageAPI,
        front: Front,
        selector: RepositorySelector,
        tag_date: TagDate,
        account: Subject,
        concurrency: int,
        host: str | None = None,
    ) -> None:
        """Work with the rights of `account` and so many requests at a time; plans know the registry as `host`."""
        self._api = api
        self._front = front
        self._selector = selector
        self._tag_date = tag_date
        self._account = account
        self._host = host or front.host
        self._concurrency = concurrency
        self._streams: dict[str, PackedStream] = {}
        self._references: dict[str, set[str]] = {}
        self._rights: dict[str, NamespaceRights] = {}
        self._may_unlink = False
        self._sees_all = False
        self._lost: set[int] = set()

    @property
    @override
    def host(self) -> str:
        return self._host

    @property
    @override
    def claimed_as(self) -> str:
        return "image.openshift.io"  # the streams of one cluster, by whatever route their registry is reached

    @property
    @override
    def requests(self) -> int:
        return self._api.sent

    @override
    async def clock_offset(self) -> timedelta | None:
        return None  # the guard compares with the API server's clock, and there is no other here

    @property
    @override
    def parallel(self) -> int:
        return self._concurrency

    @override
    async def repositories(self) -> Sequence[str]:
        self._streams, self._references = {}, {}
        for namespace in await self._namespaces():
            async for stream in self._api.streams(namespace, self._packed):
                self._streams[stream.bare.repository] = stream
                for *where, reference in stream.bare.references:
                    self._references.setdefault("/".join(where), set()).add(reference)
        return sorted(self._streams)

    def _packed(self, document: Document) -> PackedStream:
        """Read a stream; of one that is not the policy's, what it refers to and holds is enough."""
        stream = read_stream(document)
        return PackedStream.of(stream, tags=self._selector.selects(stream.repository))

    async def _stream(self, repository: str) -> Stream:
        """Return a stream as it was listed, or as it is now where its tags were left out then."""
        packed = self._streams[repository]
        listed = packed.unpacked()
        if listed is not None:
            return listed
        return parse_stream(await self._api.stream(packed.bare.namespace, packed.bare.name))

    @override
    async def deletion(self, repositories: Sequence[str]) -> DeletionSupport:
        namespaces = sorted({repository.partition("/")[0] for repository in repositories})
        for namespace in namespaces:
            self._rights[namespace] = await namespace_rights(self._api, namespace)
        if self._tag_date is TagDate.CREATED:
            reads = [Right("get", "imagestreamimages", namespace) for namespace in namespaces]
            if unread := [right for right in reads if not await self._api.may(right)]:
                raise MissingRightError(explain(unread, self._account))  # no tag would have a date
        # Also for the way all at once: managed tags, and a stream that never holds still, go one by one.
        lacking = [rights for rights in self._rights.values() if not rights.tags]
        if lacking:
            missing = [right for rights in lacking for right in rights.missing]
            return DeletionSupport(Deletion.FORBIDDEN, explain(missing, self._account))
        at_once = all(rights.status for rights in self._rights.values())
        self._may_unlink = all([await self._api.may(Right(verb, "images")) for verb in ("delete", "get")])
        way = "all tags of an image stream in one update" if at_once else "image stream tags one by one"
        links = ", and manifest links at the registry" if self._may_unlink else ""
        sight = "" if self._sees_all else _SHORT_SIGHT
        return DeletionSupport(Deletion.BY_TAG, f"OpenShift: {self._account.short} may remove {way}{links}{sight}")

    @override
    async def inventory(
        self,
        repository: str,
        needs: Callable[[Collection[str]], Needs],
        known: Mapping[Digest, Manifest],
    ) -> Inventory:
        stream = await self._stream(repository)
        inventory = stream.inventory(stream.named_by(self._references.get(repository, frozenset())))
        wanted = needs(list(stream.tags))
        images = StreamImages(self._api, stream, self._concurrency)
        # What runs may be listed by an index in a history, or be known by its config only. That takes a request for
        # each image, or else what one index lists might seem to be nobody else's.
        if wanted.image_ids or wanted.used - stream.digests():
            inventory = replace(inventory, manifests=await images.manifests(configs=bool(wanted.image_ids)))
        if self._tag_date is TagDate.AUTO:
            return inventory
        dates = await images.built({inventory.tags[tag] for tag in wanted.dated if tag in inventory.tags})
        manifests = {d: replace(m, created=dates.get(d)) for d, m in inventory.manifests.items()}
        undated = frozenset(inventory.tags.keys() - wanted.dated)
        return replace(inventory, manifests=manifests, pushed={}, undated=undated)

    @override
    async def prune(
        self, plan: RepositoryPlan, deletion: Deletion, proceed: Proceed, keep: Keep | None = None
    ) -> AsyncGenerator[ItemOutcome, None]:
        stream = await self._stream(plan.repository)
        if keep is not None and plan.groups and (refusal := await self._not_kept(plan, keep)) is not None:
            for group in plan.groups:
                for tag in group.tags:
                    yield ItemOutcome(tag, group.digest, Outcome.NO_COPY, refusal)
            return
        pruning = StreamPruning(self._api, stream, self._rights[stream.namespace], proceed)
        try:
            async with aclosing(pruning.outcomes(plan.groups)) as outcomes:
                async for outcome in outcomes:
                    yield outcome
        finally:
            left = pruning.now.digests() if pruning.now is not None else set[Digest]()
            lost = stream.digests() - left
            self._lost.update(map(short_number, lost))
            self._streams[plan.repository] = PackedStream.of(pruning.now or replace(stream, tags={}))
        # Of a stream that is gone the registry deletes no links (openshift.md, 4).
        if self._may_unlink and pruning.now is not None:
            await self._unlink_all(plan.repository, lost, proceed)

    @property
    @override
    def history_is_lost(self) -> bool:
        return True

    @override
    def restore(
        self, copies: Undoable, contents: Contents, *, force: bool, dry_run: bool
    ) -> AsyncGenerator[UndoOutcome, None]:
        return StreamRestoring(self._api, copies, force=force, dry_run=dry_run).outcomes()

    @override
    async def aftermath(self) -> Aftermath | None:
        return Aftermath(without(self._lost, self._streams.values()), await self._collector())

    async def _namespaces(self) -> list[str]:
        """Return the namespaces to list; an empty name stands for all at once."""
        self._sees_all = await self._api.may(Right("list", "imagestreams"))
        if self._sees_all:
            return [""]  # streams of other namespaces may refer to tags of these
        names = {glob.text.partition("/")[0] for glob in self._selector.include}
        if any("*" in name or "?" in name for name in names):
            raise MissingRightError(
                f"{self._account.told} may not list imagestreams in all namespaces, which the wildcard in a "
                "namespace of spec.repositories.include needs; write the namespaces out, or grant it cluster-wide"
            )
        for name in sorted(names):
            if not await self._api.may(Right("list", "imagestreams", name)):
                raise MissingRightError(explain([Right("list", "imagestreams", name)], self._account))
        return sorted(names)

    async def _unlink_all(self, repository: str, digests: Collection[Digest], proceed: Proceed) -> None:
        """Delete the manifest links that no history holds any more, as long as the registry can check that."""
        for digest in sorted(digests):
            # Without the Image object the registry would not refuse a digest that is still referred to.
            if not await self._api.image_exists(digest):
                continue
            if not await proceed(digest, ()):
                continue
            try:
                await self._front.unlink(repository, digest)
            except RunError as error:
                extra = {"repository": repository, "digest": digest, "code": error.code}
                _log.info("the manifest link stays", extra=extra)

    async def _not_kept(self, plan: RepositoryPlan, keep: Keep) -> str | None:
        """Write down what goes; return why that cannot be. The API server itself keeps the manifests (openshift.md, 5).

        Where the image of a tag is, and whether the stream's spec has it, the packed streams do not say: for that the
        stream is read once more.
        """
        namespace, _, name = plan.repository.partition("/")
        try:
            copied = copied_tags(await self._api.stream(namespace, name))
            going = [(tag, group.digest) for group in plan.groups for tag in group.tags]
            # What names something else by now does not go.
            plain = [CopiedTag(plan.repository, tag, digest) for tag, digest in going]
            await keep([copied.get((each.tag, each.digest), each) for each in plain], ())
        except RunError as error:
            return error.code or error.failure.reason
        return None

    async def _collector(self) -> Collector:
        try:
            if not await self._api.may(_PRUNERS):
                return Collector.UNKNOWN
            pruner = await self._api.image_pruner()
        except RunError:
            return Collector.UNKNOWN
        if pruner is None:
            return Collector.MISSING
        return Collector.SUSPENDED if (pruner.get("spec") or {}).get("suspend") else Collector.ACTIVE
