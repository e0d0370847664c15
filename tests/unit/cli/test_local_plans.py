"""The local store gives back what was published, or nothing: never what is damaged, or what others may write."""

import multiprocessing
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from registry_cleanup.cli.exits import CommandError, Exit
from registry_cleanup.cli.running.local_plans import (
    MEMORY_FILE,
    PLAN_FILE,
    REPORT_FILE,
    LocalPlans,
    Memory,
    fingerprint,
    published_here,
)
from registry_cleanup.domain.published import Entry, Published, nothing_published
from registry_cleanup.ports import RunError

_UID = "7a1c9c1e-0000-4000-8000-000000000001"
_NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
_PLAN = Published(_UID, "ab" * 32, _NOW, {1: {2: Entry(1_700_000_000, 0), 3: Entry(1_700_000_001, 0)}})


@pytest.fixture
def told() -> list[str]:
    return []


@pytest.fixture
def store(tmp_path: Path, told: list[str]) -> LocalPlans:
    return LocalPlans(_UID, told.append, tmp_path)


async def test_what_was_published_is_there_for_the_next_run_of_the_same_policy_only(
    store: LocalPlans, tmp_path: Path, told: list[str]
) -> None:
    assert await store.load() == nothing_published(_UID)
    await store.save(_PLAN)
    assert await LocalPlans(_UID, told.append, tmp_path).load() == _PLAN
    assert await LocalPlans("another", told.append, tmp_path).load() == nothing_published("another")
    assert told == []


async def test_an_approval_does_not_outlive_its_run(store: LocalPlans) -> None:
    await store.save(_PLAN.approve(_NOW))
    assert await store.load() == _PLAN


@pytest.mark.parametrize("place", [0, 31, 32, 40, -1], ids=["checksum", "its end", "magic", "hash", "last entry"])
async def test_a_single_changed_byte_makes_the_plan_a_damaged_one(
    store: LocalPlans, told: list[str], place: int
) -> None:
    await store.save(_PLAN)
    file = store.folder / PLAN_FILE
    content = bytearray(file.read_bytes())
    content[place] ^= 0x01
    file.write_bytes(content)
    assert await store.load() == nothing_published(_UID)
    assert len(told) == 1
    assert str(file) in told[0]


@pytest.mark.parametrize("length", [0, 1, 32, 60])
async def test_a_plan_that_breaks_off_is_a_damaged_one(store: LocalPlans, told: list[str], length: int) -> None:
    await store.save(_PLAN)
    file = store.folder / PLAN_FILE
    file.write_bytes(file.read_bytes()[:length])
    assert await store.load() == nothing_published(_UID)
    assert len(told) == 1


async def test_others_than_run_see_what_it_published_and_leave_no_trace(
    store: LocalPlans, tmp_path: Path, told: list[str]
) -> None:
    nowhere = tmp_path / "nowhere"
    assert published_here(_UID, told.append, nowhere) is None
    assert published_here(_UID, told.append, tmp_path) is None
    assert not nowhere.exists()
    await store.save(_PLAN)
    with store.held(_NOW):
        assert published_here(_UID, told.append, tmp_path) == _PLAN
    assert published_here("another", told.append, tmp_path) is None
    assert told == []


async def test_what_run_would_not_believe_nobody_does_and_that_is_told(
    store: LocalPlans, tmp_path: Path, told: list[str]
) -> None:
    await store.save(_PLAN)
    store.folder.chmod(0o770)
    assert published_here(_UID, told.append, tmp_path) is None
    assert "others may write" in told.pop()
    store.folder.chmod(0o700)
    (store.folder / PLAN_FILE).write_bytes(b"damaged")
    assert published_here(_UID, told.append, tmp_path) == nothing_published(_UID)
    assert "is damaged" in told.pop()


async def test_nobody_else_may_read_what_is_kept(store: LocalPlans) -> None:
    await store.save(_PLAN)
    await store.report(b"lines", 0)
    store.remember(Memory("spec"))
    with store.held(_NOW):
        modes = {each.name: stat.S_IMODE(each.stat().st_mode) for each in store.folder.iterdir()}
    assert modes == {PLAN_FILE: 0o600, REPORT_FILE: 0o600, MEMORY_FILE: 0o600, "lock": 0o600}
    assert stat.S_IMODE(store.folder.stat().st_mode) == 0o700


@pytest.mark.parametrize("mode", [0o770, 0o702])
def test_a_folder_in_which_others_may_write_is_refused(store: LocalPlans, tmp_path: Path, mode: int) -> None:
    for folder in (store.folder, store.folder.parent):
        folder.chmod(mode)
        with pytest.raises(CommandError, match="others may write") as caught:
            LocalPlans(_UID, print, tmp_path)
        assert caught.value.code is Exit.FAILED
        folder.chmod(0o700)


@pytest.mark.parametrize("uid", ["..", "../../outside", "/etc", "a/b", ""])
def test_no_uid_leads_out_of_the_folder(tmp_path: Path, uid: str) -> None:
    folder = LocalPlans(uid, print, tmp_path).folder
    assert folder.parent == tmp_path / "registry-cleanup"
    assert folder.resolve() == folder


async def test_a_write_that_fails_leaves_the_old_plan_and_no_rest(
    store: LocalPlans, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store.save(_PLAN)

    def full(_number: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(RunError, match="No space left") as caught:
        await store.save(nothing_published(_UID))
    assert caught.value.failure.reason == "PlanStoreUnavailable"
    monkeypatch.undo()
    assert await store.load() == _PLAN
    assert [each.name for each in store.folder.iterdir()] == [PLAN_FILE]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"spec": 1}', b'{"references": "many"}', b"\xff"])
def test_a_damaged_memory_is_none(store: LocalPlans, content: bytes) -> None:
    store.remember(Memory("spec", 3, "team/app"))
    assert store.memory() == Memory("spec", 3, "team/app")
    (store.folder / MEMORY_FILE).write_bytes(content)
    assert store.memory() == Memory()


def test_a_spec_has_one_fingerprint_in_whatever_order_its_fields_stand() -> None:
    assert fingerprint({"a": 1, "b": [1, 2]}) == fingerprint({"b": [1, 2], "a": 1})
    assert fingerprint({"a": 1, "b": [1, 2]}) != fingerprint({"a": 1, "b": [2, 1]})


# Who has it


def _try(home: Path, answers: "multiprocessing.Queue[str]") -> None:
    try:
        with LocalPlans(_UID, print, home).held(_NOW + timedelta(hours=1)):
            answers.put("held")
    except CommandError as error:
        answers.put(f"{error.code.value} {error}")


def _other_process(home: Path) -> str:
    context = multiprocessing.get_context("spawn")
    answers = context.Queue()
    child = context.Process(target=_try, args=(home, answers))
    child.start()
    answer: str = answers.get(timeout=60)
    child.join(60)
    return answer


def test_a_policy_is_held_by_one_process_and_others_are_told_by_which(store: LocalPlans, tmp_path: Path) -> None:
    import os

    with store.held(_NOW):
        refused = _other_process(tmp_path)
    assert refused.startswith(f"3 this policy is being run already, by process {os.getpid()} on ")
    assert "since 2026-03-01T12:00:00Z" in refused
    assert _other_process(tmp_path) == "held"


def test_two_policies_at_one_registry_do_not_meet(tmp_path: Path) -> None:
    first, second = LocalPlans("first", print, tmp_path), LocalPlans("second", print, tmp_path)
    with first.held(_NOW), second.held(_NOW), first.registry_held("registry.example.com:443", _NOW):
        with second.registry_held("https://other.example.com", _NOW):
            pass
        with (
            pytest.raises(CommandError, match=r"a policy at registry\.example\.com:443 is being run"),
            second.registry_held("registry.example.com:443", _NOW),
        ):
            pass
