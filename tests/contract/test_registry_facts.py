"""What a second run asks of real registries when the first one's facts are remembered, and what it finds."""

from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from random import Random

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from registry_cleanup.domain.closure import DeletionUnit
from registry_cleanup.domain.in_use import InUse
from registry_cleanup.domain.inventory import Inventory, Needs
from registry_cleanup.domain.ownership import needs
from registry_cleanup.domain.plan import plan_repository
from registry_cleanup.domain.policy import Policy, Untagged
from registry_cleanup.domain.reference import Digest, parse_digest
from registry_cleanup.registry.fact_store import FactStore
from tests.support.builders import policy, rule
from tests.support.clients import SystemClock, dated, kinds, opened, references
from tests.support.faulty import FaultyRegistry, answers, changes_headers, faulty_registry
from tests.support.generated_registry import Wire, Yard, fill
from tests.support.images import push_image, push_index
from tests.support.naive import fitting_recipe
from tests.support.registries import RegistryServer, distribution

KEEP = "registrycleanup.dev/keep"
DAY = [datetime(2026, 1, number + 1, tzinfo=UTC) for number in range(10)]
_numbers = count(1)


@dataclass(frozen=True)
class Setting:
    """A registry behind a proxy that counts, and a cache in a folder.

    Attributes:
        server: The registry.
        proxy: In front of it.
        wire: To it, past the proxy.
        store: Of facts, whatever process they are from.
        repository: That no other test uses.
    """

    server: RegistryServer
    proxy: FaultyRegistry
    wire: Wire
    store: FactStore
    repository: str

    def push(self, *tags: str, **more: object) -> str:
        return push_image(self.server.url, self.repository, tags, **more)  # type: ignore[arg-type]  # as it takes them

    def push_index(self, *tags: str, children: list[str]) -> str:
        return push_index(self.server.url, self.repository, tags, children=children)

    def delete(self, digest: str) -> None:
        httpx.delete(f"{self.server.url}/v2/{self.repository}/manifests/{digest}", trust_env=False).raise_for_status()

    async def read(self, wanted: Needs | None = None, *, cached: bool = True) -> Inventory:
        """Return what a new connection finds of the repository: the dates of all tags, or what is `wanted`."""
        self.proxy.requests.clear()
        async with opened(self.proxy.url, facts=self.store if cached else None) as registry:
            if wanted is None:
                return await dated(registry, self.repository)
            return await registry.inventory(self.repository, lambda _: wanted, {})

    @property
    def asked(self) -> dict[str, int]:
        return dict(kinds(self.proxy.requests))

    def dates(self, inventory: Inventory) -> dict[str, datetime | None]:
        return {tag: inventory.manifests[digest].created for tag, digest in inventory.tags.items()}


@pytest.fixture(scope="module", params=["2", "3"], ids=["distribution-2.8", "distribution-3.1"])
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Setting]:
    folder: Path = tmp_path_factory.mktemp("facts")
    with ExitStack() as stack:
        server = stack.enter_context(distribution(request.param, folder))
        proxy = stack.enter_context(faulty_registry(server.url))
        store = stack.enter_context(closing(FactStore(folder / "cache", 64, SystemClock())))
        yield Setting(server, proxy, stack.enter_context(closing(Wire(server.host))), store, "")


@pytest.fixture
def setting(site: Setting) -> Setting:
    return _fresh(site)


def _fresh(setting: Setting) -> Setting:
    setting.proxy.heal()
    return Setting(setting.server, setting.proxy, setting.wire, setting.store, f"facts/{next(_numbers)}")


# How much is asked


async def test_a_second_run_asks_once_for_each_tag_and_finds_the_same(setting: Setting) -> None:
    images = [setting.push(f"v{number}", created=DAY[number], seed=str(number)) for number in range(4)]
    setting.push("v0-again", created=DAY[0], seed="0")
    setting.push("undated", created=None, seed="undated")
    setting.push_index("index", children=images[:2])
    cold = await setting.read()
    assert setting.asked == {"GET tags": 1, "GET manifests": 7, "GET blobs": 5}
    warm = await setting.read()
    assert setting.asked == {"GET tags": 1, "HEAD manifests": 7}
    assert warm == cold == await setting.read(cached=False)
    assert setting.dates(warm)["index"] == DAY[1]


async def test_what_is_new_costs_two_requests_more(setting: Setting) -> None:
    setting.push("old", created=DAY[0])
    await setting.read()
    setting.push("new", "new-too", created=DAY[1], seed="new")
    found = await setting.read()
    assert setting.asked == {"GET tags": 1, "HEAD manifests": 3, "GET manifests": 1, "GET blobs": 1}
    assert setting.dates(found) == {"old": DAY[0], "new": DAY[1], "new-too": DAY[1]}
    await setting.read()
    assert setting.asked == {"GET tags": 1, "HEAD manifests": 3}


async def test_a_tag_that_was_pushed_again_has_the_date_of_what_it_names_now(setting: Setting) -> None:
    setting.push("moved", created=DAY[0], seed="before")
    setting.push("there", created=DAY[1], seed="there")
    await setting.read()
    setting.push("moved", created=DAY[5], seed="after")
    assert setting.dates(await setting.read()) == {"moved": DAY[5], "there": DAY[1]}
    setting.push("moved", created=DAY[1], seed="there")
    found = await setting.read()
    assert setting.dates(found) == {"moved": DAY[1], "there": DAY[1]}
    assert setting.asked == {"GET tags": 1, "HEAD manifests": 2}


async def test_a_config_that_was_not_needed_before_is_read_when_it_is(setting: Setting) -> None:
    setting.push("v1", created=DAY[0])
    await setting.read(Needs(read=frozenset({"v1"})))
    assert setting.asked == {"GET tags": 1, "GET manifests": 1}
    assert setting.dates(await setting.read()) == {"v1": DAY[0]}
    assert setting.asked == {"GET tags": 1, "HEAD manifests": 1, "GET blobs": 1}


async def test_an_index_that_only_has_to_be_resolved_is_not_read_again(setting: Setting) -> None:
    inner = setting.push_index(children=[setting.push(created=DAY[0])])
    setting.push_index("index", children=[inner])
    setting.push("image", seed="image")
    wanted = Needs(resolved=frozenset({"index", "image"}))
    cold = await setting.read(wanted)
    assert setting.asked == {"GET tags": 1, "HEAD manifests": 2, "GET manifests": 2}
    assert await setting.read(wanted) == cold
    assert setting.asked == {"GET tags": 1, "HEAD manifests": 2}


async def test_another_repository_with_the_same_images_is_read_for_itself(setting: Setting) -> None:
    setting.push("v1", created=DAY[0])
    await setting.read()
    other = _fresh(setting)
    other.push("v1", created=DAY[0])
    await other.read()
    assert other.asked == {"GET tags": 1, "GET manifests": 1, "GET blobs": 1}


async def test_a_run_that_fails_midway_leaves_what_it_read_to_the_next(setting: Setting) -> None:
    for number in range(3):
        setting.push(f"v{number}", seed=str(number))
    setting.proxy.inject(answers(403), method="GET", path=".*/blobs/.*")
    with pytest.raises(Exception, match="does not allow"):
        await setting.read()
    setting.proxy.heal()
    await setting.read()
    assert setting.asked == {"GET tags": 1, "HEAD manifests": 3, "GET blobs": 3}


# What is not remembered


async def test_a_platform_that_was_never_there_is_asked_for_each_time_and_leaves_the_date_unknown(
    setting: Setting,
) -> None:
    gone = setting.push(created=DAY[0], seed="gone")
    setting.push_index("index", children=[setting.push(created=DAY[1], seed="there"), gone])
    setting.delete(gone)
    for _ in range(2):
        assert setting.dates(await setting.read()) == {"index": None}
        assert gone in references(setting.proxy.requests, "GET")


async def test_a_platform_that_goes_after_it_was_read_was_made_when_it_was_made(setting: Setting) -> None:
    # Its content was checked against its digest: the date of the index is known, and not a guess.
    goes = setting.push(created=DAY[3], seed="goes")
    setting.push_index("index", children=[setting.push(created=DAY[1], seed="there"), goes])
    await setting.read()
    setting.delete(goes)
    assert setting.dates(await setting.read()) == {"index": DAY[3]}
    assert setting.dates(await setting.read(cached=False)) == {"index": None}


async def test_whether_a_digest_in_use_is_there_is_always_asked(setting: Setting) -> None:
    used = setting.push(seed="used")
    setting.push("v1")
    wanted = Needs(dated=frozenset({"v1"}), digests=frozenset({parse_digest(used)}))
    assert used in (await setting.read(wanted)).manifests
    setting.delete(used)
    assert used not in (await setting.read(wanted)).manifests
    assert references(setting.proxy.requests, "GET")[-2:] == ["list", used]


async def test_a_tag_that_names_nothing_any_more_dangles_whatever_is_remembered(setting: Setting) -> None:
    setting.push("v1")
    await setting.read()
    setting.proxy.inject(answers(404), path=".*/manifests/v1")
    assert (await setting.read()).dangling == {"v1"}


async def test_a_mark_counts_in_a_warm_run_where_it_counts_in_a_cold_one(setting: Setting) -> None:
    setting.push("label", created=DAY[0], labels={KEEP: "true"}, seed="label")
    setting.push("both", created=DAY[0], labels={KEEP: "a"}, annotations={KEEP: "b"}, seed="both")
    setting.push("annotation", annotations={KEEP: "2030-01-01"}, seed="annotation")
    cold = await setting.read()
    warm = await setting.read()
    assert {tag: warm.manifests[digest].keep for tag, digest in warm.tags.items()} == {
        "label": "true",
        "both": "true",
        "annotation": "2030-01-01",
    }
    assert warm == cold
    # Where no date is needed, no config is read, and its label says nothing: remembered or not.
    unread = Needs(read=frozenset({"label", "both", "annotation"}))
    assert await setting.read(unread) == await setting.read(unread, cached=False)


# Odd answers


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Type": "application/octet-stream"},
        {"Content-Type": "application/vnd.oci.image.index.v1+json"},
        {"Docker-Content-Digest": None},
        {"Docker-Content-Digest": "sha256:" + "0" * 64},
    ],
)
async def test_where_head_is_odd_the_manifest_is_read_by_its_tag(
    setting: Setting, headers: dict[str, str | None]
) -> None:
    setting.push("v1", created=DAY[0])
    cold = await setting.read()
    setting.proxy.inject(changes_headers(headers), method="HEAD")
    assert await setting.read() == cold
    assert "v1" in references(setting.proxy.requests, "GET")


async def test_a_manifest_that_goes_between_its_digest_and_its_body_is_read_by_its_tag(setting: Setting) -> None:
    setting.push("there", created=DAY[0], seed="there")
    await setting.read()
    new = setting.push("v1", created=DAY[1], seed="new")
    setting.proxy.inject(answers(404), method="GET", path=f".*/manifests/{new}")
    assert setting.dates(await setting.read()) == {"there": DAY[0], "v1": DAY[1]}


# Indexes by age


async def test_one_young_platform_spares_the_others_of_an_index_that_stays_by_its_age(setting: Setting) -> None:
    young = [setting.push(created=DAY[5], seed=f"young {number}") for number in range(3)]
    old = [setting.push(created=DAY[1], seed=f"old {number}") for number in range(3)]
    setting.push_index("young", children=young)
    setting.push_index("old", children=old)
    wanted = Needs(dated=frozenset({"young", "old"}), young_after=DAY[4])
    found = await setting.read(wanted, cached=False)
    assert setting.dates(found) == {"young": DAY[5], "old": DAY[1]}
    # Of the young one its first platform, of the old one all.
    assert setting.asked == {"GET tags": 1, "GET manifests": 2 + 1 + 3, "GET blobs": 1 + 3}


async def test_an_index_is_old_only_if_all_its_platforms_are(setting: Setting) -> None:
    dates = [DAY[1], DAY[5], DAY[2]]
    setting.push_index("v1", children=[setting.push(created=each, seed=str(each)) for each in dates])
    setting.push_index("odd", children=[setting.push(created=DAY[1]), setting.push(created=None, seed="undated")])
    wanted = Needs(dated=frozenset({"v1", "odd"}), young_after=DAY[4])
    for _ in range(2):
        assert setting.dates(await setting.read(wanted)) == {"v1": DAY[5], "odd": None}


async def test_a_platform_that_is_remembered_as_young_costs_nothing(setting: Setting) -> None:
    children = [setting.push(created=DAY[number], seed=str(number)) for number in (1, 5)]
    setting.push_index("v1", children=children)
    await setting.read()
    setting.push_index("v2", children=[*children, setting.push(created=DAY[6], seed="unread")])
    wanted = Needs(dated=frozenset({"v1", "v2"}), young_after=DAY[0])
    assert setting.dates(await setting.read(wanted))["v2"] == DAY[1]
    assert setting.asked == {"GET tags": 1, "HEAD manifests": 2, "GET manifests": 1}


# Whatever a repository holds

_QUICK = settings(
    max_examples=12, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)
_RANDOM = st.randoms(use_true_random=False)


@_QUICK
@given(random=_RANDOM)
async def test_a_warm_run_plans_what_a_cold_one_plans(site: Setting, random: Random) -> None:
    await _warm_as_cold(_fresh(site), random)


@pytest.mark.thorough
@settings(_QUICK, max_examples=150)
@given(random=_RANDOM)
async def test_a_warm_run_plans_what_a_cold_one_plans_in_hundreds_of_repositories(
    site: Setting, random: Random
) -> None:
    await _warm_as_cold(_fresh(site), random)


async def _warm_as_cold(setting: Setting, random: Random) -> None:
    yard = Yard(setting.wire, setting.repository)
    fill(yard, random)
    unit = DeletionUnit.DIGEST if setting.server.version == "2" else DeletionUnit.TAG
    for number in range(3):
        wanted = [_some_policy(random, yard, setting), _by_age(random)]
        for each in wanted:
            using = _using(random, yard)
            now = datetime.now(UTC)
            cold = await _gathered(setting, each, unit, using, cached=False)
            warm = await _gathered(setting, each, unit, using, cached=True)
            assert warm == cold
            lazy = await _gathered(setting, each, unit, using, cached=bool(number % 2), now=now)
            plans = [plan_repository(each, found, unit, now, using) for found in (cold, lazy)]
            whole, less = [(plan.groups, plan.untagged, {v.tag for v in plan.verdicts if v.goes}) for plan in plans]
            assert less == whole
        if random.random() < 0.8:
            yard.tag(random.choice(sorted(yard.tags()) or ["v1.0.0"]), yard.image(created=datetime.now(UTC)))


async def _gathered(
    setting: Setting, what: Policy, unit: DeletionUnit, using: InUse, *, cached: bool, now: datetime | None = None
) -> Inventory:
    async with opened(setting.server.url, facts=setting.store if cached else None) as registry:
        return await registry.inventory(
            setting.repository, lambda tags: needs(what, setting.repository, tags, unit, using, now), {}
        )


def _some_policy(random: Random, yard: Yard, setting: Setting) -> Policy:
    return fitting_recipe(random, yard, by_digest=setting.server.version == "2").policy(setting.repository)


def _by_age(random: Random) -> Policy:
    """Return a policy that says nothing but ages."""
    rules = [rule(include, name=include, days=random.choice([1, 7, 30, 90])) for include in ("v.*", "build-.*", ".*")]
    untagged = random.choice(list(Untagged))
    return policy(*random.sample(rules, random.randint(1, 3)), minimum_tags=random.randint(0, 2), untagged=untagged)


def _using(random: Random, yard: Yard) -> InUse:
    used = random.sample(sorted(yard.facts), random.choice([0, 0, 1, 2]))
    return InUse(digests=frozenset(map(Digest, used)))
