"""The published plan: since when each item is told, who approved it, and what its bytes are worth."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from registry_cleanup.domain.plan import RepositoryPlan
from registry_cleanup.domain.published import DamagedError, Entry, Published, decode, encode, nothing_published
from tests.support.builders import NOW, REPOSITORY, ago, digest, image, inventory, planned, policy, rule

_UID = "a-uid"
_HASH = "ab" * 32
_NOTHING = nothing_published(_UID)


def _plan(*words: str, repository: str = REPOSITORY) -> RepositoryPlan:
    return planned(policy(rule(days=30)), inventory({word: image(word) for word in words}, repository=repository))


def _renewed(before: Published, *plans: RepositoryPlan, when: datetime, unread: tuple[str, ...] = ()) -> Published:
    return before.renewed(plans, unread, _HASH, when)


def _since(published: Published, word: str, repository: str = REPOSITORY) -> datetime | None:
    return published.first(repository, word, digest(word))


def test_an_item_is_told_since_its_first_publication() -> None:
    first = _renewed(_NOTHING, _plan("a"), when=ago(3))
    second = _renewed(first, _plan("a", "b"), when=ago(1))
    assert (_since(second, "a"), _since(second, "b"), _since(second, "c")) == (ago(3), ago(1), None)
    assert (second.hash, second.generated_at) == (_HASH, ago(1))


def test_an_item_is_a_tag_on_a_digest_of_a_repository() -> None:
    published = _renewed(_NOTHING, _plan("a", "b"), when=ago(3))
    assert published.first(REPOSITORY, "a", digest("another build")) is None
    assert published.first(REPOSITORY, "b", digest("a")) is None
    assert published.first("team/web", "a", digest("a")) is None


def test_a_tag_that_was_moved_starts_anew() -> None:
    first = _renewed(_NOTHING, _plan("a"), when=ago(3))
    moved = planned(policy(rule(days=30)), inventory({"a": image("another build")}))
    assert _renewed(first, moved, when=ago(1)).first(REPOSITORY, "a", digest("another build")) == ago(1)


def test_what_is_not_planned_any_more_is_forgotten_and_starts_anew() -> None:
    published = _renewed(_NOTHING, _plan("a", "b"), when=ago(3))
    published = _renewed(published, _plan("b"), when=ago(2))
    assert _since(published, "a") is None
    published = _renewed(published, _plan("a", "b"), when=ago(1))
    assert (_since(published, "a"), _since(published, "b")) == (ago(1), ago(3))


def test_a_repository_in_which_nothing_goes_any_more_is_forgotten() -> None:
    published = _renewed(_NOTHING, _plan("a"), _plan("a", repository="team/web"), when=ago(3))
    published = _renewed(published, _plan("a"), when=ago(2))
    assert _since(published, "a", "team/web") is None
    assert _since(published, "a") == ago(3)


def test_of_a_repository_that_could_not_be_read_everything_is_remembered() -> None:
    published = _renewed(_NOTHING, _plan("a", repository="team/web"), when=ago(3))
    published = _renewed(published, _plan("b"), when=ago(2), unread=("team/web", "never seen"))
    assert _since(published, "a", "team/web") == ago(3)


def test_a_time_to_come_was_written_by_a_clock_that_was_wrong() -> None:
    published = _renewed(_NOTHING, _plan("a"), when=NOW + timedelta(days=9))
    assert _since(_renewed(published, _plan("a"), when=NOW), "a") == NOW


def test_what_was_pruned_starts_anew_should_it_come_back() -> None:
    item = ("a", digest("a"))
    published = _renewed(_NOTHING, _plan("a", "b"), when=ago(3)).settled(REPOSITORY, [item], [item])
    assert (_since(published, "a"), _since(published, "b")) == (None, ago(3))
    assert _since(published.settled("never seen", [("b", digest("b"))], []), "b") == ago(3)


def test_what_was_tried_and_is_still_there_keeps_its_time() -> None:
    item = ("a", digest("a"))
    published = _renewed(_NOTHING, _plan("a", "b"), when=ago(3)).settled(REPOSITORY, [], [item])
    assert (_since(published, "a"), _since(published, "b")) == (ago(3), ago(3))


# Approval


def _approved(published: Published, word: str, now: datetime) -> bool:
    return published.approved(REPOSITORY, word, digest(word), now)


@pytest.mark.parametrize(
    ("later", "approved"),
    [
        (timedelta(0), True),
        (timedelta(hours=24), True),
        (timedelta(hours=24, seconds=1), False),
        (timedelta(seconds=-1), False),
    ],
)
def test_an_approval_lasts_for_a_day(later: timedelta, *, approved: bool) -> None:
    published = _renewed(_NOTHING, _plan("a"), when=ago(1)).approve(NOW)
    assert _approved(published, "a", NOW + later) is approved


def test_an_approval_is_of_what_was_published_then_and_outlasts_a_new_plan() -> None:
    published = _renewed(_NOTHING, _plan("a"), when=ago(2)).approve(NOW)
    published = _renewed(published, _plan("a", "b"), when=NOW)
    assert _approved(published, "a", NOW)
    assert not _approved(published, "b", NOW)
    assert not _approved(published, "never planned", NOW)
    assert _since(published, "a") == ago(2)


def test_an_approval_outlasts_a_new_plan_of_the_same_second() -> None:
    published = _renewed(_renewed(_NOTHING, _plan("a"), when=NOW).approve(NOW), _plan("a"), when=NOW)
    assert _approved(published, "a", NOW)


def test_without_an_approval_nothing_is_approved() -> None:
    assert not _approved(_renewed(_NOTHING, _plan("a"), when=ago(1)), "a", NOW)
    # Not even at the time that stands for never.
    assert not _approved(_renewed(_NOTHING, _plan("a"), when=ago(1)), "a", datetime.fromtimestamp(0, UTC))


@pytest.mark.parametrize("gone", [True, False])
def test_an_approval_is_used_up_with_what_was_tried(*, gone: bool) -> None:
    item = ("a", digest("a"))
    published = _renewed(_NOTHING, _plan("a", "b"), when=ago(2)).approve(NOW)
    published = published.settled(REPOSITORY, [item] if gone else [], [item])
    published = _renewed(published, _plan("a", "b"), when=NOW)
    assert (_approved(published, "a", NOW), _approved(published, "b", NOW)) == (False, True)


# Bytes


def _published() -> Published:
    published = _renewed(_NOTHING, _plan("a", "b"), when=ago(3)).approve(ago(2))
    return _renewed(published, _plan("a", "b", "c"), _plan("x", repository="team/web"), when=ago(1))


@pytest.mark.parametrize("published", [_NOTHING, _published()])
def test_a_published_plan_comes_back_from_its_bytes(published: Published) -> None:
    assert decode(_UID, encode(published)) == published


def test_an_item_takes_sixteen_bytes() -> None:
    before = len(encode(_renewed(_NOTHING, _plan("a"), when=NOW)))
    assert len(encode(_renewed(_NOTHING, _plan("a", "b", "c"), when=NOW))) == before + 2 * 16


def test_the_same_plan_has_the_same_bytes_in_any_order() -> None:
    one, two = _plan("a", "b"), _plan("x", repository="team/web")
    assert encode(_renewed(_NOTHING, one, two, when=NOW)) == encode(_renewed(_NOTHING, two, one, when=NOW))


def test_what_is_remembered_has_the_same_bytes_in_any_order() -> None:
    entries = {3: Entry(30), 1: Entry(10, 11), 2: Entry(20)}
    turned = dict(reversed(entries.items()))
    one, other = (Published(_UID, _HASH, NOW, {7: each}) for each in (entries, turned))
    assert encode(one) == encode(other)


def test_a_plan_that_an_earlier_version_published_is_still_read() -> None:
    published = nothing_published(_UID).renewed([_plan("a")], (), _HASH, NOW)
    assert encode(published).hex() == (
        "52435031abababababababababababababababababababababababababababababababab00000000"
        "6a2fe94000000001f54a839ec7e214120000000172b1d7f23d4ea3b36a2fe94000000000"
        ""
    )


@pytest.mark.parametrize("length", [36, 63, 64, 200])
def test_a_policy_is_told_by_its_whole_uid_however_long_as_far_as_a_key_goes(length: int) -> None:
    one = nothing_published("u" * length).renewed([_plan("a")], (), _HASH, NOW)
    assert _since(one, "a") == NOW
    assert _since(replace(one, uid="u" * (min(length, 64) - 1) + "v"), "a") is None


def test_before_the_first_plan_nothing_is_remembered_under_a_hash_of_no_plan() -> None:
    assert nothing_published(_UID) == Published(_UID, "0" * 64, datetime(1970, 1, 1, tzinfo=UTC))
    assert decode(_UID, encode(nothing_published(_UID))) == nothing_published(_UID)


def test_another_policy_finds_nothing_in_it() -> None:
    assert _since(decode("another-uid", encode(_published())), "a") is None


def test_bytes_that_break_off_or_go_on_are_damaged() -> None:
    whole = encode(_published())
    for length in range(len(whole)):
        with pytest.raises(DamagedError):
            decode(_UID, whole[:length])
    with pytest.raises(DamagedError):
        decode(_UID, whole + b"\0")


@pytest.mark.parametrize(
    "content", [b"", b"RCP1", b"RCP2" + encode(_NOTHING)[4:], b"\xff" * 500, b"RCP1" + b"\xff" * 500]
)
def test_other_bytes_are_damaged(content: bytes) -> None:
    with pytest.raises(DamagedError):
        decode(_UID, content)


def test_damage_is_told_in_words() -> None:
    whole = encode(_published())
    for content, words in (
        (whole[:-16], "breaks off"),
        (whole + b"\0", "goes on after its end"),
        (b"RCP2" + whole[4:], "not a published plan of this version"),
        (whole[:10], "requires a buffer"),
    ):
        with pytest.raises(DamagedError, match=words):
            decode(_UID, content)


def test_a_bit_that_flips_anywhere_raises_nothing_else() -> None:
    whole = encode(_published())
    for place in range(len(whole)):
        changed = bytearray(whole)
        changed[place] ^= 0x80
        try:
            decode(_UID, bytes(changed))
        except DamagedError:
            continue
