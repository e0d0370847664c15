"""Signatures, attestations, SBOMs: they follow their subject, as far as nothing that stays needs them."""

from itertools import permutations

import pytest

from registry_cleanup.domain.closure import DeletionUnit
from registry_cleanup.domain.inventory import Format, Inventory, Manifest
from registry_cleanup.domain.plan import RepositoryPlan
from registry_cleanup.domain.policy import Policy, Untagged
from registry_cleanup.domain.reference import parse_digest, subject_key
from registry_cleanup.domain.verdict import KeepReason
from tests.support.builders import (
    ago,
    digest,
    image,
    in_use,
    index,
    inventory,
    planned,
    policy,
    pruned,
    referrer_tag,
    rule,
    told,
)

_OLD = "builds: OlderThan"
_RULE = rule(name="builds", days=30)
_POLICY = policy(_RULE, keep_tags=["keep.*"])
_DELETING = policy(_RULE, keep_tags=["keep.*"], untagged=Untagged.DELETE)
_DIGEST, _TAG = DeletionUnit.DIGEST, DeletionUnit.TAG
_SIG = referrer_tag("v1", ".sig")


def _plan(there: Inventory, unit: DeletionUnit = _DIGEST, what: Policy = _POLICY) -> dict[str, str]:
    return told(planned(what, there, unit).verdicts)


def _order(plan: RepositoryPlan) -> list[str]:
    return [tag for group in plan.groups for tag in group.tags]


@pytest.mark.parametrize("suffix", ["", ".sig", ".att", ".sbom"])
def test_a_referrer_by_its_tag_goes_with_its_subject_for_the_same_reason(suffix: str) -> None:
    tag = referrer_tag("v1", suffix)
    there = inventory({"v1": image("v1"), tag: image("s", 1)})
    assert _plan(there) == {"v1": _OLD, tag: _OLD}


def test_a_referrer_by_its_subject_goes_with_it_whatever_its_own_age() -> None:
    there = inventory({"v1": image("v1"), "sbom": image("s", 1, subject="v1")})
    assert _plan(there) == {"v1": _OLD, "sbom": _OLD}


def test_a_referrer_stays_with_its_subject_whatever_its_own_age() -> None:
    there = inventory({"v1": image("v1", 1), _SIG: image("s", 900), "sbom": image("b", 900, subject="v1")})
    assert _plan(there) == {"v1": "NotOldEnough", _SIG: "FollowsParent", "sbom": "FollowsParent"}


def test_a_referrer_goes_only_when_the_last_tag_of_its_subject_goes() -> None:
    same = image("v1")
    there = inventory({"v1": same, "keep": same, _SIG: image("s")})
    assert pruned(planned(_POLICY, there)) == set()
    assert _plan(there, _TAG, _DELETING) == {"v1": _OLD, "keep": "KeepTags", _SIG: "FollowsParent"}


def test_a_referrer_stays_where_only_the_tag_of_its_subject_goes() -> None:
    # The subject can still be pulled by its digest, and whoever does wants to verify it.
    there = inventory({"v1": image("v1"), _SIG: image("s")})
    assert _plan(there, _TAG) == {"v1": _OLD, _SIG: "FollowsParent"}
    assert _plan(there, _TAG, _DELETING) == {"v1": _OLD, _SIG: _OLD}


def test_a_referrer_goes_where_the_last_tag_takes_the_manifest_along() -> None:
    there = inventory({"v1": image("v1"), _SIG: image("s")}, named_only=True)
    assert _plan(there, _TAG) == {"v1": _OLD, _SIG: _OLD}


def test_a_subject_that_a_kept_tag_named_before_keeps_its_referrers() -> None:
    tags = {"v1": image("v1"), "keep": image("k"), "young": image("y", 1), _SIG: image("s")}
    for holder in ("keep", "young"):
        there = inventory(tags, history={holder: ["v1"]}, named_only=True)
        assert _plan(there, _TAG) == {"v1": _OLD, "keep": "KeepTags", "young": "NotOldEnough", _SIG: "FollowsParent"}
    there = inventory({**tags, "old": image("o")}, history={"old": ["v1"]}, named_only=True)
    plan = planned(_POLICY, there, _TAG)
    assert pruned(plan) == {"v1", "old", _SIG}
    assert pruned(plan.hold({"old": KeepReason.GRACE_PERIOD})) == {"v1"}


def test_referrers_of_referrers_go_after_them() -> None:
    there = inventory(
        {
            "v1": image("v1"),
            _SIG: image("s"),
            referrer_tag("s", ".att"): image("a"),
            "of-the-attestation": image("x", subject="a"),
        }
    )
    plan = planned(_POLICY, there)
    assert _order(plan) == ["v1", _SIG, referrer_tag("s", ".att"), "of-the-attestation"]
    assert [group.after for group in plan.groups] == [
        frozenset(),
        *(frozenset({subject_key(digest(word))}) for word in ("v1", "s", "a")),
    ]
    assert set(told(plan.verdicts).values()) == {_OLD}


def test_a_chain_of_referrers_breaks_where_one_is_kept() -> None:
    there = inventory({"v1": image("v1"), _SIG: image("s"), "keep": image("s"), referrer_tag("s", ".att"): image("a")})
    assert _plan(there) == {
        "v1": _OLD,
        "keep": "KeepTags",
        _SIG: "FollowsParent",
        referrer_tag("s", ".att"): "FollowsParent",
    }


@pytest.mark.parametrize("unit", DeletionUnit)
def test_a_referrer_of_a_platform_goes_with_the_platform_only(unit: DeletionUnit) -> None:
    of_platform = referrer_tag("amd64", ".sig")
    there = inventory({"v1": index("i", ["amd64"]), of_platform: image("s")}, image("amd64"))
    assert _plan(there, unit) == {"v1": _OLD, of_platform: "FollowsParent"}
    assert _plan(there, unit, _DELETING) == {"v1": _OLD, of_platform: _OLD}


def test_a_referrer_of_a_platform_that_another_index_lists_stays() -> None:
    of_platform = referrer_tag("amd64", ".sig")
    there = inventory(
        {"v1": index("i", ["amd64"]), "keep": index("j", ["amd64"]), of_platform: image("s")}, image("amd64")
    )
    assert _plan(there, _DIGEST, _DELETING)[of_platform] == "FollowsParent"


def test_an_attestation_that_an_index_lists_beside_its_platforms_goes_with_the_index() -> None:
    # BuildKit lists it as platform unknown/unknown; here somebody tagged it, too.
    there = inventory({"v1": index("i", ["amd64", "att"]), "att": image("att", subject="amd64")}, image("amd64"))
    assert _plan(there, _DIGEST, _DELETING) == {"v1": _OLD, "att": _OLD}
    kept = inventory({"keep": index("i", ["amd64", "att"]), "att": image("att", subject="amd64")}, image("amd64"))
    assert _plan(kept, _DIGEST, _DELETING) == {"keep": "KeepTags", "att": "FollowsParent"}


def test_an_index_of_the_fall_back_scheme_goes_before_the_referrers_that_it_lists() -> None:
    fall_back = referrer_tag("v1")
    there = inventory({"v1": image("v1"), fall_back: index("refs", ["sbom"]), "sbom": image("sbom", subject="v1")})
    plan = planned(_POLICY, there)
    assert _order(plan) == ["v1", fall_back, "sbom"]
    untagged = inventory({"v1": image("v1"), fall_back: index("refs", ["sbom"])}, image("sbom", subject="v1"))
    plan = planned(_DELETING, untagged)
    assert (_order(plan), plan.untagged) == (["v1", fall_back], (digest("sbom"),))


def test_an_index_that_waits_for_its_subject_keeps_what_it_lists_waiting() -> None:
    # `late` lists `early`, which could go sooner if only its own subject counted.
    tags = {
        "v1": image("v1"),
        "early": image("early", subject="v1"),
        "middle": image("middle", subject="v1"),
        "late": index("late", ["early"], subject="middle"),
    }
    for names in permutations(tags):
        plan = planned(_POLICY, inventory({name: tags[name] for name in names}))
        assert _order(plan) == ["v1", "middle", "late", "early"]


def test_a_referrer_waits_for_the_index_that_lists_its_subject() -> None:
    tags = {
        "v1": image("v1"),
        "middle": image("middle", subject="v1"),
        "late": index("late", ["x"], subject="middle"),
        "last": image("of x", subject="x"),
    }
    for names in permutations(tags):
        plan = planned(_DELETING, inventory({name: tags[name] for name in names}, image("x", subject="v1")))
        assert _order(plan) == ["v1", "middle", "late", "last"]


def test_a_referrer_that_a_kept_index_lists_stays() -> None:
    there = inventory({"v1": image("v1"), "keep": index("i", ["s"]), _SIG: image("s")})
    assert _plan(there) == {"v1": _OLD, "keep": "KeepTags", _SIG: "FollowsParent"}


def test_a_referrer_that_an_index_in_use_lists_stays_be_there_a_tag_on_it_or_not() -> None:
    there = inventory({"v1": image("v1"), _SIG: image("s")}, index("i", ["s"]))
    assert told(planned(_POLICY, there, using=in_use("i")).verdicts) == {"v1": _OLD, _SIG: "FollowsParent"}


def test_a_referrer_stays_whose_digest_nobody_resolved_where_only_digests_can_be_deleted() -> None:
    assert _plan(inventory({"v1": image("v1")}, unresolved=[_SIG])) == {"v1": _OLD, _SIG: "FollowsParent"}


def test_what_a_referrer_lists_stays_with_it() -> None:
    same = index("refs", ["sbom"])
    tags = {"v1": image("v1"), referrer_tag("v1"): same, "keep": same, "sbom": image("sbom", subject="v1")}
    assert _plan(inventory(tags)) == {
        "v1": _OLD,
        "keep": "KeepTags",
        referrer_tag("v1"): "FollowsParent",
        "sbom": "FollowsParent",
    }


def test_a_referrer_of_what_several_tags_list_goes_for_the_reasons_of_the_first_by_name() -> None:
    what = policy(rule("b", name="first", most_recent=0), rule(name="second", days=30), untagged=Untagged.DELETE)
    tags = {"b": index("j", ["amd64"]), "a": index("i", ["amd64"]), referrer_tag("amd64", ".sig"): image("s")}
    for names in permutations(tags):
        there = inventory({name: tags[name] for name in names}, image("amd64"))
        assert _plan(there, what=what)[referrer_tag("amd64", ".sig")] == "second: OlderThan"


def test_a_referrer_whose_digest_has_another_tag_stays_where_only_digests_can_be_deleted() -> None:
    same = image("s")
    other = referrer_tag("v2", ".sig")
    there = inventory({"v1": image("v1"), "v2": image("v2", 1), _SIG: same, other: same})
    assert _plan(there) == {"v1": _OLD, "v2": "NotOldEnough", _SIG: "FollowsParent", other: "FollowsParent"}
    assert _plan(there, _TAG, _DELETING) == {"v1": _OLD, "v2": "NotOldEnough", _SIG: _OLD, other: "FollowsParent"}


def test_one_referrer_of_two_subjects_goes_after_both() -> None:
    same = image("s")
    other = referrer_tag("v2", ".sig")
    there = inventory({"v1": image("v1"), "v2": image("v2"), _SIG: same, other: same})
    last = planned(_POLICY, there).groups[-1]
    assert last.tags == tuple(sorted((_SIG, other)))
    assert last.after == {subject_key(digest("v1")), subject_key(digest("v2"))}


def test_tags_that_name_each_other_as_subjects_stay() -> None:
    there = inventory({referrer_tag("x"): image("y"), referrer_tag("y"): image("x"), referrer_tag("z"): image("z")})
    for unit in DeletionUnit:
        assert pruned(planned(_DELETING, there, unit)) == set()


def test_an_orphan_stays() -> None:
    there = inventory({"v1": image("v1"), referrer_tag("gone", ".sig"): image("s")})
    assert _plan(there) == {"v1": _OLD, referrer_tag("gone", ".sig"): "OrphanReferrer"}


@pytest.mark.parametrize("keep", ["sha256-.*", "v0|sha256-.*[.]sig"])
def test_a_referrer_that_keep_tags_keeps_stays_alone(keep: str) -> None:
    there = inventory({"v1": image("v1"), _SIG: image("s")})
    assert _plan(there, what=policy(_RULE, keep_tags=[keep])) == {"v1": _OLD, _SIG: "KeepTags"}


def test_a_referrer_tag_on_its_own_subject_keeps_it() -> None:
    same = image("v1")
    there = inventory({"v1": same, _SIG: same})
    assert _plan(there) == {"v1": "SharedDigest", _SIG: "FollowsParent"}


def test_a_longer_digest_is_followed_by_what_the_tag_schema_keeps_of_it() -> None:
    long = Manifest(parse_digest("sha512:" + "a" * 128), Format.IMAGE, created=ago(100))
    tag = "sha512-" + "a" * 64
    assert _plan(inventory({tag: image("s"), "v1": long})) == {"v1": _OLD, tag: _OLD}


def test_many_referrers_are_put_in_order_quickly() -> None:
    tags = {f"v{number}": image(f"v{number}") for number in range(10_000)}
    tags |= {referrer_tag(tag, ".sig"): image(f"s {tag}") for tag in list(tags)}
    assert planned(_POLICY, inventory(tags)).planned == 20_000
