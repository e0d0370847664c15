"""What a storage holds is counted exactly, or not at all."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from registry_cleanup.__main__ import main
from registry_cleanup.storage.emptying import empty
from registry_cleanup.storage.measure import Measure, measure
from registry_cleanup.storage.pruning import prune
from registry_cleanup.storage.tree import Tree
from tests.support.stored import NOW, RUN, HandStorage, fill


def _blob(root: Path, digest: str, content: bytes) -> Path:
    folder = root / "docker/registry/v2/blobs/sha256" / digest[:2] / digest
    folder.mkdir(parents=True)
    (folder / "data").write_bytes(content)
    return folder


def test_the_content_of_all_blobs_counts_and_nothing_else(tmp_path: Path) -> None:
    _blob(tmp_path, "aa11", b"x" * 1000)
    _blob(tmp_path, "ab22", b"y" * 23)
    link = tmp_path / "docker/registry/v2/repositories/team/app/_layers/sha256/aa11/link"
    link.parent.mkdir(parents=True)
    link.write_text("sha256:aa11")
    upload = tmp_path / "docker/registry/v2/repositories/team/app/_uploads/1/data"
    upload.parent.mkdir(parents=True)
    upload.write_bytes(b"z" * 77)
    assert measure(tmp_path) == Measure(bytes=1023, blobs=2)


def test_a_folder_that_a_collection_left_empty_is_no_blob(tmp_path: Path) -> None:
    (_blob(tmp_path, "aa11", b"x") / "data").unlink()
    assert measure(tmp_path) == Measure(0, 0)


def test_a_storage_without_blobs_holds_nothing(tmp_path: Path) -> None:
    (tmp_path / "docker/registry/v2/repositories").mkdir(parents=True)
    assert measure(tmp_path) == Measure(0, 0)


@pytest.mark.parametrize("more", [[], ["--unless-trash"]])
def test_a_folder_that_is_no_storage_is_not_taken_for_an_empty_one(tmp_path: Path, more: list[str]) -> None:
    done = CliRunner().invoke(main, ["storage", "measure", "--root", str(tmp_path), *more])
    assert (done.exit_code, done.stdout) == (2, "")
    assert "holds no docker/registry/v2: --root has to be the rootdirectory" in done.stderr


def test_a_storage_that_is_not_there_is_no_empty_one(tmp_path: Path) -> None:
    with pytest.raises(NotADirectoryError):
        measure(tmp_path / "gone")


def test_the_command_prints_the_result_and_leaves_it_for_the_pod(tmp_path: Path) -> None:
    _blob(tmp_path / "root", "aa11", b"12345")
    log = tmp_path / "termination-log"
    done = CliRunner().invoke(
        main, ["storage", "measure", "--root", str(tmp_path / "root"), "--termination-log", str(log)]
    )
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout) == json.loads(log.read_text()) == {"bytes": 5, "blobs": 1}


def test_the_command_fails_where_it_cannot_measure(tmp_path: Path) -> None:
    done = CliRunner().invoke(main, ["storage", "measure", "--root", str(tmp_path / "gone")])
    assert done.exit_code == 1
    assert "cannot be measured" in done.stderr


def test_what_is_about_to_be_collected_is_not_measured_while_something_is_in_the_trash(tmp_path: Path) -> None:
    storage = HandStorage(tmp_path / "root")
    plan = fill(storage)
    arguments = ["storage", "measure", "--root", str(storage.root), "--unless-trash"]
    assert CliRunner().invoke(main, arguments).exit_code == 0
    with Tree.open(storage.root) as tree:
        prune(tree, plan, RUN, NOW, lambda: None)
    done = CliRunner().invoke(main, arguments)
    assert (done.exit_code, f"the trash holds {RUN}" in done.stderr) == (3, True)
    assert CliRunner().invoke(main, arguments[:-1]).exit_code == 0
    with Tree.open(storage.root) as tree:
        empty(tree, RUN, None, NOW)
    assert CliRunner().invoke(main, arguments).exit_code == 0


def test_a_trash_that_cannot_be_read_counts_as_one_that_holds_something(tmp_path: Path) -> None:
    storage = HandStorage(tmp_path / "root")
    plan = fill(storage)
    with Tree.open(storage.root) as tree:
        prune(tree, plan, RUN, NOW, lambda: None)
    (storage.root / "registry-cleanup-trash/runs" / RUN / "journal").unlink()
    done = CliRunner().invoke(main, ["storage", "measure", "--root", str(storage.root), "--unless-trash"])
    assert done.exit_code == 3
