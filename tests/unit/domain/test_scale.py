"""A plan over 100,000 tags is the right one; how long it takes is measured by benchmarks/plan_in_memory.py."""

import pytest

from benchmarks.plan_in_memory import NOW, large_repository, large_use, usual_policy
from registry_cleanup.domain.closure import DeletionUnit
from registry_cleanup.domain.plan import plan_repository
from tests.support.builders import pruned

_SIZE = 100_000
# A tag is a quarter of an hour older than the one before: this is the last that is not older than 30 days.
_LAST_YOUNG = 30 * 24 * 4


def _expected(unit: DeletionUnit, number: int) -> bool:
    """Say whether the tag of this number goes."""
    if number % 20 == 10:
        return False  # a release
    if number % 200 == 5:
        return False  # in use
    if unit is DeletionUnit.DIGEST and number % 20 == 11:
        return False  # on the digest of a release
    age = number + 1 if number % 10 == 0 else number  # every tenth stands on the digest of the next one
    return age > _LAST_YOUNG


@pytest.mark.parametrize("unit", DeletionUnit)
def test_a_repository_of_100_000_tags_is_planned_as_a_small_one_would_be(unit: DeletionUnit) -> None:
    there = large_repository(_SIZE)
    plan = plan_repository(usual_policy(), there, unit, NOW, large_use(_SIZE))
    images = {f"build-{number}" for number in range(_SIZE) if _expected(unit, number)}
    # The number of a signature ends in 7 or 2, so that its image goes by its age alone.
    signatures = {
        f"{there.tags[f'build-{number}'].replace(':', '-')}.sig"
        for number in range(7, _SIZE, 25)
        if number > _LAST_YOUNG
    }
    assert pruned(plan) == images | signatures
    platforms = 2 * sum(number > _LAST_YOUNG for number in range(3, _SIZE, 50))
    assert len(set(plan.untagged) - set(there.tags.values())) == platforms
    assert not {there.manifests[each].config for each in plan.untagged} & large_use(_SIZE).digests
