"""What hangs together at a registry, through the whole operator: referrers, platform manifests, pinned images."""

from dataclasses import dataclass
from typing import Any

import pytest

from tests.support.crane import Crane
from tests.support.faulty import faulty_registry
from tests.support.images import push_image, push_index
from tests.support.policies import Namespace, condition, days_ago, last_run, policy_spec
from tests.support.registries import RegistryServer

_KEEP = "registrycleanup.dev/keep"
_BUILDS = ("build-1", "build-2", "build-3")


@dataclass(frozen=True)
class Images:
    """Three multi-platform images, signed, of which the first goes.

    Attributes:
        indexes: Digests, by tag.
        platforms: Digests of what each index lists, by tag.
    """

    indexes: dict[str, str]
    platforms: dict[str, list[str]]

    def signature(self, tag: str) -> str:
        """Return the tag of its signature, as cosign writes it."""
        return self.indexes[tag].replace(":", "-") + ".sig"


def _fill(registry: RegistryServer) -> Images:
    """Push the images; build-1 and build-2 have a platform in common."""
    shared = push_image(registry.url, "team/app", created=days_ago(60), platform="linux/s390x", seed="common")
    images = Images({}, {})
    for number, tag in enumerate(_BUILDS):
        children = [
            push_image(registry.url, "team/app", created=days_ago(60 - number), platform=platform, seed=platform + tag)
            for platform in ("linux/amd64", "linux/arm64")
        ]
        children += [shared] if number < 2 else []
        images.platforms[tag] = children
        images.indexes[tag] = push_index(registry.url, "team/app", [tag], children=children)
        push_image(registry.url, "team/app", [images.signature(tag)], created=days_ago(50), seed=f"signature of {tag}")
    return images


@pytest.mark.parametrize("untagged", ["Keep", "Delete"])
def test_a_signature_goes_after_its_image_and_platforms_as_the_policy_says(
    registry: RegistryServer, namespace: Namespace, crane: Crane, untagged: str
) -> None:
    images = _fill(registry)
    repository = f"{registry.host}/team/app"
    signature = crane.digest(f"{repository}:{images.signature('build-1')}")
    own = images.platforms["build-1"][:2]
    by_tag = registry.version == "3"
    with faulty_registry(registry.url) as proxy:
        namespace.apply(policy_spec(proxy.url, dryRun=False, untagged=untagged))
        namespace.planned()
        proxy.requests.clear()
        done = namespace.run("now")
        deleted = [each.path.rpartition("/")[2] for each in proxy.requests if each.method == "DELETE"]
    assert last_run(done)["phase"] == "Succeeded"
    there = {tag for tag in crane.ls(repository) if not tag.startswith("sha256-")}
    signatures = {tag for tag in crane.ls(repository) if tag.startswith("sha256-")}
    assert there == {"build-2", "build-3"}
    # Where the tag alone goes and the manifest stays, what refers to the manifest stays, too.
    stays = by_tag and untagged == "Keep"
    signed = [tag for tag in _BUILDS if tag != "build-1" or stays]
    assert signatures == {images.signature(tag) for tag in signed}
    assert last_run(done)["counts"]["tagsPruned"] == (1 if stays else 2)
    assert crane.exists(f"{repository}@{images.indexes['build-1']}") is stays
    assert [crane.exists(f"{repository}@{digest}") for digest in own] == [untagged == "Keep"] * 2
    if not stays:
        image = images.indexes["build-1"]
        assert deleted.index(image) < deleted.index(images.signature("build-1") if by_tag else signature)
    # Nothing that is kept misses a part.
    for tag in ("build-2", "build-3"):
        assert crane.digest(f"{repository}:{tag}") == images.indexes[tag]
        assert all(crane.exists(f"{repository}@{digest}") for digest in images.platforms[tag])
    if untagged == "Delete":
        report = [line for line in namespace.report(done) if line["type"] == "untagged" and "outcome" in line]
        assert {line["outcome"] for line in report} == {"Pruned"}
        assert set(own) <= {line["digest"] for line in report}


def test_a_pin_on_the_image_keeps_it(registry: RegistryServer, namespace: Namespace, crane: Crane) -> None:
    pins: list[dict[str, Any]] = [
        {"labels": {_KEEP: "true"}},
        {"annotations": {_KEEP: f"{days_ago(-10):%Y-%m-%d}"}},
        {"annotations": {_KEEP: f"{days_ago(10):%Y-%m-%d}"}},
        {"labels": {_KEEP: "false"}},
        {},
        {},
    ]
    for number, pin in enumerate(pins, 1):
        created = days_ago(50 - number)
        push_image(registry.url, "team/app", [f"build-{number}"], created=created, seed=str(number), **pin)
    namespace.apply(policy_spec(registry.url, dryRun=False))
    planned = namespace.planned()
    assert last_run(planned)["keptByReason"] == {"KeepTags": 2, "MostRecent": 2, "GracePeriod": 2}
    assert condition(planned, "Ready")["status"] == "True"
    namespace.run("now")
    assert crane.ls(f"{registry.host}/team/app") == ["build-1", "build-2", "build-5", "build-6"]
