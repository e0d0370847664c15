"""One look at everything in the cluster that counts as in use: whole, or an error that says what could not be read."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from registry_cleanup.domain.in_use import User
from registry_cleanup.domain.policy import ExtraReferences, InUseRules
from registry_cleanup.domain.tenancy import IN_USE_SCOPE, WHOLE_CLUSTER, Reach
from registry_cleanup.kube.api import APIError, NotThereError
from registry_cleanup.kube.in_use.doubt import doubt, together, unreadable
from registry_cleanup.kube.in_use.gathered import Gathered
from registry_cleanup.kube.in_use.labels import bears
from registry_cleanup.kube.in_use.sources import (
    BUILT_IN,
    IMAGE_STREAMS,
    NAMESPACES,
    OPENSHIFT,
    PODS,
    ExtraReader,
    Source,
    idle_paths,
)
from registry_cleanup.kube.in_use.uses import Document, Scope, Use, local_name
from registry_cleanup.kube.raw import Kind, RawAPI
from registry_cleanup.ports import Clock, RunError

# So many kinds are read at a time: each has a page in memory.
_AT_A_TIME = 2
# So many namespaces are named.
_NAMED = 5

ReadConfigMap = Callable[[str, str], Awaitable[Mapping[str, str]]]
"""Returns the data of a ConfigMap by namespace and name; raises `APIError`."""


@dataclass(frozen=True, slots=True)
class Filter:
    """What of the objects of the cluster counts, and how their images are read.

    Attributes:
        namespaces: whose objects count; None for all.
        history: whether what only a rollback would use counts.
        streams: whether the cluster has image streams, whose names images may bear.
    """

    namespaces: frozenset[str] | None = None
    history: bool = True
    streams: bool = False

    def read(self, source: Source, documents: Sequence[Document], now: datetime) -> dict[Use, list[User]]:
        """Return what objects of one kind use, and who they are; raise `RunError` where one is of an odd shape."""
        scope = Scope(now, self.history)
        found: dict[Use, list[User]] = {}
        for document in documents:
            metadata: Mapping[str, Any] = document.get("metadata") or {}
            namespace, name = str(metadata.get("namespace") or ""), str(metadata.get("name") or "")
            if self.namespaces is not None and namespace and namespace not in self.namespaces:
                continue
            user = User(source.kind.kind, namespace, name)
            try:
                uses = [*source.read(document, scope)]
            except (AttributeError, LookupError, TypeError, ValueError) as error:
                raise doubt(f"{user} is of a shape that the operator does not know") from error
            if self.streams:
                uses += [local for use in uses if (local := local_name(use, namespace)) is not None]
            for use in uses:
                found.setdefault(use, []).append(user)
        return found


@dataclass(frozen=True, slots=True)
class Found:
    """What a look came to.

    Attributes:
        began: when.
        gathered: what is in use.
        filter: what counted.
        pods_versions: the resourceVersion of each list of pods, by its namespace; None is the whole cluster.
        notes: what a person should know.
    """

    began: datetime
    gathered: Gathered
    filter: Filter
    pods_versions: Mapping[str | None, str]
    notes: tuple[str, ...] = ()


@dataclass(slots=True)
class Look:
    """Looks once.

    Attributes:
        api: where objects are listed.
        config_map: reads one.
        clock: the time of day.
        rules: what counts.
        namespace: of the policy, where its ConfigMap is.
        reach: where the look goes.
    """

    api: RawAPI
    config_map: ReadConfigMap
    clock: Clock
    rules: InUseRules
    namespace: str
    reach: Reach = WHOLE_CLUSTER
    _gathered: Gathered = field(default_factory=Gathered)
    _places: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_AT_A_TIME))
    _pods_versions: dict[str | None, str] = field(default_factory=dict)

    async def take(self) -> Found:
        """Look at everything; raise `RunError` with all that could not be read."""
        began = self.clock.now()
        openshift, namespaces, (sources, notes), listed = await _whole(
            self._openshift(), self._namespaces(), self._extra(), self._by_hand()
        )
        self._gathered.merge(listed)
        has_streams = any(source.kind == IMAGE_STREAMS for source in openshift)
        selected = Filter(namespaces, self.rules.include_history, has_streams)
        built_in = [source for source in BUILT_IN if self.rules.include_history or not source.only_history]
        await _whole(
            *(
                self._list(source, selected, namespace)
                for source in [*built_in, *openshift, *sources]
                for namespace in (self.reach.namespaces or (None,))
            )
        )
        readers = [source.read for source in sources if isinstance(source.read, ExtraReader)]
        return Found(
            began, self._gathered, selected, self._pods_versions, (*self._scope(), *notes, *idle_paths(readers))
        )

    def _scope(self) -> list[str]:
        """Return what a person should know of what nobody looks at."""
        if not self.reach.namespaces:
            return []
        seen = ", ".join(self.reach.namespaces[:_NAMED])
        more = f" and {len(self.reach.namespaces) - _NAMED} more" if len(self.reach.namespaces) > _NAMED else ""
        return [f"only what namespaces {seen}{more} use was seen ({IN_USE_SCOPE}=Namespaces)"]

    async def _list(self, source: Source, selected: Filter, namespace: str | None) -> None:
        async with self._places:
            try:
                async for page in self.api.pages(source.kind, namespace=namespace):
                    if source.kind == PODS:
                        # The first page's: a list that was begun again yields what came in between anyway.
                        self._pods_versions.setdefault(namespace, page.version)
                    self._gathered.merge(await asyncio.to_thread(selected.read, source, page.items, self.clock.now()))
            except APIError as error:
                raise unreadable(source.kind, "list", error, extra=source.extra, reach=self.reach) from error

    async def _namespaces(self) -> frozenset[str] | None:
        selector = self.rules.namespace_labels
        if selector is None:
            return None
        names = await (self._of_reach(selector) if self.reach.namespaces else self._of_cluster(selector))
        if not names:
            raise doubt(f"inUse.namespaceSelector ({selector}) matches no namespace: mistyped?")
        return frozenset(names)

    async def _of_cluster(self, selector: str) -> set[str]:
        """Return the namespaces that bear the labels."""
        names: set[str] = set()
        try:
            async for page in self.api.pages(NAMESPACES, selector):
                names.update(str(each["metadata"]["name"]) for each in page.items)
        except APIError as error:
            raise unreadable(NAMESPACES, "list", error, reach=self.reach) from error
        return names

    async def _of_reach(self, selector: str) -> set[str]:
        """Return those of the namespaces that are looked at which bear the labels; nobody may list namespaces here."""
        names: set[str] = set()
        for name in self.reach.namespaces:
            try:
                if bears(await self.api.namespace_labels(name), selector):
                    names.add(name)
            except NotThereError:
                continue  # where there is no namespace, nothing is in use
            except APIError as error:
                raise unreadable(NAMESPACES, "get", error, reach=self.reach) from error
        return names

    async def _openshift(self) -> list[Source]:
        """Return those of OpenShift's kinds that the cluster has."""
        found = []
        for version in dict.fromkeys(source.kind.api_version for source in OPENSHIFT):
            sources = [source for source in OPENSHIFT if source.kind.api_version == version]
            try:
                kinds = await self.api.kinds(version)
            except NotThereError:
                continue
            except APIError as error:
                raise unreadable(sources[0].kind, "discover", error, reach=self.reach) from error
            found += [source for source in sources if source.kind.kind in kinds]
        return found

    async def _extra(self) -> tuple[list[Source], list[str]]:
        """Return the kinds that the administrator names, and what a person should know of those that there are not."""
        sources, notes = [], []
        for asked in self.rules.extra_references:
            kind = await self._kind(asked)
            if kind is None:
                notes.append(
                    f"inUse.extraReferencesFrom: the cluster has no kind {asked.kind} in {asked.api_version}, mistyped?"
                )
            elif self.reach.namespaces and not kind.namespaced:
                raise doubt(
                    f"inUse.extraReferencesFrom names {asked.kind} of {asked.api_version}, which is in no namespace, "
                    f"and the operator looks at its namespaces only ({IN_USE_SCOPE}=Namespaces)",
                    "remove it, or let the operator look at the whole cluster",
                )
            else:
                sources.append(Source(kind, ExtraReader(asked), extra=True))
        return sources, notes

    async def _kind(self, asked: ExtraReferences) -> Kind | None:
        """Return the kind; None where the cluster does not have it, by no version."""
        named = Kind(asked.api_version, asked.kind, asked.kind.lower())
        try:
            try:
                found = (await self.api.kinds(asked.api_version)).get(asked.kind)
            except NotThereError:
                found = None
            if found is None and named.group:
                others = [each for each in await self.api.versions(named.group) if each != asked.api_version]
                for version in others:
                    if asked.kind in await self.api.kinds(version):
                        raise doubt(
                            f"inUse.extraReferencesFrom names {asked.kind} of {asked.api_version}, which the cluster "
                            f"serves as {version}: write that"
                        )
        except APIError as error:
            raise unreadable(named, "discover", error, extra=True, reach=self.reach) from error
        return found

    async def _by_hand(self) -> dict[Use, list[User]]:
        """Return the images that a ConfigMap lists, one a line."""
        name = self.rules.references_config_map
        if name is None:
            return {}
        try:
            data = await self.config_map(self.namespace, name)
        except NotThereError as error:
            raise doubt(
                f"inUse.referencesConfigMapRef: there is no ConfigMap {self.namespace}/{name}",
                "registry-cleanup in-use prints one in the cluster that it is about",
            ) from error
        except APIError as error:
            raise unreadable(Kind("v1", "ConfigMap", "configmaps"), "get", error, reach=self.reach) from error
        user = User("ConfigMap", self.namespace, name)
        return {Use(text): [user] for text in listed_images(data.values())}


def listed_images(texts: Iterable[str]) -> list[str]:
    """Return the images that texts list, one a line; `#` begins a comment."""
    lines = (line.partition("#")[0].strip() for text in texts for line in text.splitlines())
    return list(dict.fromkeys(line for line in lines if line))


async def _whole(*parts: Awaitable[Any]) -> list[Any]:
    """Wait for all parts; raise `RunError` with all that went wrong."""
    done = await asyncio.gather(*parts, return_exceptions=True)
    errors = [each for each in done if isinstance(each, BaseException)]
    doubts = [each for each in errors if isinstance(each, RunError)]
    for error in errors:
        if not isinstance(error, RunError):
            raise error
    if doubts:
        raise together(doubts)
    return done
