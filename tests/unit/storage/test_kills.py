"""A process that is killed after any change leaves what a restore and a repeated run make whole again."""

import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from registry_cleanup.domain.undoing import Undo
from registry_cleanup.storage.errors import StorageError, TrashError
from registry_cleanup.storage.restoring import RestoreOrder, restore
from registry_cleanup.storage.tree import Tree
from tests.support.storage_kills import command
from tests.support.storages import files_below
from tests.support.stored import NOW, RUN, HandStorage, fill

LIMIT = 120


def _killed(name: str, prepared: Path, folder: Path) -> list[Path]:
    """Return the storages that were left by a kill after each change, and the last one, where nothing was killed."""
    folder.mkdir()
    program = [sys.executable, "-m", "tests.support.storage_kills", name, str(prepared), str(folder)]
    subprocess.run(program, check=True, timeout=LIMIT)
    left = [folder / str(step) for step in range(10_000) if (folder / str(step)).exists()]
    assert len(left) > 5
    return left


def _do(name: str, root: Path, tmp_path: Path) -> None:
    with Tree.open(root) as tree:
        command(name, tree, tmp_path / "plan")


@pytest.fixture
def prepared(tmp_path: Path) -> Path:
    fill(HandStorage(tmp_path / "prepared"))
    return tmp_path / "prepared"


def test_after_a_killed_prune_a_restore_brings_back_every_file(prepared: Path, tmp_path: Path) -> None:
    files = files_below(prepared)
    for root in _killed("prune", prepared, tmp_path / "killed"):
        # What is not written down has not been moved: then there is nothing to restore.
        if (root / f"registry-cleanup-trash/runs/{RUN}/journal").exists():
            with Tree.open(root) as tree:
                try:
                    done = restore(tree, RestoreOrder(RUN, (), force=False, dry_run=False, now=NOW))
                except StorageError:
                    assert files_below(root / "docker") == files_below(prepared / "docker"), root.name
                    continue
            assert {outcome.result for outcome in done.outcomes} <= {Undo.RESTORED, Undo.ALREADY_THERE}
        assert files_below(root / "docker") == {
            path.removeprefix("docker/"): content for path, content in files.items()
        }, root.name


def test_after_a_killed_prune_a_repeated_one_ends_as_if_nothing_had_happened(prepared: Path, tmp_path: Path) -> None:
    *killed, whole = _killed("prune", prepared, tmp_path / "killed")
    assert HandStorage(whole).tags() == {"kept"}
    for root in killed:
        _do("prune", root, tmp_path)
        assert files_below(root / "docker") == files_below(whole / "docker"), root.name


def test_a_killed_prune_has_each_tag_and_manifest_in_one_place(prepared: Path, tmp_path: Path) -> None:
    """And a tag never outlives its manifest, nor an index what it lists."""
    links = {path for path in files_below(prepared) if path.endswith("link")}
    for root in _killed("prune", prepared, tmp_path / "killed"):
        there = files_below(root)
        stored = {path for path in there if path.startswith("docker/") and path.endswith("link")}
        trash = f"registry-cleanup-trash/runs/{RUN}/repositories/"
        moved = {
            path.replace(trash, "docker/registry/v2/repositories/")
            for path in there
            if path.startswith(trash) and path.endswith("link")
        }
        assert not stored & moved
        assert stored | moved == links, root.name


def test_after_a_killed_restore_another_one_finishes_it(prepared: Path, tmp_path: Path) -> None:
    pruned = tmp_path / "pruned"
    shutil.copytree(prepared, pruned)
    _do("prune", pruned, tmp_path)
    for root in _killed("restore", pruned, tmp_path / "killed"):
        _do("restore", root, tmp_path)
        assert files_below(root / "docker") == files_below(prepared / "docker"), root.name


def test_after_a_killed_emptying_another_one_finishes_it(prepared: Path, tmp_path: Path) -> None:
    _do("prune", prepared, tmp_path)
    stored = files_below(prepared / "docker")
    for root in _killed("empty", prepared, tmp_path / "killed"):
        with suppress(TrashError):  # where it was killed right after its last change, there is no such run any more
            _do("empty", root, tmp_path)
        assert list(files_below(root / "registry-cleanup-trash")) == ["lock"], root.name
        assert files_below(root / "docker") == stored
