"""The administrator's bounds: what is refused, with field and bound, and what holds whatever a policy says."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from zoneinfo import ZoneInfo

import pytest

from registry_cleanup.domain.cron import Schedule
from registry_cleanup.domain.guards import guard
from registry_cleanup.domain.plan import RepositoryPlan
from registry_cleanup.domain.policy import Limits, OnExceeded, Policy, RepositoryGlob, TagPattern
from registry_cleanup.domain.published import Published, nothing_published
from registry_cleanup.domain.report import FullReport, read_report
from registry_cleanup.domain.run import RunOrder, Trigger
from registry_cleanup.domain.tally import Tally
from registry_cleanup.domain.tenancy import UNBOUNDED, Asked, Bounds, HostGlob
from registry_cleanup.domain.trust import Endpoint, Host
from registry_cleanup.domain.verdict import KeepReason
from tests.support.builders import (
    NOW,
    REPOSITORY,
    ago,
    image,
    inventory,
    planned,
    policy,
    pruned,
    referrer_tag,
    rule,
    told,
)

_RULE = rule(days=30)
_UTC = ZoneInfo("Etc/UTC")


def _asked(
    registry: str | None = "https://registry.example.com",
    *,
    token_url: str | None = None,
    insecure: bool = False,
    schedule: str | None = None,
    collects: str | None = None,
) -> Asked:
    address, token = (None if url is None else Endpoint.of(url) for url in (registry, token_url))
    times = (None if each is None else Schedule(each, _UTC) for each in (schedule, collects))
    return Asked(address, token, insecure, *times)


def _only(*globs: str, token_hosts: tuple[Host, ...] = ()) -> Bounds:
    return Bounds(tuple(HostGlob(glob) for glob in globs), token_hosts)


# Which registries


@pytest.mark.parametrize(
    ("glob", "url", "covers"),
    [
        ("*", "https://anything:1", True),
        ("registry.example.com", "https://registry.example.com", True),
        ("registry.example.com", "https://registry.example.com:5000", True),
        ("registry.example.com:443", "https://registry.example.com", True),
        ("registry.example.com:5000", "https://registry.example.com", False),
        ("registry.example.com", "https://registry.example.com.evil.net", False),
        ("registry.example.com", "https://evil-registry.example.com", False),
        ("registry.example.com", "https://registryxexample.com", False),
        ("*.example.com", "https://a.b.example.com", True),
        ("*.example.com", "https://example.com", False),
        ("*.example.com:*", "https://a.example.com:5000", True),
        ("Registry.Example.com", "https://registry.example.com", True),
        ("registry.example.com", "https://registry.example.com.", True),
        ("[::1]:5000", "https://[::1]:5000", True),
        ("[::1]:5000", "https://[::2]:5000", False),
        ("127.0.0.1", "https://0x7f000001", False),
    ],
)
def test_a_glob_covers_hosts_and_an_address_only_as_it_is_written(glob: str, url: str, *, covers: bool) -> None:
    assert HostGlob(glob).covers(Endpoint.of(url)) is covers


@pytest.mark.parametrize("text", ["", "https://a", "a/b", "a:0", "a:65536", "a b", "a:port", "user@a"])
def test_what_is_no_host_is_refused_with_what_to_write(text: str) -> None:
    with pytest.raises(ValueError, match=r"write for example 'registry\.example\.com'"):
        HostGlob(text)


def test_without_bounds_everything_is_allowed_but_link_local_addresses() -> None:
    assert UNBOUNDED.refusals(_asked("http://any:1", token_url="http://b", insecure=True, schedule="* * * * *")) == ()
    ((path, message),) = UNBOUNDED.refusals(_asked("https://169.254.169.254"))
    assert path == "spec.registry.url"
    assert "link-local" in message


def test_a_registry_that_is_not_allowed_is_refused_with_those_that_are() -> None:
    ((path, message),) = _only("a.example.com", "*.example.org").refusals(_asked())
    assert path == "spec.registry.url"
    assert message == (
        "names registry.example.com:443, which is not allowed by the operator's setting "
        "REGISTRY_CLEANUP_ALLOWED_REGISTRIES (a.example.com, *.example.org); name an allowed one, or ask for this one"
    )


def test_of_many_allowed_registries_a_few_are_told() -> None:
    ((_, message),) = _only(*(f"r{number}" for number in range(200))).refusals(_asked())
    assert "(r0, r1, r2, r3, r4 and 195 more)" in message


def test_a_registry_that_is_left_to_the_cluster_is_asked_for_at_the_connection() -> None:
    bounds = _only("a.example.com")
    assert bounds.refusals(_asked(None)) == ()
    assert bounds.registry_refusal(Endpoint.of("https://image-registry.openshift-image-registry.svc:5000")) is not None
    assert bounds.registry_refusal(Endpoint.of("https://a.example.com")) is None


@pytest.mark.parametrize(
    ("url", "allowed"),
    [
        ("https://registry.example.com:8443/token", True),
        ("https://tokens.example.com/token", True),
        ("https://allowed.example.net/token", True),
        ("https://other.example.com/token", False),
    ],
)
def test_a_token_service_is_the_registrys_own_host_a_trusted_or_an_allowed_one(url: str, *, allowed: bool) -> None:
    bounds = _only("registry.example.com:443", "allowed.example.net", token_hosts=(Host("tokens.example.com"),))
    refusals = bounds.refusals(_asked(token_url=url))
    assert [path for path, _ in refusals] == ([] if allowed else ["spec.registry.tokenURL"])


# Insecure, schedules


def test_where_insecure_is_not_allowed_it_is_refused() -> None:
    bounds = Bounds(allow_insecure=False)
    ((path, message),) = bounds.refusals(_asked(insecure=True))
    assert path == "spec.registry.insecure"
    assert "REGISTRY_CLEANUP_ALLOW_INSECURE (false)" in message
    assert bounds.refusals(_asked()) == ()


@pytest.mark.parametrize(
    ("schedule", "gap"),
    [
        ("*/5 * * * *", timedelta(minutes=5)),
        ("0,50 * * * *", timedelta(minutes=10)),
        ("@hourly", timedelta(hours=1)),
        ("0 1,23 * * *", timedelta(hours=2)),
        ("@daily", timedelta(days=1)),
        ("0 0,23 * * 1", timedelta(hours=23)),
        ("@weekly", timedelta(days=7)),
        ("0 0 1,15 * *", timedelta(days=14)),
        ("59 23 28 2 *", timedelta(days=365)),
        ("0 3 29 2 *", timedelta(days=1461)),
        ("0 0 1 * 1", timedelta(days=1)),
    ],
)
def test_the_smallest_gap_of_a_schedule_is_found_wherever_it_is(schedule: str, gap: timedelta) -> None:
    assert Schedule(schedule, _UTC).smallest_gap == gap
    # Daylight saving makes one day of the year shorter, and no schedule too frequent.
    assert Schedule(schedule, ZoneInfo("Europe/Berlin")).smallest_gap == gap


def test_a_schedule_that_runs_too_often_anywhere_is_refused() -> None:
    bounds = Bounds(smallest_interval=timedelta(hours=1))
    ((path, message),) = bounds.refusals(_asked(schedule="0,50 3 * * *"))
    assert path == "spec.schedule"
    assert message == (
        "has two times only 50m apart, and the operator's setting REGISTRY_CLEANUP_SMALLEST_INTERVAL allows no less "
        "than 1h; run less often"
    )
    assert bounds.refusals(_asked(schedule="@hourly")) == ()
    assert bounds.refusals(_asked()) == ()


def test_collections_of_garbage_that_come_too_often_are_refused() -> None:
    """Each rolls a registry out twice, or starts the image pruner of a whole cluster."""
    bounds = Bounds(smallest_interval=timedelta(hours=1))
    ((path, message),) = bounds.refusals(_asked(schedule="@daily", collects="* * * * *"))
    assert path == "spec.garbageCollection.schedule"
    assert "only 1m apart" in message
    assert bounds.refusals(_asked(collects="@hourly")) == ()


def test_all_that_is_not_allowed_is_told_at_once() -> None:
    bounds = replace(_only("a"), allow_insecure=False, smallest_interval=timedelta(days=1))
    refusals = bounds.refusals(_asked(token_url="http://b", insecure=True, schedule="@hourly"))
    assert [path for path, _ in refusals] == [
        "spec.registry.url",
        "spec.registry.tokenURL",
        "spec.registry.insecure",
        "spec.schedule",
    ]


# What is protected


def _bounded(*, repositories: tuple[str, ...] = (), tags: tuple[str, ...] = (), **changes: object) -> Policy:
    bounds = Bounds(
        protected_repositories=tuple(map(RepositoryGlob, repositories)), protected_tags=tuple(map(TagPattern, tags))
    )
    return replace(bounds.applied(policy(_RULE)), **changes)  # type: ignore[arg-type]  # fields of any type


def test_what_the_administrator_protects_is_kept_as_keep_tags_whatever_the_policy_says() -> None:
    there = inventory({tag: image(tag) for tag in ("v1", "build-1")})
    assert told(planned(_bounded(tags=("v[0-9]+",)), there).verdicts)["v1"] == "KeepTags"
    assert pruned(planned(_bounded(tags=("v[0-9]+",)), there)) == {"build-1"}
    assert pruned(planned(_bounded(repositories=("team/*",)), there)) == set()
    assert pruned(planned(_bounded(repositories=("other/*",), tags=("v",)), there)) == {"v1", "build-1"}


def test_a_protected_tag_keeps_what_hangs_together_with_it() -> None:
    there = inventory({"v1": image("one"), "same": "one", "build-1": image("two")})
    assert told(planned(_bounded(tags=("v1",)), there).verdicts)["same"] == "SharedDigest"


def test_a_referrer_of_a_protected_tag_stays_with_it() -> None:
    signature = referrer_tag("one", ".sig")
    there = inventory({"v1": image("one"), signature: image("signature")})
    assert pruned(planned(_bounded(tags=("v1",)), there)) == set()


@pytest.mark.parametrize(
    ("what", "setting"),
    [
        (_bounded(tags=("v1",)), "REGISTRY_CLEANUP_PROTECTED_TAGS"),
        (_bounded(repositories=(REPOSITORY,)), "REGISTRY_CLEANUP_PROTECTED_REPOSITORIES"),
        (policy(_RULE, keep_tags=["v1"]), None),
    ],
)
def test_the_report_says_which_setting_protects(what: Policy, setting: str | None) -> None:
    report = FullReport()
    report.planned(planned(what, inventory({"v1": image("one")})))
    content, _ = report.compressed({})
    (line,) = [line for line in read_report(content) if line["type"] == "tag"]
    assert (line["reason"], line.get("setting")) == ("KeepTags", setting)


def test_protected_patterns_that_match_nothing_are_not_told_as_the_policys_own() -> None:
    what = _bounded(tags=("nothing",), repositories=("nowhere",))
    tally = Tally(what, RunOrder("run", Trigger.REQUEST, True, NOW))
    tally.take(planned(what, inventory({"v1": image("one")})))
    tally.summarize(NOW)
    assert "mistyped" not in tally.finished(NOW).message


# The ceiling


def _plan(number: int) -> RepositoryPlan:
    old = {f"v{each}": image(f"v{each}", 100 + each) for each in range(number)}
    return planned(policy(_RULE), inventory({**old, **{f"y{each}": image(f"y{each}", 1) for each in range(40)}}))


def _limited(ceiling: int | None, **changes: object) -> Policy:
    bounded = Bounds(max_deletions=ceiling).applied(policy(_RULE, limits=Limits(max_deletions=8)))
    return replace(bounded, **changes)  # type: ignore[arg-type]  # fields of any type


def _published(plan: RepositoryPlan) -> Published:
    return nothing_published("a-uid").renewed([plan], (), "0" * 64, ago(days=2))


def test_the_lower_one_of_both_limits_holds_and_the_words_say_whose_it_is() -> None:
    plan = _plan(9)
    before = _published(plan)
    (own,) = guard(_limited(100), [plan], before, NOW, plan_only=False).exceeded
    assert own == "9 tags would go, more than limits.maxDeletions (8)"
    (capped,) = guard(_limited(5), [plan], before, NOW, plan_only=False).exceeded
    assert capped == "9 tags would go, more than the operator's setting REGISTRY_CLEANUP_MAX_DELETIONS (5)"


def test_a_plan_is_cut_to_the_administrators_limit() -> None:
    plan = _plan(9)
    what = _limited(5)
    what = replace(what, limits=replace(what.limits, on_exceeded=OnExceeded.TRUNCATE))
    guarded = guard(what, [plan], _published(plan), NOW, plan_only=False)
    assert sum(each.planned for each in guarded.plans) == 5
    assert guarded.held == {KeepReason.LIMIT_TRUNCATED: 4}


@pytest.mark.parametrize("approval_required", [False, True])
def test_an_approval_goes_past_the_policys_limit_and_not_past_the_administrators(*, approval_required: bool) -> None:
    plan = _plan(9)
    approved = _published(plan).approve(NOW)
    guarded = guard(_limited(5, approval_required=approval_required), [plan], approved, NOW, plan_only=False)
    (left,) = guarded.plans
    assert sorted(pruned(left)) == ["v4", "v5", "v6", "v7", "v8"]  # the oldest
    assert guarded.held == {KeepReason.LIMIT_TRUNCATED: 4}
    whole = guard(_limited(9, approval_required=approval_required), [plan], approved, NOW, plan_only=False)
    assert sum(each.planned for each in whole.plans) == 9


def test_what_is_approved_beside_what_is_new_is_cut_too() -> None:
    old = _plan(7)
    approved = _published(old).approve(NOW)
    both = _plan(9)
    before = approved.renewed([both], (), "0" * 64, ago(days=2))
    guarded = guard(_limited(5), [both], before, NOW, plan_only=False)
    assert sum(each.planned for each in guarded.plans) == 5
