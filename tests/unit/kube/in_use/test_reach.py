"""A look that goes to some namespaces only: each by itself, whole or not at all, and told as what it is."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
import stamina

from registry_cleanup.domain.policy import ExtraReferences, InUseRules
from registry_cleanup.domain.run import RunOrder, Trigger
from registry_cleanup.domain.tenancy import Reach
from registry_cleanup.kube.in_use import watch
from registry_cleanup.kube.in_use.workloads import Looks
from registry_cleanup.ports import RunError, Scan
from tests.support.builders import NOW
from tests.support.clients import HandClock
from tests.unit.kube.in_use.api import FakeAPI, event, pod, raw, serving

_A, _B = "/api/v1/namespaces/team-a", "/api/v1/namespaces/team-b"
_NAMESPACES = Reach(("team-a", "team-b"), confined=True)
_RULES = InUseRules()


@pytest.fixture(autouse=True)
def no_back_off(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(watch, "_PAUSE", 0.01)
    stamina.set_testing(True, attempts=2)
    yield
    stamina.set_testing(False)


@dataclass(frozen=True)
class Setting:
    api: FakeAPI
    client: Any

    @asynccontextmanager
    async def scan(self, rules: InUseRules = _RULES, reach: Reach = _NAMESPACES) -> AsyncIterator[Scan]:
        async def config_map(_namespace: str, _name: str) -> dict[str, str]:
            return {}

        clock = HandClock(NOW)
        looks = Looks(self.client, config_map, clock, reach)
        order = RunOrder("run", Trigger.SCHEDULE, plan_only=False, start=clock.now())
        async with looks.for_policy(rules, "team-a").scan(order) as scan:
            yield scan

    async def doubt(self, rules: InUseRules = _RULES, reach: Reach = _NAMESPACES) -> str:
        with pytest.raises(RunError) as caught:
            async with self.scan(rules, reach):
                pass
        assert (caught.value.failure.reason, caught.value.failure.blocks) == ("InUseUnknown", True)
        return caught.value.failure.message


@pytest.fixture
async def setting() -> AsyncIterator[Setting]:
    api = FakeAPI()
    for place, image in ((_A, "a.io/one/app:1"), (_B, "a.io/two/app:2")):
        metadata = {"resourceVersion": "10"}
        api.bodies[f"{place}/pods"] = {"metadata": metadata, "items": [_pod(place, "runs", image)]}
    with serving(api) as server:
        async with raw(server) as client:
            yield Setting(api, client)


def _pod(place: str, name: str, image: str) -> dict[str, Any]:
    found = pod(name, image)
    found["metadata"]["namespace"] = place.rpartition("/")[2]
    return found


async def test_only_the_given_namespaces_are_listed_and_watched(setting: Setting) -> None:
    async with setting.scan() as scan:
        assert scan.in_use.tags == {("one/app", "1"), ("two/app", "2")}
        await scan.since()
    asked = [each for each in setting.api.requests if "discovery" not in each.path]
    outside = [each.path for each in asked if "/namespaces/team-" not in each.path]
    assert [path for path in outside if not path.endswith(".openshift.io/v1")] == []
    watched = {each.path for each in asked if "watch" in each.query}
    assert watched == {f"{_A}/pods", f"{_B}/pods"}


async def test_whoever_reads_the_condition_learns_that_only_these_were_seen(setting: Setting) -> None:
    async with setting.scan() as scan:
        assert scan.summary.notes == (
            "only what namespaces team-a, team-b use was seen (REGISTRY_CLEANUP_IN_USE_SCOPE=Namespaces)",
        )


async def test_a_pod_that_appears_in_any_of_them_is_seen(setting: Setting) -> None:
    new = [event("ADDED", _pod(place, "new", f"a.io/{place[-1]}/app:new")) for place in (_A, _B)]
    setting.api.watches = [[new[0]], [new[1]]]

    async def both(scan: Scan) -> None:
        while (await scan.since()).tags != {("a/app", "new"), ("b/app", "new")}:  # noqa: ASYNC110 - events come by HTTP
            await asyncio.sleep(0.01)

    async with setting.scan() as scan:
        await asyncio.wait_for(both(scan), 10)
        assert await scan.since() is await scan.since()  # as long as there is no news


@pytest.mark.parametrize("path", ["/api/v1/namespaces/team-b/pods", "/apis/batch/v1/namespaces/team-a/jobs"])
async def test_one_kind_of_one_namespace_that_cannot_be_listed_is_a_doubt(setting: Setting, path: str) -> None:
    setting.api.statuses[path] = 403
    assert "ClusterRole registry-cleanup-workloads" in await setting.doubt()


async def test_the_selector_of_a_policy_is_held_against_each_namespace_by_itself(setting: Setting) -> None:
    setting.api.bodies[_A] = {"metadata": {"name": "team-a", "labels": {"tier": "gold"}}}
    setting.api.bodies[_B] = {"metadata": {"name": "team-b"}}
    async with setting.scan(InUseRules(namespace_labels="tier=gold")) as scan:
        assert scan.in_use.tags == {("one/app", "1")}
    assert setting.api.lists("/api/v1/namespaces") == []
    assert "matches no namespace" in await setting.doubt(InUseRules(namespace_labels="tier=tin"))


async def test_a_namespace_whose_labels_cannot_be_read_is_a_doubt_and_one_that_is_gone_is_none(
    setting: Setting,
) -> None:
    setting.api.bodies[_A] = {"metadata": {"name": "team-a", "labels": {"tier": "gold"}}}
    setting.api.statuses[_B] = 404
    async with setting.scan(InUseRules(namespace_labels="tier=gold")) as scan:
        assert scan.in_use.tags == {("one/app", "1")}
    setting.api.statuses[_B] = 403
    assert "cannot get namespaces" in await setting.doubt(InUseRules(namespace_labels="tier=gold"))


@pytest.mark.parametrize("namespaced", [True, False])
async def test_a_kind_of_the_policy_that_is_in_no_namespace_is_a_doubt(setting: Setting, *, namespaced: bool) -> None:
    resources = [{"name": "things", "kind": "Thing", "verbs": ["list"], "namespaced": namespaced}]
    setting.api.bodies["/apis/example.com/v1"] = {"resources": resources}
    rules = InUseRules(extra_references=(ExtraReferences("example.com/v1", "Thing", ".spec.image"),))
    if namespaced:
        async with setting.scan(rules):
            assert setting.api.lists("/apis/example.com/v1/namespaces/team-b/things") != []
    else:
        assert "which is in no namespace" in await setting.doubt(rules)


async def test_a_confined_operator_that_may_not_see_the_others_names_both_ways_out_once(setting: Setting) -> None:
    for kind in ("pods", "podtemplates", "replicationcontrollers"):
        setting.api.statuses[f"/api/v1/{kind}"] = 403
    for kind in ("deployments", "replicasets"):
        setting.api.statuses[f"/apis/apps/v1/{kind}"] = 403
    message = await setting.doubt(reach=Reach((), confined=True))
    assert message.endswith(
        "and 2 more kinds, so nobody knows what is in use, and nothing was pruned; the operator is confined to "
        "namespaces: let it see what the others use by a ClusterRoleBinding of ClusterRole registry-cleanup-workloads "
        "to its ServiceAccount, or, only where no other namespace uses these registries, set "
        "REGISTRY_CLEANUP_IN_USE_SCOPE=Namespaces"
    )
    assert message.count("confined") == 1
    assert len(message) < 1024
