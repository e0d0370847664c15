"""What comes back from the trash comes back whole, or stays there, named with what it lacks."""

import hashlib
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

import pytest

from registry_cleanup.domain.copies import Wanted
from registry_cleanup.domain.reference import Digest, parse_digest
from registry_cleanup.domain.undoing import Undo, Undone
from registry_cleanup.storage.errors import UnknownLayoutError
from registry_cleanup.storage.pruning import prune
from registry_cleanup.storage.restoring import RestoreOrder, restore
from registry_cleanup.storage.tree import Tree
from tests.support.storages import files_below
from tests.support.stored import APP, NOW, RUN, HandStorage, fill


@pytest.fixture
def storage(tmp_path: Path) -> HandStorage:
    """Return a storage from which most was pruned."""
    made = HandStorage(tmp_path / "root")
    plan = fill(made)
    with Tree.open(made.root) as tree:
        prune(tree, plan, RUN, NOW, lambda: None)
    assert made.tags() == {"kept"}
    return made


def _restore(storage: HandStorage, wanted: Iterable[Wanted] = (), *, force: bool = False) -> Undone:
    with Tree.open(storage.root) as tree:
        return restore(tree, RestoreOrder(RUN, tuple(wanted), force, dry_run=False, now=NOW))


def _digest(storage: HandStorage, tag: str) -> Digest:
    """Return what a tag names that was pruned."""
    return fill(HandStorage(storage.root.parent / "plan")).repositories[0].tags[tag].digest


def _layer(word: str) -> Digest:
    return parse_digest("sha256:" + hashlib.sha256(f"layer of {word}".encode()).hexdigest())


def _ends(done: Undone) -> dict[str, tuple[Undo, tuple[Digest, ...]]]:
    return {each.tag: (each.result, each.missing) for each in done.outcomes if each.tag is not None}


def test_an_image_of_which_a_layer_is_gone_stays_away_and_the_layer_is_named(storage: HandStorage) -> None:
    storage.blob_file(_layer("single")).unlink()
    done = _restore(storage)
    ends = _ends(done)
    assert ends.pop("old-single") == (Undo.MISSING, (_layer("single"),))
    assert set(ends.values()) == {(Undo.RESTORED, ())}
    assert not storage.has(_digest(storage, "old-single"))
    assert not done.whole


def test_a_layer_to_which_the_repository_has_lost_its_link_counts_as_gone(storage: HandStorage) -> None:
    """Distribution 3 removes the link, too, where another repository keeps the blob: then it cannot be pulled here."""
    shutil.rmtree(storage.repository(APP) / "_layers" / _layer("twice").replace(":", "/"))
    ends = _ends(_restore(storage))
    assert ends["old-1"] == ends["old-2"] == (Undo.MISSING, (_layer("twice"),))


def test_an_index_does_not_come_back_without_what_it_lists(storage: HandStorage) -> None:
    storage.blob_file(_layer("arm")).unlink()
    done = _restore(storage)
    assert _ends(done)["old-index"] == (Undo.MISSING, (_layer("arm"),))
    assert not storage.has(_digest(storage, "old-index"))
    # The other platform is whole.
    assert done.count(Undo.RESTORED) == 4 + 1


def test_what_is_asked_for_comes_back_with_what_refers_to_it_and_nothing_else(storage: HandStorage) -> None:
    signature = _digest(storage, "old-single").replace(":", "-") + ".sig"
    done = _restore(storage, [Wanted(APP, "old-single")])
    assert storage.tags() == {"kept", "old-single", signature}
    assert set(_ends(done)) == {"old-single", signature}
    web_digest = parse_digest("sha256:" + "0" * 64)
    web = _restore(storage, [Wanted("team/web")])
    assert (web.outcomes, web.not_kept, web.whole) == ([], ["team/web"], False)
    # Again, and with a slip.
    again = _restore(storage, [Wanted(APP, "old-single"), Wanted(APP, digest=_digest(storage, "old-single"))])
    assert [each.result for each in again.outcomes] == [Undo.ALREADY_THERE] * 2
    assert again.whole
    slip = _restore(storage, [Wanted(APP, "old-single"), Wanted(APP, "nosuch"), Wanted(APP, digest=web_digest)])
    assert slip.not_kept == [f"{APP}:nosuch", f"{APP}@{web_digest}"]
    assert not slip.whole
    assert _restore(storage, [Wanted(APP, digest=_digest(storage, "old-1"))]).whole
    assert storage.tags() >= {"old-1", "old-2"}


def test_a_tag_that_is_there_again_is_refused_and_goes_to_the_trash_by_force(storage: HandStorage) -> None:
    new = storage.image(APP, "new", "old-single")
    (refused,) = [each for each in _restore(storage).outcomes if each.tag == "old-single"]
    assert (refused.result, refused.current) == (Undo.REFUSED, new)
    assert _restore(storage, [Wanted(APP, "old-single")], force=True).whole
    current = storage.tag_folder(APP, "old-single") / "current/link"
    assert current.read_text() == _digest(storage, "old-single")
    replaced = storage.root / "registry-cleanup-trash/runs" / RUN / "replaced"
    assert new.encode() in files_below(replaced).values()
    assert storage.has(new)


def test_what_was_pushed_again_the_same_is_already_there(storage: HandStorage) -> None:
    assert storage.image(APP, "single", "old-single") == _digest(storage, "old-single")
    done = _restore(storage)
    assert _ends(done)["old-single"] == (Undo.ALREADY_THERE, ())
    assert done.whole


def test_a_repository_that_is_gone_altogether_comes_back(storage: HandStorage) -> None:
    shutil.rmtree(storage.repository(APP) / "_manifests")
    assert _restore(storage).whole
    assert storage.tags() == {
        "old-index",
        "old-single",
        "old-1",
        "old-2",
        _digest(storage, "old-single").replace(":", "-") + ".sig",
    }


@pytest.mark.parametrize("pipe", [False, True])
def test_content_that_is_no_file_is_not_read(storage: HandStorage, pipe: bool) -> None:
    data = storage.blob_file(_digest(storage, "old-single"))
    outside = storage.root.parent / "outside"
    data.rename(outside)
    if pipe:
        os.mkfifo(data)
    else:
        data.symlink_to(outside)
    with pytest.raises(UnknownLayoutError, match="no file" if pipe else "symlink"):
        _restore(storage)
    assert storage.tags() == {"kept"}
