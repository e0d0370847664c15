"""Docker Distribution 2.8, which deletes by digest alone."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from tests.demo.session import Moment, Typed, session
from tests.demo.stage import Contents, listed, say, step
from tests.support.controlplane import ControlPlane
from tests.support.crane import Crane
from tests.support.images import push_image, push_index
from tests.support.registries import RegistryServer, distribution

_NOW = datetime.now(UTC)
_REPOSITORIES = ("shop/api", "shop/base", "shop/web")


@contextmanager
def distribution_scene(plane: ControlPlane, folder: Path) -> Iterator["_Distribution"]:
    """Run a registry with three repositories."""
    del plane
    step("Start Docker Distribution 2.8 with deletion enabled")
    with distribution("2", folder / "registry") as registry:
        step(f"Push three repositories to {registry.host}")
        _fill(registry.url)
        yield _Distribution(registry, Crane(folder / "crane"))


@dataclass(frozen=True)
class _Distribution:
    """The scene.

    Attributes:
        registry: Where the policy prunes.
        crane: Reads it.
    """

    registry: RegistryServer
    crane: Crane
    namespace: str = "default"

    @property
    def session(self) -> Mapping[Moment, Sequence[Typed]]:
        return session(self.registry.host)

    def spec(self) -> dict[str, Any]:
        return {
            "registry": {"url": self.registry.url, "insecure": True},
            "repositories": {"include": ["shop/*"]},
            "rules": [
                {"name": "builds", "tags": {"include": ["build-.*"]}, "olderThan": "14d", "keep": {"mostRecent": 1}}
            ],
        }

    def contents(self) -> Contents:
        found = {}
        for repository in _REPOSITORIES:
            name = f"{self.registry.host}/{repository}"
            found[repository] = {tag: self.crane.digest(f"{name}:{tag}") for tag in self.crane.ls(name)}
        return found

    def tell_login(self) -> None:
        """This registry wants none."""

    def compare(self, before: Contents, after: Contents) -> None:
        step("Tags before and after, read with crane")
        for repository in _REPOSITORIES:
            gone = before[repository].keys() - after[repository].keys()
            say(f"{repository}: {len(before[repository])} tags before, {len(after[repository])} after")
            say(f"  gone: {listed(gone)}")
            say(f"  kept: {listed(after[repository])}")

    def whole(self, after: Contents) -> bool:
        """Say whether every kept index still has all that it lists."""
        host = self.registry.host
        return all(
            self.crane.exists(f"{host}/{repository}@{child['digest']}")
            for repository, tags in after.items()
            for tag in tags
            for child in self.crane.manifest(f"{host}/{repository}:{tag}").get("manifests", [])
        )

    def hints(self) -> Sequence[str]:
        return [f"curl {self.registry.url}/v2/shop/api/tags/list"]


def _fill(url: str) -> None:
    """Push the interesting cases."""

    def days(age: float) -> datetime:
        return _NOW - timedelta(days=age)

    # Many tags, one a day.
    for number in range(1, 41):
        push_image(url, "shop/api", [f"build-{number}"], created=days(41 - number), seed=f"api {number}")
    push_image(url, "shop/api", ["latest"], created=days(1), seed="api 40")
    # One digest under several tags: the release that was built as build-7 is still called v1.0.
    push_image(url, "shop/web", ["build-7", "v1.0"], created=days(60), seed="web 7")
    push_image(url, "shop/web", ["build-8"], created=days(50), seed="web 8")
    push_image(url, "shop/web", ["build-9"], created=days(2), seed="web 9")
    # A reproducible build says 1970, another says nothing.
    push_image(url, "shop/web", ["build-epoch"], created="1970-01-01T00:00:00Z", seed="web epoch")
    push_image(url, "shop/web", ["build-undated"], created=None, seed="web undated")
    # Multi-platform indexes: the old one goes; the kept one keeps its children, one of which has an old tag.
    push_image(url, "shop/base", ["build-3"], created=days(20), seed="base 3")
    for number, age in ((1, 90), (2, 80)):
        children = [
            push_image(
                url,
                "shop/base",
                [f"build-{number}-{arch}"],
                created=days(age),
                platform=f"linux/{arch}",
                seed=f"{number}",
            )
            for arch in ("amd64", "arm64")
        ]
        push_index(url, "shop/base", [f"build-{number}" if number == 1 else "v2.0"], children=children)
