"""Pruning in the storage of real registries whose deletion is switched off, seen by crane and their own collection."""

from pathlib import Path

import httpx
import pytest

from tests.support.processes import free_port
from tests.support.registries import Version
from tests.support.storages import APP, WEB, Site, files_below, push_scene, read
from tests.support.undo import blob_file, collect_garbage

DONE, FAILED, USAGE, HELD_BACK, REGISTRY, PARTIAL = 0, 1, 2, 3, 4, 6
TRASH = "registry-cleanup-trash"


@pytest.fixture(params=["2", "3"], ids=["distribution-2.8", "distribution-3.1"])
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Site:
    version: Version = request.param
    return Site(version, tmp_path, f"127.0.0.1:{free_port()}")


def _bytes(site: Site) -> int:
    return sum(path.stat().st_size for path in site.root.rglob("data"))


def test_what_the_plan_lets_go_is_gone_and_everything_else_pulls_whole(site: Site) -> None:
    with site.serving():
        scene = push_scene(site.url)
        before = site.pulled()
        plan = site.plan()
    done = site.storage("prune", "--plan", plan, "--offline")
    assert done.returncode == DONE, done.stderr
    assert "moved to the trash" in done.stderr
    with site.serving():
        after = site.pulled()
        there = {name: frozenset(tags) for name, tags in after.items()}
        assert there == scene.kept
        assert after == {name: {tag: before[name][tag] for tag in tags} for name, tags in scene.kept.items()}
        # Where only digests can be deleted, the manifest goes with its tags; what an index listed stays, unless asked.
        gone = ("single", "twice", "index", "single.sig")
        for word in (*gone, "held", "arm", "amd", "both"):
            assert site.crane.exists(f"{site.host}/{APP}@{scene.digests[word]}") is (word not in gone), word


def test_restoring_brings_every_tag_back_as_it_was(site: Site) -> None:
    with site.serving():
        push_scene(site.url)
        before = site.pulled()
        plan = site.plan(untagged="Delete")
    files = site.files()
    assert site.storage("prune", "--plan", plan, "--offline", "--run", "one").returncode == DONE
    assert site.files() != files

    done = site.storage("restore", "--run", "one")

    assert done.returncode == DONE, done.stderr
    assert site.files() == files
    with site.serving():
        assert site.pulled() == before
    assert site.storage("restore", "--run", "one").returncode == DONE


def test_neither_registry_nor_collection_sees_the_trash(site: Site) -> None:
    with site.serving() as server:
        push_scene(site.url)
        plan = site.plan()
        catalogue = site.crane.catalog(site.host)
    assert site.storage("prune", "--plan", plan, "--offline").returncode == DONE
    assert files_below(site.root / TRASH)
    with site.serving():
        assert site.crane.catalog(site.host) == catalogue == [APP, WEB]
        assert httpx.get(f"{site.url}/v2/_catalog", trust_env=False).json() == {"repositories": [APP, WEB]}
        for name in ("runs", "registry-cleanup-trash"):
            assert httpx.get(f"{site.url}/v2/{name}/tags/list", trust_env=False).status_code == 404
    trash = files_below(site.root / TRASH)
    assert "trash" not in collect_garbage(server)
    assert files_below(site.root / TRASH) == trash


def test_collection_after_the_trash_is_emptied_frees_what_was_planned(site: Site) -> None:
    with site.serving() as server:
        # What signatures weigh, and what other repositories share, is no part of the estimate.
        push_scene(site.url, plain=True)
        plan = site.plan(untagged="Delete")
    collect_garbage(server)
    before = _bytes(site)
    assert site.storage("prune", "--plan", plan, "--offline").returncode == DONE
    assert _bytes(site) == before
    assert site.storage("empty-trash", "--older-than", "0s").returncode == DONE
    collect_garbage(server)
    assert before - _bytes(site) == read(plan)["plan"]["reclaimableBytes"] > 0
    with site.serving():
        assert set(site.pulled()[APP]) == {
            tag for tag in site.crane.ls(f"{site.host}/{APP}") if not tag.startswith("old-") or tag == "old-held"
        }


def test_what_was_collected_before_it_is_restored_is_said_and_stays_away(site: Site) -> None:
    with site.serving() as server:
        scene = push_scene(site.url, plain=True)
        before = site.pulled()
        plan = site.plan()
    assert site.storage("prune", "--plan", plan, "--offline", "--run", "one").returncode == DONE
    collect_garbage(server)
    assert not blob_file(site.root, scene.digests["twice"]).exists()

    done = site.storage("restore", "--run", "one")

    assert done.returncode == 1, done.stderr
    assert scene.digests["twice"] in done.stdout
    with site.serving():
        after = site.pulled()
    assert after == {name: {tag: before[name][tag] for tag in tags} for name, tags in scene.kept.items()}
    # A revision without its content would make every later collection fail.
    collect_garbage(server)


def test_a_registry_that_takes_pushes_is_refused_and_one_that_is_read_only_is_not(site: Site) -> None:
    with site.serving():
        push_scene(site.url)
        plan = site.plan()
        files = site.files()
        done = site.storage("prune", "--plan", plan, "--registry", site.url, "--insecure")
        assert (done.returncode, site.files()) == (REGISTRY, files)
        assert "takes pushes" in done.stderr
    with site.serving(readonly=True):
        done = site.storage("prune", "--plan", plan, "--registry", site.url, "--insecure")
        assert done.returncode == DONE, done.stderr
    with site.serving():
        assert "old-single" not in site.pulled()[APP]


def test_a_registry_that_does_not_answer_is_refused_unless_it_is_said_to_be_offline(site: Site) -> None:
    with site.serving():
        push_scene(site.url)
        plan = site.plan()
    files = site.files()
    done = site.storage("prune", "--plan", plan, "--registry", site.url, "--insecure")
    assert (done.returncode, site.files()) == (REGISTRY, files)
    assert site.storage("prune", "--plan", plan).returncode == USAGE


def test_a_tag_that_moved_since_stays_with_all_of_its_digest(site: Site) -> None:
    from tests.support.images import push_image

    with site.serving():
        scene = push_scene(site.url)
        plan = site.plan()
        push_image(site.url, APP, ["old-twice-1"], seed="pushed since")
        before = site.pulled()
    done = site.storage("prune", "--plan", plan, "--offline")
    assert done.returncode == PARTIAL
    assert "Moved          old-twice-1" in done.stdout
    with site.serving():
        after = site.pulled()
        expected = scene.kept[APP] | {"old-twice-1", "old-twice-2"}
        assert after[APP] == {tag: before[APP][tag] for tag in expected}


def test_what_was_pushed_onto_a_planned_digest_keeps_it(site: Site) -> None:
    with site.serving():
        scene = push_scene(site.url)
        plan = site.plan()
        site.crane.run("tag", f"{site.host}/{APP}:old-single", "rescued")
        before = site.pulled()
    done = site.storage("prune", "--plan", plan, "--offline")
    assert done.returncode == PARTIAL
    assert "NowShared      old-single" in done.stdout
    with site.serving():
        after = site.pulled()
        signature = scene.digests["single"].replace(":", "-") + ".sig"
        assert after[APP] == {tag: before[APP][tag] for tag in scene.kept[APP] | {"old-single", "rescued", signature}}


def test_where_the_plan_deletes_by_tag_only_tags_go(tmp_path: Path) -> None:
    site = Site("3", tmp_path, f"127.0.0.1:{free_port()}")
    with site.serving(delete=True):
        scene = push_scene(site.url)
        plan = site.plan()
    assert read(plan)["plan"]["deletionUnit"] == "Tag"
    assert site.storage("prune", "--plan", plan, "--offline").returncode == DONE
    with site.serving():
        assert "old-held" not in site.pulled()[APP]
        for word in ("single", "twice", "held", "index", "arm", "amd", "both"):
            assert site.crane.exists(f"{site.host}/{APP}@{scene.digests[word]}")


def test_one_tag_can_be_restored_with_all_that_it_needs(site: Site) -> None:
    with site.serving():
        scene = push_scene(site.url)
        before = site.pulled()
        plan = site.plan(untagged="Delete")
    assert site.storage("prune", "--plan", plan, "--offline", "--run", "one").returncode == DONE
    assert site.storage("restore", "--run", "one", f"{site.host}/{APP}:old-index").returncode == DONE
    assert site.storage("restore", "--run", "one", f"{APP}:old-single").returncode == DONE
    with site.serving():
        signature = scene.digests["single"].replace(":", "-") + ".sig"
        back = scene.kept[APP] | {"old-index", "old-single", signature}
        assert site.pulled()[APP] == {tag: before[APP][tag] for tag in back}


def test_a_tag_that_was_pushed_again_is_restored_only_by_force(site: Site) -> None:
    from tests.support.images import push_image

    with site.serving():
        scene = push_scene(site.url)
        plan = site.plan()
    assert site.storage("prune", "--plan", plan, "--offline", "--run", "one").returncode == DONE
    with site.serving():
        new = push_image(site.url, APP, ["old-single"], seed="new")
    done = site.storage("restore", "--run", "one", f"{APP}:old-single")
    assert done.returncode == HELD_BACK
    assert f"names {new} by now" in done.stdout
    with site.serving():
        assert site.crane.digest(f"{site.host}/{APP}:old-single") == new
    assert site.storage("restore", "--run", "one", "--force", f"{APP}:old-single").returncode == DONE
    with site.serving():
        assert site.crane.digest(f"{site.host}/{APP}:old-single") == scene.digests["single"]
        assert site.crane.exists(f"{site.host}/{APP}@{new}")
