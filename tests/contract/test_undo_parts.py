"""Copies as artifacts of real registries: what is lost of them shows, what is kept comes back, and only they go."""

import hashlib
import tracemalloc
from collections.abc import Iterator
from contextlib import aclosing, contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from typing_extensions import override

from registry_cleanup.copying import RunCopies, remove_expired
from registry_cleanup.domain.copies import COPY_TOO_LARGE, Wanted, copy_name
from registry_cleanup.domain.copy_parts import ARTIFACT_TYPE, LAYER_TYPE
from registry_cleanup.domain.deletion import ItemOutcome, Outcome
from registry_cleanup.domain.policy import Untagged
from registry_cleanup.domain.run import Failure
from registry_cleanup.ports import Registry, RunError
from tests.support.clients import asked, opened, planned, prunes
from tests.support.faulty import answers, before, changes_headers
from tests.support.images import OCI_MANIFEST, push_blob, push_image, push_raw_manifest
from tests.support.pruning import APP, Setting
from tests.support.undo import COPIES, RUN, MemoryCopies, prune_with_copies, pulled, results, store_of, undone

_CONFIG = b'{"created":"2025-01-01T00:00:00Z","os":"linux","architecture":"amd64"}'
_CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
_MIB = 1024 * 1024
_DAY = timedelta(days=1)
_NOW = datetime(2026, 1, 9, tzinfo=UTC)  # a week after the run


async def _prune(registry: Registry, copies: RunCopies, pattern: str) -> list[Outcome]:
    plan, deletion = await planned(registry, APP, prunes(pattern))
    async with aclosing(registry.prune(plan, deletion, asked(plan), copies.keep)) as outcomes:
        ends = [end async for end in outcomes]
    for end in ends:
        if isinstance(end, ItemOutcome):
            copies.note(APP, end)
    return [end.outcome for end in ends]


def _names(setting: Setting) -> list[str]:
    return setting.crane.ls(f"{setting.server.host}/{COPIES}")


def _remove(setting: Setting, name: str) -> None:
    digest = setting.crane.digest(f"{setting.server.host}/{COPIES}:{name}")
    url = f"{setting.server.url}/v2/{COPIES}/manifests/{digest}"
    httpx.delete(url, trust_env=False).raise_for_status()


# What is lost, and what is not


@pytest.mark.parametrize("closed", [True, False])
@pytest.mark.parametrize("gone", [1, 2])
async def test_a_part_that_is_gone_is_missed_also_where_it_is_the_last(
    setting: Setting, gone: int, *, closed: bool
) -> None:
    setting.push("old-1")
    setting.push("old-2")
    setting.push("kept")
    async with opened(setting.server.url) as registry:
        copies = RunCopies(store_of(registry), "uid", RUN)
        for pattern in ("old-1", "old-2"):
            assert await _prune(registry, copies, pattern) == [Outcome.PRUNED]
        if closed:
            await copies.close()
    _remove(setting, copy_name(RUN, gone, "uid"))
    done = await undone(setting.server.url)
    assert results(done) == {f"old-{3 - gone}": "Restored"}
    # Of a run that was killed, nobody knows of a last part that is gone; but that nobody knows.
    assert (done.damaged, done.unfinished, done.whole) == (int(closed or gone == 1), not closed, False)
    assert "1 put back, " in done.message
    assert "missing" in done.message or "did not end by itself" in done.message


async def test_a_part_that_was_never_written_is_no_damage(setting: Setting) -> None:
    setting.push("old-1")
    setting.push("old-2")
    setting.push("kept")
    there = pulled(setting.crane, setting.server.host, APP)
    async with opened(setting.proxy.url) as registry:
        copies = RunCopies(store_of(registry), "uid", RUN)
        setting.proxy.inject(answers(503), method="POST", path=f"/v2/{COPIES}/blobs/uploads/")
        assert await _prune(registry, copies, "old-1") == [Outcome.NO_COPY]
        setting.proxy.heal()
        assert await _prune(registry, copies, "old-.*") == [Outcome.PRUNED, Outcome.PRUNED]
        await copies.close()
    assert [name.split(".")[2] for name in _names(setting)] == ["2", "3"]
    done = await undone(setting.server.url)
    assert done.whole, done.message
    assert pulled(setting.crane, setting.server.host, APP) == there


async def test_an_end_that_cannot_be_written_is_no_fault_of_the_run(setting: Setting) -> None:
    setting.push("old-1")
    setting.push("kept")
    async with opened(setting.proxy.url) as registry:
        copies = RunCopies(store_of(registry), "uid", RUN)
        assert await _prune(registry, copies, "old-1") == [Outcome.PRUNED]
        setting.proxy.inject(answers(503), method="POST", path=f"/v2/{COPIES}/blobs/uploads/")
        await copies.close()
    assert copies.failure is None
    done = await undone(setting.server.url)
    assert (results(done), done.unfinished) == ({"old-1": "Restored"}, True)


async def test_what_a_run_copied_and_left_is_not_put_back_unless_it_is_named(setting3: Setting) -> None:
    tags = [f"old-{number}" for number in range(4)]
    for tag in tags:
        setting3.push(tag)
    setting3.push("kept")
    # All are pushed again after they were copied, so all but the first stay; a person deletes them later.
    again = before(lambda: [setting3.push(tag, seed=f"new {tag}") for tag in tags])
    setting3.proxy.inject(again, method="DELETE", path=f"/v2/{APP}/manifests/old-.*", times=1)
    told = await prune_with_copies(setting3.proxy.url, APP, "old-.*")
    (gone,) = [tag for tag, end in told.items() if end == (Outcome.PRUNED, None)]
    left = sorted({*tags} - {gone})
    assert {told[tag] for tag in left} == {(Outcome.MOVED, None)}
    for tag in left:
        setting3.delete(tag)
    done = await undone(setting3.server.url)
    assert (done.whole, results(done)) == (True, {gone: "Restored"})
    done = await undone(setting3.server.url, wanted=[Wanted(APP, left[0])])
    assert (done.whole, results(done)) == (True, {left[0]: "Restored"})
    assert setting3.tags == sorted(["kept", gone, left[0]])


# What can be put back


@pytest.mark.parametrize("named", ["", "application/octet-stream", "application/vnd.example!v1", "text/html; x"])
async def test_what_is_called_by_another_media_type_on_the_way_stays(setting: Setting, named: str) -> None:
    setting.push("old-1")
    setting.push("old-2")
    setting.push("kept")
    there = pulled(setting.crane, setting.server.host, APP)
    setting.proxy.inject(
        changes_headers({"Content-Type": named or None}),
        method="GET",
        path=f"/v2/{APP}/manifests/sha256:.*",
        times=1,
    )
    told = await prune_with_copies(setting.proxy.url, APP, "old-.*")
    assert sorted(told.values(), key=str) == [(Outcome.NO_COPY, "MalformedAnswer"), (Outcome.PRUNED, None)]
    assert (await undone(setting.server.url)).whole
    assert pulled(setting.crane, setting.server.host, APP) == there


async def test_a_manifest_that_does_not_say_what_it_is_comes_back(setting3: Setting) -> None:
    config = push_blob(setting3.server.url, APP, _CONFIG, _CONFIG_TYPE)
    manifest = {"schemaVersion": 2, "config": config, "layers": [config]}
    push_raw_manifest(setting3.server.url, APP, ["old-1"], manifest, OCI_MANIFEST)
    setting3.push("kept")
    there = pulled(setting3.crane, setting3.server.host, APP)
    octets = changes_headers({"Content-Type": "application/octet-stream"})
    setting3.proxy.inject(octets, method="GET", path=f"/v2/{APP}/manifests/sha256:.*", times=1)
    told = await prune_with_copies(setting3.proxy.url, APP, "old-.*")
    assert told == {"old-1": (Outcome.NO_COPY, "MalformedAnswer")}
    told = await prune_with_copies(setting3.proxy.url, APP, "old-.*")
    assert told == {"old-1": (Outcome.PRUNED, None)}
    assert (await undone(setting3.server.url)).whole
    assert pulled(setting3.crane, setting3.server.host, APP) == there


class _Forgetful(MemoryCopies):
    """Serves something else than it was given."""

    def __init__(self, served: bytes | None) -> None:
        super().__init__()
        self._served = served

    @override
    async def write(self, run: str, part: int, content: bytes) -> bytes:
        await super().write(run, part, content)
        if self._served is not None:
            return self._served
        return self.parts[run][1]  # of the part before


@pytest.mark.parametrize("served", [b"", b"whatever", None])
async def test_nothing_goes_whose_copy_an_undo_could_not_read(setting3: Setting, served: bytes | None) -> None:
    setting3.push("old-1")
    setting3.push("old-2")
    setting3.push("kept")
    async with opened(setting3.server.url) as registry:
        copies = RunCopies(_Forgetful(served), "uid", RUN)
        ends = [*await _prune(registry, copies, "old-1"), *await _prune(registry, copies, "old-2")]
    assert ends == [Outcome.PRUNED if served is None else Outcome.NO_COPY, Outcome.NO_COPY]
    assert copies.failure is not None
    assert (copies.failure.reason, copies.failure.mendable) == ("NoCopy", True)


class _Small(MemoryCopies):
    """Has no place for a part of more than a few kilobytes."""

    @override
    async def write(self, run: str, part: int, content: bytes) -> bytes:
        if len(content) > 10_000:
            raise RunError(Failure(COPY_TOO_LARGE, "one manifest is too large", mendable=True))
        return await super().write(run, part, content)


async def test_one_manifest_that_is_too_large_for_a_copy_keeps_no_other_from_going(setting3: Setting) -> None:
    noise = "".join(hashlib.sha256(str(n).encode()).hexdigest() for n in range(1000))
    config = push_blob(setting3.server.url, APP, _CONFIG, _CONFIG_TYPE)
    large = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": [], "annotations": {"n": noise}}
    push_raw_manifest(setting3.server.url, APP, ["old-large"], large, OCI_MANIFEST)
    for number in range(5):
        setting3.push(f"old-{number}")
    setting3.push("kept")
    store = _Small()
    told = await prune_with_copies(setting3.server.url, APP, "old-.*", store=store)
    assert told.pop("old-large") == (Outcome.NO_COPY, COPY_TOO_LARGE)
    assert set(told.values()) == {(Outcome.PRUNED, None)}
    assert setting3.tags == ["kept", "old-large"]
    assert (await undone(setting3.server.url, store=store)).whole
    assert len(setting3.tags) == 7


async def test_copies_of_some_megabytes_are_written_and_read(setting: Setting) -> None:
    noise = "".join(hashlib.sha256(str(n).encode()).hexdigest() for n in range(40_000))
    config = push_blob(setting.server.url, APP, _CONFIG, _CONFIG_TYPE)
    large = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": [], "annotations": {"n": noise}}
    digest = push_raw_manifest(setting.server.url, APP, ["old-1"], large, OCI_MANIFEST)
    setting.push("kept")
    told = await prune_with_copies(setting.server.url, APP, "old-1", untagged=Untagged.DELETE)
    assert set(told.values()) == {(Outcome.PRUNED, None)}
    assert not setting.exists(digest)
    assert (await undone(setting.server.url)).whole
    assert setting.crane.digest(f"{setting.server.host}/{APP}:old-1") == digest


async def test_an_index_of_large_manifests_is_copied_and_put_back_without_holding_them_all(setting: Setting) -> None:
    config = push_blob(setting.server.url, APP, _CONFIG, _CONFIG_TYPE)
    children = []
    for number in range(24):
        pad = {"number": str(number), "pad": "x" * (3 * _MIB)}
        manifest = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": [], "annotations": pad}
        children.append(push_raw_manifest(setting.server.url, APP, [], manifest, OCI_MANIFEST))
    index = setting.push_index("old-1", children=children)
    setting.push("kept")
    with _memory() as pruning:
        told = await prune_with_copies(setting.server.url, APP, "old-1", untagged=Untagged.DELETE)
    assert set(told.values()) == {(Outcome.PRUNED, None)}
    assert setting.left(index, *children) == []
    with _memory() as undoing:
        done = await undone(setting.server.url)
    assert done.whole, done.message
    assert setting.left(index, *children) == [index, *children]
    assert max(pruning[0], undoing[0]) < 48 * _MIB


@contextmanager
def _memory() -> Iterator[list[int]]:
    """Give the peak of what is held meanwhile, once that is over."""
    peak: list[int] = []
    tracemalloc.start()
    try:
        yield peak
        peak.append(tracemalloc.get_traced_memory()[1])
    finally:
        tracemalloc.stop()


# What is removed


async def test_a_name_of_copies_that_somebody_moved_onto_an_image_takes_no_image_along(setting: Setting) -> None:
    setting.push("old-1")
    setting.push("kept")
    await prune_with_copies(setting.server.url, APP, "old-1")
    host = setting.server.host
    first, _ = _names(setting)
    push_image(setting.server.url, COPIES, ["precious"], seed="precious")
    setting.crane.run("tag", f"{host}/{COPIES}:precious", first)
    async with opened(setting.server.url) as registry:
        with pytest.raises(RunError) as caught:
            await remove_expired(store_of(registry), _DAY, _NOW)
    assert caught.value.failure.reason == "CopiesKept"
    assert first in caught.value.failure.message
    # The other parts are gone all the same.
    assert _names(setting) == [first, "precious"]


@pytest.mark.parametrize(
    ("run", "part", "policy"), [(RUN, 7, "uid"), ("20260101-010000-abcdef", 1, "uid"), (RUN, 1, "another")]
)
async def test_other_copies_are_not_used_or_removed_by_a_name_that_was_moved_onto_them(
    setting: Setting, run: str, part: int, policy: str
) -> None:
    setting.push("old-1")
    setting.push("kept")
    await prune_with_copies(setting.server.url, APP, "old-1")
    first, last = _names(setting)
    moved = copy_name(run, part, policy)
    setting.crane.run("tag", f"{setting.server.host}/{COPIES}:{first}", moved)
    async with opened(setting.server.url) as registry:
        store = registry.copies_in(COPIES, policy)
        assert store is not None
        assert part in await store.numbers(run)
        assert await store.read(run, part) is None
        if part == 1:
            with pytest.raises(RunError, match=f"{moved} is named like copies and is none"):
                await store.remove(run)
            assert _names(setting) == sorted({first, last, moved})
        else:
            # It goes with the part that it stands on.
            await store.remove(run)
            assert _names(setting) == []


async def test_a_copy_that_somebody_gave_a_name_of_his_own_stays(setting: Setting) -> None:
    setting.push("old-1")
    setting.push("kept")
    await prune_with_copies(setting.server.url, APP, "old-1")
    first, _ = _names(setting)
    setting.crane.run("tag", f"{setting.server.host}/{COPIES}:{first}", "keep-this")
    async with opened(setting.server.url) as registry:
        with pytest.raises(RunError, match="keep-this"):
            await remove_expired(store_of(registry), _DAY, _NOW)
        assert _names(setting) == [first, "keep-this"]
        _remove(setting, "keep-this")
        await remove_expired(store_of(registry), _DAY, _NOW)
    assert _names(setting) == []


async def test_what_only_looks_like_an_artifact_of_copies_is_neither_read_nor_removed(setting3: Setting) -> None:
    config = push_blob(setting3.server.url, COPIES, b"{}", "application/vnd.oci.empty.v1+json")
    layer = {**push_blob(setting3.server.url, COPIES, b"x", "text/plain"), "mediaType": LAYER_TYPE}
    name = copy_name(RUN, 1, "uid")
    base = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "artifactType": ARTIFACT_TYPE, "config": config}
    odds: list[dict[str, Any]] = [
        {"layers": []},
        {"layers": [layer]},
        {"layers": [layer, layer]},
        {"layers": [layer], "annotations": {}},
    ]
    for odd in odds:
        push_raw_manifest(setting3.server.url, COPIES, [name], {**base, **odd}, OCI_MANIFEST)
        async with opened(setting3.server.url) as registry:
            store = store_of(registry)
            assert (await store.numbers(RUN), await store.read(RUN, 1)) == ([1], None)
            with pytest.raises(RunError, match="is none"):
                await store.remove(RUN)
