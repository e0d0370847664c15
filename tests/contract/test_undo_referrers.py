"""What a registry's referrers API tells of is copied before it goes, comes back after its subject, and else stays."""

import pytest
from aiohttp import web

from registry_cleanup.domain.deletion import Outcome
from registry_cleanup.domain.policy import Untagged
from tests.support.faulty import Forward, before
from tests.support.pruning import APP, Setting
from tests.support.referrers import offer_referrers
from tests.support.undo import COPIES, prune_with_copies, pulled, results, undone


@pytest.fixture
def setting(setting: Setting) -> Setting:
    """Let the registry tell of referrers."""
    offer_referrers(setting.proxy, setting.server.storage)
    return setting


async def test_referrers_without_a_tag_come_back_with_their_subject(setting: Setting) -> None:
    subject = setting.push("old-1")
    sbom = setting.push(seed="sbom", subject=subject)
    signature = setting.push(seed="signature of the sbom", subject=sbom)
    setting.push("kept")
    before_ = pulled(setting.crane, setting.server.host, APP)
    await prune_with_copies(setting.proxy.url, APP, "old-.*", untagged=Untagged.DELETE)
    assert setting.left(subject, sbom, signature) == []
    done = await undone(setting.server.url)
    assert results(done) == {"old-1": "Restored", sbom: "Restored", signature: "Restored"}
    assert setting.left(subject, sbom, signature) == [subject, sbom, signature]
    assert pulled(setting.crane, setting.server.host, APP) == before_


async def test_a_referrer_without_a_copy_stays_though_its_subject_is_gone(setting: Setting) -> None:
    subject = setting.push("old-1")
    sbom = setting.push(seed="sbom", subject=subject)
    setting.push("kept")
    written = 0

    async def full(_request: web.Request, forward: Forward) -> web.StreamResponse:
        nonlocal written
        written += 1
        return (await forward()).response() if written == 1 else web.Response(status=507)

    setting.proxy.inject(full, method="PUT", path=f"/v2/{COPIES}/manifests/.*")
    found = await prune_with_copies(setting.proxy.url, APP, "old-.*", untagged=Untagged.DELETE)
    assert found["old-1"] == (Outcome.PRUNED, None)
    assert found[sbom] == (Outcome.NO_COPY, "HTTP 507")
    assert setting.left(subject, sbom) == [sbom]


async def test_a_tag_that_is_pushed_while_its_manifest_goes_back_is_left_alone(setting: Setting) -> None:
    old = setting.push("old-1")
    setting.push("kept")
    await prune_with_copies(setting.server.url, APP, "old-1", untagged=Untagged.DELETE)
    new: list[str] = []
    push = before(lambda: new.append(setting.push("old-1", seed="new")))
    setting.proxy.inject(push, method="PUT", path=f"/v2/{APP}/manifests/{old}", times=1)
    done = await undone(setting.proxy.url)
    assert results(done) == {"old-1": "Refused"}
    assert setting.crane.digest(f"{setting.server.host}/{APP}:old-1") == new[0]
