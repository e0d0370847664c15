"""A look is whole or absent, is shared for a minute, and goes on as a watch that says when it is lost."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta

import pytest
import stamina

from registry_cleanup.domain.in_use import InUse
from registry_cleanup.domain.policy import ExtraReferences, InUseRules
from registry_cleanup.domain.run import RunOrder, Trigger
from registry_cleanup.kube.in_use import watch
from registry_cleanup.kube.in_use.watch import PodWatch
from registry_cleanup.kube.in_use.workloads import Looks
from registry_cleanup.ports import RunError, Scan
from tests.support.builders import NOW
from tests.support.clients import HandClock
from tests.unit.kube.in_use.api import GONE, SILENCE, FakeAPI, bookmark, event, pod, raw, serving

_RULES = InUseRules()


@pytest.fixture(autouse=True)
def no_back_off() -> Iterator[None]:
    stamina.set_testing(True, attempts=2)
    yield
    stamina.set_testing(False)


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "_PAUSE", 0.01)


@dataclass(frozen=True)
class Setting:
    api: FakeAPI
    clock: HandClock
    looks: Looks

    @asynccontextmanager
    async def scan(
        self,
        rules: InUseRules = _RULES,
        trigger: Trigger = Trigger.SCHEDULE,
        *,
        plan_only: bool = False,
        before: int | None = None,
    ) -> AsyncIterator[Scan]:
        acknowledges = trigger is Trigger.REQUEST
        now = self.clock.now()
        order = RunOrder("run", trigger, plan_only, now, references_before=before, acknowledges=acknowledges)
        async with self.looks.for_policy(rules, "team").scan(order) as scan:
            yield scan

    async def doubt(self, rules: InUseRules = _RULES, *, before: int | None = None) -> RunError:
        """Return why nobody knows what is in use."""
        with pytest.raises(RunError) as caught:
            async with self.scan(rules, before=before):
                pass
        failure = caught.value.failure
        assert (failure.reason, failure.blocks) == ("InUseUnknown", True)
        return caught.value


@pytest.fixture
async def setting() -> AsyncIterator[Setting]:
    api, clock = FakeAPI(), HandClock(NOW)

    async def config_map(_namespace: str, _name: str) -> dict[str, str]:
        return {"list": "r.io/by/hand:1"}

    with serving(api) as server:
        async with raw(server) as client:
            yield Setting(api, clock, Looks(client, config_map, clock))


async def _eventually(happened: Callable[[], Awaitable[bool]]) -> None:
    for _ in range(1000):
        if await happened():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it did not happen")


async def _watched(setting: Setting, times: int) -> None:
    async def often_enough() -> bool:
        return len(setting.api.watched_from()) >= times

    await _eventually(often_enough)


def _tags(in_use: InUse) -> set[str]:
    return {f"{repository}:{tag}" for repository, tag in in_use.tags}


# Whole or absent


async def test_all_pages_are_read(setting: Setting) -> None:
    setting.api.pages = [[pod("a", "r.io/a:1")], [pod("b", "r.io/b:1")], [pod("c", "r.io/c:1")]]
    async with setting.scan() as scan:
        assert _tags(scan.in_use) == {"a:1", "b:1", "c:1"}
        assert (scan.summary.references, scan.summary.notes) == (3, ())


async def test_a_list_that_took_too_long_is_begun_again(setting: Setting) -> None:
    setting.api.pages = [[pod("a", "r.io/a:1")], [pod("b", "r.io/b:1")]]
    setting.api.expired = 2
    async with setting.scan() as scan:
        assert _tags(scan.in_use) == {"a:1", "b:1"}
    assert len(setting.api.lists()) == 3


async def test_a_list_that_always_takes_too_long_is_a_doubt(setting: Setting) -> None:
    setting.api.pages = [[], []]
    setting.api.expired = 100
    assert "cannot list pods (kind Pod)" in str(await setting.doubt())
    assert len(setting.api.lists()) == 4


@pytest.mark.parametrize(
    ("path", "status", "words", "mendable"),
    [
        ("/api/v1/pods", 403, 'add the rule {apiGroups: [""], resources: [pods], verbs: [list]} to ClusterRole', True),
        (
            "/apis/apps/v1/controllerrevisions",
            403,
            'add the rule {apiGroups: ["apps"], resources: [controllerrevisions], verbs: [list]}',
            True,
        ),
        ("/apis/batch/v1/jobs", 500, "cannot list jobs of batch (kind Job): the API server answers 500", False),
        # Built-in kinds are always there: what is not is hidden by something.
        ("/apis/apps/v1/deployments", 404, "cannot list deployments of apps", False),
        ("/apis/image.openshift.io/v1", 503, "cannot discover imagestreams of image.openshift.io", False),
        ("/apis/build.openshift.io/v1", 403, "cannot discover buildconfigs of build.openshift.io", True),
    ],
)
async def test_what_exists_or_may_exist_and_cannot_be_read_is_a_doubt(
    setting: Setting, path: str, status: int, words: str, mendable: bool
) -> None:
    setting.api.statuses[path] = status
    error = await setting.doubt()
    assert words in str(error)
    assert "nothing was pruned" in str(error)
    assert error.failure.mendable is mendable


@pytest.mark.parametrize("body", [{}, {"metadata": {}}, {"items": []}, {"metadata": {}, "items": {}}, []])
async def test_an_answer_that_is_no_list_is_a_doubt(setting: Setting, body: object) -> None:
    setting.api.bodies["/apis/apps/v1/daemonsets"] = body
    await setting.doubt()


async def test_all_that_is_missing_is_told_at_once(setting: Setting) -> None:
    setting.api.statuses |= {"/api/v1/pods": 403, "/apis/batch/v1/jobs": 403, "/apis/batch/v1/cronjobs": 500}
    error = await setting.doubt()
    assert "resources: [pods]" in str(error)
    assert "resources: [jobs]" in str(error)
    assert "cronjobs" in str(error)
    assert error.failure.mendable


async def test_revisions_are_not_even_asked_for_without_history(setting: Setting) -> None:
    setting.api.statuses["/apis/apps/v1/controllerrevisions"] = 403
    async with setting.scan(replace(_RULES, include_history=False)):
        pass


async def test_nobody_looks_where_nothing_counts(setting: Setting) -> None:
    async with setting.scan(replace(_RULES, enabled=False)) as scan:
        assert scan.summary.disabled
        assert await scan.since() == scan.in_use == InUse()
    assert setting.api.requests == []


async def test_a_list_by_hand_counts(setting: Setting) -> None:
    async with setting.scan(replace(_RULES, references_config_map="list")) as scan:
        assert _tags(scan.in_use) == {"by/hand:1"}


async def test_a_selector_that_matches_no_namespace_is_a_doubt(setting: Setting) -> None:
    error = await setting.doubt(replace(_RULES, namespace_labels="team=x,env in (a,b)"))
    assert "(team=x,env in (a,b)) matches no namespace" in str(error)
    assert setting.api.lists("/api/v1/namespaces")[0].query["labelSelector"] == "team=x,env in (a,b)"


async def test_a_kind_that_is_served_by_another_version_is_a_doubt(setting: Setting) -> None:
    setting.api.statuses["/apis/x.example.com/v1beta1"] = 404
    setting.api.bodies["/apis/x.example.com"] = {"versions": [{"groupVersion": "x.example.com/v1"}]}
    things = {"kind": "Thing", "name": "things", "verbs": ["list"]}
    setting.api.bodies["/apis/x.example.com/v1"] = {"resources": [things]}
    asked = ExtraReferences("x.example.com/v1beta1", "Thing", ".spec.image")
    error = await setting.doubt(replace(_RULES, extra_references=(asked,)))
    assert "serves as x.example.com/v1: write that" in str(error)


@pytest.mark.parametrize(("before", "blocks"), [(None, False), (4, False), (5, True)])
async def test_fewer_than_half_of_the_references_are_a_doubt(
    setting: Setting, before: int | None, blocks: bool
) -> None:
    setting.api.pages = [[pod("a", "r.io/a:1"), pod("b", "r.io/b:1")]]
    if blocks:
        assert "only 2 references are in use" in str(await setting.doubt(before=before))
    else:
        async with setting.scan(before=before) as scan:
            assert scan.summary.references == 2
    async with setting.scan(trigger=Trigger.REQUEST, before=before) as scan:
        assert scan.summary.references == 2


# Shared


@pytest.mark.parametrize(
    ("trigger", "plan_only", "seconds"),
    [(Trigger.SCHEDULE, True, 60), (Trigger.SCHEDULE, False, 5), (Trigger.SPEC_CHANGE, True, 5)],
)
async def test_runs_that_begin_together_share_a_look_and_dry_runs_of_the_same_minute(
    setting: Setting, trigger: Trigger, *, plan_only: bool, seconds: float
) -> None:
    began = setting.clock.now()
    async with setting.scan(trigger=trigger, plan_only=plan_only):
        setting.clock.move(timedelta(seconds=seconds))
        async with setting.scan(trigger=trigger, plan_only=plan_only) as scan:
            assert len(setting.api.lists()) == 1
            assert scan.summary.began == began
        setting.clock.move(timedelta(seconds=1))
        async with setting.scan(trigger=trigger, plan_only=plan_only):
            assert len(setting.api.lists()) == 2


@pytest.mark.parametrize("trigger", [Trigger.REQUEST, Trigger.RESUME])
async def test_a_person_who_asks_gets_a_look_of_now(setting: Setting, trigger: Trigger) -> None:
    async with setting.scan():
        pass
    setting.clock.move(timedelta(seconds=1))
    setting.api.pages = [[pod("new", "r.io/new:1")]]
    async with setting.scan(trigger=trigger) as scan:
        assert _tags(scan.in_use) == {"new:1"}


async def test_policies_that_differ_in_their_aliases_share_a_look(setting: Setting) -> None:
    setting.api.pages = [[pod("a", "r.io/hub/a:1")]]
    async with setting.scan() as one, setting.scan(replace(_RULES, aliases=("hub",))) as other:
        assert len(setting.api.lists()) == 1
        assert _tags(one.in_use) == {"hub/a:1"}
        assert _tags(other.in_use) == {"hub/a:1", "a:1"}


async def test_other_rules_look_for_themselves(setting: Setting) -> None:
    async with setting.scan(), setting.scan(replace(_RULES, include_history=False)):
        assert len(setting.api.lists()) == 2


async def test_a_look_that_failed_is_not_shared(setting: Setting) -> None:
    setting.api.statuses["/apis/batch/v1/jobs"] = 403
    await setting.doubt()
    setting.api.statuses.clear()
    async with setting.scan() as scan:
        assert scan.summary.references == 0


# Watched


async def test_what_pods_use_that_came_or_changed_is_known(setting: Setting) -> None:
    setting.api.pages = [[pod("a", "r.io/a:1")]]
    done = pod("d", "r.io/d:1", 14, phase="Succeeded", conditions=[{"lastTransitionTime": "2026-06-15T10:00:00Z"}])
    setting.api.watches = [
        [
            event("ADDED", pod("b", "r.io/b:1", 11)),
            event("MODIFIED", pod("a", "r.io/a:2", 12)),
            event("DELETED", pod("c", "r.io/c:1", 13)),
            event("ADDED", done),
            event("ADDED", pod("e", "r.io/e:1", 15)),
        ]
    ]
    async with setting.scan() as scan:

        async def heard() -> bool:
            return "e:1" in _tags(await scan.since())

        await _eventually(heard)
        assert _tags(await scan.since()) == {"a:2", "b:1", "e:1"}
        assert _tags(scan.in_use) == {"a:1"}
    assert setting.api.watched_from() == ["10"]


async def test_a_watch_that_ends_goes_on_from_where_it_was(setting: Setting) -> None:
    setting.api.watches = [[event("ADDED", pod("b", "r.io/b:1", 11)), bookmark(17)], [bookmark(18)], []]
    async with setting.scan() as scan:
        await _watched(setting, 3)
        assert _tags(await scan.since()) == {"b:1"}
    assert setting.api.watched_from() == ["10", "17", "18"]


@pytest.mark.parametrize("lost", [[GONE], 410])
async def test_a_watch_that_lost_events_is_mended_by_a_list(
    setting: Setting, lost: list[dict[str, object]] | int
) -> None:
    setting.api.watches = [[], lost, []]
    setting.api.pages = [[pod("a", "r.io/a:1")]]
    async with setting.scan() as scan:
        setting.api.pages = [[pod("missed", "r.io/missed:1")]]

        async def heard() -> bool:
            return _tags(await scan.since()) == {"missed:1"}

        await _eventually(heard)
    assert len(setting.api.lists()) == 2


async def test_a_watch_that_breaks_is_begun_again(setting: Setting) -> None:
    setting.api.watches = [[bookmark(12)], 500, 503, [event("ADDED", pod("b", "r.io/b:1", 13))]]
    async with setting.scan() as scan:

        async def heard() -> bool:
            return _tags(await scan.since()) == {"b:1"}

        await _eventually(heard)
    assert setting.api.watched_from() == ["10", "12", "12", "12"]


async def test_a_watch_that_cannot_be_mended_stops_the_run(setting: Setting) -> None:
    setting.api.watches = [[], *[500] * 10_000]
    async with setting.scan() as scan:
        watching: PodWatch = scan.since.__self__  # type: ignore[attr-defined]  # the port has a function
        watching._patience = 0.2  # noqa: SLF001 - nobody waits for half a minute
        await _watched(setting, 2)
        with pytest.raises(RunError, match="cannot watch pods") as caught:
            await scan.since()
    failure = caught.value.failure
    assert (failure.reason, failure.stops_run, failure.blocks) == ("InUseUnknown", True, True)


async def test_a_watch_that_ended_and_is_not_answered_again_tells_nothing(setting: Setting) -> None:
    setting.api.watches = [[], SILENCE]
    async with setting.scan() as scan:
        watching: PodWatch = scan.since.__self__  # type: ignore[attr-defined]  # the port has a function
        watching._patience = 0.2  # noqa: SLF001 - nobody waits for half a minute
        await _watched(setting, 2)
        with pytest.raises(RunError, match="the watch of pods broke"):
            await scan.since()


async def test_who_may_not_watch_may_not_prune(setting: Setting) -> None:
    setting.api.watches = [403]
    error = await setting.doubt()
    assert 'add the rule {apiGroups: [""], resources: [pods], verbs: [watch]}' in str(error)
    assert error.failure.mendable
