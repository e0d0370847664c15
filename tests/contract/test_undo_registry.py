"""Prune, then undo, on real registries: every tag pulls again, byte for byte, as crane sees it."""

import io
import tarfile
from pathlib import Path

import pytest

from registry_cleanup.domain.copies import Wanted
from registry_cleanup.domain.deletion import Outcome
from registry_cleanup.domain.policy import Untagged
from registry_cleanup.domain.reference import Digest
from tests.support.images import push_image, push_index
from tests.support.pruning import APP, Setting
from tests.support.undo import prune_with_copies, pulled, results, undone

PRUNED = (Outcome.PRUNED, None)


def _fill(setting: Setting) -> None:
    """Push images, one under two tags, nested indexes, an untagged platform, and a signature."""
    url = setting.server.url
    setting.push("old-a", "old-b", seed="two tags")
    setting.push("kept")
    push_image(url, APP, ["old-docker"], docker=True, seed="docker")
    platforms = [push_image(url, APP, [], platform=p, seed=p) for p in ("linux/amd64", "linux/arm64")]
    inner = push_index(url, APP, ["old-inner"], children=platforms)
    push_index(url, APP, ["old-outer"], children=[inner, platforms[0]])
    signed = setting.push("old-signed")
    push_image(url, APP, [signed.replace(":", "-") + ".sig"], seed="signature")
    for number in range(30):
        setting.push(f"old-{number:03}")


@pytest.mark.parametrize("untagged", Untagged)
async def test_every_tag_pulls_again_byte_for_byte(setting: Setting, untagged: Untagged) -> None:
    _fill(setting)
    before = pulled(setting.crane, setting.server.host, APP)
    told = await prune_with_copies(setting.server.url, APP, "old-.*", untagged=untagged)
    assert set(told.values()) == {PRUNED}
    kept = [tag for tag in before if tag not in told]
    assert setting.tags == kept
    done = await undone(setting.server.url)
    assert done.whole, done.message
    assert pulled(setting.crane, setting.server.host, APP) == before
    again = await undone(setting.server.url)
    assert set(results(again).values()) == {"AlreadyThere"}
    assert again.message.endswith("nothing to do")


async def test_an_image_that_crane_has_built_is_valid_again(setting: Setting, tmp_path: Path) -> None:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        info = tarfile.TarInfo("hello")
        info.size = 5
        tar.addfile(info, io.BytesIO(b"hello"))
    (tmp_path / "layer.tar").write_bytes(packed.getvalue())
    name = f"{setting.server.host}/{APP}:old-built"
    setting.crane.run("append", "--oci-empty-base", "-f", str(tmp_path / "layer.tar"), "-t", name)
    setting.crane.run("mutate", "-a", "org.opencontainers.image.created=2026-01-01T00:00:00Z", "-t", name, name)
    setting.push("kept")
    await prune_with_copies(setting.server.url, APP, "old-.*")
    assert setting.tags == ["kept"]
    await undone(setting.server.url)
    setting.crane.run("validate", "--remote", name)


async def test_only_what_is_named_comes_back_with_all_that_it_needs(setting: Setting) -> None:
    _fill(setting)
    before = pulled(setting.crane, setting.server.host, APP)
    await prune_with_copies(setting.server.url, APP, "old-.*", untagged=Untagged.DELETE)
    left = setting.tags
    done = await undone(setting.server.url, wanted=[Wanted(APP, "old-outer"), Wanted(APP, "old-signed")])
    assert done.whole
    after = pulled(setting.crane, setting.server.host, APP)
    assert {tag for tag in after if tag not in left} - {"old-outer", "old-signed"} <= {
        tag for tag in before if tag.startswith("sha256-")
    }
    assert after == {tag: before[tag] for tag in after}


async def test_a_tag_that_was_pushed_again_is_refused_unless_forced(setting: Setting) -> None:
    old = setting.push("old-1")
    setting.push("old-2", "kept")
    await prune_with_copies(setting.server.url, APP, "old-1")
    new = setting.push("old-1", seed="new")
    done = await undone(setting.server.url)
    assert results(done) == {"old-1": "Refused"}
    assert done.outcomes[0].detail == f"names {new} by now"
    assert setting.crane.digest(f"{setting.server.host}/{APP}:old-1") == new
    forced = await undone(setting.server.url, force=True)
    assert results(forced) == {"old-1": "Restored"}
    assert setting.crane.digest(f"{setting.server.host}/{APP}:old-1") == old


async def test_a_dry_run_tells_and_does_nothing(setting: Setting) -> None:
    setting.push("old-1")
    setting.push("kept")
    await prune_with_copies(setting.server.url, APP, "old-1")
    done = await undone(setting.server.url, dry_run=True)
    assert results(done) == {"old-1": "Restored"}
    assert "dry run" in done.message
    assert setting.tags == ["kept"]


async def test_referrers_come_back_after_their_subject(setting: Setting) -> None:
    subject = setting.push("old-1")
    referrer = setting.push("old-sbom", subject=subject)
    setting.push("kept")
    before = pulled(setting.crane, setting.server.host, APP)
    await prune_with_copies(setting.server.url, APP, "old-.*", untagged=Untagged.DELETE)
    assert setting.left(subject, referrer) == []
    done = await undone(setting.server.url, wanted=[Wanted(APP, digest=Digest(subject))])
    assert done.whole
    assert pulled(setting.crane, setting.server.host, APP) == before
