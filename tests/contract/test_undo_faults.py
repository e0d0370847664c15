"""Whole runs that keep copies, where something goes wrong: what has no copy stays, and what was copied comes back."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from typing_extensions import override

from registry_cleanup.domain.copies import Copies
from registry_cleanup.domain.copy_parts import Part, decode, encode
from registry_cleanup.domain.deletion import Outcome
from registry_cleanup.domain.policy import Policy, UndoRules, Untagged
from registry_cleanup.domain.run import Phase, RunOrder, RunReport, Trigger
from registry_cleanup.ports import CopyStore, World
from registry_cleanup.registry.errors import NotStoredError, ReadOnlyError
from registry_cleanup.runner import Runner
from tests.support.clients import SystemClock, kinds, opened, prunes
from tests.support.crane import Crane
from tests.support.faulty import Fault, answers, before, drops_the_answer, faulty_registry, truncates_the_body
from tests.support.images import OCI_MANIFEST, push_blob, push_raw_manifest
from tests.support.pruning import APP, Setting
from tests.support.registries import Version, distribution
from tests.support.undo import COPIES, MemoryCopies, prune_with_copies, pulled, results, store_of, undone
from tests.support.world import (
    FixedClaims,
    FixedGuard,
    FixedRivals,
    FixedUse,
    RecordingAudit,
    long_published,
)

_DAY = timedelta(days=1)
_MANY = 300
_UNDO = UndoRules(_DAY, COPIES)


def _policy(undo: UndoRules = _UNDO, untagged: Untagged = Untagged.KEEP) -> Policy:
    policy = prunes("old-.*", untagged=untagged)
    return replace(policy, undo=undo, limits=replace(policy.limits, max_deletions=10_000, max_percent=100))


def _run_id(ago: timedelta = timedelta(0)) -> str:
    return f"{datetime.now(UTC) - ago:%Y%m%d-%H%M%S}-abcdef"


async def _run(url: str, policy: Policy, run: str, copies: CopyStore | None = None) -> tuple[RunReport, RecordingAudit]:
    """Run a policy once, as the operator does."""
    audit, clock = RecordingAudit(), SystemClock()
    world = World(
        FixedGuard(), audit, clock, long_published("uid"), FixedUse(), FixedRivals(), FixedClaims(), copies=copies
    )
    order = RunOrder(run, Trigger.REQUEST, False, clock.now())
    report = await Runner(policy, lambda: opened(url, repositories=[APP]), world).run(order)
    return report, audit


async def test_a_run_keeps_copies_and_removes_those_whose_window_is_over(setting: Setting) -> None:
    setting.push("old-1")
    setting.push("kept")
    before_ = pulled(setting.crane, setting.server.host, APP)
    first, second = _run_id(2 * _DAY), _run_id()
    report, _ = await _run(setting.server.url, _policy(UndoRules(3 * _DAY, COPIES)), first)
    assert report.phase is Phase.SUCCEEDED, report.message
    assert (await undone(setting.server.url, run=first)).whole
    assert pulled(setting.crane, setting.server.host, APP) == before_
    report, _ = await _run(setting.server.url, _policy(), second)
    assert report.phase is Phase.SUCCEEDED, report.message
    names = setting.crane.ls(f"{setting.server.host}/{COPIES}")
    assert {name.split(".")[1] for name in names} == {second}
    assert setting.tags == ["kept"]


async def test_copies_stay_where_the_registry_deletes_nothing_and_that_is_told(setting: Setting) -> None:
    setting.push("old-1")
    setting.push("kept")
    first, second = _run_id(2 * _DAY), _run_id()
    await prune_with_copies(setting.server.url, APP, "old-1", run=first)
    setting.proxy.inject(answers(202), method="DELETE", path=f"/v2/{COPIES}/.*")
    report, _ = await _run(setting.proxy.url, _policy(), second)
    assert [failure.reason for failure in report.failures] == ["CopiesKept"]


@pytest.mark.parametrize("untagged", Untagged)
@pytest.mark.parametrize(
    ("fault", "method", "path", "code"),
    [
        (answers(405, '{"errors":[{"code":"UNSUPPORTED"}]}'), "POST", f"/v2/{COPIES}/blobs/uploads/", "UNSUPPORTED"),
        (answers(403, '{"errors":[{"code":"DENIED"}]}'), "PUT", f"/v2/{COPIES}/manifests/.*", "DENIED"),
        (answers(507), "PUT", f"/v2/{COPIES}/blobs/.*", "HTTP 507"),
        (answers(413), "PUT", f"/v2/{COPIES}/blobs/.*", "HTTP 413"),
        # It says yes, and does nothing.
        (answers(201), "PUT", f"/v2/{COPIES}/manifests/.*", "NotStored"),
        (answers(500), "GET", f"/v2/{APP}/manifests/sha256:.*", "HTTP 500"),
        (answers(404), "GET", f"/v2/{COPIES}/blobs/.*", "NotStored"),
    ],
    ids=lambda part: part if isinstance(part, str) else "",
)
async def test_nothing_goes_of_which_no_copy_can_be_written(
    setting: Setting, fault: Fault, method: str, path: str, code: str, untagged: Untagged
) -> None:
    setting.push("old-1", "old-2", seed="two")
    setting.push("old-3")
    child = setting.push(seed="a child")
    setting.push_index("old-index", children=[child])
    setting.push("kept")
    there = pulled(setting.crane, setting.server.host, APP)
    setting.proxy.inject(fault, method=method, path=path)
    report, audit = await _run(setting.proxy.url, _policy(untagged=untagged), _run_id())
    assert pulled(setting.crane, setting.server.host, APP) == there
    assert setting.exists(child)
    if report.failures[0].reason == "NoCopy":
        assert report.phase is Phase.FAILED  # there is no other repository
        assert "not pruned" in report.message
        assert {end.outcome for end in audit.outcomes} == {Outcome.NO_COPY}
        assert {end.code for end in audit.outcomes} == {code}
        assert report.counts.tags_skipped == 4
    assert report.counts.tags_pruned == 0


async def test_where_there_is_no_place_for_copies_nothing_is_pruned(setting: Setting) -> None:
    setting.push("old-1")
    setting.push("kept")
    report, _ = await _run(setting.server.url, _policy(UndoRules(_DAY)), _run_id())
    assert [failure.reason for failure in report.failures] == ["NoCopy"]
    assert setting.tags == ["kept", "old-1"]


class _Full(MemoryCopies):
    """Takes one part, and no more but its end."""

    @override
    async def write(self, run: str, part: int, content: bytes) -> bytes:
        if self.parts and len(content) > 300:
            raise NotStoredError("full")
        return await super().write(run, part, content)


async def test_when_copies_are_full_the_rest_stays_and_what_went_comes_back(setting3: Setting) -> None:
    for number in range(_MANY):
        setting3.push(f"old-{number:03}")
    setting3.push("kept")
    there = set(setting3.tags)
    store, run = _Full(), _run_id()
    report, audit = await _run(setting3.server.url, _policy(UndoRules(_DAY)), run, store)
    ends = [end.outcome for end in audit.outcomes]
    assert (ends.count(Outcome.PRUNED), ends.count(Outcome.NO_COPY)) == (256, _MANY - 256)
    assert report.phase is Phase.PARTIAL
    assert len(setting3.tags) == 1 + _MANY - 256
    assert (await undone(setting3.server.url, run=run, store=store)).whole
    assert set(setting3.tags) == there


async def test_a_lost_answer_to_a_push_is_no_reason_not_to_prune(setting: Setting) -> None:
    setting.push("old-1")
    setting.push("kept")
    for method, path in (("PUT", f"/v2/{COPIES}/blobs/.*"), ("PUT", f"/v2/{COPIES}/manifests/.*")):
        setting.proxy.inject(drops_the_answer(), method=method, path=path, times=1)
    report, _ = await _run(setting.proxy.url, _policy(), _run_id())
    assert report.phase is Phase.SUCCEEDED, report.message
    assert (await undone(setting.server.url, run=None)).whole
    assert setting.tags == ["kept", "old-1"]


async def test_a_run_that_is_killed_between_copy_and_deletion_is_done_again_and_both_are_undone(
    setting: Setting,
) -> None:
    for number in range(20):
        setting.push(f"old-{number:02}")
    setting.push("kept")
    there = pulled(setting.crane, setting.server.host, APP)
    running: list[asyncio.Task[object]] = []
    # Right before the first deletion but for that of the probe, and in the midst of them.
    for number, times in enumerate((2, 6)):
        seen = 0

        def kill(times: int = times) -> None:
            nonlocal seen
            seen += 1
            if seen == times:
                running[-1].cancel()

        setting.proxy.heal()
        setting.proxy.inject(before(kill), method="DELETE", path=f"/v2/{APP}/manifests/(old|sha256:).*")
        running.append(asyncio.create_task(_run(setting.proxy.url, _policy(), _run_id(timedelta(minutes=3 - number)))))
        with pytest.raises(asyncio.CancelledError):
            await running[-1]
    setting.proxy.heal()
    report, _ = await _run(setting.proxy.url, _policy(), _run_id())
    assert report.phase is Phase.SUCCEEDED, report.message
    assert setting.tags == ["kept"]
    async with opened(setting.server.url) as registry:
        runs = await store_of(registry).runs()
    assert len(runs) == 3
    for run in runs:
        done = await undone(setting.server.url, run=run)
        assert (done.left, done.damaged, done.failure) == ([], 0, None)
        # Of a run that was killed nobody knows whether these are all copies.
        assert done.unfinished is not done.whole is (run == runs[-1])
    assert pulled(setting.crane, setting.server.host, APP) == there


# Copies that are not what they were


async def test_a_copy_that_was_tampered_with_is_refused_and_the_rest_comes_back(setting: Setting) -> None:
    good, bad = setting.push("old-good"), setting.push("old-bad")
    child = setting.push(seed="child")
    index = setting.push_index("old-index", children=[bad, child])
    setting.push("kept")
    there = pulled(setting.crane, setting.server.host, APP)
    store, run = MemoryCopies(), _run_id()
    await prune_with_copies(setting.server.url, APP, "old-.*", untagged=Untagged.DELETE, run=run, store=store)
    assert setting.left(good, bad, child, index) == []
    for part, content in store.parts[run].items():
        found = decode(content, "uid", run, part)
        changed = [
            replace(each, content=each.content + b" ") if each.digest == bad else each
            for each in found.copies.manifests
        ]
        store.parts[run][part] = encode(replace(found, copies=replace(found.copies, manifests=tuple(changed))))
    done = await undone(setting.server.url, run=run, store=store)
    assert results(done) == {"old-good": "Restored", "old-bad": "Tampered", "old-index": "Missing", child: "Restored"}
    assert not done.whole
    assert pulled(setting.crane, setting.server.host, APP) == {t: there[t] for t in ("kept", "old-good")}


@pytest.mark.parametrize("kind", ["of another run", "no copies", "no artifact"])
async def test_a_part_that_is_not_what_it_was_is_told_and_nothing_of_it_is_used(setting: Setting, kind: str) -> None:
    setting.push("old-1")
    setting.push("kept")
    run = _run_id()
    await prune_with_copies(setting.server.url, APP, "old-1", run=run)
    name, _ = setting.crane.ls(f"{setting.server.host}/{COPIES}")
    if kind == "no artifact":
        setting.crane.run("copy", f"{setting.server.host}/{APP}:kept", f"{setting.server.host}/{COPIES}:{name}")
    else:
        foreign = encode(Part(Copies("uid", "another-run"), 1)) if kind == "of another run" else b"whatever"
        _replace(setting, name, foreign)
    done = await undone(setting.server.url, run=run)
    assert (done.damaged, done.outcomes) == (1, [])
    assert "damaged" in done.message
    assert setting.tags == ["kept"]


def _replace(setting: Setting, name: str, content: bytes) -> None:
    layer = push_blob(setting.server.url, COPIES, content, "application/octet-stream")
    manifest = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": layer, "layers": [layer]}
    push_raw_manifest(setting.server.url, COPIES, [name], manifest, OCI_MANIFEST)


async def test_a_registry_that_is_read_only_tells_so_and_nothing_comes_back(tmp_path: Path) -> None:
    storage = tmp_path / "storage"
    with distribution("3", tmp_path / "1", storage=storage) as server:
        setting = Setting(server, None, Crane(tmp_path / "crane"))  # type: ignore[arg-type]  # no proxy is needed
        setting.push("old-1")
        setting.push("kept")
        await prune_with_copies(server.url, APP, "old-1")
    with distribution("3", tmp_path / "2", storage=storage, readonly=True) as server:
        with pytest.raises(ReadOnlyError):
            await undone(server.url)
        assert Crane(tmp_path / "crane").ls(f"{server.host}/{APP}") == ["kept"]


# What is kept for how long, and what comes back


async def test_the_copies_of_a_run_that_took_longer_than_the_window_outlive_it(setting: Setting) -> None:
    setting.push("old-1")
    setting.push("kept")
    run = _run_id(timedelta(hours=2))
    report, _ = await _run(setting.server.url, _policy(UndoRules(timedelta(hours=1), COPIES)), run)
    assert report.phase is Phase.SUCCEEDED, report.message
    assert setting.tags == ["kept"]
    assert (await undone(setting.server.url, run=run)).whole
    assert setting.tags == ["kept", "old-1"]


async def test_room_that_old_copies_take_is_made_before_it_is_needed(setting: Setting) -> None:
    setting.push("old-1")
    setting.push("kept")
    store = _Full({_run_id(2 * _DAY): {1: b"old"}})
    report, _ = await _run(setting.server.url, _policy(UndoRules(_DAY)), _run_id(), store)
    assert setting.tags == ["kept"], report.message


@pytest.mark.parametrize("status", [403, 401])
async def test_who_may_not_delete_old_copies_is_told_that_they_are_kept(setting: Setting, status: int) -> None:
    setting.push("old-1")
    setting.push("kept")
    await prune_with_copies(setting.server.url, APP, "old-1", run=_run_id(2 * _DAY))
    setting.push("old-2")
    setting.proxy.inject(answers(status, '{"errors":[{"code":"DENIED"}]}'), method="DELETE", path=f"/v2/{COPIES}/.*")
    report, _ = await _run(setting.proxy.url, _policy(), _run_id())
    assert [failure.reason for failure in report.failures] == ["CopiesKept"]
    assert not report.failures[0].mendable


async def test_what_a_refused_index_lists_is_not_put_back(setting: Setting) -> None:
    child = setting.push(seed="child")
    setting.push_index("old-index", children=[child])
    setting.push("kept")
    await prune_with_copies(setting.server.url, APP, "old-index", untagged=Untagged.DELETE)
    assert not setting.exists(child)
    setting.push("old-index", seed="newer")
    assert results(await undone(setting.server.url)) == {"old-index": "Refused"}
    assert not setting.exists(child)


@pytest.mark.parametrize("dry_run", [True, False])
async def test_a_blob_of_which_no_byte_is_served_is_gone_whatever_the_registry_remembers(
    setting: Setting, *, dry_run: bool
) -> None:
    setting.push("old-1")
    setting.push("kept")
    await prune_with_copies(setting.server.url, APP, "old-1", untagged=Untagged.DELETE)
    # As Distribution 3.1 does with a cache of descriptors, after a garbage collection beside it.
    setting.proxy.inject(truncates_the_body(), method="GET", path=f"/v2/{APP}/blobs/.*")
    done = await undone(setting.proxy.url, dry_run=dry_run)
    assert results(done) == {"old-1": "Missing"}
    assert done.outcomes[0].missing
    assert setting.tags == ["kept"]


# What it costs


@pytest.mark.parametrize("version", ["2", "3"])
async def test_copies_cost_one_request_for_each_digest_and_five_for_each_part_and_their_end(
    version: Version, tmp_path: Path
) -> None:
    numbers = {}
    for undo in (UndoRules(), UndoRules(_DAY, COPIES)):
        with (
            distribution(version, tmp_path / f"{undo.enabled}") as server,
            faulty_registry(server.url) as proxy,
        ):
            setting = Setting(server, proxy, Crane(tmp_path / "crane"))
            for number in range(40):
                setting.push(f"old-{number:02}")
            setting.push("kept")
            report, _ = await _run(proxy.url, _policy(undo), _run_id())
            assert report.phase is Phase.SUCCEEDED, report.message
            numbers[undo.enabled] = kinds(proxy.requests)
    more = numbers[True] - numbers[False]
    assert not numbers[False] - numbers[True]
    # A blob for the config of all; of a part and of the end: blob and manifest, both read back; what is there.
    assert more == {
        "GET manifests": 40 + 2,
        "POST uploads": 1 + 2,
        "PUT uploads": 1 + 2,
        "PUT manifests": 2,
        "GET blobs": 2,
        "GET tags": 1,
    }
