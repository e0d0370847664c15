"""The bytes that a plan would free: distinct blobs that nothing kept refers to."""

import pytest

from registry_cleanup.domain.closure import DeletionUnit
from registry_cleanup.domain.inventory import Inventory
from registry_cleanup.domain.space import SpaceEstimate
from tests.support.builders import image, in_use, index, inventory, planned, policy, rule

_POLICY = policy(rule(days=30), keep_tags=["keep.*"])


def _freed(*repositories: Inventory, unit: DeletionUnit = DeletionUnit.DIGEST, used: str = "nothing") -> int:
    space = SpaceEstimate()
    for there in repositories:
        space.add(planned(_POLICY, there, unit, using=in_use(used)))
    return space.size


@pytest.mark.parametrize("unit", DeletionUnit)
def test_a_blob_counts_once_and_not_if_anything_kept_refers_to_it(unit: DeletionUnit) -> None:
    there = inventory(
        {
            "a": image("a", blobs={"base": 1000, "shared": 200, "own a": 30}),
            "b": image("b", blobs={"base": 1000, "shared": 200, "own b": 4}),
            "keep": image("k", blobs={"base": 1000}),
        }
    )
    assert _freed(there, unit=unit) == 234


@pytest.mark.parametrize("turned", [False, True])
def test_a_blob_that_another_repository_keeps_is_not_freed(*, turned: bool) -> None:
    one = inventory({"a": image("a", blobs={"base": 1000, "own": 1})})
    two = inventory({"keep": image("k", blobs={"base": 1000})}, repository="team/web")
    assert _freed(*([two, one] if turned else [one, two])) == 1


@pytest.mark.parametrize("unit", DeletionUnit)
def test_the_platforms_of_an_index_that_goes_are_freed_with_it(unit: DeletionUnit) -> None:
    platforms = [image("amd64", blobs={"x": 10}), image("arm64", blobs={"y": 5})]
    assert _freed(inventory({"v1": index("i", ["amd64", "arm64"])}, *platforms), unit=unit) == 15
    kept = {"v1": index("i", ["amd64", "arm64"]), "keep": index("j", ["amd64"])}
    assert _freed(inventory(kept, *platforms), unit=unit) == 5


def test_a_tag_that_goes_alone_frees_nothing_of_what_a_kept_index_lists() -> None:
    there = inventory({"a": image("a", blobs={"x": 10}), "keep": index("i", ["a"])})
    assert _freed(there, unit=DeletionUnit.TAG) == 0


@pytest.mark.parametrize("unit", DeletionUnit)
def test_what_is_in_use_is_not_freed(unit: DeletionUnit) -> None:
    there = inventory({"i": index("i", ["a"]), "b": image("b", blobs={"y": 7})}, image("a", blobs={"x": 10}))
    assert _freed(there, unit=unit) == 17
    assert _freed(there, unit=unit, used="a") == 7


def test_a_plan_that_prunes_nothing_frees_nothing() -> None:
    assert _freed(inventory({"keep": image("k", blobs={"x": 10})})) == 0
    assert SpaceEstimate().size == 0


def test_a_size_that_no_blob_can_have_does_no_harm() -> None:
    assert _freed(inventory({"a": image("a", blobs={"x": 2**80})})) > 0
