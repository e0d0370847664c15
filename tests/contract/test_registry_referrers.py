"""What the referrers API names goes after its subject: without a tag, and with nothing else that holds it.

Distribution has no such API, so a stand-in before it answers; its own tests come first.
"""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from registry_cleanup.domain.deletion import Outcome
from registry_cleanup.domain.in_use import InUse
from registry_cleanup.domain.policy import Untagged
from registry_cleanup.domain.reference import parse_digest
from registry_cleanup.registry.errors import DeniedError, MalformedAnswerError
from tests.support.clients import applied, kinds, opened, planned, prunes
from tests.support.crane import Crane
from tests.support.faulty import Fault, answers, faulty_registry
from tests.support.images import OCI_INDEX, OCI_MANIFEST, push_image
from tests.support.pruning import APP, Setting
from tests.support.referrers import offer_referrers
from tests.support.registries import RegistryServer

DELETE = Untagged.DELETE
PRUNED, FAILED = (Outcome.PRUNED, None), (Outcome.FAILED, "HTTP 500")


@pytest.fixture
def setting(registry: RegistryServer, tmp_path: Path) -> Iterator[Setting]:
    """Give a registry of each version, with the API."""
    with faulty_registry(registry.url) as proxy:
        offer_referrers(proxy, registry.storage)
        yield Setting(registry, proxy, Crane(tmp_path / "crane"))


@pytest.fixture
def without(registry: RegistryServer, tmp_path: Path) -> Iterator[Setting]:
    """Give a registry of each version as it is."""
    with faulty_registry(registry.url) as proxy:
        yield Setting(registry, proxy, Crane(tmp_path / "crane"))


# The stand-in


def _ask(setting: Setting, digest: str, query: str = "") -> httpx.Response:
    url = f"{setting.proxy.url}/v2/{APP}/referrers/{digest}{query}"
    return httpx.get(url, trust_env=False).raise_for_status()


def test_the_stand_in_describes_what_refers_to_a_manifest_and_an_empty_index_where_nothing_does(
    setting: Setting,
) -> None:
    subject = setting.push("v1")
    image = push_image(
        setting.server.url, APP, subject=subject, artifact_type="application/x.sbom", annotations={"a": "b"}
    )
    index = setting.push_index("listed", children=[subject], subject=subject)
    answer = _ask(setting, subject)
    assert answer.headers["Content-Type"] == OCI_INDEX
    found = {entry["digest"]: entry for entry in answer.json()["manifests"]}
    assert found.keys() == {image, index}
    assert found[image]["mediaType"] == OCI_MANIFEST
    assert (found[image]["artifactType"], found[image]["annotations"]) == ("application/x.sbom", {"a": "b"})
    assert found[image]["size"] == len(setting.crane.run("manifest", f"{setting.server.host}/{APP}@{image}"))
    assert _ask(setting, f"sha256:{'0' * 64}").json()["manifests"] == []
    setting.delete(image)
    assert [entry["digest"] for entry in _ask(setting, subject).json()["manifests"]] == [index]


def test_the_stand_in_pages(setting: Setting) -> None:
    setting.proxy.heal()
    offer_referrers(setting.proxy, setting.server.storage, page=2)
    subject = setting.push("v1")
    expected = sorted(setting.push(seed=f"referrer {number}", subject=subject) for number in range(3))
    first = _ask(setting, subject)
    assert first.links["next"]["url"] == f"/v2/{APP}/referrers/{subject}?from=2"
    last = _ask(setting, subject, "?from=2")
    assert "Link" not in last.headers
    assert [entry["digest"] for page in (first, last) for entry in page.json()["manifests"]] == expected


# What refers to a manifest that goes


async def test_referrers_without_a_tag_go_after_their_subject_and_theirs_after_them(setting: Setting) -> None:
    subject = setting.push("old-1")
    sbom = setting.push(seed="sbom", subject=subject)
    signature = setting.push(seed="signature of the sbom", subject=sbom)
    found = await setting.prune("old-.*", untagged=DELETE)
    own = {} if setting.by_digest else {subject: PRUNED}
    assert found == {"old-1": PRUNED, **own, sbom: PRUNED, signature: PRUNED}
    assert setting.deletions == [*([] if setting.by_digest else ["old-1"]), subject, sbom, signature]
    assert setting.left(subject, sbom, signature) == []


async def test_what_an_index_that_refers_to_a_manifest_lists_goes_with_it(setting: Setting) -> None:
    subject, part = setting.push("old-1"), setting.push(seed="part")
    shared = setting.push("kept", seed="shared")
    inner = setting.push_index(children=[part])
    referrer = setting.push_index(children=[inner, shared], subject=subject)
    found = await setting.prune("old-.*", untagged=DELETE)
    assert [found.get(each) for each in (referrer, inner, part, shared)] == [PRUNED, PRUNED, PRUNED, None]
    assert setting.deletions[-3:] == [referrer, inner, part]
    assert setting.left(part, shared) == [shared]


async def test_referrers_of_the_children_of_an_index_go_after_them(setting: Setting) -> None:
    child = setting.push(seed="child")
    referrer = setting.push(seed="signature", subject=child)
    setting.push_index("old-1", children=[child])
    found = await setting.prune("old-.*", untagged=DELETE)
    assert (found[child], found[referrer]) == (PRUNED, PRUNED)
    assert setting.deletions[-2:] == [child, referrer]


async def test_referrers_that_come_in_pages_all_go(setting: Setting) -> None:
    setting.proxy.heal()
    offer_referrers(setting.proxy, setting.server.storage, page=2)
    subject = setting.push("old-1")
    referrers = [setting.push(seed=f"referrer {number}", subject=subject) for number in range(5)]
    found = await setting.prune("old-.*", untagged=DELETE)
    assert [found[each] for each in referrers] == [PRUNED] * 5


async def test_where_what_is_untagged_stays_nobody_asks_for_referrers(setting: Setting) -> None:
    referrer = setting.push(seed="signature", subject=setting.push("old-1"))
    assert await setting.prune("old-.*") == {"old-1": PRUNED}
    assert not any("referrers" in kind for kind in kinds(setting.proxy.requests))
    assert setting.exists(referrer)


async def test_a_registry_without_the_api_is_asked_once(without: Setting) -> None:
    for number in range(3):
        without.push(f"old-{number}")
    found = await without.prune("old-.*", untagged=DELETE)
    assert set(found.values()) == {PRUNED}
    assert kinds(without.proxy.requests)["GET referrers"] == 1


# What holds a referrer


async def test_a_referrer_with_a_tag_stays_and_is_nobodys_business(setting: Setting) -> None:
    subject = setting.push("old-1")
    referrer = setting.push("my-sbom", subject=subject)
    found = await setting.prune("old-.*", untagged=DELETE)
    assert referrer not in found
    assert (setting.tags, setting.left(subject, referrer)) == (["my-sbom"], [referrer])


async def test_a_referrer_that_a_kept_index_lists_stays(setting: Setting) -> None:
    subject = setting.push("old-1")
    referrer = setting.push(seed="sbom", subject=subject)
    setting.push_index("kept", children=[referrer])
    found = await setting.prune("old-.*", untagged=DELETE)
    assert (found["old-1"], referrer in found) == (PRUNED, False)
    assert setting.left(subject, referrer) == [referrer]


@pytest.mark.parametrize("listed", [False, True], ids=["itself", "what-it-lists"])
async def test_a_referrer_in_use_stays(setting: Setting, listed: bool) -> None:
    subject = setting.push("old-1")
    if listed:
        used = setting.push(seed="part")
        referrer = setting.push_index(children=[used], subject=subject)
    else:
        used = referrer = setting.push(seed="sbom", subject=subject)
    in_use = InUse(digests=frozenset({parse_digest(used)}))
    await setting.prune("old-.*", untagged=DELETE, in_use=in_use)
    assert (setting.tags, setting.left(referrer, used)) == ([], [referrer, used])


async def test_a_pinned_referrer_stays(setting: Setting) -> None:
    subject = setting.push("old-1")
    pin = {"registrycleanup.dev/keep": "true"}
    referrer = push_image(setting.server.url, APP, annotations=pin, subject=subject)
    found = await setting.prune("old-.*", untagged=DELETE)
    assert (found["old-1"], referrer in found) == (PRUNED, False)
    assert setting.exists(referrer)


async def test_referrers_stay_where_their_subjects_deletion_fails(setting: Setting) -> None:
    subject = setting.push("old-1")
    referrer = setting.push(seed="sbom", subject=subject)
    setting.proxy.inject(answers(500), method="DELETE", path=f".*/manifests/{subject}")
    found = await setting.prune("old-.*", untagged=DELETE)
    assert found == ({"old-1": FAILED} if setting.by_digest else {"old-1": PRUNED, subject: FAILED})
    assert setting.left(subject, referrer) == [subject, referrer]


# Answers that are none


async def test_what_does_not_refer_to_the_subject_stays_whatever_the_registry_says(without: Setting) -> None:
    without.push("old-1")
    other = without.push(seed="other")
    without.proxy.inject(_names(other, f"sha256:{'0' * 64}"), path=".*/referrers/.*")
    found = await without.prune("old-.*", untagged=DELETE)
    assert (found["old-1"], other in found) == (PRUNED, False)
    assert without.exists(other)


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (answers(403), DeniedError),
        (answers(200, "{}"), MalformedAnswerError),
        (answers(200, '{"manifests":[{"digest":"../x"}]}'), MalformedAnswerError),
    ],
)
async def test_where_referrers_cannot_be_read_their_subject_stays(
    without: Setting, fault: Fault, error: type[Exception]
) -> None:
    subject = without.push("old-1")
    async with opened(without.proxy.url) as registry:
        plan, deletion = await planned(registry, APP, prunes("old-.*", untagged=DELETE))
        without.proxy.inject(fault, path=".*/referrers/.*")
        with pytest.raises(error):
            await applied(registry, plan, deletion)
    assert without.exists(subject)


def _names(*digests: str) -> Fault:
    entries = ",".join(f'{{"mediaType":"{OCI_MANIFEST}","digest":"{digest}","size":1}}' for digest in digests)
    return answers(200, f'{{"manifests":[{entries}]}}', {"Content-Type": OCI_INDEX})
