"""`undo` puts back what `run` pruned, as crane sees it, says what it cannot, and is obeyed by the next runs."""

import json
import subprocess
from collections.abc import Collection
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.support.command import run
from tests.support.crane import Crane
from tests.support.images import OCI_MANIFEST, push_blob, push_image, push_raw_manifest
from tests.support.policies import GROUP, days_ago, policy_spec, push_builds
from tests.support.registries import RegistryServer, Version, distribution
from tests.support.schemas import validate
from tests.support.undo import blob_file, collect_garbage, pulled

DONE, FAILED, USAGE, HELD_BACK, REGISTRY, PARTIAL = 0, 1, 2, 3, 4, 6
APP, COPIES = "team/app", "ops/undo"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    folder = tmp_path / "home"
    folder.mkdir()
    return folder


def _write(home: Path, url: str, **changes: Any) -> Path:  # noqa: ANN401 - values of any field
    """Write a policy that prunes at once, keeps copies for a day, and looks at no cluster."""
    undo = {"window": "1d", "repository": COPIES}
    spec = policy_spec(url, **{"dryRun": False, "inUse": {"enabled": False}, "undo": undo, **changes})
    body = {
        "apiVersion": f"{GROUP}/v1alpha1",
        "kind": "RegistryCleanupPolicy",
        # Of its own, whatever port a registry has that is started again.
        "metadata": {"namespace": "default", "name": "policy", "uid": "a-uid"},
        "spec": spec,
    }
    file = home / "policy.yaml"
    file.write_text(yaml.safe_dump(body))
    return file


def _prune(home: Path, file: Path, code: int | None = DONE) -> subprocess.CompletedProcess[str]:
    done = run(home, "run", "-f", file, "--yes", limit=120)
    if "is only planned" in done.stderr:
        done = run(home, "run", "-f", file, "--yes", limit=120)
    assert code in (None, done.returncode), done.stderr
    return done


def _undo(home: Path, file: Path, *arguments: str, code: int = DONE) -> subprocess.CompletedProcess[str]:
    done = run(home, "undo", "policy", "-f", file, *arguments, limit=120)
    assert done.returncode == code, done.stdout + done.stderr
    return done


@pytest.mark.parametrize("repository", [COPIES, None])
def test_what_a_run_pruned_pulls_again_and_stays(
    registry: RegistryServer, crane: Crane, home: Path, repository: str | None
) -> None:
    push_builds(registry.url)
    before = pulled(crane, registry.host, APP)
    file = _write(home, registry.url, undo={"window": "1d", **({"repository": repository} if repository else {})})
    _prune(home, file)
    assert len(pulled(crane, registry.host, APP)) < len(before)
    looked = _undo(home, file, "--dry-run")
    assert "Restorable" in looked.stdout
    assert "Restored" not in looked.stdout
    assert "nothing was done, since it is a dry run" in looked.stderr
    assert "would be put back" in looked.stderr
    assert len(pulled(crane, registry.host, APP)) < len(before)
    _undo(home, file)
    assert pulled(crane, registry.host, APP) == before
    # Also the copies, and what came back, outlive the next run, which would prune it once more.
    again = _prune(home, file, HELD_BACK)
    assert "put back by an undo" in again.stderr
    assert pulled(crane, registry.host, APP) == before
    assert "nothing to do" in _undo(home, file).stderr
    # A policy that was changed decides anew.
    changed = _write(home, registry.url, undo={"window": "2d", **({"repository": repository} if repository else {})})
    _prune(home, changed)
    assert len(pulled(crane, registry.host, APP)) < len(before)


def test_no_policy_ever_selects_or_prunes_the_copies(registry: RegistryServer, crane: Crane, home: Path) -> None:
    push_builds(registry.url)
    everything = {"name": "all", "tags": {"include": [".*"]}, "keep": {"mostRecent": 1}}
    _prune(home, _write(home, registry.url))
    copies = crane.ls(f"{registry.host}/{COPIES}")
    assert len(copies) == 2  # with the end of the run
    push_image(registry.url, COPIES, ["1", "2"], seed="one", created=days_ago(9))
    push_image(registry.url, COPIES, ["3"], seed="two", created=days_ago(3))
    # Not even one that takes them for anything else, and names them in full.
    greedy = _write(
        home,
        registry.url,
        repositories={"include": [COPIES]},
        rules=[everything],
        undo={"window": "0s"},
        minTagsPerRepository=0,
        pruneLatest=True,
        limits={"maxPercentPerRepository": 100},
    )
    _prune(home, greedy)
    left = crane.ls(f"{registry.host}/{COPIES}")
    assert set(copies) < set(left)
    assert len(left) < 5
    # And its own are none of its business, as little as what else is there.
    there = crane.ls(f"{registry.host}/{COPIES}")
    own = _write(home, registry.url, repositories={"include": ["**"]}, rules=[everything], minTagsPerRepository=0)
    assert f"{COPIES}:" not in _prune(home, own, None).stdout
    assert set(there) <= set(crane.ls(f"{registry.host}/{COPIES}"))


@pytest.mark.parametrize("version", ["2", "3"])
def test_blobs_that_a_garbage_collection_took_are_named_and_the_rest_comes_back(
    version: Version, tmp_path: Path, crane: Crane, home: Path
) -> None:
    storage = tmp_path / "storage"
    with distribution(version, tmp_path / "before", storage=storage) as server:
        push_builds(server.url)
        before = pulled(crane, server.host, APP)
        _prune(home, _write(home, server.url, untagged="Delete"))
        held, *gone = sorted(set(before) - set(crane.ls(f"{server.host}/{APP}")))
        # The blobs of one that went are needed by another repository, too.
        _hold(server.url, before[held][2])
    collect_garbage(server)
    lost = {blob for tag in gone for blob in before[tag][2] if not blob_file(storage, blob).exists()}
    assert lost
    with distribution(version, tmp_path / "after", storage=storage) as server:
        file = _write(home, server.url, untagged="Delete")
        looked = _undo(home, file, "--dry-run", code=PARTIAL)
        told = _undo(home, file, code=PARTIAL)
        assert looked.stdout == told.stdout.replace("Restored  ", "Restorable")
        assert f"Restored     {held}" in told.stdout
        for tag in gone:
            assert f"Missing      {tag}" in told.stdout
        assert {blob for blob in lost if blob in told.stdout} == lost
        assert pulled(crane, server.host, APP)[held] == before[held]
        assert set(gone).isdisjoint(crane.ls(f"{server.host}/{APP}"))


def _hold(url: str, blobs: Collection[str]) -> None:
    """Have another repository hold blobs, in a manifest of its own."""
    content = [httpx.get(f"{url}/v2/{APP}/blobs/{blob}", trust_env=False).raise_for_status().content for blob in blobs]
    found = [push_blob(url, "other/app", each, "application/octet-stream") for each in content]
    manifest = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": found[0], "layers": found}
    push_raw_manifest(url, "other/app", ["holds"], manifest, OCI_MANIFEST)


def test_what_is_named_comes_back_and_nothing_else(registry3: RegistryServer, crane: Crane, home: Path) -> None:
    push_builds(registry3.url)
    before = pulled(crane, registry3.host, APP)
    file = _write(home, registry3.url)
    _prune(home, file)
    left = pulled(crane, registry3.host, APP)
    tag = min(set(before) - set(left))
    _undo(home, file, f"{registry3.host}/{APP}:{tag}")
    assert pulled(crane, registry3.host, APP) == {**left, tag: before[tag]}
    for told in (
        _undo(home, file, "--dry-run", f"{APP}:{tag}", f"{APP}:never", code=PARTIAL),
        _undo(home, file, f"{APP}:{tag}", f"{APP}:never", code=PARTIAL),
    ):
        assert f"1 already there, nothing is kept of {APP}:never (is that its name?)" in told.stderr
    document = json.loads(_undo(home, file, "-o", "json", f"{APP}:{tag}", f"{APP}:never", code=PARTIAL).stdout)
    validate(document, "undo")
    assert (document["whole"], document["notKept"]) == (False, [f"{APP}:never"])
    assert f"it did not prune that: of {APP} it has " in _undo(home, file, f"{APP}:never", code=HELD_BACK).stderr
    assert f"it has some of {APP}; name one as" in _undo(home, file, tag, code=HELD_BACK).stderr
    assert "names no repository" in _undo(home, file, "TEAM", code=USAGE).stderr
    _undo(home, file, APP)
    assert pulled(crane, registry3.host, APP) == before


def test_a_run_that_is_not_known_is_told_with_those_that_are(registry3: RegistryServer, home: Path) -> None:
    push_builds(registry3.url)
    file = _write(home, registry3.url)
    assert "there are no copies of any run" in _undo(home, file, code=HELD_BACK).stderr
    _prune(home, file)
    told = _undo(home, file, "--run", "20200101-000000-abcdef", code=HELD_BACK).stderr
    assert "there are copies of 20" in told


def test_a_tag_that_was_pushed_again_is_left_alone_unless_forced(
    registry3: RegistryServer, crane: Crane, home: Path
) -> None:
    push_builds(registry3.url)
    before = pulled(crane, registry3.host, APP)
    file = _write(home, registry3.url)
    _prune(home, file)
    tag = min(set(before) - set(pulled(crane, registry3.host, APP)))
    new = push_image(registry3.url, APP, [tag], seed="new")
    told = _undo(home, file, code=HELD_BACK)
    assert f"Refused      {tag} (names {new} by now)" in told.stdout
    assert crane.digest(f"{registry3.host}/{APP}:{tag}") == new
    _undo(home, file, "--force")
    assert pulled(crane, registry3.host, APP) == before


def test_json_and_yaml_are_what_the_schema_says(registry3: RegistryServer, crane: Crane, home: Path) -> None:
    push_builds(registry3.url)
    file = _write(home, registry3.url)
    _prune(home, file)
    left = crane.ls(f"{registry3.host}/{APP}")
    new = push_image(registry3.url, APP, ["build-1"], seed="new")
    looked = _undo(home, file, "--dry-run", "-o", "json", code=HELD_BACK)
    document = json.loads(looked.stdout)
    validate(document, "undo")
    assert yaml.safe_load(_undo(home, file, "--dry-run", "-o", "yaml", code=HELD_BACK).stdout) == document
    assert (document["dryRun"], document["whole"], document["counts"]["refused"]) == (True, False, 1)
    assert [item["current"] for item in document["items"] if item["result"] == "Refused"] == [new]
    assert crane.ls(f"{registry3.host}/{APP}") == sorted([*left, "build-1"])
    done = json.loads(_undo(home, file, "--force", "-o", "json").stdout)
    validate(done, "undo")
    assert (done["whole"], done["counts"]["restored"], done["run"]) == (True, 3, document["run"])
