"""Who else prunes at a registry: which policies count, and how one registry is known by names that differ."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import pytest
from typing_extensions import override

from registry_cleanup import rivals
from registry_cleanup.domain.deletion import Deletion, DeletionSupport, ItemOutcome
from registry_cleanup.domain.inventory import Inventory, Manifest, Needs
from registry_cleanup.domain.plan import RepositoryPlan
from registry_cleanup.domain.reference import Digest
from registry_cleanup.domain.run import Aftermath, Failure
from registry_cleanup.domain.trust import RegistryHosts
from registry_cleanup.kube.api import NoAnswerError
from registry_cleanup.kube.spec import ParsedPolicy, parse_policy
from registry_cleanup.live_policies import LivePolicies, live_policy
from registry_cleanup.ports import Clock, InterruptedRunError, Keep, Proceed, Registry, RunError
from registry_cleanup.rivals import PolicyRivals, SameRegistry, resolve_host
from tests.support.builders import NOW, digest, minimal_spec
from tests.support.clients import HandClock

_OURS = "https://registry.example.com"
_OTHER = "https://mirror.example.net"
_UNREACHABLE = RunError(Failure("Unreachable", "the registry does not answer", reachable=False))
_NO_SUCH = RunError(Failure("NotFound", "there is no such repository"), "NAME_UNKNOWN")
_CLUSTER = RegistryHosts("image-registry.openshift-image-registry.svc:5000", ("registry.apps.example.com",))

Content = dict[str, "dict[str, str] | RunError"]


def _body(name: str, url: str | None = _OURS, *, created: datetime = NOW, **spec: Any) -> dict[str, Any]:  # noqa: ANN401 - values of any field
    registry = {**({} if url is None else {"url": url}), **spec.pop("registry", {})}
    metadata = {
        "namespace": "team",
        "name": name,
        "uid": f"uid of {name}",
        "generation": 1,
        "creationTimestamp": created.strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
    return {"metadata": metadata, "spec": {**minimal_spec(), "dryRun": False, **spec, "registry": registry}}


def _cluster_body(name: str, url: str | None = None, **registry: Any) -> dict[str, Any]:  # noqa: ANN401 - values of any field
    return _body(name, url, registry={"serviceAccountName": "pruner", **registry})


def _tags(number: int = 8, word: str = "") -> dict[str, str]:
    return {f"v{one}": f"{word}{one}" for one in range(number)}


@dataclass
class _Registry(Registry):
    """Holds tags, or the errors that reading them raises, by repository.

    Attributes:
        content: by repository, each tag with the word of its digest.
        reads: how often each repository was looked at.
        resolved: the tags that were resolved.
        before_read: called before each look.
    """

    content: Content
    reads: Counter[str] = field(default_factory=Counter)
    resolved: set[str] = field(default_factory=set)
    before_read: Callable[[], None] = lambda: None

    @property
    @override
    def host(self) -> str:
        return "registry.example.com:443"

    @property
    @override
    def parallel(self) -> int:
        return 1

    @override
    async def clock_offset(self) -> timedelta | None:
        return None

    @override
    async def aftermath(self) -> Aftermath | None:
        raise AssertionError("nothing is deleted")

    @override
    async def repositories(self) -> Sequence[str]:
        return sorted(self.content)

    @override
    async def deletion(self, repositories: Sequence[str]) -> DeletionSupport:
        raise AssertionError("nothing is deleted")

    @override
    async def inventory(
        self, repository: str, needs: Callable[[Collection[str]], Needs], known: Mapping[Digest, Manifest]
    ) -> Inventory:
        self.before_read()
        self.reads[repository] += 1
        tags = self.content.get(repository, _NO_SUCH)
        if isinstance(tags, RunError):
            raise tags
        resolved = needs(list(tags)).resolved
        self.resolved |= resolved
        return Inventory(repository, {tag: digest(word) for tag, word in tags.items() if tag in resolved})

    @override
    def prune(
        self, plan: RepositoryPlan, deletion: Deletion, proceed: Proceed, keep: Keep | None = None
    ) -> AsyncGenerator[ItemOutcome, None]:
        raise AssertionError("nothing is deleted")


@dataclass
class _World(Clock):
    """Registries by the URLs of policies, a cluster and names.

    Attributes:
        registries: by URL; an error is raised instead of opening one.
        hosts: that the cluster names, or its failure.
        addresses: by host.
        opened: the names of the policies whose registries were opened, in order.
    """

    registries: dict[str, _Registry | RunError] = field(default_factory=dict)
    hosts: RegistryHosts | NoAnswerError = field(default_factory=lambda: RegistryHosts(None))
    addresses: dict[str, set[str]] = field(default_factory=dict)
    opened: list[str] = field(default_factory=list)
    time: datetime = NOW
    unknown_is_one: bool = False

    def __post_init__(self) -> None:
        self.same = SameRegistry(self.connect, self.cluster, self, self.resolve, unknown_is_one=self.unknown_is_one)

    @override
    def now(self) -> datetime:
        return self.time

    @asynccontextmanager
    async def connect(self, policy: ParsedPolicy) -> AsyncIterator[Registry]:
        self.opened.append(policy.name)
        found = self.registries[policy.registry.url or "?"]
        if isinstance(found, RunError):
            raise found
        yield found

    async def cluster(self) -> RegistryHosts:
        if isinstance(self.hosts, NoAnswerError):
            raise self.hosts
        return self.hosts

    async def resolve(self, host: str, _port: int) -> Collection[str]:
        return self.addresses.get(host, ())

    async def at(
        self,
        ours: Mapping[str, Any],
        *others: Mapping[str, Any],
        registry: _Registry | None = None,
        repositories: Sequence[str] = ("team/app",),
    ) -> dict[str, bool]:
        """Return the rivals by name, and whether each is older."""

        async def policies() -> AsyncIterator[Mapping[str, Any]]:
            for body in (ours, *others):
                yield body

        asking = PolicyRivals(parse_policy(ours), _live(policies), self.same)
        found = await asking.at(registry or _Registry({}), repositories)
        return {rival.name: rival.older for rival in found}


# Which policies count


def _live(
    policies: Callable[[], AsyncIterator[Mapping[str, Any]]], clock: Clock | None = None
) -> Callable[[], Awaitable[Sequence[ParsedPolicy]]]:
    return LivePolicies(policies, parse_policy, clock or HandClock(NOW)).read


async def test_runs_that_ask_within_five_seconds_share_one_list_of_all_policies() -> None:
    clock, asked = HandClock(NOW), 0

    async def policies() -> AsyncIterator[Mapping[str, Any]]:
        nonlocal asked
        asked += 1
        for _ in range(2):  # a list that was begun again
            await asyncio.sleep(0)
            yield _body("other")

    live = LivePolicies(policies, parse_policy, clock)
    read = live.read
    found = await asyncio.gather(read(), read())
    assert [[policy.name for policy in each] for each in found] == [["other"], ["other"]]
    clock.move(timedelta(seconds=4))
    await read()
    assert asked == 1
    clock.move(timedelta(seconds=1))
    await read()
    assert asked == 2
    clock.move(timedelta(seconds=-1))  # put back
    await read()
    assert asked == 3
    live.outdate()
    await read()
    assert asked == 4
    # A run that prunes shares no list that was begun before it.
    await live.read(clock.now() - timedelta(seconds=1))
    assert asked == 4
    await live.read(clock.now())
    assert asked == 5


async def test_a_list_that_failed_or_whose_first_reader_gave_up_is_no_others() -> None:
    asked, go_on = 0, asyncio.Event()

    async def policies() -> AsyncIterator[Mapping[str, Any]]:
        nonlocal asked
        asked += 1
        if asked == 1:
            raise NoAnswerError("busy")
        await go_on.wait()
        yield _body("other")

    read = _live(policies)
    with pytest.raises(NoAnswerError):
        await read()
    first, second = asyncio.ensure_future(read()), asyncio.ensure_future(read())
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.sleep(0)
    go_on.set()
    assert [policy.name for policy in await second] == ["other"]
    assert asked == 2


@pytest.mark.parametrize(
    ("change", "counts"),
    [
        ({}, True),
        ({"suspend": True}, False),
        ({"dryRun": True}, False),
        ({"rules": []}, False),
        ({"fromTheFuture": True}, False),
    ],
)
def test_only_policies_that_prune_are_rivals(change: dict[str, Any], *, counts: bool) -> None:
    assert (live_policy(_body("other", **change)) is not None) is counts


def test_a_policy_that_is_being_deleted_is_no_rival() -> None:
    body = _body("other")
    body["metadata"]["deletionTimestamp"] = "2026-06-15T12:00:00Z"
    assert live_policy(body) is None


def test_left_out_dry_run_is_a_dry_run() -> None:
    body = _body("other")
    del body["spec"]["dryRun"]
    assert live_policy(body) is None


async def test_rivals_are_told_apart_by_age_and_a_policy_is_no_rival_of_itself() -> None:
    found = await _World().at(
        _body("mine"),
        _body("younger", created=NOW + timedelta(seconds=1)),
        _body("older", created=NOW - timedelta(seconds=1)),
        _body("alice", created=NOW),
        _body("twin", created=NOW),
        _body("elsewhere", repositories={"include": ["other/**"]}),
        _body("resting", suspend=True),
    )
    # Of one second the first by name is the older one; the oldest comes first.
    assert list(found.items()) == [("older", True), ("alice", True), ("twin", False), ("younger", False)]


async def test_a_rival_brings_what_it_selects_and_keeps() -> None:
    other = _body("other", repositories={"include": ["team/*"], "exclude": ["team/web"]}, keepTags=["v1"])

    async def policies() -> AsyncIterator[Mapping[str, Any]]:
        yield other

    asking = PolicyRivals(parse_policy(_body("mine")), _live(policies), _World().same)
    (rival,) = await asking.at(_Registry({}), ["team/app", "team/web"])
    assert (rival.namespace, rival.name, rival.uid) == ("team", "other", "uid of other")
    assert [name for name in ("team/app", "team/web") if rival.repositories.selects(name)] == ["team/app"]
    assert [pattern.text for pattern in rival.keep_tags] == ["v1", "latest"]


async def test_without_the_other_policies_a_run_does_not_go_on() -> None:
    async def policies() -> AsyncIterator[Mapping[str, Any]]:
        yield _body("older")
        raise NoAnswerError("the API server answers 503")

    asking = PolicyRivals(parse_policy(_body("mine")), _live(policies), _World().same)
    with pytest.raises(InterruptedRunError, match="other policies could not be read"):
        await asking.at(_Registry({}), ["team/app"])


# One registry by its URL


@pytest.mark.parametrize(
    "url",
    [
        "https://registry.example.com",
        "https://registry.example.com:443",
        "https://REGISTRY.Example.com",
        "https://registry.example.com.",
        "https://registry.example.com.:443",
    ],
)
async def test_the_same_host_and_port_is_the_same_registry_however_it_is_written(url: str) -> None:
    world = _World()
    assert await world.at(_body("mine"), _body("other", url)) == {"other": False}
    assert world.opened == []


async def test_plain_http_at_the_same_port_is_the_same_registry() -> None:
    other = _body("other", "http://registry.example.com:443", registry={"insecure": True})
    assert await _World().at(_body("mine"), other) == {"other": False}


# The cluster's own registry


@pytest.mark.parametrize(
    ("ours", "other"),
    [
        (_cluster_body("mine", type="OpenShift"), _cluster_body("zeta", type="OpenShift")),
        (
            _cluster_body("mine", type="OpenShift"),
            _cluster_body("zeta", "https://image-registry.openshift-image-registry.svc:5000"),
        ),
        (_cluster_body("mine", type="OpenShift"), _cluster_body("zeta", "https://registry.apps.example.com")),
        (
            _cluster_body("mine", "https://registry.apps.example.com"),
            _cluster_body("zeta", "https://image-registry.openshift-image-registry.svc:5000"),
        ),
        # Image streams are this cluster's, whatever front they are reached by.
        (_cluster_body("mine", type="OpenShift"), _cluster_body("zeta", "https://10.1.2.3:5000", type="OpenShift")),
    ],
)
async def test_all_names_of_the_clusters_own_registry_are_one(ours: dict[str, Any], other: dict[str, Any]) -> None:
    world = _World(hosts=_CLUSTER)
    assert await world.at(ours, other) == {"zeta": False}
    assert await world.at(other, ours) == {"mine": True}
    assert world.opened == []


async def test_the_clusters_registry_and_another_are_two() -> None:
    world = _World({_OTHER: _Registry({"team/app": _tags(word="another ")})}, _CLUSTER)
    ours = _cluster_body("mine", type="OpenShift")
    assert await world.at(ours, _body("other", _OTHER), registry=_Registry({"team/app": _tags()})) == {}


async def test_without_an_answer_of_the_cluster_other_signs_are_looked_at() -> None:
    world = _World({_OTHER: _Registry({"team/app": _tags()})}, NoAnswerError("the API server answers 503"))
    ours = _Registry({"team/app": _tags()})
    assert await world.at(_body("mine"), _body("other", _OTHER), registry=ours) == {"other": False}


# By what they hold


@pytest.mark.parametrize(
    ("mine", "theirs", "same"),
    [
        ({"team/app": _tags()}, {"team/app": _tags()}, True),
        ({"team/app": _tags()}, {"team/app": _tags(word="another ")}, False),
        ({"team/app": _tags()}, {"team/app": {}}, False),
        ({"team/app": _tags()}, {"team/app": _NO_SUCH}, False),
        ({"team/app": _tags()}, {"team/web": _tags()}, False),
        ({"team/app": _tags()}, {}, False),
        ({"team/app": {}}, {"team/app": {}}, False),
        # One repository that both copied from elsewhere does not make them one.
        (
            {"team/app": _tags(), "team/web": _tags()},
            {"team/app": _tags(), "team/web": _tags(word="another ")},
            False,
        ),
        ({"team/app": _tags(), "team/web": {}}, {"team/app": _tags(), "team/web": {}}, True),
        # A registry that holds a part of the other, such as what was released.
        ({"team/app": _tags(100)}, {"team/app": _tags(10)}, False),
    ],
)
async def test_registries_that_hold_the_same_are_one(mine: Content, theirs: Content, *, same: bool) -> None:
    world = _World({_OURS: _Registry(mine), _OTHER: _Registry(theirs)})
    ours, other = _body("mine"), _body("other", _OTHER)
    found = await world.at(ours, other, registry=_Registry(mine), repositories=sorted(mine))
    assert found == ({"other": False} if same else {})
    # Seen from the other side it is the same.
    world = _World({_OURS: _Registry(mine), _OTHER: _Registry(theirs)})
    found = await world.at(other, ours, registry=_Registry(theirs), repositories=sorted(theirs))
    assert found == ({"mine": True} if same else {})


async def test_each_registry_is_opened_for_its_own_policy_only() -> None:
    world = _World({_OTHER: _Registry({"team/app": _tags()})})
    await world.at(_body("mine"), _body("other", _OTHER), registry=_Registry({"team/app": _tags()}))
    assert world.opened == ["other"]


async def test_of_many_repositories_and_tags_few_are_looked_at() -> None:
    content: Content = {f"team/app-{number}": _tags(50) for number in range(50)}
    mine, theirs = _Registry(content), _Registry(content)
    world = _World({_OTHER: theirs})
    found = await world.at(_body("mine"), _body("other", _OTHER), registry=mine, repositories=sorted(content))
    assert found == {"other": False}
    assert mine.reads == theirs.reads
    assert len(mine.reads) == 3
    assert mine.resolved == theirs.resolved
    assert len(mine.resolved) == 5


async def test_policies_whose_selections_do_not_meet_cost_nothing() -> None:
    world = _World()
    assert await world.at(_body("mine"), _body("other", _OTHER, repositories={"include": ["other/**"]})) == {}
    assert world.opened == []


async def test_a_push_between_two_looks_makes_no_two_registries_of_one() -> None:
    content = _tags()
    theirs = _Registry({"team/app": content})
    theirs.before_read = lambda: content.update(dict.fromkeys(content, "pushed"))
    found = await _World({_OTHER: theirs}).at(
        _body("mine"), _body("other", _OTHER), registry=_Registry({"team/app": content})
    )
    assert found == {"other": False}


# When in doubt


@pytest.mark.parametrize(
    "theirs", [_UNREACHABLE, _Registry({"team/app": _UNREACHABLE})], ids=["unreachable", "unreadable"]
)
async def test_a_registry_that_cannot_be_looked_at_is_another_one_and_the_log_says_so(
    theirs: _Registry | RunError, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    ours = _Registry({"team/app": _tags()})
    assert await _World({_OTHER: theirs}).at(_body("mine"), _body("other", _OTHER), registry=ours) == {}
    (line,) = caplog.records
    assert "could not be compared" in line.message
    told = vars(line)
    assert (told["policy"], told["other"]) == ("team/mine", "team/other")
    assert told["cause"] == "the registry does not answer"


async def test_a_person_who_prunes_takes_what_they_cannot_look_at_for_the_same_registry() -> None:
    world = _World({_OTHER: _UNREACHABLE}, unknown_is_one=True)
    found = await world.at(_body("mine"), _body("other", _OTHER), registry=_Registry({"team/app": _tags()}))
    assert list(found) == ["other"]


async def test_a_registry_that_never_ends_to_answer_is_another_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rivals, "_COMPARE_SECONDS", 0.01)

    class _Endless(_Registry):
        @override
        async def repositories(self) -> Sequence[str]:
            await asyncio.Event().wait()
            raise AssertionError

    world = _World({_OTHER: _Endless({})})
    assert await world.at(_body("mine"), _body("other", _OTHER), registry=_Registry({"team/app": _tags()})) == {}


async def test_a_registry_that_cannot_be_looked_at_is_asked_again_after_a_minute_and_not_before() -> None:
    class _Counting(_Registry):
        looks = 0

        @override
        async def repositories(self) -> Sequence[str]:
            self.looks += 1
            raise _UNREACHABLE

    theirs, ours = _Counting({}), _Registry({"team/app": _tags()})
    world = _World({_OTHER: theirs})
    for _ in range(2):
        assert await world.at(_body("mine"), _body("other", _OTHER), registry=ours) == {}
    assert theirs.looks == 1
    world.time += timedelta(minutes=1)
    await world.at(_body("mine"), _body("other", _OTHER), registry=ours)
    assert theirs.looks == 2


async def test_registries_that_were_one_stay_one_while_the_other_cannot_be_looked_at() -> None:
    ours = _Registry({"team/app": _tags()})
    world = _World({_OTHER: _Registry({"team/app": _tags()})})
    bodies = _body("mine"), _body("other", _OTHER)
    assert await world.at(*bodies, registry=ours) == {"other": False}
    world.registries[_OTHER] = _UNREACHABLE
    world.time += timedelta(hours=1)
    assert await world.at(*bodies, registry=ours) == {"other": False}
    # A changed policy may mean another one.
    bodies[1]["metadata"]["generation"] = 2
    assert await world.at(*bodies, registry=ours) == {}


async def test_what_was_found_holds_for_minutes_and_for_both_policies() -> None:
    registry = _Registry({"team/app": _tags()})
    world = _World({_OURS: registry, _OTHER: registry})
    ours, other = _body("mine"), _body("other", _OTHER)
    for minutes in (0, 3, 3, 3):
        world.time += timedelta(minutes=minutes)
        assert await world.at(ours, other, registry=registry) == {"other": False}
        assert await world.at(other, ours, registry=registry) == {"mine": True}
    assert world.opened == ["other"]
    world.time += timedelta(minutes=3)
    registry.content = {"team/app": {}}
    world.registries[_OTHER] = _Registry({"team/app": _tags()})
    assert await world.at(ours, other, registry=registry) == {}
    assert world.opened == ["other", "other"]


# By address


@pytest.mark.parametrize(
    ("addresses", "other", "theirs", "same"),
    [
        ({"registry.example.com": {"10.0.0.1"}, "r": {"10.0.0.1", "10.0.0.2"}}, "https://r", _UNREACHABLE, True),
        ({"registry.example.com": {"10.0.0.1"}, "r": {"10.0.0.1"}}, "https://r", _Registry({"team/app": {}}), False),
        ({"registry.example.com": {"10.0.0.1"}, "r": {"10.0.0.2"}}, "https://r", _UNREACHABLE, False),
        ({"registry.example.com": {"10.0.0.1"}, "r": {"10.0.0.1"}}, "https://r:444", _UNREACHABLE, False),
        ({}, "https://r", _UNREACHABLE, False),
        # One front may serve many registries, and what a policy does not see it does not prune.
        ({"registry.example.com": {"10.0.0.1"}, "r": {"10.0.0.1"}}, "https://r", _Registry({"team/web": {}}), False),
        (
            {"registry.example.com": {"10.0.0.1"}, "r": {"10.0.0.1"}},
            "https://r",
            _Registry({"team/app": _NO_SUCH}),
            False,
        ),
        (
            {"registry.example.com": {"10.0.0.1"}, "r": {"10.0.0.1"}},
            "https://r",
            _Registry({"team/app": _tags(word="another ")}),
            False,
        ),
    ],
)
async def test_names_of_one_address_and_port_are_one_registry_unless_they_hold_something_else(
    addresses: dict[str, set[str]], other: str, theirs: _Registry | RunError, *, same: bool
) -> None:
    world = _World({other: theirs}, addresses=addresses)
    found = await world.at(_body("mine"), _body("zeta", other), registry=_Registry({"team/app": _tags()}))
    assert found == ({"zeta": False} if same else {})


async def test_hosts_are_resolved_as_the_system_does() -> None:
    assert "127.0.0.1" in await resolve_host("localhost", 5000)
    assert await resolve_host("127.0.0.1", 5000) == {"127.0.0.1"}
    # A label of more than 63 characters has no name, and nobody is asked.
    assert await resolve_host(f"{'x' * 64}.example", 5000) == ()


# Whatever the asking policy selects: for what the other one can undo


class _Sees(_Registry):
    """Holds more than its policy names."""

    def __init__(self, content: Content, *names: str) -> None:
        super().__init__(content)
        self._names = names

    @override
    async def repositories(self) -> Sequence[str]:
        return self._names


@pytest.mark.parametrize(
    ("mine", "theirs", "same"),
    [
        # The names that they share tell.
        (_Registry({"a": _tags(), "b": _tags()}), _Registry({"a": _tags(), "b": _tags()}), True),
        (_Registry({"a": _tags()}), _Registry({"a": _tags(word="other")}), False),
        # They share none: theirs are looked for in ours.
        (_Sees({"a": _tags(), "b": _tags()}, "a"), _Sees({"a": _tags(), "b": _tags()}, "b"), True),
        (_Sees({"a": _tags()}, "a"), _Sees({"b": _tags()}, "b"), False),
        # Nobody can tell: all that there was is pruned, nothing is seen, or not by ours, or theirs is not to be read.
        (_Registry({"a": {}}), _Registry({"a": {}}), True),
        (_Registry({"a": _tags()}), _Registry({}), True),
        (_Sees({"a": _tags(), "b": RunError(Failure("Denied", "no"), "DENIED")}, "a"), _Registry({"b": _tags()}), True),
        (_Registry({"a": _tags()}), _UNREACHABLE, True),
        (_Registry({"a": _tags()}), RunError(Failure("SecretNotFound", "the Secret is gone", mendable=True)), True),
    ],
)
async def test_without_common_names_registries_are_two_only_where_what_the_other_sees_proves_it(
    mine: _Registry, theirs: _Registry | RunError, *, same: bool
) -> None:
    world = _World({_OTHER: theirs}, unknown_is_one=True)
    other = parse_policy(_body("other", _OTHER))
    assert await world.same.same(parse_policy(_body("mine")), mine, other, None) is same


async def test_what_was_found_of_one_registry_of_a_policy_says_nothing_of_another() -> None:
    """What it pruned before its spec was changed is looked for where that was, within one generation."""
    new = "https://new.example.org"
    world = _World({_OTHER: _Registry({"team/app": _tags()}), new: _Registry({"team/app": _tags(word="other")})})
    mine, here = parse_policy(_body("mine")), _Registry({"team/app": _tags()})
    for url, same in ((new, False), (_OTHER, True), (new, False)):
        assert await world.same.same(mine, here, parse_policy(_body("other", url)), None) is same
    assert world.opened == ["other", "other"]
