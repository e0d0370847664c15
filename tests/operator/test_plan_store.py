"""Published plans on a real API server, with the operator's own rights: whole or not believed, and nobody else's."""

import base64
import gzip
import json
import random
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from typing import Any

import httpx
import pytest
from kubernetes.aio import client, config

from registry_cleanup.domain.published import Entry, Published, nothing_published
from registry_cleanup.domain.report import MOST_BYTES
from registry_cleanup.kube.api import KubernetesAPI
from registry_cleanup.kube.plans import PART_BYTES, ConfigMapPlans
from registry_cleanup.ports import RunError
from tests.support.builders import NOW
from tests.support.controlplane import ControlPlane
from tests.support.operator import NAMESPACE, SERVICE_ACCOUNT
from tests.support.policies import Namespace, fresh_namespace, policy_spec
from tests.support.processes import wait_until

_ACCOUNT = f"{NAMESPACE}:{SERVICE_ACCOUNT}"
_MANY = 100_000


@pytest.fixture
def place(installed: ControlPlane, namespace_name: str) -> Iterator[Namespace]:
    with fresh_namespace(installed, namespace_name, []) as fresh:
        yield fresh


@pytest.fixture
async def api(installed: ControlPlane) -> AsyncIterator[KubernetesAPI]:
    async with await _client(installed, NAMESPACE, SERVICE_ACCOUNT) as own:
        yield KubernetesAPI(own)


async def _client(plane: ControlPlane, namespace: str, account: str) -> client.ApiClient:
    file = plane.kubeconfig_for_service_account(namespace, account)
    made: client.ApiClient = await config.new_client_from_config(config_file=str(file))  # type: ignore[no-untyped-call]  # untyped there
    return made


def _policy(place: Namespace, name: str = "builds") -> str:
    """Create a policy for which nobody does anything, and return its UID."""
    return place.apply(policy_spec("https://registry.example.com", suspend=True), name)


def _store(api: KubernetesAPI, place: Namespace, uid: str, name: str = "builds") -> ConfigMapPlans:
    return ConfigMapPlans(api, place.name, name, uid, _ACCOUNT)


def _plan(uid: str, items: int, seed: int = 1) -> Published:
    """Return a plan as large and as hard to compress as a real one."""
    dice = random.Random(seed)  # noqa: S311 - the same in each run, and no secret
    first = int(NOW.timestamp())
    repositories: dict[int, dict[int, Entry]] = {}
    for number in range(0, items, 1000):
        entries = {dice.getrandbits(64): Entry(first + number) for _ in range(min(1000, items - number))}
        repositories[dice.getrandbits(64)] = entries
    return Published(uid, f"{seed:064x}", NOW - timedelta(hours=seed), repositories)


def _config_maps(place: Namespace) -> dict[str, dict[str, Any]]:
    found = place.api.get(f"/api/v1/namespaces/{place.name}/configmaps").json()["items"]
    return {each["metadata"]["name"]: each for each in found if each["metadata"]["name"] != "kube-root-ca.crt"}


def _replace(place: Namespace, config_map: dict[str, Any]) -> None:
    name = config_map["metadata"]["name"]
    path = f"/api/v1/namespaces/{place.name}/configmaps/{name}"
    config_map["metadata"].pop("resourceVersion", None)
    answer: httpx.Response = place.api.put(path, json=config_map)
    assert answer.is_success, answer.text


async def test_a_plan_of_100_000_items_is_kept_in_parts_and_read_as_it_was(
    api: KubernetesAPI, place: Namespace
) -> None:
    uid = _policy(place)
    store = _store(api, place, uid)
    assert await store.load() == nothing_published(uid)
    plan = _plan(uid, _MANY)
    await store.save(plan)
    assert await _store(api, place, uid).load() == plan
    parts = _config_maps(place)
    assert set(parts) == {f"builds-{uid[:8]}-plan-0", f"builds-{uid[:8]}-plan-1"}
    for part in parts.values():
        assert len(base64.b64decode(part["binaryData"]["plan"])) <= PART_BYTES
        (owner,) = part["metadata"]["ownerReferences"]
        assert (owner["kind"], owner["name"], owner["uid"]) == ("RegistryCleanupPolicy", "builds", uid)
        assert not owner.get("controller")
        assert "blockOwnerDeletion" not in owner
        assert part["metadata"]["labels"] == {
            "app.kubernetes.io/managed-by": "registry-cleanup",
            "registrycleanup.dev/policy": "builds",
        }


async def test_a_smaller_plan_empties_the_parts_that_it_does_not_need(api: KubernetesAPI, place: Namespace) -> None:
    uid = _policy(place)
    store = _store(api, place, uid)
    await store.save(_plan(uid, _MANY))
    small = _plan(uid, 10, seed=2)
    await store.save(small)
    assert await store.load() == small
    left = _config_maps(place)[f"builds-{uid[:8]}-plan-1"]
    assert "binaryData" not in left
    await store.save(_plan(uid, _MANY))
    assert await store.load() == _plan(uid, _MANY)


async def test_a_plan_of_which_only_a_part_was_written_is_not_believed(
    api: KubernetesAPI, place: Namespace, caplog: pytest.LogCaptureFixture
) -> None:
    uid = _policy(place)
    store = _store(api, place, uid)
    await store.save(_plan(uid, _MANY))
    second = f"builds-{uid[:8]}-plan-1"
    before = _config_maps(place)[second]
    await store.save(_plan(uid, _MANY, seed=2))
    _replace(place, before)
    assert await store.load() == nothing_published(uid)
    assert [record.levelname for record in caplog.records if "damaged" in record.message] == ["WARNING"]
    # The next one mends it.
    await store.save(_plan(uid, _MANY, seed=3))
    assert await store.load() == _plan(uid, _MANY, seed=3)


async def test_a_plan_that_lost_a_part_is_not_believed(api: KubernetesAPI, place: Namespace) -> None:
    uid = _policy(place)
    store = _store(api, place, uid)
    await store.save(_plan(uid, _MANY))
    place.plane.kubectl("delete", "configmap", f"builds-{uid[:8]}-plan-1", "-n", place.name)
    assert await store.load() == nothing_published(uid)


async def test_a_config_map_of_somebody_else_is_neither_believed_nor_overwritten(
    api: KubernetesAPI, place: Namespace
) -> None:
    uid, other = _policy(place), _policy(place, "other")
    store = _store(api, place, uid)
    await store.save(_plan(uid, 10))
    await store.report(b"x", 0)
    stolen = _config_maps(place)
    for config_map in stolen.values():
        config_map["metadata"]["ownerReferences"][0] |= {"name": "other", "uid": other}
        _replace(place, config_map)
    before = _config_maps(place)
    for call in (store.load(), store.save(_plan(uid, 20)), store.report(b"y", 0)):
        with pytest.raises(RunError) as caught:
            await call
        assert (caught.value.failure.reason, caught.value.failure.mendable) == ("PlanStoreTaken", True)
        assert f"kubectl delete configmap builds-{uid[:8]}-" in caught.value.failure.message
    for config_map in _config_maps(place).values():
        config_map["metadata"].pop("ownerReferences")
        _replace(place, config_map)
    with pytest.raises(RunError):
        await store.load()
    contents = {name: each.get("binaryData") for name, each in before.items()}
    assert {name: each.get("binaryData") for name, each in _config_maps(place).items()} == contents


async def test_a_config_map_of_somebody_else_where_no_part_is_needed_is_left_alone(
    api: KubernetesAPI, place: Namespace
) -> None:
    uid = _policy(place)
    place.create_config_map({"mine": "x"}, name=f"builds-{uid[:8]}-plan-1")
    store = _store(api, place, uid)
    await store.save(_plan(uid, 10))
    assert await store.load() == _plan(uid, 10)
    assert _config_maps(place)[f"builds-{uid[:8]}-plan-1"]["data"] == {"mine": "x"}
    with pytest.raises(RunError):
        await store.save(_plan(uid, _MANY))
    # Nothing of it is believed that has only been written in part.
    with pytest.raises(RunError):
        await store.load()


async def test_policies_do_not_see_each_others_plans_be_they_of_one_name(api: KubernetesAPI, place: Namespace) -> None:
    first, second = _policy(place), _policy(place, "other")
    await _store(api, place, first).save(_plan(first, 10))
    await _store(api, place, second, "other").save(_plan(second, 20))
    assert await _store(api, place, first).load() == _plan(first, 10)
    assert await _store(api, place, second, "other").load() == _plan(second, 20)
    place.delete("builds")
    again = _policy(place)
    assert await _store(api, place, again).load() == nothing_published(again)


async def test_the_longest_name_of_a_policy_names_config_maps_too(api: KubernetesAPI, place: Namespace) -> None:
    name = "a" * 199 + "." + "b" * 53
    uid = _policy(place, name)
    store = _store(api, place, uid, name)
    await store.save(_plan(uid, 10))
    assert await store.load() == _plan(uid, 10)
    (part,) = _config_maps(place).values()
    assert part["metadata"]["labels"] == {"app.kubernetes.io/managed-by": "registry-cleanup"}


# aiohttp is wary of a body of more than 1 MiB; a report is sent in one piece all the same.
@pytest.mark.filterwarnings("ignore:Sending a large body directly:ResourceWarning")
async def test_a_report_is_what_a_person_reads_with_kubectl(api: KubernetesAPI, place: Namespace) -> None:
    uid = _policy(place)
    store = _store(api, place, uid)
    large = random.Random(1).randbytes(MOST_BYTES)  # noqa: S311 - the same in each run, and no secret
    assert (await store.report(large, 0)).cut == 0
    reference = await store.report(gzip.compress(b'{"type": "run"}\n'), 3)
    assert (reference.name, reference.key, reference.cut) == (f"builds-{uid[:8]}-report", "report.ndjson.gz", 3)
    read = place.plane.kubectl(
        "get", "configmap", reference.name, "-n", place.name, "-o", "jsonpath={.binaryData.report\\.ndjson\\.gz}"
    )
    assert json.loads(gzip.decompress(base64.b64decode(read))) == {"type": "run"}
    with pytest.raises(ValueError, match="fits into no ConfigMap"):
        await store.report(large + b"x", 0)


async def test_a_missing_right_is_told_with_the_rule_that_grants_it(installed: ControlPlane, place: Namespace) -> None:
    uid = _policy(place)
    place.create_service_account("nobody")
    async with await _client(installed, place.name, "nobody") as poor:
        store = ConfigMapPlans(KubernetesAPI(poor), place.name, "builds", uid, f"{place.name}:nobody")
        for call in (store.load(), store.save(_plan(uid, 10)), store.report(b"x", 0)):
            with pytest.raises(RunError) as caught:
                await call
            failure = caught.value.failure
            assert (failure.reason, failure.mendable, failure.repository) == ("PlanStoreForbidden", True, None)
            assert f"{place.name}:nobody" in failure.message
            assert "verbs: [get, create, update]" in failure.message
            assert "cannot get resource" in failure.message


async def test_a_namespace_that_is_gone_is_a_failure_that_may_pass(api: KubernetesAPI) -> None:
    store = ConfigMapPlans(api, "no-such-namespace", "builds", "a-uid", _ACCOUNT)
    assert await store.load() == nothing_published("a-uid")
    with pytest.raises(RunError) as caught:
        await store.save(_plan("a-uid", 10))
    assert (caught.value.failure.reason, caught.value.failure.mendable) == ("PlanStoreUnavailable", False)


async def test_all_this_works_where_owners_are_protected_as_on_openshift(
    api: KubernetesAPI, installed: ControlPlane, place: Namespace
) -> None:
    # Or the other tests would prove nothing of OwnerReferencesPermissionEnforcement.
    uid = _policy(place)
    await _store(api, place, uid).save(_plan(uid, 10))
    (config_map,) = _config_maps(place).values()
    config_map["metadata"]["ownerReferences"] = []
    path = f"/api/v1/namespaces/{place.name}/configmaps/{config_map['metadata']['name']}"
    # By one plain request: kubectl would first read all APIs there are, and say so where one is slow to answer.
    own = {"Authorization": f"Bearer {installed.token_for_service_account(NAMESPACE, SERVICE_ACCOUNT)}"}
    answer = place.api.put(path, json=config_map, headers=own)
    assert answer.status_code == 403
    assert "cannot set an ownerRef on a resource you can't delete" in answer.json()["message"]


async def test_plans_and_report_go_with_their_policy(own_plane: ControlPlane, own_namespace: Namespace) -> None:
    uid = _policy(own_namespace)
    async with await _client(own_plane, NAMESPACE, SERVICE_ACCOUNT) as own:
        store = _store(KubernetesAPI(own), own_namespace, uid)
        await store.save(_plan(uid, 10))
        await store.report(b"x", 0)
    assert len(_config_maps(own_namespace)) == 2
    own_namespace.delete("builds")
    # The garbage collector looks for new kinds every 30 seconds.
    wait_until(lambda: not _config_maps(own_namespace), 90, "the end of what the policy owned")
