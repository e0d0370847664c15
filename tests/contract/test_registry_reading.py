"""Our client reads real registries: whole lists, right digests and dates, and no request that nobody needs."""

import json
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import httpx
import pytest
from aiohttp import web

from registry_cleanup.domain.closure import DeletionUnit
from registry_cleanup.domain.inventory import Format, Inventory, Manifest, Needs
from registry_cleanup.domain.ownership import needs
from registry_cleanup.domain.policy import Policy
from registry_cleanup.domain.reference import parse_digest
from registry_cleanup.registry.errors import DeniedError, MalformedAnswerError, NotFoundError
from tests.support.binaries import binary
from tests.support.builders import planned, policy, pruned, rule
from tests.support.clients import dated, kinds, opened, prunes, references, resolved
from tests.support.crane import Crane
from tests.support.faulty import Fault, FaultyRegistry, Forward, answers, changes_headers, faulty_registry
from tests.support.images import OCI_INDEX, OCI_MANIFEST, push_blob, push_image, push_index, push_raw_manifest
from tests.support.processes import environment_without, free_port, running, wait_until
from tests.support.registries import RegistryServer, Version, distribution

KEEP = "registrycleanup.dev/keep"
DAY = [datetime(2026, 1, number + 1, tzinfo=UTC) for number in range(10)]


@dataclass(frozen=True)
class Setting:
    """A registry for all tests of this module, each with repositories of its own, and a proxy that counts."""

    server: RegistryServer
    proxy: FaultyRegistry

    @property
    def url(self) -> str:
        return self.server.url


@pytest.fixture(scope="module", params=["2", "3"], ids=["distribution-2.8", "distribution-3.1"])
def _setting(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Setting]:
    version: Version = request.param
    with (
        distribution(version, tmp_path_factory.mktemp(f"reading-{version}")) as server,
        faulty_registry(server.url) as proxy,
    ):
        yield Setting(server, proxy)


@pytest.fixture
def setting(_setting: Setting) -> Setting:
    _setting.proxy.requests.clear()
    _setting.proxy.heal()
    return _setting


# Lists


@pytest.mark.parametrize("version", ["2", "3"])
async def test_a_catalogue_of_several_pages_is_read_whole(version: Version, tmp_path: Path) -> None:
    names = _many_repositories(tmp_path / "storage", 1010)
    with (
        distribution(version, tmp_path, storage=tmp_path / "storage") as server,
        faulty_registry(server.url) as proxy,
    ):
        async with opened(proxy.url) as registry:
            assert await registry.repositories() == names
        pages = [request.query.get("n") for request in proxy.requests if request.path == "/v2/_catalog"]
        assert pages == ["1000", "1000"]


@pytest.mark.parametrize("version", ["2", "3"])
async def test_a_registry_of_smaller_pages_is_asked_again_without_a_number(version: Version, tmp_path: Path) -> None:
    names = _many_repositories(tmp_path / "storage", 12)
    with _distribution_of_small_pages(version, tmp_path) as url, faulty_registry(url) as proxy:
        async with opened(proxy.url) as registry:
            assert await registry.repositories() == names
        first, second, *_ = [request.query for request in proxy.requests if request.path == "/v2/_catalog"]
        assert (first.get("n"), second.get("n")) == ("1000", None)


async def test_a_policy_that_names_its_repositories_never_asks_for_the_catalogue(setting: Setting) -> None:
    async with opened(setting.proxy.url, repositories=["team/b", "team/a"]) as registry:
        assert await registry.repositories() == ["team/a", "team/b"]
    assert kinds(setting.proxy.requests) == {}


async def test_tags_are_listed_without_a_page_size(setting: Setting) -> None:
    tags = [f"v{number}" for number in range(12)]
    push_image(setting.url, "lists/tags", tags)
    async with opened(setting.proxy.url) as registry:
        inventory = await registry.inventory("lists/tags", lambda _: Needs(), {})
    assert inventory.unresolved == frozenset(tags)
    (listing,) = [request for request in setting.proxy.requests if request.path.endswith("/tags/list")]
    assert dict(listing.query) == {}


async def test_tags_that_come_in_pages_are_read_whole(setting: Setting) -> None:
    push_image(setting.url, "lists/paged", ["a", "b"])
    # A registry that pages by itself; both versions answer this one with the whole list again.
    link = '</v2/lists/paged/tags/list?last=%20>; rel="next"'
    setting.proxy.inject(changes_headers({"Link": link}), path=".*/tags/list", times=1)
    async with opened(setting.proxy.url) as registry:
        inventory = await registry.inventory("lists/paged", lambda _: Needs(), {})
    assert inventory.unresolved == {"a", "b"}
    assert kinds(setting.proxy.requests) == {"GET tags": 2}


async def test_a_repository_that_lost_its_last_tag_is_empty(setting: Setting) -> None:
    digest = push_image(setting.url, "lists/emptied", ["v1"])
    _call(setting, "DELETE", f"lists/emptied/manifests/{digest}")
    listed = _call(setting, "GET", "lists/emptied/tags/list").json()["tags"]
    assert listed == (None if setting.server.version == "2" else [])
    async with opened(setting.url, repositories=["lists/emptied"]) as registry:
        assert (await dated(registry, "lists/emptied")).size == 0


async def test_an_unknown_repository_is_an_error_only_if_the_policy_names_it(setting: Setting) -> None:
    async with opened(setting.url) as registry:
        assert (await dated(registry, "lists/none")).size == 0
    async with opened(setting.url, repositories=["lists/none"]) as registry:
        with pytest.raises(NotFoundError) as caught:
            await dated(registry, "lists/none")
    assert caught.value.code == "NAME_UNKNOWN"


# Digests


@pytest.mark.parametrize("docker", [False, True], ids=["oci", "docker"])
async def test_digests_are_those_that_crane_sees(setting: Setting, tmp_path: Path, docker: bool) -> None:
    repository = f"digests/docker-{docker}".lower()
    children = [
        push_image(setting.url, repository, ["image"], platform=platform, docker=docker)
        for platform in ("linux/arm64", "linux/amd64")
    ]
    push_index(setting.url, repository, ["index"], children=children, docker=docker)
    async with opened(setting.url) as registry:
        by_head, by_get = await resolved(registry, repository), await dated(registry, repository)
    crane = Crane(tmp_path / "crane")
    expected = {tag: crane.digest(f"{setting.server.host}/{repository}:{tag}") for tag in ("image", "index")}
    for inventory in (by_head, by_get):
        assert inventory.tags == expected
        formats = {tag: inventory.manifests[digest].format for tag, digest in inventory.tags.items()}
        assert formats == {"image": Format.IMAGE, "index": Format.INDEX}
        assert inventory.manifests[inventory.tags["index"]].children == tuple(children)


async def test_without_the_digest_header_the_body_is_hashed(setting: Setting) -> None:
    digest = push_image(setting.url, "digests/headerless", ["v1"])
    setting.proxy.inject(changes_headers({"Docker-Content-Digest": None}))
    async with opened(setting.proxy.url) as registry:
        assert (await resolved(registry, "digests/headerless")).tags == {"v1": digest}
        assert (await dated(registry, "digests/headerless")).tags == {"v1": digest}


async def test_a_tag_without_a_manifest_dangles_and_is_no_failure(setting: Setting) -> None:
    digest = push_image(setting.url, "digests/dangling", ["gone"])
    kept = push_image(setting.url, "digests/dangling", ["there"], seed="there")
    folder = setting.server.storage / "docker/registry/v2/repositories/digests/dangling/_manifests/revisions"
    shutil.rmtree(folder / digest.replace(":", "/"))
    async with opened(setting.url) as registry:
        for inventory in (await resolved(registry, "digests/dangling"), await dated(registry, "digests/dangling")):
            assert inventory.dangling == {"gone"}
            assert inventory.tags == {"there": kept}


# Dates


async def test_an_image_is_as_old_as_its_config_says(setting: Setting) -> None:
    push_image(setting.url, "dates/image", ["dated"], created=DAY[3])
    push_image(setting.url, "dates/image", ["fraction"], created="2026-01-04T01:02:03.123456789+01:00")
    push_image(setting.url, "dates/image", ["undated"], created=None)
    push_image(setting.url, "dates/image", ["nonsense"], created="yesterday")
    assert await _dates(setting, "dates/image") == {
        "dated": DAY[3],
        "fraction": datetime(2026, 1, 4, 0, 2, 3, 123456, tzinfo=UTC),
        "undated": None,
        "nonsense": None,
    }


async def test_the_annotation_goes_before_the_config_and_spares_its_request(setting: Setting) -> None:
    annotations = {"org.opencontainers.image.created": DAY[5].isoformat()}
    push_image(setting.url, "dates/annotated", ["v1"], created=DAY[1], annotations=annotations)
    assert await _dates(setting, "dates/annotated") == {"v1": DAY[5]}
    assert kinds(setting.proxy.requests) == {"GET tags": 1, "GET manifests": 1}


async def test_an_index_is_as_old_as_its_newest_platform(setting: Setting) -> None:
    repository = "dates/index"
    children = [
        push_image(setting.url, repository, platform="linux/amd64", created=DAY[1]),
        push_image(setting.url, repository, platform="linux/arm64", created=DAY[2]),
    ]
    attestation = push_image(setting.url, repository, platform="unknown/unknown", created=DAY[9])
    undated = push_image(setting.url, repository, platform="linux/arm", created=None)
    index = push_index(setting.url, repository, ["index"], children=[*children, attestation])
    push_index(setting.url, repository, ["nested"], children=[index])
    push_index(setting.url, repository, ["undated"], children=[*children, undated])
    push_index(setting.url, repository, ["empty"], children=[])
    assert await _dates(setting, repository) == {"index": DAY[2], "nested": DAY[2], "undated": None, "empty": None}


async def test_a_child_that_was_never_pushed_leaves_the_date_unknown(setting: Setting) -> None:
    repository = "dates/sparse"
    child = push_image(setting.url, repository, created=DAY[1])
    push_index(setting.url, repository, ["index"], children=[child])
    _call(setting, "DELETE", f"{repository}/manifests/{child}")
    assert await _dates(setting, repository) == {"index": None}


async def test_the_children_of_nested_indexes_are_known(setting: Setting) -> None:
    repository = "dates/nested"
    child = push_image(setting.url, repository)
    inner = push_index(setting.url, repository, children=[child])
    outer = push_index(setting.url, repository, ["outer"], children=[inner])
    async with opened(setting.url) as registry:
        for inventory in (await resolved(registry, repository), await dated(registry, repository)):
            assert inventory.manifests[parse_digest(outer)].children == (inner,)
            assert inventory.manifests[parse_digest(inner)].children == (child,)


async def _dates(setting: Setting, repository: str) -> dict[str, datetime | None]:
    async with opened(setting.proxy.url) as registry:
        inventory = await dated(registry, repository)
    return {tag: inventory.manifests[digest].created for tag, digest in inventory.tags.items()}


# Images


@pytest.mark.parametrize("docker", [False, True], ids=["oci", "docker"])
async def test_the_blobs_of_an_image_are_its_manifest_its_config_and_its_layers(
    setting: Setting, tmp_path: Path, docker: bool
) -> None:
    repository = f"blobs/docker-{docker}".lower()
    image = push_image(setting.url, repository, ["image"], docker=docker)
    index = push_index(setting.url, repository, ["index"], children=[image], docker=docker)
    facts = (await _read(setting, repository)).manifests
    crane = Crane(tmp_path / "crane")
    described = crane.manifest(f"{setting.server.host}/{repository}@{image}")
    parts = [described["config"], *described["layers"]]
    length = len(crane.run("manifest", f"{setting.server.host}/{repository}@{image}"))
    expected = [(image, length), *((part["digest"], part["size"]) for part in parts)]
    assert list(facts[parse_digest(image)].blobs) == expected
    assert facts[parse_digest(image)].config == described["config"]["digest"]
    assert [digest for digest, _ in facts[parse_digest(index)].blobs] == [index]
    assert facts[parse_digest(index)].config is None


async def test_a_layer_that_images_share_is_one_object(setting: Setting) -> None:
    labels: list[dict[str, str] | None] = [None, {"another": "config"}]
    images = [push_image(setting.url, "blobs/shared", [f"v{n}"], labels=each) for n, each in enumerate(labels)]
    push_index(setting.url, "blobs/shared", ["index"], children=images)
    facts = (await _read(setting, "blobs/shared")).manifests
    one, two = (facts[parse_digest(image)] for image in images)
    assert one.blobs[2] == two.blobs[2]
    assert one.blobs[2] is two.blobs[2]
    assert one.blobs[1].digest is one.config
    (index,) = (each for each in facts.values() if each.format is Format.INDEX)
    assert index.children[0] is one.digest


async def test_layers_that_are_none_are_not_counted_and_fail_nothing(setting: Setting) -> None:
    image = push_image(setting.url, "blobs/odd", ["v1"])
    sizes = [{"digest": "sha256:" + "1" * 64, "size": size} for size in (-1, "5", None, 5)]
    body = {"config": {"digest": image}, "layers": [*sizes, {}, 1, {"digest": "x", "size": 1}]}
    setting.proxy.inject(_serves(body, OCI_MANIFEST), method="GET", path=".*/manifests/v1")
    (manifest,) = (await _read(setting, "blobs/odd")).manifests.values()
    assert [blob.size for blob in manifest.blobs] == [len(json.dumps(body)), 5]


@pytest.mark.parametrize(
    "media_type", ["application/vnd.docker.distribution.manifest.v1+prettyjws", "application/vnd.example+json"]
)
async def test_what_is_not_understood_is_of_unknown_format(setting: Setting, media_type: str) -> None:
    push_image(setting.url, "formats/unknown", ["v1"])
    setting.proxy.inject(_serves({"config": 1, "layers": 2}, media_type), method="GET", path=".*/manifests/v1")
    (manifest,) = (await _read(setting, "formats/unknown")).manifests.values()
    assert (manifest.format, manifest.blobs, manifest.config) == (Format.UNKNOWN, (), None)


async def test_an_index_that_lists_too_much_is_malformed_and_asks_for_nothing_more(setting: Setting) -> None:
    push_image(setting.url, "formats/large", ["v1"])
    entries = [{"digest": f"sha256:{number:064}"} for number in range(10_001)]
    setting.proxy.inject(_serves({"manifests": entries}, OCI_INDEX), method="GET", path=".*/manifests/v1")
    with pytest.raises(MalformedAnswerError, match="more than 10000"):
        await _read(setting, "formats/large")
    assert kinds(setting.proxy.requests) == {"GET tags": 1, "GET manifests": 1}


async def test_the_date_of_an_index_of_hundreds_of_platforms_is_unknown_and_asks_for_none_of_them(
    setting: Setting,
) -> None:
    push_image(setting.url, "formats/wide", ["v1"])
    entries = [{"digest": f"sha256:{number:064}", "mediaType": OCI_MANIFEST} for number in range(257)]
    setting.proxy.inject(_serves({"manifests": entries}, OCI_INDEX), method="GET", path=".*/manifests/v1")
    assert await _dates(setting, "formats/wide") == {"v1": None}
    assert kinds(setting.proxy.requests) == {"GET tags": 1, "GET manifests": 1}


async def test_a_config_that_is_no_json_leaves_the_date_unknown(setting: Setting) -> None:
    image = push_image(setting.url, "formats/artifact", ["image"])
    config = push_blob(setting.url, "formats/artifact", b"no JSON", "text/plain")
    push_raw_manifest(
        setting.url,
        "formats/artifact",
        ["artifact"],
        {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": []},
        OCI_MANIFEST,
    )
    async with opened(setting.url) as registry:
        inventory = await dated(registry, "formats/artifact")
    assert inventory.tags["image"] == image
    assert inventory.manifests[inventory.tags["artifact"]].created is None


# Pins


async def test_the_annotation_of_a_manifest_pins_it(setting: Setting) -> None:
    image = push_image(setting.url, "pins/annotated", ["image"], annotations={KEEP: "true"})
    push_index(setting.url, "pins/annotated", ["index"], children=[image], annotations={KEEP: "2030-01-01"})
    assert await _pins(setting, "pins/annotated", dates=False) == {"image": "true", "index": "2030-01-01"}


async def test_the_label_of_a_config_pins_its_image_where_the_config_is_read(setting: Setting) -> None:
    push_image(setting.url, "pins/labelled", ["v1"], labels={KEEP: "2030-01-01"})
    assert await _pins(setting, "pins/labelled", dates=True) == {"v1": "2030-01-01"}
    assert await _pins(setting, "pins/labelled", dates=False) == {"v1": None}


@pytest.mark.parametrize(
    ("annotation", "label", "expected"),
    [
        ("false", "true", "true"),
        ("true", "false", "true"),
        ("2030-01-01", "false", "2030-01-01"),
        ("2029-01-01", "2030-01-01", "true"),
        ("false", "false", "false"),
    ],
)
async def test_of_two_marks_each_keeps(setting: Setting, annotation: str, label: str, expected: str) -> None:
    repository = f"pins/both-{annotation}-{label}"
    push_image(setting.url, repository, ["v1"], annotations={KEEP: annotation}, labels={KEEP: label})
    assert await _pins(setting, repository, dates=True) == {"v1": expected}


async def test_the_label_of_a_platform_is_known_where_its_config_is_read_for_the_date(setting: Setting) -> None:
    labels: list[dict[str, str] | None] = [None, {KEEP: "true"}]
    children = [
        push_image(setting.url, "pins/platforms", platform=f"linux/{number}", labels=each, created=DAY[number])
        for number, each in enumerate(labels)
    ]
    inner = push_index(setting.url, "pins/platforms", children=children)
    push_index(setting.url, "pins/platforms", ["index"], children=[inner])
    async with opened(setting.url) as registry:
        inventory = await dated(registry, "pins/platforms")
    found = [inventory.manifests[parse_digest(child)] for child in children]
    assert [(each.keep, each.created) for each in found] == [(None, DAY[0]), ("true", DAY[1])]


@pytest.mark.parametrize("config", [{"config": None}, {"config": {"Labels": None}}, {"config": []}, {"config": "x"}])
async def test_a_config_without_labels_pins_nothing(setting: Setting, config: dict[str, object]) -> None:
    repository = f"pins/none-{len(json.dumps(config))}"
    body = json.dumps({**config, "created": DAY[1].isoformat()}).encode()
    pushed = push_blob(setting.url, repository, body, "application/vnd.oci.image.config.v1+json")
    manifest = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": pushed, "layers": []}
    push_raw_manifest(setting.url, repository, ["v1"], manifest, OCI_MANIFEST)
    assert await _pins(setting, repository, dates=True) == {"v1": None}
    assert await _dates(setting, repository) == {"v1": DAY[1]}


async def _pins(setting: Setting, repository: str, *, dates: bool) -> dict[str, str | None]:
    async with opened(setting.url) as registry:
        inventory = await dated(registry, repository) if dates else await _read(setting, repository)
    return {tag: inventory.manifests[digest].keep for tag, digest in inventory.tags.items()}


async def _read(setting: Setting, repository: str) -> Inventory:
    async with opened(setting.proxy.url) as registry:
        return await registry.inventory(repository, lambda tags: Needs(read=frozenset(tags)), {})


def _serves(body: object, media_type: str) -> Fault:
    return answers(200, json.dumps(body), {"Content-Type": media_type})


# Requests


async def test_where_no_date_is_needed_no_config_is_read(setting: Setting) -> None:
    image = push_image(setting.url, "requests/read", ["image"])
    push_index(setting.url, "requests/read", ["index"], children=[image])
    inventory = await _read(setting, "requests/read")
    assert set(inventory.tags) == {"image", "index"}
    assert kinds(setting.proxy.requests) == {"GET tags": 1, "GET manifests": 2}


async def test_digests_in_use_are_read_be_there_a_tag_on_them_or_not(setting: Setting) -> None:
    repository = "requests/in-use"
    image = push_image(setting.url, repository)
    inner = push_index(setting.url, repository, children=[image])
    outer = push_index(setting.url, repository, children=[inner])
    tagged = push_image(setting.url, repository, ["tagged"], seed="tagged")
    used = frozenset(map(parse_digest, [outer, tagged, "sha256:" + "0" * 64]))
    async with opened(setting.proxy.url) as registry:
        inventory = await registry.inventory(repository, lambda tags: Needs(resolved=frozenset(tags), digests=used), {})
    assert inventory.manifests[parse_digest(outer)].children == (inner,)
    assert inventory.manifests[parse_digest(inner)].children == (image,)
    assert inventory.manifests.keys() == {outer, inner, tagged}
    # The outer and the inner index, and the digest that is not here; what the tag names is known already.
    assert kinds(setting.proxy.requests) == {"GET tags": 1, "HEAD manifests": 1, "GET manifests": 3}


async def test_a_digest_in_use_that_cannot_be_read_fails_the_repository(setting: Setting) -> None:
    used = push_image(setting.url, "requests/unreadable", seed="used")
    push_image(setting.url, "requests/unreadable", ["v1", "v2"])
    setting.proxy.inject(answers(403), method="GET", path=f".*/manifests/{used}")
    async with opened(setting.proxy.url) as registry:
        with pytest.raises(DeniedError) as caught:
            await registry.inventory(
                "requests/unreadable",
                lambda tags: Needs(read=frozenset(tags), digests=frozenset({parse_digest(used)})),
                {},
            )
    assert caught.value.listed == 2


async def test_a_failure_tells_how_many_tags_were_listed(setting: Setting) -> None:
    push_image(setting.url, "requests/failing", ["v1", "v2", "v3"])
    async with opened(setting.proxy.url) as registry:
        setting.proxy.inject(answers(403), method="HEAD", path=".*/manifests/v2")
        with pytest.raises(DeniedError) as caught:
            await resolved(registry, "requests/failing")
        assert caught.value.listed == 3
        setting.proxy.inject(answers(403), path=".*/tags/list")
        with pytest.raises(DeniedError) as caught:
            await resolved(registry, "requests/failing")
        assert caught.value.listed == 0


async def test_a_platform_that_indexes_share_is_read_once(setting: Setting) -> None:
    repository = "requests/platforms"
    children = [push_image(setting.url, repository, platform=f"linux/{number}", seed="x") for number in range(3)]
    for number in range(3):
        push_index(setting.url, repository, [f"v{number}"], children=children[: number + 1])
    async with opened(setting.proxy.url) as registry:
        await dated(registry, repository)
    assert kinds(setting.proxy.requests) == {"GET tags": 1, "GET manifests": 3 + 3, "GET blobs": 3}


@pytest.mark.parametrize(
    ("unit", "expected"),
    [
        # One GET for each owned tag, one config for their one digest, and nothing of the tags that no rule owns.
        (DeletionUnit.TAG, {"GET tags": 1, "GET manifests": 2, "GET blobs": 1}),
        # Where digests count, the others' too: by HEAD, and the body only of the index.
        (DeletionUnit.DIGEST, {"GET tags": 1, "GET manifests": 3, "GET blobs": 1, "HEAD manifests": 2}),
    ],
)
async def test_only_what_the_rules_need_is_asked_for(
    setting: Setting, unit: DeletionUnit, expected: dict[str, int]
) -> None:
    repository = f"requests/{unit.lower()}"
    image = push_image(setting.url, repository, ["old-1", "old-2"])
    push_image(setting.url, repository, ["kept"], seed="kept")
    push_index(setting.url, repository, ["kept-index"], children=[image])
    policy = prunes("old-.*")
    async with opened(setting.proxy.url) as registry:
        inventory = await registry.inventory(repository, lambda tags: needs(policy, repository, tags, unit), {})
    assert kinds(setting.proxy.requests) == expected
    unmatched = {"kept", "kept-index"}
    assert inventory.unresolved == (unmatched if unit is DeletionUnit.TAG else set())
    assert inventory.size == 4


async def test_a_repository_without_a_tag_of_a_rule_costs_one_request(setting: Setting) -> None:
    push_image(setting.url, "requests/unmatched", ["v1", "v2"])
    policy = prunes("old-.*")
    async with opened(setting.proxy.url) as registry:
        await registry.inventory(
            "requests/unmatched", lambda tags: needs(policy, "requests/unmatched", tags, DeletionUnit.DIGEST), {}
        )
    assert kinds(setting.proxy.requests) == {"GET tags": 1}


@pytest.mark.parametrize("unit", DeletionUnit)
async def test_a_repository_of_as_many_tags_as_a_rule_keeps_costs_one_request(
    setting: Setting, unit: DeletionUnit
) -> None:
    repository = f"requests/few-{unit.lower()}"
    tags = [f"v{number}" for number in range(5)]
    for number, tag in enumerate(tags):
        push_image(setting.url, repository, [tag], seed=tag, created=DAY[number])
    async with opened(setting.proxy.url) as registry:
        for kept, expected in ((5, {"GET tags": 1}), (4, {"GET tags": 1, "GET manifests": 5, "GET blobs": 5})):
            setting.proxy.requests.clear()
            what = policy(rule(most_recent=kept), minimum_tags=1)
            inventory = await registry.inventory(repository, partial(_needs, what, repository, unit), {})
            assert kinds(setting.proxy.requests) == expected
            assert pruned(planned(what, inventory, unit)) == set(tags[: 5 - kept])


async def test_a_config_is_read_once_for_each_digest(setting: Setting) -> None:
    tags = [f"v{number}" for number in range(6)]
    push_image(setting.url, "requests/shared", tags)
    async with opened(setting.proxy.url) as registry:
        inventory = await dated(registry, "requests/shared")
    assert (len(inventory.tags), len(set(inventory.tags.values()))) == (6, 1)
    assert kinds(setting.proxy.requests) == {"GET tags": 1, "GET manifests": 6, "GET blobs": 1}


async def test_who_looks_sees_how_many_requests_were_sent_and_how_much_of_a_repository_is_read(
    setting: Setting,
) -> None:
    repository = "requests/seen"
    for tag in ("v1", "v2", "v3"):
        push_image(setting.url, repository, [tag], seed=tag)
    push_image(setting.url, repository, ["v3-again"], seed="v3")
    seen: list[tuple[int | None, int]] = []
    async with opened(setting.proxy.url, repositories=[repository, "requests/none"]) as registry:

        async def look(_request: web.Request, forward: Forward) -> web.StreamResponse:
            seen.append((registry.readings.tags_of_all(1), registry.readings.tags_read))
            return (await forward()).response()

        setting.proxy.inject(look)
        before = registry.requests
        wanted = Needs(dated=frozenset({"v1", "v2", "v3"}), resolved=frozenset({"v3-again"}))
        await registry.inventory(repository, lambda _: wanted, {})
        # The list, four manifests, three configs.
        assert registry.requests - before == len(seen) == 8
        assert (registry.readings.tags_of_all(1), registry.readings.tags_read) == (4, 4)
        with pytest.raises(NotFoundError):
            await dated(registry, "requests/none")
        assert (registry.readings.ended, registry.readings.tags) == (2, 4)
    assert seen[0] == (None, 0)
    assert all(whole == 4 for whole, _ in seen[1:])
    read = [number for _, number in seen]
    assert read == sorted(read)
    assert 0 < read[5] < 4


async def test_known_facts_are_not_fetched_again(setting: Setting) -> None:
    repository = "requests/known"
    image = push_image(setting.url, repository, ["image"], created=DAY[1])
    index = push_index(setting.url, repository, ["index"], children=[image])
    facts = {
        parse_digest(image): Manifest(parse_digest(image), Format.IMAGE, created=DAY[1]),
        parse_digest(index): Manifest(parse_digest(index), Format.INDEX, (parse_digest(image),)),
    }
    async with opened(setting.proxy.url) as registry:
        inventory = await registry.inventory(
            repository, lambda _: Needs(dated=frozenset({"image"}), resolved=frozenset({"index"})), facts
        )
    assert kinds(setting.proxy.requests) == {"GET tags": 1, "GET manifests": 1, "HEAD manifests": 1}
    assert references(setting.proxy.requests, "HEAD") == ["index"]
    assert inventory.manifests[parse_digest(image)].created == DAY[1]
    assert inventory.manifests[parse_digest(index)].children == (image,)


async def test_known_facts_are_kept_and_spare_a_platform_its_requests(setting: Setting) -> None:
    repository = "requests/known-platforms"
    image = push_image(setting.url, repository, ["image", "again"], created=DAY[1])
    push_index(setting.url, repository, ["index"], children=[image])
    fact = Manifest(parse_digest(image), Format.IMAGE, created=DAY[2], keep="true")
    async with opened(setting.proxy.url) as registry:
        inventory = await registry.inventory(
            repository,
            lambda _: Needs(dated=frozenset({"index"}), resolved=frozenset({"image", "again"})),
            {fact.digest: fact},
        )
        again = await registry.inventory(repository, lambda _: Needs(dated=frozenset({"image"})), {fact.digest: fact})
    # Of the index, and of the image for its tag.
    assert kinds(setting.proxy.requests) == {"GET tags": 2, "GET manifests": 2, "HEAD manifests": 2}
    assert inventory.manifests[fact.digest] == fact
    assert inventory.manifests[inventory.tags["index"]].created == DAY[2]
    assert (again.manifests[fact.digest].created, again.manifests[fact.digest].keep) == (DAY[2], "true")


# Builders


def _call(setting: Setting, method: str, path: str) -> httpx.Response:
    return httpx.request(method, f"{setting.url}/v2/{path}", trust_env=False).raise_for_status()


def _many_repositories(storage: Path, number: int) -> list[str]:
    """Make repositories as the catalogue of 2.8 (`_layers`) and of 3.1 (`_manifests`) recognises them."""
    names = [f"many/app-{index:04}" for index in range(number)]
    for name in names:
        for part in ("_layers", "_manifests"):
            (storage / "docker/registry/v2/repositories" / name / part).mkdir(parents=True)
    return names


@contextmanager
def _distribution_of_small_pages(version: Version, folder: Path) -> Iterator[str]:
    """Run a registry on the storage in `folder` that refuses catalogue pages of more than five names."""
    with distribution(version, folder, storage=folder / "storage") as usual:
        configuration = json.loads(usual.configuration.read_text())
    host = f"127.0.0.1:{free_port()}"
    configuration["http"]["addr"] = host
    configuration["catalog"] = {"maxentries": 5}
    file = folder / "small-pages.yaml"
    file.write_text(json.dumps(configuration))
    command: list[str | Path] = [binary("registry-2" if version == "2" else "registry-3"), "serve", file]
    environment = environment_without("REGISTRY_", "OTEL_", OTEL_TRACES_EXPORTER="none")

    def answers() -> bool:
        try:
            return httpx.get(f"http://{host}/v2/", trust_env=False).is_success
        except httpx.TransportError:
            return False

    with running("registry", command, folder / "small-pages.log", environment=environment) as process:
        wait_until(answers, 30, "registry", process)
        yield f"http://{host}"


def _needs(what: Policy, repository: str, unit: DeletionUnit, listed: Collection[str]) -> Needs:
    return needs(what, repository, listed, unit)
