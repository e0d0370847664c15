"""Copies in ConfigMaps: bounded, read back, each run by itself, and never another policy's."""

from __future__ import annotations

import pytest
from kubernetes.aio import client

from registry_cleanup.domain.reference import Digest
from registry_cleanup.kube.config_maps import PART_BYTES, OwnedConfigMaps
from registry_cleanup.kube.copies import ConfigMapCopies
from registry_cleanup.kube.plans import ConfigMapPlans
from registry_cleanup.ports import CopyStore, RunError
from tests.unit.kube.test_plans import _Cluster

_FIRST, _SECOND = "20260615-030000-aaaaaa", "20260616-030000-bbbbbb"


@pytest.fixture
def cluster() -> _Cluster:
    return _Cluster()


@pytest.fixture
def store(cluster: _Cluster) -> ConfigMapCopies:
    return ConfigMapCopies(OwnedConfigMaps(cluster, "team", "builds", "a-uid", "system:operator"), "a-uid")


async def _read(store: CopyStore, run: str) -> dict[int, bytes | None]:
    return {number: await store.read(run, number) for number in await store.numbers(run)}


async def test_copies_are_kept_by_run_and_removed_with_it(cluster: _Cluster, store: ConfigMapCopies) -> None:
    await store.write(_FIRST, 1, b"one")
    await store.write(_FIRST, 3, b"three")
    await store.write(_SECOND, 1, b"other")
    assert await store.runs() == [_FIRST, _SECOND]
    assert await _read(store, _FIRST) == {1: b"one", 3: b"three"}
    await store.remove(_FIRST)
    assert await store.runs() == [_SECOND]
    assert await _read(store, _FIRST) == {}
    assert sorted(cluster.config_maps) == ["builds-a-uid-copies-0"]


async def test_when_they_are_full_nothing_more_is_taken_until_a_run_is_removed(
    cluster: _Cluster, store: ConfigMapCopies
) -> None:
    large = bytes(PART_BYTES // 2 + 1)
    for part in range(1, 9):
        await store.write(_FIRST, part, large)
    with pytest.raises(RunError) as caught:
        await store.write(_SECOND, 1, large)
    assert (caught.value.failure.reason, caught.value.failure.mendable) == ("CopiesFull", True)
    assert len(cluster.config_maps) == 8
    await store.remove(_FIRST)
    await store.write(_SECOND, 1, large)
    assert await store.runs() == [_SECOND]


async def test_a_damaged_copy_is_of_no_use_and_leaves_the_others_alone(
    cluster: _Cluster, store: ConfigMapCopies
) -> None:
    await store.write(_FIRST, 1, b"one")
    await store.write(_FIRST, 2, b"two")
    data = cluster.config_maps["builds-a-uid-copies-0"].binary_data
    assert data is not None
    data[next(name for name in data if ".1." in name)] = "no base64"
    assert await _read(store, _FIRST) == {1: b"", 2: b"two"}


async def test_what_is_not_the_policys_is_neither_read_nor_overwritten(
    cluster: _Cluster, store: ConfigMapCopies
) -> None:
    cluster.put(client.V1ConfigMap(metadata=client.V1ObjectMeta(name="builds-a-uid-copies-0")))
    with pytest.raises(RunError) as caught:
        await store.write(_FIRST, 1, b"one")
    assert caught.value.failure.reason == "PlanStoreTaken"


async def test_what_was_put_back_is_remembered_for_one_intent(cluster: _Cluster) -> None:
    def plans(intent: str) -> ConfigMapPlans:
        return ConfigMapPlans(cluster, "team", "builds", "a-uid", "system:operator", intent=intent)

    first = ("team/app", "v1", Digest("sha256:" + "1" * 64))
    second = ("team/app", "v2", Digest("sha256:" + "2" * 64))
    assert await plans("1").undone() is None
    await plans("1").protect([first])
    await plans("1").protect([second])
    found = await plans("1").undone()
    assert found is not None
    assert (found.holds(*first), found.holds(*second)) == (True, True)
    assert await plans("2").undone() is None
    await plans("2").protect([second])
    later = await plans("2").undone()
    assert later is not None
    assert (later.holds(*first), later.holds(*second)) == (False, True)
