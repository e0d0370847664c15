"""The plan store where the API server or its ConfigMaps are not as they should be: what is in doubt is not believed."""

from __future__ import annotations

import base64
import copy
import hashlib
import zlib
from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest
import stamina
from kubernetes.aio import client
from typing_extensions import override

from registry_cleanup.domain.published import Entry, Published, encode, nothing_published
from registry_cleanup.kube.api import APIError, ConflictError, KubernetesAPI, NoAnswerError, NotThereError, RefusedError
from registry_cleanup.kube.plans import ConfigMapPlans
from registry_cleanup.ports import RunError
from tests.support.builders import NOW

_PLAN = Published("a-uid", "a" * 64, NOW, {7: {1: Entry(1000), 2: Entry(2000, 3000)}})
_FIRST = "builds-a-uid-plan-0"
_ATTEMPTS = 3


class _Cluster(KubernetesAPI):
    """ConfigMaps of one namespace, with resource versions; `trouble` is what the next calls raise, in their order."""

    def __init__(self) -> None:
        self.config_maps: dict[str, client.V1ConfigMap] = {}
        self.trouble: list[tuple[str, APIError]] = []
        self.before_write: Callable[[], None] | None = None
        self._version = 0

    @override
    async def config_map(self, namespace: str, name: str) -> client.V1ConfigMap:
        self._fail("get")
        if name not in self.config_maps:
            raise NotThereError(name)
        return copy.deepcopy(self.config_maps[name])

    @override
    async def create_config_map(self, namespace: str, config_map: client.V1ConfigMap) -> None:
        self._meddle()
        self._fail("create")
        name = _name(config_map)
        if name in self.config_maps:
            raise ConflictError(name)
        self.put(config_map)

    @override
    async def replace_config_map(self, namespace: str, name: str, config_map: client.V1ConfigMap) -> None:
        self._meddle()
        self._fail("replace")
        if name not in self.config_maps:
            raise NotThereError(name)
        if _version(self.config_maps[name]) != _version(config_map):
            raise ConflictError(name)
        self.put(config_map)

    def put(self, config_map: client.V1ConfigMap) -> None:
        self._version += 1
        kept = copy.deepcopy(config_map)
        assert kept.metadata is not None
        kept.metadata.resource_version = str(self._version)
        self.config_maps[_name(kept)] = kept

    def _meddle(self) -> None:
        meddle, self.before_write = self.before_write, None
        if meddle is not None:
            meddle()

    def _fail(self, call: str) -> None:
        if self.trouble and self.trouble[0][0] == call:
            raise self.trouble.pop(0)[1]


def _name(config_map: client.V1ConfigMap) -> str:
    assert config_map.metadata is not None
    return str(config_map.metadata.name)


def _version(config_map: client.V1ConfigMap) -> str | None:
    assert config_map.metadata is not None
    return config_map.metadata.resource_version


@pytest.fixture(autouse=True)
def _no_waiting() -> Iterator[None]:
    with stamina.set_testing(True, attempts=_ATTEMPTS):
        yield


@pytest.fixture
def cluster() -> _Cluster:
    return _Cluster()


@pytest.fixture
def store(cluster: _Cluster) -> ConfigMapPlans:
    return ConfigMapPlans(cluster, "team", "builds", "a-uid", "system:operator")


@pytest.mark.parametrize("call", ["get", "create"])
async def test_what_may_pass_is_tried_again(cluster: _Cluster, store: ConfigMapPlans, call: str) -> None:
    cluster.trouble = [(call, NoAnswerError("500"))] * (_ATTEMPTS - 1)
    await store.save(_PLAN)
    assert cluster.trouble == []
    assert await store.load() == _PLAN


async def test_what_does_not_pass_is_no_persons_to_mend(cluster: _Cluster, store: ConfigMapPlans) -> None:
    cluster.trouble = [("get", NoAnswerError("the API server answers 500"))] * _ATTEMPTS
    with pytest.raises(RunError) as caught:
        await store.load()
    failure = caught.value.failure
    assert (failure.reason, failure.mendable, failure.blocks) == ("PlanStoreUnavailable", False, False)
    assert "the API server answers 500" in failure.message


async def test_a_creation_that_was_carried_out_without_an_answer_is_looked_at_again(
    cluster: _Cluster, store: ConfigMapPlans
) -> None:
    await store.save(_PLAN)
    written = cluster.config_maps.pop(_FIRST)
    cluster.trouble = [("create", NoAnswerError("no answer"))]
    cluster.before_write = lambda: cluster.put(written)
    await store.save(_PLAN)
    assert await store.load() == _PLAN


async def test_a_conflict_is_looked_at_again_once(cluster: _Cluster, store: ConfigMapPlans) -> None:
    await store.save(_PLAN)
    cluster.before_write = lambda: cluster.put(cluster.config_maps[_FIRST])
    newer = Published("a-uid", "b" * 64, NOW + timedelta(hours=1), {})
    await store.save(newer)
    assert await store.load() == newer
    cluster.trouble = [("replace", ConflictError("x"))] * 2
    with pytest.raises(RunError) as caught:
        await store.save(_PLAN)
    assert caught.value.failure.reason == "PlanStoreUnavailable"


async def test_a_part_that_is_taken_away_between_look_and_write_is_made_anew(
    cluster: _Cluster, store: ConfigMapPlans
) -> None:
    await store.save(_PLAN)
    cluster.before_write = cluster.config_maps.clear
    await store.save(_PLAN)
    assert await store.load() == _PLAN


async def test_a_config_map_that_cannot_be_changed_is_told(cluster: _Cluster, store: ConfigMapPlans) -> None:
    await store.save(_PLAN)
    cluster.trouble = [("replace", RefusedError("data: Forbidden: field is immutable when `immutable` is set"))]
    with pytest.raises(RunError, match="field is immutable"):
        await store.save(_PLAN)


async def test_what_a_person_added_to_a_config_map_of_the_policy_stays(
    cluster: _Cluster, store: ConfigMapPlans
) -> None:
    await store.save(_PLAN)
    metadata = cluster.config_maps[_FIRST].metadata
    assert metadata is not None
    metadata.annotations = {"seen-by": "ops"}
    await store.save(_PLAN)
    metadata = cluster.config_maps[_FIRST].metadata
    assert metadata is not None
    assert metadata.annotations == {"seen-by": "ops"}


async def test_what_is_somebody_elses_beyond_the_last_part_is_no_obstacle(
    cluster: _Cluster, store: ConfigMapPlans
) -> None:
    theirs = client.V1ConfigMap(metadata=client.V1ObjectMeta(name="builds-a-uid-plan-1"), binary_data={"x": "eA=="})
    cluster.put(theirs)
    await store.save(_PLAN)
    assert cluster.config_maps["builds-a-uid-plan-1"].binary_data == {"x": "eA=="}


def _written(content: bytes, parts: str = "1", checksum: str | None = None) -> dict[str, dict[str, str]]:
    """Return what is written into the only part: compressed `content`."""
    return {
        "binary_data": {"plan": base64.b64encode(content).decode()},
        "data": {"parts": parts, "sha256": checksum or hashlib.sha256(content).hexdigest()},
    }


_GOOD = zlib.compress(encode(_PLAN))


@pytest.mark.parametrize(
    "damage",
    [
        _written(_GOOD, checksum="0" * 64),
        _written(_GOOD, parts="0"),
        _written(_GOOD, parts="two"),
        _written(_GOOD, parts="99"),
        _written(_GOOD, parts="2"),
        _written(_GOOD[:-1]),
        _written(_GOOD + b"x"),
        _written(b"no zlib"),
        _written(b""),
        _written(zlib.compress(b"no plan")),
        _written(zlib.compress(encode(_PLAN)[:-1])),
        _written(zlib.compress(bytes(70 * 1024 * 1024))),
        {"binary_data": {"plan": "%"}, "data": {"parts": "1", "sha256": "x"}},
        {"binary_data": {}, "data": {}},
    ],
    ids=[
        "other checksum",
        "no parts",
        "parts in words",
        "more parts than there can be",
        "a part that is not there",
        "cut",
        "longer",
        "not compressed",
        "empty",
        "no plan",
        "cut plan",
        "a bomb",
        "not base64",
        "emptied",
    ],
)
async def test_a_damaged_plan_is_read_as_none(
    cluster: _Cluster,
    store: ConfigMapPlans,
    damage: dict[str, dict[str, str]],
    caplog: pytest.LogCaptureFixture,
) -> None:
    await store.save(_PLAN)
    for key, value in damage.items():
        setattr(cluster.config_maps[_FIRST], key, value)
    assert await store.load() == nothing_published("a-uid")
    (record,) = [record for record in caplog.records if record.name == "registry_cleanup.kube.plans"]
    assert record.levelname == "WARNING"
    await store.save(_PLAN)
    assert await store.load() == _PLAN


async def test_a_plan_that_no_number_of_parts_can_hold_is_told(
    cluster: _Cluster, store: ConfigMapPlans, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("registry_cleanup.kube.plans._MOST_PARTS", 0)
    with pytest.raises(RunError) as caught:
        await store.save(_PLAN)
    assert (caught.value.failure.reason, caught.value.failure.mendable) == ("PlanTooLarge", True)
    assert cluster.config_maps == {}


@pytest.mark.parametrize(
    ("policy", "stem", "labelled"),
    [
        ("builds", "builds-0123abcd", True),
        ("a.b-c", "a.b-c-0123abcd", True),
        ("x" * 63, "x" * 63 + "-0123abcd", True),
        ("x" * 64, "x" * 64 + "-0123abcd", False),
        ("x" * 199 + ".y", "x" * 199 + "-0123abcd", False),
        ("x" * 253, "x" * 200 + "-0123abcd", False),
    ],
)
async def test_config_maps_are_named_and_labelled_after_the_policy_as_far_as_that_is_allowed(
    cluster: _Cluster, policy: str, stem: str, *, labelled: bool
) -> None:
    await ConfigMapPlans(cluster, "team", policy, "0123abcd-4567", "system:operator").save(_PLAN)
    (config_map,) = cluster.config_maps.values()
    assert config_map.metadata is not None
    assert config_map.metadata.name == f"{stem}-plan-0"
    labels = config_map.metadata.labels or {}
    assert labels.get("registrycleanup.dev/policy") == (policy if labelled else None)
