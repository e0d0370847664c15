"""What nobody lays out like this is refused before anything moves, and what changes meanwhile is put back."""

import json
import os
import stat
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from registry_cleanup.domain.reference import parse_digest
from registry_cleanup.domain.undoing import Undo
from registry_cleanup.storage.emptying import empty, trashed
from registry_cleanup.storage.errors import (
    HeldBackError,
    StorageError,
    TrashError,
    UnknownLayoutError,
    VolumeError,
    WritableError,
)
from registry_cleanup.storage.pruning import Pruned, prune
from registry_cleanup.storage.restoring import RestoreOrder, restore
from registry_cleanup.storage.trash import locked
from registry_cleanup.storage.tree import Tree
from tests.support.storages import files_below
from tests.support.stored import APP, NOW, RUN, HandStorage, fill, written

TRASH = "registry-cleanup-trash"


@pytest.fixture
def storage(tmp_path: Path) -> HandStorage:
    made = HandStorage(tmp_path / "root")
    fill(made)
    return made


def _prune(
    storage: HandStorage,
    *,
    run: str = RUN,
    hash_: str = "a" * 64,
    after: Callable[[str], None] = lambda _: None,
    frozen: Callable[[], None] = lambda: None,
) -> Pruned:
    plan = fill(HandStorage(storage.root.parent / "plan"))
    with Tree.open(storage.root, after) as tree:
        plan = written(
            plan.repositories[0].tags, untagged=plan.repositories[0].untagged, deletes_untagged=True, hash_=hash_
        )
        return prune(tree, plan, run, NOW, frozen)


def _refused(storage: HandStorage, error: type[StorageError], says: str) -> None:
    before = files_below(storage.root / "docker")
    with pytest.raises(error, match=says):
        _prune(storage)
    assert files_below(storage.root / "docker") == before
    assert not list((storage.root / TRASH).glob("runs/*"))


# Layouts


@pytest.mark.parametrize(
    "spoil",
    [
        lambda s: (s.root / "docker/registry/v2").rename(s.root / "docker/registry/v3"),
        lambda s: (s.root / "docker/registry/v1").mkdir(),
        lambda s: (s.root / "docker/registry/v2/manifests").mkdir(),
        lambda s: (s.root / "docker").rename(s.root / "data"),
        lambda s: (s.root / "docker/registry/v2/repositories").rename(s.root / "elsewhere"),
        lambda s: (s.root / "scheduler-state.json").write_text("{}"),
        lambda s: (s.repository(APP) / "_index").mkdir(),
        lambda s: (s.repository(APP) / "notes.txt").write_text("mine"),
        lambda s: (s.repository(APP) / "_manifests/referrers").mkdir(),
        lambda s: (s.repository(APP) / "_manifests/tags/file").write_text("?"),
        lambda s: (s.repository(APP) / "_manifests/tags/two\nlines").mkdir(),
        lambda s: (s.repository(APP) / "_manifests/tags/.hidden").mkdir(),
        lambda s: (s.repository(APP) / "_manifests/tags" / os.fsdecode(b"\xff\x1b[2J")).mkdir(),
        lambda s: (s.tag_folder(APP, "old-1") / "more").mkdir(),
        lambda s: (s.tag_folder(APP, "old-1") / "current/other").write_text("?"),
        lambda s: (s.repository(APP) / "_manifests/revisions/md5").mkdir(),
        lambda s: (s.repository(APP) / "_manifests/revisions/sha256/short").mkdir(),
    ],
)
def test_a_layout_that_is_not_known_is_refused(storage: HandStorage, spoil: Callable[[HandStorage], object]) -> None:
    spoil(storage)
    _refused(storage, UnknownLayoutError, "holds no|holds v|holds nothing|nothing that|pull-through")


def test_names_that_would_do_something_to_a_terminal_are_told_harmlessly(storage: HandStorage) -> None:
    (storage.repository(APP) / "_manifests/tags" / os.fsdecode(b"\xff")).mkdir()
    _refused(storage, UnknownLayoutError, r"tags/\\xff is nothing")


@pytest.mark.parametrize(
    "place",
    ["docker", "docker/registry/v2/repositories/team", f"docker/registry/v2/repositories/{APP}/_manifests/tags"],
)
def test_a_symlink_is_never_followed(storage: HandStorage, place: str) -> None:
    outside = storage.root.parent / "outside"
    (storage.root / place).rename(outside)
    (storage.root / place).symlink_to(outside)
    before = files_below(outside)
    with pytest.raises(UnknownLayoutError, match="symlink"):
        _prune(storage)
    assert files_below(outside) == before


@pytest.mark.parametrize("name", ["old-1", "kept"])
def test_a_tag_that_is_a_symlink_is_refused(storage: HandStorage, name: str) -> None:
    outside = storage.root.parent / "outside"
    storage.tag_folder(APP, name).rename(outside)
    storage.tag_folder(APP, name).symlink_to(outside)
    with pytest.raises(UnknownLayoutError, match="symlink"):
        _prune(storage)
    assert (outside / "current/link").exists()


def test_a_trash_that_is_a_symlink_is_refused(storage: HandStorage) -> None:
    outside = storage.root.parent / "outside"
    outside.mkdir()
    (storage.root / TRASH).symlink_to(outside)
    before = files_below(storage.root / "docker")
    with pytest.raises(UnknownLayoutError, match="symlink"):
        _prune(storage)
    assert (files_below(storage.root / "docker"), list(outside.iterdir())) == (before, [])


def test_a_pipe_in_the_place_of_a_link_does_not_hang_it(storage: HandStorage) -> None:
    link = storage.tag_folder(APP, "old-1") / "current/link"
    link.unlink()
    os.mkfifo(link)
    _refused(storage, UnknownLayoutError, "neither a file nor a folder")


def test_what_a_registry_leaves_half_done_is_known(storage: HandStorage) -> None:
    """A link that is being written, a revision that was deleted by digest, a tag without its link."""
    current = storage.tag_folder(APP, "old-1") / "current"
    (current / "link.0198c2a8-8b5e-7c3a-9d7e-0123456789ab.tmp").write_text("sha256:")
    (storage.repository(APP) / "_manifests/revisions/sha256" / ("0" * 64)).mkdir()
    (storage.repository(APP) / "_manifests/tags/begun/current").mkdir(parents=True)
    assert _prune(storage).tags == 5
    assert storage.tags() == {"begun", "kept"}


# Doubts about one repository


def _huge_link(storage: HandStorage) -> None:
    with (storage.tag_folder(APP, "kept") / "current/link").open("wb") as file:
        file.truncate(10 * 1024**3)


def _tampered(storage: HandStorage) -> None:
    (link,) = (storage.tag_folder(APP, "kept") / "current").iterdir()
    algorithm, _, value = link.read_text().partition(":")
    data = storage.root / "docker/registry/v2/blobs" / algorithm / value[:2] / value / "data"
    data.write_text(data.read_text().replace("layers", "Layers"))


def _unreadable(storage: HandStorage) -> None:
    digest = storage.blob(b"no JSON")
    storage.link(storage.revision(APP, digest), digest)


@pytest.mark.parametrize(
    "spoil",
    [
        _huge_link,
        _tampered,
        lambda s: (s.tag_folder(APP, "kept") / "current/link").write_text("../../../secret"),
        lambda s: next((s.repository(APP) / "_manifests/revisions/sha256").glob("*/link")).write_text(
            "sha256:" + "0" * 64
        ),
        _unreadable,
        # More than is parsed: whatever it lists is not known either.
        lambda s: s.index(APP, [s.image(APP, "twice")], "new-index", word=600_000 * ","),
    ],
)
def test_a_repository_of_which_something_cannot_be_known_stays_whole(
    storage: HandStorage, spoil: Callable[[HandStorage], object]
) -> None:
    spoil(storage)
    tags = storage.tags()
    (found,) = _prune(storage).repositories
    assert found.doubt is not None
    assert (storage.tags(), found.ends) == (tags, ())


# The trash


def test_a_second_command_is_held_back_while_one_is_at_work(storage: HandStorage) -> None:
    with Tree.open(storage.root) as tree, locked(tree):
        _refused(storage, HeldBackError, "another command")


def test_a_run_of_another_plan_is_not_mixed_with_one_that_is_there(storage: HandStorage) -> None:
    _prune(storage)
    with pytest.raises(TrashError, match="another plan"):
        _prune(storage, hash_="b" * 64)


def test_what_was_restored_is_pruned_again_only_under_another_name(storage: HandStorage) -> None:
    _prune(storage)
    with Tree.open(storage.root) as tree:
        restore(tree, RestoreOrder(RUN, (), force=False, dry_run=False, now=NOW))
    with pytest.raises(HeldBackError, match="was restored"):
        _prune(storage)
    assert _prune(storage, run="again").tags == 5


@pytest.mark.parametrize("run", ["../x", "", "a/b", ".hidden", "x" * 65, "new\nline"])
def test_an_id_that_leads_elsewhere_is_refused(storage: HandStorage, run: str) -> None:
    with pytest.raises(TrashError, match="no ID"):
        _prune(storage, run=run)


def test_a_journal_that_was_torn_is_gone_on_with(storage: HandStorage) -> None:
    _prune(storage)
    journal = storage.root / TRASH / "runs" / RUN / "journal"
    journal.write_bytes(journal.read_bytes() + b'{"type":"ru')
    with Tree.open(storage.root) as tree:
        done = restore(tree, RestoreOrder(RUN, (), force=False, dry_run=False, now=NOW))
        assert done.whole
        (run,) = trashed(tree)
    assert run.restored_at == NOW
    assert [json.loads(line)["type"] for line in journal.read_text().splitlines()[-1:]] == ["restored"]


def test_a_trash_that_has_lost_its_journal_is_not_guessed_at(storage: HandStorage) -> None:
    _prune(storage)
    (storage.root / TRASH / "runs" / RUN / "journal").unlink()
    with Tree.open(storage.root) as tree, pytest.raises(TrashError, match="lost its journal"):
        restore(tree, RestoreOrder(RUN, (), force=False, dry_run=False, now=NOW))


def test_a_manifest_that_was_tampered_with_is_not_restored(storage: HandStorage) -> None:
    plan = fill(HandStorage(storage.root.parent / "plan"))
    _prune(storage)
    digest = plan.repositories[0].tags["old-single"].digest
    storage.blob_file(digest).write_text("{}")
    with Tree.open(storage.root) as tree:
        done = restore(tree, RestoreOrder(RUN, (), force=False, dry_run=False, now=NOW))
    assert {each.tag: each.result for each in done.outcomes if each.tag == "old-single"} == {
        "old-single": Undo.TAMPERED
    }
    assert "old-single" not in storage.tags()
    assert not storage.has(digest)


def test_a_dry_run_of_a_restore_changes_nothing(storage: HandStorage) -> None:
    _prune(storage)
    before = files_below(storage.root)
    with Tree.open(storage.root) as tree:
        done = restore(tree, RestoreOrder(RUN, (), force=False, dry_run=True, now=NOW))
    assert done.count(Undo.RESTORED) == len(done.outcomes) == 7
    assert files_below(storage.root) == before


def test_emptying_takes_only_what_is_old_enough_and_what_is_named(storage: HandStorage) -> None:
    _prune(storage)
    with Tree.open(storage.root) as tree:
        assert empty(tree, None, timedelta(days=7), NOW + timedelta(days=6)) == []
        with pytest.raises(TrashError, match="no run other"):
            empty(tree, "other", None, NOW)
        (gone,) = empty(tree, None, timedelta(days=7), NOW + timedelta(days=7))
        assert (gone.run, gone.tags, gone.manifests) == (RUN, 5, 6)
        assert trashed(tree) == []


def test_emptying_follows_no_symlink_out_of_the_trash(storage: HandStorage) -> None:
    _prune(storage)
    outside = storage.root.parent / "outside"
    outside.mkdir()
    (outside / "precious").write_text("mine")
    (storage.root / TRASH / "runs" / RUN / "way").symlink_to(outside)
    with Tree.open(storage.root) as tree:
        empty(tree, RUN, None, NOW)
    assert (outside / "precious").exists()
    assert not (storage.root / TRASH / "runs" / RUN).exists()


# What changes meanwhile


def test_a_tag_that_is_pushed_while_it_is_moved_is_put_back_with_its_repository(storage: HandStorage) -> None:
    other = storage.image(APP, "pushed since")
    before = parse_digest((storage.tag_folder(APP, "old-2") / "current/link").read_text())
    files = files_below(storage.root / "docker")

    def push(what: str) -> None:
        if what == "write":  # the journal: all is decided, and nothing is moved
            storage.link(storage.tag_folder(APP, "old-2") / "current", other)

    done = _prune(storage, after=push)

    assert isinstance(done.stopped, WritableError)
    # But for what was pushed, everything is as it was.
    storage.link(storage.tag_folder(APP, "old-2") / "current", before)
    assert files_below(storage.root / "docker") == files


def test_a_registry_that_becomes_writable_again_stops_it_before_the_next_repository(storage: HandStorage) -> None:
    asked = 0

    def frozen() -> None:
        nonlocal asked
        asked += 1
        if asked > 1:
            raise WritableError("it takes pushes")

    done = _prune(storage, frozen=frozen)
    assert isinstance(done.stopped, WritableError)
    assert len(storage.tags()) == 6


# Volumes


@pytest.mark.parametrize("step", ["mkdir", "write"])
def test_a_volume_that_is_full_leaves_nothing_half_done(storage: HandStorage, step: str) -> None:
    before = files_below(storage.root / "docker")

    def full(what: str) -> None:
        if what == step:
            raise OSError(28, "No space left on device")

    with pytest.raises(VolumeError, match="full"):
        _prune(storage, after=full)
    assert files_below(storage.root / "docker") == before
    assert _prune(storage).tags == 5


def test_a_volume_that_fails_midway_says_so_and_is_gone_on_with(storage: HandStorage) -> None:
    def full(what: str) -> None:
        if what == "rename":
            raise OSError(30, "Read-only file system")

    done = _prune(storage, after=full)
    assert isinstance(done.stopped, VolumeError)
    assert "read-only" in str(done.stopped)
    assert _prune(storage).tags == 5
    assert storage.tags() == {"kept"}


def test_files_keep_their_owner_and_what_is_made_belongs_to_the_storage_s(storage: HandStorage) -> None:
    """Root works for a registry that is not root; anybody else is the registry's user."""
    user = 4321 if os.geteuid() == 0 else os.geteuid()
    group = 4321 if os.geteuid() == 0 else os.getegid()
    repositories = storage.root / "docker/registry/v2/repositories"
    for path in (storage.root, *storage.root.rglob("*")):
        os.chown(path, user, group)
    repositories.chmod(0o2770)
    _prune(storage)
    for path in (storage.root / TRASH, *(storage.root / TRASH).rglob("*")):
        assert (path.stat().st_uid, path.stat().st_gid) == (user, group), path
    assert stat.S_IMODE((storage.root / TRASH).stat().st_mode) == 0o2770
    assert stat.S_IMODE((storage.root / TRASH / "runs" / RUN / "journal").stat().st_mode) == 0o660
    with Tree.open(storage.root) as tree:
        restore(tree, RestoreOrder(RUN, (), force=False, dry_run=False, now=NOW))
    for path in storage.root.rglob("*"):
        assert (path.stat().st_uid, path.stat().st_gid) == (user, group), path
