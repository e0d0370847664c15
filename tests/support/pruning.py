"""A repository of a real registry that a test prunes through a proxy, and reads from behind with crane."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import httpx

from registry_cleanup.domain.deletion import Outcome
from registry_cleanup.domain.in_use import NOTHING_IN_USE, InUse
from registry_cleanup.domain.policy import Untagged
from tests.support.clients import applied, opened, planned, prunes, references
from tests.support.crane import Crane
from tests.support.faulty import FaultyRegistry
from tests.support.images import push_image, push_index
from tests.support.registries import RegistryServer

APP = "team/app"

Outcomes = dict[str, tuple[Outcome, str | None]]


@dataclass(frozen=True)
class Setting:
    """A registry behind a proxy, and crane to look at it from behind."""

    server: RegistryServer
    proxy: FaultyRegistry
    crane: Crane

    @property
    def by_digest(self) -> bool:
        return self.server.version == "2"

    def push(self, *tags: str, seed: str = "", subject: str | None = None) -> str:
        return push_image(self.server.url, APP, tags, seed=seed or ",".join(tags), subject=subject)

    def push_index(self, *tags: str, children: Sequence[str], subject: str | None = None) -> str:
        return push_index(self.server.url, APP, tags, children=children, subject=subject)

    def delete(self, reference: str) -> None:
        url = f"{self.server.url}/v2/{APP}/manifests/{reference}"
        httpx.delete(url, trust_env=False).raise_for_status()

    @property
    def tags(self) -> list[str]:
        return self.crane.ls(f"{self.server.host}/{APP}")

    def exists(self, digest: str) -> bool:
        return self.crane.exists(f"{self.server.host}/{APP}@{digest}")

    def left(self, *digests: str) -> list[str]:
        """Return those of `digests` that are still there."""
        return [digest for digest in digests if self.exists(digest)]

    @property
    def deletions(self) -> list[str]:
        """References of the DELETEs since the last plan, in order."""
        return references(self.proxy.requests, "DELETE")

    async def prune(
        self,
        *patterns: str,
        between: Callable[[], object] = lambda: None,
        untagged: Untagged = Untagged.KEEP,
        in_use: InUse = NOTHING_IN_USE,
        proceed: Callable[[], Awaitable[None]] | None = None,
        since: InUse = NOTHING_IN_USE,
    ) -> Outcomes:
        """Plan, let something happen, and prune."""
        async with opened(self.proxy.url) as registry:
            plan, deletion = await planned(registry, APP, prunes(*patterns, untagged=untagged), in_use)
            self.proxy.requests.clear()
            between()
            return await applied(registry, plan, deletion, proceed, since)
